//! Products of f16, bf16 and f64.
//!
//! Halves are summed in f32 by both sides, and rounded once by each at the end of a product. So one
//! product is off by one unit in the last place of the half beyond what f32 is off. In a step with
//! a program ours are not rounded in between, and eager Candle's after each operation: a few units;
//! and its softmax sums in halves, whose error grows with the row, here of 60 at most. f64 as f32, in
//! its own units.

use super::{Lies, assert_close, executor, follow, lies, numbers, random, run};
use candlewick::{D, DType, Device, Executor, LazyTensor, Tensor};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The same products of the other types, however their operands lie, with packed weights and
    /// without.
    #[test]
    fn products_of_other_types_are_right(
        batch in 1usize..4,
        shared in any::<bool>(),
        (m, k, n) in (1usize..40, 1usize..70, 1usize..70),
        (a, b) in (lies(), lies()),
        dtype in prop::sample::select(vec![DType::F16, DType::BF16, DType::F64]),
        seed in any::<u64>(),
    ) {
        // views of such tensors, not casts of views
        let leaf = |dims: &[usize], lies: Lies, seed: u64| {
            let tensor = random(dims, seed).to_dtype(dtype).unwrap();
            let (r, c) = (dims.len() - 2, dims.len() - 1);
            match lies {
                Lies::InOrder => (LazyTensor::from(&tensor), tensor),
                Lies::Transposed => {
                    let turned = tensor.transpose(r, c).unwrap().contiguous().unwrap();
                    (LazyTensor::from(&turned).transpose(r, c).unwrap(), tensor)
                }
                Lies::Narrowed => {
                    let wide = Tensor::cat(&[&tensor, &tensor], c).unwrap();
                    (LazyTensor::from(&wide).narrow(c, 0, dims[c]).unwrap(), tensor)
                }
                Lies::Sparse => {
                    let pairs = Tensor::stack(&[&tensor, &tensor], c + 1).unwrap();
                    let lazy = LazyTensor::from(&pairs).narrow(c + 1, 1, 1).unwrap();
                    (lazy.squeeze(c + 1).unwrap(), tensor)
                }
            }
        };
        let (x, tx) = leaf(&[batch, m, k], a, seed);
        let right = if shared { vec![k, n] } else { vec![batch, k, n] };
        let (w, tw) = leaf(&right, b, seed ^ 1);
        let executor = executor();
        let plan = executor.explain(x.broadcast_matmul(&w).unwrap()).unwrap();
        prop_assert_eq!(plan.engine_steps(), 1, "{}", plan);
        let y = || run(&executor, &x.broadcast_matmul(&w).unwrap());
        let first = y();
        prop_assert_eq!(first.dtype(), dtype);
        let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        let truth = wide(&tx).broadcast_matmul(&wide(&tw)).unwrap();
        let size = wide(&tx).abs().unwrap().broadcast_matmul(&wide(&tw).abs().unwrap()).unwrap();
        let (sums, last) = match dtype {
            DType::F16 => (f64::from(f32::EPSILON), 2f64.powi(-11)),
            DType::BF16 => (f64::from(f32::EPSILON), 2f64.powi(-8)),
            _ => (f64::EPSILON, 0.0),
        };
        // the numbers near zero that f16 has are further apart
        let least = if dtype == DType::F16 { 2f64.powi(-25) } else { 0.0 };
        let terms = numbers(&truth).into_iter().zip(numbers(&size));
        for (got, (truth, size)) in numbers(&first).into_iter().zip(terms) {
            let off = 2.0 * k as f64 * sums * size;
            let bound = off + last * (truth.abs() + off) + least;
            prop_assert!((got - truth).abs() <= bound, "{} is not {}", got, truth);
        }
        for _ in 0..2 {
            prop_assert_eq!(numbers(&y()), numbers(&first));
        }
    }

    /// What follows them, two of them at once, and attention.
    #[test]
    fn steps_of_other_types_agree_with_eager(
        (batch, m, k, n) in (1usize..4, 1usize..20, 1usize..40, 1usize..60),
        ops in prop::collection::vec(0u8..7, 0..3),
        dtype in prop::sample::select(vec![DType::F16, DType::BF16, DType::F64]),
        seed in any::<u64>(),
    ) {
        let of = |dims: &[usize], seed: u64| random(dims, seed).to_dtype(dtype).unwrap();
        let (x, w, up) = (of(&[batch, m, k], seed), of(&[k, n], seed ^ 1), of(&[k, n], seed ^ 2));
        let (bias, like) = (of(&[n], seed ^ 4), of(&[batch, m, n], seed ^ 5));
        // rms_norm is not for f64
        let ops: Vec<u8> = ops.into_iter().filter(|&op| op != 6 || dtype != DType::F64).collect();
        let [lx, lw, lup] = [&x, &w, &up].map(LazyTensor::from);
        let executor = executor();
        let tolerance = match dtype {
            DType::F16 => 2e-2,
            DType::BF16 => 1.2e-1,
            _ => 1e-10,
        };
        for _ in 0..3 {
            let gate = (lx.broadcast_matmul(&lw).unwrap() * 0.1).unwrap().silu().unwrap();
            let y = (gate * lx.broadcast_matmul(&lup).unwrap()).unwrap();
            let gate = (x.broadcast_matmul(&w).unwrap() * 0.1).unwrap().silu().unwrap();
            let eager = (gate * x.broadcast_matmul(&up).unwrap()).unwrap();
            let (y, eager) = ((y * 0.1).unwrap(), (eager * 0.1).unwrap());
            let (y, eager) = follow(&ops, y, eager, &bias, &like);
            let got = run(&executor, &y);
            prop_assert_eq!(got.dtype(), dtype);
            assert_close(&got, &eager, tolerance);
        }
        let (q, v) = (of(&[batch, m, k], seed ^ 6), of(&[batch, n, k], seed ^ 7));
        let [lq, lv] = [&q, &v].map(LazyTensor::from);
        let scores = (lq.matmul(&lv.t().unwrap()).unwrap() * 0.3).unwrap();
        let y = scores.softmax(D::Minus1).unwrap().matmul(&lv).unwrap();
        let plan = executor.explain(&y).unwrap();
        prop_assert_eq!(plan.steps(), 1, "{}", plan);
        let scores = (q.matmul(&v.t().unwrap()).unwrap() * 0.3).unwrap();
        let eager = candle_nn::ops::softmax(&scores, D::Minus1).unwrap().matmul(&v).unwrap();
        assert_close(&run(&executor, &y), &eager, tolerance);
    }
}

