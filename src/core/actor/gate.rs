//! What every submitter and waiter of an executor shares with its owner, whatever the engine: the
//! queue's bound, the turn and the counters; and the permit, a place in the queue.

use super::admission::{Admission, Refused, Weight};
use super::turn::Turn;
use crate::core::sync::Ordering::{Acquire, Relaxed, Release};
use crate::core::sync::{Arc, AtomicU64, AtomicUsize, Mutex, looks};
use std::fmt;

/// A small queue is as quick to free the places of what is cancelled as this large one.
const FEW_HUSKS: usize = looks(1024, 1);

/// The queue's bound, the turn and the counters.
pub struct Gate {
    /// Who may queue.
    pub admission: Admission,
    /// Who drives.
    pub turn: Turn,
    /// Messages in the channel whose permit came back when their work was withdrawn: at most
    /// [`Gate::husks`].
    husks: AtomicUsize,
    /// What has been done.
    pub counters: Counters,
    /// The executors for which the thread that drives this one waits, one for each wait: see `driving.rs`.
    pub(super) waits_for: Mutex<Vec<Arc<Gate>>>,
}

/// What has been done, for any thread to read. But for `cancelled` and `expired`, only the holder of the
/// turn writes.
#[derive(Debug, Default)]
pub struct Counters {
    /// Fragments that were run, failed ones included.
    pub run: AtomicU64,
    /// Fragments with an output that failed.
    pub failed: AtomicU64,
    /// Fragments that were withdrawn before they began.
    pub cancelled: AtomicU64,
    /// Fragments whose deadline passed before they began.
    pub expired: AtomicU64,
    /// Times that a caller borrowed the turn.
    pub lent: AtomicU64,
    /// Batches that were issued to a device that is not done when it returns.
    pub tickets: AtomicU64,
    /// Fragments that were issued again after a late error.
    pub reissued: AtomicU64,
}

impl Counters {
    /// One more, of what any thread counts.
    fn add(counter: &AtomicU64) {
        // ORDERING: Relaxed; a statistic.
        counter.fetch_add(1, Relaxed);
    }

    /// One more, of what only the holder of the turn counts.
    pub(super) fn add_driving(counter: &AtomicU64) {
        // ORDERING: Relaxed; a statistic. There is one writer at a time, and the turn orders them.
        counter.store(counter.load(Relaxed) + 1, Relaxed);
    }
}

impl Gate {
    /// A gate for a queue of `fragments` fragments and `bytes` bytes, before which nothing waits.
    pub fn new(fragments: usize, bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            admission: Admission::new(fragments, bytes),
            turn: Turn::new(),
            husks: AtomicUsize::new(0),
            counters: Counters::default(),
            waits_for: Mutex::new(Vec::new()),
        })
    }

    /// How many messages may stay in the channel after their permit has come back: as many as there are
    /// permits, and some more where that is few. Each has a place in the channel beside the permits'.
    pub(super) fn husks(&self) -> usize {
        self.admission.fragments().max(FEW_HUSKS)
    }

    /// A permit for a fragment with `bytes` of host data, if there is room now.
    pub fn try_admit(this: &Arc<Self>, bytes: u64) -> Result<Permit, Refused> {
        let weight = Weight(bytes);
        match this.admission.try_acquire(weight) {
            Err(Refused::Full) if this.lapse() => this.admission.try_acquire(weight)?,
            other => other?,
        }
        Ok(Self::permit(this, weight))
    }

    /// Takes permits away that were granted and not come for: see [`Admission::lapse`].
    pub(super) fn lapse(&self) -> bool {
        let lapsed = self.admission.lapse();
        if lapsed == Some(true) {
            self.turn.call();
        }
        lapsed.is_some()
    }

    /// For the owner: a message without a permit has left the channel.
    pub(super) fn husk_received(&self) {
        // ORDERING: Release, with the Acquire of `leave_husk`.
        self.husks.fetch_sub(1, Release);
    }

    /// The permit that stands for what was just acquired.
    pub(super) fn permit(this: &Arc<Self>, weight: Weight) -> Permit {
        Permit {
            gate: this.clone(),
            weight,
        }
    }
}

/// Room in the queue for one fragment. Dropped, it is given back.
#[must_use]
pub struct Permit {
    gate: Arc<Gate>,
    weight: Weight,
}

impl Permit {
    /// The work will not be done: it was withdrawn.
    pub fn withdraw(self) {
        Counters::add(&self.gate.counters.cancelled);
    }

    /// The work will not be done: its deadline has passed.
    pub fn expire(self) {
        Counters::add(&self.gate.counters.expired);
    }

    /// Before the permit goes while its message stays in the channel: whether the channel has a place for
    /// that. If not, the permit is to stay with the message.
    #[must_use]
    pub fn leave_husk(&self) -> bool {
        let most = self.gate.husks();
        // ORDERING: Acquire, with the Release of `husk_received`: the places that it freed are free for
        // the caller, and by the permit's way back for the submitter who gets it next.
        let left = self.gate.husks.fetch_update(Acquire, Relaxed, |husks| {
            (husks < most).then_some(husks + 1)
        });
        left.is_ok()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.gate.admission.release(self.weight) {
            self.gate.turn.call();
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.weight).finish()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("admission", &self.admission)
            .field("turn", &self.turn)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
