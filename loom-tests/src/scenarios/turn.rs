//! The turn by itself: nobody shares it, and no message is left behind.

use crate::core::actor::turn::Turn;
use crate::core::sync::Ordering::Relaxed;
use crate::core::sync::{Arc, AtomicUsize, Deadline, UnsafeCell, channel, try_recv};
use crate::runner::saw;
use crate::threads::spawn;
use std::time::Duration;

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

/// Does what the owner's thread does, until it has `n` messages: it takes the turn, receives and rests.
fn own(turn: &Turn, state: &State, receiver: &channel::Receiver<u32>, n: usize) {
    let mut got = 0;
    while got < n {
        turn.take(None);
        loop {
            turn.start_round();
            state.touch();
            while try_recv(receiver).is_some() {
                got += 1;
            }
            if turn.try_rest() {
                break;
            }
        }
    }
}

/// ```text
/// sender: send, set PENDING, wake
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
        turn.posted();
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
            t.take(None);
            loop {
                t.start_round();
                left = s.touch() - 1; // the borrower was there before
                if t.try_rest() {
                    break;
                }
            }
        }
    });
    assert!(turn.try_borrow(false), "no other thread was called");
    state.touch();
    turn.hand_back(true);
    owner.join().unwrap();
}

/// The owner's thread, until it sees the reason for which it is called.
fn own_until(turn: &Turn, reason: &AtomicUsize) {
    loop {
        turn.take(None);
        loop {
            turn.start_round();
            if reason.load(Relaxed) == 1 {
                return;
            }
            if turn.try_rest() {
                break;
            }
        }
    }
}

/// Calling the owner while it is about to rest: it sees why.
pub fn call_vs_rest() {
    let turn = Arc::new(Turn::new());
    let reason = Arc::new(AtomicUsize::new(0));
    turn.posted();
    let (t, r) = (turn.clone(), reason.clone());
    let owner = spawn(move || own_until(&t, &r));
    reason.store(1, Relaxed);
    turn.call();
    owner.join().unwrap();
}

/// Calling the owner while the turn is lent: the borrower leaves the call to the owner's thread.
pub fn call_vs_borrow() {
    let turn = Arc::new(Turn::new());
    let reason = Arc::new(AtomicUsize::new(0));
    let (t, r) = (turn.clone(), reason.clone());
    let owner = spawn(move || own_until(&t, &r));
    let t = turn.clone();
    let caller = spawn(move || {
        reason.store(1, Relaxed);
        t.call();
    });
    if turn.try_borrow(false) {
        turn.hand_back(false);
        saw("lent");
    } else {
        saw("not to be had");
    }
    caller.join().unwrap();
    owner.join().unwrap();
}

/// Two would-be borrowers of one message.
pub fn two_borrowers() {
    let (turn, state) = (Arc::new(Turn::new()), State::new());
    turn.posted();
    let borrow = |turn: &Turn, state: &State| {
        let borrowed = turn.try_borrow(true);
        if borrowed {
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

/// Two threads send: the one that comes second does not wake the owner, and need not.
pub fn two_posts() {
    let (turn, state) = (Arc::new(Turn::new()), State::new());
    let (sender, receiver) = channel::bounded(2);
    let (t, s) = (turn.clone(), state.clone());
    let owner = spawn(move || own(&t, &s, &receiver, 2));
    let t = turn.clone();
    let other = sender.clone();
    let submitter = spawn(move || {
        other.try_send(0).unwrap();
        t.posted();
    });
    sender.try_send(1).unwrap();
    turn.posted();
    submitter.join().unwrap();
    owner.join().unwrap();
}

/// Two who borrow in turns see what the other one left.
pub fn borrow_after_borrow() {
    let (turn, state) = (Arc::new(Turn::new()), State::new());
    let borrow = |turn: &Turn, state: &State| {
        turn.posted();
        let borrowed = turn.try_borrow(true);
        if borrowed {
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

/// In a round: receives what is queued, and says whether a message has come by now.
fn received(state: &State, receiver: &channel::Receiver<u32>) -> bool {
    while try_recv(receiver).is_some() {
        state.touch();
    }
    state.look() > 0
}

/// Does what the owner's thread does, until a message has come.
fn own_one(turn: &Turn, state: &State, receiver: &channel::Receiver<u32>) {
    loop {
        turn.take(None);
        loop {
            turn.start_round();
            if received(state, receiver) {
                return;
            }
            if turn.try_rest() {
                break;
            }
        }
    }
}

/// A message comes while the turn is lent, and its sender finds the turn taken: the thread that has it
/// receives the message, or the owner is called for it.
pub fn post_vs_hand_back() {
    let (turn, state) = (Arc::new(Turn::new()), State::new());
    let (sender, receiver) = channel::bounded(1);
    let receiver = Arc::new(receiver);
    let (t, s, r) = (turn.clone(), state.clone(), receiver.clone());
    let owner = spawn(move || own_one(&t, &s, &r));
    turn.posted();
    let (t, s, r) = (turn.clone(), state.clone(), receiver.clone());
    let submitter = spawn(move || {
        sender.try_send(0).unwrap();
        t.posted();
        if t.try_borrow(true) {
            t.hand_back(received(&s, &r));
        }
    });
    if turn.try_borrow(true) {
        turn.hand_back(received(&state, &receiver));
        saw("lent");
    } else {
        saw("not to be had");
    }
    submitter.join().unwrap();
    owner.join().unwrap();
}

/// A caller takes the turn for work that was not sent, while the owner is called for a message: one
/// drives after the other, and the message is received.
pub fn run_vs_post() {
    let (turn, state) = (Arc::new(Turn::new()), State::new());
    let (sender, receiver) = channel::bounded(1);
    let receiver = Arc::new(receiver);
    let (t, s, r) = (turn.clone(), state.clone(), receiver.clone());
    let owner = spawn(move || own_one(&t, &s, &r));
    let t = turn.clone();
    let submitter = spawn(move || {
        sender.try_send(0).unwrap();
        t.posted();
        sender
    });
    if turn.try_borrow(false) {
        turn.hand_back(received(&state, &receiver));
        saw("lent");
    } else {
        saw("not to be had");
    }
    drop(submitter.join().unwrap());
    owner.join().unwrap();
}

/// The owner's time is up while a borrower has the turn: it does not take it, and is woken when the
/// borrower gives it back.
pub fn limit_vs_borrow() {
    let (turn, state) = (Arc::new(Turn::new()), State::new());
    let (t, s) = (turn.clone(), state.clone());
    let owner = spawn(move || {
        let limit = Deadline::after(Duration::from_millis(1)).expect("in range");
        t.take(Some(&limit));
        t.start_round();
        s.touch();
        assert!(t.try_rest(), "called although nothing came");
    });
    if turn.try_borrow(false) {
        state.touch();
        turn.hand_back(false);
        saw("lent");
    } else {
        saw("the owner's");
    }
    owner.join().unwrap();
}

/// A call is over when the owner has looked once more: it rests then.
pub fn call_is_over() {
    let (turn, state) = (Arc::new(Turn::new()), State::new());
    turn.posted();
    let (t, s) = (turn.clone(), state.clone());
    let owner = spawn(move || {
        t.take(None);
        for rounds in 1.. {
            assert!(rounds < 3, "called for nothing");
            t.start_round();
            s.touch();
            if t.try_rest() {
                return rounds;
            }
        }
        0
    });
    turn.call();
    saw(match owner.join().unwrap() {
        1 => "one round",
        _ => "two rounds",
    });
}
