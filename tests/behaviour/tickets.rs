//! Devices that go on when they return: what is in flight, and what becomes of it.

use crate::common::*;
use candlewick::device::{Fault, Script};
use candlewick::{
    Batching, Builder, DType, Device, Error, Executor, Handle, Health, LazyTensor, Priority, Submit,
};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;
/// The shortest time that the clock tells.
const NS: Duration = Duration::from_nanos(1);

fn add(x: &LazyTensor, y: f64) -> LazyTensor {
    (x + y).unwrap()
}

/// One number more than `x`.
fn after(x: usize) -> LazyTensor {
    add(&tensor(x as f32), 1.0)
}

fn apart(builder: Builder) -> Builder {
    builder.batching(Batching::OFF)
}

fn there(handle: &Handle) -> f32 {
    value(&handle.try_result().expect("it has ended").unwrap())
}

fn finished(handles: &[Handle]) -> usize {
    handles.iter().filter(|handle| handle.is_finished()).count()
}

/// The device has been given a batch and takes its time; what is submitted next goes behind it.
#[test]
fn what_is_in_flight_is_used_and_not_yet_told() {
    let device = Stepped::new(|builder| builder);
    device.script.latency(MS(0), MS(200));
    let y = after(1);
    let first = device.executor.submit(&y).unwrap();
    device.step();
    assert_eq!(device.script.tickets(), 1);
    let second = device.executor.submit(&add(&y, 1.0)).unwrap();
    device.step();
    assert_eq!(device.script.tickets(), 2, "it is issued behind the first");
    device.pass(MS(200) - NS);
    assert!(!first.is_finished() && !second.is_finished());
    device.pass(NS);
    assert_eq!(there(&first), 2.0);
    device.pass(MS(200) - NS);
    assert!(!second.is_finished(), "it ends after its own time");
    device.pass(NS);
    assert_eq!(there(&second), 3.0);
    assert_eq!(device.executor.stats().tickets, 2);
}

/// The same on the owner's thread, which the device calls when a ticket has ended.
#[test]
fn tickets_end_in_order_on_the_owners_thread() {
    within_limit(|| {
        let (executor, script) = simulated(8);
        script.latency(MS(0), MS(20));
        let y = after(1);
        let first = executor.submit(&y).unwrap();
        eventually("issued", || script.tickets() == 1);
        let second = executor.submit(&add(&y, 1.0)).unwrap();
        assert_eq!(value(&second.wait().unwrap()), 3.0);
        assert!(first.is_finished());
        assert_eq!(executor.stats().tickets, 2);
    });
}

/// One that the device works on, and two behind it; what comes then waits until the first has ended.
#[test]
fn three_tickets_are_in_flight_and_not_four() {
    let device = Stepped::new(|builder| builder);
    device.script.latency(MS(0), MS(10));
    let mut handles = Vec::new();
    for issued in [1, 2, 3, 3, 3] {
        handles.push(device.executor.submit(&after(issued as usize)).unwrap());
        device.step();
        assert_eq!(device.script.tickets(), issued);
    }
    device.pass(MS(10) - NS);
    assert_eq!(device.script.tickets(), 3);
    device.pass(NS);
    // the two that waited go under one ticket
    assert_eq!(device.script.tickets(), 4);
    assert_eq!(device.executor.stats().queued, 0);
    assert_eq!(finished(&handles), 1);
}

/// Fragments of one class go under one ticket, but no more than so many that run one after the other. A batch
/// that runs as one has one ticket, however large it is.
#[test]
fn one_ticket_stands_for_thirty_two_fragments_that_run_apart() {
    for (fragments, tickets) in [(33, 1), (64, 1), (65, 2)] {
        let device = Stepped::new(|builder| builder);
        device.script.latency(MS(0), MS(10));
        let submit = |i| device.executor.submit(&after(i)).unwrap();
        let _handles: Vec<Handle> = (0..fragments).map(submit).collect();
        device.step();
        assert_eq!(device.script.tickets(), tickets, "{fragments} in batches");
    }
    for (fragments, tickets) in [(31, 1), (32, 1), (33, 2), (64, 2), (65, 3)] {
        let device = Stepped::new(apart);
        device.script.latency(MS(0), MS(10));
        let submit = |i| device.executor.submit(&after(i)).unwrap();
        let handles: Vec<Handle> = (0..fragments).map(submit).collect();
        device.step();
        assert_eq!(device.script.tickets(), tickets, "{fragments} fragments");
        device.pass(MS(10));
        assert_eq!(finished(&handles), fragments.min(32));
    }
}

