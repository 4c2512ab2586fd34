//! Several operations as one step: a small program that runs over tiles.
//!
//! A program works on rows: `rows` of `cols` elements each. A register holds a tile of whole
//! elements, or one number for each row of the tile. Instructions are in an order in which every
//! argument is computed before it is used, and never write a register that they read.

use super::draft::Info;
use super::layout::Access;
use super::types::{Compute, Number};
use crate::graph::fragment::ValueId;
use crate::graph::{BinaryOp, CompareOp, Dims, ReduceOp, UnaryOp};
use candle_core::DType;
use smallvec::SmallVec;

/// One step of the CPU engine.
#[derive(Clone, Debug)]
pub(crate) struct Fused {
    pub(crate) value: ValueId,
    pub(crate) dims: Dims,
    /// Of the result.
    pub(crate) dtype: DType,
    /// The type of the registers.
    pub(crate) compute: Compute,
    pub(crate) inputs: SmallVec<[Operand; 4]>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Whether instructions look at whole rows, so that tiles must be whole rows.
    pub(crate) whole_rows: bool,
    pub(crate) instrs: Vec<Instr>,
    /// How many of the instructions, counted from the first, bring in what is the same for every tile.
    pub(crate) steady: usize,
    /// Where instructions do not look at whole rows, the number of elements of a tile is a multiple of this.
    pub(crate) unit: usize,
    /// How many registers the instructions use.
    pub(crate) registers: usize,
    /// The operand, if there is one, that nobody needs after this step and that the result may be
    /// written over.
    pub(crate) over: Option<u16>,
    /// Whether the result, which the last instruction makes, is one number for each row.
    pub(crate) per_row: bool,
    /// The operations in it, for people.
    pub(crate) ops: Vec<&'static str>,
}

impl Fused {
    /// The operation that is named when it fails.
    pub(crate) fn name(&self) -> &'static str {
        self.ops.last().copied().unwrap_or_default()
    }

    /// Allows the result to be written over this value, if all of its elements are read, each in
    /// the place of the result, and nowhere else.
    pub(super) fn write_over(&mut self, value: ValueId, info: &Info) {
        let count = self.rows * self.cols;
        let f32s = self.dtype == DType::F32 && self.compute == Compute::F32;
        let mut readers = self
            .inputs
            .iter()
            .enumerate()
            .filter(|(_, i)| i.value == value);
        let (Some((place, operand)), None) = (readers.next(), readers.next()) else {
            return;
        };
        let whole = operand.access.is_all(count) && info.dtype == DType::F32;
        let same = info.dims.iter().product::<usize>() == count && count > 1;
        if f32s && whole && same && !self.per_row && self.over.is_none() {
            self.over = Some(place as u16);
        }
    }
}

/// What a program reads.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    pub(crate) value: ValueId,
    /// Whether it is read as it lies; else it is put in order first, should it not be.
    pub(crate) as_it_lies: bool,
    /// How its elements are walked over.
    pub(crate) access: Access,
}

/// Where an instruction finds a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arg {
    Register(u16),
    /// An operand of the registers' type that lies in order.
    Input(u16),
}

/// A tile of more elements would not fit into the nearest cache.
const LONGEST_PERIOD: usize = 2048;

/// One instruction: on a tile, or on the numbers of its rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instr {
    pub(crate) what: What,
    pub(crate) to: u16,
    pub(crate) per_row: bool,
}

/// What an instruction does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// Reads an operand that does not lie in order, or is not of the registers' type.
    Load(u16),
    /// The same once more.
    Copy(Arg),
    /// Rounded to f16 or bf16.
    Round(DType, Arg),
    Unary(UnaryOp, Arg),
    Elu(Arg, Number),
    Powf(Arg, Number),
    Affine(Arg, Number, Number),
    Binary(BinaryOp, Arg, Arg),
    /// Two of them, sums, differences or products, in one pass: the second takes what the first
    /// makes and the third tile, or the other way round.
    Pair {
        ops: [BinaryOp; 2],
        args: [Arg; 3],
        swapped: bool,
    },
    BinaryScalar(BinaryOp, Arg, Number),
    Compare(CompareOp, Arg, Arg),
    CompareScalar(CompareOp, Arg, Number),
    /// The second where the first is not zero, else the third.
    Select(Arg, Arg, Arg),
    /// Over each row.
    Row(RowOp, Arg),
    /// Each row divided by the root of its mean square and `eps`, then times the second.
    RmsNorm(f32, [Arg; 2]),
    /// Each row less its mean, divided by the root of its variance and `eps`, then times the
    /// second and plus the third.
    LayerNorm(f32, [Arg; 3]),
    /// The second and third are cosines and sines for each element; see [`Op::Rope`].
    ///
    /// [`Op::Rope`]: crate::graph::Op::Rope
    Rope {
        interleaved: bool,
        args: [Arg; 3],
    },
    /// One number for each row.
    Reduce(ReduceOp, Arg),
    /// That number for each element of the row.
    Spread(Arg),
}

