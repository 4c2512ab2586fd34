//! The bounded channel, as far as the core uses it: `try_send`, `try_recv` and `recv_timeout`.

use super::super::{Arc, AtomicUsize, Mutex, Ordering};
use super::{stale, weak};
use std::collections::VecDeque;
use std::sync::Mutex as Hidden;

pub use crossbeam_channel::{RecvTimeoutError, TryRecvError, TrySendError};

#[cfg(candlewick_shuttle)]
use super::super::AtomicUsize as Plain;
#[cfg(candlewick_loom)]
use loom::sync::atomic::AtomicUsize as Plain; // for the tokens: only read-modify-writes

/// What the queue looked like after some step.
#[derive(Clone, Copy, Default)]
struct Look {
    full: bool,
    empty: bool,
}

struct State<T> {
    queue: VecDeque<(T, usize)>,
    free: Vec<usize>,
    past: Vec<Look>,
    capacity: usize,
    senders: usize,
    receiver: bool,
}

enum Chan<T> {
    Strong(Mutex<State<T>>),
    /// `ops` is touched Relaxed by every operation: it makes them dependent in loom's eyes
    /// without ordering anything. `state` is invisible to loom and never held across one of its
    /// operations. `past` is what the queue looked like after each step: an operation may be
    /// answered from a stale look, as by a plain load. One token for each message in flight
    /// carries its release to acquire edge; they are made up front, because touching an atomic
    /// that another thread made needs an edge already.
    Weak {
        ops: AtomicUsize,
        tokens: Vec<Plain>,
        state: Hidden<State<T>>,
    },
}

/// The sending side.
pub struct Sender<T>(Arc<Chan<T>>);
/// The receiving side.
pub struct Receiver<T>(Arc<Chan<T>>);

/// A channel with room for `capacity` messages.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "rendezvous channels are not modelled");
    let tokens = capacity + 5; // one for each thread that may be about to send
    let state = State {
        queue: VecDeque::new(),
        free: (0..tokens).collect(),
        past: vec![Look {
            full: false,
            empty: true,
        }],
        capacity,
        senders: 1,
        receiver: true,
    };
    let chan = Arc::new(match weak() {
        true => Chan::Weak {
            ops: AtomicUsize::new(0),
            tokens: (0..tokens).map(|_| Plain::new(0)).collect(),
            state: Hidden::new(state),
        },
        false => Chan::Strong(Mutex::new(state)),
    });
    (Sender(chan.clone()), Receiver(chan))
}

impl<T> State<T> {
    fn send(&mut self, message: T, token: usize) -> Result<(), TrySendError<T>> {
        if !self.receiver {
            return Err(TrySendError::Disconnected(message));
        }
        if self.queue.len() == self.capacity {
            return Err(TrySendError::Full(message));
        }
        self.queue.push_back((message, token));
        Ok(())
    }

    fn receive(&mut self) -> Result<(T, usize), TryRecvError> {
        match self.queue.pop_front() {
            Some(message) => Ok(message),
            None if self.senders == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }
}

impl<T> Chan<T> {
    /// One linearizable step.
    fn step<R>(&self, f: impl FnOnce(&mut State<T>) -> R) -> R {
        match self {
            Chan::Strong(state) => f(&mut state.lock()),
            Chan::Weak { ops, state, .. } => {
                // ORDERING: Relaxed; it must not synchronise anything.
                ops.fetch_add(1, Ordering::Relaxed);
                let mut state = state.lock().unwrap();
                let result = f(&mut state);
                let look = Look {
                    full: state.receiver && state.queue.len() == state.capacity,
                    empty: state.senders > 0 && state.queue.is_empty(),
                };
                state.past.push(look);
                result
            }
        }
    }

    /// The queue at some moment not before what this thread has seen.
    fn glance(&self) -> Look {
        match self {
            Chan::Weak { ops, state, .. } if stale() => {
                // ORDERING: Relaxed; a stale look is the point.
                let when = ops.load(Ordering::Relaxed);
                state.lock().unwrap().past[when]
            }
            _ => Look::default(),
        }
    }
}

impl<T> Sender<T> {
    /// Sends, if there is room.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let Chan::Weak { tokens, state, .. } = &*self.0 else {
            return self.0.step(|state| state.send(message, 0));
        };
        if self.0.glance().full {
            return Err(TrySendError::Full(message));
        }
        let token = state.lock().unwrap().free.pop().expect("a token");
        // ORDERING: Release, with the Acquire of `try_recv`: assumption A1.
        tokens[token].fetch_add(1, Ordering::Release);
        self.0.step(|state| {
            let sent = state.send(message, token);
            if sent.is_err() {
                state.free.push(token);
            }
            sent
        })
    }
}

impl<T> Receiver<T> {
    /// Receives, if there is a message: time is up at once, as it may be.
    pub fn recv_timeout(&self, _limit: std::time::Duration) -> Result<T, RecvTimeoutError> {
        self.try_recv().map_err(|error| match error {
            TryRecvError::Empty => RecvTimeoutError::Timeout,
            TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }

    /// Receives, if there is a message.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        if self.0.glance().empty {
            return Err(TryRecvError::Empty);
        }
        let (message, token) = self.0.step(State::receive)?;
        if let Chan::Weak { tokens, state, .. } = &*self.0 {
            // a read-modify-write: it always meets the sender's, never the initial value
            // ORDERING: Acquire, with the Release of `try_send`.
            tokens[token].fetch_add(1, Ordering::Acquire);
            state.lock().unwrap().free.push(token);
        }
        Ok(message)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.step(|state| state.senders += 1);
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.step(|state| state.senders -= 1);
    }
}

impl<T> Drop for Receiver<T> {
    /// As in crossbeam-channel 0.5, what is queued stays until the last sender is gone.
    fn drop(&mut self) {
        self.0.step(|state| state.receiver = false);
    }
}
