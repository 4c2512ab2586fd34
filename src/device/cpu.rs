//! The CPU: Candle's own operations, done when they return, on whichever thread has the turn.

use super::{CommandStream, eval};
use crate::error::Cause;
use crate::graph::Op;
use candle_core::{Device, Tensor};

pub(crate) struct CpuStream;

impl CommandStream for CpuStream {
    fn device(&self) -> &Device {
        &Device::Cpu
    }
    fn lendable(&self) -> bool {
        true
    }
    fn synchronous(&self) -> bool {
        true
    }
    fn run(&mut self, op: &Op, inputs: &[&Tensor]) -> Result<Tensor, Cause> {
        eval::eval(op, inputs)
    }
    fn read(&mut self, tensors: &[Tensor]) -> Result<Vec<Tensor>, Cause> {
        Ok(tensors.to_vec())
    }
    fn fence(&mut self) -> Result<(), Cause> {
        Ok(())
    }
}
