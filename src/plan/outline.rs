//! Which fragments are worth running as one: what can be seen of a plan without its data.

use super::draft::Draft;
use super::{Plan, Step};
use rustc_hash::FxHasher;
use std::hash::{Hash, Hasher};

/// A fragment with products of more rows gains nothing by others' rows: its products read their
/// right sides from the cache already.
pub(super) const MOST_ROWS: usize = 128;
/// A fragment with a larger value gains nothing either, whose steps take long against what begins and ends them.
const MOST_BYTES: usize = 4 << 20;

/// Why a fragment runs by itself.
pub(super) enum Alone {
    /// A product has this number of rows, more than [`MOST_ROWS`].
    Rows(usize),
    /// A value has this number of bytes, more than [`MOST_BYTES`].
    Bytes(usize),
    /// The engine has no step of it.
    Candle,
}

/// A plan in outline.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    /// For each step, what kind of step it is, on which values.
    steps: Vec<u64>,
    /// The most rows of a product.
    pub(crate) rows: usize,
    /// The size of the largest value.
    pub(crate) bytes: usize,
}

impl Outline {
    /// The outline of a plan.
    pub(super) fn of(steps: &[Step], draft: &Draft) -> Self {
        let bytes = |step: &Step| {
            let info = draft.info(step.value());
            let count = info.dims.iter().fold(1, |n: usize, &d| n.saturating_mul(d));
            count.saturating_mul(info.dtype.size_in_bytes())
        };
        let rows = |step: &Step| match step {
            Step::Product(step) if step.batch.is_empty() => step.m,
            _ => 0,
        };
        Self {
            steps: steps.iter().map(kind).collect(),
            rows: steps.iter().map(rows).max().unwrap_or(0),
            bytes: steps.iter().map(bytes).max().unwrap_or(0),
        }
    }

    /// What kind of step this one is.
    pub(crate) fn step(&self, place: usize) -> Option<u64> {
        self.steps.get(place).copied()
    }

    /// With how many steps two plans begin alike.
    pub(crate) fn alike(&self, other: &Self) -> usize {
        let pairs = self.steps.iter().zip(&other.steps);
        pairs.take_while(|(a, b)| a == b).count()
    }
}

impl Plan {
    /// Whether the fragment may gain by running with others.
    pub(crate) fn gains_by_others(&self) -> bool {
        self.alone().is_none()
    }

    /// Why the fragment gains nothing by running with others, if so.
    pub(super) fn alone(&self) -> Option<Alone> {
        let own = |step: &Step| !matches!(step, Step::Op(_));
        let Outline { rows, bytes, .. } = self.outline;
        if rows > MOST_ROWS {
            return Some(Alone::Rows(rows));
        }
        if bytes > MOST_BYTES {
            return Some(Alone::Bytes(bytes));
        }
        (!self.steps.iter().any(own)).then_some(Alone::Candle)
    }

    /// Whether two fragments go well together: they begin alike, for the greater part of the
    /// shorter one.
    pub(crate) fn goes_with(&self, other: &Self) -> bool {
        let shorter = self.steps.len().min(other.steps.len());
        std::ptr::eq(self, other) || self.outline.alike(&other.outline) * 2 > shorter
    }
}

/// Steps of the same kind on the same values have the same; others may, by chance.
fn kind(step: &Step) -> u64 {
    let mut hasher = FxHasher::default();
    step.value().hash(&mut hasher);
    for input in step.inputs() {
        input.hash(&mut hasher);
    }
    match step {
        Step::Op(step) => step.op.own().map(crate::graph::Op::name).hash(&mut hasher),
        Step::Fused(step) => step.ops.hash(&mut hasher),
        Step::Product(step) => {
            step.op.hash(&mut hasher);
            let ops = step.programs().map(|then| &then.program.ops);
            ops.for_each(|ops| ops.hash(&mut hasher));
        }
    }
    hasher.finish()
}
