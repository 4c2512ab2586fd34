//! Matrix products of f32, and what is done to their rows before they leave the cache.
//!
//! Every element of a product is one chain of multiply-adds in the order of `k`. So its bits depend
//! neither on the number of rows, nor on how rows and columns are divided among threads, nor on
//! whether the right side was packed before.

mod driver;
#[cfg(test)]
mod isa_tests;
mod kernel;
mod matrix;
mod pack;
mod packed;

use super::super::workers;
use super::fused::{self, Data};
use crate::graph::Kept;
use crate::plan::Product;
use crate::plan::product::Factor;
use driver::{BREADTH, Driver, Panels};
use kernel::{MAX_WIDTH, PANEL_REGS, tile_rows};
use matrix::Mat;
use packed::{Line, Packed};
use pulp::{Arch, Simd, WithSimd};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::slice;

/// Multiplications from which on other threads help: some hundred microseconds of work, which is
/// what waking a thread may cost on a busy machine.
const WORTH_HELP: usize = 1 << 22;
/// Rows from which on threads share the rows of a product rather than its columns.
const MANY_ROWS: usize = 64;
/// So many elements of a product are made before the program runs on them: they stay in the second
/// cache.
const CHUNK: usize = 1 << 15;
/// Elements of a right side that stays in the second cache while it is read where it is.
const IN_PLACE: usize = 1 << 16;
/// Longer scratch memory is not kept for the next product.
const LONGEST_KEPT: usize = 1 << 20;

/// What a product reads.
pub(super) struct Operands<'a> {
    pub(super) a: &'a [f32],
    pub(super) b: &'a [f32],
    pub(super) second: Option<&'a [f32]>,
    /// The operands of the program; the product's own place holds anything.
    pub(super) then: &'a [Data<'a>],
    pub(super) scalars: &'a [f32],
    /// What is kept with the right side, if that is a tensor that outlives the fragment.
    pub(super) kept: Option<&'a Kept>,
}

/// The operands of the program, with something in the product's own place.
pub(super) fn with_own_place<'a>(
    step: &Product,
    mut others: impl Iterator<Item = Data<'a>>,
) -> SmallVec<[Data<'a>; 4]> {
    let Some(then) = &step.then else {
        return SmallVec::new();
    };
    let inputs = then.program.inputs.iter();
    let operand = inputs.map(|input| match input.value == then.raw {
        true => Some(Data::Part(&[])),
        false => others.next(),
    });
    operand.flatten().collect()
}

/// Runs a product, in parts if that is worth it. Writes every element of `out`.
pub(super) fn run<'a>(step: &'a Product, operands: &'a Operands<'a>, out: &mut [MaybeUninit<f32>]) {
    assert_eq!(out.len(), step.count() * step.m * step.columns());
    let packed = packed(step, operands);
    let job = Job {
        step,
        operands,
        packed,
        batch: 0..step.count(),
        rows: 0..step.m,
        cols: 0..step.n,
        out: Shared(out.as_mut_ptr().cast()),
    };
    workers::share(job.divided().into_iter(), Job::run);
}

/// The right side as it was packed before, if the same tensor is multiplied by again and again: from
/// its second product on.
fn packed<'a>(step: &Product, operands: &Operands<'a>) -> Option<&'a Packed> {
    let (b, size) = (&step.b, (step.k, step.n));
    let few = step.k.saturating_mul(b.row) <= IN_PLACE && step.n.is_multiple_of(MAX_WIDTH);
    let as_good_as_packed = b.col == 1 && few;
    if !step.batch.is_empty() || as_good_as_packed {
        return None;
    }
    let (k, n) = size;
    let entry = operands.kept?.entry([b.offset, k, n, b.row, b.col])?;
    let pack = || Packed::new(Mat::new(&operands.b[b.offset..], size, (b.row, b.col)));
    entry.get_or_make(pack)
}

/// Memory that the parts of a product write to, each its own elements.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: stands for the borrow that `run` holds; the parts that it is given to write to elements
// of their own.
unsafe impl Send for Shared {}

