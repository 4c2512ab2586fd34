//! *What* to compute: immutable graphs of lazy tensors. No threads, no device.

pub(crate) mod origin;

#[cfg(not(candlewick_core))]
pub(crate) mod fragment;
#[cfg(not(candlewick_core))]
mod node;
#[cfg(not(candlewick_core))]
mod op;

// The methods of `LazyTensor`.
#[cfg(not(candlewick_core))]
mod binary;
#[cfg(not(candlewick_core))]
mod conv;
#[cfg(not(candlewick_core))]
mod create;
#[cfg(not(candlewick_core))]
mod custom;
#[cfg(not(candlewick_core))]
mod index;
#[cfg(not(candlewick_core))]
mod infer;
#[cfg(not(candlewick_core))]
mod matmul;
#[cfg(not(candlewick_core))]
mod operators;
#[cfg(not(candlewick_core))]
mod reduce;
#[cfg(not(candlewick_core))]
mod shape;
#[cfg(not(candlewick_core))]
mod shape_ops;
#[cfg(not(candlewick_core))]
mod unary;

#[cfg(not(candlewick_core))]
pub use binary::TensorOrScalar;
#[cfg(not(candlewick_core))]
pub use index::{Indexer, IntoIndexers};
#[cfg(not(candlewick_core))]
pub use node::LazyTensor;
#[cfg(not(candlewick_core))]
pub use shape::ShapeWithOneHole;
#[cfg(not(candlewick_core))]
pub(crate) use node::{Dims, Expr, Home, Inputs, Node, NodeId};
#[cfg(not(candlewick_core))]
pub(crate) use op::{BinaryOp, CompareOp, Conv, Op, ReduceOp, UnaryOp};
