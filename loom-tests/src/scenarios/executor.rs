//! The executor over the toy engine: admission, claim, queue, run, close.

use crate::runner::saw;
use crate::toy::*;
use candlewick::actor::admission::Refused;
use candlewick::actor::park::block_on;
use candlewick::actor::submission::Submission;
use candlewick::origin::Origin;
use candlewick::store::node_store::NodeStore;
use candlewick::store::slot::{Cancel, Outcome};
use candlewick::store::tag::Tag;
use candlewick::store::task::Payload;
use candlewick::sync::{Arc, thread};
use smallvec::SmallVec;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Waker};

fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn("t".into(), f).expect("a thread")
}

/// At rest nothing is left.
fn nothing_left(ex: &Ex, nodes: impl IntoIterator<Item = u64>) {
    nodes.into_iter().for_each(|id| ex.store().release_node(id));
    assert_eq!(
        ex.store().nodes(),
        0,
        "a node without references is still in the store"
    );
}

/// Submit, await, close, join.
pub fn submit_await_close() {
    let ex = start(1, ToyEngine::gpu());
    let s = submit(&ex, 1, 2, &[], false).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(2));
    drop(s);
    shutdown(&ex);
    nothing_left(&ex, [1]);
}

/// Submitting races with closing: refused, or accepted and run. Never lost.
pub fn submit_vs_close() {
    let ex = start(1, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || match submit(&e, 1, 2, &[], false) {
        Some(s) => {
            assert_eq!(wait_async(&s), Outcome::Ready(2));
            saw("ran");
        }
        None => saw("refused"),
    });
    shutdown(&ex);
    t.join().unwrap();
    nothing_left(&ex, [1]);
}

/// Submitting races with aborting: run, closed or refused. Never lost.
pub fn submit_vs_abort() {
    let ex = start(1, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || match submit(&e, 1, 2, &[], false) {
        Some(s) => match wait_async(&s) {
            Outcome::Ready(2) => saw("ran"),
            Outcome::Closed => saw("closed"),
            other => panic!("{other:?}"),
        },
        None => saw("refused"),
    });
    ex.abort();
    joined(&ex);
    t.join().unwrap();
    nothing_left(&ex, [1]);
}

/// One place, two submitters: both get through.
pub fn back_pressure() {
    let ex = start(1, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, 2, &[], false).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(2));
    });
    let s = submit(&ex, 2, 3, &[], false).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(3));
    t.join().unwrap();
    drop(s);
    shutdown(&ex);
}

/// A refused submission claims nothing, whatever closes meanwhile, and no permit is missing.
pub fn full_vs_close() {
    let ex = start(1, ToyEngine::gpu());
    let first = submit(&ex, 1, 2, &[], false).unwrap();
    let e = ex.clone();
    let t = spawn(move || match e.try_admit(0) {
        Ok(permit) => {
            let s = submit_with(&e, Ok(permit), 2, 3, &[], false).unwrap();
            assert_eq!(wait_async(&s), Outcome::Ready(3));
            saw("accepted");
        }
        Err(Refused::Full) => saw("full"),
        Err(Refused::Closed) => saw("closed"),
    });
    shutdown(&ex);
    assert_eq!(end(&first), Outcome::Ready(2));
    t.join().unwrap();
    drop(first);
    nothing_left(&ex, [1, 2]);
}

/// A permit that is given back unused is not waited for by a closing owner.
pub fn unused_permit_vs_close() {
    let ex = start(1, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || match e.try_admit(0) {
        Ok(permit) => {
            drop(permit);
            saw("given back");
        }
        Err(refused) => {
            assert_eq!(refused, Refused::Closed);
            saw("refused");
        }
    });
    shutdown(&ex);
    t.join().unwrap();
}

