//! Walks over a product tile by tile.

use super::kernel::{self, MAX_ROWS, MAX_WIDTH, PANEL_REGS, Tile, width};
use super::matrix::{AnyMat, Mat};
use super::packed::Packed;
use super::real::{Panel, Real, Source};
use crate::device::cpu::memory::NoMemory;
use pulp::Simd;
use std::{mem::MaybeUninit, ops::Range};

/// Steps of `k` between visits of C: a copied block of A this deep takes half of a first cache of
/// 32 KiB, and a tile computes long enough to hide the trip of its sums to C and back.
const DEPTH: usize = 512;
/// Panels that one block of A meets before the next block. At this depth they just fit a second
/// cache of 1 MiB on the widest instruction set.
pub(super) const BREADTH: usize = 16;
/// Distance of copied rows of A. The odd line keeps them out of each other's cache sets.
const COPY_STRIDE: usize = DEPTH + 16;
/// Fewest panels for which a block of A is worth a copy.
const COPY_PANELS: usize = 3;

/// The right side of a product as panels.
#[derive(Clone, Copy)]
pub(super) struct Panels<P> {
    n: usize,
    /// The first panel that is there.
    start: *const P,
    /// Its number.
    first: usize,
    /// Distance of the rows of a panel.
    step: usize,
    /// Distance of the panels.
    next: usize,
    /// The last panel, when it has less than the full width and does not stand behind the others. Its rows are a
    /// panel's width apart.
    last: Option<*const P>,
}

impl<P: Panel> Panels<P> {
    /// A matrix in panels of `width` columns.
    pub(super) fn packed(b: &Packed<P>, width: usize) -> Self {
        assert_eq!(b.width(), width, "packed for other instructions");
        // SAFETY: a packed matrix has full panels for all its columns.
        unsafe { Self::padded((b.k(), b.n()), width, b.as_ptr(), 0) }
    }

    /// Packed panels of `width` columns at `start`, from this one on, of a matrix of `k` rows and `n` columns.
    ///
    /// # Safety
    ///
    /// Each panel `p` that a driver is given has `k * width` readable elements at
    /// `start + (p - first) * k * width`, for as long as the result is in use.
    pub(super) unsafe fn padded(
        (k, n): (usize, usize),
        width: usize,
        start: *const P,
        first: usize,
    ) -> Self {
        Self {
            n,
            start,
            first,
            step: width,
            next: k * width,
            last: None,
        }
    }

    /// The columns of `b` where they are, with the last panel packed at `last` if there is one.
    ///
    /// # Safety
    ///
    /// The column stride of `b` is one. If there is a `last`, it has `b.rows() * width` readable
    /// elements; if not, the columns fill whole registers. Both stay as they are while the result
    /// is in use.
    pub(super) unsafe fn in_place(b: Mat<'_, P>, width: usize, last: Option<*const P>) -> Self {
        Self {
            n: b.cols(),
            start: b.as_ptr(),
            first: 0,
            step: b.row_stride(),
            next: width,
            last,
        }
    }
}

/// A product on the calling thread.
pub(super) struct Driver<'a, P: Panel> {
    a: AnyMat<'a, P::Sum>,
    b: Panels<P>,
    panels: Range<usize>,
    /// Where the first of these columns is written to.
    c: *mut P::Sum,
    c_row: usize,
}

/// Where the rows of A for one tile lie.
#[derive(Clone, Copy)]
struct Left<R> {
    ptr: *const R,
    row: usize,
    col: usize,
}

/// The part of a product that one block of A takes part in.
#[derive(Clone)]
struct Part {
    rows: Range<usize>,
    depth: Range<usize>,
    panels: Range<usize>,
}

type Copied<R> = [MaybeUninit<R>; MAX_ROWS * COPY_STRIDE];

impl<'a, P: Panel> Driver<'a, P> {
    /// The columns of `panels` of the product of `a` and `b`, to be written to `c`: its rows are
    /// `c_row` apart, and it begins with the first of these columns.
    ///
    /// # Safety
    ///
    /// Until it has run: `b` has as many rows as `a` columns, and all these panels; the rows of
    /// `c` are apart from one another, as long as those columns, and nobody else touches them.
    pub(super) unsafe fn new(
        a: AnyMat<'a, P::Sum>,
        b: Panels<P>,
        panels: Range<usize>,
        (c, c_row): (*mut P::Sum, usize),
    ) -> Self {
        Self {
            a,
            b,
            panels,
            c,
            c_row,
        }
    }

