//! The layers of `nn` against those of `candle_nn`, over the same weights.

mod adapters;
mod attention;
mod builder;
mod layers;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder as Theirs;
use candlewick::nn::VarBuilder as Ours;
use candlewick::{Executor, LazyTensor, Params};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::HashMap;
use std::sync::LazyLock;

const CPU: Device = Device::Cpu;
const FLOATS: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];

/// Numbers between -1 and 1 from a seed that is the shape.
fn random(dims: &[usize], dtype: DType) -> Tensor {
    let seed = dims.iter().fold(17, |seed, &d| seed * 31 + d as u64);
    let mut rng = StdRng::seed_from_u64(seed);
    let data: Vec<f64> = (0..dims.iter().product())
        .map(|_| rng.random_range(-1.0..1.0))
        .collect();
    let tensor = Tensor::from_vec(data, dims, &CPU).expect("its shape");
    tensor.to_dtype(dtype).expect("a float")
}

/// Random weights of these names and shapes, for both libraries.
fn weights(dtype: DType, shapes: &[(&str, &[usize])]) -> (Ours, Theirs<'static>) {
    let tensors: HashMap<String, Tensor> = shapes
        .iter()
        .map(|(name, dims)| (name.to_string(), random(dims, dtype)))
        .collect();
    let params = Params::from_map(tensors.clone()).expect("names differ");
    (
        Ours::from_snapshot(params.snapshot()),
        Theirs::from_tensors(tensors, dtype, &CPU),
    )
}

/// One for all: what was submitted belongs to its executor.
static EXECUTOR: LazyLock<Executor> = LazyLock::new(|| Executor::new(&CPU).expect("a CPU"));

fn run(y: &LazyTensor) -> Tensor {
    EXECUTOR.submit(y).expect("open").wait().expect("it runs")
}

/// What two ways to compute the same sums may differ by, of values around 1: some ten roundings.
/// Candle rounds halves after each operation and we where they are stored, so they get some fifteen
/// of theirs.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-12,
        DType::F32 => 4e-6,
        DType::F16 => 1.6e-2,
        _ => 1.2e-1,
    }
}

#[track_caller]
fn close(ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.dims(), theirs.dims());
    assert_eq!(ours.dtype(), theirs.dtype());
    let flat = |t: &Tensor| {
        let t = t.to_dtype(DType::F64).and_then(|t| t.flatten_all());
        t.and_then(|t| t.to_vec1::<f64>()).expect("floats")
    };
    for (i, (a, b)) in flat(ours).into_iter().zip(flat(theirs)).enumerate() {
        let allowed = tolerance(ours.dtype()) * b.abs().max(1.0);
        assert!(
            (a - b).abs() <= allowed,
            "{:?} at {i}: {a} and {b}",
            ours.dtype()
        );
    }
}

/// Compares the two modules on random inputs of each shape.
#[track_caller]
fn same<M: candlewick::nn::Module, T: candle_nn::Module>(
    ours: &M,
    theirs: &T,
    dtype: DType,
    inputs: &[&[usize]],
) {
    for dims in inputs {
        let x = random(dims, dtype);
        let expected = theirs.forward(&x).expect("Candle takes it");
        let y = ours.forward(&LazyTensor::from(&x)).expect("we take it");
        assert_eq!(y.dims(), expected.dims());
        close(&run(&y), &expected);
    }
}
