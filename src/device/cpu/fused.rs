//! Runs the programs of fused steps, tile by tile.

use super::data::{Data, Out, Stored, gather};
use super::kernel::{self, Target};
use super::number::Element;
use super::place::{Place, written};
use super::tile::{self, Register, Tile};
use crate::device::workers::{PARTS, Workers};
use crate::graph::fragment::ValueId;
use crate::plan::effort::WORTH_SHARING;
use crate::plan::program::{Arg, Fused, Instr, What};
use crate::plan::types::{Compute, Number};
use candle_core::DType;
use pulp::{Simd, WithSimd};
use std::cell::RefCell;
use std::ops::Range;

/// Registers for longer tiles are not kept for the next step.
const LONGEST_KEPT: usize = 1 << 12;

/// A part of a step: some rows of the whole, from `first` on.
struct Part<'a> {
    step: &'a Fused,
    inputs: &'a [Data<'a>],
    scalars: &'a [f32],
    /// In elements of the whole.
    first: usize,
    len: usize,
    out: Out<'a>,
    /// The operands of which there are just the elements of this part.
    own: &'a [ValueId],
    /// The operand whose elements stand where the result goes.
    over: Option<ValueId>,
}

/// Runs a step, in parts if that is worth it. Writes every element of `out`.
pub(super) fn run<T: Stored>(
    step: &Fused,
    inputs: &[Data<'_>],
    scalars: &[f32],
    out: &mut [Place<T>],
    workers: &Workers,
) {
    divide(step, inputs, scalars, out, None, workers);
}

/// The same, where `out` holds the elements of the operand `over`: that many as the result has.
///
/// # Safety
/// All elements of `out` are initialised.
pub(super) unsafe fn run_over(
    step: &Fused,
    inputs: &[Data<'_>],
    scalars: &[f32],
    out: &mut [Place<f32>],
    over: ValueId,
    workers: &Workers,
) {
    divide(step, inputs, scalars, out, Some(over), workers);
}

fn divide<T: Stored>(
    step: &Fused,
    inputs: &[Data<'_>],
    scalars: &[f32],
    out: &mut [Place<T>],
    over: Option<ValueId>,
    workers: &Workers,
) {
    let total = step.rows * step.cols;
    // what the caller relies on when it calls the result initialised
    assert_eq!(out.len(), if step.per_row { step.rows } else { total });
    if total == 0 {
        return;
    }
    let help = workers.help(step.effort(), WORTH_SHARING);
    let pieces = match help.threads {
        1 => 1,
        threads => threads * PARTS,
    };
    let each = (total / step.unit).div_ceil(pieces) * step.unit;
    let each_out = if step.per_row { each / step.unit } else { each };
    let parts = out.chunks_mut(each_out).enumerate().map(|(i, out)| Part {
        step,
        inputs,
        scalars,
        first: i * each,
        len: each.min(total - i * each),
        out: T::out(out),
        own: &[],
        over,
    });
    workers.share(help, parts, Part::run);
}

/// Runs a step on the elements from `first` on, as many as `out` has room for. Of the operands
/// `own` there are just these.
pub(super) fn run_part(
    step: &Fused,
    (inputs, own): (&[Data<'_>], &[ValueId]),
    scalars: &[f32],
    first: usize,
    out: Out<'_>,
) {
    let part = Part {
        step,
        inputs,
        scalars,
        first,
        len: out.len(),
        out,
        own,
        over: None,
    };
    part.run();
}

impl Part<'_> {
    /// Runs it, with the best instructions that this machine has.
    fn run(self) {
        match self.step.compute {
            Compute::F32 => self.run_in::<f32>(),
            Compute::F64 => self.run_in::<f64>(),
            Compute::U8 => self.run_in::<u8>(),
            Compute::U32 => self.run_in::<u32>(),
            Compute::I16 => self.run_in::<i16>(),
            Compute::I32 => self.run_in::<i32>(),
            Compute::I64 => self.run_in::<i64>(),
        }
    }

    fn run_in<T: Element>(mut self) {
        let mut registers = T::registers().try_with(RefCell::take).unwrap_or_default();
        // one more for what the result is written over
        let count = self.step.registers + 1;
        if registers.len() < count {
            registers.resize_with(count, Register::default);
        }
        let straight = self.is_straight::<T>();
        let len = match straight {
            true => self.len,
            false => self.tile_len::<T>(),
        };
        if !straight {
            for (number, register) in registers[..count].iter_mut().enumerate() {
                register.reserve(number, len);
            }
        }
        let part = Run {
            part: self,
            registers: &mut registers,
            tile: len,
        };
        T::dispatch(part);
        if straight || len <= LONGEST_KEPT {
            // not while the thread ends
            let _ = T::registers().try_with(|kept| kept.replace(registers));
        }
    }

    /// Whether one instruction does it all, without registers: then there is one tile.
    fn is_straight<T: Element>(&mut self) -> bool {
        let one = self.step.instrs.len() == 1 && self.over.is_none();
        one && T::result(self.out.part(0, 0)).is_some()
    }

    /// A tile is whole rows where instructions look at rows, or where rows are repeated.
    fn tile_len<T: Element>(&self) -> usize {
        let unit = self.step.unit;
        unit * (tile::longest::<T>(self.step.registers) / unit).max(1)
    }

    /// So much shorter is the first tile that all others begin with a cache line of the result. Not
    /// where it brings in what is the same for all of them.
    fn shorter<T: Element>(&mut self, tile: usize) -> usize {
        if self.step.unit > 1 || self.step.steady > 0 || self.len <= tile {
            return 0;
        }
        let line = Register::<T>::LINE;
        let result = T::result(self.out.part(0, tile));
        let before = result.map_or(0, |result| kernel::before_line(result));
        (line - before % line) % line
    }
}

struct Run<'a, 'r, T> {
    part: Part<'a>,
    registers: &'r mut Vec<Register<T>>,
    tile: usize,
}

impl<T: Element> WithSimd for Run<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Run {
            mut part,
            registers,
            tile,
        } = self;
        let step = part.step;
        let mut done = 0;
        let mut next = tile - part.shorter::<T>(tile);
        while done < part.len {
            let start = part.first + done;
            let len = next.min(part.len - done);
            next = tile;
            let (first_row, rows) = match step.whole_rows {
                true => (start / step.cols, len / step.cols),
                false => (0, 0),
            };
            let at = Tile {
                start,
                len,
                first_row,
                rows,
                skip: 0,
            };
            let skipped = if done == 0 { 0 } else { step.steady };
            run_tile::<S, T>(&mut part, registers, at, skipped);
            done += len;
        }
    }
}

/// Runs the instructions on one tile, but for the first so many. The last one writes where the
/// result goes.
#[inline(always)]
fn run_tile<S: Simd, T: Element>(
    part: &mut Part<'_>,
    registers: &mut [Register<T>],
    tile: Tile,
    skipped: usize,
) {
    let step = part.step;
    let reads = Reads {
        step,
        inputs: part.inputs,
        scalars: part.scalars,
        first: part.first,
        own: part.own,
        over: part.over,
    };
    let first = match step.per_row {
        true => tile.first_row - part.first / step.cols,
        false => tile.start - part.first,
    };
    let len = if step.per_row { tile.rows } else { tile.len };
    if part.over.is_some() {
        let mut kept = std::mem::take(&mut registers[step.registers]);
        if let Some(old) = T::result(part.out.part(first, len)) {
            // SAFETY: `run_over` was promised that they are initialised; this tile has not been
            // written yet.
            let old = unsafe { written(old) };
            kernel::map(kept.target(len), old, |x| x);
        }
        registers[step.registers] = kept;
    }
    let mut left = step.instrs.len() - skipped;
    for instr in &step.instrs[skipped..] {
        left -= 1;
        let mut to = std::mem::take(&mut registers[instr.to as usize]);
        let result = match left {
            0 => T::result(part.out.part(first, len)),
            _ => None,
        };
        let stored = left == 0 && result.is_none();
        let by_element = !instr.per_row && instr.what.is_by_element();
        let before = match &result {
            Some(result) if by_element => kernel::before_line(result),
            _ => 0,
        };
        let target = result.unwrap_or_else(|| to.target(tile.len));
        // what comes before a line of the result is done apart; one call for all, because it is
        // inlined
        let apart = before > 0 && before < tile.len;
        let tiles = tile.cut(if apart { before } else { 0 });
        for &tile in &tiles[usize::from(!apart)..] {
            reads.run::<S, T>(registers, instr, &mut target[tile.skip..], tile);
        }
        if stored {
            T::store(to.tile(0..len), part.out.part(first, len));
        }
        registers[instr.to as usize] = to;
    }
}

/// What an instruction reads.
struct Reads<'a> {
    step: &'a Fused,
    inputs: &'a [Data<'a>],
    scalars: &'a [f32],
    /// Where the part begins, and of what there is just the part.
    first: usize,
    own: &'a [ValueId],
    /// What was moved to a register of its own, for the result is written over it.
    over: Option<ValueId>,
}

