//! *What* to compute: immutable graphs of lazy tensors. No threads, no device.

pub(crate) mod cut;
pub(crate) mod encode;
pub(crate) mod fragment;
mod kept;
pub(crate) mod leaf;
mod node;
mod op;
mod recycle;

// The methods of `LazyTensor`.
mod attention;
mod binary;
mod conv;
mod create;
mod custom;
mod index;
mod infer;
mod matmul;
mod operators;
mod reduce;
#[cfg(test)]
mod refusals_tests;
mod shape;
mod shape_ops;
mod unary;

pub use binary::TensorOrScalar;
pub use index::{Indexer, IntoIndexers};
pub(crate) use infer::fits;
pub(crate) use kept::Kept;
pub use node::LazyTensor;
pub(crate) use node::{Dims, Home, Node, NodeId, next_id};
pub(crate) use op::{BinaryOp, CompareOp, Conv, Op, ReduceOp, UnaryOp};
pub use shape::ShapeWithOneHole;
