//! What a step costs, estimated: bytes read and written, operations on numbers. For people, and
//! so that two plans can be compared; nothing is decided by it.
//!
//! Bytes are those of the values: what a cache keeps near is counted as if it were not. An
//! operation counts as one for each number that it makes, also a function like `exp`; the
//! exceptions are those of several passes, listed below, and products, whose multiplications and
//! additions are counted.

use super::layout::is_view;
use super::product::Sides;
use super::program::{Fused, What};
use super::{OpStep, Product, Step};
use crate::graph::fragment::ValueId;
use crate::graph::{Dims, Op};
use candle_core::DType;
use std::collections::BTreeMap;
use std::ops::AddAssign;

/// Shape and dtype of each value that is known.
pub(super) type Known = BTreeMap<ValueId, (Dims, DType)>;

/// What a step, or several, cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) read: usize,
    pub(super) written: usize,
    pub(super) work: usize,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.read = self.read.saturating_add(other.read);
        self.written = self.written.saturating_add(other.written);
        self.work = self.work.saturating_add(other.work);
    }
}

/// Per number, of softmax: the largest, a difference, a function, a sum, a quotient.
const SOFTMAX: usize = 5;
/// Of a layer norm: a sum, a difference, a square, another sum, a product, scale and shift.
const LAYER_NORM: usize = 7;
/// Of an RMS norm: a square, a sum, a product, and a scale.
const RMS_NORM: usize = 4;

/// The number of elements.
fn elements(known: &Known, value: ValueId) -> usize {
    let (dims, _) = &known[&value];
    count(dims)
}

fn count(dims: &[usize]) -> usize {
    dims.iter().copied().fold(1, usize::saturating_mul)
}

/// The operations of a sum of this number of products.
fn sums(terms: Option<usize>) -> usize {
    terms.unwrap_or(0).saturating_mul(2)
}

/// The size of a value.
pub(super) fn bytes(known: &Known, value: ValueId) -> usize {
    let (_, dtype) = &known[&value];
    elements(known, value).saturating_mul(dtype.size_in_bytes())
}

/// The cost of a step. `op` is the operation of one that Candle runs.
pub(super) fn cost(step: &Step, op: Option<&Op>, known: &Known) -> Cost {
    let written = bytes(known, step.value());
    match (step, op) {
        (Step::Fused(step), _) => Cost {
            read: fused_reads(step, known),
            written,
            work: fused_work(step),
        },
        (Step::Product(step), _) => product(step, written, known),
        (Step::Op(step), Some(op)) => candle(step, op, known),
        (Step::Op(_), None) => Cost::default(),
    }
}

/// A step reads no more of an operand than there is of it, and no more than one for each of its
/// own elements.
fn fused_reads(step: &Fused, known: &Known) -> usize {
    let count = step.rows.saturating_mul(step.cols);
    let reads = step.inputs.iter().map(|input| {
        let (_, dtype) = &known[&input.value];
        bytes(known, input.value).min(count.saturating_mul(dtype.size_in_bytes()))
    });
    reads.fold(0, usize::saturating_add)
}

fn fused_work(step: &Fused) -> usize {
    let count = step.rows.saturating_mul(step.cols);
    let work = step.instrs.iter().map(|instr| match instr.what {
        What::Load(_) | What::Copy(_) | What::Spread(_) => 0,
        What::Reduce(..) => count,
        _ if instr.per_row => step.rows,
        What::Affine(..) | What::Pair { .. } => count.saturating_mul(2),
        What::Row(..) => count.saturating_mul(SOFTMAX),
        What::LayerNorm(..) => count.saturating_mul(LAYER_NORM),
        What::RmsNorm(..) => count.saturating_mul(RMS_NORM),
        _ => count,
    });
    work.fold(0, usize::saturating_add)
}

