//! What the CPU engine makes of an operation, and in which type.

use super::fuse::Fuse;
use super::types::{Compute, is_half};
use crate::graph::{BinaryOp, Op, ReduceOp, UnaryOp};
use candle_core::DType;

/// The most elements of a row that a program looks at as a whole: a few such rows fit into the cache of a
/// core.
const LONGEST_ROW: usize = 1 << 15;

/// What the engine makes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Each element by itself.
    Element,
    /// Rows of the dimensions from this one on.
    Row(usize),
    /// One number for each such row.
    Reduce(usize),
}

impl Fuse<'_> {
    /// What the engine makes of a node, and in which type if it is a step's result.
    pub(super) fn own(&self, place: usize) -> Option<(Role, Compute)> {
        Some((self.role(place)?, self.compute(place)?))
    }

    /// What the engine makes of a node; `None` if it goes to Candle.
    pub(super) fn role(&self, place: usize) -> Option<Role> {
        let node = &self.draft.nodes[place];
        let op = node.op.own()?;
        let computes = |i: usize| Compute::of(self.info(*node.inputs.get(i)?).dtype);
        let compute = computes(0)?;
        let first = &self.info(*node.inputs.first()?).dims;
        let rank = first.len();
        let row = |split: usize| first[split..].iter().product::<usize>() <= LONGEST_ROW;
        let elements = first.iter().all(|&d| d > 0);
        match op {
            Op::WhereCond => computes(1).map(|_| Role::Element),
            Op::ToDType(to) => Compute::of(*to).map(|_| Role::Element),
            Op::Unary(op) => takes(*op, compute).then_some(Role::Element),
            Op::Elu(_) | Op::Powf(_) => compute.is_float().then_some(Role::Element),
            // dividing integers by zero is an error, which Candle's own operation reports
            Op::Binary { op, .. } | Op::BinaryScalar { op, .. } => {
                (*op != BinaryOp::Div || compute.is_float()).then_some(Role::Element)
            }
            Op::Affine { .. } | Op::Compare { .. } | Op::CompareScalar { .. } | Op::Contiguous => {
                Some(Role::Element)
            }
            Op::Softmax(dim) | Op::LogSoftmax(dim) if dim + 1 == rank && row(*dim) && elements => {
                compute.is_float().then_some(Role::Row(*dim))
            }
            Op::SoftmaxLastDim | Op::RmsNorm { .. } | Op::LayerNorm { .. } | Op::Rope { .. }
                if rank > 0 && row(rank - 1) && elements =>
            {
                compute.is_float().then_some(Role::Row(rank - 1))
            }
            Op::Reduce {
                op: ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min,
                dims,
                ..
            } => {
                let split = rank.checked_sub(dims.len())?;
                let trailing = (split..rank).all(|d| dims.contains(&d));
                let fits = !dims.is_empty() && trailing && row(split) && elements;
                fits.then_some(Role::Reduce(split))
            }
            _ => None,
        }
    }

    /// Whether a node may be part of a program of this type, on the way to its result.
    pub(super) fn computes_in(&self, place: usize, compute: Compute) -> bool {
        let node = &self.draft.nodes[place];
        let of = |i: usize| node.inputs.get(i).map(|&input| self.info(input).dtype);
        match (node.op.own(), of(0)) {
            (_, None) => false,
            // Its operand is loaded as the program's type, or made in it. Rounding f64 to f32
            // first and then to a half would be rounding twice.
            (Some(Op::ToDType(to)), Some(from)) => {
                Compute::of(*to) == Some(compute) && !(from == DType::F64 && is_half(*to))
            }
            (Some(Op::WhereCond), _) => of(1).and_then(Compute::of) == Some(compute),
            (_, Some(from)) => Compute::of(from) == Some(compute),
        }
    }

    /// The type of a program whose result is this node. A cast is done when the result is stored:
    /// the program has the type of what is cast.
    fn compute(&self, place: usize) -> Option<Compute> {
        let node = &self.draft.nodes[place];
        let dtype = |i: usize| self.info(node.inputs[i]).dtype;
        match node.op.own()? {
            Op::WhereCond => Compute::of(dtype(1)),
            Op::ToDType(_) => {
                let maker = self.makers[node.inputs[0] as usize].map(|maker| maker as usize);
                let compared = maker.map(|maker| &self.draft.nodes[maker]).filter(|maker| {
                    let op = maker.op.own();
                    matches!(op, Some(Op::Compare { .. } | Op::CompareScalar { .. }))
                });
                // a comparison's result stands in the type of what was compared
                let from = compared.map_or(dtype(0), |node| self.info(node.inputs[0]).dtype);
                Compute::of(from)
            }
            _ => Compute::of(dtype(0)),
        }
    }
}

/// Whether the engine has this function for a type. Integers have none of Candle's that are
/// always 0.
fn takes(op: UnaryOp, compute: Compute) -> bool {
    use UnaryOp::{Abs, Ceil, Floor, Relu, Round, Sign};
    compute.is_float() || matches!(op, Abs | Ceil | Floor | Relu | Round | Sign)
}
