//! Who asks more urgently for a result lifts it and what it depends on; and what came in is looked at before
//! every choice.
//!
//! A fragment is known in the order of what was run by what its last node adds.

use crate::core::actor::launch::Start;
use crate::core::actor::lender::Lender;
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

/// A thread asks urgently for a background result and then submits other work: wherever the owner is, that is not
/// run before what was lifted.
///
/// ```text
///   owner                        T2
///   b: background, received
///                                submit(b), interactive: b is lifted
///                                submit n, normal
///   choose: b, then n
/// ```
pub fn lift_before_message() {
    let (ex, order) = watched(2);
    let (b, n) = (node(1, 1, &[]), node(2, 2, &[]));
    let first = background(&ex, &[&b]);
    let (e, b2, n2) = (ex.clone(), b.clone(), n.clone());
    let t = spawn(move || (interactive(&e, &[&b2]), post(&e, &[&n2])));
    ex.step();
    let (second, third) = t.join().unwrap();
    ex.step();
    assert_eq!(
        seen(&order),
        [1, 2],
        "lifted before the other was submitted"
    );
    drop((first, second, third));
    closed(&ex, &[&b, &n]);
}

/// A more urgent one comes while the first of several is issued that would go under one ticket: it goes before
/// the others, and those are issued in their order.
///
/// ```text
///   owner                        T2
///   issue a, whose operation
///   submits i, interactive
///                                submit c
///   i under the next ticket, then b, then c
/// ```
pub fn newcomer_before_ticket() {
    let engine = ToyEngine::gpu();
    let order = engine.order();
    let ex = idle(4, engine);
    let (a, b) = (node(1, 1, &[]), node(2, 2, &[]));
    let (i, c) = (node(3, 4, &[]), node(4, 8, &[]));
    let (e, i2) = (ex.clone(), i.clone());
    let came: Arc<Mutex<Option<Sub>>> = Arc::default(); // outside of the model
    let keep = came.clone();
    let submits = move || *keep.lock().unwrap() = Some(interactive(&e, &[&i2]));
    let first = post_ask(&ex, Ask::new(&ex, &[&a]).hook(submits));
    let second = post(&ex, &[&b]);
    let t = post_beside(&ex, &[&c]);
    ex.step();
    let third = t.join().unwrap();
    ex.step();
    assert_eq!(seen(&order), [1, 4, 2, 8]);
    let came = came.lock().unwrap().take().expect("a has been issued");
    assert_eq!(ends(&came), [Outcome::Ready(4)]);
    drop((first, second, third, came));
    closed(&ex, &[&a, &b, &i, &c]);
}

/// What a fragment reads is lifted when that is submitted, and not only when it has its turn.
///
/// ```text
///   T1                                          T2
///   c: background; i: interactive
///   submit(d), interactive, d = c: c is lifted  submit n, normal
///   owner: c takes turns with i; then d, then n
/// ```
pub fn lift_what_is_read() {
    let (ex, order) = watched(4);
    let (c, i, n) = (node(1, 1, &[]), node(2, 2, &[]), node(4, 8, &[]));
    let d = node(3, 4, &[&c]);
    let first = background(&ex, &[&c]);
    let second = interactive(&ex, &[&i]);
    let t = post_beside(&ex, &[&n]);
    let third = interactive(&ex, &[&d]);
    ex.step();
    let fourth = t.join().unwrap();
    ex.step();
    assert_eq!(seen(&order), [1, 2, 4, 8], "lifted too late");
    drop((first, second, third, fourth));
    closed(&ex, &[&c, &i, &d, &n]);
}

/// Receives what is queued and leaves it to the owner, if a message has been posted: whether that is so.
fn receives(ex: &Ex) -> bool {
    let lender: Lender<'_, Toy> = Lender {
        done: &|| true,
        own: &|_| false,
        until: None,
        alone: false,
    };
    ex.lend(&lender)
}

/// A thread asks urgently for a background result while another one looks for what came in: it is lifted at the
/// latest by the look that it asks for itself.
///
/// ```text
///   T2                           T1
///                                b: background, n: normal, both received
///   submit(b), interactive: lift look
///                                choose: b, then n
/// ```
pub fn lift_vs_look() {
    let (ex, order) = watched(2);
    let (b, n) = (node(1, 1, &[]), node(2, 2, &[]));
    let first = background(&ex, &[&b]);
    let second = post(&ex, &[&n]);
    assert!(receives(&ex), "two are queued");
    let (e, b2) = (ex.clone(), b.clone());
    let t = spawn(move || interactive(&e, &[&b2]));
    ex.gate().turn.posted(); // as another message does
    assert!(receives(&ex));
    let third = t.join().unwrap();
    ex.step();
    assert_eq!(seen(&order), [1, 2], "not lifted");
    drop((first, second, third));
    closed(&ex, &[&b, &n]);
}

/// A thread asks urgently for a background result: whoever finds that it has been told of that finds the lift, and
/// somebody is told.
pub fn lift_is_told() {
    let (ex, order) = watched(2);
    let (b, n) = (node(1, 1, &[]), node(2, 2, &[]));
    let first = background(&ex, &[&b]);
    let second = post(&ex, &[&n]);
    assert!(receives(&ex), "two are queued");
    let (e, b2) = (ex.clone(), b.clone());
    let t = spawn(move || interactive(&e, &[&b2]));
    let told = receives(&ex);
    if told {
        ex.step();
        saw("told");
    }
    let third = t.join().unwrap();
    if !told {
        assert!(receives(&ex), "nobody was told");
        ex.step();
        saw("told later");
    }
    assert_eq!(seen(&order), [1, 2], "told, and not lifted");
    drop((first, second, third));
    closed(&ex, &[&b, &n]);
}
