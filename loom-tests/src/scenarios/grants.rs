//! Permits that were granted in line: whose turn it is, and what becomes of one that is not come for.

use crate::core::actor::admission::{Admission, Place, Refused, Weight};
use crate::core::actor::park::block_on;
use crate::core::panics::contain;
use crate::core::store::slot::Outcome;
use crate::core::store::tag::{Priority, Tag};
use crate::core::sync::{Arc, thread};
use crate::runner::saw;
use crate::threads::spawn;
use crate::toy::*;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const ONE: Weight = Weight(1);

/// One who stands in line and is looked at from outside.
struct InLine {
    place: Option<Place>,
    tag: Tag,
    count: std::sync::Arc<Count>,
    waker: Waker,
}

impl InLine {
    /// Lines up: there is no room.
    fn new(admission: &Admission, producer: u64, priority: Priority) -> Self {
        let tag = Tag {
            producer,
            priority,
            deadline: None,
        };
        let (count, waker) = Count::counting();
        let mut this = Self {
            place: None,
            tag,
            count,
            waker,
        };
        assert!(this.ask(admission).is_pending(), "there is no room");
        this
    }
    /// Asks for its permit, or lines up.
    fn ask(&mut self, admission: &Admission) -> Poll<Result<(), Refused>> {
        let look = Context::from_waker(&self.waker);
        admission.poll_acquire(ONE, &self.tag, &mut self.place, &look)
    }
    /// Leaves the line, and says whether the owner is to be called.
    fn leave(&self, admission: &Admission) -> bool {
        admission.leave(self.place.expect("in line"))
    }
    /// Whether it was told that it has a permit.
    fn is_granted(&self) -> bool {
        self.count.woken() > 0
    }
}

/// An admission that has no room left.
fn full(fragments: usize) -> Arc<Admission> {
    let admission = Arc::new(Admission::new(fragments, 9));
    (0..fragments).for_each(|_| admission.try_acquire(ONE).expect("room"));
    admission
}

/// The most urgent leaves the line while a permit comes back: the next in urgency has it, not the next
/// that came.
pub fn class_in_line() {
    let admission = full(1);
    let low = InLine::new(&admission, 1, Priority::Background);
    let middle = InLine::new(&admission, 2, Priority::Normal);
    let high = InLine::new(&admission, 3, Priority::Interactive);
    let a = admission.clone();
    let giver = spawn(move || a.release(ONE));
    let passed_on = high.leave(&admission);
    let granted = giver.join().unwrap();
    let told = granted | passed_on;
    assert!(told, "one is behind a grant, and the owner is not told");
    assert_eq!(granted & passed_on, high.is_granted(), "two grants, or one");
    saw(match high.is_granted() {
        true => "granted, gave up",
        false => "gave up first",
    });
    assert!(!low.is_granted(), "the less urgent was first");
    assert!(middle.is_granted(), "a permit was lost");
}

/// Two permits come back while two producers stand in line, one of them twice: each producer has one.
pub fn turns_in_line() {
    let admission = full(2);
    let first = InLine::new(&admission, 1, Priority::Normal);
    let again = InLine::new(&admission, 1, Priority::Normal);
    let other = InLine::new(&admission, 2, Priority::Normal);
    let a = admission.clone();
    let giver = spawn(move || a.release(ONE));
    let told = admission.release(ONE) | giver.join().unwrap();
    assert!(told, "one is behind a grant, and the owner is not told");
    assert!(first.is_granted() && other.is_granted(), "no turns");
    assert!(!again.is_granted(), "more permits than places");
}

/// A grant lapses while its taker comes: the taker has that permit, or lines up anew and has it then.
/// There is one permit either way.
pub fn lapse_vs_taker() {
    let admission = full(1);
    let mut taker = InLine::new(&admission, 1, Priority::Normal);
    assert!(!admission.release(ONE), "no one stands behind it");
    assert!(admission.lapse().is_none(), "it has just been granted");
    let a = admission.clone();
    let owner = spawn(move || a.lapse().is_some());
    let mut taken = taker.ask(&admission);
    let lapsed = owner.join().unwrap();
    if taken.is_pending() {
        saw("lined up anew");
        taken = taker.ask(&admission);
    }
    assert_eq!(taken, Poll::Ready(Ok(())), "there is room");
    assert_eq!(admission.queued(), 1, "not one permit");
    saw(if lapsed { "lapsed" } else { "in time" });
    assert!(!admission.release(ONE), "none is in line");
    assert_eq!(admission.queued(), 0);
    admission.try_acquire(ONE).expect("the line is over");
}

