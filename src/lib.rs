//! candlewick
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(all(any(candlewick_loom, candlewick_shuttle, candlewick_tsan), not(candlewick_core)))]
compile_error!("a scheduler needs --cfg candlewick_core beside it: Candle cannot run under it");

#[cfg(not(candlewick_core))]
mod error;
mod graph;
#[cfg(not(candlewick_core))]
mod plan;
#[cfg(not(candlewick_core))]
pub mod device;
#[cfg(not(candlewick_core))]
mod executor;
#[cfg(not(candlewick_core))]
mod habit;
#[cfg(not(candlewick_core))]
mod handle;
#[cfg(not(candlewick_core))]
mod request;

// The concurrency core. Public only where it is built alone, for the checkers.
#[cfg(candlewick_core)]
#[allow(missing_docs)]
pub mod actor;
#[cfg(not(candlewick_core))]
#[allow(unreachable_pub, dead_code)]
mod actor;
#[cfg(candlewick_core)]
pub mod store;
#[cfg(not(candlewick_core))]
#[allow(unreachable_pub, dead_code)]
mod store;
#[cfg(candlewick_core)]
pub mod sync;
#[cfg(not(candlewick_core))]
#[allow(unreachable_pub, dead_code)]
mod sync;

#[cfg(not(candlewick_core))]
pub use candle_core::{D, DType, Device, IndexOp, Shape, Tensor};
#[cfg(not(candlewick_core))]
pub use error::{BuildError, Cause, Error, Failure, Invalid, ParamsError, Reason, Result};
#[cfg(not(candlewick_core))]
pub use executor::{Builder, Executor, Health, Stats};
#[cfg(not(candlewick_core))]
pub use graph::{Indexer, IntoIndexers, LazyTensor, ShapeWithOneHole, TensorOrScalar};
#[cfg(not(candlewick_core))]
pub use handle::{Cancel, Handle, Outputs, Results};
