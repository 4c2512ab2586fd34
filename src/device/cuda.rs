//! CUDA, through Candle's operations on one explicit stream.

use super::{CommandStream, eval};
use crate::error::{BuildError, Cause};
use crate::graph::Op;
use candle_core::{Device, Tensor};

pub(crate) struct CudaStream {
    device: Device,
}

impl CudaStream {
    /// `Device::new_cuda` gives every thread a stream of its own (handle 2 is
    /// `CU_STREAM_PER_THREAD`), and nothing orders one thread's work after another's: a result
    /// made by the owner could be read before it is written. Such a device is refused.
    pub(crate) fn new(device: &Device) -> Result<Self, BuildError> {
        const PER_THREAD: usize = 2;
        let cuda = device.as_cuda_device().map_err(BuildError::Device)?;
        if cuda.cuda_stream().cu_stream() as usize == PER_THREAD {
            return Err(BuildError::PerThreadStream);
        }
        Ok(Self {
            device: device.clone(),
        })
    }

    /// Kernel faults are sticky: once one has happened, every later call fails. So does this.
    fn check(&self, cause: Cause) -> Cause {
        match self.device.synchronize() {
            Ok(()) => cause,
            Err(sticky) => Cause::DeviceLost(sticky.to_string()),
        }
    }
}

impl CommandStream for CudaStream {
    fn device(&self) -> &Device {
        &self.device
    }
    fn lendable(&self) -> bool {
        false // the context is bound to a thread
    }
    fn synchronous(&self) -> bool {
        false
    }
    fn run(&mut self, op: &Op, inputs: &[&Tensor]) -> Result<Tensor, Cause> {
        eval::eval(op, inputs).map_err(|cause| match cause {
            Cause::Candle(_) => self.check(cause),
            refused => refused,
        })
    }
    fn read(&mut self, tensors: &[Tensor]) -> Result<Vec<Tensor>, Cause> {
        // The first copy waits for the stream; the others find it idle.
        let read: Result<_, _> = tensors.iter().map(|t| t.to_device(&Device::Cpu)).collect();
        read.map_err(|error| self.check(Cause::Candle(error)))
    }
    fn fence(&mut self) -> Result<(), Cause> {
        self.device
            .synchronize()
            .map_err(|error| self.check(Cause::Candle(error)))
    }
}
