//! Fragments that run as one give the answers that each gives by itself.

use super::{Pair, Pick, bits, grow_on, pick};
use candle_core::{CpuStorage, CustomOp1, Layout, Shape};
use candlewick::{Batching, DType, Device, Executor, Handle, LazyTensor, Tensor};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// An operation that ends when it is told to.
#[derive(Clone)]
struct Gate(Arc<Mutex<Receiver<()>>>);

impl CustomOp1 for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }
    fn cpu_fwd(
        &self,
        data: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let _ = self.0.lock().unwrap().recv();
        Ok((data.clone(), layout.shape().clone()))
    }
}

/// Keeps the executor busy until something is sent.
fn busy(executor: &Executor) -> (Sender<()>, Handle) {
    let (sender, receiver) = channel();
    let gate = Gate(Arc::new(Mutex::new(receiver)));
    let x = LazyTensor::new(&[0f32], &Device::Cpu).unwrap();
    let held = executor
        .submit(&x.apply_op1(gate, 1, DType::F32).unwrap())
        .unwrap();
    while executor.stats().queued > 0 {
        held.is_finished(); // looks for it
        std::thread::yield_now();
    }
    (sender, held)
}

/// Leaves of which some are the same for all, and some each fragment's own, with so many rows.
fn leaves(shared: &[Tensor], rows: usize, seed: usize) -> Vec<Pair> {
    let own = |dims: &[usize], seed: usize| {
        let count: usize = dims.iter().product();
        let data = (0..count).map(|i| ((i * 37 + seed * 11) % 19) as f32 / 4.0 - 2.0);
        let tensor = Tensor::from_vec(data.collect::<Vec<f32>>(), dims, &Device::Cpu);
        tensor.unwrap().to_dtype(shared[0].dtype()).unwrap()
    };
    let own = [
        own(&[rows, 3], seed),
        own(&[rows, 3], seed + 1),
        own(&[1, rows, 3], seed + 2),
    ];
    let all = own.into_iter().chain(shared.iter().cloned());
    all.map(|tensor| (LazyTensor::from(&tensor), tensor))
        .collect()
}

fn shared(dtype: DType) -> Vec<Tensor> {
    let shapes: [&[usize]; 5] = [&[3, 3], &[3], &[1, 3], &[4, 3], &[1]];
    let tensor = |(seed, dims): (usize, &&[usize])| {
        let count: usize = dims.iter().product();
        let data = (0..count).map(|i| ((i * 29 + seed * 13) % 17) as f32 / 4.0 - 2.0);
        let tensor = Tensor::from_vec(data.collect::<Vec<f32>>(), *dims, &Device::Cpu);
        tensor.unwrap().to_dtype(dtype).unwrap()
    };
    shapes.iter().enumerate().map(tensor).collect()
}

/// The chosen nodes of a graph that grows as long as all fragments accept and refuse the same.
fn outputs(
    shared: &[Tensor],
    rows: usize,
    seed: usize,
    picks: &[Pick],
    chosen: &[usize],
) -> Vec<LazyTensor> {
    let nodes = grow_on(leaves(shared, rows, seed), picks);
    let outputs = chosen.iter().map(|i| nodes[i % nodes.len()].0.clone());
    outputs.collect()
}

/// Runs fragments together and each by itself; how many ran in batches.
fn compare(
    picks: &[Pick],
    rows: &[usize],
    chosen: &[usize],
    dtype: DType,
) -> Result<u64, TestCaseError> {
    let shared = shared(dtype);
    let builder = || Executor::builder(&Device::Cpu);
    let together = builder().lending(false).build().unwrap();
    let apart = builder().batching(Batching::OFF).build().unwrap();
    let (open, held) = busy(&together);
    let mut handles = Vec::new();
    for (seed, &rows) in rows.iter().enumerate() {
        let outputs = outputs(&shared, rows, seed, picks, chosen);
        handles.push(together.submit(&outputs).unwrap());
    }
    open.send(()).unwrap();
    held.wait().unwrap();
    for (seed, (&rows, handle)) in rows.iter().zip(&handles).enumerate() {
        let expected = outputs(&shared, rows, seed, picks, chosen);
        let expected = apart.submit(&expected).unwrap().wait().unwrap();
        for (got, expected) in handle.wait().unwrap().iter().zip(&expected) {
            prop_assert_eq!(
                bits(got),
                bits(expected),
                "fragment {} of {:?} rows",
                seed,
                rows
            );
        }
    }
    let stats = together.stats();
    prop_assert_eq!(stats.fragments_failed, 0);
    drop((handles, held));
    let left = together.stats();
    prop_assert_eq!((left.live_nodes, left.live_bytes), (0, 0));
    Ok(stats.fragments_batched)
}

#[test]
fn a_batch_changes_no_bit() {
    let dtypes = [
        DType::F32,
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::F64,
        DType::U32,
    ];
    let cases = (
        prop::collection::vec(pick(&[]), 1..40),
        prop::collection::vec(1usize..5, 2..7),
        prop::collection::vec(any::<usize>(), 1..4),
        prop::sample::select(dtypes.to_vec()),
    );
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let (fragments, batched) = (Cell::new(0), Cell::new(0));
    let run = TestRunner::new(config).run(&cases, |(picks, rows, chosen, dtype)| {
        let count = compare(&picks, &rows, &chosen, dtype)?;
        fragments.set(fragments.get() + rows.len() as u64);
        batched.set(batched.get() + count);
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
    // graphs without steps of the engine do not go together
    let (fragments, batched) = (fragments.get(), batched.get());
    assert!(
        batched * 3 > fragments,
        "{batched} of {fragments} in batches"
    );
}