/// An admission that was dropped while pending takes nothing with it.
pub fn dropped_admission() {
    let ex = start(1, ToyEngine::gpu());
    let held = ex.try_admit(0).expect("room");
    let e = ex.clone();
    let t = spawn(move || {
        let mut admit = pin!(e.admit(0));
        match admit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(_)) => saw("went in"),
            Poll::Ready(Err(_)) => saw("refused"),
            Poll::Pending => saw("dropped while pending"),
        }
    });
    drop(held);
    shutdown(&ex);
    t.join().unwrap();
}

/// Two threads submit the same node: it runs once, both get the result.
pub fn same_node() {
    let engine = ToyEngine::gpu();
    let runs = engine.runs();
    let ex = start(2, engine);
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, 2, &[], false).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(2));
    });
    let s = submit(&ex, 1, 2, &[], false).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(2));
    t.join().unwrap();
    assert_eq!(runs.load(SeqCst), 1, "computed twice");
    drop(s);
    shutdown(&ex);
    nothing_left(&ex, [1]);
}

/// A fragment that depends on another thread's claim, whose message may still be on its way:
/// it runs after it.
pub fn dependency_order() {
    let ex = start(2, ToyEngine::gpu());
    let permit = ex.try_admit(0).expect("room");
    let claimed = ex.claim(permit, &[1], Tag::default());
    let outputs = claimed.slots().iter().cloned().collect();
    let first = Submission::new(ex.clone(), outputs);
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 2, 10, &[1], false).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(15));
    });
    let work = Work {
        add: 5,
        ..Work::default()
    };
    claimed.send(|outputs| work.payload(SmallVec::new(), outputs), false);
    t.join().unwrap();
    assert_eq!(wait_async(&first), Outcome::Ready(5));
    drop(first);
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// The same, but the claim is dropped before its message: whoever depends on it is told.
pub fn dropped_claim() {
    let ex = start(2, ToyEngine::gpu());
    let permit = ex.try_admit(0).expect("room");
    let claimed = ex.claim(permit, &[1], Tag::default());
    let outputs = claimed.slots().iter().cloned().collect();
    let first = Submission::new(ex.clone(), outputs);
    let second = submit(&ex, 2, 10, &[1], false).unwrap();
    drop(claimed);
    assert_eq!(wait_async(&second), Outcome::Failed(ToyError::Failed));
    assert_eq!(wait_async(&first), Outcome::Closed);
    drop((first, second));
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// Of two outputs one is cancelled and somebody shares the other: who comes for the first later finds
/// its slot, or what it is made of. Never neither.
pub fn given_up_beside() {
    let ex = start(2, ToyEngine::gpu());
    let permit = ex.try_admit(0).expect("room");
    let claimed = ex.claim(permit, &[1, 2], Tag::default());
    let both = Submission::new(ex.clone(), claimed.slots().iter().cloned().collect());
    let other = NodeStore::acquire(ex.store(), 2);
    let origins = [1, 2].map(|id| Arc::new(Origin::new(id)));
    let work = Work {
        add: 5,
        origins: origins.iter().cloned().map(Some).collect(),
        ..Work::default()
    };
    claimed.send(|outputs| work.payload(SmallVec::new(), outputs), false);
    let e = ex.clone();
    let t = spawn(move || {
        let other = other.expect("claimed");
        let mut key = None;
        let ended = std::future::poll_fn(|cx| e.poll(other.slot(), cx, &mut key));
        block_on(ended, None).expect("no deadline");
        if let Some(key) = key {
            other.slot().deregister(key);
        }
        assert_eq!(peek(other.slot()), Some(Outcome::Ready(5)));
    });
    let _ = both.cancel();
    for asked in 0.. {
        assert!(asked < 2, "neither an origin nor a slot");
        if NodeStore::acquire(ex.store(), 1).is_some() {
            saw("ran");
            break;
        }
        if origins[0].read(|id| assert_eq!(*id, 1)).is_some() {
            saw("given up");
            break;
        }
    }
    t.join().unwrap();
    drop(both);
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// Cancelling what somebody else's fragment depends on does not cancel it.
pub fn cancel_vs_dependent() {
    let ex = start(2, ToyEngine::gpu());
    let first = submit(&ex, 1, 5, &[], false).unwrap();
    let e = ex.clone();
    let held = NodeStore::acquire(ex.store(), 1);
    assert!(held.is_some());
    let t = spawn(move || {
        let s = submit(&e, 2, 10, &[1], false).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(15));
    });
    match first.cancel() {
        Cancel::Shared => saw("shared"),
        Cancel::Running => saw("running"),
        Cancel::Finished => saw("finished"),
        Cancel::Cancelled => panic!("somebody else wants it"),
    }
    t.join().unwrap();
    drop((first, held));
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// The last interest goes while the owner forms its batch: withdrawn or run, and never a leak.
pub fn withdraw_submitted() {
    let engine = ToyEngine::gpu();
    let runs = engine.runs();
    let ex = start(1, engine);
    let s = submit(&ex, 1, 2, &[], false).unwrap();
    ex.store().release_node(1);
    drop(s);
    shutdown(&ex);
    assert_eq!(ex.store().nodes(), 0);
    let counts = ex.counts();
    assert_eq!(counts.run + counts.cancelled, 1, "lost: {counts:?}");
    assert_eq!(counts.run as usize, runs.load(SeqCst));
    saw(if counts.run == 1 { "ran" } else { "withdrawn" });
}

/// An operation that panics: its own fragment fails, the next one is well.
pub fn engine_panics() {
    let ex = start(2, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, PANICS, &[], false).unwrap();
        assert_eq!(wait_async(&s), Outcome::Failed(ToyError::Panicked));
    });
    let s = submit(&ex, 2, 3, &[], false).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(3));
    t.join().unwrap();
    drop(s);
    shutdown(&ex);
}

