//! The slot by itself: publishing, waiting, cancelling, withdrawing.

use crate::core::actor::park::block_on;
use crate::core::store::slot::{Cancel, Lean, Outcome, Released, Share, Slot};
use crate::core::sync::Deadline;
use crate::runner::saw;
use crate::threads::spawn;
use crate::toy::{End, Toy, ToyError, ToySlot, peek, slot};
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize as StdAtomic, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

fn publish(slot: &ToySlot, value: u32) {
    Slot::begin(slot).expect("pending").finish(Ok(value));
}

fn wait(slot: &ToySlot) -> End {
    let mut key = None;
    block_on(poll_fn(|cx| slot.poll(cx, &mut key)), None).expect("no deadline");
    peek(slot).expect("it has ended")
}

/// A waker that counts, without touching the model.
struct Count(StdAtomic);
impl Wake for Count {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}
fn counting() -> (std::sync::Arc<Count>, Waker) {
    let count = std::sync::Arc::new(Count(StdAtomic::new(0)));
    (count.clone(), Waker::from(count))
}

/// ```text
/// owner:  begin, write, publish, wake
/// waiter: poll, register, look again, sleep
/// ```
/// No wake-up is lost, and the value is whole.
pub fn publish_vs_await() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || publish(&s, 7));
    assert_eq!(wait(&slot), Outcome::Ready(7));
    t.join().unwrap();
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

/// `is_finished`, and then a look that must find it.
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

/// Two waiters are both woken.
pub fn two_waiters() {
    let slot = slot();
    let (a, b) = (slot.clone(), slot.clone());
    let t1 = spawn(move || publish(&a, 7));
    let t2 = spawn(move || assert_eq!(wait(&b), Outcome::Ready(7)));
    assert_eq!(wait(&slot), Outcome::Ready(7));
    t1.join().unwrap();
    t2.join().unwrap();
}

/// Cancelling and beginning race: one wins, everybody agrees.
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
    let end = wait(&slot);
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

/// The last reference goes while the owner begins: withdrawn or run, not both.
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

/// A future that moved to another task between polls is woken there, not here.
pub fn waker_replaced() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || publish(&s, 7));
    let mut key = None;
    let (_, waker) = counting();
    let first = slot.poll(&Context::from_waker(&waker), &mut key);
    saw(if first.is_pending() {
        "moved while pending"
    } else {
        "was ready"
    });
    if first.is_pending() {
        block_on(poll_fn(|cx| slot.poll(cx, &mut key)), None).expect("no deadline");
        assert_eq!(peek(&slot), Some(Outcome::Ready(7)));
    }
    t.join().unwrap();
}

/// Dropping a wait leaves nothing behind and disturbs no other waiter.
pub fn drop_while_publishing() {
    let slot = slot();
    let (a, b) = (slot.clone(), slot.clone());
    let (count, waker) = counting();
    let mut key = None;
    assert!(
        slot.poll(&Context::from_waker(&waker), &mut key)
            .is_pending()
    );
    drop(waker);
    let t1 = spawn(move || publish(&a, 7));
    let t2 = spawn(move || assert_eq!(wait(&b), Outcome::Ready(7)));
    slot.deregister(key.take().unwrap());
    t1.join().unwrap();
    t2.join().unwrap();
    assert_eq!(slot.waiting(), 0);
    assert_eq!(
        std::sync::Arc::strong_count(&count),
        1,
        "a waker was left behind"
    );
    saw(if count.0.load(SeqCst) == 0 {
        "not woken"
    } else {
        "woken"
    });
}

/// A wait that is dropped before anything happens takes its waker with it.
pub fn drop_before_publish() {
    let slot = slot();
    let (count, waker) = counting();
    let mut key = None;
    assert!(
        slot.poll(&Context::from_waker(&waker), &mut key)
            .is_pending()
    );
    drop(waker);
    let s = slot.clone();
    let t = spawn(move || s.waiting());
    slot.deregister(key.take().unwrap());
    saw(if t.join().unwrap() == 0 {
        "gone"
    } else {
        "there"
    });
    assert_eq!(
        std::sync::Arc::strong_count(&count),
        1,
        "a waker was left behind"
    );
    publish(&slot, 7);
    assert_eq!(count.0.load(SeqCst), 0);
}

