//! What `submit` returns.

use crate::core::actor::submission::Wait;
use crate::core::store::slot::Cancel as SlotCancel;
use crate::error::Result;
use crate::outputs::Results;
use crate::pending::Pending;
use candle_core::Tensor;
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
/// handle resolves: with the result, with an error, or with [`Error::Closed`](crate::Error::Closed). Polling or waiting
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
    shared: Arc<Pending>,
    wait: Wait,
    result: PhantomData<fn() -> R>,
}

/// What [`Handle::cancel`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Cancel {
    /// It had not begun and nobody else wanted it: it will not run, and whoever waits gets
    /// [`Error::Cancelled`](crate::Error::Cancelled).
    Cancelled,
    /// Another submission or a later fragment uses it: it goes on.
    Shared,
    /// It had begun: it goes on.
    Running,
    /// It had ended.
    Finished,
}

impl<R: Results> Handle<R> {
    pub(crate) fn new(pending: Pending) -> Self {
        Self {
            shared: Arc::new(pending),
            wait: Wait::default(),
            result: PhantomData,
        }
    }

    /// Blocks until the result is there.
    ///
    /// On the CPU device, if nobody drives it, this thread runs the queue itself instead of
    /// being switched out, until its result is there: see `docs/concurrency.md`, "Lending". A caller that
    /// waits at once has [`Executor::run`](crate::Executor::run), which wakes nobody.
    ///
    /// # Errors
    /// What the work failed with; [`Error::Cancelled`](crate::Error::Cancelled);
    /// [`Error::DeadlineExceeded`](crate::Error::DeadlineExceeded);
    /// [`Error::Closed`](crate::Error::Closed);
    /// [`Error::WouldDeadlock`](crate::Error::WouldDeadlock) if called by an operation, a destructor or a
    /// waker that the same executor is running, or by one of another executor for which this one's
    /// driver is waiting.
    pub fn wait(&self) -> Result<R> {
        self.shared.wait("wait", None)?;
        self.shared.finished()
    }

    /// Blocks until the result is there, but not longer than `limit`. The work goes on.
    ///
    /// # Errors
    /// [`Error::Timeout`](crate::Error::Timeout), and those of [`Handle::wait`].
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
        self.shared.wait("wait_timeout", Some(limit))?;
        self.shared.finished()
    }

    /// The result, if it is there; does not wait.
    pub fn try_result(&self) -> Option<Result<R>> {
        self.shared.result()
    }
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
        shared
            .poll(cx, wait)
            .map(|ended| ended.and_then(|()| shared.finished()))
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