impl Reads<'_> {
    #[inline(always)]
    fn run<S: Simd, T: Element>(
        &self,
        registers: &[Register<T>],
        instr: &Instr,
        to: Target<'_, T>,
        tile: Tile,
    ) {
        let len = if instr.per_row { tile.rows } else { tile.len };
        let to = &mut to[..len];
        let cols = self.step.cols;
        let place = if instr.per_row {
            tile.first_row
        } else {
            tile.start
        };
        let skip = tile.skip;
        let arg = |arg: Arg| self.arg(registers, arg, place, skip..skip + len);
        let whole = |a: Arg| self.arg(registers, a, tile.start, 0..tile.len);
        let number = |number: Number| T::number(number, self.scalars);
        match instr.what {
            What::Load(input) => {
                let (operand, data) = (&self.step.inputs[input as usize], self.inputs);
                let place = match self.own.contains(&operand.value) {
                    true => place - self.first,
                    false => place,
                };
                match T::elements(data[input as usize]) {
                    Some(data) => gather(operand, data, to, place, |x| x),
                    None => T::load(operand, data[input as usize], to, place),
                }
            }
            What::Copy(a) => kernel::map(to, arg(a), |x| x),
            What::Round(dtype, a) => T::round_half(to, arg(a), dtype == DType::BF16),
            What::Unary(op, a) => T::unary::<S>(op, to, arg(a)),
            What::Elu(a, alpha) => T::elu::<S>(to, arg(a), number(alpha)),
            What::Powf(a, exponent) => T::powf::<S>(to, arg(a), number(exponent)),
            What::Affine(a, mul, add) => {
                let (mul, add) = (number(mul), number(add));
                kernel::map(to, arg(a), |x| x.mul(mul).add(add));
            }
            What::Binary(op, a, b) => kernel::binary(op, to, arg(a), arg(b)),
            What::Pair { ops, args, swapped } => kernel::pair(ops, swapped, to, args.map(arg)),
            What::BinaryScalar(op, a, b) => kernel::binary(op, to, arg(a), number(b)),
            What::Compare(op, a, b) => kernel::compare(op, to, arg(a), arg(b)),
            What::CompareScalar(op, a, b) => kernel::compare(op, to, arg(a), number(b)),
            What::Select(c, a, b) => kernel::select(to, arg(c), arg(a), arg(b)),
            What::Row(op, a) => T::row::<S>(op, to, arg(a), cols),
            What::RmsNorm(eps, args) => T::rms_norm(to, args.map(arg), cols, eps),
            What::LayerNorm(eps, args) => T::layer_norm(to, args.map(arg), cols, eps),
            What::Rope { interleaved, args } => {
                kernel::rope(interleaved, to, args.map(arg), cols);
            }
            What::Reduce(op, a) => kernel::reduce(op, to, whole(a), cols),
            What::Spread(a) => {
                let rows = self.arg(registers, a, tile.first_row, 0..tile.rows);
                kernel::spread(to, rows, cols);
            }
        }
    }

    /// A tile that is there: in a part of a register, or in an operand that lies in order.
    #[inline(always)]
    fn arg<'a, T: Element>(
        &'a self,
        registers: &'a [Register<T>],
        arg: Arg,
        place: usize,
        part: Range<usize>,
    ) -> &'a [T] {
        let len = part.len();
        match arg {
            Arg::Register(register) => registers[register as usize].tile(part),
            Arg::Input(input) => {
                let operand = &self.step.inputs[input as usize];
                if self.over == Some(operand.value) {
                    return registers[self.step.registers].tile(part);
                }
                let from = match self.own.contains(&operand.value) {
                    true => place - self.first,
                    false => operand.access.offset + place,
                };
                match T::elements(self.inputs[input as usize]) {
                    Some(data) => &data[from..from + len],
                    None => unreachable!("other types are loaded"),
                }
            }
        }
    }
}
