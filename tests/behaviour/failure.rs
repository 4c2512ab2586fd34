//! Errors, panics and lost devices.

use crate::common::*;
use candle_core::{CpuStorage, CustomOp1, Layout, Shape};
use candlewick::device::Fault;
use candlewick::{Cause, DType, Device, Error, Executor, Health};
use std::sync::Arc;

#[test]
fn a_failure_reaches_what_depends_on_it_and_nothing_else() {
    within_limit(|| {
        let executor = cpu();
        for act in [Act::Fail("no luck"), Act::Panic("no luck")] {
            let bad = Counted::new(act);
            let x = tensor(1.0);
            let y = bad.on(&x);
            let z = (&y + 1.0).unwrap();
            let good = (&x + 1.0).unwrap();
            let handles = (
                executor.submit((&y, &good)).unwrap(),
                executor.submit(&good).unwrap(),
            );
            let error = handles.0.wait().unwrap_err();
            let failure = error.failure().expect("it ran");
            assert_eq!(failure.op, "counted");
            assert_eq!(failure.operands, [(Shape::from(1), DType::F32)]);
            assert!(error.to_string().contains("no luck"), "{error}");
            assert_eq!(
                value(&handles.1.wait().unwrap()),
                2.0,
                "it does not depend on the failed one"
            );
            // later fragments fail with the same cause, and nothing runs again
            let later = executor.submit(&z).unwrap().wait().unwrap_err();
            let (Error::Failed(first), Error::Failed(second)) = (&error, &later) else {
                panic!("{error:?} {later:?}")
            };
            assert!(Arc::ptr_eq(first, second), "another cause");
            assert!(matches!(
                executor.submit(&y).unwrap().wait(),
                Err(Error::Failed(_))
            ));
            assert_eq!(bad.runs(), 1);
        }
        assert!(matches!(executor.health(), Health::Running));
        assert_eq!(
            value(
                &executor
                    .submit(&tensor(0.0).exp().unwrap())
                    .unwrap()
                    .wait()
                    .unwrap()
            ),
            1.0
        );
    });
}

#[test]
fn an_operation_that_breaks_its_word_fails() {
    within_limit(|| {
        let executor = cpu();
        let op = Counted::new(Act::AddOne);
        let y = tensor(1.0).apply_op1(op, 2, DType::F32).unwrap();
        let error = executor.submit(&y).unwrap().wait().unwrap_err();
        assert!(matches!(
            error.failure().unwrap().cause,
            Cause::Announced { .. }
        ));
        assert_eq!(
            error.to_string(),
            "counted([1] f32): announced [2] f32 and returned [1] f32"
        );
    });
}

/// Its destructor runs on the owner: it must not cost the owner.
struct PanicsWhenDropped;
impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("in drop"));
    }
}
impl CustomOp1 for PanicsWhenDropped {
    fn name(&self) -> &'static str {
        "drops"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((s.clone(), l.shape().clone()))
    }
}

#[test]
fn a_destructor_that_panics_costs_nobody_else() {
    within_limit(|| {
        let (executor, script, _busy) = held(8);
        let y = tensor(1.0)
            .apply_op1(PanicsWhenDropped, 1, DType::F32)
            .unwrap();
        let handle = executor.submit(&y).unwrap();
        script.resume();
        let result = handle.wait();
        assert!(
            result.is_ok() || matches!(result, Err(Error::Failed(_))),
            "{result:?}"
        );
        assert_eq!(
            value(
                &executor
                    .submit(&tensor(0.0).exp().unwrap())
                    .unwrap()
                    .wait()
                    .unwrap()
            ),
            1.0
        );
        assert!(matches!(executor.health(), Health::Running));
    });
}

/// What an operation panics with has a destructor of its own, which panics.
struct Bomb;
impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new(Bomb));
    }
}

#[test]
fn a_panic_payload_that_panics_costs_nobody_else() {
    within_limit(|| {
        for lending in [true, false] {
            let builder = Executor::builder(&Device::Cpu).lending(lending);
            let executor = builder.build().unwrap();
            for _ in 0..20 {
                let explode = || std::panic::resume_unwind(Box::new(Bomb));
                let bad = Counted::new(Act::Call(Arc::new(explode)));
                let y = bad.on(&tensor(1.0));
                let handles = (0..3).map(|_| executor.submit(&y).unwrap());
                for handle in handles.collect::<Vec<_>>() {
                    assert!(matches!(handle.wait(), Err(Error::Failed(_))));
                }
                assert_eq!(
                    value(&executor.run(&tensor(3.0).sqr().unwrap()).unwrap()),
                    9.0
                );
            }
            assert!(matches!(executor.health(), Health::Running));
        }
    });
}

#[test]
fn out_of_memory_fails_one_fragment() {
    within_limit(|| {
        let (executor, script) = simulated(8);
        script.at_step(
            0,
            Fault::OutOfMemory {
                asked: 1 << 40,
                left: 1 << 20,
            },
        );
        let error = executor
            .submit(&tensor(1.0).exp().unwrap())
            .unwrap()
            .wait()
            .unwrap_err();
        assert!(
            matches!(error.failure().unwrap().cause, Cause::OutOfMemory { asked, left } if asked == 1 << 40 && left == 1 << 20)
        );
        assert!(
            error
                .to_string()
                .contains("asked for 1099511627776 bytes, 1048576 left"),
            "{error}"
        );
        executor
            .submit(&tensor(1.0).exp().unwrap())
            .unwrap()
            .wait()
            .unwrap();
    });
}

