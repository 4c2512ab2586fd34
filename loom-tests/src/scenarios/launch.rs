//! The launch: submissions of several outputs that overlap. No two fragments wait for each other.
//!
//! A node is written as its operands; it adds a number of its own. A number in brackets is that of a claim.

use crate::core::actor::launch::Start;
use crate::core::store::slot::Outcome;
use crate::core::store::tag::Tag;
use crate::runner::saw;
use crate::threads::spawn;
use crate::toy::*;

mod ends;

pub use ends::*;

/// Starts a thread of a scenario.
/// Submits nodes for the owner to run.
pub(super) fn post(ex: &Ex, tensors: &[&Tensor]) -> Sub {
    ask(ex, tensors, Start::Post)
}

/// Submits nodes; with [`Start::Run`] this thread runs them if no other one drives.
pub(super) fn ask(ex: &Ex, tensors: &[&Tensor], start: Start) -> Sub {
    submit_all(ex, Ask::new(ex, tensors), Tag::default(), start)
        .expect("a good graph")
        .expect("it is open")
}

/// How every output of a submission has ended. If one has not, it waits in a circle, or is forgotten.
pub(super) fn ends(submission: &Sub) -> Vec<End> {
    let outputs = submission.outputs().iter();
    outputs
        .map(|slot| peek(slot).expect("every fragment has run, and none waits in a circle"))
        .collect()
}

/// Every output has ended with its value.
pub(super) fn all_ready(submission: &Sub, values: &[u32]) {
    let ready: Vec<End> = values.iter().map(|&value| Outcome::Ready(value)).collect();
    assert_eq!(ends(submission), ready);
}

/// Closes an executor without an owner's thread, and nothing is left of these nodes.
pub(super) fn closed(ex: &Ex, nodes: &[&Tensor]) {
    step_down(ex);
    nothing_left(ex, nodes.iter().map(|node| node.id()));
}

/// Notes whether a second cut went past a younger claim.
fn note_passed_over(ex: &Ex) {
    match ex.store().recomputed() {
        0 => saw("none passed over"),
        _ => saw("passed over"),
    }
}

/// s, q = s, p = q.
pub(super) fn chain() -> [Tensor; 3] {
    let s = node(1, 1, &[]);
    let q = node(2, 10, &[&s]);
    let p = node(3, 100, &[&q]);
    [s, q, p]
}

/// The circle of the old protocol, with which two handles waited for each other for ever.
///
/// ```text
///   T2: submit(q, s)             T1: submit(p, s)
///   cut: q and s are its own
///   claim q [1]
///                                cut: leans on q [1]; p and s are its own
///                                claim p [2], s [2]
///   s is T1's: cut q again.
///   s [2] is younger than q [1]
///   and has not begun: q
///   computes it inside.
///                                p waits for q, and q for nothing
/// ```
fn overlap(engine: ToyEngine, start: Start) {
    let ex = idle(2, engine);
    let [s, q, p] = chain();
    let (e, s2, q2) = (ex.clone(), s.clone(), q.clone());
    let t = spawn(move || ask(&e, &[&q2, &s2], start));
    let sub = ask(&ex, &[&p, &s], start);
    if start == Start::Post {
        ex.step(); // what T2 leans on may have begun
    }
    let other = t.join().unwrap();
    ex.step();
    all_ready(&sub, &[111, 1]);
    all_ready(&other, &[11, 1]);
    note_passed_over(&ex);
    drop((sub, other));
    closed(&ex, &[&s, &q, &p]);
}

/// Done when it returns.
pub fn overlap_cpu() {
    overlap(ToyEngine::cpu(), Start::Post);
}

/// With tickets.
pub fn overlap_gpu() {
    overlap(ToyEngine::gpu(), Start::Post);
}

/// Each thread runs its own work if the other one does not drive.
pub fn overlap_run() {
    overlap(ToyEngine::cpu(), Start::Run);
}

/// The same through a queue with one place.
///
/// ```text
///   T2: submit(q, s)             T1: submit(p, s)
///   cut, permit
///                                cut, wait for room
///   claim, send
///   drive: give the permit back
///                                permit, claim p; s is T2's: cut p again, and find q
/// ```
pub fn overlap_one_place() {
    let ex = idle(1, ToyEngine::gpu());
    let [s, q, p] = chain();
    let (e, s2, q2) = (ex.clone(), s.clone(), q.clone());
    let t = spawn(move || {
        let sub = post(&e, &[&q2, &s2]);
        e.step();
        sub
    });
    let sub = post(&ex, &[&p, &s]);
    ex.step();
    let other = t.join().unwrap();
    ex.step();
    all_ready(&sub, &[111, 1]);
    all_ready(&other, &[11, 1]);
    note_passed_over(&ex);
    drop((sub, other));
    closed(&ex, &[&s, &q, &p]);
}

