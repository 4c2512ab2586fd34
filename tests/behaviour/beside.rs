//! Small steps of one fragment that have nothing to do with each other run side by side.
//!
//! ```text
//! the owner  x -> branch 0 | branch 2 | ...
//! a helper        branch 1 | branch 3 | ...
//! ```

use crate::common::*;
use candlewick::{D, DType, Device, Error, Executor, LazyTensor, Tensor};

const SIZE: usize = 64;
const BRANCHES: usize = 16;

fn random() -> Tensor {
    Tensor::randn(0f32, 1.0, (SIZE, SIZE), &Device::Cpu).unwrap()
}

/// Two layers for each weight, on the same rows but for the first.
fn branches(first: &LazyTensor, others: &LazyTensor, weights: &[Tensor]) -> Vec<LazyTensor> {
    let branch = |(i, w): (usize, &Tensor)| {
        let w = LazyTensor::from(w);
        let x = if i == 0 { first } else { others };
        let y = x.matmul(&w).unwrap().softmax(D::Minus1).unwrap();
        y.matmul(&w.t().unwrap()).unwrap().tanh().unwrap()
    };
    weights.iter().enumerate().map(branch).collect()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let numbers = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    numbers.into_iter().map(f32::to_bits).collect()
}

#[test]
fn no_bit_depends_on_who_runs_which_branch() {
    within_limit(|| {
        let (x, weights) = (random(), [(); BRANCHES].map(|()| random()));
        let mut expected: Option<Vec<Vec<u32>>> = None;
        for threads in [1, 2, 4] {
            let builder = Executor::builder(&Device::Cpu).threads(threads);
            let executor = builder.build().unwrap();
            let lazy = LazyTensor::from(&x);
            let all = branches(&lazy, &lazy, &weights);
            let plan = executor.explain(&all).unwrap().to_string();
            assert!(plan.contains("; beside %"), "{plan}");
            for _ in 0..20 {
                let all = branches(&lazy, &lazy, &weights);
                let results: Vec<Tensor> = executor.submit(all).unwrap().wait().unwrap();
                let results: Vec<_> = results.iter().map(bits).collect();
                assert_eq!(*expected.get_or_insert_with(|| results.clone()), results);
            }
        }
        for (w, got) in weights.iter().zip(expected.unwrap()) {
            let y = candle_nn::ops::softmax(&x.matmul(w).unwrap(), D::Minus1).unwrap();
            let y = y.matmul(&w.t().unwrap()).unwrap().tanh().unwrap();
            let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            // sums of 64 products of numbers of about 1
            let close = |(a, b): (&f32, u32)| (a - f32::from_bits(b)).abs() < 1e-5;
            assert!(y.iter().zip(got).all(close));
        }
    });
}

#[test]
fn an_operand_that_failed_fails_its_own_branch() {
    within_limit(|| {
        let executor = Executor::builder(&Device::Cpu).threads(2).build().unwrap();
        let (x, weights) = (
            LazyTensor::from(random()),
            [(); BRANCHES].map(|()| random()),
        );
        let bad = Counted::new(Act::Fail("no luck"));
        let failed = bad.on(&x);
        let all = branches(&failed, &x, &weights);
        let plan = executor.explain(&all).unwrap().to_string();
        assert!(plan.contains("; beside %"), "{plan}");
        assert!(executor.submit(&all[..]).unwrap().wait().is_err());
        for (i, branch) in all.iter().enumerate() {
            let result = executor.submit(branch).unwrap().wait();
            match i {
                0 => assert!(matches!(result, Err(Error::Failed(f)) if f.op == "counted")),
                _ => assert_eq!(result.unwrap().dtype(), DType::F32),
            }
        }
        assert_eq!(bad.runs(), 1);
    });
}
