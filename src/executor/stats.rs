//! What an executor has done, and how it is.

use super::{Executor, Inner};
use crate::error::Error;

/// Figures, not all of the same moment. Each is exact by itself, but for `live_nodes` while other threads
/// submit: the nodes are counted one shard of their map after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Fragments in the queue.
    pub queued: usize,
    /// Bytes of host data in the queue.
    pub queued_bytes: u64,
    /// Fragments that were run, failed ones included.
    pub fragments_run: u64,
    /// Fragments with an output that failed.
    pub fragments_failed: u64,
    /// Fragments that were withdrawn before they began.
    pub fragments_cancelled: u64,
    /// Fragments that had not begun by their deadline.
    pub fragments_expired: u64,
    /// Times that a thread other than the owner's drove the device, whether or not it found something to do:
    /// in [`Executor::run`], in a poll of [`Executor::run_async`], or in
    /// [`Handle::wait`](crate::Handle::wait). See "Who runs" in `docs/concurrency.md`.
    pub lent: u64,
    /// Tickets that were taken for batches, on a device that goes on when it returns. At most three are in
    /// flight at a time. Those of fragments that were issued again do not count.
    pub tickets: u64,
    /// Fragments that were issued again, each by itself, because the device reported an error late.
    pub fragments_reissued: u64,
    /// Nodes that a fragment computed although another submission had claimed them at about the same time, and
    /// computes them too: a rare race of submissions of several outputs that overlap. See "Claims" in
    /// `docs/concurrency.md`.
    pub nodes_recomputed: u64,
    /// Batches: several fragments that ran as one.
    pub batches: u64,
    /// Fragments that ran in batches.
    pub fragments_batched: u64,
    /// Bytes that were copied to bring the rows of a batch together, and its results apart.
    pub batch_bytes_moved: u64,
    /// Plans that were made: submissions of a new structure.
    pub plans_made: u64,
    /// Plans that are kept for the next submission of the same structure.
    pub plans_kept: usize,
    /// Submitted nodes to which a tensor, a handle or a fragment refers.
    pub live_nodes: usize,
    /// Bytes of the results of such nodes.
    pub live_bytes: u64,
    /// Bytes of buffers that no result uses and that are kept for the next: at most
    /// [`Builder::pool_bytes`](crate::Builder::pool_bytes).
    pub pool_bytes: u64,
    /// Bytes of what this executor made of weights and keeps with them: see
    /// [`Builder::pack_weights`](crate::Builder::pack_weights). They go with the weights.
    pub packed_bytes: u64,
}

/// How an executor is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Health {
    /// It takes work.
    Running,
    /// It refuses new work and is finishing what is queued.
    Closing,
    /// It has closed.
    Closed,
    /// Its device is lost or its owner panicked: every handle gets this error.
    Lost(Error),
}

impl Executor {
    /// The figures of this moment; cheap, from any thread.
    pub fn stats(&self) -> Stats {
        let Inner { home, meter, .. } = &*self.0;
        let core = &home.core;
        let counts = core.counts();
        let done = meter.counts();
        let (plans_made, plans_kept) = home.planner.counts();
        Stats {
            queued: core.gate().admission.queued(),
            queued_bytes: core.gate().admission.queued_bytes(),
            fragments_run: counts.run,
            fragments_failed: counts.failed,
            fragments_cancelled: counts.cancelled,
            fragments_expired: counts.expired,
            plans_made,
            plans_kept,
            lent: counts.lent,
            tickets: counts.tickets,
            fragments_reissued: counts.reissued,
            nodes_recomputed: core.store().recomputed(),
            live_nodes: core.store().nodes(),
            live_bytes: done.bytes,
            pool_bytes: done.pooled,
            packed_bytes: done.packed,
            batches: done.batches,
            fragments_batched: done.batched,
            batch_bytes_moved: done.moved,
        }
    }

    /// How the executor is.
    pub fn health(&self) -> Health {
        let core = &self.0.home.core;
        // before the reason: a loss comes before what it closes
        let (done, closed) = (core.is_done(), core.gate().admission.is_closed());
        match core.lost() {
            Some(error) => Health::Lost(error),
            None if done => Health::Closed,
            None if closed => Health::Closing,
            None => Health::Running,
        }
    }
}
