//! Lending: a waiter runs the queue in the owner's place.

use crate::runner::saw;
use crate::toy::*;
use candlewick::store::slot::Outcome;
use candlewick::store::tag::Tag;
use candlewick::sync::thread;

fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn("t".into(), f).expect("a thread")
}

/// Submitted to be waited for: the waiter runs it, or the owner does; the owner's state is only
/// ever one thread's.
pub fn wait_lends() {
    let ex = start(1, ToyEngine::cpu());
    let s = submit(&ex, 1, 2, &[], true).unwrap();
    assert_eq!(wait(&s), Outcome::Ready(2));
    assert_eq!(ex.counts().lent, 1);
    drop(s);
    shutdown(&ex);
}

/// The owner was called, and a waiter comes at the same time.
pub fn lend_vs_owner() {
    let ex = start(1, ToyEngine::cpu());
    let s = submit(&ex, 1, 2, &[], false).unwrap();
    assert_eq!(wait(&s), Outcome::Ready(2));
    saw(if ex.counts().lent == 1 {
        "lent"
    } else {
        "owner"
    });
    drop(s);
    shutdown(&ex);
}

/// Two blocking waiters, one turn.
pub fn two_lenders() {
    let ex = start(2, ToyEngine::cpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, 2, &[], true).unwrap();
        assert_eq!(wait(&s), Outcome::Ready(2));
    });
    let s = submit(&ex, 2, 3, &[], true).unwrap();
    assert_eq!(wait(&s), Outcome::Ready(3));
    t.join().unwrap();
    assert_eq!(ex.counts().run, 2);
    drop(s);
    shutdown(&ex);
}

/// The owner is not called for a fragment that somebody else waits for, as a task, before its
/// message is there.
/// ```text
/// waiter:    register, fence, look for a message, sleep
/// submitter: send, set PENDING, fence, look for waiters
/// ```
pub fn deferred_vs_waiter() {
    let ex = start(2, ToyEngine::cpu());
    let permit = ex.try_admit(0).expect("room");
    let claimed = ex.claim(permit, &[1], Tag::default());
    let outputs = claimed.slots().iter().cloned().collect();
    let mine = candlewick::actor::submission::Submission::new(ex.clone(), outputs);
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, 5, &[], false).unwrap(); // finds the claim
        assert_eq!(wait_async(&s), Outcome::Ready(5));
    });
    let work = Work {
        add: 5,
        ..Work::default()
    };
    claimed.send(
        |outputs| candlewick::store::task::Payload {
            work,
            inputs: Default::default(),
            outputs,
            rest: Vec::new(),
        },
        true,
    );
    t.join().unwrap(); // before this thread looks for its own result
    assert_eq!(wait(&mine), Outcome::Ready(5));
    drop(mine);
    shutdown(&ex);
}

/// The owner is not called for a fragment on which another one, which it has received already,
/// depends.
pub fn deferred_vs_dependent() {
    let ex = start(2, ToyEngine::cpu());
    let permit = ex.try_admit(0).expect("room");
    let claimed = ex.claim(permit, &[1], Tag::default());
    let outputs = claimed.slots().iter().cloned().collect();
    let mine = candlewick::actor::submission::Submission::new(ex.clone(), outputs);
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 2, 10, &[1], false).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(15));
    });
    let work = Work {
        add: 5,
        ..Work::default()
    };
    claimed.send(
        |outputs| candlewick::store::task::Payload {
            work,
            inputs: Default::default(),
            outputs,
            rest: Vec::new(),
        },
        true,
    );
    t.join().unwrap(); // before this thread looks for its own result
    drop(mine);
    shutdown(&ex);
}

/// A thread submits to wait, and then does not: a tensor still refers to the result, so it is
/// computed all the same.
pub fn deferred_then_dropped() {
    let ex = start(2, ToyEngine::cpu());
    let s = submit(&ex, 1, 2, &[], true).unwrap();
    let held = candlewick::store::node_store::NodeStore::acquire(ex.store(), 1).expect("live");
    let t = spawn(move || {
        let mut key = None;
        let wait = std::future::poll_fn(|cx| held.slot().poll(cx, &mut key)); // does not nudge
        candlewick::actor::park::block_on(wait, None).expect("no deadline");
        assert_eq!(peek(held.slot()), Some(Outcome::Ready(2)));
    });
    drop(s);
    t.join().unwrap();
    shutdown(&ex);
}