/// An error that comes late, for a batch of several: each is run again by itself, and the one that
/// still fails is the culprit.
#[test]
fn a_late_error_fails_the_culprit_alone() {
    within_limit(|| {
        let (executor, script, busy) = held(8);
        let handles: Vec<_> = (0..4)
            .map(|i| executor.submit(&tensor(i as f32).exp().unwrap()).unwrap())
            .collect();
        // fence 0 ends the busy one, 1 the batch; 2 to 5 its members by themselves
        script.at_ticket(1, Fault::Error("late".into()));
        script.at_ticket(4, Fault::Error("late".into()));
        script.resume();
        busy.wait().unwrap();
        for (i, handle) in handles.iter().enumerate() {
            match (i, handle.wait()) {
                (2, Err(error)) => assert!(error.to_string().contains("late"), "{error}"),
                (2, Ok(_)) => panic!("the culprit went free"),
                (_, result) => assert_eq!(value(&result.unwrap()), (i as f32).exp()),
            }
        }
        assert_eq!(executor.stats().fragments_failed, 1);
        assert!(matches!(executor.health(), Health::Running));
    });
}

fn everything_is_told(fault: Fault) {
    let (executor, script, busy) = held(8);
    let queued: Vec<_> = (0..3)
        .map(|i| executor.submit(&tensor(i as f32).exp().unwrap()).unwrap())
        .collect();
    let y = tensor(5.0).exp().unwrap();
    let dependent = (
        executor.submit(&y).unwrap(),
        executor.submit(&(&y + 1.0).unwrap()).unwrap(),
    );
    script.at_ticket(1, fault);
    script.resume();
    busy.wait().unwrap();
    let mut told = 0;
    for handle in queued.iter().chain([&dependent.0, &dependent.1]) {
        match handle.wait() {
            Ok(_) => {}
            Err(Error::OwnerLost(_)) => told += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    eventually("closed", || matches!(executor.health(), Health::Lost(_)));
    let later = executor.submit(&tensor(1.0).exp().unwrap());
    assert!(matches!(later, Err(Error::OwnerLost(_))), "{later:?}");
    assert!(matches!(
        executor.try_submit(&tensor(1.0)),
        Err(Error::OwnerLost(_))
    ));
    let awaited = smol::block_on(executor.submit_async(&tensor(1.0)));
    assert!(matches!(awaited, Err(Error::OwnerLost(_))));
    executor.shutdown_blocking(None).unwrap();
    assert!(told > 0 || executor.stats().fragments_run >= 5);
    // others are well
    assert_eq!(
        value(
            &cpu()
                .submit(&tensor(0.0).exp().unwrap())
                .unwrap()
                .wait()
                .unwrap()
        ),
        1.0
    );
}

#[test]
fn a_lost_device_is_told_to_everybody() {
    within_limit(|| everything_is_told(Fault::Lost("fell off the bus".into())));
}

#[test]
fn so_is_a_panic_of_the_owner_itself() {
    within_limit(|| {
        let (executor, script, busy) = held(8);
        let queued = executor.submit(&tensor(1.0).exp().unwrap()).unwrap();
        script.at_ticket(0, Fault::OwnerPanic);
        script.resume();
        busy.wait().unwrap(); // it was done before
        let error = queued.wait().unwrap_err();
        assert!(matches!(error, Error::OwnerLost(_)), "{error:?}");
        assert!(
            error.to_string().contains("the owner's own code panicked"),
            "{error}"
        );
        assert!(matches!(executor.health(), Health::Lost(_)));
        assert!(matches!(
            executor.submit(&tensor(1.0)),
            Err(Error::OwnerLost(_))
        ));
        executor.shutdown_blocking(None).unwrap();
    });
}

#[test]
fn a_device_that_is_lost_in_a_step_is_lost() {
    within_limit(|| {
        let (executor, script) = simulated(8);
        script.at_step(0, Fault::Lost("gone".into()));
        let error = executor
            .submit(&tensor(1.0).exp().unwrap())
            .unwrap()
            .wait()
            .unwrap_err();
        assert!(
            error.to_string().contains("the device is lost: gone"),
            "{error}"
        );
        eventually("told", || matches!(executor.health(), Health::Lost(_)));
    });
}

#[test]
fn a_slow_device_keeps_its_order() {
    within_limit(|| {
        let (executor, script) = simulated(8);
        let ms = std::time::Duration::from_millis;
        script.latency(ms(1), ms(2));
        let mut y = tensor(0.0);
        let handles: Vec<_> = (0..10)
            .map(|_| {
                y = (&y + 1.0).unwrap();
                executor.submit(&y).unwrap()
            })
            .collect();
        for (i, handle) in handles.iter().enumerate() {
            assert_eq!(value(&handle.wait().unwrap()), i as f32 + 1.0);
        }
        assert_eq!(script.steps(), 10);
        assert!(script.tickets() <= 10);
    });
}
