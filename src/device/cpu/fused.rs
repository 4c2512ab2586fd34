//! Runs the programs of fused steps, tile by tile.

use super::super::workers;
use super::kernel::{self, Target};
use crate::plan::program::{Arg, Fused, Instr, Operand, What};
use pulp::{Arch, Simd, WithSimd};
use std::cell::RefCell;
use std::mem::MaybeUninit;

/// So many elements of each register fit into the nearest cache together.
const TILE: usize = 1024;

/// Instructions times elements from which on other threads help: several times what waking one
/// costs, which on a busy machine is some hundred microseconds.
const WORTH_HELP: usize = 1 << 22;
/// Registers for longer tiles are not kept for the next step.
const LONGEST_KEPT: usize = 4 * TILE;

/// The data of an operand.
#[derive(Clone, Copy)]
pub(super) enum Data<'a> {
    F32(&'a [f32]),
    U8(&'a [u8]),
}

/// Where the result goes.
pub(super) enum Out<'a> {
    F32(&'a mut [MaybeUninit<f32>]),
    U8(&'a mut [MaybeUninit<u8>]),
}

/// A part of a step: so many rows of the whole, from `first` on.
struct Part<'a> {
    step: &'a Fused,
    inputs: &'a [Data<'a>],
    scalars: &'a [f32],
    /// In elements of the whole.
    first: usize,
    len: usize,
    out: Out<'a>,
}

/// Runs a step, in parts if that is worth it. Writes every element of `out`.
pub(super) fn run<'a, T: Send>(
    step: &'a Fused,
    inputs: &'a [Data<'a>],
    scalars: &'a [f32],
    out: &'a mut [MaybeUninit<T>],
    wrap: fn(&'a mut [MaybeUninit<T>]) -> Out<'a>,
) {
    let total = step.rows * step.cols;
    // what the caller relies on when it calls the result initialised
    assert_eq!(out.len(), if step.per_row { step.rows } else { total });
    if total == 0 {
        return;
    }
    let threads = match total * step.instrs.len() >= WORTH_HELP {
        true => workers::threads(),
        false => 1,
    };
    let unit = if step.whole_rows { step.cols } else { 1 };
    let each = (total / unit).div_ceil(threads) * unit;
    let each_out = if step.per_row { each / unit } else { each };
    let parts = out.chunks_mut(each_out).enumerate().map(|(i, out)| Part {
        step,
        inputs,
        scalars,
        first: i * each,
        len: each.min(total - i * each),
        out: wrap(out),
    });
    workers::share(parts, Part::run);
}

thread_local! {
    /// The registers, kept between steps.
    static REGISTERS: RefCell<Vec<Register>> = const { RefCell::new(Vec::new()) };
}

/// Memory for one tile, beginning with a cache line: a vector that crosses lines costs twice.
#[derive(Default)]
struct Register {
    memory: Vec<f32>,
    start: usize,
}

impl Register {
    /// Elements of a cache line.
    const LINE: usize = 16;

    /// Makes room for a tile. Registers begin in different lines of their pages: a load waits
    /// for an earlier store to the same place of another page.
    fn reserve(&mut self, number: usize, len: usize) {
        let stagger = number % 8 * Self::LINE;
        if self.memory.len() < len + 9 * Self::LINE {
            self.memory.resize(len + 9 * Self::LINE, 0.0);
            let align = self.memory.as_ptr().align_offset(64);
            self.start = align.min(Self::LINE) + stagger;
        }
    }

    #[inline(always)]
    fn tile(&self, len: usize) -> &[f32] {
        &self.memory[self.start..self.start + len]
    }

    /// The same as something to write to.
    #[inline(always)]
    fn target(&mut self, len: usize) -> Target<'_> {
        let tile: *mut [f32] = &mut self.memory[self.start..self.start + len];
        // SAFETY: the same memory, borrowed for as long; instructions only ever write numbers to
        // a target, so the register stays initialised.
        unsafe { &mut *(tile as *mut [MaybeUninit<f32>]) }
    }
}

/// One tile of a part.
#[derive(Clone, Copy)]
struct Tile {
    /// In elements of the whole.
    start: usize,
    len: usize,
    /// The rows that it has, where instructions look at rows.
    first_row: usize,
    rows: usize,
}

impl Part<'_> {
    /// Runs it, with the best instructions that this machine has.
    fn run(self) {
        let mut registers = REGISTERS.take();
        let count = self.step.registers.max(1);
        if registers.len() < count {
            registers.resize_with(count, Register::default);
        }
        let len = self.tile_len();
        for (number, register) in registers[..count].iter_mut().enumerate() {
            register.reserve(number, len);
        }
        let part = Run {
            part: self,
            registers: &mut registers,
            tile: len,
        };
        Arch::new().dispatch(part);
        if len <= LONGEST_KEPT {
            REGISTERS.set(registers);
        }
    }

    /// A tile is whole rows where instructions look at rows.
    fn tile_len(&self) -> usize {
        match self.step.whole_rows {
            true => self.step.cols * (TILE / self.step.cols).max(1),
            false => TILE,
        }
    }
}

struct Run<'a, 'r> {
    part: Part<'a>,
    registers: &'r mut Vec<Register>,
    tile: usize,
}

impl WithSimd for Run<'_, '_> {
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
        while done < part.len {
            let start = part.first + done;
            let len = tile.min(part.len - done);
            let at = match step.whole_rows {
                true => Tile {
                    start,
                    len,
                    first_row: start / step.cols,
                    rows: len / step.cols,
                },
                false => Tile {
                    start,
                    len,
                    first_row: 0,
                    rows: 0,
                },
            };
            run_tile::<S>(&mut part, registers, at);
            done += len;
        }
    }
}

