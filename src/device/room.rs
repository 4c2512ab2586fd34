//! How much goes into a batch.

use crate::plan::Plan;
use std::sync::Arc;
use std::time::Duration;

/// How fragments of different producers run as one: see
/// [`Builder::batching`](crate::executor::Builder::batching).
///
/// ```
/// use candlewick::{Batching, Device, Executor};
/// let few = Batching { fragments: 8, ..Batching::default() };
/// let executor = Executor::builder(&Device::Cpu).batching(few).build()?;
/// let apart = Executor::builder(&Device::Cpu).batching(Batching::OFF).build()?;
/// # drop((executor, apart));
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// The most fragments of a batch; 64 by default. With 0 or 1 every fragment runs by itself.
    pub fragments: usize,
    /// The most rows of all fragments together, each counted by its matrix product with most rows; 1024 by
    /// default.
    pub rows: usize,
    /// The most bytes of all fragments together, each counted by its largest value; 64 MiB by default.
    pub bytes: usize,
    /// How long a batch that is not full waits for further fragments, if nothing else waits and no ticket is in
    /// flight; zero by default, which is not at all. Where few requests come at once, it costs each of them that
    /// much. Above zero, callers do not drive the device themselves, as if
    /// [`Builder::lending`](crate::executor::Builder::lending) was off: they would wait in others' place.
    pub max_delay: Duration,
}

impl Batching {
    /// Every fragment by itself.
    pub const OFF: Self = Self {
        fragments: 1,
        rows: 0,
        bytes: 0,
        max_delay: Duration::ZERO,
    };

    /// What is left of it for others.
    pub(super) fn less(self, plan: &Plan) -> Self {
        Self {
            fragments: self.fragments.saturating_sub(1),
            rows: self.rows.saturating_sub(plan.outline.rows),
            bytes: self.bytes.saturating_sub(plan.outline.bytes),
            max_delay: self.max_delay,
        }
    }
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            fragments: 64,
            rows: 1024,
            bytes: 64 << 20,
            max_delay: Duration::ZERO,
        }
    }
}

/// A batch that may still grow.
pub(crate) struct Room {
    pub(super) first: Arc<Plan>,
    pub(super) left: Batching,
}

impl Room {
    /// Takes a fragment in, if it goes well with the first one and there is room.
    pub(super) fn takes(&mut self, plan: &Plan) -> bool {
        let outline = &plan.outline;
        let fits = self.left.fragments > 0
            && outline.rows <= self.left.rows
            && outline.bytes <= self.left.bytes
            && plan.gains_by_others()
            && self.first.goes_with(plan);
        if fits {
            self.left = self.left.less(plan);
        }
        fits
    }
}
