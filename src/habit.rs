//! What a thread is used to do: whether it waits for what it submits right away.
//!
//! A submission has to call the owner, which costs a system call (7 µs here) and two thread
//! switches (60 µs) when the owner is parked; unless the submitting thread waits at once, and so
//! can run the fragment itself. A thread that has done so several times in a row is expected to
//! do it again. If it does not, nothing is lost: whoever looks for the result, or submits
//! something else, calls the owner; only the start is late, and the habit is forgotten.

use crate::actor::submission::Submission;
use crate::device::runner::Runner;
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A wait this soon after its submission shows that the thread had nothing else to do.
const PROMPT: Duration = Duration::from_micros(20);
/// So many prompt waits in a row make a habit.
const HABIT: u8 = 3;
/// Once there is a habit, one wait in so many is timed: the clock costs as much as a few atomic
/// operations.
const TIMED: u8 = 8;

#[derive(Clone, Copy)]
struct Habit {
    /// The last submission (the address of its first slot), while it has not been waited for.
    last: usize,
    /// When that was, if its wait is timed.
    at: Option<Instant>,
    /// Prompt waits in a row.
    prompt: u8,
    /// Submissions since one was timed.
    untimed: u8,
}

impl Habit {
    const NONE: Self = Self {
        last: 0,
        at: None,
        prompt: 0,
        untimed: 0,
    };
}

thread_local! {
    static OF_THREAD: Cell<Habit> = const { Cell::new(Habit::NONE) };
}

fn name(submission: &Submission<Runner>) -> usize {
    submission
        .outputs()
        .first()
        .map_or(0, |slot| Arc::as_ptr(slot) as usize)
}

/// Whether this thread can be expected to wait right after its next submission.
pub(crate) fn waits_promptly() -> bool {
    let habit = OF_THREAD.with(Cell::get);
    habit.last == 0 && habit.prompt >= HABIT
}

/// This thread has submitted something.
pub(crate) fn note_submit(submission: &Submission<Runner>) {
    if !submission.core().lendable() {
        return;
    }
    OF_THREAD.with(|cell| {
        let habit = cell.get();
        // one submission after another, without a wait: no habit
        let prompt = if habit.last == 0 { habit.prompt } else { 0 };
        let timed = prompt < HABIT || habit.untimed + 1 == TIMED;
        cell.set(Habit {
            last: name(submission),
            at: timed.then(Instant::now),
            prompt,
            untimed: if timed { 0 } else { habit.untimed + 1 },
        });
    });
}

/// This thread is about to wait.
pub(crate) fn note_wait(submission: &Submission<Runner>) {
    OF_THREAD.with(|cell| {
        let habit = cell.get();
        if habit.last == 0 || habit.last != name(submission) {
            return;
        }
        let late = habit.at.is_some_and(|at| at.elapsed() > PROMPT);
        let prompt = if late {
            0
        } else {
            habit.prompt.saturating_add(1)
        };
        cell.set(Habit {
            last: 0,
            at: None,
            prompt,
            untimed: habit.untimed,
        });
    });
}
