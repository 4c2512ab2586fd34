//! A device that answers like the CPU and fails by a script: for tests of what happens when a
//! device is slow, out of memory, reports an error late or is lost.

use super::CommandStream;
use super::workers::Workers;
use crate::error::Cause;
use crate::graph::Op;
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a simulated device is to do, and what it has done. Clones share one device.
///
/// Steps (operations) and fences (waits for a batch) are counted from 0.
///
/// ```
/// use candlewick::device::{Fault, Script};
/// use candlewick::{Device, Executor, LazyTensor};
/// let script = Script::new();
/// script.at_step(1, Fault::OutOfMemory { asked: 1 << 40, left: 1 << 30 });
/// let executor = Executor::builder(&Device::Cpu).simulated(&script).build()?;
/// let x = LazyTensor::new(&[1f32], &Device::Cpu)?;
/// executor.submit(&x.exp()?)?.wait()?;
/// let error = executor.submit(&x.sin()?)?.wait().unwrap_err();
/// assert!(error.to_string().contains("out of device memory"), "{error}");
/// executor.submit(&x.cos()?)?.wait()?; // the device has recovered
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Script(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    step_latency: Duration,
    fence_latency: Duration,
    steps: u64,
    fences: u64,
    at_step: BTreeMap<u64, Fault>,
    at_fence: BTreeMap<u64, Fault>,
    held: bool,
    holding: bool,
    lost: Option<String>,
    owner_panics: bool,
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// An error with this message. At a fence: one that comes late, and may belong to any
    /// fragment of the batch.
    Error(String),
    /// The device has no memory left for what it is asked to do.
    OutOfMemory {
        /// Bytes asked for.
        asked: u64,
        /// Bytes that were left.
        left: u64,
    },
    /// A panic with this message.
    Panic(String),
    /// The device is lost.
    Lost(String),
    /// The owner itself panics, after the batch, outside of any operation.
    OwnerPanic,
}

impl Script {
    /// A device without latency that does not fail.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long each step takes to issue, and each fence to wait.
    pub fn latency(&self, step: Duration, fence: Duration) {
        let mut state = self.state();
        state.step_latency = step;
        state.fence_latency = fence;
    }

    /// What happens at step number `step`, once.
    pub fn at_step(&self, step: u64, fault: Fault) {
        self.state().at_step.insert(step, fault);
    }

    /// What happens at fence number `fence`, once.
    pub fn at_fence(&self, fence: u64, fault: Fault) {
        self.state().at_fence.insert(fence, fault);
    }

    /// Steps run so far.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Fences passed so far.
    pub fn fences(&self) -> u64 {
        self.state().fences
    }

    /// The next step does not begin until [`Script::resume`].
    pub fn hold(&self) {
        self.state().held = true;
    }

    /// Waits until a step has met [`Script::hold`]: the owner is then busy.
    pub fn wait_until_held(&self) {
        let mut state = self.state();
        while !state.holding {
            state = self
                .0
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets a held device go on.
    pub fn resume(&self) {
        self.state().held = false;
        self.0.changed.notify_all();
    }

    /// Counts a step and says what is to happen at it.
    fn step(&self) -> (Duration, Option<Fault>) {
        let mut state = self.state();
        while state.held {
            state.holding = true;
            self.0.changed.notify_all();
            state = self
                .0
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.holding = false;
        let number = state.steps;
        state.steps += 1;
        (state.step_latency, state.at_step.remove(&number))
    }

    fn fence(&self) -> (Duration, Option<Fault>) {
        let mut state = self.state();
        let number = state.fences;
        state.fences += 1;
        (state.fence_latency, state.at_fence.remove(&number))
    }

    fn happen(&self, fault: Option<Fault>) -> Result<(), Cause> {
        match fault {
            None => Ok(()),
            Some(Fault::Error(text)) => Err(Cause::Candle(candle_core::Error::Msg(text))),
            Some(Fault::OutOfMemory { asked, left }) => Err(Cause::OutOfMemory { asked, left }),
            Some(Fault::Panic(text)) => std::panic::resume_unwind(Box::new(text)),
            Some(Fault::Lost(text)) => {
                self.state().lost = Some(text.clone());
                Err(Cause::DeviceLost(text))
            }
            Some(Fault::OwnerPanic) => {
                self.state().owner_panics = true;
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Script")
            .field("steps", &state.steps)
            .field("fences", &state.fences)
            .field("lost", &state.lost)
            .finish()
    }
}

/// The command stream of a simulated device: like a GPU's, it is bound to its owner's thread and
/// its results count only after a fence.
pub(crate) struct Simulated {
    script: Script,
    workers: Workers,
}

impl Simulated {
    pub(crate) fn new(script: Script, workers: Workers) -> Self {
        Self { script, workers }
    }

    fn alive(&self) -> Result<(), Cause> {
        match &self.script.state().lost {
            Some(text) => Err(Cause::DeviceLost(text.clone())),
            None => Ok(()),
        }
    }
}

impl CommandStream for Simulated {
    fn device(&self) -> &Device {
        &Device::Cpu
    }
    fn lendable(&self) -> bool {
        false
    }
    fn synchronous(&self) -> bool {
        false
    }
    fn run(&mut self, op: &Op, inputs: &[&Tensor]) -> Result<Tensor, Cause> {
        self.alive()?;
        let (latency, fault) = self.script.step();
        std::thread::sleep(latency);
        self.script.happen(fault)?;
        self.workers.eval(op, inputs)
    }
    fn read(&mut self, tensors: &[Tensor]) -> Result<Vec<Tensor>, Cause> {
        self.fence()?;
        Ok(tensors.to_vec())
    }
    fn fence(&mut self) -> Result<(), Cause> {
        self.alive()?;
        let (latency, fault) = self.script.fence();
        std::thread::sleep(latency);
        self.script.happen(fault)
    }
    fn lost(&mut self) -> Option<Cause> {
        let mut state = self.script.state();
        if std::mem::take(&mut state.owner_panics) {
            drop(state);
            std::panic::resume_unwind(Box::new("the owner's own code panicked".to_owned()));
        }
        state.lost.clone().map(Cause::DeviceLost)
    }
}
