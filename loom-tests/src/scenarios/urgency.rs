//! Who asks more urgently for a result lifts it and what it depends on; and what came in is looked at before
//! every choice.
//!
//! A fragment is known in the order of what was run by what its last node adds.

use crate::core::actor::launch::Start;
use crate::core::store::slot::{Cancel, Outcome};
use crate::core::store::tag::{Priority, Tag};
use crate::runner::saw;
use crate::threads::{post_beside, saw_batches, spawn};
use crate::toy::*;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

mod waits;

pub use waits::*;

/// What has been run, by what it adds.
type Order = Arc<Mutex<Vec<u32>>>;

/// Submits nodes with a priority, as a producer of their own class.
fn post_as(ex: &Ex, tensors: &[&Tensor], priority: Priority) -> Sub {
    let tag = Tag {
        producer: priority as u64,
        ..urgent(priority)
    };
    ask_all(ex, Ask::new(ex, tensors), tag, Start::Post)
}

/// Submits nodes as background work.
fn background(ex: &Ex, tensors: &[&Tensor]) -> Sub {
    post_as(ex, tensors, Priority::Background)
}

/// Submits nodes that somebody waits for.
fn interactive(ex: &Ex, tensors: &[&Tensor]) -> Sub {
    post_as(ex, tensors, Priority::Interactive)
}

/// What has been run so far.
fn seen(order: &Order) -> Vec<u32> {
    order.lock().unwrap().clone()
}

/// An executor without an owner's thread, for so many, and what it runs.
fn watched(fragments: usize) -> (Ex, Order) {
    let engine = ToyEngine::cpu();
    let order = engine.order();
    (idle(fragments, engine), order)
}

/// A thread asks urgently for a background result while the owner chooses.
///
/// ```text
///   owner                        T2
///   b: background, n: normal, both received
///                                submit(b), interactive: b is lifted
///   choose: b, then n
/// ```
pub fn lift_vs_choice() {
    let (ex, order) = watched(2);
    let (b, n) = (node(1, 1, &[]), node(2, 2, &[]));
    let first = background(&ex, &[&b]);
    let second = post(&ex, &[&n]);
    let (e, b2) = (ex.clone(), b.clone());
    let t = spawn(move || interactive(&e, &[&b2]));
    ex.step();
    let third = t.join().unwrap();
    ex.step();
    match seen(&order)[..] {
        [1, 2] => saw("lifted"),
        [2, 1] => saw("too late"),
        ref other => panic!("{other:?}"),
    }
    for (sub, value) in [(&first, 1), (&second, 2), (&third, 1)] {
        assert_eq!(ends(sub), [Outcome::Ready(value)]);
    }
    drop((first, second, third));
    closed(&ex, &[&b, &n]);
}

/// The lift comes while the message of what is lifted is on its way: it counts wherever the task is.
///
/// ```text
///   T2                           T1
///   n is queued
///   claim b, background
///                                submit(b), interactive: b is lifted, and not received yet
///   send b
///   owner: receive n, and b with its new class: b, then n
/// ```
pub fn lift_vs_message() {
    let (ex, order) = watched(3);
    let (b, n) = (node(1, 1, &[]), node(2, 2, &[]));
    let first = post(&ex, &[&n]);
    let (e, b2) = (ex.clone(), b.clone());
    let t = spawn(move || background(&e, &[&b2]));
    let second = interactive(&ex, &[&b]);
    let third = t.join().unwrap();
    match second.outputs()[0].task().tag().priority {
        Priority::Background => saw("joined"),
        _ => saw("its own"),
    }
    ex.step();
    assert_eq!(seen(&order), [1, 2], "lifted before the owner chose");
    drop((first, second, third));
    closed(&ex, &[&b, &n]);
}

/// The lift reaches what the lifted depends on, and that in turn.
///
/// ```text
///   owner                        T2
///   b, c = b: background; n: normal
///                                submit(d), interactive, d = c: c is lifted
///   choose: c, which waits for b: b is lifted too. b, c, d, then n
/// ```
pub fn lift_reaches_down() {
    let (ex, order) = watched(4);
    let (b, n) = (node(1, 1, &[]), node(4, 8, &[]));
    let c = node(2, 2, &[&b]);
    let d = node(3, 4, &[&c]);
    let first = background(&ex, &[&b]);
    let second = background(&ex, &[&c]);
    let t = post_beside(&ex, &[&n]);
    let third = interactive(&ex, &[&d]);
    ex.step();
    let fourth = t.join().unwrap();
    ex.step();
    // n may come when some of them, or all, have run; what is lifted goes first from the first choice on
    let order = seen(&order);
    assert_eq!(order, [1, 2, 4, 8], "not lifted with what waits for it");
    drop((first, second, third, fourth));
    closed(&ex, &[&b, &c, &d, &n]);
}

