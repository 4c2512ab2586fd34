//! Copies columns of a matrix into panels.

use super::{kernel::PANEL_REGS, matrix::Mat};
use pulp::{Simd, WithSimd};
#[cfg(target_arch = "x86_64")]
use std::mem::transmute;
use std::{ops::Range, slice};

/// Side of the blocks that are transposed in registers.
const SIDE: usize = 4;
/// Rows that a transposing copy takes at once: one cache line of each source column, so that
/// columns which share a cache set do not push each other out half read.
const DEPTH: usize = 16;

/// Packs columns `cols` of `b` into panels of [`PANEL_REGS`] registers from `to` on. Missing
/// columns of the last panel become zero.
///
/// # Safety
///
/// `cols` lies inside the columns of `b`, and `to` has room for the rows of `b` at full width for
/// each panel begun.
#[inline(never)]
pub(super) unsafe fn panels<S: Simd>(simd: S, b: Mat<'_>, cols: Range<usize>, to: *mut f32) {
    simd.vectorize(Pack { b, cols, to });
}

/// Holds the promise of [`panels`].
struct Pack<'a> {
    b: Mat<'a>,
    cols: Range<usize>,
    to: *mut f32,
}

impl WithSimd for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (b, width) = (self.b, PANEL_REGS * S::F32_LANES);
        if b.rows() == 0 {
            return;
        }
        for (p, first) in self.cols.clone().step_by(width).enumerate() {
            let cols = width.min(self.cols.end - first);
            // SAFETY: `first` is a column of `b`, and `panels` promised room for this panel.
            unsafe {
                let from = b.as_ptr().add(first * b.col_stride());
                let to = self.to.add(p * b.rows() * width);
                if b.col_stride() == 1 {
                    copy(simd, b, from, cols, to);
                    continue;
                }
                if cols < width {
                    // All at once: row by row would be a call for each.
                    to.write_bytes(0, b.rows() * width);
                }
                if b.row_stride() == 1 {
                    transpose(b, from, cols, to, width);
                } else {
                    gather(b, from, (0, 0), (b.rows(), cols), to, width);
                }
            }
        }
    }
}

/// Copies runs of rows register by register, with zeros for missing columns. Calls of `memcpy` and
/// `memset` for such short runs would cost more than the copy itself.
///
/// # Safety
///
/// `from` is an element of the first row of `b` with `cols` columns from there on, at most a
/// panel; `to` has room for the rows of `b` at full width; the column stride is one.
#[inline(always)]
unsafe fn copy<S: Simd>(simd: S, b: Mat<'_>, from: *const f32, cols: usize, to: *mut f32) {
    let width = PANEL_REGS * S::F32_LANES;
    for p in 0..b.rows() {
        for first in (0..width).step_by(S::F32_LANES) {
            let there = cols.saturating_sub(first).min(S::F32_LANES);
            // SAFETY: `p` is a row of `b`, and only columns before `cols` are read; the caller
            // promised room for the whole register.
            unsafe {
                let from = from.wrapping_add(p * b.row_stride() + first);
                let register = if there == S::F32_LANES {
                    from.cast::<S::f32s>().read_unaligned()
                } else if there == 0 {
                    simd.splat_f32s(0.0)
                } else {
                    simd.partial_load_f32s(slice::from_raw_parts(from, there))
                };
                let to = to.add(p * width + first);
                to.cast::<S::f32s>().write_unaligned(register);
            }
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
unsafe fn transpose(b: Mat<'_>, from: *const f32, cols: usize, to: *mut f32, width: usize) {
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
unsafe fn block(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: the caller promised these runs.
    let columns: [[f32; SIDE]; SIDE] = std::array::from_fn(|i| unsafe {
        let from = from.add(i * from_stride).cast::<[f32; SIDE]>();
        from.read_unaligned()
    });
    for (i, row) in turned(columns).into_iter().enumerate() {
        // SAFETY: the caller promised room for these runs.
        unsafe {
            let to = to.add(i * to_stride).cast::<[f32; SIDE]>();
            to.write_unaligned(row);
        }
    }
}

/// Exchanges rows and columns. Spelled with the baseline instructions of this architecture: the
/// compiler does not find them, and moves single elements instead.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn turned(columns: [[f32; SIDE]; SIDE]) -> [[f32; SIDE]; SIDE] {
    use std::arch::x86_64::{
        __m128, _mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps,
    };
    // SAFETY: both types are 64 bytes of plain numbers, and SSE belongs to every x86-64.
    unsafe {
        let [a, b, c, d] = transmute::<[[f32; SIDE]; SIDE], [__m128; SIDE]>(columns);
        let (low_ab, low_cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
        let (high_ab, high_cd) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
        transmute::<[__m128; SIDE], [[f32; SIDE]; SIDE]>([
            _mm_movelh_ps(low_ab, low_cd),
            _mm_movehl_ps(low_cd, low_ab),
            _mm_movelh_ps(high_ab, high_cd),
            _mm_movehl_ps(high_cd, high_ab),
        ])
    }
}

/// Exchanges rows and columns.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn turned(columns: [[f32; SIDE]; SIDE]) -> [[f32; SIDE]; SIDE] {
    std::array::from_fn(|i| std::array::from_fn(|j| columns[j][i]))
}

/// Copies the elements from row and column `start` to before `end`, one by one.
///
/// # Safety
///
/// As [`transpose`], but for any strides; `end` lies inside the rows of `b` and the columns promised.
#[inline(always)]
unsafe fn gather(
    b: Mat<'_>,
    from: *const f32,
    start: (usize, usize),
    end: (usize, usize),
    to: *mut f32,
    width: usize,
) {
    for p in start.0..end.0 {
        for j in start.1..end.1 {
            // SAFETY: `p` and `j` are inside the rows and columns promised.
            unsafe {
                let from = from.add(p * b.row_stride() + j * b.col_stride());
                *to.add(p * width + j) = *from;
            }
        }
    }
}
