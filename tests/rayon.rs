//! Threads of rayon's pool that wait: Candle's larger operations need that pool.

use candlewick::device::Script;
use candlewick::{Builder, DType, Device, Executor, LazyTensor, Tensor};
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

fn builder() -> Builder {
    Executor::builder(&Device::Cpu)
}

fn product(weight: &LazyTensor, i: usize) -> LazyTensor {
    let x = LazyTensor::full(i as f32, (128, 512), &Device::Cpu).unwrap();
    x.matmul(weight).unwrap()
}

fn all_workers_wait(builder: Builder) {
    within_limit(move || {
        let executor = builder.build().unwrap();
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
    all_workers_wait(builder().lending(false));
}

#[test]
fn every_worker_waits_and_may_lend() {
    all_workers_wait(builder());
}

#[test]
fn every_worker_waits_for_room() {
    all_workers_wait(builder().lending(false).queue_capacity(1));
}

#[test]
fn every_worker_waits_for_a_simulated_device() {
    all_workers_wait(builder().simulated(&Script::new()));
}

#[test]
fn every_worker_waits_for_the_end() {
    within_limit(|| {
        let executor = builder().lending(false).build().unwrap();
        let weight = Tensor::ones((512, 512), DType::F32, &Device::Cpu).unwrap();
        let weight = LazyTensor::from(weight);
        let submit = |i| executor.submit(&product(&weight, i)).unwrap();
        let handles: Vec<_> = (0..16).map(submit).collect();
        rayon::broadcast(|_| executor.shutdown_blocking(None).unwrap());
        assert!(handles.iter().all(|handle| handle.is_finished()));
        assert!(handles.into_iter().all(|handle| handle.wait().is_ok()));
    });
}
