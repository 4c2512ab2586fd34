//! Runs one operation through Candle.
//!
//! The graph has checked shapes and dtypes; what is left to find here is what only the data
//! tells. Where Candle's own answer would be a panic, or wrong for some memory layout, the
//! operands are put in order first.

mod division;
mod index;
mod linear;
pub(super) mod memory;
mod order;

use crate::error::Cause;
use crate::graph::leaf::missing;
use crate::graph::{BinaryOp, CompareOp, Conv, Op, UnaryOp};
use candle_core::scalar::Scalar;
use candle_core::{Device, Tensor};
use candle_nn::ops;

type Result<T, E = candle_core::Error> = std::result::Result<T, E>;

/// Computes `op` eagerly with Candle.
///
/// # Errors
/// What Candle reports; an index that is out of range; no memory for a very large result; an operand with less
/// memory than it names, which Candle reads beyond its end.
pub(crate) fn eval(op: &Op, inputs: &[&Tensor]) -> Result<Tensor, Cause> {
    if let Some(missing) = inputs.iter().find_map(|x| missing(x)) {
        return Err(missing.into());
    }
    if inputs.iter().any(|x| memory::beyond(x)) {
        let inputs: Result<Vec<Tensor>> = inputs.iter().map(|x| memory::within(x)).collect();
        let inputs = inputs.map_err(Cause::Candle)?;
        return eval(op, &inputs.iter().collect::<Vec<_>>());
    }
    memory::probe_op(op, inputs)?;
    let result = match (op, inputs) {
        (Op::Custom1(c), [x]) => x.apply_op1_arc(c.0.clone()),
        (Op::Custom2(c), [x, y]) => x.apply_op2_arc(y, c.0.clone()),
        (Op::Custom3(c), [x, y, z]) => x.apply_op3_arc(y, z, c.0.clone()),
        (Op::IndexSelect(_) | Op::Gather(_) | Op::ScatterAdd(_) | Op::IndexAdd(_), _) => {
            return index::eval(op, inputs);
        }
        _ => match memory::empty(op, inputs) {
            Some(dims) => Tensor::zeros(dims, memory::dtype(op, inputs), inputs[0].device()),
            None => builtin(op, inputs),
        },
    };
    result.map_err(Cause::Candle)
}

/// Everything that only Candle can refuse.
fn builtin(op: &Op, inputs: &[&Tensor]) -> Result<Tensor> {
    match (op, inputs) {
        (Op::Fill { value, dims }, []) => full(*value, dims, &Device::Cpu),
        (Op::Fill { value, dims }, [like]) => full(*value, dims, like.device()),
        (Op::Unary(op), [x]) => unary(*op, x),
        (Op::Elu(alpha), [x]) => x.elu(*alpha),
        (Op::Powf(e), [x]) => x.powf(*e),
        (Op::Affine { mul, add }, [x]) => x.affine(*mul, *add),
        (Op::ToDType(dtype), [x]) => order::cast(x, *dtype),
        (Op::ToDevice(device), [x]) => x.to_device(device),
        (Op::Binary { op, broadcast }, [x, y]) => binary(*op, *broadcast, x, y),
        (Op::BinaryScalar { op, value }, [x]) => binary(*op, false, x, &like(*value, x)?),
        (Op::Compare { op, broadcast }, [x, y]) => compare(*op, *broadcast, x, y),
        (Op::CompareScalar { op, value }, [x]) => compare(*op, false, x, &like(*value, x)?),
        (Op::WhereCond, [c, x, y]) => c.where_cond(x, y),
        (
            Op::Reduce {
                op,
                dims: axes,
                keepdim,
            },
            [x],
        ) => order::reduce(*op, axes, *keepdim, x),
        (Op::Softmax(dim), [x]) => ops::softmax(&order::regular(x)?, *dim),
        (Op::SoftmaxLastDim, [x]) => ops::softmax_last_dim(&x.contiguous()?),
        (Op::LogSoftmax(dim), [x]) => ops::log_softmax(&order::regular(x)?, *dim),
        (Op::RmsNorm { eps }, [x, alpha]) => {
            ops::rms_norm(&x.contiguous()?, &alpha.contiguous()?, *eps)
        }
        (Op::LayerNorm { eps }, [x, alpha, beta]) => {
            let (alpha, beta) = (alpha.contiguous()?, beta.contiguous()?);
            ops::layer_norm(&x.contiguous()?, &alpha, &beta, *eps)
        }
        (Op::Matmul, [x, y]) => linear::matmul(x, y),
        (Op::BroadcastMatmul, [x, y]) => linear::broadcast_matmul(x, y),
        (Op::Qmatmul(weight), [x]) => linear::qmatmul(x, &weight.0),
        (Op::Rope { interleaved }, [x, cos, sin]) => linear::rope(*interleaved, x, cos, sin),
        (Op::ArgSort { asc }, [x]) => order::arg_sort(x, *asc),
        (Op::Conv1d(_) | Op::Conv2d(_), [x, k]) => convolve(op, x, k),
        (Op::MaxPool2d(w), [x]) => x.max_pool2d_with_stride(w.kernel, w.stride),
        (Op::AvgPool2d(w), [x]) => x.avg_pool2d_with_stride(w.kernel, w.stride),
        (Op::UpsampleNearest2d { height, width }, [x]) => x.upsample_nearest2d(*height, *width),
        _ => shape(op, inputs),
    }
}

