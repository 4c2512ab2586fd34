//! Work that is withdrawn before it begins: its permit, its message, and what others find of it.

use crate::core::actor::admission::Refused;
use crate::core::actor::gate::Gate;
use crate::core::panics::contain;
use crate::core::store::slot::{Cancel, Outcome};
use crate::core::store::tag::Tag;
use crate::core::store::task::{Received, Task};
use crate::core::sync::Arc;
use crate::runner::saw;
use crate::threads::{post_beside, spawn};
use crate::toy::*;
use std::sync::atomic::{AtomicUsize as StdAtomic, Ordering::SeqCst};

/// Submits node 1, whose work is counted.
fn counted(ex: &Ex) -> (Sub, std::sync::Arc<StdAtomic>) {
    let (ask, count) = Ask::new(ex, &[&node(1, 2, &[])]).counted();
    (post_ask(ex, ask), count)
}

/// The last interest goes while the owner forms its batch: withdrawn or run, and never a leak.
pub fn withdraw_submitted() {
    let engine = ToyEngine::gpu();
    let runs = engine.runs();
    let ex = start(1, engine);
    let s = submit(&ex, 1, 2, &[]).unwrap();
    ex.store().release_node(1);
    drop(s);
    shutdown(&ex);
    nothing_left(&ex, []);
    let counts = ex.counts();
    assert_eq!(counts.run + counts.cancelled, 1, "lost: {counts:?}");
    assert_eq!(counts.run as usize, runs.load(SeqCst));
    saw(if counts.run == 1 { "ran" } else { "withdrawn" });
}

/// Two submissions of one node are withdrawn, one of them twice, before the owner has come: the
/// last one cancels it, its work is gone at once, and it is not run.
pub fn two_withdraw() {
    let engine = ToyEngine::gpu();
    let runs = engine.runs();
    let ex = idle(1, engine);
    let (first, count) = counted(&ex);
    let second = submit(&ex, 1, 2, &[]).unwrap(); // finds the claim, and needs no place
    let t = spawn(move || {
        let cancel = first.cancel();
        assert_ne!(first.cancel(), Cancel::Cancelled, "withdrawn twice");
        drop(first);
        cancel
    });
    let mine = second.cancel();
    let mut both = [mine, t.join().unwrap()];
    both.sort_by_key(|c| *c == Cancel::Cancelled);
    assert_eq!(
        both,
        [Cancel::Shared, Cancel::Cancelled],
        "the last of them did not withdraw it"
    );
    assert_eq!(end(&second), Outcome::Cancelled);
    assert_eq!(
        count.load(SeqCst),
        0,
        "the work of a cancelled fragment is still there"
    );
    assert_eq!(ex.gate().admission.queued(), 0, "it still takes a place");
    drop(second);
    step_down(&ex);
    assert_eq!(runs.load(SeqCst), 0);
    assert_eq!(ex.counts().cancelled, 1);
    nothing_left(&ex, [1]);
    saw(if mine == Cancel::Cancelled {
        "mine last"
    } else {
        "other last"
    });
}

/// The payload goes while its message is received: its permit comes back once, at once.
pub fn withdraw_vs_receive() {
    let gate = Gate::new(1, 9);
    let task = Arc::new(Task::<Toy>::new(1, Tag::default()));
    let permit = Gate::try_admit(&gate, 1).expect("room");
    assert!(task.fill(payload(Some(permit))));
    let (t, g) = (task.clone(), gate.clone());
    let withdrawer = spawn(move || {
        drop(t.output_gone());
        assert_eq!(g.admission.queued(), 0, "a permit was kept");
    });
    let received = task.receive();
    withdrawer.join().unwrap();
    match received {
        Received::Work => saw("work"),
        Received::Husk { permit } => {
            assert!(permit.is_none(), "the channel had a place for it");
            saw("husk");
        }
    }
    assert_eq!(gate.admission.queued(), 0, "a permit is missing");
    assert!(task.take().is_none());
}

