//! *When*: admission to the queue, the turn to drive the device, and the owner's loop.
//!
//! No tensors in here: the device side is an [`engine::Engine`], so that loom runs this code
//! unmodified and without Candle. `docs/concurrency.md` has the protocols.

pub mod admission;
pub mod claim;
pub mod core;
pub mod crew;
pub mod engine;
pub mod event;
pub mod line;
pub mod owner;
pub mod park;
pub mod submission;
pub mod turn;
