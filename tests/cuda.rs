//! What holds on a CUDA device. Needs one: `cargo test --release --features cuda --test cuda --
//! --ignored`, or without a device the tests are only built.
#![cfg(feature = "cuda")]

use candle_core::{DType, Device, Tensor};
use candlewick::{D, Error, Executor, Handle, LazyTensor};
use std::time::Instant;

fn device() -> Device {
    Device::new_cuda_with_stream(0).expect("a CUDA device")
}

/// Numbers in [-1, 1), made on the host.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / 2f32.powi(31) - 1.0
    };
    (0..count).map(|_| next()).collect()
}

struct Mlp {
    up: Vec<f32>,
    down: Vec<f32>,
}

impl Mlp {
    fn new() -> Self {
        Self {
            up: numbers(64 * 128, 1),
            down: numbers(128 * 32, 2),
        }
    }

    fn eager(&self, x: &[f32]) -> candle_core::Result<Vec<f32>> {
        let up = Tensor::from_slice(&self.up, (64, 128), &Device::Cpu)?;
        let down = Tensor::from_slice(&self.down, (128, 32), &Device::Cpu)?;
        let x = Tensor::from_slice(x, (1, 64), &Device::Cpu)?;
        let y = x.matmul(&up)?.gelu()?.matmul(&down)?;
        candle_nn::ops::softmax_last_dim(&y)?
            .flatten_all()?
            .to_vec1()
    }

    fn lazy(&self, x: &[f32], weights: &[LazyTensor; 2], device: &Device) -> LazyTensor {
        let x = LazyTensor::from_slice(x, (1, 64), device).unwrap();
        let hidden = x.matmul(&weights[0]).unwrap().gelu().unwrap();
        let y = hidden.matmul(&weights[1]).unwrap();
        y.softmax(D::Minus1).unwrap()
    }

    fn weights(&self, device: &Device) -> [LazyTensor; 2] {
        let up = LazyTensor::from_slice(&self.up, (64, 128), device).unwrap();
        let down = LazyTensor::from_slice(&self.down, (128, 32), device).unwrap();
        [up, down]
    }
}

/// cuBLAS and Candle's kernels sum in another order than the CPU, and use approximate `tanh` and
/// `exp`: 1e-4 of a probability is ten times what is seen.
fn close(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    for (g, e) in got.iter().zip(expected) {
        assert!((g - e).abs() <= 1e-4, "{g} is not {e}");
    }
}

