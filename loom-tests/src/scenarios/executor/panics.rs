//! Work that fails or panics, and an owner that does.

use crate::core::actor::launch::Start;
use crate::core::actor::submission::Wait;
use crate::core::store::node_store::NodeStore;
use crate::core::store::slot::{Lean, Outcome};
use crate::runner::saw;
use crate::threads::{saw_end, saw_loss, spawn};
use crate::toy::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Context;

/// An operation panics: its own fragment fails, and the next one is well.
pub fn engine_panics() {
    let ex = start(2, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, PANICS, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Failed(ToyError::Panicked));
    });
    let s = submit(&ex, 2, 3, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(3));
    t.join().unwrap();
    drop(s);
    shutdown(&ex);
}

/// A device that is done when it returns is lost with a fragment: what comes behind that is refused.
pub fn device_lost() {
    let ex = start(2, ToyEngine::cpu());
    let loses = submit(&ex, 1, LOSES, &[]).expect("it is open");
    let e = ex.clone();
    let t = spawn(move || {
        let sub = submit(&e, 2, 2, &[]);
        if sub.is_none() {
            let told = e.lost();
            assert_eq!(
                told,
                Some(ToyError::DeviceLost),
                "refused, and not told why"
            );
        }
        sub.map(|sub| wait_async(&sub))
    });
    assert_eq!(wait_async(&loses), Outcome::Ready(0), "it was done");
    match t.join().unwrap() {
        None => saw("refused"),
        Some(end) => {
            assert_eq!(end, Outcome::Failed(ToyError::DeviceLost));
            saw("lost");
        }
    }
    drop(loses);
    shutdown(&ex);
    assert_eq!(ex.lost(), Some(ToyError::DeviceLost));
    nothing_left(&ex, [1, 2]);
}

/// The owner's own code panics: whoever submitted is told, whenever that was.
pub fn owner_panics() {
    let ex = start(2, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || saw_loss(submit(&e, 1, 2, &[]).as_ref(), wait_async));
    let s = submit(&ex, 2, KILLS, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Failed(ToyError::OwnerLost));
    t.join().unwrap();
    joined(&ex);
    assert_eq!(ex.lost(), Some(ToyError::OwnerLost));
    drop(s);
    nothing_left(&ex, [1, 2]);
}

/// The device reports an error late, for a batch: the culprit fails, the other does not.
pub fn late_error() {
    let ex = start(2, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, FAILS_LATE, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Failed(ToyError::Late));
    });
    let s = submit(&ex, 2, 3, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(3));
    t.join().unwrap();
    drop(s);
    shutdown(&ex);
    let counts = ex.counts();
    assert_eq!((counts.run, counts.failed), (2, 1), "miscounted");
    saw(match counts.reissued {
        0 => "none again",
        1 => "the culprit again",
        _ => "both again",
    });
}

/// A failed fragment fails what depends on it, also what was submitted before it failed.
pub fn failure_spreads() {
    let ex = start(2, ToyEngine::gpu());
    let first = submit(&ex, 1, FAILS, &[]).unwrap();
    let e = ex.clone();
    let held = NodeStore::acquire(ex.store(), 1, Lean::Any).held();
    let t = spawn(move || {
        let s = submit(&e, 2, 10, &[1]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Failed(ToyError::Failed));
    });
    assert_eq!(wait_async(&first), Outcome::Failed(ToyError::Failed));
    t.join().unwrap();
    drop((first, held));
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// An operation panics with something whose destructor panics: its own fragment fails, and those that
/// wait for later ones are told.
pub fn panics_twice() {
    let ex = start(2, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, PANICS_TWICE, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Failed(ToyError::Panicked));
    });
    let s = submit(&ex, 2, 3, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(3));
    t.join().unwrap();
    assert_eq!(ex.lost(), None, "the owner was lost");
    drop(s);
    shutdown(&ex);
}

/// A request for node 1, whose work panics when it is dropped.
fn bombed(ex: &Ex) -> Ask {
    Ask::new(ex, &[&node(1, 2, &[])]).holding(Bomb(1))
}

/// The work of a fragment panics when it is dropped: its result is there, and the owner goes on.
pub fn dropped_work_panics() {
    let ex = start(2, ToyEngine::gpu());
    let ask = bombed(&ex);
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 2, 3, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(3));
    });
    let first = post_ask(&ex, ask);
    assert_eq!(wait_async(&first), Outcome::Ready(2));
    t.join().unwrap();
    assert_eq!(ex.lost(), None, "the owner was lost");
    drop(first);
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// Work panics when it is dropped that is not run any more, because the executor ends: whoever waits for
/// it is told, and the owner goes on.
pub fn refused_work_panics() {
    let ex = start(2, ToyEngine::gpu());
    let ask = bombed(&ex);
    let first = post_ask(&ex, ask);
    let (gate, early) = (ex.gate().clone(), Arc::new(AtomicBool::new(false))); // outside of the model
    let found = early.clone();
    let waker = OnWake::waker(move || {
        found.fetch_or(gate.admission.queued() > 0, SeqCst); // a panic would be contained
    });
    let mut waits = Wait::default();
    let _ = first.poll(&Context::from_waker(&waker), &mut waits);
    let e = ex.clone();
    let t = spawn(move || e.abort());
    saw_end(&wait_async(&first), 2);
    t.join().unwrap();
    joined(&ex);
    first.deregister(&mut waits);
    assert!(!early.load(SeqCst), "told while its place was taken");
    assert_eq!(ex.lost(), None, "the owner was lost");
    drop(first);
    nothing_left(&ex, [1]);
}

/// Work panics when it is dropped that is too late to begin: its waiter is told, and the owner goes on.
pub fn expired_work_panics() {
    let ex = start(2, ToyEngine::gpu());
    let first = ask_all(&ex, bombed(&ex), late(), Start::Post);
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 2, 3, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(3));
    });
    assert_eq!(wait_async(&first), Outcome::Expired);
    t.join().unwrap();
    assert_eq!(ex.lost(), None, "the owner was lost");
    drop(first);
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}
