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
mod pages;
mod pool;
mod product;
mod tile;

use super::meter::Meter;
use super::panics::caught;
use super::workers::Workers;
use super::{CommandStream, Part, PartStep, eval};
use crate::error::Cause;
use crate::graph::{Kept, Op};
use crate::plan::product::PRODUCTS;
use crate::plan::{Fused, Product};
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Storage, Tensor, WithDType};
use data::{Data, Stored};
use pool::Pool;
use smallvec::SmallVec;
use std::borrow::{Borrow, Cow};
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// Runs what stands for each dtype that the engine has.
macro_rules! for_dtype {
    ($dtype:expr, $T:ident => $run:expr) => {{
        macro_rules! with {
            ($type:ty) => {{
                type $T = $type;
                $run
            }};
        }
        match $dtype {
            DType::U8 => with!(u8),
            DType::U32 => with!(u32),
            DType::I16 => with!(i16),
            DType::I32 => with!(i32),
            DType::I64 => with!(i64),
            DType::BF16 => with!(half::bf16),
            DType::F16 => with!(half::f16),
            DType::F32 => with!(f32),
            DType::F64 => with!(f64),
            other => unreachable!("the plan makes no {other:?}"),
        }
    }};
}
pub(crate) struct CpuStream {
    pool: Pool,
    /// Whether what products make of weights is kept with them.
    pack: bool,
    workers: Workers,
    meter: Arc<Meter>,
}

