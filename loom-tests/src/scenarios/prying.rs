//! Wakers that look at what they wait for when they are woken and when they are dropped: neither happens
//! under a lock, which they would wait for.

use super::slot::publish;
use crate::core::actor::admission::{Admission, Place, Refused, Weight};
use crate::core::actor::event::Event;
use crate::core::store::slot::Outcome;
use crate::core::store::tag::Tag;
use crate::core::store::waiters::Key;
use crate::core::sync::Arc;
use crate::runner::saw;
use crate::threads::spawn;
use crate::toy::*;
use std::task::{Context, Poll, Waker};

const ONE: Weight = Weight(1);

/// Polls with one prying waker after another, while another thread ends the wait; takes the wait back if it
/// has not ended.
fn pry(
    waker: impl Fn() -> Waker,
    mut poll: impl FnMut(&Context<'_>, &mut Option<Key>) -> Poll<()>,
    end: impl FnOnce() + Send + 'static,
    deregister: impl FnMut(Key),
) {
    let mut key = None;
    for _ in 0..2 {
        let poll = poll(&Context::from_waker(&waker()), &mut key);
        assert!(poll.is_pending());
    }
    let t = spawn(end);
    let last = poll(&Context::from_waker(&waker()), &mut key);
    saw(if last.is_ready() { "ended" } else { "pending" });
    key.take().into_iter().for_each(deregister);
    t.join().unwrap();
}

/// Wakers on a slot's list.
pub fn pry_into_slot() {
    let slot = slot();
    let waker = || {
        let slot = slot.clone();
        prying(move || _ = slot.waiting())
    };
    let s = slot.clone();
    let poll = |cx: &Context<'_>, key: &mut Option<Key>| slot.poll(cx, key);
    pry(
        waker,
        poll,
        move || publish(&s, 7),
        |key| slot.deregister(key),
    );
    assert_eq!(peek(&slot), Some(Outcome::Ready(7)));
    assert_eq!(slot.waiting(), 0);
}

/// Wakers on an event's list.
pub fn pry_into_event() {
    let event = Arc::new(Event::default());
    let waker = || {
        let event = event.clone();
        prying(move || _ = event.is_set())
    };
    let e = event.clone();
    let poll = |cx: &Context<'_>, key: &mut Option<Key>| event.poll(cx, key);
    pry(waker, poll, move || e.set(), |key| event.deregister(key));
    assert!(event.is_set());
}

/// Wakers in the line for room: of one who leaves, of one who asks again, of one who is served, and of those
/// who are refused.
pub fn pry_into_line() {
    let admission = Arc::new(Admission::new(1, 9));
    let waker = || {
        let admission = admission.clone();
        prying(move || _ = admission.next_lapse())
    };
    let ask = |place: &mut Option<Place>| {
        let waker = waker();
        admission.poll_acquire(ONE, &Tag::default(), place, &Context::from_waker(&waker))
    };
    let (mut first, mut second) = (None, None);
    assert!(ask(&mut first).is_ready());
    assert!(ask(&mut first).is_pending() && ask(&mut second).is_pending());
    let a = admission.clone();
    let giver = spawn(move || a.release(ONE));
    match ask(&mut first) {
        Poll::Pending => {
            saw("left");
            let _ = admission.leave(first.take().expect("in line"));
        }
        Poll::Ready(permit) => {
            saw("served");
            permit.expect("not closed");
            let _ = admission.release(ONE);
        }
    }
    let _ = giver.join().unwrap();
    let mut third = None;
    let _ = ask(&mut third);
    assert!(admission.close());
    for mut place in [second, third] {
        if place.is_some() {
            assert_eq!(ask(&mut place), Poll::Ready(Err(Refused::Closed)));
        }
    }
}
