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
/// let other = executor.submit(&x.sqr()?)?; // meanwhile
/// assert_eq!(handle.wait()?.to_vec1::<f32>()?, [2.0, 4.0]);
/// assert!(handle.is_finished());
/// assert_eq!(other.wait()?.to_vec1::<f32>()?, [1.0, 4.0]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping every handle and tensor of a submission withdraws it"]
pub struct Handle<R = Tensor> {
    shared: Arc<Pending>,
    wait: Wait,
    result: PhantomData<fn() -> R>,
}

/// What [`Handle::cancel`] found: of a submission of several outputs, the first of [`Cancel::Running`],
/// [`Cancel::Shared`], [`Cancel::Cancelled`] and [`Cancel::Finished`] that holds for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Cancel {
    /// The work had not begun and nobody else wanted the result: it will not run, and the handles of this
    /// submission get [`Error::Cancelled`](crate::Error::Cancelled).
    Cancelled,
    /// Another submission or a later fragment wants the result: the work goes on.
    Shared,
    /// The work had begun: it goes on.
    Running,
    /// The work had ended.
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
    /// On the CPU, if work is queued and no thread drives the device, the waiting thread runs the queue itself
    /// instead of sleeping, until its result is there: see `docs/concurrency.md`, "Who runs". A caller that
    /// waits at once has [`Executor::run`](crate::Executor::run), which does not wake the owner.
    ///
    /// # Errors
    /// What the work failed with; [`Error::Cancelled`](crate::Error::Cancelled);
    /// [`Error::DeadlineExceeded`](crate::Error::DeadlineExceeded);
    /// [`Error::Closed`](crate::Error::Closed);
    /// [`Error::WouldDeadlock`](crate::Error::WouldDeadlock) if the result is not there and the call is made
    /// inside of an operation, a destructor or a waker that the same executor is running, or that another
    /// executor is running for which this one's driver waits, directly or through further ones.
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

    /// Withdraws this submission, for all its handles. An output whose work has not begun and that no other
    /// submission or fragment wants is not computed; a tensor that names it can be submitted again. When that
    /// holds for all outputs of the submission, its place in the queue is free at once, unless very many
    /// withdrawn submissions (1024, or as many as the queue has places if those are more) still wait for the
    /// owner to pass over them.
    ///
    /// Each of several outputs is withdrawn by itself, and the answer is of all of them: see [`Cancel`]. If one
    /// was withdrawn, a handle of several gets [`Error::Cancelled`](crate::Error::Cancelled), or the error of an
    /// output that stands before it, once all have ended. A second call withdraws nothing, and tells how the
    /// work stands.
    ///
    /// ```
    /// use candlewick::device::Script;
    /// use candlewick::{Cancel, Device, Error, Executor, LazyTensor};
    /// let device = Script::new(); // a simulated device, which can be held up
    /// let executor = Executor::builder(&Device::Cpu).simulated(&device).build()?;
    /// let x = LazyTensor::new(&[4f32], &Device::Cpu)?;
    /// device.hold();
    /// let running = executor.submit(&x.sqr()?)?;
    /// device.wait_until_held();
    /// let (root, negated) = (x.sqrt()?, x.neg()?);
    /// let both = executor.submit((&root, &negated))?;
    /// let one = executor.submit(&root)?;
    /// assert_eq!(running.cancel(), Cancel::Running);
    /// assert_eq!(both.cancel(), Cancel::Shared); // `one` wants the root; nobody wants the other
    /// device.resume();
    /// assert_eq!(one.wait()?.to_vec1::<f32>()?, [2.0]);
    /// assert!(matches!(both.wait(), Err(Error::Cancelled)));
    /// assert_eq!(running.wait()?.to_vec1::<f32>()?, [16.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
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
