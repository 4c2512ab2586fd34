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
//! An [`Executor`] runs graphs, for any number of threads and tasks. [`Executor::run`] and
//! [`Executor::run_async`] are for a result at once: where the device allows it and is idle, the caller drives
//! it itself. [`Executor::submit`] leaves the work to the owner and returns a handle. What is submitted is
//! kept on the device while anyone refers to it, and whoever else submits it or uses it gets that result: it is
//! computed once. (In a rare race of submissions that overlap, a node is also computed inside another
//! fragment: [`Stats::nodes_recomputed`].) What lies between is not kept.
//!
//! ```
//! use candlewick::{Device, Executor, LazyTensor};
//! let executor = Executor::new(&Device::Cpu)?;
//! let x = LazyTensor::new(&[1f32, 2.0, 3.0], &Device::Cpu)?;
//! let y = x.sqr()?;
//! let handle = executor.submit(&y)?;
//! let z = (&y + 1.0)?; // uses the result of y, also before it is there
//! assert_eq!(executor.run(&z)?.to_vec1::<f32>()?, [2.0, 5.0, 10.0]);
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
//!     assert_eq!(norm.run(&[x])?.to_scalar::<f32>()?, data[0] / 3.0 * 5.0);
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

#[allow(unreachable_pub, dead_code)] // public where `loom-tests` builds it alone
mod core;

mod compiled;
pub mod device;
mod error;
mod executor;
mod graph;
mod handle;
pub mod models;
pub mod nn;
mod outputs;
mod params;
mod pending;
mod plan;
mod request;
mod submit;
mod vmap;

pub use self::{
    compiled::{Argument, Compiled, Function},
    core::store::tag::Priority,
    device::room::Batching,
    error::{BuildError, Cause, ConfigError, Error, Failure, Invalid, ParamsError, Reason, Result},
    executor::{Builder, Executor, Health, RunAsync, Stats, SubmitAsync},
    graph::{Indexer, IntoIndexers, LazyTensor, ShapeWithOneHole, TensorOrScalar},
    handle::{Cancel, Handle},
    outputs::{Outputs, Results},
    params::{Adapters, Loader, Params, Progress, QuantizedParams, Snapshot},
    plan::{Explanation, Passes},
    submit::{Session, Submit},
    vmap::Vmap,
};
pub use candle_core::{D, DType, Device, Shape, Tensor};

/// The README's example is tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So is what the guide for porting says.
#[cfg(doctest)]
#[doc = include_str!("../docs/porting.md")]
struct Porting;
