//! Copies columns of a matrix into panels.

use super::kernel::{PANEL_REGS, width};
use super::matrix::{AnyMat, Mat, each};
use super::real::{Panel, Real, SIDE, Source};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Rows that a transposing copy takes at once: one cache line of each source column, so that
/// columns which share a cache set do not push each other out half read.
const DEPTH: usize = 16;
/// Panels that are copied side by side.
const SIDE_BY_SIDE: usize = 8;

/// A matrix that can be packed into panels of `P`.
pub(super) trait Packs<P: Panel>: Copy {
    /// Rows and columns.
    fn size(&self) -> (usize, usize);

    /// Packs columns, widened, into panels from `to` on. Missing columns of the last panel become
    /// zero.
    ///
    /// # Safety
    ///
    /// `cols` lies inside the columns of the matrix, and `to` has room for its rows at full width
    /// for each panel begun.
    unsafe fn pack<S: Simd>(self, simd: S, cols: Range<usize>, to: *mut P);
}

impl<R: Real> Packs<R> for AnyMat<'_, R> {
    fn size(&self) -> (usize, usize) {
        (self.rows(), self.cols())
    }

    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn pack<S: Simd>(self, simd: S, cols: Range<usize>, to: *mut R) {
        // SAFETY: the caller's promise.
        unsafe { each!(self, b => b.pack(simd, cols, to)) }
    }
}

impl<P: Panel, T: Source<P>> Packs<P> for Mat<'_, T> {
    fn size(&self) -> (usize, usize) {
        (self.rows(), self.cols())
    }

    // SAFETY: as the trait says.
    #[inline(never)]
    unsafe fn pack<S: Simd>(self, simd: S, cols: Range<usize>, to: *mut P) {
        simd.vectorize(Pack { b: self, cols, to });
    }
}

/// Holds the promise of [`Packs::pack`].
struct Pack<'a, T, P> {
    b: Mat<'a, T>,
    cols: Range<usize>,
    to: *mut P,
}

impl<P: Panel, T: Source<P>> WithSimd for Pack<'_, T, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (b, width) = (self.b, width::<S, P::Sum>());
        if b.rows() == 0 {
            return;
        }
        if b.col_stride() == 1 {
            // SAFETY: `pack` promised room for these panels.
            return unsafe { copy::<S, T, P>(b, self.cols, self.to) };
        }
        for (p, first) in self.cols.clone().step_by(width).enumerate() {
            let cols = width.min(self.cols.end - first);
            // SAFETY: `first` is a column of `b`, and `pack` promised room for this panel.
            unsafe {
                let from = b.as_ptr().add(first * b.col_stride());
                let to = self.to.add(p * b.rows() * width);
                if cols < width {
                    // All at once: row by row would be a call for each.
                    to.write_bytes(0, b.rows() * width);
                }
                if b.row_stride() == 1 && P::IN_ORDER {
                    transpose(b, from, cols, to, width);
                } else {
                    gather(b, from, (0, 0), (b.rows(), cols), to, width);
                }
            }
        }
    }
}

/// Copies runs of rows into some panels side by side: what lies in a row one after another is read
/// so, though each panel takes but a line or two of it.
///
/// # Safety
///
/// As [`Packs::pack`]; the column stride is one.
#[inline(always)]
unsafe fn copy<S: Simd, T: Source<P>, P: Panel>(b: Mat<'_, T>, cols: Range<usize>, to: *mut P) {
    let width = width::<S, P::Sum>();
    for some in cols.clone().step_by(width * SIDE_BY_SIDE) {
        let some = some..cols.end.min(some + width * SIDE_BY_SIDE);
        for p in 0..b.rows() {
            for first in some.clone().step_by(width) {
                let panel = (first - cols.start) / width;
                // SAFETY: these are a row and columns of `b`, and the caller promised room for
                // all its rows in this panel.
                unsafe {
                    let from = b.as_ptr().add(p * b.row_stride() + first);
                    let to = to.add((panel * b.rows() + p) * width);
                    copy_run::<S, T, P>(from, width.min(some.end - first), to);
                }
            }
        }
    }
}