    /// Writes every element, and reads none of what was there.
    #[inline(always)]
    pub(super) fn run<S: Simd>(self, simd: S) -> Result<(), NoMemory> {
        let (m, k) = (self.a.rows(), self.a.cols());
        if m == 0 || self.panels.is_empty() {
            return Ok(());
        }
        // Rows are shared out evenly: a last tile of one row would be as slow as one of four.
        let tiles = m.div_ceil(kernel::tile_rows::<S>());
        // A single tile takes all of `k` in one go: it uses B but once, and B comes fastest when
        // it is read from end to end.
        let depth = if tiles == 1 { k.max(1) } else { DEPTH };
        let wide = match depth > DEPTH {
            true => self.a.widened()?,
            false => None,
        };
        let a = match &wide {
            Some(wide) => AnyMat::Wide(Mat::new(wide, (m, k), (k, 1))),
            None => self.a,
        };
        let mut copied: Copied<P::Sum> = [const { MaybeUninit::uninit() }; MAX_ROWS * COPY_STRIDE];
        for first in self.panels.clone().step_by(BREADTH) {
            let panels = first..self.panels.end.min(first + BREADTH);
            // One pass even without depth: it has to write zeros.
            for pass in 0..k.div_ceil(depth).max(1) {
                let depth = pass * depth..k.min((pass + 1) * depth);
                for tile in 0..tiles {
                    let part = Part {
                        rows: share(m, tiles, tile)..share(m, tiles, tile + 1),
                        depth: depth.clone(),
                        panels: panels.clone(),
                    };
                    self.part(simd, a, &part, &mut copied);
                }
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn part<S: Simd>(
        &self,
        simd: S,
        a: AnyMat<'_, P::Sum>,
        part: &Part,
        copied: &mut Copied<P::Sum>,
    ) {
        let worth_copy = part.panels.len() >= COPY_PANELS && part.depth.len() <= DEPTH;
        assert!(part.rows.len() <= MAX_ROWS); // what a copy has room for
        let left = match a {
            AnyMat::Wide(a) if !worth_copy => left_in_place(a, part),
            AnyMat::Wide(a) => copy_left(a, part, copied),
            AnyMat::BF16(a) => copy_left(a, part, copied),
            AnyMat::F16(a) => copy_left(a, part, copied),
        };
        let width = width::<S, P::Sum>();
        let full = self.b.n / width;
        let group = kernel::panels_at_once::<S>(part.rows.len());
        let mut panel = part.panels.start;
        while panel < part.panels.end {
            if panel >= full {
                self.narrow(simd, part, left);
                panel += 1;
            } else {
                let left_over = part.panels.end.min(full) - panel;
                let count = if left_over >= group { group } else { 1 };
                self.wide(simd, part, left, panel, count);
                panel += count;
            }
        }
    }

    /// A tile of `count` full panels.
    #[inline(always)]
    fn wide<S: Simd>(&self, simd: S, part: &Part, left: Left<P::Sum>, panel: usize, count: usize) {
        let width = width::<S, P::Sum>();
        let b = self.b;
        let offset = (panel - b.first) * b.next + part.depth.start * b.step;
        let tile = self.tile::<S>(
            part,
            left,
            panel * width,
            b.start.wrapping_add(offset),
            b.step,
        );
        // SAFETY: the panels are full and inside B; C has these columns and the rows of the part;
        // the part before this one has written what a resumed tile reads.
        unsafe { kernel::run(simd, part.rows.len(), count * PANEL_REGS, &tile) };
    }

    /// The last panel, when it is not full.
    #[inline(always)]
    fn narrow<S: Simd>(&self, simd: S, part: &Part, left: Left<P::Sum>) {
        let width = width::<S, P::Sum>();
        let b = self.b;
        let full = b.n / width;
        let (col, cols) = (full * width, b.n % width);
        let (last, step) = match b.last {
            Some(last) => (last, width),
            None => (b.start.wrapping_add((full - b.first) * b.next), b.step),
        };
        let from = last.wrapping_add(part.depth.start * step);
        let mut tile = self.tile::<S>(part, left, col, from, step);
        let regs = cols.div_ceil(P::Sum::lanes::<S>());
        if cols.is_multiple_of(P::Sum::lanes::<S>()) {
            // SAFETY: as in `wide`, for the whole registers of the last panel.
            unsafe { kernel::run(simd, part.rows.len(), regs, &tile) };
        } else {
            // SAFETY: C has these rows and columns, and they are written when `resume` is set; the
            // last panel is padded to whole registers.
            unsafe { buffered(simd, part.rows.len(), regs, cols, &mut tile) };
        }
    }

    #[inline(always)]
    fn tile<S: Simd>(
        &self,
        part: &Part,
        left: Left<P::Sum>,
        col: usize,
        b: *const P,
        b_step: usize,
    ) -> Tile<P> {
        let first = self.panels.start * width::<S, P::Sum>();
        Tile {
            k: part.depth.len(),
            a: left.ptr,
            a_row: left.row,
            a_col: left.col,
            b,
            b_step,
            b_panel: self.b.next,
            c: self
                .c
                .wrapping_add(part.rows.start * self.c_row + (col - first)),
            c_row: self.c_row,
            resume: part.depth.start > 0,
        }
    }
}

/// Where the share of a tile begins, of `tiles` that share `m` rows evenly: `m * tile / tiles`, which may be larger
/// on the way.
fn share(m: usize, tiles: usize, tile: usize) -> usize {
    m / tiles * tile + m % tiles * tile / tiles
}

/// A tile whose last register reaches past the `cols` columns of C, by way of a buffer.
///
/// # Safety
///
/// As [`kernel::run`], but C has only `cols` columns.
#[inline(always)]
unsafe fn buffered<S: Simd, P: Panel>(
    simd: S,
    rows: usize,
    regs: usize,
    cols: usize,
    tile: &mut Tile<P>,
) {
    assert!(regs <= PANEL_REGS && width::<S, P::Sum>() <= MAX_WIDTH);
    let width = regs * P::Sum::lanes::<S>();
    let mut buffer = [const { MaybeUninit::<P::Sum>::uninit() }; MAX_ROWS * MAX_WIDTH];
    let buffer: *mut P::Sum = buffer.as_mut_ptr().cast();
    let (c, stride) = (tile.c, tile.c_row);
    (tile.c, tile.c_row) = (buffer, width);
    // SAFETY: the caller promised these rows and columns of C. The buffer has room for all rows
    // of a tile at full width; where it resumes, the columns past C start from zero.
    unsafe {
        if tile.resume {
            buffer.write_bytes(0, rows * width);
            for i in 0..rows {
                c.add(i * stride)
                    .copy_to_nonoverlapping(buffer.add(i * width), cols);
            }
        }
        kernel::run(simd, rows, regs, tile);
        for i in 0..rows {
            c.add(i * stride)
                .copy_from_nonoverlapping(buffer.add(i * width), cols);
        }
    }
}

fn left_in_place<T: Copy>(a: Mat<'_, T>, part: &Part) -> Left<T> {
    // Wrapping here and in the copy, because the strides of an empty matrix may be anything.
    let down = part.rows.start.wrapping_mul(a.row_stride());
    let right = part.depth.start.wrapping_mul(a.col_stride());
    Left {
        ptr: a.as_ptr().wrapping_add(down.wrapping_add(right)),
        row: a.row_stride(),
        col: a.col_stride(),
    }
}

/// Copies the rows of A of one part side by side, widened. Runs along rows stay runs along rows,
/// and runs along columns stay runs along columns, so that nothing has to be transposed.
#[inline(always)]
fn copy_left<T: Source<R>, R: Real>(a: Mat<'_, T>, part: &Part, copied: &mut Copied<R>) -> Left<R> {
    let (rows, depth) = (part.rows.len(), part.depth.len());
    let by_column = a.row_stride() == 1 && a.col_stride() != 1;
    let (row, col) = if by_column {
        (1, MAX_ROWS)
    } else {
        (COPY_STRIDE, 1)
    };
    let from = left_in_place(a, part);
    let to: *mut R = copied.as_mut_ptr().cast();
    let (runs, count) = match (by_column, a.col_stride()) {
        (true, _) => (depth, rows),
        (false, 1) => (rows, depth),
        (false, _) => (rows * depth, 1),
    };
    for run in 0..runs {
        let (i, p) = match (by_column, count) {
            (true, _) => (0, run),
            (false, 1) => (run / depth, run % depth),
            (false, _) => (run, 0),
        };
        // SAFETY: A has these rows and this depth; the copy has room for a full tile of `DEPTH`
        // either way round. A run is along the unit stride of both.
        unsafe {
            let offset = i.wrapping_mul(from.row).wrapping_add(p * from.col);
            let (from, to) = (from.ptr.wrapping_add(offset), to.add(i * row + p * col));
            for j in 0..count {
                *to.add(j) = (*from.add(j)).wide();
            }
        }
    }
    Left { ptr: to, row, col }
}