/// Messages without permits take places of their own: with a permit, sending never fails, although the
/// channel may answer from a stale look. The channel has two places here.
/// ```text
/// caller: send 1, withdraw it, send 2, withdraw it, send 3
/// owner:  receive 1, count one husk less, receive 2
/// ```
pub fn husk_means_room() {
    let ex = idle(1, ToyEngine::cpu());
    let first = submit(&ex, 1, 1, &[]).unwrap();
    assert_eq!(first.cancel(), Cancel::Cancelled);
    let second = submit(&ex, 2, 2, &[]).expect("its place is free");
    let e = ex.clone();
    let owner = spawn(move || e.step());
    let cancel = second.cancel();
    match ex.try_admit(0) {
        Ok(permit) => {
            let third = submit_with(&ex, Ok(permit), 3, 3, &[]).expect("a good graph");
            saw("room");
            owner.join().unwrap();
            ex.step();
            assert_eq!(end(&third), Outcome::Ready(3));
        }
        Err(Refused::Full) => {
            saw("full");
            owner.join().unwrap();
        }
        Err(Refused::Closed) => panic!("not closed"),
    }
    assert!(matches!(
        cancel,
        Cancel::Cancelled | Cancel::Running | Cancel::Finished
    ));
    drop((first, second));
    step_down(&ex);
    nothing_left(&ex, [1, 2, 3]);
}

/// Work is withdrawn while the owner comes for it, before or after that has its message: the place of the
/// message is free then, so that the permit of the next one that is withdrawn comes back at once.
pub fn husks_are_counted() {
    let ex = idle(1, ToyEngine::cpu());
    let first = submit(&ex, 1, 1, &[]).unwrap();
    let e = ex.clone();
    let owner = spawn(move || e.step());
    let cancel = first.cancel();
    owner.join().unwrap();
    ex.step();
    saw(match cancel {
        Cancel::Cancelled => "withdrawn",
        _ => "ran",
    });
    let second = submit(&ex, 2, 2, &[]).expect("its place is free");
    assert_eq!(second.cancel(), Cancel::Cancelled);
    assert_eq!(ex.gate().admission.queued(), 0, "a husk is still counted");
    drop((first, second));
    step_down(&ex);
    nothing_left(&ex, [1, 2]);
}

/// As many are withdrawn as there are places beside the permits', and one more, whose permit stays with
/// its message: who waits for that place gets it when the owner comes.
pub fn kept_permit_comes_back() {
    let ex = start(1, ToyEngine::gpu());
    for id in [1, 2] {
        let s = submit(&ex, id, 2, &[]).unwrap();
        let cancel = s.cancel();
        saw(if cancel == Cancel::Cancelled {
            "withdrawn"
        } else {
            "too late"
        });
    }
    let third = submit(&ex, 3, 3, &[]).unwrap();
    assert_eq!(wait_async(&third), Outcome::Ready(3));
    drop(third);
    shutdown(&ex);
    nothing_left(&ex, [1, 2, 3]);
}

/// One place, and its work is withdrawn without the owner: another caller that stands in line for it gets
/// in.
pub fn withdraw_vs_line() {
    let ex = idle(1, ToyEngine::cpu());
    let (first, count) = counted(&ex);
    let e = ex.clone();
    let t = spawn(move || submit(&e, 2, 3, &[]).unwrap());
    assert_eq!(first.cancel(), Cancel::Cancelled);
    assert_eq!(count.load(SeqCst), 0);
    let second = t.join().unwrap(); // before the owner has come
    ex.step();
    assert_eq!(end(&second), Outcome::Ready(3));
    drop((first, second));
    step_down(&ex);
    nothing_left(&ex, [1, 2]);
}

/// A launch that lost an output to another one is withdrawn: its work, for the others, is gone at once.
pub fn withdraw_after_losing() {
    let ex = idle(2, ToyEngine::cpu());
    let (one, two) = (node(1, 1, &[]), node(2, 2, &[]));
    let t = post_beside(&ex, &[&one]);
    let (ask, count) = Ask::new(&ex, &[&two, &one]).counted();
    let both = post_ask(&ex, ask);
    let other = t.join().unwrap();
    assert_eq!(both.cancel(), Cancel::Shared, "another one wants node 1");
    let [second, first] = both.outputs() else {
        panic!("two were asked for")
    };
    if first.number() == second.number() {
        saw("both won");
    } else {
        assert_eq!(count.load(SeqCst), 0, "the work is still there");
        assert_eq!(ex.gate().admission.queued(), 1, "it still takes a place");
        saw("one lost");
    }
    ex.step();
    assert_eq!(end(&other), Outcome::Ready(1));
    drop((both, other));
    step_down(&ex);
    nothing_left(&ex, [1, 2]);
}

