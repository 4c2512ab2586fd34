//! Lending, and an owner that costs nothing while it is idle.

use crate::common::*;
use candlewick::{Device, Executor};

#[test]
fn a_thread_that_waits_runs_the_queue_itself() {
    within_limit(|| {
        let executor = cpu();
        for i in 0..200 {
            let y = (&tensor(i as f32) + 1.0).unwrap();
            assert_eq!(
                value(&executor.submit(&y).unwrap().wait().unwrap()),
                i as f32 + 1.0
            );
        }
        let lent = executor.stats().lent;
        assert!(lent > 100, "lent only {lent} times of 200");
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
            let error = executor
                .submit(&bad.on(&tensor(0.0)))
                .unwrap()
                .wait()
                .unwrap_err();
            assert!(error.to_string().contains("lent"), "{error}");
            let good = (&tensor(i as f32) + 1.0).unwrap();
            assert_eq!(
                value(&executor.submit(&good).unwrap().wait().unwrap()),
                i as f32 + 1.0
            );
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
        std::thread::sleep(std::time::Duration::from_millis(500)); // what is measured
        let used = ticks("idle-owner").expect("the owner's thread") - before;
        assert!(
            used <= 1,
            "an idle owner used {used} ticks of 10 ms in half a second"
        );
    });
}
