//! Tickets behind one that ends with an error, and devices that are lost while several are in flight.

use crate::core::store::slot::Outcome;
use crate::threads::spawn;
use crate::toy::*;

const LATE: End = Outcome::Failed(ToyError::Late);
const LOST: End = Outcome::Failed(ToyError::DeviceLost);
const OVERDUE: End = Outcome::Failed(ToyError::Overdue);

/// What a work adds, the works that it reads from, and how it ends.
type Reader<'a> = (u32, &'a [u64], End);

/// Issues these, which read from nothing: see [`readers_in_flight`].
fn in_flight(works: &[(u32, End)], again: u64, lost: Option<ToyError>) {
    let readers = works.iter().map(|(add, end)| (*add, &[][..], end.clone()));
    readers_in_flight(&readers.collect::<Vec<_>>(), again, lost);
}

/// Issues these, each under a ticket of its own, has all tickets end while the owner looks, and checks how
/// each work ends, how many were issued again, and why the device is lost.
fn readers_in_flight(works: &[Reader<'_>], again: u64, lost: Option<ToyError>) {
    let (engine, device) = ToyEngine::ringing();
    let ex = idle(4, engine);
    let issue = |(id, (add, inputs, _)): (u64, &Reader<'_>)| {
        let sub = submit(&ex, id, *add, inputs).expect("it is open");
        ex.step();
        sub
    };
    let subs: Vec<Sub> = (1..).zip(works).map(issue).collect();
    let t = spawn(move || device.end_all());
    ex.step();
    t.join().unwrap();
    while ex.step() && !subs.iter().all(Sub::is_finished) {}
    for (sub, (_, _, end)) in subs.iter().zip(works) {
        assert_eq!(&ends(sub)[0], end);
    }
    assert_eq!(ex.counts().reissued, again, "issued again");
    assert_eq!(ex.lost(), lost);
    assert_eq!(submit(&ex, 9, 1, &[]).is_none(), lost.is_some());
    drop(subs);
    step_down(&ex);
    nothing_left(&ex, 1..=9);
}

/// A ticket behind one with an error ends well: its work stands.
pub fn well_behind_late() {
    in_flight(&[(FAILS_LATE, LATE), (2, Outcome::Ready(2))], 1, None);
}

/// What reads from work that stands behind an error stands as well.
pub fn reader_of_well_behind_late() {
    let works: [Reader<'_>; 3] = [
        (FAILS_LATE, &[], LATE),
        (2, &[], Outcome::Ready(2)),
        (10, &[2], Outcome::Ready(12)),
    ];
    readers_in_flight(&works, 1, None);
}

/// What has read from a ticket with an error is issued again, and what has read from that.
pub fn readers_behind_late() {
    let failed = Outcome::Failed(ToyError::Failed);
    let works: [Reader<'_>; 3] = [
        (FAILS_LATE, &[], LATE),
        (10, &[1], failed.clone()),
        (20, &[2], failed),
    ];
    readers_in_flight(&works, 3, None);
}

/// Two tickets end with errors: each work is issued again, and what is behind both stands.
pub fn late_behind_late() {
    let well = (2, Outcome::Ready(2));
    in_flight(&[(FAILS_LATE, LATE), (FAILS_LATE, LATE), well], 2, None);
}

/// A ticket behind one with an error never ends: it is overdue, and so is what is behind it.
pub fn never_behind_late() {
    let never = [(FAILS_LATE, LATE), (NEVER_ENDS, OVERDUE), (2, OVERDUE)];
    in_flight(&never, 1, Some(ToyError::Overdue));
}

/// A ticket behind one that ends well never ends: its time counts from then on.
pub fn never_behind_well() {
    let never = [(1, Outcome::Ready(1)), (NEVER_ENDS, OVERDUE), (2, OVERDUE)];
    in_flight(&never, 0, Some(ToyError::Overdue));
}

/// The device is lost with a ticket behind one with an error.
pub fn lost_behind_late() {
    let works = [(FAILS_LATE, LATE), (LOSES, LOST), (2, LOST)];
    in_flight(&works, 1, Some(ToyError::DeviceLost));
}

/// The device is lost with the oldest of several tickets.
pub fn lost_in_flight() {
    let works = [(LOSES, LOST), (2, LOST)];
    in_flight(&works, 0, Some(ToyError::DeviceLost));
}

/// The device is lost when the work of a ticket with an error is issued again.
pub fn lost_again() {
    let works = [(LATE_THEN_LOSES, LOST), (2, LOST)];
    in_flight(&works, 1, Some(ToyError::DeviceLost));
}

/// The work of a ticket with an error is issued again, and does not end then.
pub fn never_again() {
    let works = [(LATE_THEN_NEVER, OVERDUE), (2, OVERDUE)];
    in_flight(&works, 1, Some(ToyError::Overdue));
}
