//! Tickets: a device that goes on when it returns, results that are read before waiters are told, errors
//! that come late or never.

use super::launch::{ask, closed, ends, post};
use crate::core::actor::launch::Start;
use crate::core::store::slot::{Cancel, Outcome};
use crate::core::store::tag::{Priority, Tag};
use crate::runner::saw;
use crate::threads::{saw_end, spawn};
use crate::toy::*;
use std::sync::atomic::Ordering::SeqCst;

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

/// a, b = a.
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

/// The device reports an error late, for one of two fragments under one ticket; another fragment has been
/// issued on top of it since, under a later ticket. The culprit fails and what read from it, and no other.
///
/// ```text
///   T2                     owner
///   submit a, submit c
///                          issue a and c under one ticket
///   submit d = c, e = a
///                          issue d, issue e under the next
///                          the first ended with an error: issue a, c again, each by itself: c is it
///                          d read c: again, and it fails; e stands
/// ```
fn late_error(ringing: bool) {
    let (engine, device) = match ringing {
        true => {
            let (engine, device) = ToyEngine::ringing();
            (engine, Some(device))
        }
        false => (ToyEngine::gpu(), None),
    };
    let ex = idle(4, engine);
    let (a, c) = (node(1, 1, &[]), node(2, FAILS_LATE, &[]));
    let (d, e) = (node(3, 10, &[&c]), node(4, 20, &[&a]));
    let first = post(&ex, &[&a]);
    let x = ex.clone();
    let (c2, d2) = (c.clone(), d.clone());
    let t = spawn(move || (post(&x, &[&c2]), post(&x, &[&d2])));
    ex.step();
    let last = post(&ex, &[&e]);
    let (culprit, dependent) = t.join().unwrap();
    ex.step();
    if let Some(device) = device {
        device.end_all();
        ex.step();
    }
    assert_eq!(ends(&first), [Outcome::Ready(1)]);
    assert_eq!(ends(&last), [Outcome::Ready(21)]);
    assert_eq!(ends(&culprit), [Outcome::Failed(ToyError::Late)]);
    assert_eq!(ends(&dependent), [Outcome::Failed(ToyError::Failed)]);
    let counts = ex.counts();
    assert_eq!((counts.run, counts.failed), (4, 2));
    match counts.tickets {
        2 => saw("two tickets"),
        3 => saw("three tickets"),
        _ => saw("four tickets"),
    }
    match counts.reissued {
        0 => saw("none again"),
        1 => saw("the culprit again"),
        _ => saw("others again"),
    }
    drop((first, last, culprit, dependent));
    closed(&ex, &[&a, &c, &d, &e]);
}

/// The owner waits for tickets.
pub fn late_error_gpu() {
    late_error(false);
}

/// The bell rings when all have ended.
pub fn late_error_ringing() {
    late_error(true);
}

