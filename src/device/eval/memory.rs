//! Results of no size, and of too much.

use crate::error::Cause;
use crate::graph::{BinaryOp, Conv, Op};
use candle_core::{DType, Tensor};

/// On the CPU a failed allocation ends the process. One of this size may well fail, and asking
/// costs nothing beside it.
const LARGE: usize = 1 << 30;

/// Refuses a result for which there is no memory, or for the copies of operands, on the host.
pub(super) fn probe_op(op: &Op, inputs: &[&Tensor]) -> Result<(), Cause> {
    let on_host = match op {
        Op::ToDevice(device) => device.is_cpu(),
        _ => inputs.iter().all(|x| x.device().is_cpu()),
    };
    let made = elements(op, inputs).saturating_mul(dtype(op, inputs).size_in_bytes());
    match on_host {
        true => probe(made.saturating_add(copied(op, inputs))),
        false => Ok(()),
    }
}

/// Refuses a size for which there is no memory on the host.
pub(in crate::device) fn probe(bytes: usize) -> Result<(), Cause> {
    if bytes < LARGE {
        return Ok(());
    }
    let refused = |_| Cause::OutOfMemory {
        asked: bytes as u64,
        left: 0,
    };
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(refused)
}

/// The bytes of the operands that are put in order first: of a broadcast, far more than it has memory for. None if
/// one of them is empty: nothing is computed then.
fn copied(op: &Op, inputs: &[&Tensor]) -> usize {
    if inputs.iter().any(|x| x.elem_count() == 0) {
        return 0;
    }
    let in_order = match op {
        Op::Matmul | Op::BroadcastMatmul => inputs.iter().any(|x| !is_matrix(x)),
        Op::Binary { op, .. } => *op == BinaryOp::Div && inputs[0].dtype().is_int(),
        Op::Qmatmul(_)
        | Op::Softmax(_)
        | Op::SoftmaxLastDim
        | Op::LogSoftmax(_)
        | Op::RmsNorm { .. }
        | Op::LayerNorm { .. }
        | Op::Rope { .. }
        | Op::ArgSort { .. }
        | Op::IndexSelect(_)
        | Op::Gather(_)
        | Op::ScatterAdd(_)
        | Op::IndexAdd(_) => true,
        Op::Conv1d(_) | Op::Conv2d(_) => return inputs.get(1).map_or(0, |kernel| copy(kernel)),
        _ => false,
    };
    let copies = inputs.iter().filter(|_| in_order).map(|x| copy(x));
    copies.fold(0, usize::saturating_add)
}

/// The bytes of a copy of a tensor, if it does not lie in order.
fn copy(x: &Tensor) -> usize {
    match x.is_contiguous() {
        true => 0,
        false => x.elem_count().saturating_mul(x.dtype().size_in_bytes()),
    }
}

/// Whether Candle multiplies by these matrices as they lie: in order, or transposed.
fn is_matrix(x: &Tensor) -> bool {
    match (x.dims(), x.stride()) {
        (&[.., rows, cols], &[.., down, right]) => {
            let in_order = (right == 1 || cols == 1) && (down == cols || rows == 1);
            let transposed = (down == 1 || rows == 1) && (right == rows || cols == 1);
            in_order || transposed
        }
        _ => false,
    }
}

/// The number of elements that the result needs memory for, where that may be more than its
/// operands have.
fn elements(op: &Op, inputs: &[&Tensor]) -> usize {
    let all = |x: &Tensor| x.elem_count();
    match (op, inputs) {
        (Op::Fill { dims, .. }, _) => dims.iter().product(),
        (
            Op::Squeeze(_)
            | Op::Unsqueeze(_)
            | Op::Transpose(..)
            | Op::Permute(_)
            | Op::Narrow { .. }
            | Op::BroadcastAs(_)
            | Op::Reduce { .. }
            | Op::Custom1(_)
            | Op::Custom2(_)
            | Op::Custom3(_),
            _,
        ) => 0,
        (Op::Reshape(_) | Op::Contiguous, [x]) if x.is_contiguous() => 0,
        (Op::Binary { .. } | Op::Compare { .. } | Op::BroadcastMatmul, [x, y]) => {
            let sizes = x.dims().iter().rev().zip(y.dims().iter().rev());
            let common = sizes.fold(1usize, |n, (&a, &b)| n.saturating_mul(a.max(b)));
            let rest = |x: &Tensor, y: &Tensor| -> usize {
                x.dims()[..x.rank().saturating_sub(y.rank())]
                    .iter()
                    .product()
            };
            common.saturating_mul(rest(x, y)).saturating_mul(rest(y, x))
        }
        (Op::Matmul, [x, y]) => {
            let row = y.dims().last().map_or(0, |&n| n);
            all(x) / x.dims().last().map_or(1, |&k| k.max(1)) * row
        }
        (Op::Repeat(times), [x]) => times.iter().fold(all(x), |n, &t| n.saturating_mul(t)),
        (&Op::PadWithZeros { dim, left, right }, [x]) => {
            all(x) / x.dims()[dim].max(1) * (x.dims()[dim] + left + right)
        }
        (Op::Cat(_) | Op::Stack(_), xs) => xs.iter().map(|x| all(x)).sum(),
        (&Op::IndexSelect(dim), [x, ids]) => all(x) / x.dims()[dim].max(1) * all(ids),
        (Op::Gather(_), [_, ids]) => all(ids),
        (&Op::UpsampleNearest2d { height, width }, [x]) => {
            x.dims()[0] * x.dims()[1] * height * width
        }
        (Op::Conv1d(conv) | Op::Conv2d(conv), [x, kernel]) => windows(conv, x, kernel),
        (_, [x, ..]) => all(x),
        (_, []) => 0,
    }
}

