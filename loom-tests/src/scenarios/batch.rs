//! Fragments that run as one: who joins, who leaves, and what becomes of the others.

use crate::core::store::slot::{Cancel, Outcome};
use crate::runner::saw;
use crate::threads::{saw_batches, saw_end, spawn};
use crate::toy::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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
    all_end_on(ToyEngine::default(), works);
}

fn all_end_on(engine: ToyEngine, works: &[(u32, &[u64], End)]) {
    let batches = engine.batches();
    let ex = start(4, engine);
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

/// The same on a device with tickets, whose members have one.
pub fn spoiler_in_flight() {
    let works: [(u32, &[u64], End); 3] = [
        (TOGETHER, &[], Outcome::Ready(2)),
        (SHY, &[], Outcome::Ready(1)),
        (TOGETHER, &[], Outcome::Ready(2)),
    ];
    all_end_on(ToyEngine::gpu(), &works);
}

/// A batch is full: who comes next is no member of it.
pub fn full_batch() {
    let engine = ToyEngine::cpu();
    let batches = engine.batches();
    let ex = idle(4, engine);
    let post = |ex: &Ex, id: u64| submit(ex, id, TOGETHER, &[]).expect("it is open");
    let mut subs: Vec<Sub> = (1..=3).map(|id| post(&ex, id)).collect();
    let e = ex.clone();
    let t = spawn(move || post(&e, 4));
    ex.step();
    subs.push(t.join().unwrap());
    ex.step();
    subs.iter()
        .for_each(|sub| assert_eq!(end(sub), Outcome::Ready(2)));
    assert_eq!(batches.load(Relaxed), 1, "three go together");
    drop(subs);
    step_down(&ex);
    nothing_left(&ex, 1..=4);
}

/// The engine panics while it chooses who joins a batch: that is the owner's end, and all are told.
pub fn choosing_panics() {
    let ex = idle(4, ToyEngine::cpu());
    let first = submit(&ex, 1, TOGETHER, &[]).expect("it is open");
    let unfit = submit(&ex, 2, UNFIT, &[]).expect("it is open");
    let t = spawn(move || wait_async(&unfit));
    ex.step();
    let lost = Outcome::Failed(ToyError::OwnerLost);
    assert_eq!(t.join().unwrap(), lost);
    assert_eq!(end(&first), lost);
    assert!(submit(&ex, 3, 1, &[]).is_none(), "it refuses");
    drop(first);
    step_down(&ex);
    nothing_left(&ex, 1..=3);
}

/// A task runs its own in a poll, and nobody joins it, although another thread's goes together with it.
pub fn poll_gathers_nobody() {
    let engine = ToyEngine::cpu();
    let batches = engine.batches();
    let ex = idle(2, engine);
    let e = ex.clone();
    let t = spawn(move || submit(&e, 1, TOGETHER, &[]).expect("it is open"));
    let mine = run_if_idle(&ex, 2, TOGETHER).expect("it is open");
    assert_eq!(batches.load(Relaxed), 0, "another's ran in a poll");
    saw(if mine.is_finished() { "ran" } else { "queued" });
    let other = t.join().unwrap();
    ex.step();
    for sub in [&mine, &other] {
        assert_eq!(end(sub), Outcome::Ready(2));
    }
    drop((mine, other));
    step_down(&ex);
    nothing_left(&ex, [1, 2]);
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
