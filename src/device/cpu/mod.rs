//! The CPU: fused steps by an engine of our own, everything else by Candle's operations; done when
//! they return, on whichever thread has the turn.

mod data;
mod float;
mod fused;
mod kernel;
mod math;
#[cfg(test)]
mod math_tests;
mod number;
mod pool;
mod product;

use super::CommandStream;
use super::workers::Workers;
use crate::error::Cause;
use crate::graph::{Kept, Op};
use crate::plan::{Fused, Product};
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Storage, Tensor, WithDType};
use data::{Data, Stored};
use half::{bf16, f16};
use pool::Pool;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::mem::MaybeUninit;

pub(crate) struct CpuStream {
    pool: Pool,
    /// Whether what products make of weights is kept with them.
    pack: bool,
    workers: Workers,
}

impl CpuStream {
    /// A stream that keeps so many bytes of buffers for later, and uses these threads.
    pub(super) fn new(pool_bytes: u64, pack: bool, workers: Workers) -> Self {
        Self {
            pool: Pool::new(pool_bytes),
            pack,
            workers,
        }
    }
}

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
        self.workers.eval(op, inputs)
    }
    fn read(&mut self, tensors: &[Tensor]) -> Result<Vec<Tensor>, Cause> {
        Ok(tensors.to_vec())
    }
    fn fence(&mut self) -> Result<(), Cause> {
        Ok(())
    }

    fn fused(
        &mut self,
        step: &Fused,
        inputs: &[&Tensor],
        scalars: &[f32],
        over: Option<usize>,
    ) -> Result<Tensor, Cause> {
        let over = over.and_then(|operand| Some((operand, buffer_of(inputs[operand])?)));
        let tensors = step.inputs.iter().zip(inputs);
        let tensors = tensors.map(|(operand, x)| in_order(operand.as_it_lies, x));
        let tensors: SmallVec<[Tensor; 4]> = tensors.collect::<Result<_, _>>()?;
        let guards: SmallVec<[_; 4]> = tensors.iter().map(Tensor::storage_and_layout).collect();
        let data = guards.iter().map(|(s, l)| data(s, l));
        let mut data: SmallVec<[Data<'_>; 4]> = data.collect();
        if let Some((operand, buffer)) = over {
            data[operand] = Data::F32(&[]);
            let (count, over) = (buffer.len(), step.inputs[operand].value);
            let write = |out: &mut [_]| {
                // SAFETY: the elements of the operand are still there.
                unsafe { fused::run_over(step, &data, scalars, out, over, &self.workers) }
            };
            // SAFETY: the step writes every element.
            return unsafe { filled(buffer, count, &step.dims, write) };
        }
        let (pool, workers) = (&mut self.pool, &self.workers);
        match step.dtype {
            DType::U8 => fill::<u8>(pool, step, &data, scalars, workers),
            DType::U32 => fill::<u32>(pool, step, &data, scalars, workers),
            DType::I16 => fill::<i16>(pool, step, &data, scalars, workers),
            DType::I32 => fill::<i32>(pool, step, &data, scalars, workers),
            DType::I64 => fill::<i64>(pool, step, &data, scalars, workers),
            DType::BF16 => fill::<bf16>(pool, step, &data, scalars, workers),
            DType::F16 => fill::<f16>(pool, step, &data, scalars, workers),
            DType::F32 => fill::<f32>(pool, step, &data, scalars, workers),
            DType::F64 => fill::<f64>(pool, step, &data, scalars, workers),
            other => unreachable!("the plan makes no {other:?}"),
        }
    }

    fn product(
        &mut self,
        step: &Product,
        inputs: &[&Tensor],
        scalars: &[f32],
        kept: [Option<&Kept>; 2],
    ) -> Result<Tensor, Cause> {
        let tensors = step
            .lie()
            .zip(inputs)
            .map(|(as_it_lies, x)| in_order(as_it_lies, x));
        let tensors: SmallVec<[Tensor; 4]> = tensors.collect::<Result<_, _>>()?;
        let guards: SmallVec<[_; 4]> = tensors.iter().map(Tensor::storage_and_layout).collect();
        let mut data = guards.iter().map(|(s, l)| data(s, l));
        let mut factor = || match data.next() {
            Some(Data::F32(data)) => data,
            _ => unreachable!("the plan takes products of f32"),
        };
        let (a, b) = (factor(), factor());
        let second = step.second.as_ref().map(|_| factor());
        let operands = product::Operands {
            a,
            rights: [Some(b), second],
            kept: kept.map(|kept| kept.filter(|_| self.pack)),
            programs: &product::program_operands(step, data),
            scalars,
        };
        let count = step.dims.iter().product();
        let (buffer, workers) = (self.pool.take::<f32>(count)?, &self.workers);
        // SAFETY: the product writes every element.
        unsafe {
            filled(buffer, count, &step.dims, |out| {
                product::run(step, &operands, out, workers)
            })
        }
    }

    fn recycle(&mut self, tensor: Tensor) {
        if tensor.elem_count() * tensor.dtype().size_in_bytes() < pool::SMALLEST {
            return;
        }
        match taken(&tensor) {
            Some(CpuStorage::U8(buffer)) => self.pool.put(buffer),
            Some(CpuStorage::U32(buffer)) => self.pool.put(buffer),
            Some(CpuStorage::I16(buffer)) => self.pool.put(buffer),
            Some(CpuStorage::I32(buffer)) => self.pool.put(buffer),
            Some(CpuStorage::I64(buffer)) => self.pool.put(buffer),
            Some(CpuStorage::BF16(buffer)) => self.pool.put(buffer),
            Some(CpuStorage::F16(buffer)) => self.pool.put(buffer),
            Some(CpuStorage::F32(buffer)) => self.pool.put(buffer),
            Some(CpuStorage::F64(buffer)) => self.pool.put(buffer),
            _ => {}
        }
    }
}

