//! At rest nothing is left, however large it was.

use crate::common::*;
use candlewick::{Device, Executor, Handle, LazyTensor, Tensor};
use std::collections::VecDeque;
use std::time::Duration;

#[test]
fn at_rest_there_are_no_nodes_and_no_bytes() {
    within_limit(|| {
        let executor = cpu();
        let mut kept = Vec::new();
        for i in 0..200 {
            let x = tensor(i as f32);
            let y = (&x + 1.0).unwrap();
            let (a, b) = (
                executor.submit(&y).unwrap(),
                executor.submit((&y, &(&y * 2.0).unwrap())).unwrap(),
            );
            match i % 4 {
                0 => {
                    a.wait().unwrap();
                }
                1 => {
                    b.wait().unwrap();
                }
                2 => {
                    let _ = a.cancel();
                }
                _ => kept.push((y, a, b)),
            }
        }
        assert!(executor.stats().live_nodes >= 50);
        kept.iter().for_each(|(_, a, b)| {
            a.wait().unwrap();
            b.wait().unwrap();
        });
        assert!(executor.stats().live_bytes >= 50 * 4);
        drop(kept);
        executor.shutdown_blocking(None).unwrap();
        let stats = executor.stats();
        assert_eq!(
            (
                stats.live_nodes,
                stats.live_bytes,
                stats.queued,
                stats.queued_bytes
            ),
            (0, 0, 0, 0),
            "{stats:?}"
        );
    });
}

#[test]
fn right_after_a_wait_too() {
    within_limit(|| {
        let executor = cpu();
        for i in 0..2000 {
            let x = tensor(i as f32);
            executor.submit(&x.exp().unwrap()).unwrap().wait().unwrap();
            let stats = executor.stats();
            assert_eq!((stats.live_nodes, stats.live_bytes), (0, 0), "{stats:?}");
        }
    });
}

/// 100 000 chained operations build, run and drop on a stack of 2 MiB; some of them shared.
#[test]
fn deep_graphs_need_no_deep_stack() {
    within_limit(|| {
        let small = std::thread::Builder::new().stack_size(2 << 20);
        let thread = small.spawn(|| {
            let executor = cpu();
            let one = tensor(1.0);
            let mut y = tensor(0.0);
            for _ in 0..100_000 {
                y = (&y + &one).unwrap();
            }
            assert_eq!(
                value(&executor.submit(&y).unwrap().wait().unwrap()),
                100_000.0
            );
            drop(y);
            // never submitted, dropped as a whole
            let mut z = tensor(0.0);
            for _ in 0..100_000 {
                z = (&z + &z).unwrap();
            }
            drop(z);
            assert_eq!(executor.stats().live_nodes, 0);
        });
        thread.unwrap().join().unwrap();
    });
}

/// Results that the owner frees go while it is busy, not only when it comes to rest.
#[test]
fn results_go_home_under_load() {
    const IN_FLIGHT: usize = 200;
    const ALL: usize = 3000;
    within_limit(|| {
        let (executor, script) = simulated(2 * IN_FLIGHT);
        // slower than the submitter, so that the queue is never empty
        script.latency(Duration::ZERO, Duration::from_millis(2));
        let size = 1024 * size_of::<f32>();
        let submit = |i: usize| {
            let x = LazyTensor::full(i as f32, 1024, &Device::Cpu).unwrap();
            executor.submit(&x.exp().unwrap()).unwrap()
        };
        let mut queued: VecDeque<Handle> = (0..IN_FLIGHT).map(submit).collect();
        let mut most = 0;
        for i in IN_FLIGHT..ALL {
            queued.push_back(submit(i));
            drop(queued.pop_front().unwrap().wait().unwrap());
            most = most.max(executor.stats().live_bytes);
        }
        // of those in flight, those that a batch has just made, and no more than some rounds'
        let bound = (4 * IN_FLIGHT * size) as u64;
        assert!(most <= bound, "{most} bytes, not {bound}");
    });
}

#[test]
fn what_is_made_of_a_weight_goes_with_it() {
    within_limit(|| {
        for pack in [true, false] {
            let builder = Executor::builder(&Device::Cpu).pack_weights(pack);
            let executor = builder.build().unwrap();
            let random = |rows| Tensor::randn(0f32, 1.0, (rows, 512), &Device::Cpu).unwrap();
            let (x, w) = (LazyTensor::from(random(4)), LazyTensor::from(random(512)));
            for _ in 0..3 {
                let y = executor.submit(&x.matmul(&w).unwrap()).unwrap().wait();
                assert_eq!(y.unwrap().dims(), [4, 512]);
            }
            let bytes = if pack { 512 * 512 * 4 } else { 0 };
            assert_eq!(executor.stats().packed_bytes, bytes);
            drop(w);
            eventually("packed", || executor.stats().packed_bytes == 0);
        }
    });
}

#[test]
fn buffers_are_kept_up_to_a_bound() {
    within_limit(|| {
        for limit in [0u64, 1 << 20, 1 << 30] {
            let builder = Executor::builder(&Device::Cpu).pool_bytes(limit);
            let executor = builder.build().unwrap();
            let x = Tensor::randn(0f32, 1.0, (512, 512), &Device::Cpu).unwrap();
            let x = LazyTensor::from(x);
            for _ in 0..3 {
                // two steps need it, so it is a value of its own
                let y = x.tanh().unwrap();
                let z = (y.matmul(&x).unwrap() + &y).unwrap();
                let z = executor.submit(&z).unwrap().wait().unwrap();
                assert_eq!(z.dims(), [512, 512]);
            }
            let kept = executor.stats().pool_bytes;
            assert!(kept <= limit, "{kept}");
            assert_eq!(kept > 0, limit >= 512 * 512 * 4, "{kept} of {limit}");
        }
    });
}
