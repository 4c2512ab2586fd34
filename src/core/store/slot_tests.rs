//! The most that may refer to one result, and one more, which ends the process.

use super::*;
use crate::core::store::tag::Tag;
use std::any::Any;
use std::process::Command;

enum Nothing {}

impl Kind for Nothing {
    type Work = ();
    type Value = u8;
    type Error = ();

    fn given_up(_: &mut (), _: usize) {}
    fn panicked(_: Box<dyn Any + Send>) {}
    fn owner_panicked(_: Box<dyn Any + Send>) {}
    fn abandoned() {}
    fn never_sent() {}
    fn overdue() {}
}

/// A slot that `interested` submissions want, the one that claimed it among them, and that its node names.
fn wanted_by(interested: u64) -> Arc<Slot<Nothing>> {
    let slot = Slot::new(1, 1, Arc::new(Task::new(1, Tag::default())));
    let more = (interested - 1) * (INTEREST + REFERENCE);
    // ORDERING: Relaxed; one thread.
    slot.word.fetch_add(more, Relaxed);
    Arc::new(slot)
}

fn counts(slot: &Slot<Nothing>) -> (u64, u64, u64) {
    // ORDERING: Relaxed; one thread.
    let word = slot.word.load(Relaxed);
    (phase(word), interest(word), references(word))
}

/// Each of the ways to one more reference takes the last ones that are allowed, and the counts of the same word
/// keep out of each other's way.
#[test]
fn a_result_may_be_referred_to_as_often_as_the_word_says() {
    let slot = wanted_by(MOST_REFERENCES - 1);
    assert!(slot.share(Lean::Any));
    assert_eq!(
        counts(&slot),
        (PENDING, MOST_REFERENCES, MOST_REFERENCES + 1)
    );
    slot.share_again(); // what was there before is what is looked at
    assert_eq!(
        counts(&slot),
        (PENDING, MOST_REFERENCES + 1, MOST_REFERENCES + 2)
    );
    // and the life of the slot goes on
    let begun = Slot::begin(&slot).unwrap();
    assert_eq!(slot.release(Share::Interest), Released::Held);
    assert_eq!(slot.cancel(false), Cancel::Running);
    begun.finish(Ok(7));
    assert_eq!(
        counts(&slot),
        (READY, MOST_REFERENCES - 1, MOST_REFERENCES + 1)
    );
    let is_seven = |outcome: Outcome<&u8, &()>| outcome == Outcome::Ready(&7);
    assert_eq!(slot.peek(is_seven), Some(true));
}

/// There is room for as many again before a count runs into the next, so that threads which come at the same
/// moment do not get there.
#[test]
fn the_word_has_room_beyond_the_most() {
    let most = 2 * MOST_REFERENCES - 1;
    let slot = wanted_by(most - 1);
    // ORDERING: Relaxed; one thread.
    slot.word.fetch_add(INTEREST, Relaxed);
    assert_eq!(counts(&slot), (PENDING, most, most));
}

/// In a process of its own: this test once more, as the environment says.
#[test]
fn one_reference_too_many_ends_the_process() {
    const HOW: &str = "CANDLEWICK_TEST_OVERFLOW";
    match std::env::var(HOW).as_deref() {
        Ok("share") => drop(wanted_by(MOST_REFERENCES + 1).share(Lean::Any)),
        Ok("share_again") => wanted_by(MOST_REFERENCES + 1).share_again(),
        _ => {
            for how in ["share", "share_again"] {
                let name = "core::store::slot::tests::one_reference_too_many_ends_the_process";
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["--exact", name, "--nocapture"]).env(HOW, how);
                let output = command.output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(said.contains("too many references to one result"), "{said}");
                assert!(!output.status.success());
                assert_ne!(output.status.code(), Some(101), "it is no panic");
            }
        }
    }
}
