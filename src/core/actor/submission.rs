//! What a submitter gets: interest in the results of its outputs, to be waited for.

use super::SlotOf;
use super::engine::Engine;
use super::lender::Lender;
use super::park::block_on;
use super::shared::Core;
use crate::core::panics::drop_all;
use crate::core::store::slot::{Cancel, Share};
use crate::core::store::task::Task;
use crate::core::store::waiters::{Key, Woken};
use crate::core::sync::Ordering::Relaxed;
use crate::core::sync::{Arc, AtomicUsize, Deadline, looks, thread};
use smallvec::SmallVec;
use std::future::poll_fn;
use std::task::{Context, Poll};

/// How long a waiter looks before it sleeps, when another thread drives.
const SPINS: usize = looks(40, 1);

/// Slots in which one submission has interest.
pub type Outputs<E> = SmallVec<[SlotOf<E>; 1]>;

/// Interest in one or more results. Shared by all copies of one handle.
pub struct Submission<E: Engine> {
    core: Arc<Core<E>>,
    outputs: Outputs<E>,
    /// Of its claims; 0 if it made none.
    number: u64,
    cancelled: AtomicUsize,
}

/// One wait for a submission. To be given back with [`Submission::deregister`].
#[derive(Debug, Default)]
pub struct Wait {
    /// Outputs before this one have ended.
    at: usize,
    key: Option<Key>,
}

impl<E: Engine> Submission<E> {
    /// Takes over the interest in `outputs`.
    pub fn new(core: Arc<Core<E>>, outputs: Outputs<E>, number: u64) -> Self {
        Self {
            core,
            outputs,
            number,
            cancelled: AtomicUsize::new(0),
        }
    }

    /// The results, in the order of the request.
    pub fn outputs(&self) -> &[SlotOf<E>] {
        &self.outputs
    }

    /// The executor.
    pub fn core(&self) -> &Arc<Core<E>> {
        &self.core
    }

    /// Whether every output has ended. If not, a thread is bound to end it.
    pub fn is_finished(&self) -> bool {
        self.outputs.iter().all(|output| output.is_finished())
    }

    /// Ready when every output has ended.
    pub fn poll(&self, cx: &Context<'_>, wait: &mut Wait) -> Poll<()> {
        while let Some(output) = self.outputs.get(wait.at) {
            if output.poll(cx, &mut wait.key).is_pending() {
                return Poll::Pending;
            }
            self.deregister(wait);
            wait.at += 1;
        }
        Poll::Ready(())
    }

    /// Takes a wait back.
    pub fn deregister(&self, wait: &mut Wait) {
        if let Some(key) = wait.key.take() {
            self.outputs[wait.at].deregister(key);
        }
    }

    /// Blocks until every output has ended, running the queue itself where that is allowed and no other
    /// thread does. `false` says that the deadline was first.
    pub fn wait(&self, until: Option<&Deadline>) -> bool {
        for _ in 0..SPINS {
            if self.is_finished() {
                return true;
            }
            self.lend(until);
            thread::spin_loop();
        }
        self.sleep(until)
    }

    /// Blocks until every output has ended, and runs nothing meanwhile.
    pub fn sleep(&self, until: Option<&Deadline>) -> bool {
        let mut wait = Wait::default();
        let done = block_on(poll_fn(|cx| self.poll(cx, &mut wait)), until);
        self.deregister(&mut wait);
        done.is_some()
    }

    /// Drives for the sake of this submission, if nobody drives and something is queued.
    fn lend(&self, until: Option<&Deadline>) {
        self.driven(until, false, |core, lender| core.lend(lender));
    }

    /// Runs `f` with what makes this thread a lender for this submission; `alone`, of nothing else.
    pub(super) fn driven<R>(
        &self,
        until: Option<&Deadline>,
        alone: bool,
        f: impl FnOnce(&Core<E>, &Lender<'_, E::Kind>) -> R,
    ) -> R {
        let own = |task: &Task<E::Kind>| self.computes(task);
        let lender = Lender {
            done: &|| self.is_finished(),
            own: &own,
            until,
            alone,
        };
        f(&self.core, &lender)
    }

    /// Whether a task is what this submission sent.
    fn computes(&self, task: &Task<E::Kind>) -> bool {
        let mut own = self.outputs.iter().filter(|slot| self.has_claimed(slot));
        own.any(|slot| std::ptr::eq(&**slot.task(), task))
    }

    fn has_claimed(&self, slot: &SlotOf<E>) -> bool {
        slot.number() == self.number
    }

    /// Withdraws the submission: what no other one wants and has not begun is not run.
    pub fn cancel(&self) -> Cancel {
        // ORDERING: Relaxed; only the first may withdraw the interest, no data travels.
        if self.cancelled.swap(1, Relaxed) != 0 {
            let has_begun = |output: &SlotOf<E>| !output.is_finished() && output.has_begun();
            return match self.is_finished() {
                true => Cancel::Finished,
                false if self.outputs.iter().any(has_begun) => Cancel::Running,
                false => Cancel::Shared,
            };
        }
        // Wakers and payloads are foreign code, which may drive the executor: after the last output. A payload may
        // panic when it is dropped, or wait for those who wait: after the last waker.
        let mut woken: SmallVec<[_; 1]> = SmallVec::new();
        let mut unwanted: SmallVec<[_; 1]> = SmallVec::new();
        let mut sum = Cancel::Finished;
        for output in &self.outputs {
            let (cancel, waiters) = output.withdraw(self.has_claimed(output));
            if cancel == Cancel::Cancelled {
                woken.push(waiters);
                unwanted.extend(output.task().output_gone());
            }
            sum = match (sum, cancel) {
                (_, Cancel::Running) | (Cancel::Running, _) => Cancel::Running,
                (_, Cancel::Shared) | (Cancel::Shared, _) => Cancel::Shared,
                (_, Cancel::Cancelled) | (Cancel::Cancelled, _) => Cancel::Cancelled,
                (Cancel::Finished, Cancel::Finished) => Cancel::Finished,
            };
        }
        woken.into_iter().for_each(Woken::wake);
        drop_all(unwanted);
        sum
    }
}

impl<E: Engine> Drop for Submission<E> {
    fn drop(&mut self) {
        // ORDERING: Relaxed; by unique access, all calls of `cancel` were before.
        let interested = self.cancelled.load(Relaxed) == 0;
        // foreign code, which may panic: after the last output
        let mut unwanted: SmallVec<[_; 1]> = SmallVec::new();
        for output in &self.outputs {
            let share = match interested {
                true if self.has_claimed(output) => Share::Claim,
                true => Share::Interest,
                false => Share::Node,
            };
            unwanted.extend(self.core.store().release(output, share));
        }
        drop_all(unwanted);
    }
}