/// A part of a product: these rows and columns, of these members of the batch.
#[derive(Clone)]
struct Job<'a> {
    step: &'a Product,
    operands: &'a Operands<'a>,
    packed: Option<&'a Packed>,
    batch: Range<usize>,
    rows: Range<usize>,
    cols: Range<usize>,
    out: Shared,
}

/// The memory of a thread that products use.
#[derive(Default)]
struct Scratch {
    /// The panels of the right side, and of the second.
    right: Vec<Line>,
    second: Vec<Line>,
    /// Rows of the product, and what the program makes of them.
    raw: Vec<f32>,
    made: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Job<'_> {
    fn run(self) {
        Arch::new().dispatch(self);
    }

    /// Whether a program looks at whole rows, so that columns cannot be divided.
    fn by_rows(&self) -> bool {
        let whole = |then: &crate::plan::product::Then| then.program.whole_rows;
        self.step.second.is_some() || self.step.then.as_ref().is_some_and(whole)
    }

    /// Divided among the threads, if that is worth it.
    fn divided(self) -> SmallVec<[Self; 4]> {
        let (count, threads) = (self.batch.len(), workers::threads());
        if threads == 1 || self.step.work() < WORTH_HELP {
            return SmallVec::from_iter([self]);
        }
        if count >= threads {
            let batches = cut(self.batch.clone(), threads, 1);
            return batches
                .map(|batch| self.with(|job| job.batch = batch))
                .collect();
        }
        let parts = threads.div_ceil(count);
        let packed = self.packed.is_some() && self.rows.len() >= MANY_ROWS * parts;
        let each = self
            .batch
            .clone()
            .map(|i| self.with(|job| job.batch = i..i + 1));
        let divide = |job: Self| -> SmallVec<[Self; 4]> {
            match packed || job.by_rows() {
                true => cut(job.rows.clone(), parts, tile_rows::<pulp::Scalar>() * 4)
                    .map(|rows| job.with(|job| job.rows = rows))
                    .collect(),
                false => cut(job.cols.clone(), parts, MAX_WIDTH)
                    .map(|cols| job.with(|job| job.cols = cols))
                    .collect(),
            }
        };
        each.flat_map(divide).collect()
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut job = self.clone();
        change(&mut job);
        job
    }
}

/// Cuts a range into so many parts of about the same size, each a multiple of `unit`.
fn cut(range: Range<usize>, parts: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let each = range.len().div_ceil(parts).next_multiple_of(unit).max(1);
    let end = range.end;
    range
        .step_by(each)
        .map(move |first| first..end.min(first + each))
}

