//! A part of a product, on one thread.

use super::driver::BREADTH;
use super::kernel::{tile_rows, width};
use super::matrix::{AnyMat, Mat};
use super::packed::{Line, Plain, room};
use super::real::Real;
use super::right::{Ready, Right};
use super::{Job, KeptPanels, One, fused};
use crate::device::cpu::data::{Data, Out, Stored};
use crate::device::cpu::memory::NoMemory;
use crate::device::cpu::place::places_of;
use crate::plan::product::{Factor, PRODUCTS, Sides};
use candle_core::DType;
use pulp::{Simd, WithSimd};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::ops::Range;

/// How many elements of a product are made before the program runs on them: they stay in the second
/// cache.
const CHUNK: usize = 1 << 16;
/// Longer scratch memory is not kept for the next product: in cache lines.
const LONGEST_KEPT: usize = 1 << 16;

/// The memory of a thread that products use.
#[derive(Default)]
struct Scratch {
    /// The panels of the right sides.
    rights: [Vec<Line>; PRODUCTS],
    /// Rows of a product and of the one beside it, and what the program makes of them.
    raw: Vec<Line>,
    beside: Vec<Line>,
    made: Vec<Line>,
}

impl Scratch {
    /// The length of the longest.
    fn longest(&self) -> usize {
        let rights = self.rights.iter().map(Vec::len);
        rights.fold(self.raw.len(), usize::max)
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Rows of a product, and of the one beside it.
pub(super) type Raws<'a, R> = SmallVec<[&'a [R]; 2]>;

/// The matrix of a factor that belongs to one member of the batch.
fn matrix<'a, R: Real>(
    factor: &Factor,
    data: Data<'a>,
    (batch, index): (&[usize], usize),
    size: (usize, usize),
) -> AnyMat<'a, R> {
    let (mut rest, mut start) = (index, factor.offset);
    for (&size, &step) in batch.iter().zip(&factor.batch).rev() {
        start += rest % size * step;
        rest /= size;
    }
    AnyMat::new(data, start, size, (factor.row, factor.col))
}

impl<R: Real> WithSimd for Job<'_, R> {
    type Output = Result<(), NoMemory>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let mut scratch = SCRATCH.try_with(RefCell::take).unwrap_or_default();
        for index in self.batch.clone() {
            self.member(simd, index, &mut scratch)?;
        }
        if scratch.longest() <= LONGEST_KEPT {
            let _ = SCRATCH.try_with(|kept| kept.replace(scratch)); // not while the thread ends
        }
        Ok(())
    }
}

/// Some rows of a product, in this buffer.
///
/// # Safety
/// As [`Ready::multiply`], for `cols` columns.
#[inline(always)]
unsafe fn rows<'b, S: Simd, R: Real>(
    simd: S,
    (a, b): (AnyMat<'_, R>, &Ready<'_, R>),
    cols: usize,
    buffer: &'b mut Vec<Line>,
) -> Result<&'b [R], NoMemory> {
    let rows = room(buffer, &[a.rows(), cols])?;
    // SAFETY: there is room for so many rows of these columns.
    unsafe { b.multiply(simd, a, (rows.as_mut_ptr(), cols))? };
    Ok(rows)
}

