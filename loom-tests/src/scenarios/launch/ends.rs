//! Launches that fail, and submissions that overlap with cancelling and closing.

use super::chain;
use crate::core::actor::launch::{Ready, Start};
use crate::core::actor::shared::Core;
use crate::core::panics::contain;
use crate::core::store::slot::{Cancel, Outcome};
use crate::core::store::tag::Tag;
use crate::runner::saw;
use crate::threads::{saw_end, spawn};
use crate::toy::*;
use std::panic::resume_unwind;

/// Notes how a dependent ended: the launch before it failed, or was in time.
fn dependent(end: &End) {
    match end {
        Outcome::Ready(111) => saw("dependent ready"),
        Outcome::Failed(ToyError::Failed) => saw("dependent failed"),
        other => panic!("{other:?}"),
    }
}

/// Submits again what was given up, which has values now.
fn again(ex: &Ex, tensors: &[&Tensor], values: &[u32]) {
    let sub = post(ex, tensors);
    ex.step();
    all_ready(&sub, values);
}

/// A launch fails in its second cut, and another one leans on what it had claimed.
///
/// ```text
///   T2: submit(q, s)             T1: submit(p, s)
///   claim q [1]
///                                cut: leans on q [1]
///                                claim p [2], s [2], send
///   s is T1's: cut again, which
///   fails: give up q
///                   owner, called: p is not blocked any more, and fails
///   submit(q): a value
/// ```
fn second_cut_fails(engine: ToyEngine) {
    let ex = idle(2, engine);
    let [s, q, p] = chain();
    let (e, s2, q2) = (ex.clone(), s.clone(), q.clone());
    let t = spawn(move || {
        let ask = Ask::new(&e, &[&q2, &s2]).fail_second_cut();
        submit_all(&e, ask, Tag::default(), Start::Post)
    });
    let sub = post(&ex, &[&p, &s]);
    ex.step();
    let other = t.join().unwrap();
    ex.step();
    match other {
        Ok(other) => all_ready(&other.expect("it is open"), &[11, 1]),
        Err(error) => {
            assert_eq!(error, ToyError::Failed);
            saw("refused");
        }
    }
    let ended = ends(&sub);
    dependent(&ended[0]);
    assert_eq!(ended[1], Outcome::Ready(1), "it does not depend on q");
    again(&ex, &[&q], &[11]);
    drop(sub);
    closed(&ex, &[&s, &q, &p]);
}

/// A second cut fails on a device that is done when it returns.
pub fn second_cut_fails_cpu() {
    second_cut_fails(ToyEngine::cpu());
}

/// A second cut fails on a device with tickets.
pub fn second_cut_fails_gpu() {
    second_cut_fails(ToyEngine::gpu());
}

/// A launch fails in its second cut, and another one has shared what it had claimed: that ends with its error.
///
/// ```text
///   T1                           T2: submit(q, s), after its first cut
///   submit(s)
///                                claim q; s is T1's
///   submit(q): T2's
///                                the second cut fails: give up q
/// ```
pub fn refusal_is_told() {
    let ex = idle(3, ToyEngine::cpu());
    let [s, q, _] = chain();
    let ready = Ready::cut(Ask::new(&ex, &[&q, &s]).fail_second_cut()).expect("a good graph");
    let e = ex.clone();
    let t = spawn(move || {
        let permit = e.try_admit(0).expect("room");
        let launched = Core::launch(&e, ready, permit, Tag::default(), Start::Post);
        launched.map(drop)
    });
    let subs = (post(&ex, &[&s]), post(&ex, &[&q]));
    let launched = t.join().unwrap();
    ex.step();
    match end(&subs.1) {
        Outcome::Ready(11) => saw("its own"),
        end => {
            assert_eq!(end, Outcome::Failed(ToyError::Failed));
            assert_eq!(launched, Err(ToyError::Failed));
            saw("told");
        }
    }
    drop(subs);
    closed(&ex, &[&s, &q]);
}

/// Submits a node with a launch that panics after it has claimed, unless another one claimed it before.
fn panics_in_launch(ex: &Ex, tensor: &Tensor) {
    let ask = Ask::new(ex, &[tensor]).before_send(|_| resume_unwind(Box::new("in the launch")));
    let joined = contain(|| submit_all(ex, ask, Tag::default(), Start::Post));
    assert!(joined.is_none_or(|joined| joined.is_ok()));
}

