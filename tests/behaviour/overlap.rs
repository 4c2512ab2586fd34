//! Submissions whose outputs overlap, from many threads at once: fragments never wait for each other in a
//! circle.
//!
//! `CANDLEWICK_OVERLAP_SUBMISSIONS` or `CANDLEWICK_OVERLAP_SECONDS` say how many or how long, and
//! `CANDLEWICK_STRESS_SEED` which. In a long run the race that this is about must have come about: a claim that
//! is younger than that of who comes across it.

use crate::common::*;
use candlewick::{Device, Executor, LazyTensor};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

const THREADS: u64 = 8;
/// So many submissions are a long run.
const LONG: u64 = 10_000_000;
/// A hang shows itself as this long without a single submission.
const STUCK: Duration = Duration::from_secs(20);

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

/// Nodes that share operands, each with its value.
type Graph = Vec<(LazyTensor, f32)>;

/// s, q = g(s), p = f(q), with a few nodes between them; or a random graph.
fn graph(rng: &mut SmallRng) -> Graph {
    let mut nodes: Graph = vec![(tensor(1.0), 1.0)];
    let chain = rng.random_bool(0.5);
    for _ in 0..rng.random_range(3..8) {
        let (a, x) = match chain {
            true => nodes.last().unwrap(),
            false => nodes.choose(rng).unwrap(),
        };
        let next = match rng.random_bool(0.5) {
            true => ((a + 1.0).unwrap(), x + 1.0),
            false => {
                let (b, y) = nodes.choose(rng).unwrap();
                ((a + b).unwrap(), x + y)
            }
        };
        nodes.push(next);
    }
    nodes
}

struct Overlap<'a> {
    executor: &'a Executor,
    shared: Mutex<Graph>,
    submissions: AtomicU64,
    done: AtomicBool,
    outputs: usize,
}

impl Overlap<'_> {
    fn producer(&self, seed: u64) {
        let mut rng = SmallRng::seed_from_u64(seed);
        while !self.done.load(Relaxed) {
            let graph = self.shared.lock().unwrap().clone();
            for _ in 0..rng.random_range(1..4) {
                self.submit(&graph, &mut rng);
            }
            if rng.random_bool(0.4) {
                let next = self::graph(&mut rng);
                drop(std::mem::replace(&mut *self.shared.lock().unwrap(), next));
            }
        }
    }

    fn submit(&self, graph: &Graph, rng: &mut SmallRng) {
        let count = rng.random_range(1..=self.outputs);
        let asked: Vec<&(LazyTensor, f32)> = graph.choose_multiple(rng, count).collect();
        let tensors: Vec<&LazyTensor> = asked.iter().map(|node| &node.0).collect();
        let handle = self.executor.submit(&tensors[..]).unwrap();
        self.submissions.fetch_add(1, Relaxed);
        if rng.random_bool(0.2) {
            return; // never looks
        }
        let results = handle.wait_timeout(STUCK).expect("hangs, or has failed");
        for (result, (_, expected)) in results.iter().zip(asked) {
            assert_eq!(value(result), *expected);
        }
    }
}

fn overlap(capacity: usize, outputs: usize) {
    let seed = setting("CANDLEWICK_STRESS_SEED").unwrap_or_else(rand::random);
    println!("CANDLEWICK_STRESS_SEED={seed}");
    let many = setting("CANDLEWICK_OVERLAP_SUBMISSIONS");
    let seconds = setting("CANDLEWICK_OVERLAP_SECONDS").unwrap_or(10);
    let builder = Executor::builder(&Device::Cpu).queue_capacity(capacity);
    let executor = builder.build().unwrap();
    let overlap = Overlap {
        executor: &executor,
        shared: Mutex::new(graph(&mut SmallRng::seed_from_u64(seed))),
        submissions: AtomicU64::new(0),
        done: AtomicBool::new(false),
        outputs,
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let overlap = &overlap;
            scope.spawn(move || overlap.producer(seed ^ thread));
        }
        let (mut last, mut since) = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(20));
            let now = overlap.submissions.load(Relaxed);
            let enough = match many {
                Some(many) => now >= many,
                None => start.elapsed() >= Duration::from_secs(seconds),
            };
            if enough {
                break;
            }
            if now != last {
                (last, since) = (now, Instant::now());
            }
            if since.elapsed() > STUCK {
                eprintln!("hangs after {now} submissions, seed {seed}: {executor:?}");
                std::process::exit(1); // the threads will not end
            }
        }
        overlap.done.store(true, Relaxed);
    });
    drop(overlap.shared);
    let limit = Some(Duration::from_secs(20));
    executor.shutdown_blocking(limit).expect("closes");
    let stats = executor.stats();
    let left = (stats.live_nodes, stats.live_bytes, stats.queued);
    assert_eq!(left, (0, 0, 0), "seed {seed}: {stats:?}");
    let submissions = overlap.submissions.load(Relaxed);
    println!(
        "{submissions} submissions, {} nodes computed again, {} s",
        stats.nodes_recomputed,
        start.elapsed().as_secs()
    );
    assert!(submissions > 0);
    // some ten times in a million submissions, on two cores
    if submissions >= LONG {
        assert!(stats.nodes_recomputed > 0, "no two of them raced");
    }
}

#[test]
fn two_outputs_from_eight_threads() {
    overlap(1024, 2);
}

#[test]
fn random_graphs_and_a_small_queue() {
    overlap(2, 4);
}

/// p = f(q), q = g(s): one thread asks for q and s, the other for p and s, at the same moment.
#[test]
fn two_submissions_that_would_wait_for_each_other() {
    within_limit(|| {
        let executor = cpu();
        for round in 0..2000 {
            let s = (&tensor(round as f32) + 1.0).unwrap();
            let mut between = s.clone();
            for _ in 0..round % 8 {
                between = (&between + 1.0).unwrap();
            }
            let q = (&between * 2.0).unwrap();
            let p = (&q - 1.0).unwrap();
            let barrier = Barrier::new(2);
            let expect = |x: &candlewick::Tensor, expected: f32| assert_eq!(value(x), expected);
            let at_q = 2.0 * (round as f32 + 1.0 + (round % 8) as f32);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    barrier.wait();
                    let handle = executor.submit((&q, &s)).unwrap();
                    let (a, b) = handle.wait_timeout(STUCK).unwrap();
                    expect(&a, at_q);
                    expect(&b, round as f32 + 1.0);
                });
                barrier.wait();
                let handle = executor.submit((&p, &s)).unwrap();
                let (a, b) = handle.wait_timeout(STUCK).unwrap();
                expect(&a, at_q - 1.0);
                expect(&b, round as f32 + 1.0);
            });
        }
        println!("{} nodes computed again", executor.stats().nodes_recomputed);
    });
}
