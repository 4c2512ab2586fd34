//! Lending, and an owner that costs nothing while it is idle.

use crate::common::*;
use candlewick::device::Script;
use candlewick::{DType, Device, Error, Executor, LazyTensor, Priority, Session, Submit};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

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

/// What a future comes to when it is polled for the first time.
fn polled<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(future).poll(&mut cx) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Whether work of which the plan is known is done inside of a poll. If not, the owner does it.
fn is_done_in_a_poll(executor: &Executor, graph: &LazyTensor) -> bool {
    let lent = executor.stats().lent;
    let mut run = executor.run_async(graph);
    let inside = polled(&mut run).map(Result::unwrap).is_some();
    assert_eq!(executor.stats().lent - lent, u64::from(inside));
    if !inside {
        assert!(executor.step());
        assert!(polled(&mut run).expect("the owner has done it").is_ok());
    }
    inside
}

/// Work on `size` numbers: a graph of its own, with a plan that all of this size share.
fn work(size: usize) -> LazyTensor {
    let x = LazyTensor::full(1f32, size, &Device::Cpu).unwrap();
    (&x + 1.0).unwrap()
}

/// Small work is done inside of the poll; what may take long, or is code that only its author knows, by the
/// owner. So is what is not planned yet.
#[test]
fn small_work_is_done_inside_of_a_poll() {
    let executor = without_a_thread(|builder| builder);
    for i in 0..50 {
        assert_eq!(is_done_in_a_poll(&executor, &work(1)), i > 0);
    }
    let large = LazyTensor::ones((512, 512), DType::F32, &Device::Cpu).unwrap();
    let custom = Counted::new(Act::AddOne);
    for _ in 0..3 {
        let product = large.matmul(&large).unwrap();
        assert!(!is_done_in_a_poll(&executor, &product));
        assert!(!is_done_in_a_poll(&executor, &custom.on(&tensor(1.0))));
    }
    // not while something is queued
    let queued = executor.submit(&work(1)).unwrap();
    assert!(!is_done_in_a_poll(&executor, &work(1)));
    assert!(queued.is_finished());
    let never = without_a_thread(|builder| builder.inline_limit(Duration::ZERO));
    assert!((0..5).all(|_| !is_done_in_a_poll(&never, &work(1))));
}

/// The same beside an owner's thread, which does it unless it rests.
#[test]
fn small_work_is_done_inside_of_a_poll_while_the_owner_rests() {
    within_limit(|| {
        let executor = cpu();
        eventually("done in a poll", || {
            let result = smol::block_on(executor.run_async(&work(1))).unwrap();
            assert_eq!(value(&result), 2.0);
            executor.stats().lent > 0
        });
    });
}

/// The plan's estimate of this work: the least limit within which it is done inside of a poll.
fn estimate(size: usize) -> Duration {
    let inside = |nanos: u64| {
        let limit = Duration::from_nanos(nanos);
        let executor = without_a_thread(|builder| builder.inline_limit(limit));
        let _planned = is_done_in_a_poll(&executor, &work(size));
        is_done_in_a_poll(&executor, &work(size))
    };
    let (mut less, mut enough) = (0, 1_000_000_000);
    assert!(!inside(less) && inside(enough));
    while enough - less > 1 {
        let middle = less + (enough - less) / 2;
        match inside(middle) {
            true => enough = middle,
            false => less = middle,
        }
    }
    Duration::from_nanos(enough)
}

