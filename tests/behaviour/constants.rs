//! What is computed when the plan is made, or left out, is what would have come of running it.

use crate::common::*;
use candlewick::{DType, Device, Executor, LazyTensor, Passes, Tensor};

const NUMBERS: [f64; 12] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    -3.7,
    1e-40,
    -1e-310,
    3e38,
    f64::MAX,
    f64::INFINITY,
    f64::NEG_INFINITY,
];

fn bits(tensor: &Tensor) -> Vec<u64> {
    let wide = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    let number = |x: f64| if x.is_nan() { u64::MAX } else { x.to_bits() };
    wide.to_vec1().unwrap().into_iter().map(number).collect()
}

/// Every result of one executor equals every result of the other.
fn same(graphs: impl Fn() -> Vec<LazyTensor>) {
    let exact = Executor::builder(&Device::Cpu)
        .passes(Passes::NONE)
        .build()
        .unwrap();
    let simplify = Passes {
        simplify: true,
        ..Passes::NONE
    };
    let expected: Vec<Tensor> = exact.submit(graphs()).unwrap().wait().unwrap();
    for passes in [simplify, Passes::ALL] {
        let executor = Executor::builder(&Device::Cpu)
            .passes(passes)
            .build()
            .unwrap();
        let results: Vec<Tensor> = executor.submit(graphs()).unwrap().wait().unwrap();
        for ((a, b), graph) in results.iter().zip(&expected).zip(graphs()) {
            assert_eq!((a.dims(), a.dtype()), (b.dims(), b.dtype()), "{graph:?}");
            assert_eq!(bits(a), bits(b), "{graph:?} {passes:?}");
        }
    }
}

#[test]
fn constants_are_what_they_are_computed_to_be() {
    within_limit(|| {
        same(|| {
            let full = |n: f64, dtype| match dtype {
                DType::F64 => LazyTensor::full(n, (2, 3), &Device::Cpu),
                _ => LazyTensor::full(n as f32, (2, 3), &Device::Cpu),
            };
            let mut graphs = Vec::new();
            for dtype in [DType::F32, DType::F64] {
                for a in NUMBERS.map(|n| full(n, dtype).unwrap()) {
                    let unary = [a.neg(), a.abs(), a.sqr(), a.sqrt(), a.recip()];
                    graphs.extend(unary.map(Result::unwrap));
                    let other = match dtype {
                        DType::F64 => DType::F32,
                        _ => DType::F64,
                    };
                    let cast = a.t().unwrap().to_dtype(other).unwrap();
                    graphs.push(cast.contiguous().unwrap().reshape((6,)).unwrap());
                    for b in NUMBERS.map(|n| full(n, dtype).unwrap()) {
                        let b = b.reshape((3, 2)).unwrap().t().unwrap();
                        let binary = [a.add(&b), a.sub(&b), a.mul(&b), a.div(&b), a.maximum(&b)];
                        graphs.extend(binary.map(Result::unwrap));
                    }
                }
            }
            graphs
        });
    });
}

#[test]
fn numbers_that_change_nothing_change_nothing() {
    within_limit(|| {
        let numbers = Tensor::new(&NUMBERS, &Device::Cpu).unwrap();
        for dtype in [
            DType::F64,
            DType::F32,
            DType::F16,
            DType::BF16,
            DType::I64,
            DType::U8,
        ] {
            let x = LazyTensor::from(numbers.to_dtype(dtype).unwrap());
            same(|| {
                let mut graphs = Vec::new();
                for n in [1.0, 0.0, -0.0, 2.0] {
                    graphs.push(x.affine(1.0, n).unwrap());
                    graphs.push(x.affine(n, -0.0).unwrap());
                    if !dtype.is_int() && n != 2.0 {
                        graphs.push(x.powf(n).unwrap());
                    }
                    let y = [x.add(n), x.sub(n), x.mul(n), x.maximum(n)];
                    graphs.extend(y.map(Result::unwrap));
                    if !dtype.is_int() || n > 0.0 {
                        graphs.push(x.div(n).unwrap());
                    }
                }
                graphs
            });
        }
    });
}

/// A constant that is no operand of anything else has no operands either.
#[test]
fn a_constant_beside_what_is_computed() {
    let executor = cpu();
    let x = LazyTensor::new(&[-1f32, 2.0], &Device::Cpu).unwrap();
    for value in [0f32, 1.0, 2.5] {
        let number = LazyTensor::full(value, 2, &Device::Cpu).unwrap();
        let y = (&x.relu().unwrap() + &number).unwrap();
        let y = executor.submit(&y).unwrap().wait().unwrap();
        assert_eq!(y.to_vec1::<f32>().unwrap(), [value, 2.0 + value]);
    }
}
