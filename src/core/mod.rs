//! *When*, and *where results live*: the concurrency of an executor, without tensors.
//!
//! `loom-tests` includes this folder by its path and runs it unmodified under loom, shuttle and
//! ThreadSanitizer; there the primitives of [`sync`] are the scheduler's. So nothing in here may use the
//! rest of the library. `docs/concurrency.md` has the protocols and what is proved of them.

pub mod actor;
pub mod cut;
pub mod origin;
pub mod panics;
pub mod store;
pub mod sync;
pub mod versions;