/// What is done to each row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RowOp {
    Softmax,
    LogSoftmax,
}

impl What {
    /// After how many elements what it loads is the same again, if it does.
    pub(super) fn period(&self, inputs: &[Operand]) -> Option<usize> {
        match self {
            What::Load(input) => inputs[*input as usize].access.period(),
            _ => None,
        }
    }

    /// Whether it makes each element of those in its place alone.
    pub(crate) fn is_by_element(&self) -> bool {
        !matches!(
            self,
            What::Row(..)
                | What::RmsNorm(..)
                | What::LayerNorm(..)
                | What::Rope { .. }
                | What::Reduce(..)
                | What::Spread(_)
        )
    }

    /// What it is in one pass with the instruction before it that makes its tile `made`.
    fn paired(&self, before: &What, made: Arg) -> Option<What> {
        let simple = |op| matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul);
        let (&What::Binary(first, a, b), &What::Binary(second, x, y)) = (before, self) else {
            return None;
        };
        let swapped = x != made;
        (simple(first) && simple(second)).then_some(What::Pair {
            ops: [first, second],
            args: [a, b, if swapped { x } else { y }],
            swapped,
        })
    }

    /// The tiles that it reads.
    pub(super) fn args(mut self) -> SmallVec<[Arg; 3]> {
        self.args_mut().into_iter().map(|arg| *arg).collect()
    }

    pub(super) fn args_mut(&mut self) -> SmallVec<[&mut Arg; 3]> {
        match self {
            What::Load(_) => SmallVec::new(),
            What::Copy(a)
            | What::Unary(_, a)
            | What::Elu(a, _)
            | What::Powf(a, _)
            | What::Affine(a, ..)
            | What::BinaryScalar(_, a, _)
            | What::CompareScalar(_, a, _)
            | What::Round(_, a)
            | What::Row(_, a)
            | What::Reduce(_, a)
            | What::Spread(a) => SmallVec::from_iter([a]),
            What::Binary(_, a, b) | What::Compare(_, a, b) => SmallVec::from_iter([a, b]),
            What::Select(a, b, c) => SmallVec::from_iter([a, b, c]),
            What::RmsNorm(_, args) => args.iter_mut().collect(),
            What::LayerNorm(_, args) | What::Pair { args, .. } | What::Rope { args, .. } => {
                args.iter_mut().collect()
            }
        }
    }
}

/// The longest period of what is loaded again and again for a few elements each.
pub(super) fn period(instrs: &[Instr], inputs: &[Operand]) -> usize {
    let periods = instrs.iter().filter_map(|instr| instr.what.period(inputs));
    periods
        .filter(|&period| period <= LONGEST_PERIOD)
        .max()
        .unwrap_or(1)
}

/// Joins instructions of arithmetic with those that alone read what they make: a tile less is
/// written and read. Each instruction writes a register of its own, before and after.
pub(super) fn join_pairs(instrs: &mut Vec<Instr>) {
    let mut uses = vec![0; instrs.len()];
    let args = instrs.iter().flat_map(|instr| instr.what.args());
    for arg in args {
        if let Arg::Register(register) = arg {
            uses[register as usize] += 1;
        }
    }
    let mut joined = vec![false; instrs.len()];
    for place in 0..instrs.len() {
        let instr = instrs[place];
        let pair = instr.what.args().into_iter().find_map(|made| {
            let Arg::Register(register) = made else {
                return None;
            };
            let before = &instrs[register as usize];
            let alone = uses[register as usize] == 1 && before.per_row == instr.per_row;
            let what = alone.then(|| instr.what.paired(&before.what, made));
            Some((register as usize, what.flatten()?))
        });
        if let Some((before, what)) = pair {
            instrs[place].what = what;
            joined[before] = true;
        }
    }
    let left: Vec<usize> = (0..instrs.len()).filter(|&place| !joined[place]).collect();
    reorder(instrs, &left);
}

