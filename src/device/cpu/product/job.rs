//! A part of a product, on one thread.

use super::dots;
use super::driver::{BREADTH, Driver, Panels};
use super::kernel::{PANEL_REGS, tile_rows};
use super::matrix::Mat;
use super::packed::Line;
use super::right::Right;
use super::{Job, One, fused};
use crate::device::cpu::data::Data;
use crate::plan::product::{Factor, PRODUCTS, Sides};
use pulp::{Simd, WithSimd};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::slice;

/// So many elements of a product are made before the program runs on them: they stay in the second
/// cache.
const CHUNK: usize = 1 << 16;
/// Longer scratch memory is not kept for the next product.
const LONGEST_KEPT: usize = 1 << 20;

/// The memory of a thread that products use.
#[derive(Default)]
struct Scratch {
    /// The panels of the right sides.
    rights: [Vec<Line>; PRODUCTS],
    /// Rows of a product and of the one beside it, and what the program makes of them.
    raw: Vec<f32>,
    beside: Vec<f32>,
    made: Vec<f32>,
}

impl Scratch {
    /// The length of the longest.
    fn longest(&self) -> usize {
        let rights = self.rights.iter().map(|right| right.len() * Line::LEN);
        rights.fold(self.raw.len(), usize::max)
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Rows of a product, and of the one beside it.
pub(super) type Raws<'a> = SmallVec<[&'a [f32]; 2]>;

/// Columns of a right side, as they are multiplied by.
enum Ready<'a> {
    Panels(Panels, Range<usize>),
    /// All of them, as they lie.
    Columns(Mat<'a>),
}

impl Ready<'_> {
    /// Writes the product of some rows and these columns.
    ///
    /// # Safety
    /// The panels are still there, and have as many rows as `a` columns. `c` has room for these
    /// rows and columns, and nobody else touches them.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(&self, simd: S, a: Mat<'_>, c: (*mut f32, usize)) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Ready::Panels(b, panels) => Driver::new(a, *b, panels.clone(), c).run(simd),
                Ready::Columns(b) => dots::run(simd, a, *b, c),
            }
        }
    }
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
        if scratch.longest() <= LONGEST_KEPT {
            SCRATCH.set(scratch);
        }
    }
}

/// Some rows of a product, in this buffer.
///
/// # Safety
/// As [`Ready::multiply`], for so many columns.
#[inline(always)]
unsafe fn rows<'b, S: Simd>(
    simd: S,
    (a, b): (Mat<'_>, &Ready<'_>),
    cols: usize,
    buffer: &'b mut Vec<f32>,
) -> &'b [f32] {
    let rows = room(buffer, a.rows() * cols);
    // SAFETY: there is room for so many rows of these columns.
    unsafe { b.multiply(simd, a, (rows.as_mut_ptr(), cols)) };
    rows
}