impl<R: Real> Job<'_, R> {
    /// One member of the batch.
    #[inline(always)]
    fn member<S: Simd>(
        &self,
        simd: S,
        index: usize,
        scratch: &mut Scratch,
    ) -> Result<(), NoMemory> {
        let (step, which) = (self.step, self.bare.unwrap_or(0));
        let (Some(a), Some(right)) = (self.left(which, index), self.right(which, index)) else {
            unreachable!("a job is for products that the step has")
        };
        if let (Right::Plain(b), true) = (right, self.by_dots) {
            let b = Ready::Columns(b);
            return self.chunks(simd, (a, b), (index, 0..step.n), scratch);
        }
        let width = width::<S, R>();
        let panels = self.cols.start / width..self.cols.end.div_ceil(width);
        let group = self.group::<S>(index, panels.len());
        for first in panels.clone().step_by(group) {
            let group = first..panels.end.min(first + group);
            let cols = first * width..step.n.min(group.end * width);
            // SAFETY: the panels of this product are used before they are made ready again.
            let b = unsafe {
                let buffer = &mut scratch.rights[which];
                right.panels(simd, group, self.rows.len(), buffer)?
            };
            let row = index * step.m + self.rows.start;
            match self
                .direct(row * step.n + cols.start)
                .filter(|_| self.is_direct())
            {
                // SAFETY: `out` has these rows and columns, which are this job's.
                Some(to) => unsafe { b.multiply(simd, a, (to, step.n))? },
                None => self.chunks(simd, (a, b), (index, cols), scratch)?,
            }
        }
        Ok(())
    }

    /// Whether the product is the result as it is.
    fn is_direct(&self) -> bool {
        let bare = self.bare.is_some() || self.step.then.is_none();
        bare && self.direct(0).is_some()
    }

    /// How many panels are made ready at once.
    #[inline(always)]
    fn group<S: Simd>(&self, index: usize, all: usize) -> usize {
        let rows = self.rows.len();
        let mut rights = (0..2).filter_map(|which| self.right(which, index));
        let in_place = rights.all(|right| right.in_place::<S>(rows));
        let several = match self.is_direct() {
            _ if self.by_rows() => all,
            true if in_place => all,
            false if in_place => BREADTH,
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
        (a, b): (AnyMat<'_, R>, Ready<'_, R>),
        (index, cols): (usize, Range<usize>),
        scratch: &mut Scratch,
    ) -> Result<(), NoMemory> {
        let (step, n, columns) = (self.step, self.step.n, self.step.columns());
        let (tile, width) = (tile_rows::<S>(), width::<S, R>());
        let panels = cols.start / width..cols.end.div_ceil(width);
        let all = 0..columns.div_ceil(width);
        let beside = self.ready(simd, 1, index, panels, scratch)?;
        let beside = self.left(1, index).zip(beside);
        let second = self.ready(simd, 2, index, all.clone(), scratch)?;
        let last = self.ready(simd, 3, index, all, scratch)?;
        let last = self.left(3, index).zip(last);
        let at_once = cols.len() * if beside.is_some() { 2 } else { 1 };
        let each = (CHUNK / at_once / tile).max(1) * tile;
        let (one, other, made) = (&mut scratch.raw, &mut scratch.beside, &mut scratch.made);
        for first in (0..a.rows()).step_by(each) {
            let part = first..a.rows().min(first + each);
            let (row, count) = (index * step.m + self.rows.start + first, part.len());
            // SAFETY: the panels are there until this function ends.
            let raws = unsafe {
                let a = a.sub_rows(part.clone());
                let mut raws = Raws::from_iter([rows(simd, (a, &b), cols.len(), one)?]);
                if let Some((a, b)) = &beside {
                    let a = a.sub_rows(part.clone());
                    raws.push(rows(simd, (a, b), cols.len(), other)?);
                }
                raws
            };
            let Some(second) = &second else {
                self.programmed(0, &raws, (row, count), (n, cols.clone()));
                continue;
            };
            let left = match step.then.as_ref().map(|then| then.program.dtype) {
                Some(DType::BF16) => AnyMat::BF16(self.made(&raws, row * n, (count, n), made)?),
                Some(DType::F16) => AnyMat::F16(self.made(&raws, row * n, (count, n), made)?),
                _ => AnyMat::Wide(self.made(&raws, row * n, (count, n), made)?),
            };
            drop(raws);
            let bare = step
                .second
                .as_ref()
                .is_some_and(|second| second.then.is_none());
            if let Some(to) = self.direct(row * columns).filter(|_| bare) {
                // SAFETY: `out` has these rows, which are this job's.
                unsafe { second.multiply(simd, left, (to, columns))? };
                continue;
            }
            // SAFETY: as above.
            let raws = unsafe {
                let mut raws = Raws::from_iter([rows(simd, (left, second), columns, one)?]);
                if let Some((a, b)) = &last {
                    raws.push(rows(simd, (a.sub_rows(part.clone()), b), columns, other)?);
                }
                raws
            };
            self.programmed(1, &raws, (row, count), (columns, 0..columns));
        }
        Ok(())
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
    ) -> Result<Option<Ready<'static, R>>, NoMemory> {
        let Some(right) = self.right(which, index) else {
            return Ok(None);
        };
        let buffer = &mut scratch.rights[which];
        // SAFETY: they are used for these panels only. The buffer is this product's, for which
        // others are made ready only when these have been used.
        unsafe {
            right
                .panels(simd, panels, self.rows.len(), buffer)
                .map(Some)
        }
    }

    /// The rows of a left side.
    fn left(&self, which: usize, index: usize) -> Option<AnyMat<'_, R>> {
        let One { sides, a, .. } = self.products[which].as_ref()?;
        let (factor, data) = (sides.a?, (*a)?);
        let size = (self.step.m, sides.k);
        let all = matrix(factor, data, (&self.step.batch, index), size);
        Some(all.sub_rows(self.rows.clone()))
    }

    /// A right side, packed before or not.
    fn right(&self, which: usize, index: usize) -> Option<Right<'_, R>> {
        let one = self.products[which].as_ref()?;
        let Sides { b, k, n, .. } = one.sides;
        Some(match one.packed {
            Some(KeptPanels::Wide(packed)) => Right::Packed(packed),
            Some(KeptPanels::Short(packed)) => Right::Short(packed),
            None => Right::Plain(matrix(b, one.b, (&self.step.batch, index), (k, n))),
        })
    }

    /// What the first program makes of some rows, as the left side of the second product: of the
    /// type that it has in the graph.
    fn made<'b, T: Stored + Plain>(
        &self,
        raws: &Raws<'_, R>,
        first: usize,
        size: (usize, usize),
        buffer: &'b mut Vec<Line>,
    ) -> Result<Mat<'b, T>, NoMemory> {
        let made: &mut [T] = room(buffer, &[size.0, size.1])?;
        // SAFETY: programs only ever write to their places.
        self.program(0, raws, first, T::out(unsafe { places_of(made) }));
        Ok(Mat::new(made, size, (size.1, 1)))
    }

    /// Where the result's elements go from this one on, if they are of the type that is summed in.
    fn direct(&self, first: usize) -> Option<*mut R> {
        R::shared(self.out).map(|start| start.wrapping_add(first))
    }

    /// Runs a program on some rows of some of `n` columns, and writes what it makes to its place.
    fn programmed(
        &self,
        which: usize,
        raws: &Raws<'_, R>,
        (row, rows): (usize, usize),
        (n, cols): (usize, Range<usize>),
    ) {
        // SAFETY: these elements are this job's, and `out` is borrowed by `run`.
        let out = |start: usize, len: usize| unsafe { self.out.part(start, len) };
        if cols.len() == n {
            return self.program(which, raws, row * n, out(row * n, rows * n));
        }
        for i in 0..rows {
            let raws = raws.iter().map(|raw| &raw[i * cols.len()..][..cols.len()]);
            let raws: Raws<'_, R> = raws.collect();
            let start = (row + i) * n + cols.start;
            self.program(which, &raws, start, out(start, cols.len()));
        }
    }

    /// Runs a program on the elements from `first` on; without one they are only rounded.
    pub(super) fn program(&self, which: usize, raws: &Raws<'_, R>, first: usize, out: Out<'_>) {
        let mut operands = self.operands.programs;
        let mut programs = self.step.programs();
        let before = programs.by_ref().take(which);
        before.for_each(|then| operands = &operands[then.program.inputs.len()..]);
        let Some(then) = programs.next() else {
            return R::store(raws[0], out);
        };
        let own = then.raws();
        let inputs = then.program.inputs.iter().zip(operands);
        let inputs = inputs.map(|(input, &data)| {
            let made = own.iter().zip(raws).find(|(raw, _)| **raw == input.value);
            made.map_or(data, |(_, made)| R::data(made))
        });
        let inputs: SmallVec<[Data<'_>; 4]> = inputs.collect();
        let inputs = (&inputs[..], &own[..]);
        fused::run_part(&then.program, inputs, self.operands.scalars, first, out);
    }
}
