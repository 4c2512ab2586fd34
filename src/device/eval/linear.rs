//! Matrix products and rotary embeddings, in layouts that Candle takes.

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{D, Module, Result, Shape, Tensor};
use candle_nn::rotary_emb;
use std::sync::Arc;

/// Candle multiplies ranks 2 to 4 in most layouts; the rest goes through one long batch.
pub(super) fn matmul(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let folded = || {
        let batch = &x.dims()[..x.rank() - 2];
        folded(batch, x, y)
    };
    if x.rank() > 4 {
        return folded();
    }
    // Candle 0.11.1 takes the rows of all batches for one matrix if `y` is the same for each,
    // which is wrong for a transposed `x`.
    if x.rank() > 2 && y.stride()[y.rank() - 3] == 0 && !x.is_contiguous() {
        return folded();
    }
    x.matmul(y)
        .or_else(|e| match x.is_contiguous() && y.is_contiguous() {
            true => Err(e),
            false => folded(),
        })
}

/// A product of many matrices, laid out in order.
fn folded(batch: &[usize], x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (m, k, n) = (x.dim(D::Minus2)?, x.dim(D::Minus1)?, y.dim(D::Minus1)?);
    let count: usize = batch.iter().product();
    let x = x.contiguous()?.reshape((count, m, k))?;
    let y = y.contiguous()?.reshape((count, k, n))?;
    x.matmul(&y)?.reshape([batch, &[m, n]].concat())
}

pub(super) fn broadcast_matmul(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (batch_x, matrix_x) = x.dims().split_at(x.rank() - 2);
    let (batch_y, matrix_y) = y.dims().split_at(y.rank() - 2);
    let batch = Shape::from(batch_x)
        .broadcast_shape_binary_op(&Shape::from(batch_y), "broadcast_matmul")?
        .into_dims();
    if x.elem_count() == 0 || y.elem_count() == 0 {
        let dims = [&batch[..], &[matrix_x[0], matrix_y[1]]].concat();
        return Tensor::zeros(dims, x.dtype(), x.device());
    }
    let folded = || {
        let x = x.broadcast_as([&batch[..], matrix_x].concat())?;
        let y = y.broadcast_as([&batch[..], matrix_y].concat())?;
        folded(&batch, &x, &y)
    };
    if batch.len() > 2 {
        return folded();
    }
    x.broadcast_matmul(y)
        .or_else(|e| match x.is_contiguous() && y.is_contiguous() {
            true => Err(e),
            false => folded(),
        })
}

/// A weight of whole floats is multiplied as such, as Candle's `QMatMul` does it.
pub(super) fn qmatmul(x: &Tensor, weight: &Arc<QTensor>) -> Result<Tensor> {
    let (n, k) = weight.shape().dims2()?;
    let mut dims = x.dims().to_vec();
    dims[x.rank() - 1] = n;
    if x.elem_count() == 0 || n == 0 {
        return Tensor::zeros(dims, x.dtype(), x.device());
    }
    let x = x.contiguous()?;
    match weight.dtype() {
        GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => {
            let weight = QMatMul::from_arc(weight.clone())?;
            weight.forward(&x.reshape(((), k))?)?.reshape(dims)
        }
        _ => x.apply_op1_no_bwd(weight.as_ref()),
    }
}

pub(super) fn rope(interleaved: bool, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let rows = x.dim(D::Minus2)?;
    let x = x.contiguous()?;
    // Candle steps from one batch to the next by the length of `x`, not by that of the angles.
    let of = |angles: &Tensor| angles.narrow(D::Minus2, 0, rows)?.contiguous();
    if interleaved {
        rotary_emb::rope_i(&x, &of(cos)?, &of(sin)?)
    } else {
        rotary_emb::rope(&x, &of(cos)?, &of(sin)?)
    }
}