/// The owner's own code panics: whoever submitted finds out, whenever they did.
pub fn owner_panics() {
    let ex = start(2, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || match submit(&e, 1, 2, &[], false) {
        Some(s) => match wait_async(&s) {
            Outcome::Ready(2) => saw("before"),
            Outcome::Failed(ToyError::OwnerLost) => saw("lost"),
            other => panic!("{other:?}"),
        },
        None => saw("refused"),
    });
    let s = submit(&ex, 2, KILLS, &[], false).unwrap();
    assert!(matches!(wait_async(&s), Outcome::Ready(0)));
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
        let s = submit(&e, 1, FAILS_LATE, &[], false).unwrap();
        assert_eq!(wait_async(&s), Outcome::Failed(ToyError::Failed));
    });
    let s = submit(&ex, 2, 3, &[], false).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(3));
    t.join().unwrap();
    drop(s);
    shutdown(&ex);
    saw(if ex.counts().failed == 1 {
        "one failed"
    } else {
        "miscounted"
    });
}

/// A failed fragment fails what depends on it, also what was submitted before it failed.
pub fn failure_spreads() {
    let ex = start(2, ToyEngine::gpu());
    let first = submit(&ex, 1, FAILS, &[], false).unwrap();
    let e = ex.clone();
    let held = NodeStore::acquire(ex.store(), 1);
    let t = spawn(move || {
        let s = submit(&e, 2, 10, &[1], false).unwrap();
        assert_eq!(wait_async(&s), Outcome::Failed(ToyError::Failed));
    });
    assert_eq!(wait_async(&first), Outcome::Failed(ToyError::Failed));
    t.join().unwrap();
    drop((first, held));
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// A result that nobody refers to any more is freed while the owner closes.
pub fn release_vs_close() {
    let ex = start(1, ToyEngine::gpu());
    let s = submit(&ex, 1, 2, &[], false).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(2));
    drop(s);
    let e = ex.clone();
    let t = spawn(move || e.store().release_node(1));
    shutdown(&ex);
    t.join().unwrap();
    assert_eq!(ex.store().nodes(), 0);
    assert!(
        ex.store().take_doomed().is_empty(),
        "a result was left on its way home"
    );
}