/// Puts the instructions for which that holds before all others, but not the last. They read no
/// register. Returns how many that are.
pub(super) fn move_ahead(instrs: &mut Vec<Instr>, ahead: impl Fn(&Instr) -> bool) -> usize {
    let last = instrs.len() - 1;
    let (mut order, others): (Vec<usize>, Vec<usize>) =
        (0..=last).partition(|&place| place < last && ahead(&instrs[place]));
    let count = order.len();
    order.extend(others);
    reorder(instrs, &order);
    count
}

/// Leaves the instructions of these places, in this order. Each writes the register of its place.
fn reorder(instrs: &mut Vec<Instr>, order: &[usize]) {
    let mut renamed = vec![0; instrs.len()];
    for (to, &from) in order.iter().enumerate() {
        renamed[from] = to as u16;
    }
    *instrs = order.iter().map(|&from| instrs[from]).collect();
    for instr in instrs {
        instr.to = renamed[instr.to as usize];
        for arg in instr.what.args_mut() {
            if let Arg::Register(register) = arg {
                *register = renamed[*register as usize];
            }
        }
    }
}

/// Gives instructions, each of which writes a register of its own, as few registers as they need
/// at once; the first of them keep theirs. Returns how many that are.
pub(super) fn share_registers(instrs: &mut [Instr], kept: usize) -> usize {
    let mut last_use = vec![0; instrs.len()];
    for (place, instr) in instrs.iter().enumerate() {
        for arg in instr.what.args() {
            if let Arg::Register(register) = arg {
                last_use[register as usize] = place;
            }
        }
    }
    let mut given = vec![0u16; instrs.len()];
    let mut free: Vec<u16> = Vec::new();
    let mut registers = 0;
    for (place, instr) in instrs.iter_mut().enumerate() {
        // taken before those that end here are given back: it must not be one of them
        let register = free.pop().unwrap_or_else(|| {
            registers += 1;
            registers - 1
        });
        let mut ended: SmallVec<[u16; 3]> = SmallVec::new();
        for arg in instr.what.args_mut() {
            if let Arg::Register(old) = arg {
                let ends = *old as usize >= kept && last_use[*old as usize] == place;
                *old = given[*old as usize];
                if ends && !ended.contains(old) {
                    ended.push(*old);
                }
            }
        }
        free.extend(ended);
        given[instr.to as usize] = register;
        instr.to = register;
    }
    registers as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instr(to: u16, what: What) -> Instr {
        let per_row = false;
        Instr { what, to, per_row }
    }

    #[test]
    fn arithmetic_that_nobody_else_reads_is_joined() {
        use Arg::{Input, Register};
        let binary = |op, a, b| What::Binary(op, a, b);
        let mut instrs = vec![
            instr(0, binary(BinaryOp::Mul, Input(0), Input(1))),
            instr(1, binary(BinaryOp::Sub, Input(2), Register(0))),
            // read twice
            instr(2, binary(BinaryOp::Add, Register(1), Input(1))),
            // not one of them
            instr(3, binary(BinaryOp::Div, Register(2), Register(2))),
            instr(4, binary(BinaryOp::Add, Register(3), Input(0))),
        ];
        join_pairs(&mut instrs);
        let whats: Vec<String> = instrs.iter().map(|i| format!("{:?}", i.what)).collect();
        assert_eq!(
            whats,
            [
                "Pair { ops: [Mul, Sub], args: [Input(0), Input(1), Input(2)], swapped: true }",
                "Binary(Add, Register(0), Input(1))",
                "Binary(Div, Register(1), Register(1))",
                "Binary(Add, Register(2), Input(0))"
            ]
        );
        assert!(
            instrs
                .iter()
                .enumerate()
                .all(|(i, instr)| instr.to == i as u16)
        );
    }
}
