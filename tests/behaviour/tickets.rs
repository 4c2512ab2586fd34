//! Devices that go on when they return: what is in flight, and what becomes of it.

use crate::common::*;
use candlewick::device::{Fault, Script};
use candlewick::{Device, Error, Executor, Handle, Health, LazyTensor, Priority, Submit, Tensor};
use std::time::{Duration, Instant};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn add(x: &LazyTensor, y: f64) -> LazyTensor {
    (x + y).unwrap()
}

/// The device has been given a batch and takes its time; what is submitted next goes behind it.
#[test]
fn what_is_in_flight_is_used_and_not_yet_told() {
    within_limit(|| {
        let (executor, script) = simulated(8);
        script.latency(MS(0), MS(200));
        let y = add(&tensor(1.0), 1.0);
        let first = executor.submit(&y).unwrap();
        eventually("issued", || script.tickets() == 1);
        let second = executor.submit(&add(&y, 1.0)).unwrap();
        eventually("issued behind the first", || script.tickets() == 2);
        assert!(!first.is_finished() && !second.is_finished());
        assert_eq!(value(&second.wait().unwrap()), 3.0);
        assert!(first.is_finished(), "tickets end in order");
        assert_eq!(executor.stats().tickets, 2);
    });
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
    within_limit(|| {
        let (executor, script, busy) = held(16);
        let bad = add(&tensor(1.0), 1.0);
        let first = executor.submit(&bad).unwrap();
        script.latency(MS(0), MS(50));
        script.at_ticket(1, Fault::Error("late".into()));
        script.resume();
        busy.wait().unwrap();
        let on_bad = executor.submit(&add(&bad, 1.0)).unwrap();
        let apart = executor.submit(&add(&tensor(5.0), 1.0)).unwrap();
        eventually("issued", || script.tickets() >= 3);
        // the next ticket is that of the fragment by itself
        script.at_ticket(script.tickets(), Fault::Error("late again".into()));
        let error = first.wait().unwrap_err();
        assert!(error.to_string().contains("late again"), "{error}");
        assert!(matches!(on_bad.wait(), Err(Error::Failed(_))));
        assert_eq!(value(&apart.wait().unwrap()), 6.0);
    });
}

#[test]
fn a_ticket_that_never_ends() {
    within_limit(|| {
        let script = Script::new();
        let builder = Executor::builder(&Device::Cpu).simulated(&script);
        let executor = builder.ticket_limit(MS(100)).build().unwrap();
        script.at_ticket(0, Fault::NeverEnds);
        let y = add(&tensor(1.0), 1.0);
        let first = executor.submit(&y).unwrap();
        let second = executor.submit(&add(&y, 1.0)).unwrap();
        for handle in [first, second] {
            let error = handle.wait().unwrap_err();
            assert!(matches!(error, Error::OwnerLost(_)), "{error:?}");
            assert!(error.to_string().contains("ticket limit"), "{error}");
        }
        assert!(matches!(executor.health(), Health::Lost(_)));
        assert!(executor.submit(&tensor(1.0)).is_err());
        executor.shutdown_blocking(Some(MS(5000))).unwrap();
    });
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
    within_limit(|| {
        let (executor, script) = simulated(8);
        script.latency(MS(0), MS(100));
        let first = executor.submit(&add(&tensor(1.0), 1.0)).unwrap();
        eventually("issued", || script.tickets() == 1);
        executor.abort_blocking(Some(MS(10_000))).unwrap();
        assert_eq!(value(&first.wait().unwrap()), 2.0);
        assert_eq!(executor.stats().queued, 0);
    });
}

/// Urgent work waits for no more than what the device has been given: three tickets.
#[test]
fn urgent_work_waits_for_what_is_in_flight_only() {
    within_limit(|| {
        let (executor, script) = simulated(256);
        script.latency(MS(20), MS(0));
        let start = Instant::now();
        let background = Submit::new().priority(Priority::Background);
        let flood: Vec<Handle> = (0..200)
            .map(|i| {
                let y = add(&tensor(i as f32), 1.0);
                executor.submit_with(&y, background.clone()).unwrap()
            })
            .collect();
        let urgent = Submit::new().priority(Priority::Interactive);
        let y = tensor(1.0).sin().unwrap();
        let handle = executor.submit_with(&y, urgent).unwrap();
        let before = flood.iter().filter(|handle| handle.is_finished()).count();
        handle.wait().unwrap();
        let after = flood.iter().filter(|handle| handle.is_finished()).count();
        // three batches of 64 would be all of them, were they not alike in one step each
        assert!(start.elapsed() < MS(20 * 200), "behind all of them");
        assert!(after - before <= 3 * 64, "{before} and {after}");
        drop(flood);
    });
}

/// Many producers, one device, three tickets in flight: the device has always something to do. In
/// virtual time it would be exact; here the owner competes with 64 producers for the cores.
#[test]
fn a_device_under_load_is_kept_busy() {
    within_limit(|| {
        let (executor, script) = simulated(1024);
        script.latency(MS(2), MS(2));
        let end = Instant::now() + MS(3000);
        std::thread::scope(|scope| {
            for producer in 0..64 {
                let executor = executor.clone();
                scope.spawn(move || {
                    while Instant::now() < end {
                        let y = add(&tensor(producer as f32), 1.0);
                        let result: Tensor = executor.submit(&y).unwrap().wait().unwrap();
                        assert_eq!(value(&result), producer as f32 + 1.0);
                    }
                });
            }
        });
        let (idle, all) = script.idle();
        let share = idle.as_secs_f64() / all.as_secs_f64();
        println!("idle {:.2} % of {all:?}", 100.0 * share);
        assert!(share < 0.1, "idle {:.1} % of {all:?}", 100.0 * share);
        assert!(executor.stats().batches > 0, "it batches");
    });
}
