//! Which matrix products the CPU engine takes: those with few rows.

use super::draft::{Draft, DraftNode};
use super::layout::Layout;
use crate::graph::fragment::ValueId;
use crate::graph::{Dims, Op};
use candle_core::DType;

/// More rows are left to Candle, whose product packs its operands.
pub(crate) const FEW_ROWS: usize = 8;
/// One row times a right side of fewer numbers is left to Candle too: there is nothing to win.
const LARGE: usize = 1 << 22;
/// So are runs that fill no more than a few vectors.
const SHORT: usize = 64;

/// `[m, k]` times `[k, n]`, of f32.
#[derive(Debug)]
pub(crate) struct Product {
    pub(crate) value: ValueId,
    pub(crate) op: &'static str,
    pub(crate) dims: Dims,
    pub(crate) a: Factor,
    pub(crate) b: Factor,
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    /// From one row of the left side to the next; a row lies in order.
    pub(crate) a_stride: usize,
    pub(crate) right: Right,
}

/// A matrix that a product reads.
#[derive(Debug)]
pub(crate) struct Factor {
    pub(crate) value: ValueId,
    /// Where the matrix begins.
    pub(crate) offset: usize,
    /// Whether it is read as it lies; else it is put in order first, should it not be.
    pub(crate) as_it_lies: bool,
}

/// How the right side lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// Each row in order, and so far from one to the next.
    Rows(usize),
    /// Each column.
    Columns(usize),
}

/// The product that a node is, if it is one with few rows and both sides lie well. `resolve`
/// tells the value that a view looks at, and where.
pub(super) fn product(
    draft: &Draft,
    node: &DraftNode,
    resolve: impl Fn(ValueId) -> (ValueId, Layout),
) -> Option<Product> {
    let op = node.op.own()?;
    let (Op::Matmul | Op::BroadcastMatmul, &[a, b]) = (op, &node.inputs[..]) else {
        return None;
    };
    if [a, b].iter().any(|&x| draft.info(x).dtype != DType::F32) {
        return None;
    }
    let (left, right) = (&draft.info(a).dims, &draft.info(b).dims);
    let (&k, &n) = (left.last()?, right.last()?);
    let one_matrix = right[..right.len() - 2].iter().all(|&d| d == 1);
    let m: usize = left[..left.len() - 1].iter().product();
    let dims = &draft.info(node.value).dims;
    let plain = one_matrix && dims.iter().product::<usize>() == m * n;
    let fits = (2..=FEW_ROWS).contains(&m) || m == 1 && k.saturating_mul(n) >= LARGE;
    if !plain || !fits || k == 0 || n == 0 {
        return None;
    }
    let ((a, a_layout), (b, b_layout)) = (resolve(a), resolve(b));
    let rows = a_layout.viewed(&Op::Reshape([m, k].into()))?;
    let a_stride = rows.strides[0];
    let in_order = k == 1 || rows.strides[1] == 1;
    let (&row, &col) = match &b_layout.strides[..] {
        [.., row, col] => (row, col),
        _ => return None,
    };
    let right = match (row, col) {
        (row, 1) => Right::Rows(row),
        (1, col) => Right::Columns(col),
        _ => return None,
    };
    let factor = |value: ValueId, layout: &Layout| Factor {
        value,
        offset: layout.offset,
        as_it_lies: draft.as_it_lies(value),
    };
    let run = match right {
        Right::Rows(_) => n,
        Right::Columns(_) => k,
    };
    (in_order && run >= SHORT).then(|| Product {
        value: node.value,
        op: op.name(),
        dims: dims.clone(),
        a: factor(a, &a_layout),
        b: factor(b, &b_layout),
        m,
        k,
        n,
        a_stride,
        right,
    })
}
