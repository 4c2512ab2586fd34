//! A fragment's structure on its way to a plan: what the passes work on.

use super::signature::parameters;
use crate::graph::fragment::{Fragment, ValueId};
use crate::graph::{Dims, Op};
use candle_core::DType;
use smallvec::SmallVec;

/// Values, and the nodes that compute them, operands first.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) values: Vec<Info>,
    pub(crate) nodes: Vec<DraftNode>,
    pub(crate) outputs: SmallVec<[ValueId; 1]>,
}

/// What is known of a value.
#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) dims: Dims,
    pub(crate) dtype: DType,
    /// How it lies in memory, as far as that is known before it is there.
    pub(crate) lies: Lies,
}

/// How a value lies in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lies {
    /// All elements in order.
    InOrder,
    /// A tensor that exists and does not lie in order.
    Strided(Dims),
    /// It may be a view.
    Unknown,
}

/// How a value is computed.
#[derive(Clone, Debug)]
pub(crate) struct DraftNode {
    pub(crate) value: ValueId,
    pub(crate) op: PlannedOp,
    pub(crate) inputs: SmallVec<[ValueId; 3]>,
    /// Which parameters of the plan are the operation's numbers.
    pub(crate) scalars: SmallVec<[u32; 2]>,
}

/// An operation of a plan.
#[derive(Clone, Debug)]
pub(crate) enum PlannedOp {
    /// The same for every fragment of this structure.
    Own(Op),
    /// Each fragment brings its own, in this place.
    Attached(u32),
}

/// Whether the result of an operation lies in order, whether Candle or the engine runs it.
fn made_in_order(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_)
            | Op::Elu(_)
            | Op::Powf(_)
            | Op::Affine { .. }
            | Op::Binary { .. }
            | Op::BinaryScalar { .. }
            | Op::Compare { .. }
            | Op::CompareScalar { .. }
            | Op::WhereCond
            | Op::Reduce { .. }
            | Op::Softmax(_)
            | Op::LogSoftmax(_)
            | Op::SoftmaxLastDim
            | Op::RmsNorm { .. }
            | Op::LayerNorm { .. }
            | Op::Matmul
            | Op::BroadcastMatmul
            | Op::Contiguous
    )
}

impl PlannedOp {
    /// The operation, if it is part of the plan.
    pub(crate) fn own(&self) -> Option<&Op> {
        match self {
            PlannedOp::Own(op) => Some(op),
            PlannedOp::Attached(_) => None,
        }
    }
}

impl Draft {
    /// With `parametric`, the numbers of operations on f32 are parameters.
    pub(crate) fn new<S>(fragment: &Fragment<S>, parametric: bool) -> Self {
        let empty = || Info {
            dims: Dims::new(),
            dtype: DType::U8,
            lies: Lies::Unknown,
        };
        let mut values: Vec<Info> = Vec::with_capacity(fragment.values as usize);
        values.resize_with(fragment.values as usize, empty);
        for source in &fragment.sources {
            values[source.value as usize] = Info {
                dims: source.dims.clone(),
                dtype: source.dtype,
                lies: source.lies(),
            };
        }
        let mut attached = 0;
        let places = parameters(fragment, parametric);
        let nodes = fragment.computed.iter().zip(places);
        let nodes = nodes.map(|(node, scalars)| {
            values[node.value as usize] = Info {
                dims: node.dims.clone(),
                dtype: node.dtype,
                lies: match made_in_order(&node.op) {
                    true => Lies::InOrder,
                    false => Lies::Unknown,
                },
            };
            let op = if node.op.is_opaque() {
                attached += 1;
                PlannedOp::Attached(attached - 1)
            } else {
                PlannedOp::Own(node.op.clone())
            };
            DraftNode {
                value: node.value,
                op,
                inputs: node.inputs.clone(),
                scalars,
            }
        });
        let nodes = nodes.collect();
        Draft {
            values,
            nodes,
            outputs: fragment.outputs.clone(),
        }
    }

    /// Whether a value is read as it lies; else it is put in order first, should it not be.
    pub(crate) fn as_it_lies(&self, value: ValueId) -> bool {
        matches!(self.info(value).lies, Lies::Strided(_))
    }

    pub(crate) fn info(&self, value: ValueId) -> &Info {
        &self.values[value as usize]
    }

    /// Puts other values in the place of some, everywhere, and drops the nodes that nobody needs
    /// any more.
    pub(crate) fn replace(&mut self, by: &[ValueId]) {
        let find = |value: &mut ValueId| *value = by[*value as usize];
        for node in &mut self.nodes {
            node.inputs.iter_mut().for_each(find);
        }
        self.outputs.iter_mut().for_each(find);
        self.drop_dead();
    }

    /// Drops the nodes that no output needs.
    pub(crate) fn drop_dead(&mut self) {
        let mut needed = vec![false; self.values.len()];
        for &output in &self.outputs {
            needed[output as usize] = true;
        }
        for node in self.nodes.iter().rev() {
            if needed[node.value as usize] {
                node.inputs.iter().for_each(|&i| needed[i as usize] = true);
            }
        }
        self.nodes.retain(|node| needed[node.value as usize]);
    }
}