/// An error comes with a ticket on top of which others have been issued: it reaches the fragment that it
/// belongs to and what has read from that, and all others have their values.
#[test]
fn a_late_error_reaches_what_has_read_from_it() {
    within_limit(|| {
        let (executor, script, busy) = held(16);
        let bad = add(&tensor(1.0), 1.0);
        let good = add(&tensor(10.0), 1.0);
        let pair = (
            executor.submit(&bad).unwrap(),
            executor.submit(&good).unwrap(),
        );
        // ticket 0 is the busy one's; 1 has both, or 1 and 2 have one each
        script.latency(MS(0), MS(100));
        script.at_ticket(1, Fault::Error("late".into()));
        script.resume();
        eventually("issued", || script.tickets() >= 2);
        let on_bad = executor.submit(&add(&bad, 1.0)).unwrap();
        let on_good = executor.submit(&add(&good, 1.0)).unwrap();
        let apart = executor.submit(&add(&tensor(100.0), 1.0)).unwrap();
        busy.wait().unwrap();
        // issued again each by itself, both are well: a late error names nobody
        let values = [&pair.0, &pair.1, &on_bad, &on_good, &apart];
        let values = values.map(|handle| value(&handle.wait().unwrap()));
        assert_eq!(values, [2.0, 11.0, 3.0, 12.0, 101.0]);
        let stats = executor.stats();
        assert!(stats.fragments_reissued >= 1, "{stats:?}");
        assert_eq!(stats.fragments_failed, 0);
        assert!(matches!(executor.health(), Health::Running));
    });
}

#[test]
fn a_fragment_that_fails_again_by_itself_fails_with_what_depends_on_it() {
    let device = Stepped::new(|builder| builder);
    device.script.latency(MS(0), MS(50));
    let submit = |y: &LazyTensor| device.executor.submit(y).unwrap();
    let bad = after(1);
    let first = submit(&bad);
    device.step();
    let (on_bad, apart) = (submit(&add(&bad, 1.0)), submit(&after(5)));
    device.step();
    assert_eq!(device.script.tickets(), 2);
    // ticket 0 is that of the first, 1 that of the two behind it, 2 that of the first by itself
    device.script.at_ticket(0, Fault::Error("late".into()));
    device
        .script
        .at_ticket(2, Fault::Error("late again".into()));
    device.pass(MS(50));
    let error = first.try_result().unwrap().unwrap_err();
    assert!(error.to_string().contains("late again"), "{error}");
    assert!(matches!(on_bad.try_result(), Some(Err(Error::Failed(_)))));
    assert_eq!(there(&apart), 6.0);
    let stats = device.executor.stats();
    assert_eq!((stats.fragments_reissued, stats.fragments_failed), (2, 2));
}

/// Both were submitted before the device took up the first.
#[test]
fn a_ticket_that_never_ends() {
    within_limit(|| {
        let script = Script::new();
        let builder = Executor::builder(&Device::Cpu).simulated(&script);
        let executor = builder.ticket_limit(MS(100)).build().unwrap();
        script.at_ticket(0, Fault::NeverEnds);
        script.hold();
        let y = add(&tensor(1.0), 1.0);
        let first = executor.submit(&y).unwrap();
        let second = executor.submit(&add(&y, 1.0)).unwrap();
        script.resume();
        for handle in [first, second] {
            let error = handle.wait().unwrap_err();
            assert!(matches!(error, Error::OwnerLost(_)), "{error:?}");
            assert!(error.to_string().contains("ticket limit"), "{error}");
        }
        assert!(matches!(executor.health(), Health::Lost(_)));
        assert!(executor.submit(&tensor(1.0)).is_err());
        executor.shutdown_blocking(Some(MS(20_000))).unwrap();
    });
}

/// A ticket may take as long as its limit, and no longer.
#[test]
fn a_ticket_has_its_limit_to_the_nanosecond() {
    const LIMIT: Duration = Duration::from_millis(100);
    for (takes, ends) in [(LIMIT - NS, true), (LIMIT, true), (LIMIT + NS, false)] {
        let device = Stepped::new(|builder| builder.ticket_limit(LIMIT));
        device.script.latency(MS(0), takes);
        let handle = device.executor.submit(&after(1)).unwrap();
        device.step();
        device.pass(LIMIT - NS);
        assert_eq!(handle.is_finished(), takes < LIMIT);
        assert!(matches!(device.executor.health(), Health::Running));
        device.pass(NS);
        match ends {
            true => assert_eq!(there(&handle), 2.0),
            false => assert!(matches!(device.executor.health(), Health::Lost(_))),
        }
        assert!(handle.is_finished());
    }
}

/// A script outlives its executor, and a second one uses it: each is told of its own tickets.
#[test]
fn a_script_serves_one_executor_after_another() {
    within_limit(|| {
        let script = Script::new();
        script.latency(MS(0), MS(5));
        for round in 1..=2 {
            let builder = Executor::builder(&Device::Cpu).simulated(&script);
            let executor = builder.build().unwrap();
            let handle = executor.submit(&add(&tensor(1.0), 1.0)).unwrap();
            assert_eq!(value(&handle.wait().unwrap()), 2.0);
            assert_eq!(script.tickets(), round);
        }
    });
}

