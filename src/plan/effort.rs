//! About how long a step of the engine takes, as far as that decides who runs it.

use super::product::Sides;
use super::program::What;
use super::types::Compute;
use super::{Fused, Product, Step};

/// A step of so many simple operations takes some ten microseconds: from here on other threads help,
/// with one step or with several together. Nobody waits for a thread that comes late.
pub(crate) const WORTH_HELP: usize = 1 << 21;

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
        const CALL: usize = 32;
        let calls = self.compute == Compute::F64;
        let cost = |what| match what {
            What::Unary(..) | What::Elu(..) | What::Powf(..) | What::Row(..) if calls => CALL,
            What::Pair { .. } | What::RmsNorm(..) => 2,
            What::LayerNorm(..) => 3,
            _ => 1,
        };
        let each: usize = self.instrs.iter().map(|instr| cost(instr.what)).sum();
        self.rows.saturating_mul(self.cols).saturating_mul(each)
    }
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