/// The right side of a product.
#[derive(Clone, Copy)]
enum Right<'a> {
    Packed(&'a Packed),
    Plain(Mat<'a>),
}

impl<'a> Right<'a> {
    /// Whether it is read where it is, by a left side of so many rows.
    fn in_place<S: Simd>(&self, rows: usize) -> bool {
        match self {
            Right::Packed(_) => true,
            Right::Plain(b) => {
                let few = b.rows().saturating_mul(b.row_stride()) <= IN_PLACE;
                b.col_stride() == 1 && (rows <= tile_rows::<S>() || few)
            }
        }
    }

    /// Some of its panels, packed into `buffer` as far as that is needed.
    ///
    /// # Safety
    /// The result is used only for these panels, and while `self` and `buffer` are there and the
    /// buffer is not used again.
    #[inline(always)]
    unsafe fn panels<S: Simd>(
        self,
        simd: S,
        panels: Range<usize>,
        rows: usize,
        buffer: &mut Vec<Line>,
    ) -> Panels {
        let b = match self {
            Right::Packed(packed) => return Panels::packed(packed),
            Right::Plain(b) => b,
        };
        let (width, k, n) = (PANEL_REGS * S::F32_LANES, b.rows(), b.cols());
        if self.in_place::<S>(rows) {
            let whole = n / width * width;
            let last = (n % S::F32_LANES != 0 && panels.end * width > whole).then(|| {
                let start = room(buffer, k * width);
                // SAFETY: there is room for one panel.
                unsafe { pack::panels(simd, b, whole..n, start) };
                start.cast_const()
            });
            // SAFETY: the column stride is one, as `in_place` saw. The last panel has just been
            // packed if it needs to be, unless it is not among those that are asked for.
            return unsafe { Panels::in_place(b, width, last) };
        }
        let start = room(buffer, k * width * panels.len());
        let cols = panels.start * width..n.min(panels.end * width);
        // SAFETY: there is room for these panels. They stand at the place of the first of them,
        // and the caller reads no others.
        unsafe {
            pack::panels(simd, b, cols, start);
            let before = panels.start * k * width;
            Panels::padded(k, n, width, start.wrapping_sub(before))
        }
    }
}

/// Room for so many elements, from the start of a cache line on.
fn room(buffer: &mut Vec<Line>, elements: usize) -> *mut f32 {
    let lines = elements.div_ceil(Line::LEN);
    if buffer.len() < lines {
        buffer.resize(lines, Line::ZERO);
    }
    buffer.as_mut_ptr().cast()
}

/// The matrix of a factor that belongs to one member of the batch.
fn matrix<'a>(
    factor: &Factor,
    data: &'a [f32],
    (batch, index): (&[usize], usize),
    size: (usize, usize),
) -> Mat<'a> {
    let (mut rest, mut start) = (index, factor.offset);
    for (&size, &step) in batch.iter().zip(&factor.batch).rev() {
        start += rest % size * step;
        rest /= size;
    }
    Mat::new(&data[start..], size, (factor.row, factor.col))
}

impl WithSimd for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut scratch = SCRATCH.take();
        for index in self.batch.clone() {
            self.member(simd, index, &mut scratch);
        }
        let longest = scratch.raw.len().max(scratch.right.len() * Line::LEN);
        if longest.max(scratch.second.len() * Line::LEN) <= LONGEST_KEPT {
            SCRATCH.set(scratch);
        }
    }
}