/// Two close, one of them for good: both waits end, and so does what was queued.
pub fn two_closers() {
    let ex = start(1, ToyEngine::gpu());
    let s = submit(&ex, 1, 2, &[], false).unwrap();
    let e = ex.clone();
    let t = spawn(move || {
        e.abort();
        block_on(e.closed(), None).expect("no deadline");
    });
    shutdown(&ex);
    t.join().unwrap();
    match end(&s) {
        Outcome::Ready(2) => saw("ran"),
        Outcome::Closed => saw("closed"),
        other => panic!("{other:?}"),
    }
}

/// Two submissions of one node are withdrawn, one of them twice, before its work has arrived: the
/// last one cancels it, and nobody runs it.
pub fn two_withdraw() {
    let engine = ToyEngine::gpu();
    let runs = engine.runs();
    let ex = start(2, engine);
    let permit = ex.try_admit(0).expect("room");
    let claimed = ex.claim(permit, &[1], Tag::default());
    let outputs = claimed.slots().iter().cloned().collect();
    let first = Submission::new(ex.clone(), outputs);
    let second = submit(&ex, 1, 2, &[], false).unwrap(); // finds the claim
    let t = spawn(move || {
        let cancel = first.cancel();
        assert_ne!(first.cancel(), Cancel::Cancelled, "withdrawn twice");
        drop(first);
        cancel
    });
    let mine = second.cancel();
    let mut both = [mine, t.join().unwrap()];
    both.sort_by_key(|c| *c == Cancel::Cancelled);
    assert_eq!(both, [Cancel::Shared, Cancel::Cancelled]);
    assert_eq!(end(&second), Outcome::Cancelled);
    let (alive, count) = Alive::counted();
    let work = Work {
        add: 1,
        alive,
        ..Work::default()
    };
    claimed.send(|outputs| work.payload(SmallVec::new(), outputs), false);
    assert_eq!(
        count.load(SeqCst),
        0,
        "the work of a cancelled fragment is still there"
    );
    drop(second);
    shutdown(&ex);
    assert_eq!(runs.load(SeqCst), 0);
    nothing_left(&ex, [1]);
    saw(if mine == Cancel::Cancelled {
        "mine last"
    } else {
        "other last"
    });
}

/// Parts of one message, of which one waits for another fragment and that one for another part:
/// no part waits behind another.
pub fn parts_apart() {
    let (q, s, r) = (1, 2, 3);
    let ex = start(2, ToyEngine::gpu());
    let permit = ex.try_admit(0).expect("room");
    let claimed = ex.claim(permit, &[q, r], Tag::default());
    let mine = Submission::new(ex.clone(), claimed.slots().iter().cloned().collect());
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, s, 10, &[q], false).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(11));
    });
    let other = loop {
        // the other's claim, which is all that `r` needs
        match NodeStore::acquire(ex.store(), s) {
            Some(held) => break held,
            None => thread::yield_now(),
        }
    };
    let mut other = Some(other);
    let sent = claimed.send_apart(
        |place, slot| {
            let (add, input) = if place == 0 {
                (1, None)
            } else {
                (100, other.take())
            };
            let work = Work {
                add,
                ..Work::default()
            };
            let (inputs, outputs) = (input.into_iter().collect(), SmallVec::from_iter([slot]));
            Ok::<_, ()>(Payload {
                work,
                inputs,
                outputs,
                rest: Vec::new(),
            })
        },
        false,
    );
    assert_eq!(sent, Ok(()));
    let mut wait = candlewick::actor::submission::Wait::default();
    block_on(std::future::poll_fn(|cx| mine.poll(cx, &mut wait)), None).expect("no deadline");
    assert_eq!(peek(&mine.outputs()[1]), Some(Outcome::Ready(111)));
    t.join().unwrap();
    drop(mine);
    shutdown(&ex);
    nothing_left(&ex, [q, s, r]);
}
