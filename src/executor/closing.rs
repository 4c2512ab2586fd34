//! The end of an executor.

use super::Executor;
use crate::core::actor::driving::Waiting;
use crate::core::actor::park::block_on;
use crate::core::sync::Deadline;
use crate::error::{Error, Result};
use std::future::Future;
use std::time::Duration;

impl Executor {
    /// Refuses new work from now on, and is ready when all that was queued is finished and the
    /// owner's thread has ended. Dropping the future does not stop the closing.
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.0.home.core.close();
        self.closed()
    }

    /// Refuses new work from now on and withdraws what is queued and has not begun (its handles
    /// get [`Error::Closed`]); ready when the owner's thread has ended.
    pub fn abort(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.0.home.core.abort();
        self.closed()
    }

    /// [`Executor::shutdown`] for a thread, for at most `limit` if there is one.
    ///
    /// # Errors
    /// [`Error::Timeout`]; the closing goes on. [`Error::WouldDeadlock`] if called by an operation, a
    /// destructor or a waker that this executor is running, or that another executor is running for which
    /// this one's driver waits; it closes all the same.
    ///
    /// ```
    /// # use candlewick::{Device, Executor, Health, LazyTensor};
    /// # use std::time::Duration;
    /// let executor = Executor::new(&Device::Cpu)?;
    /// executor.shutdown_blocking(Some(Duration::from_secs(10)))?;
    /// assert!(matches!(executor.health(), Health::Closed));
    /// # Ok::<_, candlewick::Error>(())
    /// ```
    pub fn shutdown_blocking(&self, limit: Option<Duration>) -> Result<()> {
        self.0.home.core.close();
        self.closed_blocking("shutdown_blocking", limit)
    }

    /// [`Executor::abort`] for a thread, for at most `limit` if there is one.
    ///
    /// # Errors
    /// Those of [`Executor::shutdown_blocking`].
    pub fn abort_blocking(&self, limit: Option<Duration>) -> Result<()> {
        self.0.home.core.abort();
        self.closed_blocking("abort_blocking", limit)
    }

    fn closed(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let core = self.0.home.core.clone();
        async move { core.closed().await }
    }

    fn closed_blocking(&self, call: &'static str, limit: Option<Duration>) -> Result<()> {
        let Some(_waiting) = Waiting::start(self.core().gate()) else {
            return Err(Error::WouldDeadlock { call });
        };
        let deadline = limit.and_then(Deadline::after);
        match (
            block_on(self.0.home.core.closed(), deadline.as_ref()),
            limit,
        ) {
            (None, Some(limit)) => Err(Error::Timeout(limit)),
            _ => Ok(()),
        }
    }
}
