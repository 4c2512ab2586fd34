//! The slot by itself: publishing, cancelling, withdrawing, refusing.

use crate::core::store::slot::{Cancel, Lean, Outcome, Released, Share, Slot};
use crate::runner::saw;
use crate::threads::spawn;
use crate::toy::*;

mod waits;

pub use waits::*;

/// Begins a slot and ends it with this value.
pub(super) fn publish(slot: &ToySlot, value: u32) {
    Slot::begin(slot).expect("pending").finish(Ok(value));
}

/// A look without waiting sees nothing or the whole value.
pub fn publish_vs_peek() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || publish(&s, 7));
    match peek(&slot) {
        None => saw("early"),
        Some(end) => {
            assert_eq!(end, Outcome::Ready(7));
            saw("late");
        }
    }
    t.join().unwrap();
}

/// One who finds a slot finished finds its value when it looks.
pub fn publish_vs_is_finished() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || publish(&s, 7));
    if slot.is_finished() {
        assert_eq!(peek(&slot), Some(Outcome::Ready(7)));
        saw("finished");
    } else {
        saw("not yet");
    }
    t.join().unwrap();
}

/// Cancelling and beginning race: one of them wins, and everybody agrees which.
pub fn cancel_vs_run() {
    let slot = slot();
    let (a, c) = (slot.clone(), slot.clone());
    let owner = spawn(move || match Slot::begin(&a) {
        Some(begun) => {
            begun.finish(Ok(7));
            true
        }
        None => false,
    });
    let canceller = spawn(move || c.cancel(true));
    let end = wait_slot(&slot);
    let ran = owner.join().unwrap();
    match (canceller.join().unwrap(), end) {
        (Cancel::Cancelled, Outcome::Cancelled) => {
            assert!(!ran, "cancelled, and run all the same");
            saw("cancelled");
        }
        (Cancel::Running, Outcome::Ready(7)) => {
            assert!(ran);
            saw("running");
        }
        (Cancel::Finished, Outcome::Ready(7)) => {
            assert!(ran);
            saw("finished");
        }
        other => panic!("they disagree: {other:?}"),
    }
}

/// Two submissions share a slot and both withdraw: it is cancelled by the second, whoever that
/// is, and never before.
pub fn two_cancel() {
    let slot = slot();
    assert!(slot.share(Lean::Any));
    let s = slot.clone();
    let t = spawn(move || s.cancel(false));
    let mine = slot.cancel(true);
    let other = t.join().unwrap();
    let mut both = [mine, other];
    both.sort_by_key(|c| *c == Cancel::Cancelled);
    assert_eq!(both, [Cancel::Shared, Cancel::Cancelled]);
    assert_eq!(peek(&slot), Some(Outcome::Cancelled));
    saw(if mine == Cancel::Cancelled {
        "mine last"
    } else {
        "other last"
    });
}

/// A submission withdraws while another one arrives: either it shares and the work goes on, or
/// it comes too late and knows.
pub fn cancel_vs_share() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || s.share(Lean::Any));
    let cancel = slot.cancel(true);
    match (t.join().unwrap(), cancel) {
        (true, Cancel::Shared) => {
            assert_eq!(peek(&slot), None, "cancelled, although somebody shares it");
            saw("shared");
        }
        (false, Cancel::Cancelled) => saw("too late"),
        other => panic!("they disagree: {other:?}"),
    }
}

/// The last reference goes while the owner begins: the work is withdrawn or run, and not both.
pub fn withdraw_vs_begin() {
    let slot = slot();
    let s = slot.clone();
    assert_eq!(slot.release(Share::Node), Released::Held); // the node
    let t = spawn(move || match Slot::begin(&s) {
        Some(begun) => {
            begun.finish(Ok(7));
            true
        }
        None => false,
    });
    let released = slot.release(Share::Claim);
    let ran = t.join().unwrap();
    match released {
        Released::Withdrawn => assert!(!ran, "withdrawn, and run all the same"),
        Released::Running | Released::Ended => assert!(ran, "nobody withdrew it"),
        Released::Held => panic!("that was the last reference"),
    }
    assert!(
        !slot.share(Lean::Any),
        "a slot that nobody refers to came back"
    );
    saw(if ran { "ran" } else { "withdrawn" });
}

/// Two owners let go: exactly one of them is the last.
pub fn release_twice() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || s.release(Share::Node));
    let mine = slot.release(Share::Claim);
    let both = [mine, t.join().unwrap()];
    let last = both.iter().filter(|r| **r == Released::Withdrawn).count();
    assert_eq!(last, 1, "{both:?}");
    saw(if mine == Released::Held {
        "mine first"
    } else {
        "other first"
    });
}

/// The types under test can be shared, whatever they carry.
#[allow(dead_code)]
fn shared() {
    fn is<T: Send + Sync>() {}
    is::<crate::core::store::slot::Slot<Toy>>();
}

/// What has been issued ends with another result than the one that was issued: a look finds nothing or
/// the last one.
pub fn issue_vs_peek() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || {
        let mut begun = Slot::begin(&s).expect("pending");
        begun.issue(Ok(6));
        begun.finish(Ok(7));
    });
    match peek(&slot) {
        None => saw("early"),
        Some(end) => {
            assert_eq!(end, Outcome::Ready(7), "seen before it was confirmed");
            saw("late");
        }
    }
    t.join().unwrap();
}

/// The launch that claimed a slot fails: who waits for it gets the error, and a later submission has the
/// node computed anew.
pub fn refuse_vs_await() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || Slot::refuse(&s, ToyError::NeverSent));
    assert_eq!(wait_slot(&slot), Outcome::Failed(ToyError::NeverSent));
    assert!(!slot.share(Lean::Any), "a refused slot is shared");
    t.join().unwrap();
}

/// The launch that claimed a slot fails while the owner ends everything: the slot ends by one of the
/// two.
pub fn refuse_vs_close() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || Slot::refuse(&s, ToyError::NeverSent));
    slot.close();
    t.join().unwrap();
    match peek(&slot) {
        Some(Outcome::Failed(ToyError::NeverSent)) => saw("refused"),
        Some(Outcome::Closed) => saw("closed"),
        other => panic!("{other:?}"),
    }
}

/// A fragment that leans only on what is older looks at a younger claim: it finds it begun or not at all.
pub fn lean_vs_begin() {
    let slot = slot(); // of claim 1
    let s = slot.clone();
    let t = spawn(move || publish(&s, 7));
    let younger = slot.share(Lean::Older(1));
    if younger {
        assert!(Slot::begin(&slot).is_none(), "leaned on what may wait");
        saw("begun");
    } else {
        saw("passed over");
    }
    assert!(slot.share(Lean::Older(2)), "an older claim is leaned on");
    t.join().unwrap();
}

/// More submissions refer to a slot than its word may count: the process ends, for which a model panics.
#[cfg(any(candlewick_loom, candlewick_shuttle))]
pub fn too_many_references() {
    const MANY: usize = 40;
    let share = |slot: &ToySlot, times: usize| {
        let all = || (0..times).all(|_| slot.share(Lean::Any));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(all)).is_err()
    };
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || share(&s, 1));
    assert!(share(&slot, MANY), "a count can wrap");
    t.join().unwrap();
}

/// On real threads nothing is explored: it would take too many references.
#[cfg(not(any(candlewick_loom, candlewick_shuttle)))]
pub fn too_many_references() {}
