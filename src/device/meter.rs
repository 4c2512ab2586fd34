//! What a runner keeps and does, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what a runner keeps and does, for anybody to read.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Bytes of the results that are kept.
    bytes: AtomicU64,
    /// Batches of several fragments, and fragments in them.
    batches: AtomicU64,
    batched: AtomicU64,
    /// Bytes that were copied to bring rows together.
    moved: AtomicU64,
    /// Bytes of what was made of weights, and of buffers that nobody uses.
    packed: AtomicU64,
    pooled: AtomicU64,
}

/// Bytes of what was made of a weight, until this is dropped.
#[derive(Debug)]
pub(super) struct Packing {
    meter: Arc<Meter>,
    bytes: u64,
}

impl Packing {
    /// Counts `bytes` bytes that were made of a weight.
    pub(super) fn new(meter: &Arc<Meter>, bytes: usize) -> Self {
        let (meter, bytes) = (meter.clone(), bytes as u64);
        // ORDERING: Relaxed; a statistic.
        meter.packed.fetch_add(bytes, Ordering::Relaxed);
        Self { meter, bytes }
    }
}

impl Drop for Packing {
    fn drop(&mut self) {
        // ORDERING: Relaxed; a statistic.
        self.meter.packed.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A copy of a meter's counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) bytes: u64,
    pub(crate) batches: u64,
    pub(crate) batched: u64,
    pub(crate) moved: u64,
    pub(crate) packed: u64,
    pub(crate) pooled: u64,
}

impl Meter {
    /// What has been counted.
    pub(crate) fn counts(&self) -> Counts {
        // ORDERING: Relaxed; statistics.
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            bytes: get(&self.bytes),
            batches: get(&self.batches),
            batched: get(&self.batched),
            moved: get(&self.moved),
            packed: get(&self.packed),
            pooled: get(&self.pooled),
        }
    }

    /// A result of this size is kept.
    pub(super) fn keep(&self, bytes: u64) {
        // ORDERING: Relaxed; a statistic.
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A result of this size is not kept any more.
    pub(super) fn free(&self, bytes: u64) {
        // ORDERING: Relaxed; a statistic.
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// From now on `bytes` bytes of buffers are kept for later.
    pub(super) fn set_pooled(&self, bytes: usize) {
        // ORDERING: Relaxed; a statistic.
        self.pooled.store(bytes as u64, Ordering::Relaxed);
    }

    /// Several fragments ran as one.
    pub(super) fn count_batch(&self, fragments: usize) {
        // ORDERING: Relaxed; statistics.
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.batched.fetch_add(fragments as u64, Ordering::Relaxed);
    }

    /// `bytes` bytes were copied for a batch.
    pub(super) fn count_moved(&self, bytes: usize) {
        // ORDERING: Relaxed; a statistic.
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
