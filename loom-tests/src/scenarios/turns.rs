//! Whose turn it is, and what comes too late to have one.

use crate::core::store::node_store::NodeStore;
use crate::core::store::slot::{Cancel, Lean, Outcome, Released, Share, Slot};
use crate::core::store::tag::Priority;
use crate::runner::saw;
use crate::threads::spawn;
use crate::toy::*;
use std::sync::atomic::Ordering::SeqCst;

/// A deadline passes while somebody else comes for the result: it is given up before, or it is shared
/// and goes on. Whoever shares it never sees it given up.
pub fn expire_vs_share() {
    let slot = tagged_slot(late());
    let s = slot.clone();
    let t = spawn(move || s.share(Lean::Any));
    let expired = slot.expire();
    match (t.join().unwrap(), expired) {
        (true, false) => {
            assert_eq!(peek(&slot), None, "given up, although somebody shares it");
            saw("shared");
        }
        (false, true) => saw("too late"),
        other => panic!("they disagree: {other:?}"),
    }
}

/// A deadline passes while the executor closes: it is too late or closed, one of the two.
pub fn expire_vs_close() {
    let slot = tagged_slot(late());
    let s = slot.clone();
    let t = spawn(move || s.close());
    let expired = slot.expire();
    t.join().unwrap();
    match (peek(&slot), expired) {
        (Some(Outcome::Closed), false) => saw("closed"),
        (Some(Outcome::Expired), true) => saw("too late"),
        other => panic!("they disagree: {other:?}"),
    }
}

/// Another submission wants a result and lets go of it: its deadline holds again, at the latest from
/// then on.
pub fn interest_comes_and_goes() {
    let slot = tagged_slot(late());
    let s = slot.clone();
    let t = spawn(move || {
        if !s.share(Lean::Any) {
            return saw("too late");
        }
        assert!(!s.expire(), "given up, although it is shared");
        assert_eq!(s.release(Share::Interest), Released::Held);
    });
    let expired = slot.expire();
    t.join().unwrap();
    if !expired {
        saw("shared");
        assert!(slot.expire(), "a deadline was lifted for good");
    }
    assert_eq!(peek(&slot), Some(Outcome::Expired));
}

/// The submission with the deadline lets go, and another one wants it: it does not expire any more.
pub fn claimant_lets_go() {
    let slot = tagged_slot(late());
    assert!(slot.share(Lean::Any));
    let s = slot.clone();
    let t = spawn(move || s.expire());
    saw(match slot.cancel(true) {
        Cancel::Shared => "let go",
        other => panic!("{other:?}"),
    });
    assert!(!t.join().unwrap(), "given up, although it is shared");
    assert!(!slot.expire(), "another's result was given up");
    assert_eq!(slot.cancel(false), Cancel::Cancelled);
}

/// The submission with the deadline is dropped, and another one wants it: it does not expire any more.
pub fn claimant_is_dropped() {
    let slot = tagged_slot(late());
    assert!(slot.share(Lean::Any));
    let s = slot.clone();
    let t = spawn(move || s.expire());
    assert_eq!(slot.release(Share::Claim), Released::Held);
    assert!(!t.join().unwrap(), "given up, although it is shared");
    assert!(!slot.expire(), "another's result was given up");
    assert_eq!(slot.cancel(false), Cancel::Cancelled);
}

/// Who waits for what is given up is told.
pub fn expire_vs_await() {
    let slot = tagged_slot(late());
    let s = slot.clone();
    let t = spawn(move || assert_eq!(wait_slot(&s), Outcome::Expired));
    assert!(slot.expire(), "nobody else wants it");
    assert!(
        Slot::begin(&slot).is_none(),
        "given up, and begun all the same"
    );
    t.join().unwrap();
}

/// A deadline passes while the submission is cancelled: it is too late or cancelled, one of the two.
pub fn expire_vs_cancel() {
    let slot = tagged_slot(late());
    let s = slot.clone();
    let t = spawn(move || s.cancel(true));
    let expired = slot.expire();
    match (t.join().unwrap(), expired) {
        (Cancel::Cancelled, false) => saw("cancelled"),
        (Cancel::Finished, true) => saw("too late"),
        other => panic!("they disagree: {other:?}"),
    }
}

/// A thread submits a node while the deadline of another submission of it passes: that thread gets the
/// result, whatever the other one gets.
pub fn late_vs_submit() {
    let ex = start(4, ToyEngine::cpu());
    let first = submit_tagged(&ex, 1, 5, &[], late()).unwrap();
    let e = ex.clone();
    let other = spawn(move || {
        let second = submit(&e, 1, 5, &[]).unwrap();
        assert_eq!(wait_async(&second), Outcome::Ready(5));
    });
    match wait_async(&first) {
        Outcome::Expired => saw("expired"),
        Outcome::Ready(5) => saw("ran"),
        other => panic!("{other:?}"),
    }
    other.join().unwrap();
    drop(first);
    shutdown(&ex);
    nothing_left(&ex, [1]);
}

