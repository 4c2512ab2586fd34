//! The edges of what one word counts.

use super::*;

const MOST: u64 = MAX_FRAGMENTS as u64;

/// Every fragment that can be queued, and not one more; and back again.
#[test]
fn the_largest_queue_holds_as_many_fragments_as_it_says() {
    let admission = Admission::new(MAX_FRAGMENTS, MAX_BYTES);
    for _ in 0..MOST {
        assert_eq!(admission.try_acquire(Weight(0)), Ok(()));
    }
    assert_eq!(admission.queued(), MAX_FRAGMENTS);
    assert_eq!(admission.try_acquire(Weight(0)), Err(Refused::Full));
    assert_eq!(admission.queued_bytes(), 0);
    for _ in 0..MOST {
        assert!(!admission.release(Weight(0)));
    }
    assert_eq!(admission.queued(), 0);
    assert!(admission.close() && admission.is_drained());
}

/// One fragment may have all the bytes: then others have none, and those without any still have room.
#[test]
fn the_largest_queue_holds_as_many_bytes_as_it_says() {
    let admission = Admission::new(MAX_FRAGMENTS, MAX_BYTES);
    assert_eq!(admission.try_acquire(Weight(MAX_BYTES)), Ok(()));
    assert_eq!(admission.queued_bytes(), MAX_BYTES);
    assert_eq!(admission.try_acquire(Weight(1)), Err(Refused::Full));
    assert_eq!(admission.try_acquire(Weight(0)), Ok(()));
    assert_eq!(admission.queued(), 2);
    assert!(!admission.release(Weight(MAX_BYTES)));
    assert_eq!(admission.try_acquire(Weight(MAX_BYTES - 1)), Ok(()));
    assert_eq!(admission.try_acquire(Weight(2)), Err(Refused::Full));
    assert_eq!(admission.try_acquire(Weight(1)), Ok(()));
    assert_eq!(
        (admission.queued(), admission.queued_bytes()),
        (3, MAX_BYTES)
    );
}

/// Two bounds in one word: neither borrows from the other when both are used up.
#[test]
fn a_small_queue_is_full_by_fragments_or_by_bytes() {
    let admission = Admission::new(2, 10);
    assert_eq!(admission.try_acquire(Weight(10)), Ok(()));
    assert_eq!(admission.try_acquire(Weight(1)), Err(Refused::Full));
    assert_eq!(admission.try_acquire(Weight(0)), Ok(()));
    assert_eq!(admission.try_acquire(Weight(0)), Err(Refused::Full));
    assert!(!admission.release(Weight(10)));
    assert_eq!(admission.try_acquire(Weight(11)), Err(Refused::Full));
    assert_eq!(admission.try_acquire(Weight(10)), Ok(()));
    assert_eq!((admission.queued(), admission.queued_bytes()), (2, 10));
}

/// Those who leave the line leave their places behind until they are most of it, and more than a few.
#[test]
fn the_places_of_those_who_have_left_are_let_go_of() {
    let admission = Admission::new(1, 1);
    let tag = Tag::default();
    let cx = Context::from_waker(Waker::noop());
    let line_up = || {
        let mut place = None;
        let poll = admission.poll_acquire(Weight(0), &tag, &mut place, &cx);
        assert!(poll.is_pending());
        place.unwrap()
    };
    let length = || admission.queue.lock().line.len();
    assert_eq!(admission.try_acquire(Weight(0)), Ok(()));
    let first = line_up();
    for gone in 1..=66 {
        let place = line_up();
        assert_eq!(length(), 1 + gone);
        assert!(!admission.leave(place));
    }
    // 67 places of whom one is still wanted: more than 2 and 64
    let last = line_up();
    assert_eq!(length(), 2);
    assert!(!admission.leave(first) && !admission.leave(last));
}
