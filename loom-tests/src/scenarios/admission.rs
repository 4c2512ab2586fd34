//! Admission by itself: permits, the line, closing.

use crate::core::actor::admission::{Admission, Place, Refused, Weight};
use crate::core::actor::park::block_on;
use crate::core::store::tag::{Priority, Tag};
use crate::core::sync::{Arc, channel};
use crate::runner::saw;
use crate::threads::spawn;
use crate::toy::Count;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

const ONE: Weight = Weight(1);
const TAG: Tag = Tag {
    producer: 0,
    priority: Priority::Normal,
    deadline: None,
};

/// Waits in line for one permit.
fn acquire(admission: &Admission) -> Result<(), Refused> {
    let mut place = None;
    block_on(
        poll_fn(|cx| admission.poll_acquire(ONE, &TAG, &mut place, cx)),
        None,
    )
    .expect("no deadline")
}

/// Stands in line with a waker that only counts.
fn line_up(
    admission: &Admission,
    place: &mut Option<Place>,
) -> (Poll<Result<(), Refused>>, std::sync::Arc<Count>) {
    let (count, waker) = Count::counting();
    let poll = admission.poll_acquire(ONE, &TAG, place, &Context::from_waker(&waker));
    (poll, count)
}

/// Somebody waits in line while the permit comes back: it is not forgotten there.
pub fn line_vs_release() {
    let admission = Arc::new(Admission::new(1, 9));
    admission.try_acquire(ONE).unwrap();
    let a = admission.clone();
    let t = spawn(move || {
        acquire(&a).unwrap();
        assert!(!a.release(ONE));
    });
    assert!(!admission.release(ONE));
    t.join().unwrap();
    assert_eq!(admission.queued(), 0);
    admission.try_acquire(ONE).expect("the line is over");
}

/// Room in bytes is room as well: a large one behind a small permit gets in when it fits.
pub fn bytes_vs_release() {
    let admission = Arc::new(Admission::new(3, 4));
    admission.try_acquire(Weight(2)).unwrap();
    let a = admission.clone();
    let t = spawn(move || {
        let mut place = None;
        let wait = poll_fn(|cx| a.poll_acquire(Weight(4), &TAG, &mut place, cx));
        block_on(wait, None).expect("no deadline").unwrap();
        let queued = (a.queued(), a.queued_bytes());
        assert_eq!(queued, (1, 4), "let in beside what leaves no room");
        assert!(!a.release(Weight(4)));
    });
    match admission.try_acquire(ONE) {
        Ok(()) => {
            saw("before the line");
            assert!(!admission.release(ONE));
        }
        Err(Refused::Full) => saw("behind the line"),
        Err(Refused::Closed) => panic!("not closed"),
    }
    assert!(!admission.release(Weight(2)));
    t.join().unwrap();
    assert_eq!((admission.queued(), admission.queued_bytes()), (0, 0));
}

/// One who was granted a permit gives up: the permit goes to the next in line.
pub fn baton() {
    let admission = Arc::new(Admission::new(1, 9));
    admission.try_acquire(ONE).unwrap();
    let mut place = None;
    let (poll, count) = line_up(&admission, &mut place);
    assert!(poll.is_pending());
    let a = admission.clone();
    let next = spawn(move || {
        acquire(&a).unwrap();
        assert!(!a.release(ONE));
    });
    let a = admission.clone();
    let giver = spawn(move || a.release(ONE));
    assert!(!admission.leave(place.expect("in line")), "none is behind");
    let behind = giver.join().unwrap();
    saw(match (count.woken(), behind) {
        (0, false) => "gave up first",
        (1, _) => "granted, gave up",
        other => panic!("{other:?}"),
    });
    next.join().unwrap();
    assert_eq!(admission.queued(), 0);
}

