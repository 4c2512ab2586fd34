//! *When*: admission to the queue, the launch of a submission, the turn to drive the device, and the
//! owner's loop.
//!
//! No tensors in here: the device side is an [`engine::Engine`], so that loom runs this code
//! unmodified and without Candle. `docs/concurrency.md` has the protocols.

pub mod admission;
pub mod admit;
pub mod crew;
pub mod driving;
pub mod engine;
pub mod event;
pub mod flight;
pub mod gate;
pub mod gather;
pub mod launch;
pub mod lender;
pub mod line;
pub mod owner;
pub mod park;
pub mod shared;
pub mod submission;
pub mod turn;

/// A slot of an engine's results.
pub type SlotOf<E> =
    crate::core::sync::Arc<crate::core::store::slot::Slot<<E as engine::Engine>::Kind>>;