/// The handle of late work is dropped while its node lives, and another thread submits the node: the
/// work expires, unless that thread wants it.
pub fn dropped_late_vs_submit() {
    let ex = start(4, ToyEngine::cpu());
    let sub = submit_tagged(&ex, 1, 5, &[], late());
    drop(sub.expect("open"));
    let e = ex.clone();
    let other = spawn(move || {
        let second = submit(&e, 1, 5, &[]).unwrap();
        let end = wait_async(&second);
        assert_eq!(end, Outcome::Ready(5), "another's result was given up");
    });
    other.join().unwrap();
    saw(match (ex.counts().expired, ex.counts().run) {
        (1, 1) => "expired",
        (0, 1) => "shared",
        other => panic!("{other:?}"),
    });
    shutdown(&ex);
    nothing_left(&ex, [1]);
}

/// The handle of late work is dropped while its node lives: the work is not done.
pub fn dropped_late() {
    let ex = start(4, ToyEngine::cpu());
    let sub = submit_tagged(&ex, 1, 5, &[], late());
    drop(sub.expect("open"));
    shutdown(&ex);
    nothing_left(&ex, [1]);
    let (run, expired) = (ex.counts().run, ex.counts().expired);
    assert_eq!((run, expired), (0, 1), "ran after its deadline");
}

/// A dependent of late work has it done if it comes in time.
pub fn late_vs_dependent() {
    let ex = start(4, ToyEngine::cpu());
    let first = submit_tagged(&ex, 1, 5, &[], late()).unwrap();
    let e = ex.clone();
    let other = spawn(move || {
        let Some(held) = NodeStore::acquire(e.store(), 1, Lean::Any).held() else {
            return saw("expired");
        };
        assert_eq!(wait_slot(held.slot()), Outcome::Ready(5));
        saw("ran");
    });
    let end = wait_async(&first);
    assert!(matches!(end, Outcome::Expired | Outcome::Ready(5)));
    other.join().unwrap();
    drop(first);
    shutdown(&ex);
    nothing_left(&ex, [1]);
}

/// A producer has queued many fragments, and another one queues one while they are run. Of those that
/// had not begun by then no more than two begin before it: the one that was chosen already, and one
/// more.
pub fn flood_vs_single() {
    let engine = ToyEngine::cpu();
    let (order, runs) = (engine.order(), engine.runs());
    let ex = idle(8, engine);
    let flood: Vec<_> = (1..=4)
        .map(|id| submit_tagged(&ex, id, id as u32, &[], made_by(1)).unwrap())
        .collect();
    let e = ex.clone();
    let (runs_then, single) = (runs.clone(), 9);
    let other = spawn(move || {
        let submission = submit_tagged(&e, 9, single, &[], made_by(2)).unwrap();
        (submission, runs_then.load(SeqCst))
    });
    ex.step();
    let (submission, begun) = other.join().unwrap();
    ex.step();
    assert_eq!(end(&submission), Outcome::Ready(single));
    for (id, submission) in (1..).zip(&flood) {
        assert_eq!(end(submission), Outcome::Ready(id));
    }
    let order = order.lock().unwrap().clone();
    let place = order.iter().position(|&add| add == single).unwrap();
    assert!(
        place <= begun + 2,
        "overtaken: {order:?}, {begun} had begun"
    );
    let own: Vec<u32> = order.into_iter().filter(|&add| add != single).collect();
    assert_eq!(own, [1, 2, 3, 4], "a producer's own are in their order");
    saw(if place == 4 { "last" } else { "between" });
    drop((flood, submission));
    step_down(&ex);
    nothing_left(&ex, [1, 2, 3, 4, 9]);
}

/// While an operation runs, what was received as background work is asked for urgently: it runs next.
pub fn lift_received() {
    let engine = ToyEngine::cpu();
    let order = engine.order();
    let ex = idle(8, engine);
    let background = || urgent(Priority::Background);
    let e = ex.clone();
    let joined = std::sync::Arc::new(std::sync::Mutex::new(None));
    let j = joined.clone();
    let ask = Ask::new(&ex, &[&node(1, 1, &[])]).hook(move || {
        *j.lock().unwrap() = submit_tagged(&e, 3, 3, &[], urgent(Priority::Interactive));
    });
    let first = post_ask(&ex, ask);
    let second = submit(&ex, 2, 2, &[]).unwrap();
    let third = submit_tagged(&ex, 3, 3, &[], background()).unwrap();
    let e = ex.clone();
    let t = spawn(move || submit_tagged(&e, 4, 4, &[], background()).unwrap());
    ex.step();
    let fourth = t.join().unwrap();
    ex.step();
    assert_eq!(order.lock().unwrap()[..3], [1, 3, 2], "not lifted");
    let joined = joined.lock().unwrap().take().expect("open");
    assert_eq!(end(&joined), Outcome::Ready(3));
    drop((first, second, third, fourth, joined));
    step_down(&ex);
    nothing_left(&ex, [1, 2, 3, 4]);
}
