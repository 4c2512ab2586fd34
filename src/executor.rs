//! The executor: one device, one owner, any number of submitters.

mod builder;
mod submitting;

pub use builder::Builder;
pub use submitting::SubmitAsync;

use crate::actor::admission::Refused;
use crate::actor::core::Permit;
use crate::actor::park::block_on;
use crate::device::meter::Meter;
use crate::device::runner::{Runner, is_driving};
use crate::error::{Error, Result};
use crate::habit;
use crate::handle::Handle;
use crate::outputs::{Outputs, Results};
use crate::plan::Explanation;
use crate::request::{Ask, Call, ExecutorHome, Launched, Request};
use crate::store::tag::Tag;
use crate::submit::{Producer, Submit};
use crate::sync::Deadline;
use candle_core::Device;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Runs lazy tensors on one device, for any number of threads and tasks.
///
/// Cloning is a reference count. A clone takes turns with the others, and so do threads that share
/// one: see [`Session`](crate::Session). When the last clone is dropped, the executor closes as by
/// [`Executor::shutdown`], without anybody waiting for it.
///
/// ```
/// use candlewick::{Device, Executor, LazyTensor, D};
/// let executor = Executor::new(&Device::Cpu)?;
/// let w = LazyTensor::new(&[[1f32, 0.0], [0.0, 2.0]], &Device::Cpu)?;
/// std::thread::scope(|scope| {
///     for i in 0..4u8 {
///         let (executor, w) = (executor.clone(), w.clone());
///         scope.spawn(move || {
///             let x = LazyTensor::new(&[[f32::from(i), 1.0]], &Device::Cpu)?;
///             let y = executor.submit(&x.matmul(&w)?)?.wait()?;
///             assert_eq!(y.to_vec2::<f32>()?, [[f32::from(i), 2.0]]);
///             Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
///         });
///     }
/// });
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone)]
pub struct Executor(Arc<Inner>, Producer);

struct Inner {
    home: Arc<ExecutorHome>,
    device: Device,
    meter: Arc<Meter>,
}

