//! Many threads build lazy tensor graphs as if each were alone; one owner runs them on one Candle
//! device.
//!
//! # A graph
//!
//! A [`LazyTensor`] has the methods of [`Tensor`] and of `candle_nn::ops`. They check shapes,
//! dtypes and devices and return at once: nothing is computed.
//!
//! ```
//! use candlewick::{D, Device, LazyTensor, Tensor};
//! let w = LazyTensor::from(Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?);
//! let x = LazyTensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
//! let y = x.matmul(&w)?.gelu()?.softmax(D::Minus1)?;
//! assert_eq!(y.dims(), [1, 2]);
//! let error = x.matmul(&x).unwrap_err();
//! assert!(error.to_string().starts_with("matmul([1, 2] f32, [1, 2] f32)"), "{error}");
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # An executor
//!
//! An [`Executor`] runs graphs, for any number of threads and tasks. What is submitted is kept on
//! the device while anyone refers to it, and never computed twice; what lies between is not kept.
//!
//! ```
//! use candlewick::{Device, Executor, LazyTensor};
//! let executor = Executor::new(&Device::Cpu)?;
//! let x = LazyTensor::new(&[1f32, 2.0, 3.0], &Device::Cpu)?;
//! let y = x.sqr()?;
//! let handle = executor.submit(&y)?;
//! let z = (&y + 1.0)?; // uses the result of y, also before it is there
//! assert_eq!(executor.submit(&z)?.wait()?.to_vec1::<f32>()?, [2.0, 5.0, 10.0]);
//! assert_eq!(handle.wait()?.to_vec1::<f32>()?, [1.0, 4.0, 9.0]);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Compiled functions
//!
//! [`Executor::compile`] takes a function of lazy tensors. It is traced once for the shapes, dtypes
//! and devices that it is given; a call builds no graph and plans nothing.
//!
//! ```
//! use candlewick::{Device, Executor, LazyTensor, Tensor};
//! let executor = Executor::new(&Device::Cpu)?;
//! let norm = executor.compile(|x: &LazyTensor| x.sqr()?.sum_all()?.sqrt());
//! for data in [[3f32, 4.0], [6.0, 8.0]] {
//!     let x = Tensor::new(&data, &Device::Cpu)?;
//!     assert_eq!(norm.submit(&[x])?.wait()?.to_scalar::<f32>()?, data[0] / 3.0 * 5.0);
//! }
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Handles
//!
//! A [`Handle`] is a future on any runtime; off any runtime there are [`Handle::wait`] and
//! [`Handle::wait_timeout`]. Every handle resolves, whatever fails. Dropping all handles and tensors
//! that could observe a result withdraws work that has not begun.
//!
//! # Back-pressure
//!
//! The queue is bounded ([`Builder::queue_capacity`], [`Builder::queue_bytes`]).
//! [`Executor::submit`] waits for room, [`Executor::submit_async`] awaits it,
//! [`Executor::try_submit`] returns [`Error::QueueFull`].
//!
//! # Failure
//!
//! An error or a panic in an operation fails the outputs that depend on it, with its first cause
//! ([`Error::failure`]), and nothing else. If the device is lost or the owner itself panics, every
//! handle gets [`Error::OwnerLost`], and [`Executor::health`] tells.
//!
//! # Parameters
//!
//! [`Params`] is a named set of weights that is replaced while requests run; each request sees one
//! version, whole.
//!
//! # Models
//!
//! [`nn`] has layers with `candle_nn`'s names and parameter layouts over a version of parameters,
//! [`models`] whole models from the files that they are published in.
//!
//! # Inside
//!
//! `docs/architecture.md` has the map, `docs/concurrency.md` the protocols and what is proved of
//! them, `docs/performance.md` the measurements.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(all(any(candlewick_loom, candlewick_shuttle), not(candlewick_core)))]
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
#[cfg(candlewick_core)]
pub mod versions;

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
#[allow(unreachable_pub, dead_code)]
mod versions;

#[cfg(not(candlewick_core))]
mod compiled;
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
pub mod models;
#[cfg(not(candlewick_core))]
pub mod nn;
#[cfg(not(candlewick_core))]
mod outputs;
#[cfg(not(candlewick_core))]
mod params;
#[cfg(not(candlewick_core))]
mod plan;
#[cfg(not(candlewick_core))]
mod request;
#[cfg(not(candlewick_core))]
mod submit;
#[cfg(not(candlewick_core))]
mod vmap;

#[cfg(not(candlewick_core))]
pub use self::{
    compiled::{Argument, Compiled, Function},
    device::room::Batching,
    error::{BuildError, Cause, ConfigError, Error, Failure, Invalid, ParamsError, Reason, Result},
    executor::{Builder, Executor, Health, Stats, SubmitAsync},
    graph::{Indexer, IntoIndexers, LazyTensor, ShapeWithOneHole, TensorOrScalar},
    handle::{Cancel, Handle},
    outputs::{Outputs, Results},
    params::{Adapters, Loader, Params, Progress, QuantizedParams, Snapshot},
    plan::{Explanation, Passes},
    store::tag::Priority,
    submit::{Session, Submit},
    vmap::Vmap,
};
#[cfg(not(candlewick_core))]
pub use candle_core::{D, DType, Device, Shape, Tensor};

/// The README's example is tested.
#[cfg(all(doctest, not(candlewick_core)))]
#[doc = include_str!("../README.md")]
struct Readme;

/// So is what the guide for porting says.
#[cfg(all(doctest, not(candlewick_core)))]
#[doc = include_str!("../docs/porting.md")]
struct Porting;