/// The limit is what may be done in a poll, 50 microseconds if nothing is said: work that is estimated to take as
/// long is, and one number more is not.
#[test]
fn a_poll_does_work_up_to_its_limit() {
    let executor = without_a_thread(|builder| builder);
    let inside = |size: usize| {
        let _planned = is_done_in_a_poll(&executor, &work(size));
        is_done_in_a_poll(&executor, &work(size))
    };
    let (mut fits, mut too_large) = (1, 1 << 24);
    assert!(inside(fits) && !inside(too_large));
    while too_large - fits > 1 {
        let middle = fits + (too_large - fits) / 2;
        match inside(middle) {
            true => fits = middle,
            false => too_large = middle,
        }
    }
    let limit = Duration::from_micros(50);
    assert!(estimate(fits) <= limit && estimate(too_large) > limit);
    assert!(fits > 10_000, "fifty microseconds are many numbers: {fits}");
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

/// An urgent call does not run what somebody else has queued once its own result is there; and nobody else does
/// here.
#[test]
fn a_lender_stops_at_its_own_result() {
    let executor = without_a_thread(|builder| builder);
    for i in 0..20 {
        let other = Session::new();
        let background = Submit::new().priority(Priority::Background).session(&other);
        let flood: Vec<_> = (0..4)
            .map(|j| {
                let y = (&tensor(j as f32) + f64::from(i)).unwrap();
                executor.submit_with(&y, background.clone()).unwrap()
            })
            .collect();
        let urgent = Submit::new().priority(Priority::Interactive);
        let y = tensor(i as f32).sqr().unwrap();
        let result = match i % 2 {
            0 => executor.run_with(&y, urgent).unwrap(),
            _ => executor.submit_with(&y, urgent).unwrap().wait().unwrap(),
        };
        assert_eq!(value(&result), (i * i) as f32);
        assert!(
            flood.iter().all(|handle| !handle.is_finished()),
            "it ran the others' work"
        );
        assert!(executor.step());
        for (j, handle) in flood.iter().enumerate() {
            assert_eq!(value(&handle.wait().unwrap()), (i + j as i32) as f32);
        }
    }
}

/// A wait with a limit lends as well, if there is time enough for the work.
#[test]
fn a_timed_wait_lends() {
    let executor = without_a_thread(|builder| builder);
    for i in 0..300 {
        let y = (&tensor(i as f32) + 1.0).unwrap();
        let handle = executor.submit(&y).unwrap();
        let result = handle.wait_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(value(&result), i as f32 + 1.0);
    }
    assert_eq!(executor.stats().lent, 300);
}

/// Work whose estimate is more than what is left of a wait is not for it: the owner does that.
#[test]
fn a_timed_wait_does_not_lend_itself_to_work_that_takes_longer() {
    const SIZE: usize = 1 << 22;
    within_limit(|| {
        let takes = estimate(SIZE);
        assert!(takes > Duration::from_micros(100), "{takes:?}");
        let executor = without_a_thread(|builder| builder);
        let handle = executor.submit(&work(SIZE)).unwrap();
        let waited = handle.wait_timeout(takes / 10);
        assert!(matches!(waited, Err(Error::Timeout(_))), "{waited:?}");
        assert_eq!((executor.stats().lent, handle.is_finished()), (1, false));
        assert!(executor.step());
        assert_eq!(handle.wait().unwrap().dims(), [SIZE]);
    });
}

/// To the nanosecond, where the clock stands still: what is left of the wait is its limit. Of three that would run
/// as one, the others' come along as far as there is time.
#[test]
fn a_timed_wait_lends_itself_to_what_fits() {
    const SIZE: usize = 100_000;
    within_limit(|| {
        let (takes, nanosecond) = (estimate(SIZE), Duration::from_nanos(1));
        for (limit, along) in [
            (takes, 0),
            (2 * takes - nanosecond, 0),
            (2 * takes, 1),
            (3 * takes - nanosecond, 1),
            (3 * takes, 2),
        ] {
            Script::set_now(Some(Instant::now()));
            let executor = without_a_thread(|builder| builder);
            let [mine, others @ ..] = [(); 3].map(|()| executor.submit(&work(SIZE)).unwrap());
            assert_eq!(mine.wait_timeout(limit).unwrap().dims(), [SIZE]);
            let ran = others.iter().filter(|other| other.is_finished()).count();
            assert_eq!((executor.stats().lent, ran), (1, along));
            assert!(executor.step() && others.iter().all(|other| other.is_finished()));
        }
        // a nanosecond less than it takes: another thread drives in the end
        let executor = without_a_thread(|builder| builder);
        let handle = executor.submit(&work(SIZE)).unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                eventually("the wait has looked", || executor.stats().lent == 1);
                std::thread::sleep(Duration::from_millis(20)); // long enough to do it, if it did
                let left = !handle.is_finished();
                eventually("done", || executor.step() && handle.is_finished());
                left
            });
            assert!(handle.wait_timeout(takes - nanosecond).is_ok());
            assert!(other.join().unwrap(), "the wait did it");
        });
        Script::set_now(None);
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
