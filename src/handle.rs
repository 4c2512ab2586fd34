//! What `submit` returns.

use crate::actor::submission::{Submission, Wait};
use crate::device::runner::{Runner, is_driving};
use crate::error::{Error, Result};
use crate::habit;
use crate::outputs::Results;
use crate::request::Launched;
use crate::store::slot::{Cancel as SlotCancel, Outcome};
use crate::sync::Deadline;
use candle_core::Tensor;
use smallvec::SmallVec;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A result, or several, on the way.
///
/// A `Future` on any runtime, and off any runtime a thing to [`wait`](Handle::wait) for. Every
/// handle resolves: with the result, with an error, or with [`Error::Closed`]. Polling or waiting
/// again gives the same answer again.
///
/// A clone waits for the same submission: any number of threads and tasks may. Dropping a handle,
/// or a future in a `select!`, loses nothing for the others. When the last handle and the last
/// tensor that could observe the result are gone, work that has not begun is not done.
///
/// Waiting on a runtime's thread blocks that thread. It does not stop the owner, which is no task
/// of any runtime; but it stops the other tasks of that thread, so prefer `.await` there.
///
/// ```
/// use candlewick::{Device, Executor, LazyTensor};
/// let executor = Executor::new(&Device::Cpu)?;
/// let x = LazyTensor::new(&[1f32, 2.0], &Device::Cpu)?;
/// let handle = executor.submit(&(&x + &x)?)?;
/// assert_eq!(handle.wait()?.to_vec1::<f32>()?, [2.0, 4.0]);
/// assert!(handle.is_finished());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping every handle and tensor of a submission withdraws it"]
pub struct Handle<R = Tensor> {
    shared: Arc<Shared>,
    wait: Wait,
    result: PhantomData<fn() -> R>,
}

struct Shared {
    submission: Submission<Runner>,
    /// For each requested result, which output of the submission it is.
    places: SmallVec<[u32; 1]>,
    executor: u64,
}

/// What [`Handle::cancel`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Cancel {
    /// It had not begun and nobody else wanted it: it will not run, and whoever waits gets
    /// [`Error::Cancelled`].
    Cancelled,
    /// Another submission or a later fragment uses it: it goes on.
    Shared,
    /// It had begun: it goes on.
    Running,
    /// It had ended.
    Finished,
}

impl<R: Results> Handle<R> {
    pub(crate) fn new(launched: Launched, executor: u64) -> Self {
        let Launched { submission, places } = launched;
        let shared = Shared {
            submission,
            places,
            executor,
        };
        Self {
            shared: Arc::new(shared),
            wait: Wait::default(),
            result: PhantomData,
        }
    }

    /// Blocks until the result is there.
    ///
    /// On the CPU device, if the owner is idle, this thread runs the queue itself instead of
    /// being switched out: see `docs/concurrency.md`, "Lending".
    ///
    /// # Errors
    /// What the work failed with; [`Error::Cancelled`]; [`Error::DeadlineExceeded`];
    /// [`Error::Closed`];
    /// [`Error::WouldDeadlock`] if called by an operation that the same executor is running.
    pub fn wait(&self) -> Result<R> {
        self.wait_for("wait", None)
    }

    /// Blocks until the result is there, but not longer than `limit`. The work goes on.
    ///
    /// # Errors
    /// [`Error::Timeout`], and those of [`Handle::wait`].
    ///
    /// ```
    /// # use candlewick::{Device, Executor, LazyTensor};
    /// # use std::time::Duration;
    /// # let executor = Executor::new(&Device::Cpu)?;
    /// # let y = LazyTensor::new(&[1f32], &Device::Cpu)?.exp()?;
    /// let handle = executor.submit(&y)?;
    /// match handle.wait_timeout(Duration::from_secs(5)) {
    ///     Ok(tensor) => println!("{tensor}"),
    ///     Err(candlewick::Error::Timeout(_)) => println!("later, then"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// ```
    pub fn wait_timeout(&self, limit: Duration) -> Result<R> {
        // a limit beyond the clock's range is none
        match Deadline::after(limit) {
            Some(deadline) => self.wait_for("wait_timeout", Some((&deadline, limit))),
            None => self.wait(),
        }
    }

    fn wait_for(&self, call: &'static str, limit: Option<(&Deadline, Duration)>) -> Result<R> {
        let submission = &self.shared.submission;
        if is_driving(self.shared.executor) && !submission.is_finished() {
            return Err(Error::WouldDeadlock { call });
        }
        match limit {
            Some((deadline, _)) => {
                habit::note_wait(submission);
                submission.wait(Some(deadline));
            }
            None if runs_others() => {
                const DAY: Duration = Duration::from_secs(86_400);
                while !submission.wait(Deadline::after(DAY).as_ref()) {}
            }
            None => {
                habit::note_wait(submission);
                submission.wait(None);
            }
        }
        match (self.result(), limit) {
            (Some(result), _) => result,
            (None, Some((_, limit))) => Err(Error::Timeout(limit)),
            (None, None) => unreachable!("a wait without a deadline ends with the result"),
        }
    }

    /// The result, if it is there; does not wait.
    pub fn try_result(&self) -> Option<Result<R>> {
        if self.is_finished() {
            self.result()
        } else {
            None
        }
    }

    fn result(&self) -> Option<Result<R>> {
        let outputs = self.shared.submission.outputs();
        let mut tensors: SmallVec<[Tensor; 1]> = SmallVec::new();
        for &index in &self.shared.places {
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
}

/// Whether this thread may run other work while it waits inside of an operation: rayon's threads
/// do. Such a thread does not run the queue itself, because what it runs in between may wait for
/// this executor in turn.
fn runs_others() -> bool {
    rayon::current_thread_index().is_some()
}

impl<R> Handle<R> {
    /// Whether the result, or an error, is there.
    pub fn is_finished(&self) -> bool {
        self.shared.submission.is_finished()
    }

    /// Withdraws this submission, for all its handles. Work that has not begun and that nobody
    /// else wants is not done; whatever it held in the queue is freed at once.
    pub fn cancel(&self) -> Cancel {
        match self.shared.submission.cancel() {
            SlotCancel::Cancelled => Cancel::Cancelled,
            SlotCancel::Shared => Cancel::Shared,
            SlotCancel::Running => Cancel::Running,
            SlotCancel::Finished => Cancel::Finished,
        }
    }
}

impl<R: Results> Future for Handle<R> {
    type Output = Result<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, wait, .. } = &mut *self;
        if shared.submission.poll(cx, wait).is_pending() {
            return Poll::Pending;
        }
        match self.result() {
            Some(result) => Poll::Ready(result),
            None => unreachable!("every output has ended"),
        }
    }
}

impl<R> Clone for Handle<R> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            wait: Wait::default(),
            result: PhantomData,
        }
    }
}

impl<R> Drop for Handle<R> {
    fn drop(&mut self) {
        self.shared.submission.deregister(&mut self.wait);
    }
}

impl<R> fmt::Debug for Handle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("outputs", &self.shared.places.len())
            .field("finished", &self.is_finished())
            .finish()
    }
}
