//! Lending, and an owner that costs nothing while it is idle.

use crate::common::*;
use candlewick::{DType, Device, Error, Executor, LazyTensor, Priority, Session, Submit};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn a_caller_runs_its_work_itself() {
    within_limit(|| {
        let executor = cpu();
        let this = std::thread::current().id();
        for i in 0..200 {
            let ran_on = Arc::new(Mutex::new(None));
            let on = ran_on.clone();
            let note = move || *on.lock().unwrap() = Some(std::thread::current().id());
            let y = Counted::new(Act::Call(Arc::new(note))).on(&tensor(i as f32));
            assert_eq!(value(&executor.run(&y).unwrap()), i as f32 + 1.0);
            assert_eq!(*ran_on.lock().unwrap(), Some(this));
        }
        assert_eq!(executor.stats().lent, 200);
    });
}

/// Small work is done inside of the poll; what may take long, or is code that only its author knows, by the
/// owner.
#[test]
fn small_work_is_done_inside_of_a_poll() {
    within_limit(|| {
        let executor = cpu();
        let small = |i: usize| (&tensor(i as f32) + 1.0).unwrap();
        for i in 0..50 {
            let result = smol::block_on(executor.run_async(&small(i))).unwrap();
            assert_eq!(value(&result), i as f32 + 1.0);
        }
        let lent = executor.stats().lent;
        assert!(lent >= 49, "{lent}: the first is not planned yet");
        let large = LazyTensor::ones((512, 512), DType::F32, &Device::Cpu).unwrap();
        let custom = Counted::new(Act::AddOne);
        for _ in 0..3 {
            let product = large.matmul(&large).unwrap();
            let result = smol::block_on(executor.run_async(&product)).unwrap();
            assert_eq!(result.dims(), [512, 512]);
            let y = custom.on(&tensor(1.0));
            assert_eq!(value(&smol::block_on(executor.run_async(&y)).unwrap()), 2.0);
        }
        assert_eq!(executor.stats().lent, lent);
        let never = Executor::builder(&Device::Cpu).inline_limit(Duration::ZERO);
        let never = never.build().unwrap();
        for i in 0..5 {
            drop(smol::block_on(never.run_async(&small(i))).unwrap());
        }
        assert_eq!(never.stats().lent, 0);
    });
}

/// A lender holds its own locks: it stops at its own result, and runs no operation of another caller's own.
#[test]
fn a_lender_runs_no_operation_of_another_caller() {
    within_limit(|| {
        let executor = cpu();
        let lock = Arc::new(Mutex::new(()));
        for round in 0..100 {
            let wants = lock.clone();
            let stranger = Counted::new(Act::Call(Arc::new(move || drop(wants.lock().unwrap()))));
            let held = lock.lock().unwrap();
            let queued = std::thread::scope(|scope| {
                let submit = || executor.submit(&stranger.on(&tensor(0.0))).unwrap();
                scope.spawn(submit).join().unwrap()
            });
            if round % 2 == 0 {
                // the stranger's may have begun on the owner's thread, which waits for our lock: then ours
                // cannot be waited for, with lending or without
                let how = Submit::new().priority(Priority::Interactive);
                let y = (&tensor(round as f32) + 1.0).unwrap();
                let mine = executor.submit_with(&y, how).unwrap();
                match mine.wait_timeout(Duration::from_millis(1)) {
                    Ok(result) => assert_eq!(value(&result), round as f32 + 1.0),
                    Err(error) => assert!(matches!(error, Error::Timeout(_)), "{error:?}"),
                }
            }
            drop(held);
            queued.wait().unwrap();
        }
    });
}

/// An urgent wait does not run what somebody else has queued once its own result is there.
#[test]
fn a_lender_stops_at_its_own_result() {
    within_limit(|| {
        let executor = cpu();
        let slow = LazyTensor::ones((384, 384), DType::F32, &Device::Cpu).unwrap();
        for i in 0..20 {
            let other = Session::new();
            let background = Submit::new().priority(Priority::Background).session(&other);
            let work = (0..8).fold(slow.clone(), |y, _| {
                y.matmul(&slow).unwrap().tanh().unwrap()
            });
            let flood: Vec<_> = (0..4)
                .map(|j| {
                    let y = (&work + f64::from(j)).unwrap();
                    executor.submit_with(&y, background.clone()).unwrap()
                })
                .collect();
            let urgent = Submit::new().priority(Priority::Interactive);
            let y = (&tensor(i as f32) + 1.0).unwrap();
            assert_eq!(
                value(&executor.run_with(&y, urgent).unwrap()),
                i as f32 + 1.0
            );
            let left = flood.iter().filter(|handle| !handle.is_finished()).count();
            assert!(left >= 2, "{left}: it ran the others' work");
            flood.iter().for_each(|handle| drop(handle.wait().unwrap()));
        }
    });
}

/// A wait with a limit lends as well, if there is time enough for the work.
#[test]
fn a_timed_wait_lends() {
    within_limit(|| {
        let executor = cpu();
        for i in 0..300 {
            let y = (&tensor(i as f32) + 1.0).unwrap();
            let handle = executor.submit(&y).unwrap();
            let result = handle.wait_timeout(Duration::from_secs(10)).unwrap();
            assert_eq!(value(&result), i as f32 + 1.0);
        }
        assert!(executor.stats().lent > 0, "{:?}", executor.stats());
    });
}

#[test]
fn unless_it_is_switched_off() {
    within_limit(|| {
        let executor = Executor::builder(&Device::Cpu)
            .lending(false)
            .build()
            .unwrap();
        for i in 0..20 {
            let y = (&tensor(i as f32) + 1.0).unwrap();
            assert_eq!(
                value(&executor.submit(&y).unwrap().wait().unwrap()),
                i as f32 + 1.0
            );
        }
        assert_eq!(executor.stats().lent, 0);
    });
}

#[test]
fn a_panic_in_a_lent_run_stays_in_its_fragment() {
    within_limit(|| {
        let executor = cpu();
        for i in 0..50 {
            let bad = Counted::new(Act::Panic("lent"));
            let error = executor.run(&bad.on(&tensor(0.0))).unwrap_err();
            assert!(error.to_string().contains("lent"), "{error}");
            let good = (&tensor(i as f32) + 1.0).unwrap();
            assert_eq!(value(&executor.run(&good).unwrap()), i as f32 + 1.0);
        }
    });
}

/// CPU time of the thread of this name, in clock ticks.
#[cfg(target_os = "linux")]
fn ticks(name: &str) -> Option<u64> {
    for task in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (head, tail) = stat.rsplit_once(')')?;
        if head.ends_with(name) {
            let fields: Vec<&str> = tail.split_whitespace().collect();
            return Some(fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?);
        }
    }
    None
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_owner_uses_no_cpu_time() {
    within_limit(|| {
        let builder = Executor::builder(&Device::Cpu)
            .thread_name("idle-owner")
            .lending(false);
        let executor = builder.build().unwrap();
        executor
            .submit(&tensor(1.0).exp().unwrap())
            .unwrap()
            .wait()
            .unwrap();
        let before = ticks("idle-owner").expect("the owner's thread");
        std::thread::sleep(Duration::from_millis(500)); // what is measured
        let used = ticks("idle-owner").expect("the owner's thread") - before;
        assert!(
            used <= 1,
            "an idle owner used {used} ticks of 10 ms in half a second"
        );
    });
}
