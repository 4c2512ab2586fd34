//! A part of a product, on one thread.

use super::dots;
use super::driver::{BREADTH, Driver, Panels};
use super::kernel::{PANEL_REGS, tile_rows};
use super::matrix::Mat;
use super::packed::Line;
use super::right::Right;
use super::{Job, fused};
use crate::device::cpu::data::Data;
use crate::plan::product::Factor;
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
        let a = matrix(&step.a, operands.a, at, (step.m, step.k));
        let rows = a.sub_rows(self.rows.clone());
        let right = self.right(0, &step.b, at, (step.k, step.n));
        if let (Right::Plain(b), true) = (right, self.by_dots) {
            return self.chunks(simd, rows, Ready::Columns(b), (index, 0..step.n), scratch);
        }
        let panels = self.cols.start / width..self.cols.end.div_ceil(width);
        let group = self.group::<S>(right, rows.rows(), panels.len());
        for first in panels.clone().step_by(group) {
            let group = first..panels.end.min(first + group);
            // SAFETY: they are used for these panels only, before the buffer is used again.
            let b = unsafe { right.panels(simd, group.clone(), rows.rows(), &mut scratch.right) };
            let cols = first * width..step.n.min(group.end * width);
            let b = Ready::Panels(b, group);
            if step.then.is_some() && !self.bare {
                self.chunks(simd, rows, b, (index, cols), scratch);
                continue;
            }
            let row = index * step.m + self.rows.start;
            let to = self.out.0.wrapping_add(row * step.n + cols.start);
            // SAFETY: `out` has these rows and columns, which are this job's.
            unsafe { b.multiply(simd, rows, (to, step.n)) };
        }
    }

    /// How many panels are made ready at once.
    #[inline(always)]
    fn group<S: Simd>(&self, right: Right<'_>, rows: usize, all: usize) -> usize {
        let in_place = right.in_place::<S>(rows);
        let several = match self.step.then.as_ref().filter(|_| !self.bare) {
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
        a: Mat<'_>,
        b: Ready<'_>,
        (index, cols): (usize, Range<usize>),
        scratch: &mut Scratch,
    ) {
        let step = self.step;
        let tile = tile_rows::<S>();
        let each = (CHUNK / cols.len() / tile).max(1) * tile;
        let second = step.second.as_ref().map(|second| {
            let (at, columns) = ((&step.batch[..], index), second.columns);
            let right = self.right(1, &second.b, at, (step.n, columns));
            let panels = 0..columns.div_ceil(PANEL_REGS * S::F32_LANES);
            // SAFETY: they are used for these panels only; the buffer is not used again before
            // this function ends.
            let ready =
                unsafe { right.panels(simd, panels.clone(), a.rows(), &mut scratch.second) };
            (Ready::Panels(ready, panels), second)
        });
        for first in (0..a.rows()).step_by(each) {
            let rows = first..a.rows().min(first + each);
            let row = index * step.m + self.rows.start + first;
            let count = rows.len() * cols.len();
            let raw = room(&mut scratch.raw, count);
            let to = (raw.as_mut_ptr(), cols.len());
            // SAFETY: there is room for so many rows of these columns.
            unsafe { b.multiply(simd, a.sub_rows(rows.clone()), to) };
            let Some((v, second)) = &second else {
                self.programmed(0, raw, (row, rows.len()), (step.n, cols.clone()));
                continue;
            };
            let made = room(&mut scratch.made, count);
            self.program(0, raw, row * step.n, uninit(made));
            let left = Mat::new(made, (rows.len(), step.n), (step.n, 1));
            let columns = second.columns;
            if second.then.is_none() {
                let to = (self.out.0.wrapping_add(row * columns), columns);
                // SAFETY: `out` has these rows, which are this job's.
                unsafe { v.multiply(simd, left, to) };
                continue;
            }
            let raw = room(&mut scratch.raw, rows.len() * columns);
            // SAFETY: there is room for so many rows.
            unsafe { v.multiply(simd, left, (raw.as_mut_ptr(), columns)) };
            self.programmed(1, raw, (row, rows.len()), (columns, 0..columns));
        }
    }

    /// A right side, packed before or not.
    fn right(
        &self,
        which: usize,
        factor: &Factor,
        at: (&[usize], usize),
        size: (usize, usize),
    ) -> Right<'_> {
        match (self.packed[which], self.operands.rights[which]) {
            (Some(packed), _) => Right::Packed(packed),
            (None, data) => Right::Plain(matrix(factor, data.unwrap_or_default(), at, size)),
        }
    }

    /// Runs a program on some rows of some of `n` columns, and writes what it makes to its place.
    fn programmed(
        &self,
        which: usize,
        raw: &[f32],
        (row, rows): (usize, usize),
        (n, cols): (usize, Range<usize>),
    ) {
        let out = |start: usize, len: usize| {
            // SAFETY: these elements are this job's, and `out` is borrowed by `run`.
            unsafe { slice::from_raw_parts_mut(self.out.0.add(start).cast(), len) }
        };
        if cols.len() == n {
            return self.program(which, raw, row * n, out(row * n, rows * n));
        }
        for (i, raw) in raw.chunks_exact(cols.len()).enumerate() {
            let start = (row + i) * n + cols.start;
            self.program(which, raw, start, out(start, cols.len()));
        }
    }

    /// Runs a program on the elements from `first` on.
    pub(super) fn program(
        &self,
        which: usize,
        raw: &[f32],
        first: usize,
        out: &mut [MaybeUninit<f32>],
    ) {
        let mut operands = self.operands.programs;
        let mut programs = self.step.programs();
        let before = programs.by_ref().take(which);
        before.for_each(|then| operands = &operands[then.program.inputs.len()..]);
        let Some(then) = programs.next() else { return };
        let inputs = then.program.inputs.iter().zip(operands);
        let inputs = inputs.map(|(input, &data)| match input.value == then.raw {
            true => Data::F32(raw),
            false => data,
        });
        let inputs: SmallVec<[Data<'_>; 4]> = inputs.collect();
        let inputs = (&inputs[..], then.raw);
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
