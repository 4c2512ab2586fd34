//! *Where results live*: a slot for each result, and the map that finds it.
//!
//! No tensors in here: the types are parameters ([`Kind`]), so that loom runs this code
//! unmodified and without Candle.

pub mod begun;
pub mod node_store;
pub mod slot;
pub mod tag;
pub mod task;
pub mod waiters;
mod word;

use std::any::Any;

/// The types that flow through one executor.
pub trait Kind: Sized + Send + Sync + 'static {
    /// What a fragment asks the owner to do.
    type Work: Send + 'static;
    /// A result.
    type Value: Send + Sync + 'static;
    /// Why there is none; shared by all who asked.
    type Error: Clone + Send + Sync + 'static;

    /// An output of the work will not begin, although others will: a later submission may have it
    /// computed anew, so the work leaves it alone.
    fn given_up(work: &mut Self::Work, output: usize);

    /// The error of a fragment whose work panicked.
    fn panicked(panic: Box<dyn Any + Send>) -> Self::Error;
    /// The error of an executor whose owner panicked outside of any work.
    fn owner_panicked(panic: Box<dyn Any + Send>) -> Self::Error;
    /// The error of work that the owner took on and, because it failed itself, never ended.
    fn abandoned() -> Self::Error;
    /// The error of a node whose submitter claimed it and then panicked before it sent the work.
    fn never_sent() -> Self::Error;
    /// The error of a device of which a ticket did not end within its limit.
    fn overdue() -> Self::Error;
}

/// Identifies a node for the life of the process. Never reused.
pub type NodeId = u64;
