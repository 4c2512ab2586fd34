//! The CPU: fused steps by an engine of our own, everything else by Candle's operations; done when
//! they return, on whichever thread has the turn.

mod data;
mod float;
mod fused;
mod kernel;
mod math;
#[cfg(test)]
mod math_tests;
mod memory;
mod number;
mod pages;
mod place;
mod pool;
mod product;
mod tile;

use super::meter::Meter;
use super::panics::caught;
use super::workers::Workers;
use super::{CommandStream, Part, PartStep, eval};
use crate::error::Cause;
use crate::graph::leaf::{missing, missing_in};
use crate::graph::{Kept, Op};
use crate::plan::product::PRODUCTS;
use crate::plan::{Fused, Product};
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Storage, Tensor, WithDType};
use data::{Data, Stored};
use place::{Place, places};
use pool::Pool;
use smallvec::SmallVec;
use std::borrow::{Borrow, Cow};
use std::cell::RefCell;
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
        let lie = step.inputs.iter().map(|i| i.as_it_lies);
        with_data(lie, inputs, Some(operand), |data| {
            let (count, over) = (buffer.len(), step.inputs[operand].value);
            let write = |out: &mut [_]| {
                // SAFETY: the elements of the operand are still there.
                unsafe { fused::run_over(step, data, scalars, out, over, &self.workers) };
                Ok(())
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
        let count = parts
            .iter()
            .map(Tensor::elem_count)
            .fold(0, usize::saturating_add);
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
        let work = parts.iter().map(Part::work);
        workers.each(begun, work.fold(0, usize::saturating_add), run)
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
    dims.iter().product() // the graph has checked that it can be addressed
}

/// Copies the elements of a tensor behind those that are there.
fn append<T: WithDType>(buffer: &mut Vec<T>, tensor: &Tensor) -> Result<(), Cause> {
    let tensor = in_order(false, tensor)?;
    let (storage, layout) = tensor.storage_and_layout();
    if let Some(missing) = missing_in(&storage, layout) {
        return Err(missing.into());
    }
    let Storage::Cpu(storage) = &*storage else {
        unreachable!("a tensor on the CPU")
    };
    let elements = T::cpu_storage_as_slice(storage).map_err(Cause::Candle)?;
    let (first, count) = (layout.start_offset(), tensor.elem_count());
    // a view without elements may begin anywhere
    buffer.extend_from_slice(elements.get(first..first + count).unwrap_or_default());
    Ok(())
}

/// An empty buffer with room for `count` elements.
fn room(pool: &mut Pool, dtype: DType, count: usize) -> Result<CpuStorage, Cause> {
    for_dtype!(dtype, T => Ok(T::to_cpu_storage_owned(pool.take::<T>(count)?)))
}

/// Calls `run` with the elements of tensors, each as it lies or in order, and with none of the one that was `taken`.
fn with_data<R>(
    lie: impl Iterator<Item = bool>,
    tensors: &[impl Borrow<Tensor>],
    taken: Option<usize>,
    run: impl FnOnce(&[Data<'_>]) -> Result<R, Cause>,
) -> Result<R, Cause> {
    let is_taken = |place: usize| taken == Some(place);
    let ordered = lie.zip(tensors).enumerate().map(|(place, (lies, x))| {
        in_order(lies || is_taken(place), x.borrow()) // no step reads a taken operand
    });
    let tensors: SmallVec<[Cow<'_, Tensor>; 4]> = ordered.collect::<Result<_, _>>()?;
    // The lock of some memory is asked for once, also for several views: with a writer waiting, to ask again would
    // be to wait for oneself. So it is known which memory is whose before a lock is held.
    let address = |x: &Cow<'_, Tensor>| std::ptr::from_ref::<Storage>(&x.storage_and_layout().0);
    let addresses: SmallVec<[_; 4]> = tensors.iter().map(address).collect();
    let first = |at: &_| addresses.iter().position(|other| other == at);
    let guards: SmallVec<[_; 4]> = (tensors.iter().zip(&addresses).enumerate())
        .map(|(place, (x, at))| (first(at) == Some(place)).then(|| x.storage_and_layout().0))
        .collect();
    let data = (tensors.iter().zip(&addresses).enumerate()).map(|(place, (x, at))| {
        match first(at).and_then(|first| guards[first].as_ref()) {
            Some(storage) if !is_taken(place) => data(storage, x.layout()),
            _ => Ok(Data::F32(&[])),
        }
    });
    let data: SmallVec<[Data<'_>; 4]> = data.collect::<Result<_, Cause>>()?;
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
    let lie = step.inputs.iter().map(|i| i.as_it_lies);
    with_data(lie, inputs, None, |data| {
        for_dtype!(step.dtype, T => {
            let buffer = T::cpu_storage_data(buffer).map_err(Cause::Candle)?;
            let write = |out: &mut [_]| {
                fused::run(step, data, scalars, out, workers);
                Ok(())
            };
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
    with_data(step.lie(), inputs, None, |data| {
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
            let write = |out: &mut [_]| {
                product::run(step, &operands, T::out(out), workers).map_err(Cause::from)
            };
            // SAFETY: the product writes every element.
            unsafe { filled::<T>(buffer, elements(&step.dims), &step.dims, write) }
        })
    })
}

/// The tensor as the plan expects it to lie: a view that Candle made is copied.
fn in_order(as_it_lies: bool, x: &Tensor) -> Result<Cow<'_, Tensor>, Cause> {
    if as_it_lies || x.is_contiguous() {
        return Ok(Cow::Borrowed(x));
    }
    if let Some(missing) = missing(x) {
        return Err(missing.into());
    }
    let bytes = x.elem_count().saturating_mul(x.dtype().size_in_bytes());
    eval::memory::probe(bytes)?; // a copy of a broadcast may be far larger than that
    x.contiguous().map(Cow::Owned).map_err(Cause::Candle)
}

/// A tensor of `count` elements that `write` makes, in a buffer with room for them.
///
/// # Safety
/// `write` must have written every element when it returns `Ok`.
unsafe fn filled<T: WithDType>(
    mut buffer: Vec<T>,
    count: usize,
    dims: &[usize],
    write: impl FnOnce(&mut [Place<T>]) -> Result<(), Cause>,
) -> Result<Tensor, Cause> {
    buffer.clear();
    write(places(&mut buffer.spare_capacity_mut()[..count]))?;
    // SAFETY: the caller's promise.
    unsafe { buffer.set_len(count) };
    Tensor::from_vec(buffer, dims, &Device::Cpu).map_err(Cause::Candle)
}

/// The elements of a tensor, from its first one on: at least those that the layout names, also if somebody has
/// changed the tensor in place. A view without elements may begin anywhere.
fn data<'a>(storage: &'a Storage, layout: &Layout) -> Result<Data<'a>, Cause> {
    fn from<T>(data: &[T], first: usize) -> &[T] {
        data.get(first..).unwrap_or_default()
    }
    if let Some(missing) = missing_in(storage, layout) {
        return Err(missing.into());
    }
    let first = layout.start_offset();
    Ok(match storage {
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
    })
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
