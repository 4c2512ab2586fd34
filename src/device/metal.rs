//! Metal, through Candle's operations on Candle's one command queue.

use super::{CommandStream, eval};
use crate::error::{BuildError, Cause};
use crate::graph::Op;
use candle_core::{Device, MetalDevice, Storage, Tensor};

pub(crate) struct MetalStream {
    device: Device,
    metal: MetalDevice,
}

impl MetalStream {
    pub(crate) fn new(device: &Device) -> Result<Self, BuildError> {
        let metal = device
            .as_metal_device()
            .map_err(BuildError::Device)?
            .clone();
        let device = device.clone();
        Ok(Self { device, metal })
    }

    /// Encodes copies of all tensors into buffers that the host can read, and waits once: each
    /// wait costs a notification of the operating system, 1 to 2 ms.
    fn read_contiguous(&self, tensors: &[Tensor]) -> candle_core::Result<Vec<Tensor>> {
        let mut staged = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
            let builder = self.metal.new_buffer_builder().with_size(bytes.max(1));
            staged.push((builder.build()?, bytes));
        }
        {
            let mut blit = self.metal.blit_command_encoder()?;
            for (tensor, (stage, bytes)) in tensors.iter().zip(&staged) {
                let (storage, layout) = tensor.storage_and_layout();
                if let Storage::Metal(storage) = &*storage {
                    let offset = layout.start_offset() * tensor.dtype().size_in_bytes();
                    blit.copy_from_buffer(storage.buffer(), offset, stage, 0, *bytes);
                }
            }
            // the guard holds the queue's lock: no other Candle call before it is dropped
        }
        self.metal.flush_and_wait_current()?;
        let read = tensors.iter().zip(&staged).map(|(tensor, (stage, bytes))| {
            // SAFETY: the buffer is in shared memory, at least `bytes` long and kept alive by
            // `staged`; the copy into it has finished, and nobody writes to it any more.
            let data = unsafe { std::slice::from_raw_parts(stage.contents(), *bytes) };
            Tensor::from_raw_buffer(data, tensor.dtype(), tensor.dims(), &Device::Cpu)
        });
        read.collect()
    }
}

impl CommandStream for MetalStream {
    fn device(&self) -> &Device {
        &self.device
    }
    fn lendable(&self) -> bool {
        false // encoders and autorelease pools belong to the owner's thread
    }
    fn synchronous(&self) -> bool {
        false
    }
    fn run(&mut self, op: &Op, inputs: &[&Tensor]) -> Result<Tensor, Cause> {
        eval::eval(op, inputs)
    }
    fn read(&mut self, tensors: &[Tensor]) -> Result<Vec<Tensor>, Cause> {
        let contiguous: candle_core::Result<Vec<_>> =
            tensors.iter().map(Tensor::contiguous).collect();
        contiguous
            .and_then(|tensors| self.read_contiguous(&tensors))
            .map_err(Cause::Candle)
    }
    fn fence(&mut self) -> Result<(), Cause> {
        self.device.synchronize().map_err(Cause::Candle)
    }
    fn pool(&self) -> fn(&mut dyn FnMut()) {
        // Candle makes autoreleased objects for every command and never drains them.
        |part| objc2::rc::autoreleasepool(|_| part())
    }
}
