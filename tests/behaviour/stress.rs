//! Threads and tasks that submit, wait, cancel, drop, fail and close at random, on the real
//! primitives. Seeded; `CANDLEWICK_STRESS_SECONDS` and `CANDLEWICK_STRESS_SEED` choose more of it.

use crate::common::*;
use candlewick::{Device, Error, Executor, Handle, LazyTensor};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::time::{Duration, Instant};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().expect("a number"))
}

/// What a request may come to.
fn check(result: candlewick::Result<candlewick::Tensor>, expected: f32, fails: bool) {
    match result {
        Ok(tensor) => {
            assert!(!fails, "it should have failed");
            assert_eq!(value(&tensor), expected);
        }
        Err(Error::Failed(_)) => assert!(fails, "it should not have failed"),
        Err(Error::Cancelled | Error::Closed) => {}
        Err(other) => panic!("{other:?}"),
    }
}

/// A graph, what it comes to, and whether it fails. Some refer to what others have submitted.
fn graph(rng: &mut SmallRng, shared: &[(LazyTensor, f32)]) -> (LazyTensor, f32, bool) {
    let number = rng.random_range(0..100) as f32;
    let (base, start) = match rng.random_range(0..3) {
        0 => shared[rng.random_range(0..shared.len())].clone(),
        _ => (tensor(number), number),
    };
    match rng.random_range(0..20) {
        0 => (Counted::new(Act::Fail("at random")).on(&base), 0.0, true),
        1 => (Counted::new(Act::Panic("at random")).on(&base), 0.0, true),
        n if n < 10 => ((&base + 1.0).unwrap(), start + 1.0, false),
        _ => (
            Counted::new(Act::AddOne).on(&(&base + 1.0).unwrap()),
            start + 2.0,
            false,
        ),
    }
}

fn producer(executor: Executor, shared: &[(LazyTensor, f32)], seed: u64, until: Instant) -> u64 {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut open: Vec<(Handle, f32, bool)> = Vec::new();
    let mut requests = 0;
    while Instant::now() < until {
        requests += 1;
        let (graph, expected, fails) = graph(&mut rng, shared);
        let handle = match rng.random_range(0..4) {
            0 => executor.try_submit(&graph),
            1 => smol::block_on(executor.submit_async(&graph)),
            _ => executor.submit(&graph),
        };
        let handle = match handle {
            Ok(handle) => handle,
            Err(Error::QueueFull { .. }) => continue,
            Err(Error::Closed) => break,
            Err(other) => panic!("{other:?}"),
        };
        match rng.random_range(0..8) {
            0 => drop(handle.cancel()),
            1 => drop((handle, graph)),
            2 => check(smol::block_on(handle), expected, fails),
            3 => match handle.wait_timeout(Duration::from_micros(rng.random_range(0..300))) {
                Err(Error::Timeout(_)) => open.push((handle, expected, fails)),
                result => check(result, expected, fails),
            },
            4 | 5 => open.push((handle, expected, fails)),
            _ => check(handle.wait(), expected, fails),
        }
        if open.len() > 20 {
            for (handle, expected, fails) in open.drain(..) {
                check(handle.wait(), expected, fails);
            }
        }
    }
    for (handle, expected, fails) in open {
        check(handle.wait(), expected, fails);
    }
    requests
}

#[test]
fn nothing_is_lost_and_nothing_is_left() {
    let seconds = setting("CANDLEWICK_STRESS_SECONDS", 4);
    within(Duration::from_secs(60 + seconds), move || stress(seconds));
}

fn stress(seconds: u64) {
    let seed = setting("CANDLEWICK_STRESS_SEED", rand::random());
    println!("CANDLEWICK_STRESS_SEED={seed}");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut rounds, mut requests) = (0, 0);
    while Instant::now() < end || rounds < 3 {
        rounds += 1;
        let builder = Executor::builder(&Device::Cpu).queue_capacity(rng.random_range(1..40));
        let executor = builder.lending(rng.random_bool(0.7)).build().unwrap();
        let shared: Vec<(LazyTensor, f32)> = (0..4)
            .map(|i| ((&tensor(i as f32) * 2.0).unwrap(), i as f32 * 2.0))
            .collect();
        let until = Instant::now() + Duration::from_millis(rng.random_range(20..300));
        let (closing, threads) = (rng.random_range(0..3), rng.random_range(2..9));
        requests += std::thread::scope(|scope| {
            let producers: Vec<_> = (0..threads)
                .map(|thread| {
                    let (executor, shared) = (executor.clone(), &shared);
                    scope.spawn(move || {
                        producer(executor, shared, seed ^ (rounds * 100 + thread), until)
                    })
                })
                .collect();
            match closing {
                0 => executor.shutdown_blocking(None).unwrap(),
                1 => executor.abort_blocking(None).unwrap(),
                _ => {}
            }
            producers
                .into_iter()
                .map(|p| p.join().expect("the seed is printed above"))
                .sum::<u64>()
        });
        drop(shared);
        executor
            .shutdown_blocking(Some(Duration::from_secs(20)))
            .expect("closes");
        let stats = executor.stats();
        assert_eq!(
            (stats.live_nodes, stats.live_bytes, stats.queued),
            (0, 0, 0),
            "seed {seed}: {stats:?}"
        );
    }
    println!("{rounds} executors, {requests} requests");
    assert!(requests > 0);
}
