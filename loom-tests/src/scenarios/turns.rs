//! Whose turn it is, and what comes too late to have one.

use crate::runner::saw;
use crate::toy::*;
use candlewick::store::slot::{Cancel, Outcome, Slot};
use candlewick::store::tag::Tag;
use candlewick::sync::thread;

fn end(ex: &Ex, nodes: &[u64]) {
    shutdown(ex);
    nodes.iter().for_each(|&id| ex.store().release_node(id));
    assert_eq!(ex.store().nodes(), 0, "a node without references is left");
}

fn of(producer: u64) -> Tag {
    Tag {
        producer,
        ..Tag::default()
    }
}

/// Nobody but the submission wants it, or somebody does: it is given up, or it goes on. Whoever
/// shares it never sees it given up.
pub fn expire_vs_share() {
    let slot = tagged_slot(late());
    let s = slot.clone();
    let t = thread::spawn("t".into(), move || s.share()).expect("a thread");
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

/// Who waits for what is given up is told.
pub fn expire_vs_await() {
    let slot = tagged_slot(late());
    let s = slot.clone();
    let t = thread::spawn("t".into(), move || {
        let mut key = None;
        let poll = std::future::poll_fn(|cx| s.poll(cx, &mut key));
        candlewick::actor::park::block_on(poll, None).expect("no deadline");
        if let Some(key) = key {
            s.deregister(key);
        }
        assert_eq!(peek(&s), Some(Outcome::Expired));
    });
    assert!(slot.expire(), "nobody else wants it");
    assert!(
        Slot::begin(&slot).is_none(),
        "given up, and begun all the same"
    );
    t.expect("a thread").join().unwrap();
}

/// Cancelled or too late: one of the two.
pub fn expire_vs_cancel() {
    let slot = tagged_slot(late());
    let s = slot.clone();
    let t = thread::spawn("t".into(), move || s.cancel()).expect("a thread");
    let expired = slot.expire();
    match (t.join().unwrap(), expired) {
        (Cancel::Cancelled, false) => saw("cancelled"),
        (Cancel::Finished, true) => saw("too late"),
        other => panic!("they disagree: {other:?}"),
    }
}

/// Somebody submits what another's deadline has passed for: he gets it, whatever the other gets.
pub fn late_vs_submit() {
    let ex = start(4, ToyEngine::cpu());
    let first = submit_tagged(&ex, 1, 5, &[], false, late()).unwrap();
    let e = ex.clone();
    let other = thread::spawn("t".into(), move || {
        let second = submit(&e, 1, 5, &[], false).unwrap();
        assert_eq!(wait_async(&second), Outcome::Ready(5));
    });
    match wait_async(&first) {
        Outcome::Expired => saw("expired"),
        Outcome::Ready(5) => saw("ran"),
        other => panic!("{other:?}"),
    }
    other.expect("a thread").join().unwrap();
    drop(first);
    end(&ex, &[1]);
}

/// What depends on late work has it done.
pub fn late_vs_dependent() {
    let ex = start(4, ToyEngine::cpu());
    let first = submit_tagged(&ex, 1, 5, &[], true, late()).unwrap();
    let e = ex.clone();
    let other =
        thread::spawn(
            "t".into(),
            move || match candlewick::store::node_store::NodeStore::acquire(e.store(), 1) {
                Some(held) => {
                    let mut wait = None;
                    let poll = std::future::poll_fn(|cx| e.poll(held.slot(), cx, &mut wait));
                    candlewick::actor::park::block_on(poll, None).expect("no deadline");
                    if let Some(key) = wait {
                        held.slot().deregister(key);
                    }
                    assert_eq!(peek(held.slot()), Some(Outcome::Ready(5)));
                    saw("ran");
                }
                None => saw("expired"),
            },
        );
    let end_of_first = wait_async(&first);
    assert!(matches!(end_of_first, Outcome::Expired | Outcome::Ready(5)));
    other.expect("a thread").join().unwrap();
    drop(first);
    end(&ex, &[1]);
}

/// A producer queues many, another one: no more than two begin before it, of those that had not
/// begun when it was queued: the one that was chosen already, and one more.
pub fn flood_vs_single() {
    let engine = ToyEngine::cpu();
    let (order, runs) = (engine.order(), engine.runs());
    let ex = start(8, engine);
    let e = ex.clone();
    let (runs_then, single) = (runs.clone(), 9);
    let other = thread::spawn("t".into(), move || {
        let submission = submit_tagged(&e, 9, single, &[], false, of(2)).unwrap();
        let begun = runs_then.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(wait_async(&submission), Outcome::Ready(single));
        begun
    });
    let flood: Vec<_> = (1..=3)
        .map(|id| submit_tagged(&ex, id, id as u32, &[], false, of(1)).unwrap())
        .collect();
    for (id, submission) in (1..).zip(&flood) {
        assert_eq!(wait_async(submission), Outcome::Ready(id));
    }
    let begun = other.expect("a thread").join().unwrap();
    let order = order.lock().unwrap().clone();
    let place = order.iter().position(|&add| add == single).unwrap();
    assert!(
        place <= begun + 2,
        "overtaken: {order:?}, {begun} had begun"
    );
    let own: Vec<u32> = order.into_iter().filter(|&add| add != single).collect();
    assert_eq!(own, [1, 2, 3], "a producer's own are in their order");
    saw(if place == 3 { "last" } else { "between" });
    drop(flood);
    end(&ex, &[1, 2, 3, 9]);
}
