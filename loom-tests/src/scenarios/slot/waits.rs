//! Those who wait for a slot: nobody is forgotten, and nobody leaves anything behind.

use super::publish;
use crate::core::actor::park::block_on;
use crate::core::store::slot::{Outcome, Slot};
use crate::core::sync::{Arc, AtomicUsize, Deadline, Mutex, Ordering::Relaxed};
use crate::runner::saw;
use crate::threads::spawn;
use crate::toy::*;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// ```text
/// owner:  begin, write, publish, wake
/// waiter: poll, register, look again, sleep
/// ```
/// No wake-up is lost, and the value is whole.
pub fn publish_vs_await() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || publish(&s, 7));
    assert_eq!(wait_slot(&slot), Outcome::Ready(7));
    t.join().unwrap();
}

/// Two waiters are both woken.
pub fn two_waiters() {
    let slot = slot();
    let (a, b) = (slot.clone(), slot.clone());
    let t1 = spawn(move || publish(&a, 7));
    let t2 = spawn(move || assert_eq!(wait_slot(&b), Outcome::Ready(7)));
    assert_eq!(wait_slot(&slot), Outcome::Ready(7));
    t1.join().unwrap();
    t2.join().unwrap();
}

/// A future that moved to another task between polls is woken there, not here.
pub fn waker_replaced() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || publish(&s, 7));
    let mut key = None;
    let (_, waker) = Count::counting();
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
    let (count, waker) = Count::counting();
    let mut key = None;
    assert!(
        slot.poll(&Context::from_waker(&waker), &mut key)
            .is_pending()
    );
    drop(waker);
    let t1 = spawn(move || publish(&a, 7));
    let t2 = spawn(move || assert_eq!(wait_slot(&b), Outcome::Ready(7)));
    slot.deregister(key.take().unwrap());
    t1.join().unwrap();
    t2.join().unwrap();
    assert_eq!(slot.waiting(), 0);
    assert!(!count.has_wakers(), "a waker was left behind");
    saw(if count.woken() == 0 {
        "not woken"
    } else {
        "woken"
    });
}

/// A wait that is dropped before anything happens takes its waker with it.
pub fn drop_before_publish() {
    let slot = slot();
    let (count, waker) = Count::counting();
    let mut key = None;
    assert!(
        slot.poll(&Context::from_waker(&waker), &mut key)
            .is_pending()
    );
    let again = slot.poll(&Context::from_waker(&waker), &mut key);
    assert!(again.is_pending()); // in the place of the first
    drop(waker);
    let s = slot.clone();
    let t = spawn(move || s.waiting());
    slot.deregister(key.take().unwrap());
    saw(if t.join().unwrap() == 0 {
        "gone"
    } else {
        "there"
    });
    assert!(!count.has_wakers(), "a waker was left behind");
    publish(&slot, 7);
    assert_eq!(count.woken(), 0);
}

/// A thread that waits for a future is woken by a reference to its waker too.
pub fn woken_by_reference() {
    let shared = Arc::new((AtomicUsize::new(0), Mutex::new(None::<Waker>)));
    let s = shared.clone();
    let t = spawn(move || {
        s.0.store(1, Relaxed); // the lock orders it
        let waker = s.1.lock().clone();
        if let Some(waker) = &waker {
            waker.wake_by_ref();
        }
    });
    let mut polls = 0;
    let set = poll_fn(|cx| {
        polls += 1;
        drop(shared.1.lock().replace(cx.waker().clone()));
        match shared.0.load(Relaxed) {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    });
    block_on(set, None).expect("no deadline");
    t.join().unwrap();
    saw(if polls > 1 { "slept" } else { "was there" });
    drop(shared.1.lock().take());
}

/// A waker that panics costs nobody else their wake-up, and not the owner its thread.
pub fn waker_panics() {
    let slot = slot();
    let s = slot.clone();
    let bomb = OnWake::waker(|| std::panic::resume_unwind(Box::new("a waker")));
    let mut key = None;
    assert!(
        slot.poll(&Context::from_waker(&bomb), &mut key)
            .is_pending()
    );
    let t = spawn(move || publish(&s, 7));
    assert_eq!(wait_slot(&slot), Outcome::Ready(7));
    t.join().unwrap();
}

/// A wait with a time limit ends with the result or at the limit, and can be taken up again.
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

/// A wait that finds the end when it looks again takes its waker with it.
pub fn poll_vs_publish() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || publish(&s, 7));
    let (count, waker) = Count::counting();
    let mut key = None;
    let poll = slot.poll(&Context::from_waker(&waker), &mut key);
    drop(waker);
    if poll.is_ready() {
        assert!(!count.has_wakers(), "a waker was left behind");
        saw("ready");
    } else {
        saw("pending");
    }
    t.join().unwrap();
    assert!(!count.has_wakers(), "a waker was left behind");
    assert_eq!(count.woken(), usize::from(poll.is_pending()));
}

/// Work is issued, and then confirmed: who waits for it is told then, and not before.
pub fn issue_vs_await() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || {
        let mut begun = Slot::begin(&s).expect("pending");
        begun.issue(Ok(7));
        assert!(s.is_issued() && !s.is_finished());
        begun.confirm();
    });
    assert_eq!(wait_slot(&slot), Outcome::Ready(7));
    t.join().unwrap();
}

/// The owner stops between beginning and finishing: the waiter is told.
pub fn abandoned() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || drop(Slot::begin(&s)));
    assert_eq!(wait_slot(&slot), Outcome::Failed(ToyError::OwnerLost));
    t.join().unwrap();
}

/// The executor closes while somebody begins to wait, who is told.
pub fn close_vs_await() {
    let slot = slot();
    let s = slot.clone();
    let t = spawn(move || s.close());
    assert_eq!(wait_slot(&slot), Outcome::Closed);
    t.join().unwrap();
}