/// A launch panics after it has claimed, and another one leans on that.
///
/// ```text
///   T2: submit(q)                T1: submit(p), p = q
///   claim q [1]
///                                cut: leans on q [1]
///                                claim p [2], send
///                   owner: p waits for q
///   panic: give up q
///                   owner, called: p fails
///   submit(q): a value
/// ```
fn launch_panics(engine: ToyEngine) {
    let ex = idle(2, engine);
    let [s, q, p] = chain();
    let (e, q2) = (ex.clone(), q.clone());
    let t = spawn(move || {
        panics_in_launch(&e, &q2);
    });
    let sub = post(&ex, &[&p]);
    ex.step();
    t.join().unwrap();
    ex.step();
    dependent(&ends(&sub)[0]);
    again(&ex, &[&q], &[11]);
    drop(sub);
    closed(&ex, &[&s, &q, &p]);
}

/// A launch panics on a device that is done when it returns.
pub fn launch_panics_cpu() {
    launch_panics(ToyEngine::cpu());
}

/// A launch panics on a device with tickets.
pub fn launch_panics_gpu() {
    launch_panics(ToyEngine::gpu());
}

/// A launch gives up q while another launch, which shares it as an output, is between its cuts.
///
/// ```text
///   T2: submit(q)                T1: submit(q, s)
///   claim q [1]
///                                cut: q and s are its own
///                                claim q: T2's; claim s [2]
///   panic: give up q
///                                cut s again, send; q ends with T2's error
/// ```
pub fn shared_claim_refused() {
    let ex = idle(2, ToyEngine::cpu());
    let [s, q, _] = chain();
    let (e, q2) = (ex.clone(), q.clone());
    let t = spawn(move || {
        panics_in_launch(&e, &q2);
    });
    let sub = post(&ex, &[&q, &s]);
    ex.step();
    t.join().unwrap();
    ex.step();
    match &ends(&sub)[..] {
        [Outcome::Ready(11), Outcome::Ready(1)] => saw("its own"),
        [Outcome::Failed(ToyError::NeverSent), Outcome::Ready(1)] => saw("told"),
        other => panic!("{other:?}"),
    }
    drop(sub);
    again(&ex, &[&q, &s], &[11, 1]);
    closed(&ex, &[&s, &q]);
}

/// A node that is given up between a launch's cuts: it is computed inside.
///
/// ```text
///   T2: submit(m, x)             T1: submit(q, x), q = m
///                                cut: m, q and x are its own
///   claim m [1], x [1], send
///                                claim q [2]; x is T2's
///   cancel: m is given up,
///   x is T1's too and goes on
///                                cut q again: m is not leaned on
/// ```
pub fn given_up_between_cuts() {
    let ex = idle(2, ToyEngine::cpu());
    let (m, x) = (node(1, 1, &[]), node(2, 2, &[]));
    let q = node(3, 10, &[&m]);
    let (e, m2, x2) = (ex.clone(), m.clone(), x.clone());
    let t = spawn(move || {
        let sub = post(&e, &[&m2, &x2]);
        let cancel = sub.cancel();
        (sub, cancel)
    });
    let sub = post(&ex, &[&q, &x]);
    let (other, cancel) = t.join().unwrap();
    ex.step();
    all_ready(&sub, &[11, 2]);
    match (cancel, &ends(&other)[..]) {
        (Cancel::Shared, [Outcome::Cancelled, Outcome::Ready(2)]) => saw("given up"),
        (Cancel::Cancelled, [Outcome::Cancelled, Outcome::Cancelled]) => saw("both given up"),
        (_, [Outcome::Ready(1), Outcome::Ready(2) | Outcome::Cancelled]) => saw("leaned on"),
        other => panic!("{other:?}"),
    }
    drop((sub, other));
    closed(&ex, &[&m, &x, &q]);
}

