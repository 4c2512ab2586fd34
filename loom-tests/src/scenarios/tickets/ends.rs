//! Tickets that end with an error or never, and executors and submissions that end while one is in flight.

use crate::core::store::slot::{Cancel, Outcome};
use crate::runner::saw;
use crate::threads::{saw_end, spawn};
use crate::toy::*;
use std::sync::atomic::Ordering::SeqCst;

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

/// A late error on a device whose tickets the owner waits for.
pub fn late_error_gpu() {
    late_error(false);
}

/// A late error on a device that rings when all tickets have ended.
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

/// A ticket never ends, and the owner waits for it.
pub fn never_ends_gpu() {
    never_ends(ToyEngine::gpu());
}

/// A ticket never ends, and the owner sleeps until its limit.
pub fn never_ends_ringing() {
    never_ends(ToyEngine::ringing().0);
}

/// A ticket never ends, and the one before it does: the limit counts from then on.
///
/// ```text
///   T2                     owner                       T1
///                          issue a, and b behind it
///   end a's ticket: ring
///                          a has its value
///                          b's limit passes            wait: b is overdue
/// ```
/// If one ticket stands for both, it never ends.
pub fn second_never_ends() {
    let (engine, device) = ToyEngine::ringing();
    let ex = start(2, engine);
    let (a, b) = (node(1, 1, &[]), node(2, NEVER_ENDS, &[]));
    let (first, second) = (post(&ex, &[&a]), post(&ex, &[&b]));
    let t = spawn(move || device.end_one());
    let overdue = Outcome::Failed(ToyError::Overdue);
    assert_eq!(wait_async(&second), overdue);
    match wait_async(&first) {
        Outcome::Ready(1) => saw("apart"),
        end => {
            assert_eq!(end, overdue);
            saw("together");
        }
    }
    t.join().unwrap();
    drop((first, second));
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
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
    assert_eq!(ex.counts().tickets, ex.counts().run, "a ticket for nothing");
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
    let (ask, alive) = Ask::new(&ex, &[&a]).counted();
    let sub = post_ask(&ex, ask);
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
    let home = ex.store().take_doomed();
    assert!(home.is_empty(), "a result was left on its way home");
    saw(match peek(&slot) {
        Some(Outcome::Ready(1)) => "ran",
        Some(Outcome::Cancelled) => "withdrawn",
        other => panic!("{other:?}"),
    });
    drop(slot);
    step_down(&ex);
    assert_eq!(alive.load(SeqCst), 0, "the work is left");
}

/// The executor is aborted while the first of two is issued that would go under one ticket: the second has not
/// begun, and is not run.
///
/// ```text
///   owner                        T2
///   issue a, whose operation
///   aborts
///                                submit c: refused, or closed
///   close b; a has its value
/// ```
pub fn abort_while_issuing() {
    let ex = idle(3, ToyEngine::gpu());
    let (a, b, c) = (node(1, 1, &[]), node(2, 2, &[]), node(3, 4, &[]));
    let e = ex.clone();
    let first = post_ask(&ex, Ask::new(&ex, &[&a]).hook(move || e.abort()));
    let second = post(&ex, &[&b]);
    let (e, c2) = (ex.clone(), c.clone());
    let t = spawn(move || submit_node(&e, &c2));
    ex.step();
    let third = t.join().unwrap();
    ex.step();
    assert_eq!(ends(&first), [Outcome::Ready(1)]);
    assert_eq!(ends(&second), [Outcome::Closed], "it had not begun");
    saw(match &third {
        None => "refused",
        Some(third) => {
            assert_eq!(ends(third), [Outcome::Closed]);
            "closed"
        }
    });
    drop((first, second, third));
    closed(&ex, &[&a, &b, &c]);
}

/// The executor is aborted while as many tickets are in flight as may be, and none of them ends: who waits
/// behind them is told all the same.
///
/// ```text
///   owner                        T2
///   issue a, b, c; not d
///                                abort: call
///   close d
/// ```
pub fn abort_behind_flights() {
    let (engine, device) = ToyEngine::ringing();
    let ex = idle(4, engine);
    let nodes: Vec<Tensor> = (1..=4).map(|id| node(id, id as u32, &[])).collect();
    let mut subs = Vec::new();
    for node in &nodes {
        subs.push(post(&ex, &[node]));
        ex.step();
    }
    let e = ex.clone();
    let t = spawn(move || e.abort());
    ex.step();
    t.join().unwrap();
    let turn = &ex.gate().turn;
    if turn.try_borrow_idle() {
        turn.hand_back(false); // the owner's thread would sleep on
        saw("told");
    } else {
        ex.step();
        saw("called");
    }
    let last = peek(&subs[3].outputs()[0]);
    assert_eq!(last, Some(Outcome::Closed), "neither told nor called");
    device.end_all();
    ex.step();
    for (value, sub) in (1..).zip(&subs[..3]) {
        assert_eq!(ends(sub), [Outcome::Ready(value)]);
    }
    drop(subs);
    closed(&ex, &nodes.iter().collect::<Vec<_>>());
}
