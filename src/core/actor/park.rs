//! Putting a thread to sleep until somebody wakes it.
//!
//! Not `std::thread::park`: loom mixes its tokens up with condition variables
//! (tokio-rs/loom#422), and so may other code on the user's thread.

use crate::core::sync::{Condvar, Deadline, Mutex, WakeArc};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

/// One thread's bed. A wake that comes first is kept.
#[derive(Debug)]
pub struct Parker {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug)]
struct State {
    woken: bool,
    asleep: bool,
}

impl Parker {
    /// A parker that nobody has woken yet.
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                woken: false,
                asleep: false,
            }),
            wake: Condvar::new(),
        }
    }

    /// Sleeps until woken; returns at once if that has happened since the last time.
    pub fn park(&self) {
        let mut state = self.state.lock();
        while !state.woken {
            state.asleep = true;
            state = self.wake.wait(state);
        }
        *state = State {
            woken: false,
            asleep: false,
        };
    }

    /// As `park`, but not past `deadline`; `false` if that was it.
    pub fn park_until(&self, deadline: &Deadline) -> bool {
        let mut state = self.state.lock();
        while !state.woken {
            let Some(left) = deadline.left() else {
                state.asleep = false;
                return false;
            };
            state.asleep = true;
            state = self.wake.wait_timeout(&self.state, state, left);
        }
        *state = State {
            woken: false,
            asleep: false,
        };
        true
    }

    /// Wakes the thread, now or when it goes to sleep.
    pub fn unpark(&self) {
        let mut state = self.state.lock();
        state.woken = true;
        let asleep = state.asleep;
        drop(state);
        if asleep {
            self.wake.notify_one(); // a system call: only for a sleeper
        }
    }
}

impl Default for Parker {
    fn default() -> Self {
        Self::new()
    }
}

impl Wake for Parker {
    fn wake(self: WakeArc<Self>) {
        self.unpark();
    }
    fn wake_by_ref(self: &WakeArc<Self>) {
        self.unpark();
    }
}

/// Runs `future` on this thread, sleeping while it is pending, at most until `deadline`.
pub fn block_on<F: Future>(future: F, deadline: Option<&Deadline>) -> Option<F::Output> {
    let mut future = pin!(future);
    let parker = WakeArc::new(Parker::new());
    let waker = Waker::from(parker.clone());
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return Some(value);
        }
        match deadline {
            None => parker.park(),
            Some(deadline) if parker.park_until(deadline) => {}
            Some(_) => return None,
        }
    }
}