/// Rows of the other types, too, are the same beside any others, on any number of threads, and with
/// a weight that is packed or not.
#[test]
#[cfg_attr(
    any(feature = "mkl", feature = "accelerate"),
    ignore = "a library has products of many rows"
)]
fn rows_of_other_types_depend_on_nothing_else() {
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let of = |dims: &[usize], seed| random(dims, seed).to_dtype(dtype).unwrap();
        let (k, n) = (1100, 310);
        let x = of(&[150, k], 1);
        for w in [of(&[k, n], 2), of(&[n, k], 2).t().unwrap()] {
            let mut all: Option<Vec<f64>> = None;
            for threads in [1, 2, 3] {
                let builder = Executor::builder(&Device::Cpu).threads(threads);
                let executor = builder.build().unwrap();
                let w = LazyTensor::from(&w);
                for (start, len) in [
                    (0, 150),
                    (0, 1),
                    (3, 2),
                    (10, 7),
                    (20, 8),
                    (30, 9),
                    (70, 64),
                ] {
                    let x = LazyTensor::from(x.narrow(0, start, len).unwrap());
                    let y = x.matmul(&w).unwrap();
                    let got = numbers(&run(&executor, &y));
                    let all = all.get_or_insert_with(|| got.clone());
                    let want = &all[start * n..(start + len) * n];
                    assert!(got == want, "{dtype:?}: {len} rows from {start}");
                }
            }
        }
    }
}

/// A cast at the border of a product belongs to its step.
#[test]
fn a_product_is_cast_when_it_is_stored() {
    let executor = executor();
    let (x, w) = (random(&[5, 30], 1), random(&[30, 20], 2));
    let [x, w] = [x, w].map(|t| t.to_dtype(DType::BF16).unwrap());
    let [lx, lw] = [&x, &w].map(LazyTensor::from);
    let y = lx.matmul(&lw).unwrap().to_dtype(DType::F32).unwrap();
    let y = (y * 0.5).unwrap();
    let plan = executor.explain(&y).unwrap();
    assert_eq!(plan.steps(), 1, "{plan}");
    let eager = x.matmul(&w).unwrap().to_dtype(DType::F32).unwrap();
    assert_close(&run(&executor, &y), &(eager * 0.5).unwrap(), 1e-2);
    let wide = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
    let mask = LazyTensor::from(wide(&x)).matmul(&LazyTensor::from(wide(&w)));
    let mask = mask.unwrap().gt(0.5f32).unwrap();
    let got = run(&executor, &mask);
    assert_eq!(got.dtype(), DType::U8);
    let eager = wide(&x).matmul(&wide(&w)).unwrap().gt(0.5f32).unwrap();
    assert_eq!(numbers(&got), numbers(&eager));
}