/// Submissions that overlap, of which one is cancelled: the other does not notice.
///
/// ```text
///   T2: submit(q, s)             T1: submit(p, s)
///   claim q [1]
///                                cut: leans on q [1]
///                                claim p [2], s [2], send
///   cut q again, send
///                                cancel: p is given up; s is T2's too
///   wait: both have values
/// ```
fn overlap_vs_cancel(engine: ToyEngine, drives: bool) {
    let ex = idle(2, engine);
    let [s, q, p] = chain();
    let (e, s2, q2) = (ex.clone(), s.clone(), q.clone());
    let t = spawn(move || {
        let sub = post(&e, &[&q2, &s2]);
        if drives {
            e.step();
        }
        sub
    });
    let sub = post(&ex, &[&p, &s]);
    let cancel = sub.cancel();
    let other = t.join().unwrap();
    ex.step();
    all_ready(&other, &[11, 1]);
    match (&ends(&sub)[..], cancel) {
        ([Outcome::Cancelled, Outcome::Ready(1)], cancel) => {
            assert_ne!(cancel, Cancel::Finished);
            saw("one given up");
        }
        ([Outcome::Cancelled, Outcome::Cancelled], Cancel::Cancelled) => saw("both given up"),
        ([Outcome::Ready(111), Outcome::Ready(1)], Cancel::Running | Cancel::Finished) => {
            saw("too late");
        }
        other => panic!("{other:?}"),
    }
    let given_up = ends(&sub)[0] == Outcome::Cancelled;
    assert_eq!(
        p.has_origin(),
        given_up,
        "what has run is forgotten, else not"
    );
    drop((sub, other));
    closed(&ex, &[&s, &q, &p]);
}

/// One is cancelled before anything has run.
pub fn overlap_then_cancel() {
    overlap_vs_cancel(ToyEngine::cpu(), false);
}

/// One is cancelled while T2 drives, and what is cancelled may have been issued.
pub fn overlap_vs_cancel_gpu() {
    overlap_vs_cancel(ToyEngine::gpu(), true);
}

/// Submissions that overlap, and the executor closes: what was accepted has values.
///
/// ```text
///   T2: submit(q, s)             T1: submit(p, s); close
///   permit, claim q [1]
///                                permit, claim p [2], s [2], send; close
///   cut q again: s [2] is
///   younger; send
///                   owner: q, then p; every permit is back: leave
/// ```
pub fn overlap_vs_close() {
    let ex = idle(2, ToyEngine::gpu());
    let [s, q, p] = chain();
    let (e, s2, q2) = (ex.clone(), s.clone(), q.clone());
    let t = spawn(move || {
        let ask = Ask::new(&e, &[&q2, &s2]);
        submit_all(&e, ask, Tag::default(), Start::Post).expect("a good graph")
    });
    let sub = post(&ex, &[&p, &s]);
    ex.close();
    ex.step();
    let other = t.join().unwrap();
    ex.step();
    all_ready(&sub, &[111, 1]);
    match &other {
        Some(other) => {
            all_ready(other, &[11, 1]);
            saw("ran");
        }
        None => saw("refused"),
    }
    drop((sub, other));
    closed(&ex, &[&s, &q, &p]);
}

/// Submissions that overlap, and the executor is aborted: each output has a value or is closed.
///
/// ```text
///   T2: submit(q, s)             T1: submit(p, s); abort
///   permit, claim q [1]
///                                permit, claim p [2], s [2], send; abort
///                   owner: closes p and s; T2's permit is not back
///   cut q again, send
///                   owner: closes q; every permit is back: leave
/// ```
fn overlap_vs_abort(engine: ToyEngine) {
    let ex = idle(2, engine);
    let [s, q, p] = chain();
    let (e, s2, q2) = (ex.clone(), s.clone(), q.clone());
    let t = spawn(move || {
        let ask = Ask::new(&e, &[&q2, &s2]);
        let sub = submit_all(&e, ask, Tag::default(), Start::Post).expect("a good graph");
        e.step();
        sub
    });
    let sub = post(&ex, &[&p, &s]);
    ex.abort();
    let other = t.join().unwrap();
    ex.step();
    ready_or_closed(&ends(&sub), &[111, 1]);
    match &other {
        Some(other) => ready_or_closed(&ends(other), &[11, 1]),
        None => saw("refused"),
    }
    drop((sub, other));
    closed(&ex, &[&s, &q, &p]);
}

/// Each output has its value, or was closed before it began.
fn ready_or_closed(ends: &[End], values: &[u32]) {
    ends.iter()
        .zip(values)
        .for_each(|(end, &value)| saw_end(end, value));
}

/// Aborted on a device that is done when it returns.
pub fn overlap_vs_abort_cpu() {
    overlap_vs_abort(ToyEngine::cpu());
}

/// Aborted on a device with tickets.
pub fn overlap_vs_abort_gpu() {
    overlap_vs_abort(ToyEngine::gpu());
}
