//! Lazy tensors as what a cut walks: see `core/cut.rs`.

use super::node::{Expr, LazyTensor, Made, Node};
use crate::core::cut::Opened;
pub(crate) use crate::core::cut::{Cut, Gather};
use crate::core::origin::Origin;
use crate::core::store::NodeId;
use crate::error::Error;
use candle_core::{DType, Shape};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// Nodes that do not forget what they are made from while a walk goes on.
pub(crate) type Pins<'a> = crate::core::cut::Pins<'a, LazyTensor>;

/// The dtype of the first operand of a node that is computed.
pub(crate) fn operand_dtype(opened: &Opened<'_, LazyTensor>) -> Option<DType> {
    let first = opened.expr.inputs.first();
    first.map(|operand| operand.0.dtype)
}

// SAFETY: only its own node's `Expr` gives references to an operand, and `operands` gives them to cuts alone. A
// node to which one tensor refers, and which was not submitted, is known to the thread that reaches that tensor
// alone; that it was submitted, or is referred to weakly, is seen in `home`.
unsafe impl crate::core::cut::Tensor for LazyTensor {
    type Node = Node;
    type Expr = Expr;
    type Error = Error;

    #[inline]
    fn node(&self) -> &Node {
        &self.0
    }

    #[inline]
    fn is_shared(&self) -> bool {
        if Arc::strong_count(&self.0) != 1 {
            return true;
        }
        // ORDERING: Acquire, with the Release of those who let go of it: that they submitted it is seen.
        // The owner, who refers to it weakly, does so only then.
        fence(Ordering::Acquire);
        self.0.home.get().is_some()
    }

    #[inline]
    fn id(node: &Node) -> NodeId {
        node.id
    }

    #[inline]
    fn origin(node: &Node) -> Option<&Origin<Expr>> {
        match &node.made {
            Made::Op(origin) => Some(origin),
            Made::Leaf { .. } | Made::Placeholder => None,
        }
    }

    #[inline]
    fn operands(expr: &Expr) -> &[Self] {
        &expr.inputs
    }

    #[inline]
    fn is_placeholder(node: &Node) -> bool {
        matches!(node.made, Made::Placeholder)
    }

    fn no_value(node: &Node) -> Error {
        Error::Placeholder {
            shape: Shape::from(&node.dims[..]),
            dtype: node.dtype,
        }
    }
}
