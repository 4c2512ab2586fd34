//! How an executor is made.

use super::{Executor, Inner};
use crate::core::actor::admission::{MAX_BYTES, MAX_FRAGMENTS};
use crate::core::actor::shared::{Core, Limits};
use crate::device::meter::Meter;
use crate::device::room::Batching;
use crate::device::runner::Runner;
use crate::device::simulated::{Script, Simulated};
use crate::device::stream;
use crate::device::workers::Workers;
use crate::error::{BuildError, Result};
use crate::plan::{Passes, Planner};
use crate::request::ExecutorHome;
use candle_core::{Device, DeviceLocation};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How an executor is made. See [`Executor::builder`].
#[derive(Clone)]
#[must_use]
pub struct Builder {
    device: Device,
    queue_capacity: usize,
    queue_bytes: u64,
    thread_name: String,
    lending: bool,
    script: Option<Script>,
    passes: Passes,
    plans: usize,
    pool_bytes: u64,
    threads: Option<usize>,
    pack_weights: bool,
    batching: Batching,
    inline_limit: Duration,
    ticket_limit: Duration,
    stepped: bool,
}

impl Builder {
    pub(super) fn new(device: &Device) -> Self {
        Builder {
            device: device.clone(),
            queue_capacity: 1024,
            queue_bytes: 1 << 30,
            thread_name: "candlewick".into(),
            lending: true,
            script: None,
            passes: Passes::ALL,
            plans: 1024,
            pool_bytes: 256 << 20,
            threads: None,
            pack_weights: true,
            batching: Batching::default(),
            inline_limit: Duration::from_micros(50),
            ticket_limit: Duration::from_secs(120),
            stepped: false,
        }
    }

    /// The bound of the queue in fragments; 1024 by default. At least 1 and at most 1 048 575 (2^20 - 1):
    /// [`Builder::build`] refuses others with [`BuildError::Capacity`].
    ///
    /// ```
    /// use candlewick::{Device, Executor};
    /// let build = |fragments| Executor::builder(&Device::Cpu).queue_capacity(fragments).build();
    /// assert!(build(1).is_ok());
    /// assert!(build(0).is_err() && build(1 << 20).is_err());
    /// ```
    pub fn queue_capacity(mut self, fragments: usize) -> Self {
        self.queue_capacity = fragments;
        self
    }

    /// The bound of the queue in bytes of host data that fragments bring along; 1 GiB by
    /// default. Tensors made by [`LazyTensor::new`](crate::LazyTensor::new) and its like count, in each fragment that
    /// carries them; tensors wrapped by `LazyTensor::from` do not. A fragment that brings more than the bound
    /// is refused with [`Error::TooLarge`](crate::Error::TooLarge), however empty the queue is.
    ///
    /// At least 1 and at most 2^42 - 1 (4 TiB less one byte): [`Builder::build`] refuses others with
    /// [`BuildError::CapacityBytes`].
    pub fn queue_bytes(mut self, bytes: u64) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// The name of the owner's thread; `candlewick` by default.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// Whether callers may drive the device themselves while no other thread does, where it allows that (the
    /// CPU): in [`Executor::run`], in a poll of [`Executor::run_async`], and while they block in
    /// [`Handle::wait`](crate::Handle::wait). On by default: it saves two thread switches. When it is off, or
    /// [`Batching::max_delay`] is above 0, all work is queued for the owner's thread.
    pub fn lending(mut self, lending: bool) -> Self {
        self.lending = lending;
        self
    }