/// Candle lays out every window of a convolution in one dimension; in two it does so for parts,
/// beside the input.
fn windows(conv: &Conv, x: &Tensor, kernel: &Tensor) -> usize {
    let places = conv_places(conv, x, kernel);
    let window: usize = kernel.dims()[1..].iter().product();
    places.saturating_mul(window.max(kernel.dims()[0]))
}

fn conv_places(conv: &Conv, x: &Tensor, kernel: &Tensor) -> usize {
    x.dims()[2..]
        .iter()
        .zip(&kernel.dims()[2..])
        .map(|(&size, &k)| places(conv, size, k))
        .product::<usize>()
        .saturating_mul(x.dims()[0])
}

/// How often a kernel of size `k` fits. The graph has checked that it does.
fn places(conv: &Conv, size: usize, k: usize) -> usize {
    (size + 2 * conv.padding - conv.dilation * (k - 1) - 1) / conv.stride + 1
}

/// The dtype of the result.
pub(super) fn dtype(op: &Op, inputs: &[&Tensor]) -> DType {
    match (op, inputs) {
        (Op::Fill { value, .. }, _) => value.dtype(),
        (Op::ToDType(dtype), _) => *dtype,
        (Op::Compare { .. } | Op::CompareScalar { .. }, _) => DType::U8,
        (Op::ArgSort { .. }, _) => DType::U32,
        (Op::WhereCond, [_, x, _]) | (_, [x, ..]) => x.dtype(),
        (_, []) => DType::U8,
    }
}

/// Whether a view without elements starts where there may be no memory, which Candle trips over.
pub(super) fn beyond(x: &Tensor) -> bool {
    x.layout().start_offset() > 0 && x.elem_count() == 0
}

/// The same tensor, not [`beyond`].
pub(super) fn within(x: &Tensor) -> Result<Tensor, candle_core::Error> {
    if beyond(x) {
        Tensor::zeros(x.shape(), x.dtype(), x.device())
    } else {
        Ok(x.clone())
    }
}

/// The shape of a result that is all zeros, or has no elements, where Candle would fail over
/// that: by dividing by the size of a row, or by a view with an offset beyond its memory.
pub(super) fn empty(op: &Op, inputs: &[&Tensor]) -> Option<Vec<usize>> {
    let first = inputs.first()?;
    let mut dims = first.dims().to_vec();
    let none = |x: &&Tensor| x.elem_count() == 0;
    match (op, inputs) {
        (Op::Narrow { dim, len: 0, .. }, _) => dims[*dim] = 0,
        (Op::Repeat(times), [x]) if none(x) || times.contains(&0) => {
            let added = times.len().saturating_sub(dims.len());
            dims.splice(..0, vec![1; added]);
            dims.iter_mut().zip(times).for_each(|(d, t)| *d *= t);
        }
        (Op::PadWithZeros { dim, left, right }, [x]) if none(x) => dims[*dim] += left + right,
        (Op::Cat(dim), xs) if xs.iter().all(none) => {
            dims[*dim] = xs.iter().map(|x| x.dims()[*dim]).sum();
        }
        (Op::Stack(dim), [x, ..]) if none(x) => dims.insert(*dim, inputs.len()),
        (Op::Conv1d(conv) | Op::Conv2d(conv), [x, kernel]) if none(x) || none(kernel) => {
            dims[1] = kernel.dims()[0];
            for (size, &k) in dims[2..].iter_mut().zip(&kernel.dims()[2..]) {
                *size = places(conv, *size, k);
            }
        }
        (
            Op::RmsNorm { .. }
            | Op::LayerNorm { .. }
            | Op::ArgSort { .. }
            | Op::Rope { .. }
            | Op::WhereCond
            | Op::Compare {
                broadcast: false, ..
            }
            | Op::CompareScalar { .. }
            | Op::Contiguous,
            [x, ..],
        ) if none(x) => {}
        _ => return None,
    }
    Some(dims)
}
