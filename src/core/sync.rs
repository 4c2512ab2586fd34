//! The one file that names a concurrency primitive: three builds, one API.
//!
//! | | shipped | `candlewick_loom` | `candlewick_shuttle` |
//! |---|---|---|---|
//! | atomics, `fence`, `Mutex`, `Condvar`, `Arc`, threads | std | loom | shuttle |
//! | `UnsafeCell` | std behind `with` | loom, race-checked, being freed included | std behind `with` |
//! | channel | crossbeam-channel | `model` | `model` |
//! | map | DashMap | `model` | `model` |
//! | swap | ArcSwap | `model` | `model` |
//!
//! No other file of the concurrency core names `std::sync`.

#[cfg(not(any(candlewick_loom, candlewick_shuttle)))]
mod real;
#[cfg(not(any(candlewick_loom, candlewick_shuttle)))]
pub use real::*;

#[cfg(any(candlewick_loom, candlewick_shuttle))]
mod mocked;
#[cfg(any(candlewick_loom, candlewick_shuttle))]
pub use mocked::*;

#[cfg(any(candlewick_loom, candlewick_shuttle))]
pub mod model;

pub use std::sync::atomic::Ordering;