impl Job<'_> {
    /// One product of the batch.
    #[inline(always)]
    fn member<S: Simd>(&self, simd: S, index: usize, scratch: &mut Scratch) {
        let (step, operands) = (self.step, self.operands);
        let width = PANEL_REGS * S::F32_LANES;
        let at = (&step.batch[..], index);
        let a = matrix(&step.a, operands.a, at, (step.m, step.k)).sub_rows(self.rows.clone());
        let right = match self.packed {
            Some(packed) => Right::Packed(packed),
            None => Right::Plain(matrix(&step.b, operands.b, at, (step.k, step.n))),
        };
        let panels = self.cols.start / width..self.cols.end.div_ceil(width);
        let group = self.group::<S>(right, a.rows(), panels.len());
        for first in panels.clone().step_by(group) {
            let group = first..panels.end.min(first + group);
            // SAFETY: they are used for these panels only, before the buffer is used again.
            let b = unsafe { right.panels(simd, group.clone(), a.rows(), &mut scratch.right) };
            let cols = first * width..step.n.min(group.end * width);
            if step.then.is_some() {
                self.chunks(simd, (a, b, group), (index, cols), scratch);
                continue;
            }
            let row = index * step.m + self.rows.start;
            let to = self.out.0.wrapping_add(row * step.n + cols.start);
            // SAFETY: B has these panels, and `out` these rows and columns, which are this job's.
            unsafe { Driver::new(a, b, group, (to, step.n)) }.run(simd);
        }
    }

    /// How many panels are made ready at once.
    #[inline(always)]
    fn group<S: Simd>(&self, right: Right<'_>, rows: usize, all: usize) -> usize {
        let in_place = right.in_place::<S>(rows);
        let several = match self.step.then {
            _ if self.by_rows() => all,
            None if in_place => all,
            Some(_) if in_place => BREADTH,
            _ if rows <= tile_rows::<S>() => 4,
            _ => BREADTH,
        };
        several.max(1)
    }

    /// Makes some rows after the other, and what follows from them while they are in the cache.
    #[inline(always)]
    fn chunks<S: Simd>(
        &self,
        simd: S,
        (a, b, panels): (Mat<'_>, Panels, Range<usize>),
        (index, cols): (usize, Range<usize>),
        scratch: &mut Scratch,
    ) {
        let step = self.step;
        let tile = tile_rows::<S>();
        let each = (CHUNK / cols.len() / tile).max(1) * tile;
        let second = step
            .second
            .as_ref()
            .zip(self.operands.second)
            .map(|(second, data)| {
                let at = (&step.batch[..], index);
                let v = matrix(&second.b, data, at, (step.n, second.columns));
                let panels = 0..second.columns.div_ceil(PANEL_REGS * S::F32_LANES);
                // SAFETY: they are used for these panels only; the buffer is not used again before
                // this function ends.
                let ready = unsafe {
                    Right::Plain(v).panels(simd, panels.clone(), a.rows(), &mut scratch.second)
                };
                (ready, panels, second.columns)
            });
        for first in (0..a.rows()).step_by(each) {
            let rows = first..a.rows().min(first + each);
            let row = index * step.m + self.rows.start + first;
            let count = rows.len() * cols.len();
            grow(&mut scratch.raw, count);
            let raw = &mut scratch.raw[..count];
            let to = (raw.as_mut_ptr(), cols.len());
            // SAFETY: B has these panels, and there is room for so many rows of their columns.
            unsafe { Driver::new(a.sub_rows(rows.clone()), b, panels.clone(), to) }.run(simd);
            let Some((v, panels, columns)) = &second else {
                self.program(raw, (row, rows.len()), cols.clone());
                continue;
            };
            grow(&mut scratch.made, count);
            let made = &mut scratch.made[..count];
            self.row_program(raw, row * step.n, uninit(made));
            let left = Mat::new(made, (rows.len(), step.n), (step.n, 1));
            let to = (self.out.0.wrapping_add(row * columns), *columns);
            // SAFETY: V has as many rows as the left side columns, and all these panels; `out` has
            // these rows, which are this job's.
            unsafe { Driver::new(left, *v, panels.clone(), to) }.run(simd);
        }
    }

    /// Runs the program on some rows of some columns, and writes what it makes to its place.
    fn program(&self, raw: &[f32], (row, rows): (usize, usize), cols: Range<usize>) {
        let n = self.step.n;
        let out = |start: usize, len: usize| {
            // SAFETY: these elements are this job's, and `out` is borrowed by `run`.
            unsafe { slice::from_raw_parts_mut(self.out.0.add(start).cast(), len) }
        };
        if cols.len() == n {
            return self.row_program(raw, row * n, out(row * n, rows * n));
        }
        for (i, raw) in raw.chunks_exact(cols.len()).enumerate() {
            let start = (row + i) * n + cols.start;
            self.row_program(raw, start, out(start, cols.len()));
        }
    }

    /// Runs the program on the elements from `first` on.
    fn row_program(&self, raw: &[f32], first: usize, out: &mut [MaybeUninit<f32>]) {
        let Some(then) = &self.step.then else { return };
        let inputs = then.program.inputs.iter().zip(self.operands.then);
        let inputs = inputs.map(|(input, &data)| match input.value == then.raw {
            true => Data::Part(raw),
            false => data,
        });
        let inputs: SmallVec<[Data<'_>; 4]> = inputs.collect();
        fused::run_part(&then.program, &inputs, self.operands.scalars, first, out);
    }
}

fn grow(buffer: &mut Vec<f32>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
}

/// The same as something to write to.
fn uninit(made: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    let made: *mut [f32] = made;
    // SAFETY: the same memory, borrowed for as long; programs only ever write numbers.
    unsafe { &mut *(made as *mut [MaybeUninit<f32>]) }
}
