//! Lazy tensors as what a cut walks: see `core/cut.rs`.

use super::kept::Kept;
use super::node::{Expr, LazyTensor, Made, Node};
use crate::core::cut::Opened;
pub(crate) use crate::core::cut::{Cut, Gather};
use crate::core::origin::Origin;
use crate::core::store::NodeId;
use crate::error::Error;
use candle_core::{DType, Shape, Tensor};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// Nodes that do not forget what they are made from while a walk goes on.
pub(crate) type Pins<'a> = crate::core::cut::Pins<'a, LazyTensor>;

/// A tensor that exists.
pub(crate) struct Leaf<'a> {
    pub(crate) tensor: &'a Tensor,
    /// What a device keeps with it.
    pub(crate) kept: Option<&'a Arc<Kept>>,
    /// Whether it was handed in, as parameters are, and was not made from host data for this graph.
    pub(crate) handed_in: bool,
    /// The tensor's bytes that count against the queue's bound: all of it if it was made from host data for
    /// this graph, else 0.
    pub(crate) host_bytes: u64,
}

impl<'a> Leaf<'a> {
    /// The leaf that a node stands for; the node is one that exists.
    pub(crate) fn of(node: &'a Node) -> Self {
        let Made::Leaf { tensor, host, kept } = &node.made else {
            unreachable!("a cut tells only of nodes that exist")
        };
        let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
        Self {
            tensor,
            kept: kept.as_ref(),
            handed_in: !host,
            host_bytes: if *host { bytes as u64 } else { 0 },
        }
    }

    /// A leaf for which there is no node: an argument of a compiled function that was given as a `Tensor`.
    pub(crate) fn bare(tensor: &'a Tensor) -> Self {
        Self {
            tensor,
            kept: None,
            handed_in: false,
            host_bytes: 0,
        }
    }
}

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
