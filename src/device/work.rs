//! A fragment's work: a plan with all that it needs.

use super::{Part, PartStep};
use crate::graph::fragment::{Source, ValueId};
use crate::graph::{Kept, Node, Op};
use crate::plan::product::PRODUCTS;
use crate::plan::{OpStep, Plan, PlannedOp, Product, Scalars, Step};
use candle_core::Tensor;
use smallvec::SmallVec;
use std::sync::{Arc, Weak};

/// A fragment's work.
pub(crate) struct Work {
    pub(crate) plan: Arc<Plan>,
    /// A submitted one is an index into the payload's inputs.
    pub(crate) sources: Vec<(ValueId, Source<usize>)>,
    /// The operations that the plan leaves to the fragment.
    pub(crate) attached: SmallVec<[Op; 1]>,
    /// The numbers that the plan takes as parameters.
    pub(crate) scalars: Scalars,
    /// In the order of the plan's outputs.
    pub(crate) outputs: SmallVec<[Output; 1]>,
}

impl Work {
    /// The nodes whose results it makes no longer need what they are made of.
    pub(super) fn begin(&self) {
        let nodes = self
            .outputs
            .iter()
            .filter_map(|output| output.node.upgrade());
        nodes.for_each(|node| node.forget_origin());
    }

    /// The operation of a step.
    pub(super) fn op<'a>(&'a self, step: &'a OpStep) -> &'a Op {
        match &step.op {
            PlannedOp::Own(op) => op,
            PlannedOp::Attached(place) => &self.attached[*place as usize],
        }
    }

    /// A step that runs beside others, on these operands.
    pub(super) fn part<'a>(&'a self, step: &'a Step, inputs: SmallVec<[Tensor; 4]>) -> Part<'a> {
        let mut kept = [None; PRODUCTS];
        let run = match step {
            Step::Op(step) => PartStep::Copy(self.op(step), step.dims.iter().product()),
            Step::Fused(step) => PartStep::Fused(step),
            Step::Product(step) => {
                kept = self.kept_by(step);
                PartStep::Product(step)
            }
        };
        Part {
            step: run,
            inputs,
            scalars: &self.scalars,
            kept,
        }
    }

    /// What is kept with the right sides of products.
    pub(super) fn kept_by(&self, step: &Product) -> [Option<&Kept>; PRODUCTS] {
        step.sides()
            .map(|sides| sides.and_then(|sides| self.kept(sides.b.value)))
    }

    /// What is kept with a value that is a tensor of its own.
    fn kept(&self, value: ValueId) -> Option<&Kept> {
        let source = self.sources.binary_search_by_key(&value, |s| s.0);
        match &self.sources[source.ok()?].1 {
            Source::Leaf(_, kept) => kept.as_deref(),
            Source::Submitted(_) => None,
        }
    }
}

/// What must be known of a node whose result is computed.
pub(crate) struct Output {
    /// When the work begins, the node no longer needs its origin. Nothing, if it is not begun.
    pub(crate) node: Weak<Node>,
    /// The size of the result.
    pub(crate) bytes: u64,
}