/// Who asks again before his turn keeps his place, and leaves it when he gives up.
pub fn asks_again() {
    let admission = Arc::new(Admission::new(1, 9));
    admission.try_acquire(ONE).unwrap();
    let mut place = None;
    assert!(line_up(&admission, &mut place).0.is_pending());
    let a = admission.clone();
    let giver = spawn(move || assert!(!a.release(ONE)));
    match line_up(&admission, &mut place).0 {
        Poll::Ready(granted) => {
            granted.expect("not closed");
            assert!(!admission.release(ONE));
            saw("granted");
        }
        Poll::Pending => {
            assert!(!admission.leave(place.expect("still in line")));
            saw("gave up");
        }
    }
    giver.join().unwrap();
    assert_eq!(admission.queued(), 0);
    admission.try_acquire(ONE).expect("the line is over");
}

/// First come, first served: who stands in line is not overtaken, and is served when there is
/// room.
pub fn no_overtaking() {
    let admission = Arc::new(Admission::new(1, 9));
    admission.try_acquire(ONE).unwrap();
    let mut place = None;
    let (poll, count) = line_up(&admission, &mut place);
    assert!(poll.is_pending());
    let a = admission.clone();
    let giver = spawn(move || assert!(!a.release(ONE)));
    assert_eq!(admission.try_acquire(ONE), Err(Refused::Full), "overtaken");
    giver.join().unwrap();
    assert_eq!(count.woken(), 1, "room, and the first in line was not told");
    let (poll, _) = line_up(&admission, &mut place);
    assert_eq!(poll, Poll::Ready(Ok(())));
}

/// Closing while somebody waits and a permit comes back: the waiter is let in or refused.
pub fn close_vs_line() {
    let admission = Arc::new(Admission::new(1, 9));
    admission.try_acquire(ONE).unwrap();
    let a = admission.clone();
    let waiter = spawn(move || match acquire(&a) {
        Ok(()) => {
            let _ = a.release(ONE); // it may be closed by now
            true
        }
        Err(refused) => {
            assert_eq!(refused, Refused::Closed);
            false
        }
    });
    let a = admission.clone();
    let closer = spawn(move || assert!(a.close()));
    let _ = admission.release(ONE); // as above
    closer.join().unwrap();
    saw(if waiter.join().unwrap() {
        "went in"
    } else {
        "refused"
    });
    assert!(admission.is_drained(), "a permit is missing");
    assert_eq!(acquire(&admission), Err(Refused::Closed));
}

/// Once it is closed and every permit is seen to be back, the owner may leave: from then on nobody
/// in line is let in, although whoever gave the last one back has not served the line yet.
pub fn drained_vs_line() {
    let admission = Arc::new(Admission::new(1, 9));
    admission.try_acquire(ONE).unwrap();
    let mut place = None;
    let (poll, _) = line_up(&admission, &mut place);
    assert!(poll.is_pending());
    let a = admission.clone();
    let closer = spawn(move || assert!(a.close()));
    let a = admission.clone();
    let giver = spawn(move || {
        let _ = a.release(ONE); // it may be closed by now
    });
    let drained = admission.is_drained();
    let (poll, _) = line_up(&admission, &mut place);
    closer.join().unwrap();
    giver.join().unwrap();
    match poll {
        Poll::Ready(Ok(())) => {
            assert!(!drained, "let in after the owner could leave");
            assert!(!admission.is_drained(), "a permit is out");
            saw("went in");
        }
        Poll::Ready(Err(Refused::Closed)) => saw("refused"),
        Poll::Pending => {
            let (poll, _) = line_up(&admission, &mut place);
            assert_eq!(poll, Poll::Ready(Err(Refused::Closed)));
            saw("waited, refused");
        }
        other => panic!("{other:?}"),
    }
}

/// A permit that comes back after closing says so: the owner may be waiting for just this one.
pub fn last_permit_vs_close() {
    let admission = Arc::new(Admission::new(2, 9));
    admission.try_acquire(ONE).unwrap();
    let a = admission.clone();
    let t = spawn(move || a.release(ONE));
    admission.close();
    let drained = admission.is_drained();
    let told = t.join().unwrap();
    assert!(
        drained || told,
        "the last permit came back and nobody was told"
    );
    saw(if told { "told" } else { "seen" });
}