/// A circle through a node that T2 did not ask for and that is claimed before T2's second cut: claiming
/// several outputs in one step would not prevent it.
///
/// ```text
///   T2: submit(q, s), q = m, m = s     T1: submit(p, m, s), p = q
///   claim q [1]
///                                      cut: leans on q [1]
///                                      claim p [2], m [2], s [2]
///   s is T1's: cut q again.
///   m [2] is younger and has not
///   begun: q computes it inside,
///   and s inside of that
/// ```
fn intermediate(engine: ToyEngine) {
    let ex = idle(2, engine);
    let s = node(1, 1, &[]);
    let m = node(4, 20, &[&s]);
    let q = node(2, 10, &[&m]);
    let p = node(3, 100, &[&q]);
    let (e, s2, q2) = (ex.clone(), s.clone(), q.clone());
    let t = spawn(move || post(&e, &[&q2, &s2]));
    let sub = post(&ex, &[&p, &m, &s]);
    let other = t.join().unwrap();
    ex.step();
    all_ready(&sub, &[131, 21, 1]);
    all_ready(&other, &[31, 1]);
    note_passed_over(&ex);
    drop((sub, other));
    closed(&ex, &[&s, &m, &q, &p]);
}

/// Done when it returns.
pub fn intermediate_cpu() {
    intermediate(ToyEngine::cpu());
}

/// With tickets.
pub fn intermediate_gpu() {
    intermediate(ToyEngine::gpu());
}

/// Three submissions, each of which shares a node with each of the others.
///
/// ```text
///   T3: submit(q, s)       T2: submit(p, q)         T1: submit(p, s)
///   claim q [1]
///                          cut: leans on q [1]
///                          claim p [2]
///                                                   cut: leans on p [2]; claim s [3]
///   s [3] is younger:      q is T3's: cut p again,  wait for p
///   computed inside        leans on q [1]
/// ```
pub fn three_overlap() {
    let ex = idle(3, ToyEngine::gpu());
    let [s, q, p] = chain();
    let (e, q3, s3) = (ex.clone(), q.clone(), s.clone());
    let t3 = spawn(move || post(&e, &[&q3, &s3]));
    let (e, q2, p2) = (ex.clone(), q.clone(), p.clone());
    let t2 = spawn(move || post(&e, &[&p2, &q2]));
    let sub = post(&ex, &[&p, &s]);
    let (second, third) = (t2.join().unwrap(), t3.join().unwrap());
    ex.step();
    all_ready(&sub, &[111, 1]);
    all_ready(&second, &[111, 11]);
    all_ready(&third, &[11, 1]);
    note_passed_over(&ex);
    drop((sub, second, third));
    closed(&ex, &[&s, &q, &p]);
}

/// The same two nodes, that depend on each other in one direction, in opposite order.
///
/// ```text
///   T2: submit(q, s)             T1: submit(s, q)
///   claim q [1]
///                                claim s [2]
///   claim s: T1's                claim q: T2's
///   cut q again: s [2] is        cut s again
///   younger, computed inside
/// ```
pub fn opposite_order() {
    let ex = idle(2, ToyEngine::cpu());
    let [s, q, _] = chain();
    let (e, s2, q2) = (ex.clone(), s.clone(), q.clone());
    let t = spawn(move || post(&e, &[&q2, &s2]));
    let sub = post(&ex, &[&s, &q]);
    let other = t.join().unwrap();
    ex.step();
    all_ready(&sub, &[1, 11]);
    all_ready(&other, &[11, 1]);
    match sub.outputs()[0].number() == sub.outputs()[1].number() {
        true => saw("one has both"),
        false => saw("each has one"),
    }
    note_passed_over(&ex);
    drop((sub, other));
    closed(&ex, &[&s, &q]);
}

/// A dependent comes while what it leans on is claimed and not sent.
///
/// ```text
///   T2: submit(q)                T1: submit(p), p = q
///   claim q [1]
///                                cut: leans on q [1]
///                                claim p [2], send
///                   owner: p waits for q, which it has not received
///   send q
///                   owner: q, then p
/// ```
fn not_yet_sent(engine: ToyEngine, start: Start) {
    let ex = idle(2, engine);
    let [s, q, p] = chain();
    let (e, q2) = (ex.clone(), q.clone());
    let t = spawn(move || post(&e, &[&q2]));
    let sub = ask(&ex, &[&p], start);
    ex.step();
    match peek(&sub.outputs()[0]) {
        None => saw("dependent first"),
        Some(_) => saw("in order"),
    }
    let other = t.join().unwrap();
    ex.step();
    all_ready(&sub, &[111]);
    all_ready(&other, &[11]);
    drop((sub, other));
    closed(&ex, &[&s, &q, &p]);
}

/// Done when it returns.
pub fn not_yet_sent_cpu() {
    not_yet_sent(ToyEngine::cpu(), Start::Post);
}

/// The dependent's thread has the turn, cannot run its own work, and gives the turn back.
pub fn not_yet_sent_run() {
    not_yet_sent(ToyEngine::cpu(), Start::Run);
}

/// With tickets.
pub fn not_yet_sent_gpu() {
    not_yet_sent(ToyEngine::gpu(), Start::Post);
}
