//! Passes that leave out work and change no bit of any answer.

use super::draft::{Draft, DraftNode, Lies, PlannedOp};
use crate::graph::encode::{Words, dtype_word};
use crate::graph::fragment::ValueId;
use crate::graph::{BinaryOp, Op, UnaryOp};
use candle_core::DType;
use rustc_hash::FxHashMap;

/// Merges nodes that compute the same from the same operands, also across outputs. Operations of
/// the user's own stay apart: they may do more than compute.
pub(super) fn merge(draft: &mut Draft) {
    let mut first: FxHashMap<Words, ValueId> = FxHashMap::default();
    let mut by: Vec<ValueId> = (0..draft.values.len() as ValueId).collect();
    let mut merged = false;
    for node in &draft.nodes {
        let PlannedOp::Own(op) = &node.op else {
            continue;
        };
        let mut words = Words::new();
        if node.scalars.is_empty() {
            op.encode(&mut words);
        } else {
            op.encode_kind(&mut words);
            words.extend(node.scalars.iter().map(|&s| u64::from(s)));
        }
        words.push(dtype_word(draft.info(node.value).dtype));
        words.extend(node.inputs.iter().map(|&i| u64::from(by[i as usize])));
        let known = *first.entry(words).or_insert(node.value);
        merged |= known != node.value;
        by[node.value as usize] = known;
    }
    if merged {
        draft.replace(&by);
    }
}

/// Leaves out nodes that give back what they were given, and shortens chains of them.
pub(super) fn identities(draft: &mut Draft) {
    let mut by: Vec<ValueId> = (0..draft.values.len() as ValueId).collect();
    let mut makers: Vec<Option<usize>> = vec![None; draft.values.len()];
    let mut changed = false;
    for place in 0..draft.nodes.len() {
        let node = &mut draft.nodes[place];
        for input in &mut node.inputs {
            *input = by[*input as usize];
        }
        let value = draft.nodes[place].value;
        if let Some(input) = reshape_of_reshape(draft, &makers, place) {
            draft.nodes[place].inputs[0] = input;
        }
        match same_as(draft, &makers, place) {
            Some(other) => {
                changed = true;
                by[value as usize] = other;
            }
            None => makers[value as usize] = Some(place),
        }
    }
    if changed {
        draft.replace(&by);
    } else {
        draft.drop_dead();
    }
}

/// The value that the node at `place` is equal to, if it adds nothing.
///
/// Candle's sums and products round otherwise for elements that lie otherwise. So what makes a
/// result in order is left out only where its operand lies in order.
fn same_as(draft: &Draft, makers: &[Option<usize>], place: usize) -> Option<ValueId> {
    let node = &draft.nodes[place];
    let (op, &[input]) = (node.op.own()?, &node.inputs[..]) else {
        return None;
    };
    let (from, to) = (draft.info(input), draft.info(node.value));
    let same_shape = from.dims == to.dims;
    let in_order = |value: ValueId| draft.info(value).lies == Lies::InOrder;
    match op {
        Op::ToDType(dtype) if *dtype == from.dtype => Some(input),
        Op::BroadcastAs(_) | Op::Narrow { .. } if same_shape => Some(input),
        Op::Reshape(_) if same_shape && in_order(input) => Some(input),
        Op::Contiguous if in_order(input) => Some(input),
        Op::Transpose(a, b) if a == b => Some(input),
        Op::Permute(axes) if axes.iter().copied().eq(0..axes.len()) => Some(input),
        Op::Repeat(times) if same_shape && times.iter().all(|&t| t == 1) => Some(input),
        Op::PadWithZeros {
            left: 0, right: 0, ..
        } => Some(input),
        op if node.scalars.is_empty() && is_neutral(op, to.dtype) => {
            in_order(input).then_some(input)
        }
        _ => {
            let before = &draft.nodes[makers[input as usize]?];
            if undone(before, op) {
                let first = before.inputs[0];
                let moves = !matches!(op, Op::Unary(_));
                (moves || in_order(first)).then_some(first)
            } else {
                repeated(before, op).then_some(input)
            }
        }
    }
}

/// Whether an operation with a number gives back every `x`, bit for bit.
///
/// Not asked of numbers that are parameters of the plan (those of operations on f32 where steps
/// are fused): a plan that leaves out `x * 1` would be another one than that of `x * 2`, and in a
/// fused step the operation costs next to nothing. `x + 0` is no identity on floats: it makes `0`
/// of `-0`; and so is not `x * 1`, where it is written as the affine `x * 1 + 0`. A signalling
/// NaN, which no operation makes, stays one.
fn is_neutral(op: &Op, dtype: DType) -> bool {
    let is = |value: f64, number: f64| value.to_bits() == number.to_bits();
    match *op {
        Op::Affine { mul, add } if dtype.is_int() => is(mul, 1.0) && is(add, 0.0),
        Op::Affine { mul, add } => is(mul, 1.0) && is(add, -0.0),
        Op::Powf(power) => is(power, 1.0),
        // Candle makes an f64 of an f8 by calling itself for ever
        Op::BinaryScalar { .. } if dtype == DType::F8E4M3 => false,
        Op::BinaryScalar { op, value } => match op {
            BinaryOp::Mul | BinaryOp::Div => is(value.to_f64(), 1.0),
            BinaryOp::Sub => is(value.to_f64(), 0.0),
            BinaryOp::Add => is(value.to_f64(), if dtype.is_int() { 0.0 } else { -0.0 }),
            BinaryOp::Maximum | BinaryOp::Minimum => false,
        },
        _ => false,
    }
}

/// Whether `op` undoes what `before` did.
fn undone(before: &DraftNode, op: &Op) -> bool {
    match (before.op.own(), op) {
        (Some(Op::Transpose(a, b)), Op::Transpose(c, d)) => (a, b) == (c, d) || (a, b) == (d, c),
        (Some(Op::Permute(first)), Op::Permute(second)) => {
            second.iter().enumerate().all(|(i, &axis)| first[axis] == i)
        }
        (Some(Op::Unsqueeze(a)), Op::Squeeze(b)) | (Some(Op::Squeeze(a)), Op::Unsqueeze(b)) => {
            a == b
        }
        (Some(Op::Unary(UnaryOp::Neg)), Op::Unary(UnaryOp::Neg)) => true,
        _ => false,
    }
}

/// Whether doing it again changes nothing.
fn repeated(before: &DraftNode, op: &Op) -> bool {
    use UnaryOp::{Abs, Ceil, Floor, Relu, Round, Sign};
    match (before.op.own(), op) {
        (Some(Op::Unary(a)), Op::Unary(b)) => {
            a == b && matches!(a, Abs | Ceil | Floor | Relu | Round | Sign)
        }
        _ => false,
    }
}

/// A reshape of a reshape looks at the elements in the same order as one reshape.
fn reshape_of_reshape(draft: &Draft, makers: &[Option<usize>], place: usize) -> Option<ValueId> {
    let node = &draft.nodes[place];
    let Some(Op::Reshape(_)) = node.op.own() else {
        return None;
    };
    let before = &draft.nodes[makers[node.inputs[0] as usize]?];
    match before.op.own() {
        Some(Op::Reshape(_) | Op::Squeeze(_) | Op::Unsqueeze(_)) => Some(before.inputs[0]),
        _ => None,
    }
}
