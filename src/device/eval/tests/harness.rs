//! Runs lazy tensors one operation at a time, and compares with Candle.

use crate::device::eval::{eval, order::cast};
use crate::error::Cause;
use crate::graph::LazyTensor;
use crate::graph::fragment::{Fragment, Source};
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, D, DType, Device, Storage, Tensor};

/// All dtypes, those that can only be stored last.
pub(super) const DTYPES: [DType; 14] = [
    DType::U8,
    DType::U32,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::BF16,
    DType::F16,
    DType::F32,
    DType::F64,
    DType::F8E4M3,
    DType::F6E2M3,
    DType::F6E3M2,
    DType::F4,
    DType::F8E8M0,
];

/// Computes a lazy tensor here and now, checking every step's announced shape and dtype.
pub(super) fn run(x: &LazyTensor) -> Result<Tensor, Cause> {
    let fragment: Fragment<()> = Fragment::cut([x], |_| Ok(None)).expect("nothing refuses");
    let mut values: Vec<Option<Tensor>> = vec![None; fragment.values as usize];
    for source in fragment.sources {
        let Source::Leaf(tensor, _) = source.source else {
            panic!("nothing was submitted")
        };
        values[source.value as usize] = Some(tensor);
    }
    for step in &fragment.computed {
        let inputs: Vec<&Tensor> = step
            .inputs
            .iter()
            .map(|&i| values[i as usize].as_ref().expect("in order"))
            .collect();
        let value = eval(&step.op, &inputs)?;
        assert_eq!(value.dims(), &step.dims[..], "{:?}", step.op);
        assert_eq!(value.dtype(), step.dtype, "{:?}", step.op);
        values[step.value as usize] = Some(value);
    }
    Ok(values[fragment.outputs[0] as usize]
        .clone()
        .expect("computed"))
}

/// What a tensor of a dtype that can only be stored holds.
pub(super) fn stored(shape: &[usize], dtype: DType) -> Tensor {
    let bytes = vec![0u8; shape.iter().product()];
    let storage = match dtype {
        DType::F6E2M3 => CpuStorage::F6E2M3(bytes),
        DType::F6E3M2 => CpuStorage::F6E3M2(bytes),
        DType::F4 => CpuStorage::F4(bytes),
        _ => CpuStorage::F8E8M0(bytes),
    };
    Tensor::from_storage(Storage::Cpu(storage), shape, BackpropOp::none(), false)
}

/// A tensor of small numbers, all exact in every dtype; `salt` makes operands differ.
pub(super) fn numbers(shape: &[usize], dtype: DType, salt: usize) -> Tensor {
    let count: usize = shape.iter().product();
    if DTYPES[10..].contains(&dtype) {
        return stored(shape, dtype);
    }
    let value = |i: usize| {
        let n = ((i + salt) * 7 % 11) as f64;
        if dtype.is_int() {
            n + 1.0
        } else {
            n / 4.0 + 0.25
        }
    };
    let data: Vec<f64> = (0..count).map(value).collect();
    let tensor = Tensor::from_vec(data, shape, &Device::Cpu).expect("counted");
    tensor.to_dtype(dtype).expect("it computes with this dtype")
}

/// The same tensor in other memory layouts.
pub(super) fn layouts(x: &Tensor) -> Vec<(&'static str, Tensor)> {
    let mut all = vec![("contiguous", x.clone())];
    let permuted = || -> candle_core::Result<Tensor> {
        let order: Vec<usize> = (0..x.rank()).rev().collect();
        x.permute(order.clone())?.force_contiguous()?.permute(order)
    };
    all.extend(permuted().ok().map(|x| ("permuted", x)));
    let narrowed = || -> candle_core::Result<Tensor> {
        let padding = x.narrow(D::Minus1, 0, 1)?;
        let wide = Tensor::cat(&[&padding, x, &padding], D::Minus1)?;
        wide.narrow(D::Minus1, 1, x.dim(D::Minus1)?)
    };
    all.extend(narrowed().ok().map(|x| ("narrowed", x)));
    // the same values only where the first dimension has one element: stride 0 all the same
    if x.rank() > 0 && x.dims()[0] == 1 {
        let single = x.squeeze(0).and_then(|row| row.broadcast_as(x.shape()));
        all.extend(single.ok().map(|x| ("broadcast", x)));
    }
    all
}

/// Shape, dtype and every bit.
pub(super) fn same(a: &Tensor, b: &Tensor) -> bool {
    a.dims() == b.dims() && a.dtype() == b.dtype() && {
        let (a, b) = (values(a), values(b));
        a.iter()
            .zip(&b)
            .all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
    }
}

/// The same up to what another order of summing changes.
pub(super) fn close(a: &Tensor, b: &Tensor) -> bool {
    let tolerance = match a.dtype() {
        DType::F64 => 1e-12,
        DType::F32 => 1e-5,
        DType::F16 => 1e-2,
        DType::BF16 => 6e-2,
        _ => 0.3,
    };
    let near = |a: f64, b: f64| {
        a == b
            || (a.is_nan() && b.is_nan())
            || (a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs()))
    };
    a.dims() == b.dims()
        && a.dtype() == b.dtype()
        && values(a).iter().zip(&values(b)).all(|(&a, &b)| near(a, b))
}

pub(super) fn values(x: &Tensor) -> Vec<f64> {
    if x.elem_count() == 0 || DTYPES[10..].contains(&x.dtype()) {
        return Vec::new();
    }
    let x = x.force_contiguous().and_then(|x| cast(&x, DType::F64));
    x.and_then(|x| x.flatten_all())
        .and_then(|x| x.to_vec1())
        .expect("a computable dtype")
}