/// A moment's figures. Each is exact, but not all of the same moment.
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
    /// Times that a waiting thread ran the queue in the owner's place.
    pub lent: u64,
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
    /// Submitted nodes that somebody refers to.
    pub live_nodes: usize,
    /// Bytes of their results.
    pub live_bytes: u64,
    /// Bytes of buffers that no result uses and that are kept for the next: at most
    /// [`Builder::pool_bytes`].
    pub pool_bytes: u64,
    /// Bytes of what this executor made of weights and keeps with them: see
    /// [`Builder::pack_weights`]. They go with the weights.
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
    /// An executor on `device` with the default limits.
    ///
    /// # Errors
    /// Those of [`Builder::build`].
    pub fn new(device: &Device) -> Result<Self> {
        Self::builder(device).build()
    }

    /// An executor on `device`, to be adjusted.
    ///
    /// ```
    /// use candlewick::{Device, Executor};
    /// let executor = Executor::builder(&Device::Cpu)
    ///     .queue_capacity(64)
    ///     .queue_bytes(256 << 20)
    ///     .thread_name("inference")
    ///     .build()?;
    /// assert!(Executor::builder(&Device::Cpu).queue_capacity(0).build().is_err());
    /// # drop(executor);
    /// # Ok::<_, candlewick::Error>(())
    /// ```
    pub fn builder(device: &Device) -> Builder {
        Builder::new(device)
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// Submits, and waits while the queue is full; first come, first served.
    ///
    /// From here on each output stands for its result: later graphs on any thread use it and do
    /// not compute it again, also before it is there.
    ///
    /// # Errors
    /// [`Error::ForeignExecutor`], [`Error::ForeignDevice`], [`Error::TooLarge`],
    /// [`Error::Closed`], [`Error::OwnerLost`]; [`Error::WouldDeadlock`] if the queue is full and
    /// an operation that this executor is running called.
    pub fn submit<O: Outputs>(&self, outputs: O) -> Result<Handle<O::Results>> {
        self.submit_with(outputs, Submit::new())
    }

    /// Submits as `how` says: with a deadline, a priority, in the turn of a session. Waits while
    /// the queue is full, but not beyond the deadline.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`], and those of [`Executor::submit`].
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor, Priority, Submit};
    /// use std::time::Duration;
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let y = LazyTensor::new(&[3f32, 4.0], &Device::Cpu)?.sqr()?.sum_all()?;
    /// let how = Submit::within(Duration::from_secs(10)).priority(Priority::Interactive);
    /// let handle = executor.submit_with(&y, how)?;
    /// assert_eq!(handle.wait()?.to_scalar::<f32>()?, 25.0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit_with<O: Outputs>(&self, outputs: O, how: Submit) -> Result<Handle<O::Results>> {
        self.submit_as(outputs, &how)
    }

    /// The same, with a handle for results of another form.
    pub(crate) fn submit_as<R: Results>(
        &self,
        outputs: impl Outputs,
        how: &Submit,
    ) -> Result<Handle<R>> {
        let home = &self.0.home;
        let defer = habit::waits_promptly();
        let request = Request::cut(home, outputs.tensors())?;
        if request.is_known() {
            return Ok(self.handle(request.known(home)));
        }
        self.queue(request, how, defer)
    }

    /// Queues, and waits while the queue is full.
    pub(crate) fn queue<R: Results>(
        &self,
        ask: impl Ask,
        how: &Submit,
        defer: bool,
    ) -> Result<Handle<R>> {
        let (home, bytes) = (&self.0.home, ask.host_bytes());
        let deadline = how.checked_deadline()?;
        let permit = match home.core.try_admit(bytes) {
            Err(Refused::Full) => self.wait_for_room(bytes, deadline.as_ref())?,
            other => other.map_err(|refused| self.refusal(refused, bytes))?,
        };
        Ok(self.handle(ask.launch(home, permit, how.tag(&self.1), defer)?))
    }

    /// Queues if there is room.
    pub(crate) fn try_queue<R: Results>(
        &self,
        ask: impl Ask,
        how: &Submit,
        defer: bool,
    ) -> Result<Handle<R>> {
        let (home, bytes) = (&self.0.home, ask.host_bytes());
        how.checked_deadline()?;
        let permit = home.core.try_admit(bytes);
        let permit = permit.map_err(|refused| self.refusal(refused, bytes))?;
        Ok(self.handle(ask.launch(home, permit, how.tag(&self.1), defer)?))
    }

    /// Queues, and awaits room.
    async fn queue_async<R: Results>(
        &self,
        ask: impl Ask,
        how: Submit,
        tag: Tag,
    ) -> Result<Handle<R>> {
        let (home, bytes) = (&self.0.home, ask.host_bytes());
        how.checked_deadline()?;
        let permit = home.core.admit(bytes).await;
        let permit = permit.map_err(|refused| self.refusal(refused, bytes))?;
        Ok(self.handle(ask.launch(home, permit, tag, false)?))
    }

    pub(crate) fn home(&self) -> &Arc<ExecutorHome> {
        &self.0.home
    }

    fn wait_for_room(&self, bytes: u64, deadline: Option<&Deadline>) -> Result<Permit<'_, Runner>> {
        let home = &self.0.home;
        if is_driving(home.id) {
            return Err(Error::WouldDeadlock { call: "submit" });
        }
        match block_on(home.core.admit(bytes), deadline) {
            Some(permit) => permit.map_err(|refused| self.refusal(refused, bytes)),
            None => Err(Error::DeadlineExceeded),
        }
    }

    fn handle<R: Results>(&self, launched: Launched) -> Handle<R> {
        habit::note_submit(&launched.submission);
        Handle::new(launched, self.0.home.id)
    }

    /// Submits if the queue has room and nobody waits for it.
    ///
    /// # Errors
    /// [`Error::QueueFull`], and those of [`Executor::submit`]. Nothing stays claimed.
    pub fn try_submit<O: Outputs>(&self, outputs: O) -> Result<Handle<O::Results>> {
        self.try_submit_with(outputs, Submit::new())
    }

    /// Submits as `how` says if the queue has room and nobody waits for it.
    ///
    /// # Errors
    /// [`Error::QueueFull`], and those of [`Executor::submit_with`]. Nothing stays claimed.
    pub fn try_submit_with<O: Outputs>(
        &self,
        outputs: O,
        how: Submit,
    ) -> Result<Handle<O::Results>> {
        let home = &self.0.home;
        let defer = habit::waits_promptly();
        let request = Request::cut(home, outputs.tensors())?;
        if request.is_known() {
            return Ok(self.handle(request.known(home)));
        }
        self.try_queue(request, &how, defer)
    }

    /// Submits, and awaits room in the queue; in one line with the threads that wait for it.
    /// Dropped before it is ready, the future submits nothing.
    ///
    /// # Errors
    /// Those of [`Executor::submit`].
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let x = LazyTensor::new(&[2f32], &Device::Cpu)?;
    /// let y = executor.submit_async(&x.sqr()?).await?.await?;
    /// assert_eq!(y.to_vec1::<f32>()?, [4.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn submit_async<O: Outputs>(&self, outputs: O) -> SubmitAsync<O::Results> {
        self.submit_async_with(outputs, Submit::new())
    }

    /// Submits as `how` says, and awaits room in the queue, also beyond the deadline: a library
    /// without a runtime has no clock to be woken by. Bound the wait with your runtime's.
    ///
    /// # Errors
    /// Those of [`Executor::submit_with`].
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor, Priority, Submit};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let x = LazyTensor::new(&[2f32], &Device::Cpu)?;
    /// let how = Submit::new().priority(Priority::Background);
    /// let y = executor.submit_async_with(&x.sqr()?, how).await?.await?;
    /// assert_eq!(y.to_vec1::<f32>()?, [4.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn submit_async_with<O: Outputs>(
        &self,
        outputs: O,
        how: Submit,
    ) -> SubmitAsync<O::Results> {
        let (executor, tag) = (self.clone(), how.tag(&self.1));
        let request = Request::cut(&self.0.home, outputs.tensors());
        let submit = async move {
            let home = &executor.0.home;
            let request = request?;
            if request.is_known() {
                return Ok(executor.handle(request.known(home)));
            }
            executor.queue_async(request, how, tag).await
        };
        SubmitAsync::new(submit)
    }

    /// Queues a call of a compiled function once there is room, or says why there is none.
    pub(crate) fn call_async<R: Results>(&self, call: Result<Call>, how: Submit) -> SubmitAsync<R> {
        let (executor, tag) = (self.clone(), how.tag(&self.1));
        let submit = async move { executor.queue_async(call?, how, tag).await };
        SubmitAsync::new(submit)
    }

    fn refusal(&self, refused: Refused, bytes: u64) -> Error {
        let admission = self.0.home.core.admission();
        match refused {
            Refused::Full => Error::QueueFull {
                capacity: admission.fragments(),
                capacity_bytes: admission.bytes(),
                bytes,
            },
            Refused::Closed => self.0.home.core.lost().unwrap_or(Error::Closed),
        }
    }

    /// How these outputs would run if they were submitted now: the steps, what each of them
    /// fuses, which go through Candle. Submits nothing.
    ///
    /// # Errors
    /// Those of [`Executor::submit`] that a graph by itself causes: [`Error::ForeignExecutor`],
    /// [`Error::ForeignDevice`], [`Error::TooLarge`].
    ///
    /// ```
    /// use candlewick::{D, Device, Executor, LazyTensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let x = LazyTensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
    /// let y = (x.matmul(&x.t()?)? * 0.5)?.softmax(D::Minus1)?;
    /// let explanation = executor.explain(&y)?;
    /// assert_eq!((explanation.steps(), explanation.engine_steps()), (1, 1));
    /// println!("{explanation}"); // each step with its costs
    /// assert!(explanation.plan_dot().starts_with("digraph"));
    /// # Ok::<_, candlewick::Error>(())
    /// ```
    pub fn explain<O: Outputs>(&self, outputs: O) -> Result<Explanation> {
        Request::explain(&self.0.home, outputs.tensors())
    }

    /// The figures of this moment; cheap, from any thread.
    pub fn stats(&self) -> Stats {
        let Inner { home, meter, .. } = &*self.0;
        let core = &home.core;
        let counts = core.counts();
        let done = meter.counts();
        let (plans_made, plans_kept) = home.planner.counts();
        Stats {
            queued: core.admission().queued(),
            queued_bytes: core.admission().queued_bytes(),
            fragments_run: counts.run,
            fragments_failed: counts.failed,
            fragments_cancelled: counts.cancelled,
            fragments_expired: counts.expired,
            plans_made,
            plans_kept,
            lent: counts.lent,
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
        match core.lost() {
            Some(error) => Health::Lost(error),
            None if core.is_done() => Health::Closed,
            None if core.admission().is_closed() => Health::Closing,
            None => Health::Running,
        }
    }

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
    /// [`Error::Timeout`]; the closing goes on. [`Error::WouldDeadlock`] if called by an
    /// operation that this executor is running; it closes all the same.
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
        if is_driving(self.0.home.id) {
            return Err(Error::WouldDeadlock { call });
        }
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

impl Drop for Inner {
    fn drop(&mut self) {
        self.home.core.close();
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("device", &self.0.device.location())
            .field("health", &self.health())
            .field("stats", &self.stats())
            .finish()
    }
}
