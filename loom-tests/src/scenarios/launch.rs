//! The launch: submissions of several outputs that overlap. No two fragments wait for each other.
//!
//! A node is written as its operands; it adds a number of its own. A number in brackets is that of a claim.

use crate::core::actor::launch::Start;
use crate::core::store::tag::Tag;
use crate::runner::saw;
use crate::threads::{post_beside, saw_winner, spawn};
use crate::toy::*;

mod ends;
mod left;

pub use ends::*;
pub use left::*;

/// Submits nodes; with [`Start::Run`] this thread runs them if no other one drives.
fn ask(ex: &Ex, tensors: &[&Tensor], start: Start) -> Sub {
    ask_all(ex, Ask::new(ex, tensors), Tag::default(), start)
}

/// Notes whether a second cut went past a younger claim.
fn note_passed_over(ex: &Ex) {
    match ex.store().recomputed() {
        0 => saw("none passed over"),
        _ => saw("passed over"),
    }
}

/// The graph of most of these scenarios: s, q = s, p = q.
fn chain() -> [Tensor; 3] {
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

/// The circle on a device that is done when it returns.
pub fn overlap_cpu() {
    overlap(ToyEngine::cpu(), Start::Post);
}

/// The circle on a device with tickets.
pub fn overlap_gpu() {
    overlap(ToyEngine::gpu(), Start::Post);
}

/// The circle, where each thread runs its own work if the other one does not drive.
pub fn overlap_run() {
    overlap(ToyEngine::cpu(), Start::Run);
}

/// The circle through a queue with one place.
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
    let t = post_beside(&ex, &[&q, &s]);
    let sub = post(&ex, &[&p, &m, &s]);
    let other = t.join().unwrap();
    ex.step();
    all_ready(&sub, &[131, 21, 1]);
    all_ready(&other, &[31, 1]);
    note_passed_over(&ex);
    drop((sub, other));
    closed(&ex, &[&s, &m, &q, &p]);
}

/// That circle on a device that is done when it returns.
pub fn intermediate_cpu() {
    intermediate(ToyEngine::cpu());
}

/// That circle on a device with tickets.
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
    let t3 = post_beside(&ex, &[&q, &s]);
    let t2 = post_beside(&ex, &[&p, &q]);
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

/// Two submissions of the same two nodes, of which one depends on the other, in opposite order.
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
    let t = post_beside(&ex, &[&q, &s]);
    let sub = post(&ex, &[&s, &q]);
    let other = t.join().unwrap();
    ex.step();
    all_ready(&sub, &[1, 11]);
    all_ready(&other, &[11, 1]);
    saw_winner(&sub);
    note_passed_over(&ex);
    drop((sub, other));
    closed(&ex, &[&s, &q]);
}

/// Two submissions of the same nodes in the same order: one may lose the first and win the second. What
/// it then sends is of the second alone, and its place is not taken for that of the first.
pub fn first_place_lost() {
    let ex = idle(2, ToyEngine::cpu());
    let [s, q, _] = chain();
    let t = post_beside(&ex, &[&s, &q]);
    let sub = post(&ex, &[&s, &q]);
    let other = t.join().unwrap();
    ex.step();
    all_ready(&sub, &[1, 11]);
    all_ready(&other, &[1, 11]);
    saw_winner(&sub);
    assert_eq!(ex.counts().cancelled, 0, "nothing was withdrawn");
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
    let t = post_beside(&ex, &[&q]);
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

/// A dependent of what is not yet sent, on a device that is done when it returns.
pub fn not_yet_sent_cpu() {
    not_yet_sent(ToyEngine::cpu(), Start::Post);
}

/// The thread of a dependent of what is not yet sent has the turn, cannot run its own work, and gives the turn back.
pub fn not_yet_sent_run() {
    not_yet_sent(ToyEngine::cpu(), Start::Run);
}

/// A dependent of what is not yet sent, on a device with tickets.
pub fn not_yet_sent_gpu() {
    not_yet_sent(ToyEngine::gpu(), Start::Post);
}
