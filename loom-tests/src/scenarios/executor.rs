//! The executor over the toy engine: admission, claim, queue, run, close.

use crate::core::actor::admission::Refused;
use crate::core::actor::park::block_on;
use crate::core::actor::submission::Wait;
use crate::core::store::node_store::NodeStore;
use crate::core::store::slot::{Cancel, Lean, Outcome};
use crate::core::store::tag::Tag;
use crate::core::sync::Deadline;
use crate::runner::saw;
use crate::threads::{Beside, races_abort, races_close, saw_end, spawn};
use crate::toy::*;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

mod panics;

pub use panics::*;

/// A submission is awaited, and then the executor is closed and joined.
pub fn submit_await_close() {
    let ex = start(1, ToyEngine::gpu());
    let s = submit(&ex, 1, 2, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(2));
    drop(s);
    shutdown(&ex);
    nothing_left(&ex, [1]);
}

/// Submitting races with closing: the work is refused, or it is accepted and run. It is never lost.
pub fn submit_vs_close() {
    races_close(ToyEngine::gpu(), |ex| submit(ex, 1, 2, &[]), wait_async);
}

/// Submitting races with aborting: the work is run, closed or refused. It is never lost.
pub fn submit_vs_abort() {
    races_abort(ToyEngine::gpu(), |ex| submit(ex, 1, 2, &[]), wait_async);
}

/// One place, two submitters: both get through.
pub fn back_pressure() {
    let ex = start(1, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, 2, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(2));
    });
    let s = submit(&ex, 2, 3, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(3));
    t.join().unwrap();
    drop(s);
    shutdown(&ex);
}