/// A grant lapses while its taker comes, and another one stands behind: one of the two has the permit.
pub fn lapse_vs_next() {
    let admission = full(1);
    let mut taker = InLine::new(&admission, 1, Priority::Normal);
    let next = InLine::new(&admission, 2, Priority::Normal);
    assert!(admission.release(ONE), "the owner is to see it lapse");
    assert!(admission.lapse().is_none(), "it has just been granted");
    assert!(
        admission.next_lapse().is_some(),
        "the owner is to see it lapse"
    );
    let a = admission.clone();
    let owner = spawn(move || a.lapse().is_some());
    let taken = taker.ask(&admission).is_ready();
    let lapsed = owner.join().unwrap();
    assert_eq!(
        lapsed,
        next.is_granted(),
        "it lapsed, and the next was not served"
    );
    assert!(taken != lapsed, "two permits, or none");
    assert_eq!(admission.queued(), 1);
    saw(if lapsed { "lapsed" } else { "in time" });
}

/// So many leave that the line lets go of their places, at the latest when the next one comes, while a permit
/// comes back: the first has it, and then the one who came last.
pub fn many_leave() {
    let admission = full(1);
    let mut first = InLine::new(&admission, 1, Priority::Normal);
    for _ in 0..66 {
        let leaver = InLine::new(&admission, 2, Priority::Normal);
        assert!(!leaver.leave(&admission), "there is no room");
    }
    let a = admission.clone();
    let giver = spawn(move || a.release(ONE));
    let mut last = InLine::new(&admission, 3, Priority::Normal);
    saw(match giver.join().unwrap() {
        true => "behind a grant",
        false => "behind one in line",
    });
    assert_eq!(first.ask(&admission), Poll::Ready(Ok(())), "overtaken");
    assert!(!admission.release(ONE), "no one stands behind it");
    assert_eq!(last.ask(&admission), Poll::Ready(Ok(())), "forgotten");
}

/// Closing takes a grant back while its taker comes: the taker has the permit and gives it back, or is
/// refused.
pub fn close_vs_taker() {
    let admission = full(1);
    let mut taker = InLine::new(&admission, 1, Priority::Normal);
    assert!(!admission.release(ONE), "no one stands behind it");
    let a = admission.clone();
    let closer = spawn(move || {
        a.close();
        a.is_drained()
    });
    let taken = taker.ask(&admission);
    let drained = closer.join().unwrap();
    match taken {
        Poll::Ready(Ok(())) => {
            assert!(!drained, "drained, and a permit is out");
            saw("in time");
            assert!(admission.release(ONE), "the owner waits for it");
        }
        Poll::Ready(Err(Refused::Closed)) => saw("refused"),
        other => panic!("{other:?}"),
    }
    assert!(admission.is_drained(), "a permit is missing");
}

/// Closing takes a grant back while it lapses: its permit comes back once.
pub fn close_vs_lapse() {
    let admission = full(2);
    let first = InLine::new(&admission, 1, Priority::Normal);
    assert!(!admission.release(ONE), "no one stands behind it");
    assert!(admission.lapse().is_none(), "it has just been granted");
    let a = admission.clone();
    let closer = spawn(move || a.close());
    saw(match admission.lapse() {
        Some(_) => "lapsed",
        None => "closed",
    });
    closer.join().unwrap();
    assert_eq!(admission.queued(), 1, "not one permit");
    assert!(!admission.is_drained());
    assert!(admission.release(ONE), "the owner waits for it");
    assert!(admission.is_drained());
    assert!(first.is_granted());
}

/// Asks for a permit once, and says whether it stands in line now.
fn admit_once(admit: std::pin::Pin<&mut impl Future>) -> bool {
    let poll = admit.poll(&mut Context::from_waker(Waker::noop()));
    poll.is_pending()
}

/// A task was granted a permit and was forgotten: another one that stands behind it gets it all the same,
/// because the owner looks when the grant has lapsed.
pub fn forgotten_grant() {
    let ex = start(1, ToyEngine::gpu());
    let held = ex.try_admit(0).expect("room");
    let tag = Tag::default();
    let mut forgotten = pin!(ex.admit(0, &tag));
    assert!(admit_once(forgotten.as_mut()));
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, 2, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(2));
    });
    drop(held);
    t.join().unwrap();
    shutdown(&ex);
    nothing_left(&ex, [1]);
}

/// A task was granted a permit and was forgotten: another one that does not stand in line gets it too,
/// because it looks itself whether the grant has lapsed.
pub fn forgotten_grant_vs_try() {
    let ex = start(1, ToyEngine::gpu());
    let held = ex.try_admit(0).expect("room");
    let tag = Tag::default();
    let mut forgotten = pin!(ex.admit(0, &tag));
    assert!(admit_once(forgotten.as_mut()));
    let e = ex.clone();
    let t = spawn(move || {
        let mut tries = 0;
        while e.try_admit(0).is_err() {
            tries += 1;
            let enough = if cfg!(candlewick_threads) {
                10_000_000
            } else {
                9
            };
            assert!(tries < enough, "a forgotten grant does not lapse");
            thread::yield_now();
        }
    });
    drop(held);
    t.join().unwrap();
    shutdown(&ex);
}