/// Runs the instructions on one tile. The last one writes where the result goes.
#[inline(always)]
fn run_tile<S: Simd>(part: &mut Part<'_>, registers: &mut [Register], tile: Tile) {
    let step = part.step;
    let reads = Reads {
        step,
        inputs: part.inputs,
        scalars: part.scalars,
    };
    let (before, last) = step.instrs.split_at(step.instrs.len() - 1);
    for instr in before {
        let mut to = std::mem::take(&mut registers[instr.to as usize]);
        reads.run::<S>(registers, instr, to.target(tile.len), tile);
        registers[instr.to as usize] = to;
    }
    let result = match step.per_row {
        true => (tile.first_row - part.first / step.cols)..,
        false => (tile.start - part.first)..,
    };
    let len = if step.per_row { tile.rows } else { tile.len };
    let instr = &last[0];
    match &mut part.out {
        Out::F32(out) => reads.run::<S>(registers, instr, &mut out[result][..len], tile),
        Out::U8(out) => {
            let mut to = std::mem::take(&mut registers[instr.to as usize]);
            reads.run::<S>(registers, instr, to.target(tile.len), tile);
            for (out, &x) in out[result][..len].iter_mut().zip(to.tile(len)) {
                out.write(if x != 0.0 { 1 } else { 0 });
            }
            registers[instr.to as usize] = to;
        }
    }
}

/// What an instruction reads.
struct Reads<'a> {
    step: &'a Fused,
    inputs: &'a [Data<'a>],
    scalars: &'a [f32],
}

impl Reads<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, registers: &[Register], instr: &Instr, to: Target<'_>, tile: Tile) {
        let len = if instr.per_row { tile.rows } else { tile.len };
        let to = &mut to[..len];
        let cols = self.step.cols;
        let place = if instr.per_row {
            tile.first_row
        } else {
            tile.start
        };
        let arg = |arg: Arg| self.arg(registers, arg, place, len);
        let whole = |a: Arg| self.arg(registers, a, tile.start, tile.len);
        let scalar = |id: u32| self.scalars[id as usize];
        match instr.what {
            What::Load(input) => self.load(input, to, place),
            What::Copy(a) => kernel::map(to, arg(a), |x| x),
            What::Unary(op, a) => kernel::unary::<S>(op, to, arg(a)),
            What::Elu(a, alpha) => kernel::elu::<S>(to, arg(a), scalar(alpha)),
            What::Powf(a, exponent) => kernel::powf::<S>(to, arg(a), scalar(exponent)),
            What::Affine(a, mul, add) => {
                let (mul, add) = (scalar(mul), scalar(add));
                kernel::map(to, arg(a), |x| x * mul + add);
            }
            What::Binary(op, a, b) => kernel::binary(op, to, arg(a), arg(b)),
            What::BinaryScalar(op, a, b) => kernel::binary(op, to, arg(a), scalar(b)),
            What::Compare(op, a, b) => kernel::compare(op, to, arg(a), arg(b)),
            What::CompareScalar(op, a, b) => kernel::compare(op, to, arg(a), scalar(b)),
            What::Select(c, a, b) => kernel::select(to, arg(c), arg(a), arg(b)),
            What::Softmax(a) => kernel::softmax::<S>(to, arg(a), cols),
            What::LogSoftmax(a) => kernel::log_softmax::<S>(to, arg(a), cols),
            What::Scale(a, eps) => kernel::scale(to, arg(a), cols, eps),
            What::Center(a, eps) => kernel::center(to, arg(a), cols, eps),
            What::Reduce(op, a) => kernel::reduce(op, to, whole(a), cols),
            What::Spread(a) => {
                let rows = self.arg(registers, a, tile.first_row, tile.rows);
                kernel::spread(to, rows, cols);
            }
        }
    }

    /// A tile that is there: in a register, or in an operand that lies in order.
    #[inline(always)]
    fn arg<'a>(
        &'a self,
        registers: &'a [Register],
        arg: Arg,
        place: usize,
        len: usize,
    ) -> &'a [f32] {
        match arg {
            Arg::Register(register) => registers[register as usize].tile(len),
            Arg::Input(input) => {
                let from = self.step.inputs[input as usize].access.offset + place;
                match self.inputs[input as usize] {
                    Data::F32(data) => &data[from..from + len],
                    Data::U8(_) => unreachable!("bytes are loaded"),
                }
            }
        }
    }

    /// Brings a tile of an operand into order.
    #[inline(always)]
    fn load(&self, input: u16, to: Target<'_>, place: usize) {
        let operand: &Operand = &self.step.inputs[input as usize];
        match self.inputs[input as usize] {
            Data::F32(data) => gather(operand, data, to, place, |x| x),
            Data::U8(data) => gather(operand, data, to, place, f32::from),
        }
    }
}

/// Copies the elements of a view, in its order.
#[inline(always)]
fn gather<T: Copy>(
    operand: &Operand,
    data: &[T],
    to: Target<'_>,
    place: usize,
    as_f32: impl Fn(T) -> f32,
) {
    let mut rest = to;
    let len = rest.len();
    operand.access.runs(place, len, |from, stride, count| {
        let (to, after) = std::mem::take(&mut rest).split_at_mut(count);
        match stride {
            0 => {
                let x = as_f32(data[from]);
                to.iter_mut().for_each(|to| {
                    to.write(x);
                });
            }
            1 => {
                for (to, &x) in to.iter_mut().zip(&data[from..from + count]) {
                    to.write(as_f32(x));
                }
            }
            _ => {
                let from = data[from..].iter().step_by(stride);
                for (to, &x) in to.iter_mut().zip(from) {
                    to.write(as_f32(x));
                }
            }
        }
        rest = after;
    });
}
