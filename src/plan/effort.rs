//! About how long a step of the engine takes, as far as that decides who runs it.

use super::draft::Draft;
use super::layout::is_view;
use super::product::Sides;
use super::program::{RowOp, What};
use super::types::Compute;
use super::{Fused, OpStep, Product, Step};
use crate::graph::{Op, UnaryOp};
use std::time::Duration;

/// A step of so many simple operations is worth waking other threads for, which takes as long as many of
/// these: for one step, or for several together. Nobody waits for a thread that comes late.
pub(crate) const WORTH_HELP: usize = 1 << 21;
/// A fused step of so many is worth sharing with threads that are looking for work: some five microseconds.
/// Whoever comes at the end of a shorter one keeps it waiting for longer than it takes.
pub(crate) const WORTH_SHARING: usize = 1 << 16;
/// The same of products, alone or beside other steps: what they do takes less time each.
pub(crate) const PRODUCT_WORTH_SHARING: usize = 1 << 18;

/// So many multiplications take as long as reading one number from memory.
const READING: usize = 8;

/// Beginning and ending a step takes as long as this many simple operations: about 300 ns.
const STEP: usize = 4096;
/// An operation of Candle's takes this many for each number that it reads or makes: it has no vector code.
const CANDLE: usize = 16;
/// Simple operations in a microsecond, on one thread.
const IN_A_MICROSECOND: usize = 13_000;

/// About how long these steps take; nothing if one of them is code that only its author knows.
pub(super) fn estimate(steps: &[Step], draft: &Draft) -> Option<Duration> {
    let mut sum = 0_usize;
    for step in steps {
        let effort = match step {
            Step::Op(step) => candle(step, draft)?,
            step => step.effort(),
        };
        sum = sum.saturating_add(effort).saturating_add(STEP);
    }
    let nanos = (sum as u128 * 1000) / IN_A_MICROSECOND as u128;
    Some(Duration::from_nanos(nanos.try_into().unwrap_or(u64::MAX)))
}

/// The effort of an operation by Candle.
fn candle(step: &OpStep, draft: &Draft) -> Option<usize> {
    let op = step.op.own()?;
    if is_view(op) {
        return Some(0);
    }
    let count = |dims: &[usize]| dims.iter().fold(1_usize, |n, &d| n.saturating_mul(d));
    let operands = step.inputs.iter().map(|&input| draft.info(input));
    let read = operands
        .clone()
        .map(|info| count(&info.dims))
        .fold(0, usize::saturating_add);
    let made = count(&step.dims);
    // each number that is made is a sum over a dimension, or over a kernel
    let terms = match op {
        Op::Matmul | Op::BroadcastMatmul => {
            operands.clone().next().and_then(|x| x.dims.last().copied())
        }
        Op::Conv1d(_) | Op::Conv2d(_) => operands
            .clone()
            .nth(1)
            .map(|kernel| count(&kernel.dims[1..])),
        Op::MaxPool2d(window) | Op::AvgPool2d(window) => Some(window.kernel.0 * window.kernel.1),
        _ => None,
    };
    let sums = made.saturating_mul(terms.unwrap_or(0)).saturating_mul(2);
    let moved = read.saturating_add(made).saturating_mul(CANDLE);
    Some(moved.saturating_add(sums))
}

impl Step {
    /// About how many simple operations it takes as long as. What Candle runs is not known.
    pub(crate) fn effort(&self) -> usize {
        match self {
            Step::Op(_) => 0,
            Step::Fused(step) => step.effort(),
            Step::Product(step) => step.effort(),
        }
    }
}

impl Fused {
    /// About how many simple operations it takes as long as. Functions of f64 are calls.
    pub(crate) fn effort(&self) -> usize {
        let function = if self.compute == Compute::F64 { 32 } else { 8 };
        let cost = |what| match what {
            What::Unary(op, _) if is_function(op) => function,
            What::Elu(..) | What::Powf(..) => function,
            What::Row(RowOp::Softmax | RowOp::LogSoftmax, _) => function + 4,
            What::Pair { .. } => 2,
            What::RmsNorm(..) => 3,
            What::LayerNorm(..) => 4,
            _ => 1,
        };
        let each: usize = self.instrs.iter().map(|instr| cost(instr.what)).sum();
        self.rows.saturating_mul(self.cols).saturating_mul(each)
    }
}

/// Whether it is more than an instruction or two.
fn is_function(op: UnaryOp) -> bool {
    use UnaryOp::{Abs, Ceil, Floor, Neg, Recip, Relu, Round, Sign, Sqr, Sqrt};
    let simple = matches!(
        op,
        Neg | Recip | Sqr | Sqrt | Abs | Floor | Ceil | Round | Sign | Relu
    );
    !simple
}

impl Product {
    /// About how many simple operations it takes as long as: the multiplications, the additions, and
    /// the reading of the right sides, which with few rows is all that it costs.
    pub(crate) fn effort(&self) -> usize {
        let rows = self.m.saturating_add(READING);
        let each = |Sides { k, n, .. }: Sides<'_>| [2, self.count(), rows, n, k];
        let products = self.sides().into_iter().flatten().map(each);
        let times = |sizes: [usize; 5]| sizes.into_iter().fold(1, usize::saturating_mul);
        products.map(times).fold(0, usize::saturating_add)
    }
}