/// One whose grant has lapsed lines up anew behind the next one's, which is forgotten too: it gets in all
/// the same.
pub fn lapsed_lines_up_anew() {
    let ex = start(1, ToyEngine::gpu());
    let held = ex.try_admit(0).expect("room");
    let tag = Tag::default();
    let mut first = pin!(ex.admit(0, &tag));
    let mut forgotten = pin!(ex.admit(0, &tag));
    assert!(admit_once(first.as_mut()));
    assert!(admit_once(forgotten.as_mut()));
    drop(held);
    let permit = block_on(&mut first, None).expect("no deadline");
    drop(permit.expect("open"));
    shutdown(&ex);
}

/// A wait in line is dropped when it may have its permit, and a thread stands behind it: that one gets in,
/// without the owner.
pub fn dropped_grant_goes_on() {
    let ex = idle(1, ToyEngine::gpu());
    let held = ex.try_admit(0).expect("room");
    let tag = Tag::default();
    let mut dropped = Box::pin(ex.admit(0, &tag));
    assert!(admit_once(dropped.as_mut()));
    let e = ex.clone();
    let next = spawn(move || {
        let tag = Tag::default();
        let permit = block_on(e.admit(0, &tag), None).expect("no deadline");
        drop(permit.expect("open"));
    });
    let giver = spawn(move || drop(held));
    drop(dropped);
    next.join().unwrap();
    giver.join().unwrap();
    step_down(&ex);
}

/// A wait in line is dropped with its grant while the executor closes: the owner does not wait for the
/// permit.
pub fn close_vs_dropped_grant() {
    let ex = start(1, ToyEngine::gpu());
    let held = ex.try_admit(0).expect("room");
    let e = ex.clone();
    let t = spawn(move || {
        let tag = Tag::default();
        let mut admit = Box::pin(e.admit(0, &tag));
        saw(match admit_once(admit.as_mut()) {
            true => "in line",
            false => "refused",
        });
        drop(held);
        drop(admit);
    });
    shutdown(&ex);
    t.join().unwrap();
}

/// A grant that is not come for is no reason to wait when the executor closes.
pub fn close_vs_grant() {
    let ex = start(1, ToyEngine::gpu());
    let held = ex.try_admit(0).expect("room");
    let tag = Tag::default();
    let mut forgotten = pin!(ex.admit(0, &tag));
    assert!(admit_once(forgotten.as_mut()));
    let t = spawn(move || drop(held));
    shutdown(&ex);
    t.join().unwrap();
    let refused = block_on(&mut forgotten, None).expect("no deadline");
    assert!(matches!(refused, Err(Refused::Closed)));
}

/// A grant lapses for one who tries while the executor closes: the owner does not wait for its permit.
///
/// ```text
///   T2: try                      T1
///   the grant has lapsed: take
///   it out
///                                close: owner, called: a permit is out, rest
///   give it back: call
///                                owner: every permit is back, leave
/// ```
pub fn close_vs_lapse_for_try() {
    let ex = start(1, ToyEngine::gpu());
    let held = ex.try_admit(0).expect("room");
    let tag = Tag::default();
    let mut forgotten = pin!(ex.admit(0, &tag));
    assert!(admit_once(forgotten.as_mut()));
    drop(held);
    let early = ex.try_admit(0); // the first look at the grant's clock
    assert!(
        matches!(early, Err(Refused::Full)),
        "it has just been granted"
    );
    let e = ex.clone();
    let t = spawn(move || {
        saw(match e.try_admit(0) {
            Ok(_permit) => "lapsed",
            Err(Refused::Full) => "full", // closing was faster to take the grant
            Err(Refused::Closed) => "closed",
        });
    });
    shutdown(&ex);
    t.join().unwrap();
}

/// One who stands in front leaves the line, and its waker panics when it is dropped: the one behind, who fits now,
/// has been told by then.
///
/// ```text
///   T2: leave                    T1: line up behind it, sleep
///   grant T1 its permit, wake it
///   drop the waker: panic
/// ```
pub fn leaver_panics() {
    let admission = Arc::new(Admission::new(2, 9));
    admission.try_acquire(Weight(5)).expect("room");
    let tag = Tag::default();
    let mut place = None;
    let bomb = Bomb(0);
    let waker = OnWake::waker(move || {
        let _with_it = &bomb;
    });
    let poll = admission.poll_acquire(Weight(9), &tag, &mut place, &Context::from_waker(&waker));
    assert!(poll.is_pending(), "there is no room");
    drop(waker);
    let a = admission.clone();
    let t = spawn(move || contain(|| a.leave(place.expect("in line"))));
    let (mut behind, mut waited) = (None, false);
    let admitted = poll_fn(|cx| {
        let poll = admission.poll_acquire(ONE, &tag, &mut behind, cx);
        waited |= poll.is_pending();
        poll
    });
    let admitted = block_on(admitted, None).expect("no deadline");
    assert_eq!(admitted, Ok(()), "it is open");
    saw(if waited { "behind it" } else { "late" });
    assert!(t.join().unwrap().is_some(), "its panic is contained");
}