impl CpuStream {
    /// A stream that keeps at most `pool_bytes` bytes of buffers for later, packs weights if `pack` says so, and
    /// has the help of `workers`.
    pub(super) fn new(pool_bytes: u64, pack: bool, workers: Workers, meter: &Arc<Meter>) -> Self {
        Self {
            pool: Pool::new(pool_bytes, meter.clone()),
            pack,
            workers,
            meter: meter.clone(),
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
        let buffer = over.and_then(|operand| Some((operand, buffer_of(inputs[operand])?)));
        let Some((operand, buffer)) = buffer else {
            let buffer = room(&mut self.pool, step.dtype, elements(&step.dims))?;
            return fused_in(buffer, step, inputs, scalars, &self.workers);
        };
        with_data(step.inputs.iter().map(|i| i.as_it_lies), inputs, |data| {
            let mut data: SmallVec<[Data<'_>; 4]> = SmallVec::from_slice(data);
            data[operand] = Data::F32(&[]);
            let (count, over) = (buffer.len(), step.inputs[operand].value);
            let write = |out: &mut [_]| {
                // SAFETY: the elements of the operand are still there.
                unsafe { fused::run_over(step, &data, scalars, out, over, &self.workers) }
            };
            // SAFETY: the step writes every element.
            unsafe { filled(buffer, count, &step.dims, write) }
        })
    }

    fn product(
        &mut self,
        step: &Product,
        inputs: &[&Tensor],
        scalars: &[f32],
        kept: [Option<&Kept>; PRODUCTS],
    ) -> Result<Tensor, Cause> {
        let buffer = room(&mut self.pool, step.dtype, elements(&step.dims))?;
        let kept = kept.map(|kept| kept.filter(|_| self.pack));
        let kept = (kept, &self.meter);
        product_in(buffer, step, inputs, scalars, kept, &self.workers)
    }

    fn join(&mut self, parts: &[Tensor]) -> Result<Tensor, Cause> {
        let count = parts.iter().map(Tensor::elem_count).sum();
        let dtype = parts.first().map_or(DType::U8, Tensor::dtype);
        for_dtype!(dtype, T => {
            let mut buffer = self.pool.take::<T>(count)?;
            for part in parts {
                append(&mut buffer, part)?;
            }
            Tensor::from_vec(buffer, count, &Device::Cpu).map_err(Cause::Candle)
        })
    }

    fn apart(&mut self, parts: &[Part<'_>]) -> Vec<Result<Tensor, Cause>> {
        let (pack, workers, meter) = (self.pack, &self.workers, &self.meter);
        let pool = &mut self.pool;
        let begun = parts.iter().map(|part| {
            let (dims, dtype) = match part.step {
                PartStep::Fused(step) => (&step.dims[..], step.dtype),
                PartStep::Product(step) => (&step.dims[..], step.dtype),
                PartStep::Copy(..) => (&[0][..], DType::F32), // it makes its own
            };
            (part, room(pool, dtype, elements(dims)))
        });
        let begun: Vec<_> = begun.collect();
        let run = |(part, buffer): (&Part<'_>, Result<CpuStorage, Cause>), workers: &Workers| {
            let inputs: SmallVec<[&Tensor; 4]> = part.inputs.iter().collect();
            caught(|| match part.step {
                PartStep::Copy(op, _) => eval::eval(op, &inputs),
                PartStep::Fused(step) => fused_in(buffer?, step, &inputs, part.scalars, workers),
                PartStep::Product(step) => {
                    let kept = part.kept.map(|kept| kept.filter(|_| pack));
                    let kept = (kept, meter);
                    product_in(buffer?, step, &inputs, part.scalars, kept, workers)
                }
            })
        };
        workers.each(begun, parts.iter().map(Part::work).sum(), run)
    }

    fn recycle(&mut self, tensor: Tensor) {
        if tensor.elem_count() * tensor.dtype().size_in_bytes() < pool::SMALLEST {
            return;
        }
        let Some(storage) = taken(&tensor) else {
            return;
        };
        for_dtype!(tensor.dtype(), T => {
            if let Ok(buffer) = T::cpu_storage_data(storage) {
                self.pool.put(buffer);
            }
        })
    }
}

/// The number of elements of this shape.
fn elements(dims: &[usize]) -> usize {
    dims.iter().product()
}

/// Copies the elements of a tensor behind those that are there.
fn append<T: WithDType>(buffer: &mut Vec<T>, tensor: &Tensor) -> Result<(), Cause> {
    let tensor = in_order(false, tensor)?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        unreachable!("a tensor on the CPU")
    };
    let elements = T::cpu_storage_as_slice(storage).map_err(Cause::Candle)?;
    let first = layout.start_offset();
    buffer.extend_from_slice(
        elements
            .get(first..first + tensor.elem_count())
            .unwrap_or_default(),
    );
    Ok(())
}

/// An empty buffer with room for `count` elements.
fn room(pool: &mut Pool, dtype: DType, count: usize) -> Result<CpuStorage, Cause> {
    for_dtype!(dtype, T => Ok(T::to_cpu_storage_owned(pool.take::<T>(count)?)))
}

/// Calls `run` with the elements of tensors, each as it lies or in order.
fn with_data<R>(
    lie: impl Iterator<Item = bool>,
    tensors: &[impl Borrow<Tensor>],
    run: impl FnOnce(&[Data<'_>]) -> Result<R, Cause>,
) -> Result<R, Cause> {
    let tensors = lie.zip(tensors).map(|(lies, x)| in_order(lies, x.borrow()));
    let tensors: SmallVec<[Cow<'_, Tensor>; 4]> = tensors.collect::<Result<_, _>>()?;
    let guards: SmallVec<[_; 4]> = tensors.iter().map(|x| x.storage_and_layout()).collect();
    let data: SmallVec<[Data<'_>; 4]> = guards.iter().map(|(s, l)| data(s, l)).collect();
    run(&data)
}

/// Runs a fused step; its result goes to this buffer.
fn fused_in(
    buffer: CpuStorage,
    step: &Fused,
    inputs: &[&Tensor],
    scalars: &[f32],
    workers: &Workers,
) -> Result<Tensor, Cause> {
    with_data(step.inputs.iter().map(|i| i.as_it_lies), inputs, |data| {
        for_dtype!(step.dtype, T => {
            let buffer = T::cpu_storage_data(buffer).map_err(Cause::Candle)?;
            let write = |out: &mut [_]| fused::run(step, data, scalars, out, workers);
            // SAFETY: the step writes every element.
            unsafe { filled::<T>(buffer, elements(&step.dims), &step.dims, write) }
        })
    })
}

/// Runs a product and what follows it; the result goes to this buffer.
fn product_in(
    buffer: CpuStorage,
    step: &Product,
    inputs: &[&Tensor],
    scalars: &[f32],
    (kept, meter): ([Option<&Kept>; PRODUCTS], &Arc<Meter>),
    workers: &Workers,
) -> Result<Tensor, Cause> {
    with_data(step.lie(), inputs, |data| {
        let mut data = data.iter().copied();
        let mut factor = || data.next().unwrap_or(Data::F32(&[])); // there is one for each
        let sides = step.sides();
        let factors = sides.map(|sides| Some((sides?.a.map(|_| factor()), factor())));
        let operands = product::Operands {
            factors,
            kept,
            meter,
            programs: &product::program_operands(step, data),
            scalars,
        };
        for_dtype!(step.dtype, T => {
            let buffer = T::cpu_storage_data(buffer).map_err(Cause::Candle)?;
            let write = |out: &mut [_]| product::run(step, &operands, T::out(out), workers);
            // SAFETY: the product writes every element.
            unsafe { filled::<T>(buffer, elements(&step.dims), &step.dims, write) }
        })
    })
}

/// The tensor as the plan expects it to lie: a view that Candle made is copied.
fn in_order(as_it_lies: bool, x: &Tensor) -> Result<Cow<'_, Tensor>, Cause> {
    match as_it_lies || x.is_contiguous() {
        true => Ok(Cow::Borrowed(x)),
        false => x.contiguous().map(Cow::Owned).map_err(Cause::Candle),
    }
}

/// A tensor of `count` elements that `write` makes, in a buffer with room for them.
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