/// What moves elements without looking at them.
fn shape(op: &Op, inputs: &[&Tensor]) -> Result<Tensor> {
    match (op, inputs) {
        (Op::Reshape(dims), [x]) => x.reshape(&dims[..]),
        (Op::Squeeze(dim), [x]) => x.squeeze(*dim),
        (Op::Unsqueeze(dim), [x]) => x.unsqueeze(*dim),
        (Op::Transpose(a, b), [x]) => x.transpose(*a, *b),
        (Op::Permute(axes), [x]) => x.permute(axes.as_slice()),
        (Op::Narrow { dim, start, len }, [x]) => x.narrow(*dim, *start, *len),
        (Op::BroadcastAs(dims), [x]) => x.broadcast_as(&dims[..]),
        (Op::Contiguous, [x]) => x.contiguous(),
        (Op::Repeat(times), [x]) => x.repeat(times.as_slice()),
        (Op::PadWithZeros { dim, left, right }, [x]) => x.pad_with_zeros(*dim, *left, *right),
        (Op::Cat(dim), xs) => {
            // operands without elements add none, and may be views that Candle cannot copy
            let xs: Vec<&Tensor> = xs.iter().copied().filter(|x| x.elem_count() > 0).collect();
            Tensor::cat(&xs, *dim)
        }
        (Op::Stack(dim), xs) => Tensor::stack(xs, *dim),
        _ => unreachable!("the graph checked the number of operands"),
    }
}

/// A tensor of one value.
fn full(value: Scalar, dims: &[usize], device: &Device) -> Result<Tensor> {
    match value {
        Scalar::U8(v) => Tensor::full(v, dims, device),
        Scalar::U32(v) => Tensor::full(v, dims, device),
        Scalar::I16(v) => Tensor::full(v, dims, device),
        Scalar::I32(v) => Tensor::full(v, dims, device),
        Scalar::I64(v) => Tensor::full(v, dims, device),
        Scalar::BF16(v) => Tensor::full(v, dims, device),
        Scalar::F16(v) => Tensor::full(v, dims, device),
        Scalar::F32(v) => Tensor::full(v, dims, device),
        Scalar::F64(v) => Tensor::full(v, dims, device),
        Scalar::F8E4M3(v) => Tensor::full(v, dims, device),
    }
}

/// A number as Candle takes one beside `x`: of its dtype, everywhere.
fn like(value: Scalar, x: &Tensor) -> Result<Tensor> {
    let value = full(value, &[], &Device::Cpu)?.to_dtype(x.dtype())?;
    value.to_device(x.device())?.broadcast_as(x.shape())
}

fn unary(op: UnaryOp, x: &Tensor) -> Result<Tensor> {
    match op {
        UnaryOp::Neg => x.neg(),
        UnaryOp::Recip => x.recip(),
        UnaryOp::Sqr => x.sqr(),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Exp => x.exp(),
        UnaryOp::Log => x.log(),
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Tanh => x.tanh(),
        UnaryOp::Erf => x.erf(),
        UnaryOp::Abs => x.abs(),
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round(),
        UnaryOp::Sign => x.sign(),
        UnaryOp::Relu => x.relu(),
        UnaryOp::Gelu => x.gelu(),
        UnaryOp::GeluErf => x.gelu_erf(),
        UnaryOp::Silu => x.silu(),
        UnaryOp::Sigmoid => ops::sigmoid(x),
    }
}

fn binary(op: BinaryOp, broadcast: bool, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if op == BinaryOp::Div && x.dtype().is_int() && x.device().is_cpu() {
        return division::divide(x, y);
    }
    match (op, broadcast) {
        (BinaryOp::Add, false) => x.add(y),
        (BinaryOp::Sub, false) => x.sub(y),
        (BinaryOp::Mul, false) => x.mul(y),
        (BinaryOp::Div, false) => x.div(y),
        (BinaryOp::Maximum, false) => x.maximum(y),
        (BinaryOp::Minimum, false) => x.minimum(y),
        (BinaryOp::Add, true) => x.broadcast_add(y),
        (BinaryOp::Sub, true) => x.broadcast_sub(y),
        (BinaryOp::Mul, true) => x.broadcast_mul(y),
        (BinaryOp::Div, true) => x.broadcast_div(y),
        (BinaryOp::Maximum, true) => x.broadcast_maximum(y),
        (BinaryOp::Minimum, true) => x.broadcast_minimum(y),
    }
}

fn compare(op: CompareOp, broadcast: bool, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    match (op, broadcast) {
        (CompareOp::Eq, false) => x.eq(y),
        (CompareOp::Ne, false) => x.ne(y),
        (CompareOp::Lt, false) => x.lt(y),
        (CompareOp::Le, false) => x.le(y),
        (CompareOp::Gt, false) => x.gt(y),
        (CompareOp::Ge, false) => x.ge(y),
        (CompareOp::Eq, true) => x.broadcast_eq(y),
        (CompareOp::Ne, true) => x.broadcast_ne(y),
        (CompareOp::Lt, true) => x.broadcast_lt(y),
        (CompareOp::Le, true) => x.broadcast_le(y),
        (CompareOp::Gt, true) => x.broadcast_gt(y),
        (CompareOp::Ge, true) => x.broadcast_ge(y),
    }
}

fn convolve(op: &Op, x: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    // Candle 0.11.1 reads a strided kernel of conv1d as if it were in order.
    let kernel = kernel.contiguous()?;
    match *op {
        Op::Conv1d(Conv {
            padding,
            stride,
            dilation,
            groups,
        }) => x.conv1d(&kernel, padding, stride, dilation, groups),
        Op::Conv2d(Conv {
            padding,
            stride,
            dilation,
            groups,
        }) => x.conv2d(&kernel, padding, stride, dilation, groups),
        _ => unreachable!("only convolutions come here"),
    }
}

#[cfg(test)]
mod tests;