/// A refused submission claims nothing, whatever closes meanwhile, and no permit is missing.
pub fn full_vs_close() {
    let ex = start(1, ToyEngine::gpu());
    let first = submit(&ex, 1, 2, &[]).unwrap();
    let e = ex.clone();
    let t = spawn(move || match e.try_admit(0) {
        Ok(permit) => {
            let s = submit_with(&e, Ok(permit), 2, 3, &[]).unwrap();
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
        let tag = Tag::default();
        let mut admit = pin!(e.admit(0, &tag));
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
        let s = submit(&e, 1, 2, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(2));
    });
    let s = submit(&ex, 1, 2, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(2));
    t.join().unwrap();
    assert_eq!(runs.load(SeqCst), 1, "computed twice");
    drop(s);
    shutdown(&ex);
    nothing_left(&ex, [1]);
}

/// A fragment depends on another thread's claim, whose message may still be on its way: it runs after
/// what was claimed.
pub fn dependency_order() {
    let ex = start(2, ToyEngine::gpu());
    let e = ex.clone();
    let dependent = move || {
        let s = submit(&e, 2, 10, &[1]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(15));
    };
    let (ask, t) = Beside::start(Ask::new(&ex, &[&node(1, 5, &[])]), dependent);
    let first = post_ask(&ex, ask);
    t.join();
    assert_eq!(wait_async(&first), Outcome::Ready(5));
    drop(first);
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// A launch panics between its claim and its message: its dependent and its sharer are told, and the node
/// may be submitted again.
pub fn dropped_claim() {
    let ex = start(3, ToyEngine::gpu());
    let e = ex.clone();
    let others = std::sync::Arc::new(StdMutex::new(None));
    let o = others.clone();
    let ask = Ask::new(&ex, &[&node(1, 5, &[])]).before_send(move |_| {
        let dependent = submit(&e, 2, 10, &[1]).unwrap();
        let sharer = submit(&e, 1, 5, &[]).unwrap();
        *o.lock().unwrap() = Some((dependent, sharer));
        resume_unwind(Box::new("boom"));
    });
    let panicked = catch_unwind(AssertUnwindSafe(|| post_ask(&ex, ask)));
    assert!(panicked.is_err());
    let (dependent, sharer) = others.lock().unwrap().take().expect("submitted");
    assert_eq!(wait_async(&dependent), Outcome::Failed(ToyError::Failed));
    assert_eq!(wait_async(&sharer), Outcome::Failed(ToyError::NeverSent));
    drop((dependent, sharer));
    let again = submit(&ex, 1, 5, &[]).unwrap();
    assert_eq!(wait_async(&again), Outcome::Ready(5));
    drop(again);
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// Of two outputs one is cancelled, and a second thread shares the other: who comes for the first one
/// later finds its slot, or what it is made from.
pub fn given_up_beside() {
    let ex = start(2, ToyEngine::gpu());
    let tensors = [1, 2].map(|id| node(id, 5, &[]));
    let (store, other) = (ex.store().clone(), std::sync::Arc::new(StdMutex::new(None)));
    let o = other.clone();
    let ask = Ask::new(&ex, &tensors.each_ref()).before_send(move |_| {
        *o.lock().unwrap() = NodeStore::acquire(&store, 2, Lean::Any).held();
    });
    let both = post_ask(&ex, ask);
    let other = other.lock().unwrap().take().expect("claimed");
    let t = spawn(move || assert_eq!(wait_slot(other.slot()), Outcome::Ready(5)));
    let cancel = both.cancel();
    let origin = || tensors[0].has_origin();
    let met = slot_or_origin(ex.store(), 1, Lean::Any, origin);
    saw(match (met, cancel) {
        (Met::Slot, Cancel::Running | Cancel::Finished) => "ran",
        (Met::Origin, Cancel::Cancelled | Cancel::Shared | Cancel::Running) => "given up",
        other => panic!("{other:?}"),
    });
    t.join().unwrap();
    drop(both);
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// Cancelling what somebody else's fragment depends on does not cancel it.
pub fn cancel_vs_dependent() {
    let ex = start(2, ToyEngine::gpu());
    let first = submit(&ex, 1, 5, &[]).unwrap();
    let e = ex.clone();
    let held = NodeStore::acquire(ex.store(), 1, Lean::Any).held();
    assert!(held.is_some());
    let t = spawn(move || {
        let s = submit(&e, 2, 10, &[1]).unwrap();
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

/// A result that nobody refers to any more is freed while the owner closes.
pub fn release_vs_close() {
    let ex = start(1, ToyEngine::gpu());
    let s = submit(&ex, 1, 2, &[]).unwrap();
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
    let engine = ToyEngine::gpu();
    let left = std::sync::Arc::downgrade(&engine.runs()); // the engine's own is the one that stays
    let ex = start(1, engine);
    let s = submit(&ex, 1, 2, &[]).unwrap();
    let (e, l) = (ex.clone(), left.clone());
    let t = spawn(move || {
        e.abort();
        block_on(e.closed(), None).expect("no deadline");
        assert_eq!(l.strong_count(), 0, "closed, and the engine is still there");
    });
    shutdown(&ex);
    assert_eq!(
        left.strong_count(),
        0,
        "closed, and the engine is still there"
    );
    t.join().unwrap();
    saw_end(&end(&s), 2);
}

/// A wait for the owner's end that is dropped before leaves no waker behind.
pub fn dropped_closing() {
    let ex = start(1, ToyEngine::gpu());
    let (count, waker) = Count::counting();
    {
        let mut closed = pin!(ex.closed());
        let poll = closed.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(poll.is_pending(), "nobody closes it");
    }
    drop(waker);
    assert!(!count.has_wakers(), "a waker was left behind");
    shutdown(&ex);
    assert_eq!(count.woken(), 0);
}

/// Waits for two results: those that are given up leave nothing behind, and the last one waits for one result
/// after the other.
pub fn wait_for_two() {
    let ex = idle(1, ToyEngine::cpu());
    let (one, two) = (node(1, 1, &[]), node(2, 2, &[]));
    let both = post(&ex, &[&one, &two]);
    let (count, waker) = Count::counting();
    let mut wait = Wait::default();
    let poll = both.poll(&Context::from_waker(&waker), &mut wait);
    assert!(poll.is_pending());
    drop(waker);
    both.deregister(&mut wait);
    assert!(!count.has_wakers(), "a waker was left behind");
    let until = Deadline::after(Duration::from_millis(1)).expect("in range");
    assert!(!both.sleep(Some(&until)), "nobody drives");
    assert_eq!(both.outputs()[0].waiting(), 0, "a wait was left behind");
    let e = ex.clone();
    let t = spawn(move || e.step());
    assert_eq!(wait_async(&both), Outcome::Ready(1));
    assert_eq!(ends(&both), [Outcome::Ready(1), Outcome::Ready(2)]);
    t.join().unwrap();
    drop(both);
    closed(&ex, &[&one, &two]);
}
