//! The CPU: fused steps by an engine of our own, everything else by Candle's operations; done when
//! they return, on whichever thread has the turn.

mod fused;
mod kernel;
mod math;
#[cfg(test)]
mod math_tests;
mod pool;
mod product;
mod workers;

use super::{CommandStream, eval};
use crate::error::Cause;
use crate::graph::Op;
use crate::plan::{FEW_ROWS, Factor, Fused, Product};
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Storage, Tensor};
use fused::{Data, Out, Part};
use pool::Pool;
use product::Columns;
use smallvec::SmallVec;
use std::cell::Cell;
use std::mem::MaybeUninit;

/// Instructions times elements from which on other threads help: several times what waking one
/// costs, which on a busy machine is some hundred microseconds.
const WORTH_HELP: usize = 1 << 22;

/// Multiplications from which on other threads help with a product. One row reads a number of the
/// right side for each; several rows use it again, and are done sooner.
const WORTH_HELP_WITH_A_ROW: usize = 1 << 23;
const WORTH_HELP_WITH_ROWS: usize = 1 << 24;

pub(crate) struct CpuStream {
    pool: Pool,
}

impl CpuStream {
    /// A stream that keeps so many bytes of buffers for later.
    pub(super) fn new(pool_bytes: u64) -> Self {
        Self {
            pool: Pool::new(pool_bytes),
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
        match workers::pool() {
            Some(pool) if workers::uses_rayon(op, inputs) => {
                pool.install(|| eval::eval(op, inputs))
            }
            _ => eval::eval(op, inputs),
        }
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
    ) -> Result<Tensor, Cause> {
        let in_order: Result<SmallVec<[Tensor; 4]>, _> = step
            .inputs
            .iter()
            .zip(inputs)
            .map(
                |(operand, tensor)| match operand.as_it_lies || tensor.is_contiguous() {
                    true => Ok((*tensor).clone()),
                    false => tensor.contiguous(),
                },
            )
            .collect();
        let in_order = in_order.map_err(Cause::Candle)?;
        let guards: SmallVec<[_; 4]> = in_order.iter().map(Tensor::storage_and_layout).collect();
        let data: Option<SmallVec<[Data<'_>; 4]>> = guards
            .iter()
            .map(|(storage, layout)| data(storage, layout))
            .collect();
        let Some(data) = data else {
            unreachable!("the plan fuses operands of f32 and u8 on the CPU")
        };
        let count: usize = step.dims.iter().product();
        let dims = &step.dims[..];
        let tensor = if step.dtype == DType::U8 {
            let mut buffer = Vec::new();
            let refused = |_| Cause::OutOfMemory {
                asked: count as u64,
                left: 0,
            };
            buffer.try_reserve_exact(count).map_err(refused)?;
            let out = &mut buffer.spare_capacity_mut()[..count];
            run(step, &data, scalars, out, Out::U8);
            // SAFETY: the parts of the step wrote every element.
            unsafe { buffer.set_len(count) };
            Tensor::from_vec(buffer, dims, &Device::Cpu)
        } else {
            let mut buffer = self.pool.take(count)?;
            let out = &mut buffer.spare_capacity_mut()[..count];
            run(step, &data, scalars, out, Out::F32);
            // SAFETY: the parts of the step wrote every element.
            unsafe { buffer.set_len(count) };
            Tensor::from_vec(buffer, dims, &Device::Cpu)
        };
        tensor.map_err(Cause::Candle)
    }

    fn product(&mut self, step: &Product, a: &Tensor, b: &Tensor) -> Result<Tensor, Cause> {
        let in_order = |factor: &Factor, x: &Tensor| match factor.as_it_lies || x.is_contiguous() {
            true => Ok(x.clone()),
            false => x.contiguous().map_err(Cause::Candle),
        };
        let (a, b) = (in_order(&step.a, a)?, in_order(&step.b, b)?);
        let ((a, a_layout), (b, b_layout)) = (a.storage_and_layout(), b.storage_and_layout());
        let (Some(Data::F32(a)), Some(Data::F32(b))) = (data(&a, a_layout), data(&b, b_layout))
        else {
            unreachable!("the plan takes products of f32 on the CPU")
        };
        let count = step.m * step.n;
        let mut buffer = self.pool.take(count)?;
        let out = &mut buffer.spare_capacity_mut()[..count];
        multiply(step, &a[step.a.offset..], &b[step.b.offset..], out);
        // SAFETY: the columns of the product wrote every element.
        unsafe { buffer.set_len(count) };
        Tensor::from_vec(buffer, &step.dims[..], &Device::Cpu).map_err(Cause::Candle)
    }

    fn recycle(&mut self, tensor: Tensor) {
        if tensor.elem_count() >= pool::SMALLEST && tensor.dtype() == DType::F32 {
            let taken = Take(Cell::new(Vec::new()));
            if tensor.inplace_op1(&taken).is_ok() {
                self.pool.put(taken.0.into_inner());
            }
        }
    }
}

/// How many threads there are for a step that is worth them.
fn threads() -> usize {
    workers::pool().map_or(1, rayon::ThreadPool::current_num_threads)
}

/// Runs a step, in parts if that is worth it.
fn run<'a, T: Send>(
    step: &'a Fused,
    data: &'a [Data<'a>],
    scalars: &'a [f32],
    out: &'a mut [MaybeUninit<T>],
    wrap: fn(&'a mut [MaybeUninit<T>]) -> Out<'a>,
) {
    let total = step.rows * step.cols;
    if total == 0 {
        return;
    }
    let threads = match total * step.instrs.len() >= WORTH_HELP {
        true => threads().min(step.rows.max(total / (1 << 14))),
        false => 1,
    };
    let part = |first: usize, len: usize, out| Part {
        step,
        inputs: data,
        scalars,
        first,
        len,
        out: wrap(out),
    };
    let (Some(pool), 2..) = (workers::pool(), threads) else {
        return part(0, total, out).run();
    };
    let unit = if step.whole_rows { step.cols } else { 1 };
    let each = (total / unit).div_ceil(threads) * unit;
    let each_out = if step.per_row { each / unit } else { each };
    pool.in_place_scope(|scope| {
        let mut parts = out.chunks_mut(each_out).enumerate().map(|(i, out)| {
            let first = i * each;
            part(first, each.min(total - first), out)
        });
        let own = parts.next();
        parts.for_each(|part| scope.spawn(move |_| part.run()));
        if let Some(own) = own {
            own.run();
        }
    });
}

/// Runs a product, in parts if that is worth it.
fn multiply(step: &Product, a: &[f32], b: &[f32], out: &mut [MaybeUninit<f32>]) {
    let worth_help = match step.m {
        1 => WORTH_HELP_WITH_A_ROW,
        _ => WORTH_HELP_WITH_ROWS,
    };
    let threads = match step.m * step.k * step.n >= worth_help {
        true => threads(),
        false => 1,
    };
    // whole cache lines for each
    let each = step.n.div_ceil(threads).next_multiple_of(16);
    let mut rows: SmallVec<[_; FEW_ROWS]> = out
        .chunks_mut(step.n)
        .map(|row| row.chunks_mut(each))
        .collect();
    let mut parts = (0..step.n).step_by(each).map(|first| Columns {
        product: step,
        a,
        b,
        first,
        len: each.min(step.n - first),
        out: rows.iter_mut().filter_map(Iterator::next).collect(),
    });
    let own = parts.next();
    let (Some(pool), 2..) = (workers::pool(), threads) else {
        return own.into_iter().chain(parts).for_each(Columns::run);
    };
    pool.in_place_scope(|scope| {
        parts.for_each(|part| scope.spawn(move |_| part.run()));
        own.into_iter().for_each(Columns::run);
    });
}

/// The elements of a tensor, from its first one on.
fn data<'a>(storage: &'a Storage, layout: &Layout) -> Option<Data<'a>> {
    let first = layout.start_offset();
    match storage {
        Storage::Cpu(CpuStorage::F32(data)) => data.get(first..).map(Data::F32),
        Storage::Cpu(CpuStorage::U8(data)) => data.get(first..).map(Data::U8),
        _ => None,
    }
}

/// Takes the buffer out of a tensor that nobody else knows.
struct Take(Cell<Vec<f32>>);

impl InplaceOp1 for Take {
    fn name(&self) -> &'static str {
        "take"
    }
    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        if let CpuStorage::F32(buffer) = storage {
            self.0.set(std::mem::take(buffer));
        }
        Ok(())
    }
}