/// A latency that the clock cannot reach is a ticket that never ends, on the engine's side of its limit.
#[test]
fn a_latency_without_end_is_a_ticket_without_end() {
    within_limit(|| {
        let script = Script::new();
        script.latency(Duration::MAX, Duration::MAX);
        let builder = Executor::builder(&Device::Cpu).simulated(&script);
        let executor = builder.ticket_limit(MS(50)).build().unwrap();
        let error = executor.run(&add(&tensor(1.0), 1.0)).unwrap_err();
        assert!(matches!(error, Error::OwnerLost(_)), "{error:?}");
    });
}

/// Work that has begun on the device ends; what has not is not begun.
#[test]
fn an_abort_while_something_is_in_flight() {
    let device = Stepped::new(|builder| builder);
    device.script.latency(MS(0), MS(100));
    let submit = |i| {
        let handle = device.executor.submit(&after(i)).unwrap();
        device.step();
        handle
    };
    let handles: Vec<Handle> = (0..4).map(submit).collect();
    let mut closed = pin!(device.executor.abort());
    let mut cx = Context::from_waker(Waker::noop());
    device.step();
    assert_eq!(finished(&handles), 1);
    assert!(matches!(handles[3].try_result(), Some(Err(Error::Closed))));
    for (i, begun) in handles[..3].iter().enumerate() {
        assert!(closed.as_mut().poll(&mut cx).is_pending());
        device.pass(MS(100));
        assert_eq!(there(begun), i as f32 + 1.0);
    }
    assert!(closed.as_mut().poll(&mut cx).is_ready());
    assert_eq!(device.executor.stats().queued, 0);
}

/// Urgent work waits for no more than what the device has been given: three tickets.
#[test]
fn urgent_work_waits_for_what_is_in_flight_only() {
    const GIVEN: usize = 3 * 32;
    let device = Stepped::new(|builder| apart(builder).queue_capacity(256));
    device.script.latency(MS(1), MS(0));
    let background = Submit::new().priority(Priority::Background);
    let submit = |i| {
        let how = background.clone();
        device.executor.submit_with(&after(i), how).unwrap()
    };
    let flood: Vec<Handle> = (0..200).map(submit).collect();
    device.step();
    assert_eq!(device.executor.stats().queued, 200 - GIVEN);
    let urgent = Submit::new().priority(Priority::Interactive);
    let urgent = device.executor.submit_with(&after(7), urgent).unwrap();
    while !urgent.is_finished() {
        assert!(finished(&flood) <= GIVEN, "it waits for what came later");
        device.pass(MS(1));
    }
    assert_eq!((there(&urgent), finished(&flood)), (8.0, GIVEN));
}

/// The limit is for one batch: what waits on the device behind others has not begun.
#[test]
fn a_limit_counts_from_when_the_batch_before_has_ended() {
    let device = Stepped::new(|builder| builder.ticket_limit(MS(100)));
    device.script.latency(MS(0), MS(50));
    let submit = |i| {
        let handle = device.executor.submit(&after(i)).unwrap();
        device.step();
        handle
    };
    let handles: Vec<Handle> = (0..3).map(submit).collect();
    for (i, handle) in handles.iter().enumerate() {
        device.pass(MS(50));
        assert_eq!(there(handle), i as f32 + 1.0);
    }
}

/// A batch waits for others to join, for an hour if need be, but not while a ticket is in flight: its end would be
/// told late.
#[test]
fn no_batch_is_waited_for_behind_a_ticket() {
    within_limit(|| {
        let script = Script::new();
        let patient = Batching {
            max_delay: Duration::from_secs(3600),
            ..Batching::default()
        };
        let builder = Executor::builder(&Device::Cpu).batching(patient);
        let executor = builder.simulated(&script).build().unwrap();
        script.latency(MS(0), MS(50));
        let alone = Counted::new(Act::AddOne).on(&tensor(1.0)); // nothing joins it
        let first = executor.submit(&alone).unwrap();
        eventually("issued", || script.tickets() == 1);
        let w = LazyTensor::ones((256, 256), DType::F32, &Device::Cpu).unwrap();
        let x = LazyTensor::ones((1, 256), DType::F32, &Device::Cpu).unwrap();
        let batched = x.exp().unwrap().matmul(&w).unwrap();
        let second = executor.submit(&batched).unwrap();
        assert_eq!(value(&first.wait().unwrap()), 2.0);
        assert_eq!(second.wait().unwrap().dims(), [1, 256]);
    });
}
