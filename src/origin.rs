//! Where a node comes from, until its result exists.
//!
//! A node that has been submitted no longer needs what it is made from: its result is kept
//! instead. Forgetting the origin is what lets a long chain of submitted states (each made
//! from the one before) give back the memory of the old ones.
//!
//! The owner forgets the origin only after the node's slot has begun to run; from then on the
//! slot can no longer be given up. A slot that was given up keeps its node's origin, also when
//! others of the same fragment run. So a reader that finds no origin is certain to find the
//! slot: see `docs/concurrency.md`, "Cutting".

use crate::sync::RwLock;

/// A value that many may read until one takes it away.
#[derive(Debug)]
pub struct Origin<T>(RwLock<Option<T>>);

impl<T> Origin<T> {
    /// An origin that is still known.
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Some(value)))
    }

    /// Looks at the origin; `None` if it has been forgotten.
    pub fn read<R>(&self, f: impl FnOnce(&T) -> R) -> Option<R> {
        self.0.read().as_ref().map(f)
    }

    /// Forgets the origin. The caller drops it, outside of the lock.
    #[must_use]
    pub fn forget(&self) -> Option<T> {
        self.0.write().take()
    }

    /// The same by unique access.
    pub fn forget_mut(&mut self) -> Option<T> {
        self.0.get_mut().take()
    }
}
