//! Threads of rayon's pool that wait: Candle's larger operations need that pool.

use candlewick::{DType, Device, Executor, LazyTensor, Tensor};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use std::sync::mpsc;
use std::time::Duration;

/// Fails if it takes too long: all of the pool's threads wait for an owner that needs them.
fn within_limit(body: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        body();
        let _ = done.send(());
    });
    let ended = ended.recv_timeout(Duration::from_secs(60));
    assert!(ended.is_ok(), "hangs, or has failed");
}

fn product(weight: &LazyTensor, i: usize) -> LazyTensor {
    let x = LazyTensor::full(i as f32, (128, 512), &Device::Cpu).unwrap();
    x.matmul(weight).unwrap()
}

fn all_workers_wait(lending: bool, capacity: usize) {
    within_limit(move || {
        let builder = Executor::builder(&Device::Cpu).lending(lending);
        let executor = builder.queue_capacity(capacity).build().unwrap();
        let weight = Tensor::ones((512, 512), DType::F32, &Device::Cpu).unwrap();
        let weight = LazyTensor::from(weight);
        // outside of the pool too, so that the owner is busy while the pool's threads wait
        let first = executor.submit(&product(&weight, 1)).unwrap();
        let sums: Vec<f32> = (0..64usize)
            .into_par_iter()
            .map(|i| {
                let handle = executor.submit(&product(&weight, i)).unwrap();
                let result = handle.wait().unwrap();
                result
                    .flatten_all()
                    .unwrap()
                    .get(0)
                    .unwrap()
                    .to_scalar()
                    .unwrap()
            })
            .collect();
        let expected: Vec<f32> = (0..64).map(|i| 512.0 * i as f32).collect();
        assert_eq!(sums, expected);
        drop(first.wait().unwrap());
    });
}

#[test]
fn every_worker_waits_for_the_owner() {
    all_workers_wait(false, 1024);
}

#[test]
fn every_worker_waits_and_may_lend() {
    all_workers_wait(true, 1024);
}

#[test]
fn every_worker_waits_for_room() {
    all_workers_wait(false, 1);
}