/// The result of a step, of this type.
fn fill<T: Stored>(
    pool: &mut Pool,
    step: &Fused,
    data: &[Data<'_>],
    scalars: &[f32],
    workers: &Workers,
) -> Result<Tensor, Cause> {
    let (dims, count) = (&step.dims[..], step.dims.iter().product());
    let buffer = pool.take::<T>(count)?;
    let write = |out: &mut [_]| fused::run(step, data, scalars, out, workers);
    // SAFETY: the step writes every element.
    unsafe { filled(buffer, count, dims, write) }
}

/// The tensor as the plan expects it to lie: a view that Candle made is copied.
fn in_order(as_it_lies: bool, x: &Tensor) -> Result<Tensor, Cause> {
    match as_it_lies || x.is_contiguous() {
        true => Ok(x.clone()),
        false => x.contiguous().map_err(Cause::Candle),
    }
}

/// A tensor whose elements `write` makes, in a buffer with room for so many.
///
/// # Safety
/// `write` must have written every element when it returns.
unsafe fn filled<T: WithDType>(
    mut buffer: Vec<T>,
    count: usize,
    dims: &[usize],
    write: impl FnOnce(&mut [MaybeUninit<T>]),
) -> Result<Tensor, Cause> {
    buffer.clear();
    write(&mut buffer.spare_capacity_mut()[..count]);
    // SAFETY: the caller's promise.
    unsafe { buffer.set_len(count) };
    Tensor::from_vec(buffer, dims, &Device::Cpu).map_err(Cause::Candle)
}

/// The elements of a tensor, from its first one on. A view without elements may begin anywhere.
fn data<'a>(storage: &'a Storage, layout: &Layout) -> Data<'a> {
    fn from<T>(data: &[T], first: usize) -> &[T] {
        data.get(first..).unwrap_or_default()
    }
    let first = layout.start_offset();
    match storage {
        Storage::Cpu(CpuStorage::U8(data)) => Data::U8(from(data, first)),
        Storage::Cpu(CpuStorage::U32(data)) => Data::U32(from(data, first)),
        Storage::Cpu(CpuStorage::I16(data)) => Data::I16(from(data, first)),
        Storage::Cpu(CpuStorage::I32(data)) => Data::I32(from(data, first)),
        Storage::Cpu(CpuStorage::I64(data)) => Data::I64(from(data, first)),
        Storage::Cpu(CpuStorage::BF16(data)) => Data::BF16(from(data, first)),
        Storage::Cpu(CpuStorage::F16(data)) => Data::F16(from(data, first)),
        Storage::Cpu(CpuStorage::F32(data)) => Data::F32(from(data, first)),
        Storage::Cpu(CpuStorage::F64(data)) => Data::F64(from(data, first)),
        _ => unreachable!("the plan takes such dtypes to Candle"),
    }
}

/// The buffer of a tensor that nobody else knows, which is left without elements.
fn taken(tensor: &Tensor) -> Option<CpuStorage> {
    let take = Take(RefCell::new(None));
    tensor.inplace_op1(&take).ok()?;
    take.0.into_inner()
}

/// The same, if it is worth to be written over.
fn buffer_of(tensor: &Tensor) -> Option<Vec<f32>> {
    let bytes = tensor.elem_count() * size_of::<f32>();
    if tensor.dtype() != DType::F32 || bytes < pool::SMALLEST {
        return None;
    }
    match taken(tensor)? {
        CpuStorage::F32(buffer) => Some(buffer),
        _ => None,
    }
}

/// Takes the buffer out of a tensor.
struct Take(RefCell<Option<CpuStorage>>);

impl InplaceOp1 for Take {
    fn name(&self) -> &'static str {
        "take"
    }
    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        let buffer = std::mem::replace(storage, CpuStorage::U8(Vec::new()));
        self.0.replace(Some(buffer));
        Ok(())
    }
}