/// A ticket that never ends: the device is lost, and every handle ends.
///
/// ```text
///   T2                     owner
///   submit b = a           issue a, whose ticket does not end
///                          its limit passes: a and b are overdue, the executor refuses
/// ```
fn never_ends(engine: ToyEngine) {
    let ex = start(2, engine);
    let a = node(1, NEVER_ENDS, &[]);
    let b = node(2, 10, &[&a]);
    let (e, b2) = (ex.clone(), b.clone());
    let t = spawn(move || submit_node(&e, &b2).map(|sub| wait_async(&sub)));
    let first = submit_node(&ex, &a).map(|sub| wait_async(&sub));
    let overdue = Outcome::Failed(ToyError::Overdue);
    assert!(first.is_none_or(|end| end == overdue));
    match t.join().unwrap() {
        None => saw("refused"),
        Some(end) => {
            assert_eq!(end, overdue);
            saw("overdue");
        }
    }
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// The owner waits for the ticket.
pub fn never_ends_gpu() {
    never_ends(ToyEngine::gpu());
}

/// The owner sleeps until the ticket's limit.
pub fn never_ends_ringing() {
    never_ends(ToyEngine::ringing().0);
}

/// The executor is aborted while a ticket is in flight: what has begun ends with it.
///
/// ```text
///   T2                     owner                 T1
///                          issue a
///   abort
///   end a's ticket: ring
///                          a has its value       wait: a value, or closed before it began
///                          leave
/// ```
pub fn abort_in_flight() {
    let (engine, device) = ToyEngine::ringing();
    let ex = start(1, engine);
    let a = node(1, 1, &[]);
    let sub = post(&ex, &[&a]);
    let e = ex.clone();
    let t = spawn(move || {
        e.abort();
        device.end_one();
    });
    saw_end(&wait_async(&sub), 1);
    joined(&ex);
    t.join().unwrap();
    drop(sub);
    nothing_left(&ex, [1]);
}

/// The executor closes while a ticket is in flight: the owner stays until it has ended.
///
/// ```text
///   T2                     owner
///                          issue a
///   close: call
///                          every permit is back, a is in flight: rest
///   end a's ticket: ring
///                          a has its value; leave
/// ```
pub fn close_in_flight() {
    let (engine, device) = ToyEngine::ringing();
    let ex = start(1, engine);
    let a = node(1, 1, &[]);
    let sub = post(&ex, &[&a]);
    let e = ex.clone();
    let t = spawn(move || {
        e.close();
        device.end_one();
    });
    joined(&ex);
    assert_eq!(ends(&sub), [Outcome::Ready(1)]);
    t.join().unwrap();
    drop(sub);
    nothing_left(&ex, [1]);
}

/// Cancelled while it is in flight: it goes on. Before that: it does not run.
///
/// ```text
///   T2                     owner
///   cancel
///                          issue a, if it is still wanted
/// ```
pub fn cancel_in_flight() {
    let (engine, device) = ToyEngine::ringing();
    let ex = idle(1, engine);
    let a = node(1, 1, &[]);
    let sub = post(&ex, &[&a]);
    let t = spawn(move || {
        let cancel = sub.cancel();
        (sub, cancel)
    });
    ex.step();
    device.end_one();
    ex.step();
    let (sub, cancel) = t.join().unwrap();
    let end = ends(&sub);
    match cancel {
        Cancel::Cancelled => assert_eq!(end, [Outcome::Cancelled]),
        _ => assert_eq!(end, [Outcome::Ready(1)]),
    }
    saw(match cancel {
        Cancel::Cancelled => "cancelled",
        Cancel::Running => "in flight",
        Cancel::Finished => "finished",
        Cancel::Shared => unreachable!("one submission"),
    });
    drop(sub);
    closed(&ex, &[&a]);
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
    assert_eq!(device.issued(), 3);
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

/// The owner panics while a ticket is in flight: every handle ends.
///
/// ```text
///   T2                     owner
///                          issue a, under one ticket
///   submit k
///                          issue k: the owner's own code panics. All that is in flight is lost
/// ```
pub fn owner_panics_in_flight() {
    let (engine, device) = ToyEngine::ringing();
    let ex = idle(2, engine);
    let (a, k) = (node(1, 1, &[]), node(2, KILLS, &[]));
    let sub = post(&ex, &[&a]);
    ex.step();
    let (e, k2) = (ex.clone(), k.clone());
    let t = spawn(move || {
        device.end_one();
        submit_node(&e, &k2)
    });
    ex.step();
    let killer = t.join().unwrap();
    ex.step();
    assert_eq!(ends(&sub), [Outcome::Ready(1)], "its ticket had ended");
    let lost = Outcome::Failed(ToyError::OwnerLost);
    assert_eq!(ends(&killer.expect("it was open")), [lost]);
    assert!(submit_node(&ex, &node(3, 1, &[])).is_none(), "it refuses");
    drop(sub);
    closed(&ex, &[&a, &k]);
}

/// The last reference to a result goes while it is in flight: it goes with the ticket.
///
/// ```text
///   T2                     owner
///                          issue a
///   drop handle and node
///   end a's ticket: ring
///                          publish to no one, free
/// ```
pub fn release_in_flight() {
    let (engine, device) = ToyEngine::ringing();
    let ex = idle(1, engine);
    let a = node(1, 1, &[]);
    let (guard, alive) = Alive::counted();
    let guard = std::sync::Mutex::new(Some(guard));
    let fill = move |work: &mut Work| {
        work.alive = guard.lock().unwrap().take().expect("once");
    };
    let request = Ask::new(&ex, &[&a]).before_send(fill);
    let sub = submit_all(&ex, request, Tag::default(), Start::Post);
    let sub = sub.expect("a good graph").expect("it is open");
    let slot = sub.outputs()[0].clone();
    let (e, looked) = (ex.clone(), slot.clone());
    let t = spawn(move || {
        if device.issued() == 1 && !looked.is_finished() {
            saw("in flight");
        }
        drop((sub, looked));
        e.store().release_node(1);
        assert_eq!(e.store().nodes(), 0);
        device.end_one();
    });
    ex.step();
    t.join().unwrap();
    ex.step();
    saw(match peek(&slot) {
        Some(Outcome::Ready(1)) => "ran",
        Some(Outcome::Cancelled) => "withdrawn",
        other => panic!("{other:?}"),
    });
    drop(slot);
    step_down(&ex);
    assert_eq!(alive.load(SeqCst), 0, "the work is left");
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
    let tag = Tag {
        priority: Priority::Background,
        ..Tag::default()
    };
    let request = Ask::new(&ex, &[&b]);
    let first = submit_all(&ex, request, tag, Start::Post);
    let first = first.expect("a good graph").expect("it is open");
    let (e, m2) = (ex.clone(), m.clone());
    let t = spawn(move || post(&e, &[&m2]));
    let second = ask(&ex, &[&n], Start::Run); // the device is bound to its owner
    ex.step();
    let third = t.join().unwrap();
    ex.step();
    device.end_all();
    ex.step();
    let order: Vec<u32> = order.lock().unwrap().clone();
    match (&order[..], device.issued()) {
        ([1, 2, 3] | [2, 1, 3], 2) => saw("together"),
        ([1, 2, 3] | [1, 3, 2], 3) => saw("apart"),
        other => panic!("{other:?}"),
    }
    for (sub, value) in [(&first, 3), (&second, 1), (&third, 2)] {
        assert_eq!(ends(sub), [Outcome::Ready(value)]);
    }
    drop((first, second, third));
    closed(&ex, &[&n, &m, &b]);
}