/// A permit stands for a place in the channel: with one, sending never fails, although the
/// channel may answer from a stale look.
pub fn permit_means_room() {
    let admission = Arc::new(Admission::new(1, 9));
    let (sender, receiver) = channel::bounded::<u32>(1);
    admission.try_acquire(ONE).unwrap();
    sender.try_send(1).unwrap();
    let a = admission.clone();
    let t = spawn(move || {
        if a.try_acquire(ONE).is_ok() {
            assert!(sender.try_send(2).is_ok(), "a permit, and no room");
            saw("sent");
        } else {
            saw("full");
        }
    });
    assert_eq!(receiver.try_recv(), Ok(1));
    assert!(!admission.release(ONE), "none is in line");
    t.join().unwrap();
}

/// A permit stands for a place in the channel also for one who is served in line by a quitter that stood
/// before it, and not by the giver.
pub fn passed_on_means_room() {
    let admission = Arc::new(Admission::new(1, 9));
    let (sender, receiver) = channel::bounded::<u32>(1);
    admission.try_acquire(ONE).unwrap();
    sender.try_send(1).unwrap();
    let mut place = None;
    assert!(line_up(&admission, &mut place).0.is_pending());
    let a = admission.clone();
    let next = spawn(move || {
        acquire(&a).unwrap();
        assert!(sender.try_send(2).is_ok(), "a permit, and no room");
    });
    let a = admission.clone();
    let giver = spawn(move || {
        assert_eq!(receiver.try_recv(), Ok(1));
        let _ = a.release(ONE); // the next may be behind
        receiver
    });
    assert!(!admission.leave(place.expect("in line")), "none is behind");
    next.join().unwrap();
    drop(giver.join().unwrap());
}

/// A permit stands for a place in the channel also for one who comes to the line when the permit is back
/// already.
pub fn lined_up_means_room() {
    let admission = Arc::new(Admission::new(1, 9));
    let (sender, receiver) = channel::bounded::<u32>(1);
    admission.try_acquire(ONE).unwrap();
    sender.try_send(1).unwrap();
    let a = admission.clone();
    let next = spawn(move || {
        acquire(&a).unwrap();
        assert!(sender.try_send(2).is_ok(), "a permit, and no room");
    });
    assert_eq!(receiver.try_recv(), Ok(1));
    assert!(!admission.release(ONE));
    next.join().unwrap();
}

/// Whoever comes to the line does not overtake its first either, who may need more room than
/// there is.
pub fn no_overtaking_in_line() {
    let admission = Arc::new(Admission::new(3, 4));
    admission.try_acquire(Weight(2)).unwrap();
    let (mut large, mut small) = (None, None);
    let look = Context::from_waker(Waker::noop());
    let mut ask = || admission.poll_acquire(Weight(4), &TAG, &mut large, &look);
    assert!(ask().is_pending());
    let a = admission.clone();
    let giver = spawn(move || a.release(Weight(2)));
    assert!(line_up(&admission, &mut small).0.is_pending(), "overtaken");
    saw(match giver.join().unwrap() {
        true => "behind a grant",
        false => "behind one in line",
    });
    assert_eq!(ask(), Poll::Ready(Ok(())));
    assert!(!admission.release(Weight(4)));
    assert_eq!(line_up(&admission, &mut small).0, Poll::Ready(Ok(())));
}

/// One who needs much room gives up: whoever stands behind and needs less may go.
pub fn quitter_lets_the_next_go() {
    let admission = Arc::new(Admission::new(3, 4));
    admission.try_acquire(Weight(2)).unwrap();
    let mut place = None;
    let waker = Waker::noop();
    let poll = admission.poll_acquire(Weight(4), &TAG, &mut place, &Context::from_waker(waker));
    assert!(poll.is_pending());
    let a = admission.clone();
    let next = spawn(move || {
        acquire(&a).unwrap();
        assert!(!a.release(ONE));
    });
    assert!(!admission.leave(place.expect("in line")));
    next.join().unwrap();
    assert_eq!(admission.queued(), 1);
    admission.try_acquire(ONE).expect("the line is over");
}