/// The one that submitted a background result cancels it while another lifts it.
///
/// ```text
///   T2                           T1
///   b: background, n: normal
///   cancel b
///                                submit(b), interactive: shares it, or has it computed anew
///   owner: b, then n
/// ```
pub fn lift_vs_cancel() {
    let (ex, order) = watched(3);
    let (b, n) = (node(1, 1, &[]), node(2, 2, &[]));
    let first = background(&ex, &[&b]);
    let second = post(&ex, &[&n]);
    let t = spawn(move || {
        let cancel = first.cancel();
        (first, cancel)
    });
    let third = interactive(&ex, &[&b]);
    let (first, cancel) = t.join().unwrap();
    match cancel {
        Cancel::Shared => saw("shared"),
        Cancel::Cancelled => saw("cancelled"),
        other => panic!("{other:?}"),
    }
    ex.step();
    assert_eq!(seen(&order), [1, 2]);
    assert_eq!(ends(&third), [Outcome::Ready(1)]);
    drop((first, second, third));
    closed(&ex, &[&b, &n]);
}

/// The lifted task is queued twice; its first turn takes the work, and a cancel may come between.
///
/// ```text
///   owner                        T2
///   b: received, background
///   submit(b), interactive; drop that
///                                cancel b
///   choose: b, if it is still wanted; its second turn finds nothing
/// ```
pub fn lifted_vs_cancel() {
    let (ex, order) = watched(3);
    let (a, b) = (node(1, 1, &[]), node(2, 2, &[]));
    let first = background(&ex, &[&b]);
    let third = {
        // an operation during which b is received, and then lifted
        let (e, b2) = (ex.clone(), b.clone());
        let lift = move || drop(interactive(&e, &[&b2]));
        post_ask(&ex, Ask::new(&ex, &[&a]).hook(lift))
    };
    let t = spawn(move || {
        let cancel = first.cancel();
        (first, cancel)
    });
    ex.step();
    let (first, cancel) = t.join().unwrap();
    ex.step();
    match (cancel, &seen(&order)[..]) {
        (Cancel::Cancelled, [1]) => saw("withdrawn"),
        (_, [1, 2]) => saw("ran"),
        other => panic!("{other:?}"),
    }
    drop((first, third));
    closed(&ex, &[&a, &b]);
}

/// One task is ready, and a more urgent one comes: the owner looks before it chooses.
///
/// ```text
///   owner                        T2
///   run a, whose operation
///   submits i, interactive
///                                submit b, background
///   choose: i, then b
/// ```
pub fn newcomer_first() {
    let (ex, order) = watched(3);
    let (a, b, i) = (node(1, 1, &[]), node(2, 2, &[]), node(3, 4, &[]));
    let (e, i2) = (ex.clone(), i.clone());
    let came: Arc<Mutex<Option<Sub>>> = Arc::default(); // outside of the model
    let keep = came.clone();
    let submits = move || *keep.lock().unwrap() = Some(interactive(&e, &[&i2]));
    let first = post_ask(&ex, Ask::new(&ex, &[&a]).hook(submits));
    let (e, b2) = (ex.clone(), b.clone());
    let t = spawn(move || background(&e, &[&b2]));
    ex.step();
    let second = t.join().unwrap();
    ex.step();
    assert_eq!(seen(&order), [1, 4, 2]);
    let came = came.lock().unwrap().take().expect("a has run");
    assert_eq!(ends(&came), [Outcome::Ready(4)]);
    drop((first, second, came));
    closed(&ex, &[&a, &b, &i]);
}

/// A batch of fragments that run as one holds one class, whoever came between.
///
/// ```text
///   owner                        T2
///   n: normal; b: background
///                                submit m, normal
///   batch: n and m, or n alone; never b with one of them
/// ```
pub fn one_class_per_batch() {
    let engine = ToyEngine::cpu();
    let (order, batches) = (engine.order(), engine.batches());
    let ex = idle(3, engine);
    let nodes = [TOGETHER, TOGETHER, TOGETHER];
    let [n, m, b]: [Tensor; 3] = std::array::from_fn(|at| node(at as u64 + 1, nodes[at], &[]));
    let first = post(&ex, &[&n]);
    let second = background(&ex, &[&b]);
    let t = post_beside(&ex, &[&m]);
    ex.step();
    let third = t.join().unwrap();
    ex.step();
    assert_eq!(seen(&order).len(), 3);
    assert!(batches.load(SeqCst) < 2, "two classes in one batch");
    saw_batches(&batches);
    assert!(third.is_finished());
    drop((first, second, third));
    closed(&ex, &[&n, &m, &b]);
}
