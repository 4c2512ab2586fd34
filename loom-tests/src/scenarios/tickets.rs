//! Tickets: a device that goes on when it returns, results that are read before waiters are told, errors
//! that come late or never.

use crate::core::actor::launch::Start;
use crate::core::store::slot::Outcome;
use crate::core::store::tag::{Priority, Tag};
use crate::runner::saw;
use crate::threads::{Beside, post_beside, spawn};
use crate::toy::*;
use std::sync::{Arc, Mutex};

mod ends;
mod late;

pub use ends::*;
pub use late::*;

/// Later fragments read a result that has been issued; waiters are told when its ticket ends, in order.
///
/// ```text
///   owner                        T: the device
///   issue a, issue b, which
///   reads it
///   look: a is not told
///                                a's ticket has ended, then b's: ring
///   publish a, then b
/// ```
pub fn read_before_told() {
    let (engine, device) = ToyEngine::ringing();
    let order = engine.order();
    let ex = idle(2, engine);
    let (a, b) = two();
    let first = post(&ex, &[&a]);
    ex.step();
    let second = post(&ex, &[&b]);
    let d = device.clone();
    let t = spawn(move || {
        d.end_one();
        d.end_one();
    });
    ex.step();
    let (told_second, told_first) = (peek(&second.outputs()[0]), peek(&first.outputs()[0]));
    match (&told_first, &told_second) {
        (None, None) if order.lock().unwrap().len() == 2 => saw("read before told"),
        (None, None) => saw("not yet read"),
        (Some(_), None) => saw("one told"),
        (Some(_), Some(_)) => saw("both told"),
        (None, Some(_)) => panic!("the later ticket ended first"),
    }
    let ended = device.ended();
    assert!(
        told_first.is_none() || ended > 0,
        "told before its ticket ended"
    );
    assert!(
        told_second.is_none() || ended > 1,
        "told before its ticket ended"
    );
    t.join().unwrap();
    ex.step();
    assert_eq!(ends(&first), [Outcome::Ready(1)]);
    assert_eq!(ends(&second), [Outcome::Ready(11)]);
    drop((first, second));
    closed(&ex, &[&a, &b]);
}

/// The graph of two nodes: a, b = a.
fn two() -> (Tensor, Tensor) {
    let a = node(1, 1, &[]);
    let b = node(2, 10, &[&a]);
    (a, b)
}

/// Two results under two tickets: who sees the later one sees the earlier one.
///
/// ```text
///   owner                        T: a waiter
///   publish a
///                                b: not told
///   publish b
///                                a: told
/// ```
pub fn told_in_order() {
    let (engine, device) = ToyEngine::ringing();
    let ex = idle(2, engine);
    let (a, b) = (node(1, 1, &[]), node(2, 2, &[]));
    let first = post(&ex, &[&a]);
    ex.step();
    let second = post(&ex, &[&b]);
    ex.step();
    assert_eq!(device.issued(), 2);
    let e = ex.clone();
    let t = spawn(move || {
        device.end_one();
        device.end_one();
        e.step();
    });
    let told_second = peek(&second.outputs()[0]);
    let told_first = peek(&first.outputs()[0]);
    match (&told_first, &told_second) {
        (None, None) => saw("none told"),
        (Some(_), None) => saw("one told"),
        (Some(_), Some(_)) => saw("both told"),
        (None, Some(_)) => panic!("the later ticket ended first"),
    }
    t.join().unwrap();
    ex.step();
    assert_eq!(ends(&first), [Outcome::Ready(1)]);
    assert_eq!(ends(&second), [Outcome::Ready(2)]);
    drop((first, second));
    closed(&ex, &[&a, &b]);
}

/// The bell rings while the owner is about to rest: it looks again.
///
/// ```text
///   T2: the device         owner
///                          look: a's ticket has not ended
///   end it: ring
///                          rest? No: called. Look: a has its value
/// ```
pub fn ring_vs_rest() {
    let (engine, device) = ToyEngine::ringing();
    let ex = start(1, engine);
    let a = node(1, 1, &[]);
    let t = spawn(move || device.end_one());
    let sub = post(&ex, &[&a]);
    assert_eq!(wait_async(&sub), Outcome::Ready(1));
    t.join().unwrap();
    drop(sub);
    shutdown(&ex);
    nothing_left(&ex, [1]);
}