/// Work is withdrawn while the executor closes: the owner is told of the last permit, and leaves.
pub fn withdraw_vs_close() {
    let ex = start(1, ToyEngine::gpu());
    let s = submit(&ex, 1, 2, &[]).unwrap();
    let t = spawn(move || s.cancel());
    shutdown(&ex);
    saw(match t.join().unwrap() {
        Cancel::Cancelled => "withdrawn",
        _ => "ran",
    });
    nothing_left(&ex, [1]);
}

/// What a fragment reads is withdrawn with it, while the owner comes for both: no permit is missing, and
/// no node is left.
pub fn withdraw_chain() {
    let ex = start(2, ToyEngine::gpu());
    let first = submit(&ex, 1, 2, &[]).unwrap();
    let second = submit(&ex, 2, 3, &[1]).unwrap();
    ex.store().release_node(1);
    ex.store().release_node(2);
    drop(first); // the second still reads it
    drop(second);
    shutdown(&ex);
    nothing_left(&ex, []);
    let counts = ex.counts();
    assert_eq!(counts.run + counts.cancelled, 2, "lost: {counts:?}");
    saw(match counts.run {
        0 => "withdrawn",
        1 => "one ran",
        _ => "ran",
    });
}

/// A submission is withdrawn while another thread waits for it, and its work panics when it is dropped: the one who
/// waits has been told by then.
pub fn withdraw_vs_await() {
    let ex = idle(1, ToyEngine::cpu());
    let ask = Ask::new(&ex, &[&node(1, 2, &[])]).holding(Bomb(0));
    let sub = Arc::new(post_ask(&ex, ask));
    let s = sub.clone();
    let t = spawn(move || assert_eq!(wait_async(&s), Outcome::Cancelled));
    assert!(
        contain(|| sub.cancel()).is_none(),
        "the panic is the canceller's"
    );
    t.join().unwrap();
    drop(sub);
    step_down(&ex);
    nothing_left(&ex, [1]);
}

/// A submission of two outputs is withdrawn, and the first one's work panics when it is dropped: whoever waits for
/// the second has been told by then.
///
/// ```text
///   T1                           T2: wait for x and y
///   withdraw x
///                                x has ended; y: on the list
///   withdraw y; wake those who
///   wait; drop x's work: panic
/// ```
pub fn withdraw_two_vs_await() {
    let ex = idle(2, ToyEngine::cpu());
    let (one, two) = (node(1, 1, &[]), node(2, 2, &[]));
    let first = post_ask(&ex, Ask::new(&ex, &[&one]).holding(Bomb(0)));
    let both = Arc::new(post(&ex, &[&one, &two])); // joins the first, and claims the second
    drop(first);
    let b = both.clone();
    let t = spawn(move || assert_eq!(wait_async(&b), Outcome::Cancelled));
    assert!(contain(|| both.cancel()).is_none());
    t.join().unwrap();
    drop(both);
    step_down(&ex);
    nothing_left(&ex, [1, 2]);
}

/// A submission of two outputs is dropped, which nobody else refers to, and the first one's work panics when it is
/// dropped: the second is withdrawn all the same, or has run.
pub fn drop_two_vs_owner() {
    let engine = ToyEngine::cpu();
    let ex = idle(2, engine);
    let (one, two) = (node(1, 1, &[]), node(2, 2, &[]));
    let first = post_ask(&ex, Ask::new(&ex, &[&one]).holding(Bomb(0)));
    let both = post(&ex, &[&one, &two]);
    drop(first);
    for id in [1, 2] {
        ex.store().release_node(id);
    }
    let e = ex.clone();
    let t = spawn(move || e.step());
    saw(match contain(|| drop(both)) {
        None => "panicked",
        Some(()) => "ran",
    });
    t.join().unwrap();
    step_down(&ex);
    nothing_left(&ex, []);
}