fn host(handle: Handle) -> Vec<f32> {
    let tensor = handle.wait().unwrap();
    assert!(tensor.device().is_cpu());
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_device_with_a_stream_for_every_thread_is_refused() {
    let device = Device::new_cuda(0).unwrap();
    let error = Executor::new(&device).err().expect("refused").to_string();
    assert!(error.contains("new_cuda_with_stream"), "{error}");
}

#[test]
#[ignore = "needs a CUDA device"]
fn many_threads_get_the_answers_of_eager_candle() {
    let device = device();
    let executor = Executor::new(&device).unwrap();
    let mlp = Mlp::new();
    let weights = mlp.weights(&device);
    std::thread::scope(|scope| {
        for thread in 0..32u32 {
            let (executor, device, mlp, weights) = (&executor, &device, &mlp, &weights);
            scope.spawn(move || {
                for i in 0..50 {
                    let x = numbers(64, 1000 + thread * 64 + i);
                    let y = mlp.lazy(&x, weights, device);
                    let y = y.to_device(&Device::Cpu).unwrap();
                    let got = host(executor.submit(&y).unwrap());
                    close(&got, &mlp.eager(&x).unwrap());
                }
            });
        }
    });
    drop(weights);
    settle(&executor);
}

/// At rest nothing is left.
fn settle(executor: &Executor) {
    let start = Instant::now();
    while executor.stats().live_nodes + executor.stats().live_bytes as usize > 0 {
        assert!(start.elapsed().as_secs() < 10, "{:?}", executor.stats());
        std::thread::yield_now();
    }
}

/// A result is used by other threads' graphs while it is still in the making.
#[test]
#[ignore = "needs a CUDA device"]
fn results_are_used_before_they_are_ready() {
    let device = device();
    let executor = Executor::new(&device).unwrap();
    let a = LazyTensor::from_vec(numbers(512 * 512, 3), (512, 512), &device).unwrap();
    let scaled = (&a * (1.0 / 32.0)).unwrap();
    let mut y = scaled.clone();
    for _ in 0..24 {
        y = y.matmul(&scaled).unwrap().tanh().unwrap();
    }
    let busy = executor.submit(&y).unwrap();
    let sums: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let one = |_| {
            scope.spawn(|| {
                let sum = y.sqr().unwrap().sum_all().unwrap();
                host(
                    executor
                        .submit(&sum.to_device(&Device::Cpu).unwrap())
                        .unwrap(),
                )
            })
        };
        let threads: Vec<_> = (0..8).map(one).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let whole = busy.wait().unwrap();
    let expected: f32 = whole.sqr().unwrap().sum_all().unwrap().to_scalar().unwrap();
    for sum in sums {
        assert!(
            (sum[0] - expected).abs() <= 1e-4 * expected.abs(),
            "{sum:?} is not {expected}"
        );
    }
}

/// On the device an index that is out of range is an assertion that ends the process's context.
#[test]
#[ignore = "needs a CUDA device"]
fn an_index_out_of_range_fails_its_own_fragment_only() {
    let device = device();
    let executor = Executor::new(&device).unwrap();
    let table = LazyTensor::from_vec(numbers(8 * 4, 4), (8, 4), &device).unwrap();
    let good = LazyTensor::new(&[7u32, 0], &device).unwrap();
    for bad in [8u32, u32::MAX - 1] {
        let ids = LazyTensor::new(&[1u32, bad], &device).unwrap();
        let error = executor
            .submit(&table.index_select(&ids, 0).unwrap())
            .unwrap()
            .wait();
        let error = error.expect_err("out of range");
        assert!(matches!(error, Error::Failed(_)), "{error}");
        assert!(error.to_string().contains(&bad.to_string()), "{error}");
        let rows = table
            .index_select(&good, 0)
            .unwrap()
            .to_device(&Device::Cpu)
            .unwrap();
        let rows = host(executor.submit(&rows).unwrap());
        assert_eq!(rows[..4], numbers(32, 4)[28..]);
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn too_little_memory_is_an_error_and_nothing_more() {
    let device = device();
    let executor = Executor::new(&device).unwrap();
    let one = LazyTensor::ones((1, 1), DType::F32, &device).unwrap();
    let huge = one
        .broadcast_as((1 << 20, 1 << 20))
        .unwrap()
        .contiguous()
        .unwrap();
    let error = executor.submit(&huge).unwrap().wait().expect_err("4 TiB");
    assert!(matches!(error, Error::Failed(_)), "{error}");
    let two = (&one + 1.0).unwrap().to_device(&Device::Cpu).unwrap();
    assert_eq!(host(executor.submit(&two).unwrap()), [2.0]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn tensors_of_another_device_are_refused_at_the_call() {
    let device = device();
    let executor = Executor::new(&device).unwrap();
    let here = LazyTensor::new(&[1f32], &device).unwrap();
    let there = LazyTensor::from(Tensor::new(&[1f32], &Device::Cpu).unwrap());
    let sum = (&here + &there).and_then(|sum| executor.submit(&sum).map(drop));
    let error = sum.expect_err("two devices").to_string();
    assert!(error.contains("Cuda") && error.contains("Cpu"), "{error}");
}

/// Prints what a request costs; asserts only that the answers are right.
#[test]
#[ignore = "needs a CUDA device"]
fn throughput() {
    const REQUESTS: u32 = 400;
    let device = device();
    let executor = Executor::new(&device).unwrap();
    let mlp = Mlp::new();
    let weights = mlp.weights(&device);
    let x = numbers(64, 5);
    let expected = mlp.eager(&x).unwrap();
    for threads in [1, 8, 32] {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..REQUESTS {
                        let y = mlp.lazy(&x, &weights, &device);
                        let y = y.to_device(&Device::Cpu).unwrap();
                        close(&host(executor.submit(&y).unwrap()), &expected);
                    }
                });
            }
        });
        let rate = f64::from(threads * REQUESTS) / start.elapsed().as_secs_f64();
        println!("candlewick, {threads} threads: {rate:.0} requests/s");
    }
    let up = Tensor::from_slice(&mlp.up, (64, 128), &device).unwrap();
    let down = Tensor::from_slice(&mlp.down, (128, 32), &device).unwrap();
    let start = Instant::now();
    for _ in 0..REQUESTS {
        let x = Tensor::from_slice(&x, (1, 64), &device).unwrap();
        let y = x
            .matmul(&up)
            .unwrap()
            .gelu()
            .unwrap()
            .matmul(&down)
            .unwrap();
        let y = candle_nn::ops::softmax_last_dim(&y)
            .unwrap()
            .flatten_all()
            .unwrap();
        close(&y.to_vec1().unwrap(), &expected);
    }
    let rate = f64::from(REQUESTS) / start.elapsed().as_secs_f64();
    println!("eager Candle, 1 thread: {rate:.0} requests/s");
}