/// Copies one row of a panel, with zeros for missing columns. Full ones have a length that the
/// compiler knows: calls of `memcpy` and `memset` for such short runs would cost more than the copy
/// itself.
///
/// # Safety
///
/// `from` has `cols` elements, at most a panel's; `to` has room for a row of a panel.
#[inline(always)]
unsafe fn copy_run<S: Simd, T: Source<P>, P: Panel>(from: *const T, cols: usize, to: *mut P) {
    let (lanes, width) = (P::Sum::lanes::<S>(), width::<S, P::Sum>());
    let to = |j: usize| to.wrapping_add(P::place(j / lanes, j % lanes, lanes));
    if cols == width {
        for j in 0..width {
            // SAFETY: the caller's promise; all columns are there.
            unsafe { *to(j) = (*from.add(j)).wide() };
        }
        return;
    }
    for j in 0..width {
        // SAFETY: as above; only columns before `cols` are read.
        unsafe {
            *to(j) = match j < cols {
                true => (*from.add(j)).wide(),
                false => P::default(),
            };
        }
    }
}

/// Transposes blocks in registers and copies what is left element by element.
///
/// # Safety
///
/// `from` is an element of the first row of `b` with `cols` columns from there on; `to` has room
/// for the rows of `b` at `width >= cols` elements each; the row stride is one.
#[inline(always)]
unsafe fn transpose<T: Source<P>, P: Panel>(
    b: Mat<'_, T>,
    from: *const T,
    cols: usize,
    to: *mut P,
    width: usize,
) {
    let rows = b.rows();
    let (even_rows, even_cols) = (rows - rows % SIDE, cols - cols % SIDE);
    for top in (0..even_rows).step_by(DEPTH) {
        for col in (0..even_cols).step_by(SIDE) {
            for row in (top..even_rows.min(top + DEPTH)).step_by(SIDE) {
                // SAFETY: the block ends inside the even rows and columns.
                unsafe {
                    let from = from.add(col * b.col_stride() + row);
                    block(from, b.col_stride(), to.add(row * width + col), width);
                }
            }
        }
    }
    // SAFETY: both parts lie inside the rows and columns that the caller promised.
    unsafe {
        gather(b, from, (0, even_cols), (even_rows, cols), to, width);
        gather(b, from, (even_rows, 0), (rows, cols), to, width);
    }
}

/// Transposes one block of [`SIDE`] columns.
///
/// # Safety
///
/// `from` has [`SIDE`] runs of that many elements `from_stride` apart, and `to` room for the same
/// with `to_stride`.
#[inline(always)]
unsafe fn block<T: Source<P>, P: Panel>(
    from: *const T,
    from_stride: usize,
    to: *mut P,
    to_stride: usize,
) {
    // SAFETY: the caller promised these runs.
    let columns: [[P; SIDE]; SIDE] = std::array::from_fn(|i| unsafe {
        let from = from.add(i * from_stride).cast::<[T; SIDE]>();
        from.read_unaligned().map(T::wide)
    });
    for (i, row) in P::turned(columns).into_iter().enumerate() {
        // SAFETY: the caller promised room for these runs.
        unsafe {
            let to = to.add(i * to_stride).cast::<[P; SIDE]>();
            to.write_unaligned(row);
        }
    }
}

/// Copies the elements from row and column `start` to before `end`, one by one: a cache line of
/// each column after another.
///
/// # Safety
///
/// As [`transpose`], but for any strides; `end` lies inside the rows of `b` and the columns promised.
#[inline(always)]
unsafe fn gather<T: Source<P>, P: Panel>(
    b: Mat<'_, T>,
    from: *const T,
    start: (usize, usize),
    end: (usize, usize),
    to: *mut P,
    width: usize,
) {
    let lanes = width / PANEL_REGS;
    for top in (start.0..end.0).step_by(DEPTH) {
        for j in start.1..end.1 {
            let place = P::place(j / lanes, j % lanes, lanes);
            for p in top..end.0.min(top + DEPTH) {
                // SAFETY: `p` and `j` are inside the rows and columns promised.
                unsafe {
                    let from = from.add(p * b.row_stride() + j * b.col_stride());
                    *to.add(p * width + place) = (*from).wide();
                }
            }
        }
    }
}
