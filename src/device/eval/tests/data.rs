//! What only the data tells, and layouts that Candle 0.11.1 gets wrong.

use super::harness::{close, numbers, run, values};
use crate::error::Cause;
use crate::graph::LazyTensor;
use candle_core::{D, DType, Device, Result, Tensor};

type TestResult = std::result::Result<(), Box<dyn std::error::Error>>;

fn lazy(x: &Tensor) -> LazyTensor {
    LazyTensor::from(x)
}

fn value(x: &LazyTensor) -> Tensor {
    run(x).unwrap_or_else(|e| panic!("{x:?}: {e:?}"))
}

fn out_of_range(x: &LazyTensor) -> (i64, usize) {
    match run(x) {
        Err(Cause::IndexOutOfRange { index, size }) => (index, size),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_index_out_of_range_is_named() -> TestResult {
    let x = lazy(&numbers(&[3, 4], DType::F32, 0));
    let ids = |ids: &[i64]| LazyTensor::new(ids, &Device::Cpu);
    assert_eq!(out_of_range(&x.index_select(&ids(&[0, 4])?, 1)?), (4, 4));
    assert_eq!(out_of_range(&x.index_select(&ids(&[-1])?, 0)?), (-1, 3));
    assert_eq!(out_of_range(&x.embedding(&ids(&[3])?)?), (3, 3));
    assert_eq!(
        out_of_range(&x.embedding(&ids(&[200])?.to_dtype(DType::U8)?)?),
        (200, 3)
    );
    assert_eq!(out_of_range(&x.i(vec![7u32])?), (7, 3));
    let ids2 = ids(&[0, 1, -5])?.reshape((3, 1))?;
    assert_eq!(out_of_range(&x.gather(&ids2, 1)?), (-5, 4));
    let source = lazy(&numbers(&[3, 1], DType::F32, 1));
    assert_eq!(out_of_range(&x.scatter_add(&ids2, &source, 1)?), (-5, 4));
    let ids16 = ids(&[9])?.to_dtype(DType::I16)?;
    assert_eq!(out_of_range(&x.index_add(&ids16, &source, 1)?), (9, 4));
    // also where the result has no elements
    let none = LazyTensor::zeros((2, 0), DType::F32, &Device::Cpu)?;
    assert_eq!(out_of_range(&none.index_select(&ids(&[2])?, 0)?), (2, 2));
    Ok(())
}

#[test]
fn the_largest_index_means_none() -> TestResult {
    let x = LazyTensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
    let ids = LazyTensor::new(&[1u32, u32::MAX], &Device::Cpu)?;
    assert_eq!(
        values(&value(&x.index_select(&ids, 0)?)),
        [3.0, 4.0, 0.0, 0.0]
    );
    let added = x.index_add(&ids, &x, 0)?;
    assert_eq!(values(&value(&added)), [1.0, 2.0, 4.0, 6.0]);
    Ok(())
}

#[test]
fn integers_are_not_divided_by_zero() -> TestResult {
    for dtype in [DType::U8, DType::U32, DType::I16, DType::I32, DType::I64] {
        let x = LazyTensor::ones((2, 2), dtype, &Device::Cpu)?;
        let zero = LazyTensor::new(&[1i64, 0], &Device::Cpu)?.to_dtype(dtype)?;
        let Err(Cause::Candle(e)) = run(&x.broadcast_div(&zero)?) else {
            panic!("{dtype:?}")
        };
        assert!(e.to_string().contains("integer division by zero"), "{e}");
        assert!(run(&x.div(0u8)?).is_err());
        assert_eq!(values(&value(&x.div(1u8)?)), [1.0; 4]);
    }
    let least = LazyTensor::new(&[i64::MIN, 4], &Device::Cpu)?;
    let Err(Cause::Candle(e)) = run(&least.div(-1i64)?) else {
        panic!("it fits")
    };
    assert!(e.to_string().contains("overflows"), "{e}");
    assert_eq!(
        values(&value(&least.div(-2i64)?)),
        [-(i64::MIN as f64) / 2.0, -2.0]
    );
    let by = LazyTensor::new(&[1i64, -1], &Device::Cpu)?;
    assert_eq!(values(&value(&least.div(&by)?)), [i64::MIN as f64, -4.0]);
    Ok(())
}

#[test]
fn nans_sort_last() -> TestResult {
    let numbers: Vec<f32> = (0..60)
        .map(|i| {
            if i % 7 == 3 {
                f32::NAN
            } else {
                ((i * 37) % 60) as f32
            }
        })
        .collect();
    for dtype in [
        DType::BF16,
        DType::F16,
        DType::F32,
        DType::F64,
        DType::F8E4M3,
    ] {
        let x = LazyTensor::from_slice(&numbers, (1, 60), &Device::Cpu)?.to_dtype(dtype)?;
        let (up, indices) = x.sort_last_dim(true)?;
        let up = values(&value(&up));
        let nans = up.iter().position(|v| v.is_nan()).ok_or("there are some")?;
        assert!(
            up[..nans].is_sorted() && up[nans..].iter().all(|v| v.is_nan()),
            "{up:?}"
        );
        let mut seen = values(&value(&indices));
        seen.sort_by(f64::total_cmp);
        assert!(seen.iter().enumerate().all(|(i, &v)| v == i as f64));
        let down = values(&value(&x.sort_last_dim(false)?.0));
        let nans = up.len() - nans;
        assert!(down[..nans].iter().all(|v| v.is_nan()));
        assert!(down[nans..].is_sorted_by(|a, b| a >= b));
    }
    Ok(())
}

#[test]
fn there_is_not_memory_for_everything() -> TestResult {
    let huge = 1usize << 58;
    let full = LazyTensor::full(1f32, huge, &Device::Cpu)?;
    assert!(matches!(run(&full), Err(Cause::OutOfMemory { asked, .. }) if asked == 4 << 58));
    let view = LazyTensor::new(1f32, &Device::Cpu)?.broadcast_as((huge / 4, 4))?;
    assert_eq!(value(&view.i((3, 2))?).to_scalar::<f32>()?, 1.0);
    let many = [
        view.exp()?,
        view.contiguous()?,
        view.add(&view)?,
        view.eq(1.0)?.t()?,
    ];
    for x in many {
        assert!(matches!(run(&x), Err(Cause::OutOfMemory { .. })), "{x:?}");
    }
    let column = view.narrow(1, 0, 1)?;
    let sum = column.broadcast_add(&column.t()?.narrow(1, 0, 4)?)?;
    assert!(matches!(run(&sum), Err(Cause::OutOfMemory { .. })));
    // and for nothing there always is
    assert_eq!(
        value(&LazyTensor::new(&[[1f32]], &Device::Cpu)?.repeat((huge, 0))?).elem_count(),
        0
    );
    Ok(())
}

/// Every batch by itself.
fn one_by_one(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let products: Result<Vec<_>> = (0..x.dim(0)?)
        .map(|i| x.get(i)?.contiguous()?.matmul(&y.get(i)?.contiguous()?))
        .collect();
    Tensor::stack(&products?, 0)
}

#[test]
fn a_transposed_batch_meets_one_matrix() -> TestResult {
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        let x = numbers(&[3, 4, 2], dtype, 0).transpose(1, 2)?;
        let y = numbers(&[4, 5], dtype, 1).broadcast_left(3)?;
        let product = value(&lazy(&x).matmul(&lazy(&y))?);
        assert!(close(&product, &one_by_one(&x, &y)?), "{product}");
    }
    Ok(())
}

#[test]
fn products_of_any_rank_and_layout() -> TestResult {
    let x = numbers(&[2, 3, 1, 2, 4], DType::F32, 0);
    let y = numbers(&[2, 3, 1, 4, 3], DType::F32, 1);
    let expected = one_by_one(&x.flatten_to(2)?, &y.flatten_to(2)?)?.reshape((2, 3, 1, 2, 3))?;
    assert!(close(&value(&lazy(&x).matmul(&lazy(&y))?), &expected));
    assert!(close(
        &value(&lazy(&x).broadcast_matmul(&lazy(&y))?),
        &expected
    ));
    // heads taken out of the middle, as attention does it: Candle wants them laid out
    let x = numbers(&[2, 5, 3, 4], DType::F32, 2).transpose(1, 2)?;
    let y = numbers(&[2, 5, 3, 4], DType::F32, 3).transpose(1, 2)?;
    let product = value(&lazy(&x).matmul(&lazy(&y).t()?)?);
    let expected = x.contiguous()?.matmul(&y.t()?.contiguous()?)?;
    assert!(close(&product, &expected));
    let row = numbers(&[1, 4, 2], DType::F32, 4);
    let product = value(&lazy(&x).broadcast_matmul(&lazy(&row))?);
    assert!(close(&product, &x.contiguous()?.broadcast_matmul(&row)?));
    Ok(())
}

#[test]
fn gather_from_a_larger_tensor() -> TestResult {
    let x = numbers(&[3, 4, 5], DType::F32, 0);
    for dim in 0..3 {
        let mut shape = [2, 3, 2];
        shape[dim] = 4;
        let bound = x.dims()[dim] as u32;
        let ids: Vec<u32> = (0..shape.iter().product::<usize>() as u32)
            .map(|i| i * 7 % bound)
            .collect();
        let ids = Tensor::from_vec(ids, &shape, &Device::Cpu)?;
        let got = value(&lazy(&x).gather(&lazy(&ids), dim)?).to_vec3::<f32>()?;
        let (from, at) = (x.to_vec3::<f32>()?, ids.to_vec3::<u32>()?);
        let count: usize = shape.iter().product();
        for n in 0..count {
            let (i, j, k) = (
                n / shape[1] / shape[2],
                n / shape[2] % shape[1],
                n % shape[2],
            );
            let mut place = [i, j, k];
            place[dim] = at[i][j][k] as usize;
            assert_eq!(
                got[i][j][k], from[place[0]][place[1]][place[2]],
                "{dim} {place:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_strided_kernel_convolves_like_an_ordered_one() -> TestResult {
    let x = numbers(&[1, 2, 6], DType::F32, 0);
    let kernel = numbers(&[3, 2, 2], DType::F32, 1).t()?;
    let ordered = kernel.contiguous()?;
    let got = value(&lazy(&x).conv1d(&lazy(&kernel), 0, 1, 1, 1)?);
    assert!(close(&got, &x.conv1d(&ordered, 0, 1, 1, 1)?));
    Ok(())
}

#[test]
fn every_batch_has_its_own_angles() -> TestResult {
    let x = numbers(&[2, 1, 3, 4], DType::F32, 0);
    let (cos, sin) = (
        numbers(&[2, 5, 2], DType::F32, 1),
        numbers(&[2, 5, 2], DType::F32, 2),
    );
    let got = value(&lazy(&x).rope(&lazy(&cos), &lazy(&sin))?);
    for i in 0..2 {
        let (x, cos, sin) = (x.narrow(0, i, 1)?, cos.get(i)?, sin.get(i)?);
        let alone = candle_nn::rotary_emb::rope(&x, &cos.narrow(0, 0, 3)?, &sin.narrow(0, 0, 3)?)?;
        assert!(close(&got.narrow(0, i, 1)?, &alone));
    }
    Ok(())
}

#[test]
fn the_smallest_float_is_cast() -> TestResult {
    let x = numbers(&[2, 3], DType::F8E4M3, 0);
    let wide = value(&lazy(&x).to_dtype(DType::F64)?);
    assert_eq!(values(&wide), values(&numbers(&[2, 3], DType::F32, 0)));
    Ok(())
}

#[test]
fn numbers_in_steps() -> TestResult {
    fn read<T: candle_core::WithDType>(x: crate::error::Result<LazyTensor>) -> Vec<T> {
        value(&x.expect("it ends"))
            .to_vec1()
            .expect("of this dtype")
    }
    let cpu = &Device::Cpu;
    assert_eq!(
        read::<u8>(LazyTensor::arange_step(0u8, 255, 2, cpu)).len(),
        128
    );
    assert_eq!(
        read::<i64>(LazyTensor::arange_step(5i64, -4, -3, cpu)),
        [5, 2, -1]
    );
    let edge = LazyTensor::arange(i64::MAX - 2, i64::MAX, cpu);
    assert_eq!(read::<i64>(edge), [i64::MAX - 2, i64::MAX - 1]);
    let step = Tensor::arange_step(0f32, 1.0, 0.1, cpu)?.to_vec1::<f32>()?;
    assert_eq!(
        read::<f32>(LazyTensor::arange_step(0f32, 1.0, 0.1, cpu)),
        step
    );
    assert_eq!(
        read::<f32>(LazyTensor::arange(3f32, 1.0, cpu)),
        [] as [f32; 0]
    );
    assert_eq!(
        read::<u32>(LazyTensor::arange_step(3u32, 3, 1, cpu)),
        [] as [u32; 0]
    );
    Ok(())
}

#[test]
fn variables_are_not_tracked() -> TestResult {
    let x = candle_core::Var::ones((2, 2), DType::F32, &Device::Cpu)?;
    let y = value(&lazy(x.as_tensor()).softmax(D::Minus1)?);
    assert!(!y.track_op());
    Ok(())
}
