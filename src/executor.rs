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
use crate::request::{Ask, ExecutorHome, Graph};
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
///             let y = executor.submit(&x.matmul(&w)?)?.wait()?;
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
        let asked = self.ask(outputs)?;
        self.queue(asked, how, Start::Post, "submit")
            .map(Handle::new)
    }

    /// Computes outputs and returns their values: what [`Executor::submit`] and [`Handle::wait`] do, in
    /// one call.
    ///
    /// On a device that any thread may drive (the CPU) and that no thread is driving, this one drives it
    /// until the results are there, and wakes nobody: a call costs about as much as the work. Else the
    /// work is queued and waited for. Operations of another caller's own are never run here.
    ///
    /// # Errors
    /// Those of [`Executor::submit`] and [`Handle::wait`].
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

    /// Computes outputs as `how` says, and returns their values. The deadline is that of the work's
    /// beginning, and of the wait for room, not of the call.
    ///
    /// # Errors
    /// Those of [`Executor::submit_with`] and [`Handle::wait`].
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
        self.run_asked(self.ask(outputs)?, &how)
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
    /// If no thread is driving the device, nothing is queued, and the plan of the graph is known to take no
    /// longer than [`Builder::inline_limit`], the work is done inside of the poll, and nobody is woken; else
    /// the owner does it. Dropped before it is ready, the future withdraws the work.
    ///
    /// # Errors
    /// Those of [`Executor::submit`] and [`Handle::wait`].
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

    /// Computes outputs as `how` says, and yields their values.
    ///
    /// # Errors
    /// Those of [`Executor::submit_with`] and [`Handle::wait`].
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
        self.run_asked_async(self.ask(outputs), how)
    }

    /// For a simulation: does what the owner's thread would do, once. `false` if there was nothing.
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
        let asked = self.ask(outputs)?;
        self.try_queue(asked, &how).map(Handle::new)
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
        self.asked_async(self.ask(outputs), how)
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
        Graph::explain(&self.0.home, outputs.tensors())
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
