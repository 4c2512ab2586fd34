//! The executor: one device, one owner, any number of submitters.

mod builder;
mod closing;
mod queueing;
mod stats;
mod submitting;

pub use builder::Builder;
pub(crate) use queueing::Asked;
pub use stats::{Health, Stats};
pub use submitting::{RunAsync, SubmitAsync};

use crate::core::actor::driving::is_driving;
use crate::core::actor::launch::Start;
use crate::core::actor::shared::Core;
use crate::device::meter::Meter;
use crate::device::runner::Runner;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::outputs::{Outputs, Results};
use crate::plan::Explanation;
use crate::request::{Ask, Borrowed, ExecutorHome};
use crate::submit::Submit;
use candle_core::Device;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Runs lazy tensors on one device, for any number of threads and tasks.
///
/// Cloning is a reference count. Threads and sessions take turns, whichever clone they use: see
/// [`Session`](crate::Session). When the last clone is dropped, the executor closes as by
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
///             let y = executor.run(&x.matmul(&w)?)?;
///             assert_eq!(y.to_vec2::<f32>()?, [[f32::from(i), 2.0]]);
///             Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
///         });
///     }
/// });
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone)]
pub struct Executor(Arc<Inner>);

struct Inner {
    home: Arc<ExecutorHome>,
    device: Device,
    meter: Arc<Meter>,
    /// The most that a poll of [`Executor::run_async`] runs by itself.
    inline_limit: Duration,
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

    /// Submits, and waits while the queue is full: in line, where producers take turns and the more urgent
    /// goes first. The owner is woken to run it, unless a thread drives already; a caller that wants the
    /// result at once has [`Executor::run`].
    ///
    /// From here on each output stands for its result: later graphs on any thread use it and do
    /// not compute it again, also before it is there.
    ///
    /// # Errors
    /// [`Error::ForeignExecutor`], [`Error::ForeignDevice`], [`Error::TooLarge`],
    /// [`Error::Closed`], [`Error::OwnerLost`]; [`Error::Placeholder`] if a placeholder of a compiled
    /// function is in the graph; [`Error::WouldDeadlock`] if the queue is full and no room would ever come,
    /// because the call is made inside of an operation, a destructor or a waker that this executor is
    /// running, or that another executor is running for which this one's driver waits, directly or through
    /// further ones.
    pub fn submit<O: Outputs>(&self, outputs: O) -> Result<Handle<O::Results>> {
        self.submit_with(outputs, Submit::new())
    }

