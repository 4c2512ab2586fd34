//! Results on the way, and how threads and tasks wait for them.

use crate::core::actor::driving::{Waiting, would_sleep_for_ever};
use crate::core::actor::submission::{Submission, Wait};
use crate::core::store::slot::Outcome;
use crate::core::sync::Deadline;
use crate::device::runner::Runner;
use crate::error::{Error, Result};
use crate::outputs::Results;
use candle_core::Tensor;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// Interest in the results of a request.
pub(crate) struct Pending {
    pub(crate) submission: Submission<Runner>,
    /// For each requested result, which output of the submission it is.
    pub(crate) places: SmallVec<[u32; 1]>,
}

impl Pending {
    /// Blocks until every result is there, for at most `limit`; runs the queue itself where that is
    /// allowed. `call` is the method that is named if this would be for ever.
    pub(crate) fn wait(&self, call: &'static str, limit: Option<Duration>) -> Result<()> {
        if self.submission.is_finished() {
            return Ok(());
        }
        let gate = self.submission.core().gate();
        let deadline = limit.and_then(Deadline::after); // one beyond the clock's range is none
        let Some(_waiting) = Waiting::start(gate) else {
            return Err(Error::WouldDeadlock { call });
        };
        let done = match rayon::current_thread_index() {
            Some(_) => self.wait_on_rayon(deadline.as_ref()),
            None => self.submission.wait(deadline.as_ref()),
        };
        match (done, limit) {
            (false, Some(limit)) => Err(Error::Timeout(limit)),
            _ => Ok(()),
        }
    }

    /// Waits on a thread of a rayon pool. It does not run the queue, because rayon may run other work on
    /// it in the middle of an operation, which may wait for this executor in turn. And it does not sleep if
    /// all threads of its pool would: an operation of the user's may divide its work among them.
    fn wait_on_rayon(&self, deadline: Option<&Deadline>) -> bool {
        static SLEEPERS: AtomicUsize = AtomicUsize::new(0);
        const LOOK: Duration = Duration::from_millis(1);
        // ORDERING: Relaxed; a count. Of two that come at once the later one sees both.
        let before = SLEEPERS.fetch_add(1, Ordering::Relaxed);
        let last = before + 1 >= rayon::current_num_threads();
        let done = if last {
            loop {
                if self.submission.is_finished() {
                    break true;
                }
                if deadline.is_some_and(Deadline::has_passed) {
                    break false;
                }
                if rayon::yield_now() != Some(rayon::Yield::Executed) {
                    self.submission.sleep(Deadline::after(LOOK).as_ref());
                }
            }
        } else {
            self.submission.sleep(deadline)
        };
        // ORDERING: Relaxed; as above.
        SLEEPERS.fetch_sub(1, Ordering::Relaxed);
        done
    }

    /// Ready when every result is there; an error if an operation polls for a result that cannot come
    /// before it ends.
    pub(crate) fn poll(&self, cx: &Context<'_>, wait: &mut Wait) -> Poll<Result<()>> {
        if self.submission.poll(cx, wait).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if would_sleep_for_ever(self.submission.core().gate()) {
            return Poll::Ready(Err(Error::WouldDeadlock { call: "await" }));
        }
        Poll::Pending
    }

    /// The results, if all are there.
    pub(crate) fn result<R: Results>(&self) -> Option<Result<R>> {
        let outputs = self.submission.outputs();
        let mut tensors: SmallVec<[Tensor; 1]> = SmallVec::new();
        for &index in &self.places {
            let result = outputs[index as usize].peek(|outcome| match outcome {
                Outcome::Ready(stored) => stored.tensor(),
                Outcome::Failed(error) => Err(error.clone()),
                Outcome::Cancelled => Err(Error::Cancelled),
                Outcome::Expired => Err(Error::DeadlineExceeded),
                Outcome::Closed => Err(Error::Closed),
            });
            match result? {
                Ok(tensor) => tensors.push(tensor),
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(R::from_tensors(tensors)))
    }

    /// The results, which are there.
    pub(crate) fn finished<R: Results>(&self) -> Result<R> {
        match self.result() {
            Some(result) => result,
            None => unreachable!("every output has ended"),
        }
    }
}