    /// What is done to a graph before it runs; everything by default. [`Passes::NONE`] runs every
    /// operation by itself through Candle and gives eager Candle's answers bit for bit; with
    /// fusion they differ by rounding, see `docs/performance.md`.
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor, Passes};
    /// let exact = Executor::builder(&Device::Cpu).passes(Passes::NONE).build()?;
    /// let x = LazyTensor::new(&[0.5f32], &Device::Cpu)?;
    /// let y = exact.run(&x.exp()?)?;
    /// assert_eq!(y.to_vec1::<f32>()?, [0.5f32.exp()]);
    /// let no_fusion = Passes { fuse: false, ..Passes::ALL };
    /// # drop(no_fusion);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn passes(mut self, passes: Passes) -> Self {
        self.passes = passes;
        self
    }

    /// How many plans are kept for graphs of the same structure, shapes and dtypes; 1024 by
    /// default. Beyond it, half of them go: those used longest ago.
    pub fn plans(mut self, kept: usize) -> Self {
        self.plans = kept;
        self
    }

    /// How many bytes of buffers for values between steps are kept for later fragments; 256 MiB
    /// by default. On the CPU only.
    pub fn pool_bytes(mut self, bytes: u64) -> Self {
        self.pool_bytes = bytes;
        self
    }

    /// How many threads work on one large step, on the CPU; at least one. By default as many as the
    /// process may use (cores, affinity, a quota of its control group), from a pool that executors
    /// share; with a number, from a pool of this executor's own. No result depends on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.max(1));
        self
    }

    /// Whether the right side of a matrix product is kept a second time, in the order in which
    /// products read it: on the CPU, of tensors that exist (parameters, and `LazyTensor::from` a
    /// tensor), from their second product on, or from their first with many rows; in the type that
    /// is summed in, so f16 in f32, and bf16 as it is. On by default: products with few rows are several times as fast. The copy goes with the
    /// last `LazyTensor` of the tensor, so hold on to that and not to the tensor alone. No result
    /// depends on it.
    pub fn pack_weights(mut self, pack: bool) -> Self {
        self.pack_weights = pack;
        self
    }

    /// How fragments of different producers run as one, on the CPU; by default all that is queued
    /// when the device becomes free and is alike, within bounds. No result depends on it. See
    /// `docs/batching.md`.
    pub fn batching(mut self, batching: Batching) -> Self {
        self.batching = batching;
        self
    }

    /// How long the work of one [`Executor::run_async`] may take, by the plan's estimate, to be done inside
    /// of the poll if the device is idle; 50 µs by default, about what a task may compute between two
    /// awaits. Zero leaves every step to the owner.
    ///
    /// Work of which there is no estimate is always left to the owner, and so is all work where callers do
    /// not drive: [`Executor::run_async`] has the list.
    pub fn inline_limit(mut self, limit: Duration) -> Self {
        self.inline_limit = limit;
        self
    }

    /// How long a device that goes on when it returns may take for one batch before it counts as lost,
    /// from when the batch is issued or the one before it has ended, whichever is later; 120 s by default. A device that has faulted may never tell that it is done: this is what resolves
    /// the handles then. `Duration::MAX` is no limit, and with zero the device is lost at the first batch
    /// that has not ended at once.
    ///
    /// It holds where a device can be asked without waiting: today that is the simulated one. On CUDA and
    /// Metal the owner waits in the driver, as long as that takes.
    pub fn ticket_limit(mut self, limit: Duration) -> Self {
        self.ticket_limit = limit;
        self
    }

    /// Runs on a simulated device: the answers are the CPU's, latency and faults come from the
    /// script. For tests of what the application does when a device misbehaves.
    pub fn simulated(mut self, script: &Script) -> Self {
        self.script = Some(script.clone());
        self
    }

    /// For the simulation in `tests/simulate`: an executor without a thread, which
    /// [`Executor::step`] runs.
    #[doc(hidden)]
    pub fn stepped(mut self) -> Self {
        self.stepped = true;
        self
    }

    /// Starts the owner.
    ///
    /// # Errors
    /// [`Error::Build`](crate::Error::Build): a bound is zero or too large; the thread could not
    /// be started; the device is a CUDA device with a stream for each thread, or one that this
    /// build has no feature for.
    pub fn build(self) -> Result<Executor> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let capacity = self.queue_capacity;
        if capacity == 0 || capacity > MAX_FRAGMENTS {
            let max = MAX_FRAGMENTS;
            return Err(BuildError::Capacity {
                asked: capacity,
                max,
            }
            .into());
        }
        if self.queue_bytes == 0 || self.queue_bytes > MAX_BYTES {
            let (asked, max) = (self.queue_bytes, MAX_BYTES);
            return Err(BuildError::CapacityBytes { asked, max }.into());
        }
        let meter = Arc::new(Meter::default());
        let workers = Workers::new(self.threads);
        let stream = match &self.script {
            Some(script) => {
                let (pool, pack) = (self.pool_bytes, self.pack_weights);
                let cpu = stream(&Device::Cpu, pool, pack, workers, &meter)?;
                Box::new(Simulated::new(script.clone(), cpu)) as _
            }
            None => {
                let (pool, pack) = (self.pool_bytes, self.pack_weights);
                stream(&self.device, pool, pack, workers, &meter)?
            }
        };
        // ORDERING: Relaxed; a count.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let limits = Limits {
            fragments: capacity,
            bytes: self.queue_bytes,
            lending: self.lending && self.batching.max_delay.is_zero(),
        };
        let engine = Runner::new(stream, meter.clone(), self.batching, self.ticket_limit);
        let core = match self.stepped {
            true => Core::idle(limits, engine),
            false => Core::start(limits, engine, self.thread_name).map_err(BuildError::Thread)?,
        };
        let (device, location) = (self.device.clone(), self.device.location());
        let passes = Passes {
            fuse: self.passes.fuse && location == DeviceLocation::Cpu,
            ..self.passes
        };
        let home = Arc::new(ExecutorHome {
            id,
            core,
            location,
            planner: Planner::new(passes, self.plans),
        });
        let inner = Inner {
            home,
            device,
            meter,
            inline_limit: self.inline_limit,
        };
        Ok(Executor(Arc::new(inner)))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("device", &self.device.location())
            .field("queue_capacity", &self.queue_capacity)
            .field("queue_bytes", &self.queue_bytes)
            .field("thread_name", &self.thread_name)
            .field("lending", &self.lending)
            .field("simulated", &self.script.is_some())
            .field("passes", &self.passes)
            .field("plans", &self.plans)
            .field("pool_bytes", &self.pool_bytes)
            .field("batching", &self.batching)
            .field("inline_limit", &self.inline_limit)
            .field("ticket_limit", &self.ticket_limit)
            .finish()
    }
}