impl Job<'_> {
    /// One member of the batch.
    #[inline(always)]
    fn member<S: Simd>(&self, simd: S, index: usize, scratch: &mut Scratch) {
        let (step, which) = (self.step, self.bare.unwrap_or(0));
        let (Some(a), Some(right)) = (self.left(which, index), self.right(which, index)) else {
            return;
        };
        if let (Right::Plain(b), true) = (right, self.by_dots) {
            let b = Ready::Columns(b);
            return self.chunks(simd, (a, b), (index, 0..step.n), scratch);
        }
        let width = PANEL_REGS * S::F32_LANES;
        let panels = self.cols.start / width..self.cols.end.div_ceil(width);
        let group = self.group::<S>(index, panels.len());
        for first in panels.clone().step_by(group) {
            let group = first..panels.end.min(first + group);
            let cols = first * width..step.n.min(group.end * width);
            let Some(b) = self.ready(simd, which, index, group, scratch) else {
                return;
            };
            if step.then.is_some() && self.bare.is_none() {
                self.chunks(simd, (a, b), (index, cols), scratch);
                continue;
            }
            let row = index * step.m + self.rows.start;
            let to = self.out.0.wrapping_add(row * step.n + cols.start);
            // SAFETY: `out` has these rows and columns, which are this job's.
            unsafe { b.multiply(simd, a, (to, step.n)) };
        }
    }

    /// How many panels are made ready at once.
    #[inline(always)]
    fn group<S: Simd>(&self, index: usize, all: usize) -> usize {
        let rows = self.rows.len();
        let mut rights = (0..2).filter_map(|which| self.right(which, index));
        let in_place = rights.all(|right| right.in_place::<S>(rows));
        let several = match self.step.then.as_ref().filter(|_| self.bare.is_none()) {
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
        (a, b): (Mat<'_>, Ready<'_>),
        (index, cols): (usize, Range<usize>),
        scratch: &mut Scratch,
    ) {
        let (step, n, columns) = (self.step, self.step.n, self.step.columns());
        let (tile, width) = (tile_rows::<S>(), PANEL_REGS * S::F32_LANES);
        let panels = cols.start / width..cols.end.div_ceil(width);
        let all = 0..columns.div_ceil(width);
        let beside = self.ready(simd, 1, index, panels, scratch);
        let beside = self.left(1, index).zip(beside);
        let second = self.ready(simd, 2, index, all.clone(), scratch);
        let last = self.ready(simd, 3, index, all, scratch);
        let last = self.left(3, index).zip(last);
        let at_once = cols.len() * if beside.is_some() { 2 } else { 1 };
        let each = (CHUNK / at_once / tile).max(1) * tile;
        let (one, other, made) = (&mut scratch.raw, &mut scratch.beside, &mut scratch.made);
        for first in (0..a.rows()).step_by(each) {
            let part = first..a.rows().min(first + each);
            let (row, count) = (index * step.m + self.rows.start + first, part.len());
            // SAFETY: the panels are there until this function ends.
            let raws = unsafe {
                let mut raws =
                    Raws::from_iter([rows(simd, (a.sub_rows(part.clone()), &b), cols.len(), one)]);
                if let Some((a, b)) = &beside {
                    raws.push(rows(simd, (a.sub_rows(part.clone()), b), cols.len(), other));
                }
                raws
            };
            let Some(second) = &second else {
                self.programmed(0, &raws, (row, count), (n, cols.clone()));
                continue;
            };
            let made = room(made, count * n);
            self.program(0, &raws, row * n, uninit(made));
            drop(raws);
            let left = Mat::new(made, (count, n), (n, 1));
            if step
                .second
                .as_ref()
                .is_some_and(|second| second.then.is_none())
            {
                let to = (self.out.0.wrapping_add(row * columns), columns);
                // SAFETY: `out` has these rows, which are this job's.
                unsafe { second.multiply(simd, left, to) };
                continue;
            }
            // SAFETY: as above.
            let raws = unsafe {
                let mut raws = Raws::from_iter([rows(simd, (left, second), columns, one)]);
                if let Some((a, b)) = &last {
                    raws.push(rows(simd, (a.sub_rows(part.clone()), b), columns, other));
                }
                raws
            };
            self.programmed(1, &raws, (row, count), (columns, 0..columns));
        }
    }

    /// These panels of a right side.
    #[inline(always)]
    fn ready<S: Simd>(
        &self,
        simd: S,
        which: usize,
        index: usize,
        panels: Range<usize>,
        scratch: &mut Scratch,
    ) -> Option<Ready<'static>> {
        let right = self.right(which, index)?;
        let buffer = &mut scratch.rights[which];
        // SAFETY: they are used for these panels only. The buffer is this product's, for which
        // others are made ready only when these have been used.
        let ready = unsafe { right.panels(simd, panels.clone(), self.rows.len(), buffer) };
        Some(Ready::Panels(ready, panels))
    }

    /// The rows of a left side.
    fn left(&self, which: usize, index: usize) -> Option<Mat<'_>> {
        let One { sides, a, .. } = self.products[which].as_ref()?;
        let (factor, data) = (sides.a?, (*a)?);
        let size = (self.step.m, sides.k);
        let all = matrix(factor, data, (&self.step.batch, index), size);
        Some(all.sub_rows(self.rows.clone()))
    }

    /// A right side, packed before or not.
    fn right(&self, which: usize, index: usize) -> Option<Right<'_>> {
        let one = self.products[which].as_ref()?;
        let Sides { b, k, n, .. } = one.sides;
        Some(match one.packed {
            Some(packed) => Right::Packed(packed),
            None => Right::Plain(matrix(b, one.b, (&self.step.batch, index), (k, n))),
        })
    }

    /// Runs a program on some rows of some of `n` columns, and writes what it makes to its place.
    fn programmed(
        &self,
        which: usize,
        raws: &Raws<'_>,
        (row, rows): (usize, usize),
        (n, cols): (usize, Range<usize>),
    ) {
        let out = |start: usize, len: usize| {
            // SAFETY: these elements are this job's, and `out` is borrowed by `run`.
            unsafe { slice::from_raw_parts_mut(self.out.0.add(start).cast(), len) }
        };
        if cols.len() == n {
            return self.program(which, raws, row * n, out(row * n, rows * n));
        }
        for i in 0..rows {
            let raws = raws.iter().map(|raw| &raw[i * cols.len()..][..cols.len()]);
            let raws: Raws<'_> = raws.collect();
            let start = (row + i) * n + cols.start;
            self.program(which, &raws, start, out(start, cols.len()));
        }
    }

    /// Runs a program on the elements from `first` on.
    pub(super) fn program(
        &self,
        which: usize,
        raws: &Raws<'_>,
        first: usize,
        out: &mut [MaybeUninit<f32>],
    ) {
        let mut operands = self.operands.programs;
        let mut programs = self.step.programs();
        let before = programs.by_ref().take(which);
        before.for_each(|then| operands = &operands[then.program.inputs.len()..]);
        let Some(then) = programs.next() else { return };
        let own = then.raws();
        let inputs = then.program.inputs.iter().zip(operands);
        let inputs = inputs.map(|(input, &data)| {
            let made = own.iter().zip(raws).find(|(raw, _)| **raw == input.value);
            made.map_or(data, |(_, made)| Data::F32(made))
        });
        let inputs: SmallVec<[Data<'_>; 4]> = inputs.collect();
        let inputs = (&inputs[..], &own[..]);
        fused::run_part(&then.program, inputs, self.operands.scalars, first, out);
    }
}

/// Room for so many numbers.
fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// The same as something to write to.
fn uninit(made: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    let made: *mut [f32] = made;
    // SAFETY: the same memory, borrowed for as long; programs only ever write numbers.
    unsafe { &mut *(made as *mut [MaybeUninit<f32>]) }
}