/// A waker that panics costs nobody else their wake-up, and not the owner its thread.
pub fn waker_panics() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: std::sync::Arc<Self>) {
            std::panic::resume_unwind(Box::new("boom"));
        }
    }
    let slot = slot();
    let s = slot.clone();
    let bomb = Waker::from(std::sync::Arc::new(Bomb));
    let mut key = None;
    assert!(
        slot.poll(&Context::from_waker(&bomb), &mut key)
            .is_pending()
    );
    let t = spawn(move || publish(&s, 7));
    assert_eq!(wait(&slot), Outcome::Ready(7));
    t.join().unwrap();
}

/// The owner stops between beginning and finishing: the waiter is told.
pub fn abandoned() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || drop(Slot::begin(&s)));
    assert_eq!(wait(&slot), Outcome::Failed(ToyError::OwnerLost));
    t.join().unwrap();
}

/// The executor closes while somebody begins to wait.
pub fn close_vs_await() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || s.close());
    assert_eq!(wait(&slot), Outcome::Closed);
    t.join().unwrap();
}

/// A wait with a time limit ends by one or the other, and can be taken up again.
pub fn timed_wait() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || publish(&s, 7));
    let deadline = Deadline::after(Duration::from_millis(1)).expect("in range");
    let mut key = None;
    let done = block_on(poll_fn(|cx| slot.poll(cx, &mut key)), Some(&deadline));
    saw(if done.is_some() {
        "in time"
    } else {
        "timed out"
    });
    block_on(poll_fn(|cx| slot.poll(cx, &mut key)), None).expect("no deadline");
    assert_eq!(peek(&slot), Some(Outcome::Ready(7)));
    t.join().unwrap();
}

/// The types under test can be shared, whatever they carry.
#[allow(dead_code)]
fn shared() {
    fn is<T: Send + Sync>() {}
    is::<crate::core::store::slot::Slot<Toy>>();
}

/// A wait that finds the end when it looks again takes its waker with it.
pub fn poll_vs_publish() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || publish(&s, 7));
    let (count, waker) = counting();
    let mut key = None;
    let poll = slot.poll(&Context::from_waker(&waker), &mut key);
    drop(waker);
    if poll.is_ready() {
        assert_eq!(
            std::sync::Arc::strong_count(&count),
            1,
            "a waker was left behind"
        );
        saw("ready");
    } else {
        saw("pending");
    }
    t.join().unwrap();
    assert_eq!(
        std::sync::Arc::strong_count(&count),
        1,
        "a waker was left behind"
    );
    assert_eq!(count.0.load(SeqCst), usize::from(poll.is_pending()));
}

/// The work is issued, and then confirmed: its waiter is told then, and not before.
pub fn issue_vs_await() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || {
        let mut begun = Slot::begin(&s).expect("pending");
        begun.issue(Ok(7));
        assert!(s.is_issued() && !s.is_finished());
        begun.confirm();
    });
    assert_eq!(wait(&slot), Outcome::Ready(7));
    t.join().unwrap();
}

/// What has been issued ends with another result than that: a look finds nothing or the last one.
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

/// The launch that claimed it fails: its waiter gets the error, and a later submission has it computed
/// anew.
pub fn refuse_vs_await() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || Slot::refuse(&s, ToyError::NeverSent));
    assert_eq!(wait(&slot), Outcome::Failed(ToyError::NeverSent));
    assert!(!slot.share(Lean::Any), "a refused slot is shared");
    t.join().unwrap();
}

/// The launch that claimed it fails while the owner ends everything: one of them does it.
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

/// More submissions refer to a slot than its word may count: the process ends, and here it panics. On
/// real threads that takes too many.
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

/// The same.
#[cfg(not(any(candlewick_loom, candlewick_shuttle)))]
pub fn too_many_references() {}
