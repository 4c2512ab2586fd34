//! Constants: what is computed from `zeros`, `ones` and `full` alone.
//!
//! Such a tensor has one value everywhere, so an operation on each of its elements makes another
//! of that kind: a plan stores the value and the shape, and no data. Only operations that IEEE 754
//! defines to the last bit are folded; what depends on an implementation (`exp`, sums), what may
//! fail when it runs (integers) and NaN, whose bits are nobody's promise, are left to run.
//!
//! What is not a constant, although its data exists: a tensor that was handed in, and what
//! `arange` and `new` make. A plan is shared by all fragments of its structure, whatever their data
//! is, and another one brings other weights. A subgraph of weights alone is computed once by
//! submitting it: then it is a result that later graphs use. Numbers that are parameters of the
//! plan are not constants either, for the same reason.

use super::draft::{Draft, DraftNode, Lies, PlannedOp};
use super::layout::is_view;
use crate::graph::{BinaryOp, Op, UnaryOp};
use candle_core::DType;
use candle_core::scalar::Scalar;

/// A value that is the same everywhere.
#[derive(Clone, Copy)]
struct Constant {
    value: Scalar,
    /// The elements that exist in memory: of a view, those that it looks at.
    stored: usize,
}

/// Replaces operations on constants by constants. Views are left, as they cost nothing.
pub(super) fn fold(draft: &mut Draft) {
    let mut constants: Vec<Option<Constant>> = vec![None; draft.values.len()];
    let mut changed = false;
    for place in 0..draft.nodes.len() {
        let node = &draft.nodes[place];
        let (value, dims) = (node.value, &draft.info(node.value).dims);
        let count = dims.iter().product();
        let known = constant(node, draft.info(value).dtype, |input| constants[input]);
        if let Some((known, true)) = known {
            // not in the place of small ones that are read again and again
            if count > known.stored {
                continue;
            }
            let fill = Op::Fill {
                value: known.value,
                dims: dims[..].into(),
            };
            let node = &mut draft.nodes[place];
            node.op = PlannedOp::Own(fill);
            node.inputs.clear();
            node.scalars.clear();
            draft.values[value as usize].lies = Lies::Unknown;
            changed = true;
        }
        constants[value as usize] = known.map(|(known, is_made)| Constant {
            stored: if is_made { count } else { known.stored },
            ..known
        });
    }
    if changed {
        draft.drop_dead();
    }
}

/// What a node makes if it is a constant, and whether that takes work.
fn constant(
    node: &DraftNode,
    dtype: DType,
    of: impl Fn(usize) -> Option<Constant>,
) -> Option<(Constant, bool)> {
    let op = node.op.own()?;
    let of = |place: usize| of(node.inputs[place] as usize);
    let (value, stored) = match (op, node.inputs.len()) {
        (Op::Fill { value, dims }, 0) => {
            let stored = dims.iter().product();
            let value = *value;
            return Some((Constant { value, stored }, false));
        }
        (op, 1) if is_view(op) => return Some((of(0)?, false)),
        (Op::Contiguous, 1) => (of(0)?.value, of(0)?.stored),
        (Op::ToDType(_), 1) => (cast(of(0)?.value, dtype)?, of(0)?.stored),
        (Op::Unary(op), 1) => (unary(*op, of(0)?.value)?, of(0)?.stored),
        (Op::Binary { op, .. }, 2) => {
            let (a, b) = (of(0)?, of(1)?);
            (binary(*op, a.value, b.value)?, a.stored.max(b.stored))
        }
        _ => return None,
    };
    Some((Constant { value, stored }, true))
}

/// A float as another one. Widening is exact, narrowing is rounded to nearest.
fn cast(value: Scalar, to: DType) -> Option<Scalar> {
    number(match (value, to) {
        (Scalar::F32(v), DType::F64) => Scalar::F64(v.into()),
        (Scalar::F64(v), DType::F32) => Scalar::F32(v as f32),
        _ => return None,
    })
}

fn unary(op: UnaryOp, x: Scalar) -> Option<Scalar> {
    macro_rules! on {
        ($x:expr) => {
            match op {
                UnaryOp::Neg => -$x,
                UnaryOp::Abs => $x.abs(),
                UnaryOp::Sqr => $x * $x,
                UnaryOp::Sqrt => $x.sqrt(),
                UnaryOp::Recip => 1.0 / $x,
                _ => return None,
            }
        };
    }
    number(match x {
        Scalar::F32(x) => Scalar::F32(on!(x)),
        Scalar::F64(x) => Scalar::F64(on!(x)),
        _ => return None,
    })
}

fn binary(op: BinaryOp, a: Scalar, b: Scalar) -> Option<Scalar> {
    macro_rules! on {
        ($a:expr, $b:expr) => {
            match op {
                BinaryOp::Add => $a + $b,
                BinaryOp::Sub => $a - $b,
                BinaryOp::Mul => $a * $b,
                BinaryOp::Div => $a / $b,
                BinaryOp::Maximum | BinaryOp::Minimum => return None,
            }
        };
    }
    number(match (a, b) {
        (Scalar::F32(a), Scalar::F32(b)) => Scalar::F32(on!(a, b)),
        (Scalar::F64(a), Scalar::F64(b)) => Scalar::F64(on!(a, b)),
        _ => return None,
    })
}

/// Anything but NaN.
fn number(value: Scalar) -> Option<Scalar> {
    match value {
        Scalar::F32(v) if v.is_nan() => None,
        Scalar::F64(v) if v.is_nan() => None,
        value => Some(value),
    }
}