fn product(step: &Product, written: usize, known: &Known) -> Cost {
    let count = step.count();
    let matrix = |value: ValueId, rows: usize, cols: usize| {
        let numbers = count.saturating_mul(rows).saturating_mul(cols);
        numbers.saturating_mul(known[&value].1.size_in_bytes())
    };
    let sides = step.sides().into_iter().flatten();
    let factors = sides.flat_map(|Sides { a, b, k, n }| {
        let left = a.map(|a| matrix(a.value, step.m, k));
        left.into_iter().chain([matrix(b.value, k, n)])
    });
    let factors = factors.chain(std::iter::repeat(usize::MAX));
    let read = step.inputs().into_iter().zip(factors);
    let programs = step.programs().map(|then| fused_work(&then.program));
    Cost {
        read: read
            .map(|(input, most)| bytes(known, input).min(most))
            .fold(0, usize::saturating_add),
        written,
        work: programs.fold(step.work().saturating_mul(2), usize::saturating_add),
    }
}

/// An operation by Candle.
fn candle(step: &OpStep, op: &Op, known: &Known) -> Cost {
    if is_view(op) {
        return Cost::default();
    }
    let written = bytes(known, step.value);
    let made = elements(known, step.value);
    let operand = |i: usize| step.inputs.get(i).map_or(0, |&v| elements(known, v));
    let last = || step.inputs.first().and_then(|v| known[v].0.last().copied());
    let all = || step.inputs.iter().map(|&v| bytes(known, v));
    let (read, each): (usize, usize) = match op {
        // only what the indices ask for
        Op::IndexSelect(_) | Op::Gather(_) => {
            let indices = step.inputs.get(1).map_or(0, |&v| bytes(known, v));
            return Cost {
                read: written.saturating_add(indices),
                written,
                work: 0,
            };
        }
        Op::Qmatmul(weight) => (weight.0.storage_size_in_bytes(), sums(last())),
        Op::Matmul | Op::BroadcastMatmul => (0, sums(last())),
        Op::Conv1d(_) | Op::Conv2d(_) => {
            let kernel = step.inputs.get(1).map(|v| &known[v].0[1..]);
            (0, sums(kernel.map(count)))
        }
        Op::MaxPool2d(w) | Op::AvgPool2d(w) => (0, w.kernel.0.saturating_mul(w.kernel.1)),
        Op::Affine { .. } => (0, 2),
        Op::Softmax(_) | Op::LogSoftmax(_) | Op::SoftmaxLastDim => (0, SOFTMAX),
        Op::RmsNorm { .. } => (0, RMS_NORM),
        Op::LayerNorm { .. } => (0, LAYER_NORM),
        Op::Fill { .. }
        | Op::ToDType(_)
        | Op::ToDevice(_)
        | Op::Contiguous
        | Op::Repeat(_)
        | Op::PadWithZeros { .. }
        | Op::Cat(_)
        | Op::Stack(_)
        | Op::UpsampleNearest2d { .. } => (0, 0),
        _ => (0, 1),
    };
    let work = match op {
        // one for each number that goes in
        Op::Reduce { .. } => operand(0),
        Op::ScatterAdd(_) | Op::IndexAdd(_) => operand(2),
        _ => made.saturating_mul(each),
    };
    Cost {
        read: all().fold(read, usize::saturating_add),
        written,
        work,
    }
}

/// A number of bytes as people read it.
pub(super) fn human(bytes: usize) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    scaled(bytes, 1024.0, &units)
}

/// A number of operations as people read it.
pub(super) fn flops(work: usize) -> String {
    let units = ["flop", "kflop", "Mflop", "Gflop", "Tflop"];
    scaled(work, 1000.0, &units)
}

/// Four digits at most, one of them behind the point.
fn scaled(number: usize, step: f64, units: &[&str]) -> String {
    let (mut scaled, mut unit) = (number as f64, 0);
    while scaled >= step && unit + 1 < units.len() {
        scaled /= step;
        unit += 1;
    }
    match unit {
        0 => format!("{number} {}", units[0]),
        _ => format!("{scaled:.1} {}", units[unit]),
    }
}
