//! Fragments that run as one: who joins, who leaves, and what becomes of the others.

use crate::core::store::slot::{Cancel, Outcome};
use crate::runner::saw;
use crate::threads::{saw_batches, saw_end, spawn};
use crate::toy::*;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// An executor whose waiters leave the work to the owner, and how many batches it has begun.
fn owned() -> (Ex, Arc<AtomicUsize>) {
    let engine = ToyEngine::default();
    let batches = engine.batches();
    (start(4, engine), batches)
}

/// Closes the executor, of which nothing is left then, and notes whether fragments ran as one.
fn ended(ex: &Ex, batches: &AtomicUsize, nodes: &[u64]) {
    shutdown(ex);
    nothing_left(ex, nodes.iter().copied());
    saw_batches(batches);
}

/// Submits these, with what each waits for, and looks at how each ends.
fn all_end(works: &[(u32, &[u64], End)]) {
    let (ex, batches) = owned();
    let ids: Vec<u64> = (1..=works.len() as u64).collect();
    let submit = |(&id, (add, inputs, _)): (&u64, &(u32, &[u64], End))| {
        submit(&ex, id, *add, inputs).unwrap()
    };
    let all: Vec<Sub> = ids.iter().zip(works).map(submit).collect();
    for (submission, (_, _, end)) in all.iter().zip(works) {
        assert_eq!(wait_async(submission), *end);
    }
    drop(all);
    ended(&ex, &batches, &ids);
}

/// Two that go together come while the owner looks: one batch or two, the same answers.
pub fn gather_vs_send() {
    all_end(&[
        (TOGETHER, &[], Outcome::Ready(2)),
        (TOGETHER, &[], Outcome::Ready(2)),
    ]);
}

/// A member is cancelled while the batch is formed: it runs or it does not, and is gone either way.
pub fn gather_vs_cancel() {
    let (ex, batches) = owned();
    let s = submit(&ex, 1, TOGETHER, &[]).unwrap();
    let t = submit(&ex, 2, TOGETHER, &[]).unwrap();
    let canceller = spawn(move || {
        saw(match t.cancel() {
            Cancel::Cancelled => "cancelled",
            Cancel::Running | Cancel::Finished => "too late",
            Cancel::Shared => panic!("nobody else wants it"),
        });
    });
    assert_eq!(wait_async(&s), Outcome::Ready(2));
    drop(s);
    canceller.join().unwrap();
    ended(&ex, &batches, &[1, 2]);
}

/// A member that spoils the batch runs by itself, and the others run again.
pub fn spoiler_runs_apart() {
    all_end(&[
        (TOGETHER, &[], Outcome::Ready(2)),
        (SHY, &[], Outcome::Ready(1)),
        (TOGETHER, &[], Outcome::Ready(2)),
    ]);
}

/// A panic in a batch is nobody's until each has run by itself.
pub fn wrecked_batch() {
    let failed = Outcome::Failed(ToyError::Panicked);
    all_end(&[(WRECKS, &[], failed), (TOGETHER, &[], Outcome::Ready(2))]);
}

/// A fragment that waits for a member of a batch is no member of it.
pub fn dependent_stays_behind() {
    all_end(&[
        (TOGETHER, &[], Outcome::Ready(2)),
        (TOGETHER, &[1], Outcome::Ready(4)),
        (TOGETHER, &[], Outcome::Ready(2)),
    ]);
}

/// An abort finds every member: run, or closed.
pub fn gather_vs_abort() {
    let (ex, batches) = owned();
    let s = submit(&ex, 1, TOGETHER, &[]);
    let t = submit(&ex, 2, TOGETHER, &[]);
    let e = ex.clone();
    let closer = spawn(move || e.abort());
    for s in [s, t].into_iter().flatten() {
        saw_end(&wait_async(&s), 2);
    }
    closer.join().unwrap();
    ended(&ex, &batches, &[1, 2]);
}

/// A batch waits for others: who comes joins it or not, and nobody waits for ever.
pub fn delayed_vs_send() {
    let engine = ToyEngine::patient();
    let batches = engine.batches();
    let ex = start(4, engine);
    let e = ex.clone();
    let other = spawn(move || {
        let t = submit(&e, 2, TOGETHER, &[]).unwrap();
        assert_eq!(wait_async(&t), Outcome::Ready(2));
    });
    let s = submit(&ex, 1, TOGETHER, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(2));
    drop(s);
    other.join().unwrap();
    ended(&ex, &batches, &[1, 2]);
}
