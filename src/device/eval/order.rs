//! Operations that compare: reductions and sorting.

use crate::graph::ReduceOp;
use candle_core::{D, DType, Error, Result, Tensor};
use std::cmp::Ordering;

/// The same tensor with the strides of its shape, if it is laid out in order. A broadcast
/// dimension of size 1 has stride 0, by which Candle's reductions divide.
pub(super) fn regular(x: &Tensor) -> Result<Tensor> {
    if x.stride().contains(&0) && x.is_contiguous() {
        x.reshape(x.shape())
    } else {
        Ok(x.clone())
    }
}

/// Candle 0.11.1 calls itself for ever when it casts f8 to f64.
pub(super) fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if (x.dtype(), dtype) == (DType::F8E4M3, DType::F64) {
        return x.to_dtype(DType::F32)?.to_dtype(DType::F64);
    }
    x.to_dtype(dtype)
}

pub(super) fn reduce(op: ReduceOp, axes: &[usize], keepdim: bool, x: &Tensor) -> Result<Tensor> {
    let x = &regular(x)?;
    match (op, axes, keepdim) {
        (ReduceOp::Sum, _, false) => x.sum(axes),
        (ReduceOp::Sum, _, true) => x.sum_keepdim(axes),
        (ReduceOp::Max, &[dim], false) => x.max(dim),
        (ReduceOp::Max, &[dim], true) => x.max_keepdim(dim),
        (ReduceOp::Min, &[dim], false) => x.min(dim),
        (ReduceOp::Min, &[dim], true) => x.min_keepdim(dim),
        (ReduceOp::ArgMax, &[dim], false) => x.argmax(dim),
        (ReduceOp::ArgMax, &[dim], true) => x.argmax_keepdim(dim),
        (ReduceOp::ArgMin, &[dim], false) => x.argmin(dim),
        (ReduceOp::ArgMin, &[dim], true) => x.argmin_keepdim(dim),
        _ => unreachable!("the graph names one dimension"),
    }
}

/// Candle's order of NaNs is none, for which a sort may panic; here they are larger than
/// everything.
pub(super) fn arg_sort(x: &Tensor, asc: bool) -> Result<Tensor> {
    let x = x.contiguous()?;
    if !x.dtype().is_int() && x.device().is_cpu() && x.ne(&x)?.max_all()?.to_scalar::<u8>()? != 0 {
        return arg_sort_nan(&x, asc);
    }
    x.arg_sort_last_dim(asc)
}

fn arg_sort_nan(x: &Tensor, asc: bool) -> Result<Tensor> {
    let values = cast(x, DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let row = x.dim(D::Minus1)?;
    let mut indices: Vec<u32> = Vec::with_capacity(values.len());
    for values in values.chunks_exact(row) {
        let start = indices.len();
        let last = u32::try_from(row).map_err(Error::wrap)?;
        indices.extend(0..last);
        indices[start..].sort_by(|&i, &j| {
            let (a, b) = (values[i as usize], values[j as usize]);
            let order = a
                .partial_cmp(&b)
                .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
            if asc { order } else { Ordering::reverse(order) }
        });
    }
    Tensor::from_vec(indices, x.shape(), x.device())
}
