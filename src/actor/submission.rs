//! What a submitter gets: interest in the results of its outputs, to be waited for.

use super::core::Core;
use super::engine::Engine;
use super::park::block_on;
use crate::store::slot::{Cancel, Slot};
use crate::store::waiters::Key;
use crate::sync::Ordering::Relaxed;
use crate::sync::{Arc, AtomicUsize, Deadline, thread};
use smallvec::SmallVec;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How long a waiter looks before it sleeps, when somebody else drives.
const SPINS: usize = if cfg!(any(candlewick_loom, candlewick_shuttle)) {
    1
} else {
    40
};

/// How long a borrower goes on with others' work after its own is done: about what handing over
/// to the owner costs, who has to be woken and to be switched in.
const SERVICE: Duration =
    Duration::from_micros(if cfg!(any(candlewick_loom, candlewick_shuttle)) {
        0
    } else {
        50
    });

/// A borrower's time since its own work was done.
#[derive(Default)]
struct Served(Option<Instant>);

impl Served {
    fn enough(&mut self) -> bool {
        match self.0 {
            Some(since) => since.elapsed() >= SERVICE,
            None => {
                self.0 = Some(Instant::now());
                SERVICE.is_zero()
            }
        }
    }
}

/// Slots in which one submission has interest.
pub type Outputs<E> = SmallVec<[Arc<Slot<<E as Engine>::Kind>>; 1]>;

/// Interest in one or more results. Shared by all copies of one handle.
pub struct Submission<E: Engine> {
    core: Arc<Core<E>>,
    outputs: Outputs<E>,
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
    pub fn new(core: Arc<Core<E>>, outputs: Outputs<E>) -> Self {
        let cancelled = AtomicUsize::new(0);
        Self {
            core,
            outputs,
            cancelled,
        }
    }

    /// The results, in the order of the request.
    pub fn outputs(&self) -> &[Arc<Slot<E::Kind>>] {
        &self.outputs
    }

    /// The executor.
    pub fn core(&self) -> &Arc<Core<E>> {
        &self.core
    }

    fn all_finished(&self) -> bool {
        self.outputs.iter().all(|output| output.is_finished())
    }

    /// Whether every output has ended. If not, somebody is bound to run it.
    pub fn is_finished(&self) -> bool {
        let finished = self.all_finished();
        if !finished {
            self.core.nudge();
        }
        finished
    }

    /// Ready when every output has ended.
    pub fn poll(&self, cx: &Context<'_>, wait: &mut Wait) -> Poll<()> {
        while let Some(output) = self.outputs.get(wait.at) {
            if self.core.poll(output, cx, &mut wait.key).is_pending() {
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

    /// Blocks until every output has ended, running the queue itself where that is allowed and
    /// nobody else does. With a deadline it only waits, and `false` says that time ran out.
    pub fn wait(&self, deadline: Option<&Deadline>) -> bool {
        if deadline.is_none() {
            for _ in 0..SPINS {
                if self.all_finished() {
                    return true;
                }
                let mut served = Served::default();
                self.core.lend(|| self.all_finished() && served.enough());
                thread::spin_loop();
            }
        }
        let mut wait = Wait::default();
        let done = block_on(poll_fn(|cx| self.poll(cx, &mut wait)), deadline);
        self.deregister(&mut wait);
        done.is_some()
    }

    /// Withdraws the submission: what nobody else wants and has not begun is not run.
    pub fn cancel(&self) -> Cancel {
        // ORDERING: Relaxed; only the first may withdraw the interest, no data travels.
        if self.cancelled.swap(1, Relaxed) != 0 {
            return if self.all_finished() {
                Cancel::Finished
            } else {
                Cancel::Shared
            };
        }
        let mut sum = Cancel::Finished;
        for output in &self.outputs {
            let cancel = output.cancel();
            if cancel == Cancel::Cancelled {
                drop(output.task().output_gone());
            }
            sum = match (sum, cancel) {
                (_, Cancel::Running) | (Cancel::Running, _) => Cancel::Running,
                (_, Cancel::Shared) | (Cancel::Shared, _) => Cancel::Shared,
                (_, Cancel::Cancelled) | (Cancel::Cancelled, _) => Cancel::Cancelled,
                (Cancel::Finished, Cancel::Finished) => Cancel::Finished,
            };
        }
        sum
    }
}

impl<E: Engine> Drop for Submission<E> {
    fn drop(&mut self) {
        if !self.all_finished() {
            self.core.nudge(); // a tensor may still refer to the result
        }
        // ORDERING: Relaxed; by unique access, all calls of `cancel` were before.
        let interested = self.cancelled.load(Relaxed) == 0;
        for output in &self.outputs {
            drop(self.core.store().release(output, interested));
        }
    }
}