    /// Submits as `how` says: with a deadline, a priority, in the turn of a session. Waits while
    /// the queue is full, but not beyond the deadline.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] if the deadline has passed, or passes before there is room; if it passes
    /// after that, the handle gets the error when the work's turn comes. And those of [`Executor::submit`].
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor, Priority, Submit};
    /// use std::time::Duration;
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let squares = LazyTensor::new(&[3f32, 4.0], &Device::Cpu)?.sqr()?;
    /// let how = Submit::within(Duration::from_secs(10)).priority(Priority::Interactive);
    /// let handle = executor.submit_with(&squares, how)?;
    /// let sum = executor.run(&squares.sum_all()?)?; // on the squares that are on their way
    /// assert_eq!(sum.to_scalar::<f32>()?, 25.0);
    /// assert_eq!(handle.wait()?.to_vec1::<f32>()?, [9.0, 16.0]);
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
        let asked = self.ask(&outputs)?;
        self.queue(asked, how, Start::Post, "submit")
            .map(Handle::new)
    }

    /// Computes outputs and returns their values: what [`Executor::submit`] and [`Handle::wait`] do, in
    /// one call.
    ///
    /// On the CPU, while no other thread drives the device, the calling thread drives it until the results
    /// are there, and the owner is not woken: a call costs about as much as the work. The caller also runs
    /// work that was queued before and has its turn first, but never a custom operation that another caller
    /// submitted. If other work is left when the results are there, the owner is woken for that.
    ///
    /// Else the work is queued for the owner and waited for. That is always so
    /// - on a device that only the owner's thread drives: CUDA, Metal, a simulated one;
    /// - with [`Builder::lending`]`(false)`, or a [`Batching::max_delay`](crate::Batching::max_delay) above 0;
    /// - if a thread of a rayon pool calls.
    ///
    /// # Errors
    /// Those of [`Executor::submit`] and [`Handle::wait`]; [`Error::WouldDeadlock`] also if the queue is not
    /// full.
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let x = LazyTensor::new(&[1f32, 2.0], &Device::Cpu)?;
    /// assert_eq!(executor.run(&(&x + &x)?)?.to_vec1::<f32>()?, [2.0, 4.0]);
    /// let (sum, square) = executor.run((&x.sum_all()?, &x.sqr()?))?;
    /// assert_eq!((sum.to_scalar::<f32>()?, square.dims()), (3.0, &[2][..]));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn run<O: Outputs>(&self, outputs: O) -> Result<O::Results> {
        self.run_with(outputs, Submit::new())
    }

    /// Computes outputs as `how` says, and returns their values, as [`Executor::run`] does.
    ///
    /// The deadline bounds the wait for room in the queue and the beginning of the work, not the call. Work
    /// that has been queued is found to be late when its turn comes: the call returns
    /// [`Error::DeadlineExceeded`] then, however long after the deadline that is. A caller that wants to be
    /// back in time has [`Executor::submit_with`] and [`Handle::wait_timeout`].
    ///
    /// # Errors
    /// Those of [`Executor::submit_with`] and [`Executor::run`].
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor, Priority, Submit};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let y = LazyTensor::new(&[3f32], &Device::Cpu)?.sqr()?;
    /// let soon = Submit::new().priority(Priority::Interactive);
    /// assert_eq!(executor.run_with(&y, soon)?.to_vec1::<f32>()?, [9.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_with<O: Outputs>(&self, outputs: O, how: Submit) -> Result<O::Results> {
        self.run_asked(self.ask(&outputs)?, &how)
    }

    pub(crate) fn run_asked<R: Results>(&self, asked: Asked<impl Ask>, how: &Submit) -> Result<R> {
        if asked.ready.work().is_some() && is_driving(self.core().gate()) {
            return Err(Error::WouldDeadlock { call: "run" });
        }
        let pending = self.queue(asked, how, Start::Run, "run")?;
        pending.wait("run", None)?;
        pending.finished()
    }

    /// Computes outputs and yields their values: what [`Executor::submit_async`] and an `.await` of the
    /// handle do, in one future.
    ///
    /// On the CPU, if no thread is driving the device, nothing is queued, and the plan of the graph is known
    /// and estimated to take at most [`Builder::inline_limit`] (50 µs by default), the work is done inside of
    /// the poll, and the owner is not woken. Else the work is queued for the owner. That is always so
    /// - in the cases that [`Executor::run`] lists, of which the last is a poll by a thread of a rayon pool;
    /// - for a graph whose structure has not been planned yet: the first of its kind;
    /// - for custom operations and quantized products, of which there is no estimate;
    /// - if code that this executor is running (an operation, a destructor, a waker) polls.
    ///
    /// Dropped before it is ready, the future withdraws work that has not begun.
    ///
    /// # Errors
    /// Those of [`Executor::submit`] and [`Handle::wait`]; of the errors [`Error::WouldDeadlock`] only if an
    /// operation polls.
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let x = LazyTensor::new(&[2f32], &Device::Cpu)?;
    /// let y = executor.run_async(&x.sqr()?).await?;
    /// assert_eq!(y.to_vec1::<f32>()?, [4.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn run_async<O: Outputs>(&self, outputs: O) -> RunAsync<O::Results> {
        self.run_async_with(outputs, Submit::new())
    }

    /// Computes outputs as `how` says, and yields their values, as [`Executor::run_async`] does. The deadline
    /// bounds the beginning of the work, and is looked at when its turn comes; it bounds neither the wait for
    /// room in the queue nor the `.await`.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`], and those of [`Executor::run_async`].
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor, Priority, Submit};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let x = LazyTensor::new(&[2f32], &Device::Cpu)?;
    /// let how = Submit::new().priority(Priority::Background);
    /// assert_eq!(executor.run_async_with(&x.sqr()?, how).await?.to_vec1::<f32>()?, [4.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn run_async_with<O: Outputs>(&self, outputs: O, how: Submit) -> RunAsync<O::Results> {
        self.run_asked_async(self.ask_owned(&outputs), how)
    }

    /// For a simulation, on an executor without a thread of its own: drives until nothing is left to do now, as
    /// the owner's thread does when it is woken. `false` if another thread is driving, or the executor has closed.
    #[doc(hidden)]
    pub fn step(&self) -> bool {
        self.core().step()
    }

    pub(crate) fn home(&self) -> &Arc<ExecutorHome> {
        &self.0.home
    }

    fn core(&self) -> &Arc<Core<Runner>> {
        &self.0.home.core
    }

    /// Submits if the queue has room and nobody waits for it.
    ///
    /// # Errors
    /// [`Error::QueueFull`], after which nothing stays claimed, and those of [`Executor::submit`] but for
    /// [`Error::WouldDeadlock`].
    ///
    /// ```
    /// use candlewick::device::Script;
    /// use candlewick::{Device, Error, Executor, LazyTensor};
    /// let device = Script::new(); // a simulated device, which can be held up
    /// let executor = Executor::builder(&Device::Cpu).queue_capacity(1).simulated(&device).build()?;
    /// let x = LazyTensor::new(&[4f32], &Device::Cpu)?;
    /// device.hold();
    /// let running = executor.try_submit(&x.sqr()?)?;
    /// device.wait_until_held(); // it has begun, and left the queue
    /// let queued = executor.try_submit(&x.sqrt()?)?;
    /// let refused = executor.try_submit(&x.neg()?);
    /// assert!(matches!(refused, Err(Error::QueueFull { capacity: 1, .. })));
    /// device.resume();
    /// assert_eq!(running.wait()?.to_vec1::<f32>()?, [16.0]);
    /// assert_eq!(queued.wait()?.to_vec1::<f32>()?, [2.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_submit<O: Outputs>(&self, outputs: O) -> Result<Handle<O::Results>> {
        self.try_submit_with(outputs, Submit::new())
    }

    /// Submits as `how` says if the queue has room and nobody waits for it.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] if the deadline has passed, and those of [`Executor::try_submit`].
    ///
    /// ```
    /// use candlewick::{Device, Error, Executor, LazyTensor, Submit};
    /// use std::time::{Duration, Instant};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let y = LazyTensor::new(&[4f32], &Device::Cpu)?.sqr()?;
    /// let late = executor.try_submit_with(&y, Submit::deadline(Instant::now()));
    /// assert!(matches!(late, Err(Error::DeadlineExceeded)));
    /// let handle = executor.try_submit_with(&y, Submit::within(Duration::from_secs(10)))?;
    /// assert_eq!(handle.wait()?.to_vec1::<f32>()?, [16.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_submit_with<O: Outputs>(
        &self,
        outputs: O,
        how: Submit,
    ) -> Result<Handle<O::Results>> {
        let asked = self.ask(&outputs)?;
        self.try_queue(asked, &how).map(Handle::new)
    }

    /// Submits, and awaits room in the queue; in one line with the threads that wait for it.
    /// Dropped before it is ready, the future submits nothing.
    ///
    /// # Errors
    /// Those of [`Executor::submit`]; of them [`Error::WouldDeadlock`] only if an operation polls.
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let x = LazyTensor::new(&[2f32], &Device::Cpu)?;
    /// let first = executor.submit_async(&x.sqr()?).await?; // queued
    /// let second = executor.submit_async(&x.neg()?).await?;
    /// assert_eq!(first.await?.to_vec1::<f32>()?, [4.0]);
    /// assert_eq!(second.await?.to_vec1::<f32>()?, [-2.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn submit_async<O: Outputs>(&self, outputs: O) -> SubmitAsync<O::Results> {
        self.submit_async_with(outputs, Submit::new())
    }

    /// Submits as `how` says, and awaits room in the queue, also beyond the deadline: a library
    /// without a runtime has no clock to be woken by. Bound the wait with your runtime's.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] if the deadline has passed at the first poll, and those of
    /// [`Executor::submit_async`].
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor, Priority, Submit};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let x = LazyTensor::new(&[2f32], &Device::Cpu)?;
    /// let how = Submit::new().priority(Priority::Background);
    /// let later = executor.submit_async_with(&x.sqr()?, how).await?;
    /// assert_eq!(executor.run_async(&x.neg()?).await?.to_vec1::<f32>()?, [-2.0]);
    /// assert_eq!(later.await?.to_vec1::<f32>()?, [4.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn submit_async_with<O: Outputs>(
        &self,
        outputs: O,
        how: Submit,
    ) -> SubmitAsync<O::Results> {
        self.asked_async(self.ask_owned(&outputs), how)
    }

    /// How these outputs would run if they were submitted now: the steps, what each of them
    /// fuses, which go through Candle. Submits nothing.
    ///
    /// # Errors
    /// Those of [`Executor::submit`] that a graph by itself causes: [`Error::ForeignExecutor`],
    /// [`Error::ForeignDevice`], [`Error::TooLarge`], [`Error::Placeholder`].
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
        Borrowed::explain(&self.0.home, outputs.tensors())
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