/// No more than three tickets are in flight; the fourth batch is issued when the first has ended.
///
/// ```text
///   owner                        T2: the device
///   issue a, b, c; not d
///                                end a's ticket: ring
///   publish a, issue d
/// ```
pub fn three_in_flight() {
    let (engine, device) = ToyEngine::ringing();
    let ex = idle(4, engine);
    let nodes: Vec<Tensor> = (1..=4).map(|id| node(id, id as u32, &[])).collect();
    let mut subs = Vec::new();
    for node in &nodes {
        subs.push(post(&ex, &[node]));
        ex.step();
    }
    assert_eq!(device.issued(), 3, "more than three in flight");
    let d = device.clone();
    let t = spawn(move || d.end_one());
    ex.step();
    match (device.issued(), device.ended()) {
        (3, 0..=1) => saw("none ended"),
        (4, 1) => saw("one ended"),
        other => panic!("{other:?}"),
    }
    t.join().unwrap();
    ex.step();
    assert_eq!(device.issued(), 4);
    device.end_all();
    ex.step();
    for (value, sub) in (1..).zip(&subs) {
        assert_eq!(ends(sub), [Outcome::Ready(value)]);
    }
    drop(subs);
    closed(&ex, &nodes.iter().collect::<Vec<_>>());
}

/// Fragments of different classes never go under one ticket.
///
/// ```text
///   T2: submit background b      owner
///   submit n                     issue what is there: n first, b by itself
/// ```
pub fn one_class_per_ticket() {
    let (engine, device) = ToyEngine::ringing();
    let order = engine.order();
    let ex = idle(3, engine);
    let (n, m, b) = (node(1, 1, &[]), node(2, 2, &[]), node(3, 3, &[]));
    let (first, second) = (Ask::new(&ex, &[&b]), Ask::new(&ex, &[&n]));
    let first = ask_all(&ex, first, urgent(Priority::Background), Start::Post);
    let t = post_beside(&ex, &[&m]);
    // the device is bound to its owner
    let second = ask_all(&ex, second, Tag::default(), Start::Run);
    ex.step();
    let third = t.join().unwrap();
    ex.step();
    device.end_all();
    ex.step();
    let order: Vec<u32> = order.lock().unwrap().clone();
    match (&order[..], device.issued()) {
        ([1, 2, 3] | [2, 1, 3], 2) => saw("together"),
        ([1, 2, 3] | [1, 3, 2], 3) => saw("apart"),
        other => panic!("two classes under one ticket: {other:?}"),
    }
    for (sub, value) in [(&first, 3), (&second, 1), (&third, 2)] {
        assert_eq!(ends(sub), [Outcome::Ready(value)]);
    }
    drop((first, second, third));
    closed(&ex, &[&n, &m, &b]);
}

/// A fragment waits for one that has not been sent: it is issued behind that, before its ticket has ended.
///
/// ```text
///   T1                           T2: submit(b), b = a; drive
///   claim a
///                                b waits for a
///   send a; drive: issue a, issue b
/// ```
pub fn issued_behind() {
    let (engine, device) = ToyEngine::ringing();
    let order = engine.order();
    let ex = idle(2, engine);
    let (a, b) = two();
    let dependent: Arc<Mutex<Option<Sub>>> = Arc::default(); // outside of the model
    let (e, b2, keep) = (ex.clone(), b.clone(), dependent.clone());
    let (ask, t) = Beside::start(Ask::new(&ex, &[&a]), move || {
        let sub = post(&e, &[&b2]);
        e.step();
        *keep.lock().unwrap() = Some(sub);
    });
    let first = post_ask(&ex, ask);
    t.join();
    let issued = order.lock().unwrap().len();
    saw(if issued == 0 {
        "dependent first"
    } else {
        "in order"
    });
    ex.step();
    assert_eq!(*order.lock().unwrap(), [1, 10], "not issued behind it");
    device.end_all();
    ex.step();
    let second = dependent.lock().unwrap().take().expect("submitted");
    assert_eq!(ends(&first), [Outcome::Ready(1)]);
    assert_eq!(ends(&second), [Outcome::Ready(11)]);
    drop((first, second));
    closed(&ex, &[&a, &b]);
}

/// A lifted task is queued twice, and its second turn finds nothing: there is no ticket for that.
pub fn no_ticket_for_nothing() {
    let (engine, device) = ToyEngine::ringing();
    let ex = idle(2, engine);
    let (a, b) = (node(1, 1, &[]), node(2, 2, &[]));
    let ask = Ask::new(&ex, &[&b]);
    let first = ask_all(&ex, ask, urgent(Priority::Background), Start::Post);
    let (e, b2) = (ex.clone(), b.clone());
    let lift = move || {
        // while a is issued: b has been received
        let ask = Ask::new(&e, &[&b2]);
        drop(ask_all(&e, ask, urgent(Priority::Interactive), Start::Post));
    };
    let second = post_ask(&ex, Ask::new(&ex, &[&a]).hook(lift));
    let t = spawn(move || device.end_all());
    ex.step();
    t.join().unwrap();
    ex.step();
    assert_eq!(ends(&first), [Outcome::Ready(2)]);
    assert_eq!(ends(&second), [Outcome::Ready(1)]);
    assert_eq!(ex.counts().tickets, 2, "a ticket for nothing");
    drop((first, second));
    closed(&ex, &[&a, &b]);
}
