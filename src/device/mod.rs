//! *With what*: the command streams of the devices, and the engine that runs plans on them.

mod batch;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod eval;
mod forms;
mod groups;
mod joint;
#[cfg(feature = "metal")]
mod metal;
pub(crate) mod meter;
mod panics;
pub(crate) mod room;
pub(crate) mod runner;
pub(crate) mod simulated;
mod value;
pub(crate) mod work;
pub(crate) mod workers;

pub use simulated::{Fault, Script};

use crate::core::actor::engine::Bell;
use crate::core::sync::Deadline;
use crate::error::{BuildError, Cause};
use crate::graph::{Kept, Op};
use crate::plan::product::PRODUCTS;
use crate::plan::{Fused, Product};
use candle_core::{Device, Tensor};
use meter::Meter;
use smallvec::SmallVec;
use std::sync::Arc;
use std::task::Poll;
use workers::Workers;

/// A device's ordered queue of commands, used by one thread at a time.
///
/// Tensors that it returns may still be in the making, except on a synchronous stream; reading
/// them through the stream, or [`CommandStream::fence`], waits.
pub(crate) trait CommandStream: Send {
    /// The device.
    fn device(&self) -> &Device;

    /// Whether any thread may use the stream, one at a time, or only the owner's thread.
    fn lendable(&self) -> bool;

    /// Whether commands are done when they return.
    fn synchronous(&self) -> bool;

    /// Runs one operation.
    fn run(&mut self, op: &Op, inputs: &[&Tensor]) -> Result<Tensor, Cause>;

    /// Runs a fused step; with `over`, writes the result over that operand. Only plans for the CPU and the
    /// simulated device have such steps.
    fn fused(
        &mut self,
        step: &Fused,
        _: &[&Tensor],
        _: &[f32],
        _over: Option<usize>,
    ) -> Result<Tensor, Cause> {
        unreachable!("{:?} on a device that does not fuse", step.ops)
    }

    /// Runs a matrix product and what follows it; `kept` belongs to its right sides. Only plans for the CPU and
    /// the simulated device have such steps.
    fn product(
        &mut self,
        step: &Product,
        _: &[&Tensor],
        _: &[f32],
        _: [Option<&Kept>; PRODUCTS],
    ) -> Result<Tensor, Cause> {
        unreachable!("{} on a device that does not fuse", step.op)
    }

    /// The elements of tensors of one dtype one after another, in a tensor of one dimension. Only
    /// batches on the CPU need it.
    fn join(&mut self, _: &[Tensor]) -> Result<Tensor, Cause> {
        unreachable!("a batch on a device that does not fuse")
    }

    /// Runs steps that have nothing to do with each other, side by side. A panic in one is its
    /// error. Only the CPU needs it.
    fn apart(&mut self, _: &[Part<'_>]) -> Vec<Result<Tensor, Cause>> {
        unreachable!("steps side by side on a device that does not fuse")
    }

    /// Gets a tensor back that the stream made in a fused step or a product and that nobody else has seen.
    fn recycle(&mut self, tensor: Tensor) {
        drop(tensor);
    }

    /// Copies tensors to the host, with one wait for all of them.
    fn read(&mut self, tensors: &[Tensor]) -> Result<Vec<Tensor>, Cause>;

    /// Whether the bell is rung when a ticket ends. By default it is not, and the owner waits.
    fn attach(&mut self, _: Bell) -> bool {
        false
    }

    /// A ticket for all commands since the last one. Not asked for on a synchronous stream.
    fn ticket(&mut self) -> Ticket {
        Ticket(0)
    }

    /// How a ticket stands, without waiting. An error is one that came late, and may belong to any of its
    /// commands.
    fn poll(&mut self, _: Ticket) -> Poll<Result<(), Cause>> {
        Poll::Pending
    }

    /// Waits until a ticket has ended, at most until the deadline where the device can, and says how it
    /// stands. By default for all commands.
    fn wait(&mut self, _: Ticket, _: Option<&Deadline>) -> Poll<Result<(), Cause>> {
        Poll::Ready(self.fence())
    }

    /// Waits until all commands are done. An error is one that came late.
    fn fence(&mut self) -> Result<(), Cause>;

    /// The reason, if the device has told that it will not run anything again.
    fn lost(&mut self) -> Option<Cause> {
        None
    }

    /// Something that runs a part of a batch and then frees what the platform keeps until then.
    fn pool(&self) -> fn(&mut dyn FnMut()) {
        |part| part()
    }
}

/// Commands of a stream that end together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(pub(crate) u64);

/// A step that runs beside others: of one fragment, or of several.
pub(crate) struct Part<'a> {
    pub(crate) step: PartStep<'a>,
    pub(crate) inputs: SmallVec<[Tensor; 4]>,
    pub(crate) scalars: &'a [f32],
    /// What is kept with the right sides of the step's products.
    pub(crate) kept: [Option<&'a Kept>; PRODUCTS],
}

/// What a step that runs beside others is.
#[derive(Clone, Copy)]
pub(crate) enum PartStep<'a> {
    Fused(&'a Fused),
    Product(&'a Product),
    /// An operation of Candle's that copies, and divides nothing itself; and how many elements.
    Copy(&'a Op, usize),
}

/// How many simple operations take as long as copying an element.
const COPY: usize = 16;

impl Part<'_> {
    /// About how many simple operations take as long as this part.
    fn work(&self) -> usize {
        match self.step {
            PartStep::Fused(step) => step.effort(),
            PartStep::Product(step) => step.effort(),
            PartStep::Copy(_, elements) => elements * COPY,
        }
    }
}

impl PartStep<'_> {
    /// The operation that an error names if the step fails.
    fn name(&self) -> &'static str {
        match self {
            PartStep::Fused(step) => step.name(),
            PartStep::Product(step) => step.op,
            PartStep::Copy(op, _) => op.name(),
        }
    }
}

/// Makes the command stream of a device.
///
/// The other arguments are for the CPU's: at most `pool_bytes` bytes of buffers are kept for later steps, weights
/// are packed if `pack` says so, `workers` help with large steps, and `meter` counts the bytes that are kept.
pub(crate) fn stream(
    device: &Device,
    pool_bytes: u64,
    pack: bool,
    workers: Workers,
    meter: &Arc<Meter>,
) -> Result<Box<dyn CommandStream>, BuildError> {
    match device {
        Device::Cpu => Ok(Box::new(cpu::CpuStream::new(
            pool_bytes, pack, workers, meter,
        ))),
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => Ok(Box::new(cuda::CudaStream::new(device)?)),
        #[cfg(feature = "metal")]
        Device::Metal(_) => Ok(Box::new(metal::MetalStream::new(device)?)),
        #[allow(unreachable_patterns)] // reachable unless both features are on
        other => Err(BuildError::UnknownDevice(other.location())),
    }
}
