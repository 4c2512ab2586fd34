//! About how long a step of the engine takes, as far as that decides who runs it.

use super::product::Sides;
use super::program::{RowOp, What};
use super::types::Compute;
use super::{Fused, Product, Step};
use crate::graph::UnaryOp;

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
