//! Steps of every dtype against eager Candle: what random graphs do not reach. Halves are compared
//! with the same in f64, within one rounding of the result.

use candlewick::{D, DType, Device, Executor, LazyTensor, Tensor};

const HALVES: [(DType, f64); 2] = [(DType::F16, 1.0 / 2048.0), (DType::BF16, 1.0 / 256.0)];

fn run(lazy: &LazyTensor) -> Tensor {
    let executor = Executor::new(&Device::Cpu).unwrap();
    executor.submit(lazy).unwrap().wait().unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_dtype(DType::F64).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Several tiles of rows whose length is a multiple of nothing.
fn data(dtype: DType) -> Tensor {
    let data: Vec<f32> = (0..67 * 301)
        .map(|i| ((i * 7919) % 4001) as f32 / 500.0 - 4.0)
        .collect();
    let tensor = Tensor::from_vec(data, (67, 301), &Device::Cpu).unwrap();
    tensor.to_dtype(dtype).unwrap()
}

/// Within one rounding of a half, and what f32 loses on the way.
#[track_caller]
fn rounded_once(got: &Tensor, truth: &Tensor, half_ulp: f64) {
    let least = if got.dtype() == DType::F16 { 3e-8 } else { 0.0 };
    for (got, truth) in numbers(got).into_iter().zip(numbers(truth)) {
        let allowed = truth.abs() * (half_ulp + 1e-5) + 1e-6 + least;
        assert!((got - truth).abs() <= allowed, "{got} is not {truth}");
    }
}

#[test]
fn rows_of_halves_are_rounded_once() {
    for (dtype, half_ulp) in HALVES {
        let (x, row) = (data(dtype), data(dtype).narrow(0, 3, 1).unwrap());
        let row = row.flatten_all().unwrap();
        let (wide, wide_row) = [&x, &row].map(|x| x.to_dtype(DType::F64).unwrap()).into();
        let (lx, lrow) = (LazyTensor::from(&x), LazyTensor::from(&row));
        let check = |lazy: candlewick::Result<LazyTensor>, truth: Tensor| {
            let got = run(&lazy.unwrap());
            assert_eq!(got.dtype(), dtype);
            rounded_once(&got, &truth, half_ulp);
        };
        let softmax = candle_nn::ops::softmax(&wide, D::Minus1).unwrap();
        check(lx.softmax(D::Minus1), softmax.clone());
        check(lx.softmax_last_dim(), softmax);
        let log = candle_nn::ops::log_softmax(&wide, D::Minus1).unwrap();
        check(lx.log_softmax(D::Minus1), log);
        let square = wide.sqr().unwrap().mean_keepdim(1).unwrap();
        let root = (square + f64::from(1e-5f32)).unwrap().sqrt().unwrap();
        let normed = wide.broadcast_div(&root).unwrap();
        let normed = normed.broadcast_mul(&wide_row).unwrap();
        check(lx.rms_norm(&lrow, 1e-5), normed);
        let mean = wide.mean_keepdim(1).unwrap();
        let centered = wide.broadcast_sub(&mean).unwrap();
        let variance = centered.sqr().unwrap().mean_keepdim(1).unwrap();
        let root = (variance + f64::from(1e-5f32)).unwrap().sqrt().unwrap();
        let normed = centered.broadcast_div(&root).unwrap();
        let normed = normed.broadcast_mul(&wide_row).unwrap();
        let normed = normed.broadcast_add(&wide_row).unwrap();
        check(lx.layer_norm(&lrow, &lrow, 1e-5), normed);
        check(lx.sum_keepdim(1), wide.sum_keepdim(1).unwrap());
        let chain = (lx.gelu().unwrap() * &lx).unwrap().exp().unwrap().log();
        check(chain, (wide.gelu().unwrap() * &wide).unwrap());
    }
}

#[test]
fn halves_do_not_overflow_in_between_and_casts_round() {
    let x = Tensor::new(&[300f32, -1.5, 1.0 / 3.0], &Device::Cpu).unwrap();
    let half = x.to_dtype(DType::F16).unwrap();
    let lazy = LazyTensor::from(&half);
    let same = lazy.sqr().unwrap().sqrt().unwrap();
    assert_eq!(numbers(&run(&same)), numbers(&half.abs().unwrap()));
    // the graph says that this is a half: so it is, also within a step
    for dtype in [DType::F16, DType::BF16] {
        let lazy = LazyTensor::from(&x).to_dtype(dtype).unwrap();
        let lazy = (lazy.to_dtype(DType::F32).unwrap() * 3.0).unwrap();
        let eager = x.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
        assert_eq!(numbers(&run(&lazy)), numbers(&(eager * 3.0).unwrap()));
    }
}

#[test]
fn rows_of_f64_are_as_precise_as_eager() {
    let x = data(DType::F64);
    let lazy = LazyTensor::from(&x);
    let close = |got: Tensor, eager: Tensor| {
        assert_eq!(got.dtype(), DType::F64);
        for (got, eager) in numbers(&got).into_iter().zip(numbers(&eager)) {
            let allowed = 1e-13 * eager.abs().max(1e-3);
            assert!((got - eager).abs() <= allowed, "{got} is not {eager}");
        }
    };
    let softmax = candle_nn::ops::softmax(&x, D::Minus1).unwrap();
    close(run(&lazy.softmax(D::Minus1).unwrap()), softmax);
    let log = candle_nn::ops::log_softmax(&x, D::Minus1).unwrap();
    close(run(&lazy.log_softmax(D::Minus1).unwrap()), log);
    close(run(&lazy.sum(1).unwrap()), x.sum(1).unwrap());
}

/// Functions of f64 and of integers are Candle's own, so every bit is.
#[test]
fn functions_are_exact() {
    type Function<T, E> = fn(&T) -> Result<T, E>;
    type Both = (
        Function<LazyTensor, candlewick::Error>,
        Function<Tensor, candle_core::Error>,
    );
    macro_rules! both {
        ($($name:ident)*) => { [$((LazyTensor::$name as _, Tensor::$name as _)),*] };
    }
    let floats: [Both; 12] = both![exp log sin cos tanh sqrt recip neg sqr erf gelu gelu_erf];
    let any: [Both; 6] = both![abs floor ceil round sign relu];
    let compare = |x: &Tensor, functions: &[Both]| {
        for (i, (ours, eager)) in functions.iter().enumerate() {
            let got = run(&ours(&LazyTensor::from(x)).unwrap());
            let (got, expected) = (numbers(&got), numbers(&eager(x).unwrap()));
            let same = |(a, b): (&f64, &f64)| a == b || a.is_nan() && b.is_nan();
            assert!(
                got.iter().zip(&expected).all(same),
                "{i} of {:?}",
                x.dtype()
            );
        }
    };
    compare(&data(DType::F64), &floats);
    for dtype in [
        DType::F64,
        DType::I64,
        DType::I32,
        DType::I16,
        DType::U32,
        DType::U8,
    ] {
        compare(&data(dtype), &any);
    }
}

#[test]
fn integers_wrap_and_report_a_division_by_zero() {
    let x = Tensor::new(&[250u8, 3], &Device::Cpu).unwrap();
    let lazy = LazyTensor::from(&x);
    let sum = (&lazy + &lazy).unwrap();
    assert_eq!(run(&sum).to_vec1::<u8>().unwrap(), [244, 6]);
    let least = Tensor::new(&[i64::MIN, i64::MAX], &Device::Cpu).unwrap();
    let lazy = LazyTensor::from(&least);
    let next = (lazy.abs().unwrap() + 1.0).unwrap();
    let expected = [i64::MIN + 1, i64::MIN];
    assert_eq!(run(&next).to_vec1::<i64>().unwrap(), expected);
    let executor = Executor::new(&Device::Cpu).unwrap();
    let quotient = lazy.div(0i64).unwrap();
    let error = executor.submit(&quotient).unwrap().wait().unwrap_err();
    assert!(error.to_string().contains("division by zero"), "{error}");
}