/// The owner has driven and rests, then a waiter borrows: it finds the state as the owner left it.
pub fn lend_after_owner() {
    let ex = start(2, ToyEngine::cpu());
    let first = submit(&ex, 1, 2, &[], false).unwrap();
    assert_eq!(wait_async(&first), Outcome::Ready(2));
    let second = submit(&ex, 2, 3, &[1], true).unwrap();
    assert_eq!(wait(&second), Outcome::Ready(5));
    saw(if ex.counts().lent == 1 {
        "lent"
    } else {
        "owner"
    });
    drop((first, second));
    shutdown(&ex);
}

/// Closing while the turn is lent: the owner leaves when the borrower is done.
pub fn lend_vs_close() {
    let ex = start(1, ToyEngine::cpu());
    let e = ex.clone();
    let t = spawn(move || match submit(&e, 1, 2, &[], true) {
        Some(s) => {
            assert_eq!(wait(&s), Outcome::Ready(2));
            saw("ran");
        }
        None => saw("refused"),
    });
    shutdown(&ex);
    t.join().unwrap();
}

/// Aborting while the turn is lent.
pub fn lend_vs_abort() {
    let ex = start(1, ToyEngine::cpu());
    let e = ex.clone();
    let t = spawn(move || match submit(&e, 1, 2, &[], true) {
        Some(s) => match wait(&s) {
            Outcome::Ready(2) => saw("ran"),
            Outcome::Closed => saw("closed"),
            other => panic!("{other:?}"),
        },
        None => saw("refused"),
    });
    ex.abort();
    joined(&ex);
    t.join().unwrap();
}

/// Work that panics in a lent run fails by itself; the turn comes back.
pub fn lent_panics() {
    let ex = start(2, ToyEngine::cpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, PANICS, &[], true).unwrap();
        assert_eq!(wait(&s), Outcome::Failed(ToyError::Panicked));
    });
    let s = submit(&ex, 2, 3, &[], true).unwrap();
    assert_eq!(wait(&s), Outcome::Ready(3));
    t.join().unwrap();
    drop(s);
    shutdown(&ex);
}

/// The owner's own code panics in a lent run: the turn comes back, and all that is left is told.
pub fn lent_owner_panics() {
    let ex = start(2, ToyEngine::cpu());
    let e = ex.clone();
    let t = spawn(move || match submit(&e, 1, 2, &[], true) {
        Some(s) => match wait(&s) {
            Outcome::Ready(2) => saw("before"),
            Outcome::Failed(ToyError::OwnerLost) => saw("lost"),
            other => panic!("{other:?}"),
        },
        None => saw("refused"),
    });
    if let Some(s) = submit(&ex, 2, KILLS, &[], true) {
        assert_eq!(wait(&s), Outcome::Ready(0));
    }
    t.join().unwrap();
    joined(&ex);
    assert_eq!(ex.lost(), Some(ToyError::OwnerLost));
}

/// A message for which the owner is not called comes while the owner ends a round: either the
/// owner runs it, or its flag is left for the waiter.
pub fn round_vs_deferred() {
    let ex = start(1, ToyEngine::cpu());
    ex.call_owner();
    let s = submit(&ex, 1, 2, &[], true).unwrap();
    assert_eq!(wait(&s), Outcome::Ready(2));
    saw(if ex.counts().lent == 1 {
        "lent"
    } else {
        "owner"
    });
    drop(s);
    shutdown(&ex);
}

/// The owner is not called for a fragment that takes the place that somebody else waits for.
pub fn deferred_vs_line() {
    let ex = start(1, ToyEngine::cpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, 2, &[], false).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(2));
    });
    let mine = submit(&ex, 2, 3, &[], true).unwrap();
    t.join().unwrap(); // before this thread looks for its own result
    assert_eq!(wait(&mine), Outcome::Ready(3));
    drop(mine);
    shutdown(&ex);
}
