//! The turn by itself: nobody shares it, and no message is left behind.

use crate::runner::saw;
use candlewick::actor::turn::Turn;
use candlewick::sync::Ordering::Relaxed;
use candlewick::sync::{Arc, AtomicUsize, UnsafeCell, channel, thread};

fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn("t".into(), f).expect("a thread")
}

/// What only the holder of the turn may touch.
struct State(UnsafeCell<u32>);
// SAFETY: the turn is what this scenario tests; loom checks the accesses.
unsafe impl Sync for State {}
// SAFETY: a number.
unsafe impl Send for State {}

impl State {
    fn new() -> Arc<Self> {
        Arc::new(Self(UnsafeCell::new(0)))
    }
    fn look(&self) -> u32 {
        // SAFETY: as above.
        self.0.with(|n| unsafe { *n })
    }
    fn touch(&self) -> u32 {
        self.0.with_mut(|n| {
            // SAFETY: as above.
            unsafe {
                *n += 1;
                *n
            }
        })
    }
}

/// The owner's thread: takes the turn, receives, rests, until it has `n` messages.
fn own(turn: &Turn, state: &State, receiver: &channel::Receiver<u32>, n: usize) {
    let mut got = 0;
    while got < n {
        turn.take();
        loop {
            turn.start_round();
            state.touch();
            while receiver.try_recv().is_ok() {
                got += 1;
            }
            if turn.try_rest() {
                break;
            }
        }
    }
}

/// ```text
/// sender: send, set PENDING and CALLED, wake
/// owner:  clear PENDING, receive, rest, sleep
/// ```
/// No message stays behind a sleeping owner, although the channel may answer "empty" from a
/// stale look.
pub fn post_vs_rest() {
    let (turn, state) = (Arc::new(Turn::new()), State::new());
    let (sender, receiver) = channel::bounded(2);
    let (t, s) = (turn.clone(), state.clone());
    let owner = spawn(move || own(&t, &s, &receiver, 2));
    for message in 0..2 {
        sender.try_send(message).unwrap();
        turn.posted(true);
    }
    owner.join().unwrap();
}

/// A borrower receives a message and leaves it to the owner, in the owner's state.
pub fn borrow_vs_owner() {
    let (turn, state) = (Arc::new(Turn::new()), State::new());
    let (t, s) = (turn.clone(), state.clone());
    let owner = spawn(move || {
        let mut left = 0;
        while left == 0 {
            t.take();
            loop {
                t.start_round();
                left = s.touch() - 1; // the borrower was there before
                if t.try_rest() {
                    break;
                }
            }
        }
    });
    turn.posted(false);
    assert!(turn.try_borrow(), "nobody else was called");
    turn.start_round();
    state.touch();
    turn.hand_back(true);
    owner.join().unwrap();
}

/// Calling the owner while it is about to rest: it sees why.
pub fn call_vs_rest() {
    let turn = Arc::new(Turn::new());
    let reason = Arc::new(AtomicUsize::new(0));
    turn.posted(true);
    let (t, r) = (turn.clone(), reason.clone());
    let owner = spawn(move || {
        loop {
            t.take();
            loop {
                t.start_round();
                if r.load(Relaxed) == 1 {
                    return;
                }
                if t.try_rest() {
                    break;
                }
            }
        }
    });
    reason.store(1, Relaxed);
    turn.call();
    owner.join().unwrap();
}

/// Two would-be borrowers of one message.
pub fn two_borrowers() {
    let (turn, state) = (Arc::new(Turn::new()), State::new());
    turn.posted(false);
    let borrow = |turn: &Turn, state: &State| {
        let borrowed = turn.try_borrow();
        if borrowed {
            turn.start_round();
            state.touch();
            turn.hand_back(false);
        }
        borrowed
    };
    let (t, s) = (turn.clone(), state.clone());
    let other = spawn(move || borrow(&t, &s));
    let mine = borrow(&turn, &state);
    let other = other.join().unwrap();
    assert!(mine != other, "both, or neither: {mine}");
    saw(if mine { "mine" } else { "the other's" });
}

/// Calling the owner for a message, while an earlier one lies there for which it was not called.
pub fn call_behind_deferred() {
    let (turn, state) = (Arc::new(Turn::new()), State::new());
    let (sender, receiver) = channel::bounded(2);
    let (t, s) = (turn.clone(), state.clone());
    let owner = spawn(move || own(&t, &s, &receiver, 2));
    sender.try_send(0).unwrap();
    turn.posted(false);
    sender.try_send(1).unwrap();
    turn.posted(true);
    owner.join().unwrap();
}

/// Two messages for which the owner was not called are one too many.
pub fn two_deferred() {
    let (turn, state) = (Arc::new(Turn::new()), State::new());
    let (sender, receiver) = channel::bounded(2);
    let (t, s) = (turn.clone(), state.clone());
    let owner = spawn(move || own(&t, &s, &receiver, 2));
    let t = turn.clone();
    let other = sender.clone();
    let submitter = spawn(move || {
        other.try_send(0).unwrap();
        t.posted(false);
    });
    sender.try_send(1).unwrap();
    turn.posted(false);
    submitter.join().unwrap();
    owner.join().unwrap();
}

/// Two who borrow in turns see what the other one left.
pub fn borrow_after_borrow() {
    let (turn, state) = (Arc::new(Turn::new()), State::new());
    let borrow = |turn: &Turn, state: &State| {
        turn.posted(false);
        let borrowed = turn.try_borrow();
        if borrowed {
            turn.start_round();
            state.touch();
            turn.hand_back(false);
        }
        borrowed
    };
    let (t, s) = (turn.clone(), state.clone());
    let other = spawn(move || borrow(&t, &s));
    let mine = borrow(&turn, &state);
    match (mine, other.join().unwrap()) {
        (true, true) => saw("both"),
        (true, false) => saw("mine"),
        (false, true) => saw("the other's"),
        (false, false) => panic!("neither"),
    }
}

/// A message for which the owner is not called comes while the turn is lent, and its sender finds
/// the turn taken: whoever has it receives the message, or the owner is called for it.
pub fn post_vs_hand_back() {
    let (turn, state) = (Arc::new(Turn::new()), State::new());
    let (sender, receiver) = channel::bounded(1);
    let receiver = Arc::new(receiver);
    let round = |turn: &Turn, state: &State, receiver: &channel::Receiver<u32>| {
        turn.start_round();
        while receiver.try_recv().is_ok() {
            state.touch();
        }
        state.look() > 0
    };
    let (t, s, r) = (turn.clone(), state.clone(), receiver.clone());
    let owner = spawn(move || {
        loop {
            t.take();
            loop {
                if round(&t, &s, &r) {
                    return;
                }
                if t.try_rest() {
                    break;
                }
            }
        }
    });
    turn.posted(false);
    let (t, s, r) = (turn.clone(), state.clone(), receiver.clone());
    let submitter = spawn(move || {
        sender.try_send(0).unwrap();
        t.posted(false);
        if t.try_borrow() {
            t.hand_back(round(&t, &s, &r));
        }
    });
    if turn.try_borrow() {
        turn.hand_back(round(&turn, &state, &receiver));
        saw("lent");
    } else {
        saw("not to be had");
    }
    submitter.join().unwrap();
    owner.join().unwrap();
}
