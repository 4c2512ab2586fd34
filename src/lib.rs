//! candlewick
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(all(
    any(candlewick_loom, candlewick_shuttle, candlewick_tsan),
    not(candlewick_core)
))]
compile_error!("a scheduler needs --cfg candlewick_core beside it: Candle cannot run under it");

// The concurrency core knows no tensors. Under `candlewick_core` it is all there is, and public,
// for the model checkers in `loom-tests`; otherwise it is private.
#[cfg(candlewick_core)]
pub mod actor;
#[cfg(candlewick_core)]
pub mod origin;
#[cfg(candlewick_core)]
pub mod store;
#[cfg(candlewick_core)]
pub mod sync;

#[cfg(not(candlewick_core))]
#[allow(unreachable_pub, dead_code)] // public where the core is built alone
mod actor;
#[cfg(not(candlewick_core))]
#[allow(unreachable_pub, dead_code)]
mod origin;
#[cfg(not(candlewick_core))]
#[allow(unreachable_pub, dead_code)]
mod store;
#[cfg(not(candlewick_core))]
#[allow(unreachable_pub, dead_code)]
mod sync;

#[cfg(not(candlewick_core))]
pub mod device;
#[cfg(not(candlewick_core))]
mod error;
#[cfg(not(candlewick_core))]
mod executor;
#[cfg(not(candlewick_core))]
mod graph;
#[cfg(not(candlewick_core))]
mod habit;
#[cfg(not(candlewick_core))]
mod handle;
#[cfg(not(candlewick_core))]
mod params;
#[cfg(not(candlewick_core))]
mod plan;
#[cfg(not(candlewick_core))]
mod request;

#[cfg(not(candlewick_core))]
pub use self::{
    error::{BuildError, Cause, Error, Failure, Invalid, ParamsError, Reason, Result},
    executor::{Builder, Executor, Health, Stats},
    graph::{Indexer, IntoIndexers, LazyTensor, ShapeWithOneHole, TensorOrScalar},
    handle::{Cancel, Handle, Outputs, Results},
    params::{Params, Snapshot},
};
#[cfg(not(candlewick_core))]
pub use candle_core::{D, DType, Device, Shape, Tensor};
