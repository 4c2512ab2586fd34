//! The innermost loop: a tile of the product in registers.

use super::packed::Line;
use super::real::{Panel, Real};
use pulp::{Simd, WithSimd};

/// Registers in the width of one panel.
pub(super) const PANEL_REGS: usize = 2;
/// Columns of a panel on the widest instruction set.
pub(super) const MAX_WIDTH: usize = 16 * PANEL_REGS;
/// Rows of a tile on the instruction set with most registers.
pub(super) const MAX_ROWS: usize = 8;

/// Columns of a panel of this type.
#[inline(always)]
pub(super) fn width<S: Simd, R: Real>() -> usize {
    PANEL_REGS * R::lanes::<S>()
}

/// Rows of a full tile: the accumulators must leave registers for B and the broadcast of A.
pub(super) const fn tile_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { MAX_ROWS } else { 6 }
}

/// Neighbouring panels that a tile of few rows takes at once. One row of one panel has only two
/// chains of additions, far too few to hide the latency of the multiply-add, and more panels are
/// more streams that the memory can serve side by side.
pub(super) const fn panels_at_once<S: Simd>(rows: usize) -> usize {
    match rows {
        1 => 4,
        2 if S::REGISTER_COUNT >= 32 => 4,
        2 | 3 => 2,
        _ => 1,
    }
}

/// Whether tiles of this size ask for B ahead of its use. They take so long over each row of B
/// that the hardware sees no stream to fetch. The tiles of fewer rows read B as fast as it comes,
/// and asking for it only holds them up.
const fn asks_ahead(rows: usize, regs: usize) -> bool {
    rows > 4 && regs == PANEL_REGS
}

/// How many rows ahead: a page of panel on the widest instruction set.
const AHEAD: usize = 32;

/// Cache lines of a row of a panel.
#[inline(always)]
fn row_lines<S: Simd, P: Panel>() -> usize {
    (width::<S, P::Sum>() * size_of::<P>()).div_ceil(Line::BYTES)
}

/// A register of what is summed.
type Register<S, P> = <<P as Panel>::Sum as Real>::Register<S>;

/// One call of a tile. Element `(i, p)` of A lies at `a + i * a_row + p * a_col`; row `p` of panel
/// `q` of B at `b + q * b_panel + p * b_step`.
#[derive(Clone, Copy)]
pub(super) struct Tile<P: Panel> {
    pub k: usize,
    pub a: *const P::Sum,
    pub a_row: usize,
    pub a_col: usize,
    pub b: *const P,
    pub b_step: usize,
    pub b_panel: usize,
    pub c: *mut P::Sum,
    pub c_row: usize,
    /// Go on from the sums in C rather than from zero.
    pub resume: bool,
}

/// Runs a tile of `rows` rows and `regs` registers of columns.
///
/// # Safety
///
/// All elements of A and B that the tile names must be readable and those of C writable, and
/// initialised where `resume` is set. B has `regs` registers of columns over its panels. `rows`
/// and `regs` must be a pair that the driver can ask for: 1 to [`MAX_ROWS`] rows with 1 or 2
/// registers, or with the registers of [`panels_at_once`] panels.
#[inline(always)]
pub(super) unsafe fn run<S: Simd, P: Panel>(simd: S, rows: usize, regs: usize, tile: &Tile<P>) {
    // SAFETY: each arm passes on the caller's promise for its own number of rows and registers.
    unsafe {
        match (rows, regs) {
            (1, 1) => fixed::<S, P, 1, 1>(simd, tile),
            (2, 1) => fixed::<S, P, 2, 1>(simd, tile),
            (3, 1) => fixed::<S, P, 3, 1>(simd, tile),
            (4, 1) => fixed::<S, P, 4, 1>(simd, tile),
            (5, 1) => fixed::<S, P, 5, 1>(simd, tile),
            (6, 1) => fixed::<S, P, 6, 1>(simd, tile),
            (7, 1) => fixed::<S, P, 7, 1>(simd, tile),
            (8, 1) => fixed::<S, P, 8, 1>(simd, tile),
            (1, 2) => fixed::<S, P, 1, 2>(simd, tile),
            (2, 2) => fixed::<S, P, 2, 2>(simd, tile),
            (3, 2) => fixed::<S, P, 3, 2>(simd, tile),
            (4, 2) => fixed::<S, P, 4, 2>(simd, tile),
            (5, 2) => fixed::<S, P, 5, 2>(simd, tile),
            (6, 2) => fixed::<S, P, 6, 2>(simd, tile),
            (7, 2) => fixed::<S, P, 7, 2>(simd, tile),
            (8, 2) => fixed::<S, P, 8, 2>(simd, tile),
            (1, 8) => fixed::<S, P, 1, 8>(simd, tile),
            (2, 8) => fixed::<S, P, 2, 8>(simd, tile),
            (2, 4) => fixed::<S, P, 2, 4>(simd, tile),
            (3, 4) => fixed::<S, P, 3, 4>(simd, tile),
            _ => unreachable!("no tile of {rows} rows and {regs} registers"),
        }
    }
}

/// Kept out of line: one copy for all callers and epilogues.
///
/// # Safety
///
/// As [`run`], with `M` rows and `W` registers.
#[inline(never)]
unsafe fn fixed<S: Simd, P: Panel, const M: usize, const W: usize>(simd: S, tile: &Tile<P>) {
    simd.vectorize(Fixed::<P, M, W>(tile));
}

/// Holds the promise of [`run`], which is the only way to make one.
struct Fixed<'a, P: Panel, const M: usize, const W: usize>(&'a Tile<P>);

impl<P: Panel, const M: usize, const W: usize> WithSimd for Fixed<'_, P, M, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let tile = self.0;
        // SAFETY: `run` promised that these elements of C may be read when `resume` is set.
        let mut sums = unsafe { start::<S, P, M, W>(simd, tile) };
        let mut a = tile.a;
        let mut b: [*const P; W] = column_starts(tile);
        for _ in 0..tile.k {
            // SAFETY: `run` promised `k` rows of B and columns of A; `a` and `b` have moved by
            // one for each turn of the loop.
            unsafe { step::<S, P, M, W>(simd, &mut sums, a, tile.a_row, &b) };
            if const { asks_ahead(M, W) } {
                let row = b[0].wrapping_add(AHEAD.wrapping_mul(tile.b_step));
                for line in 0..row_lines::<S, P>() {
                    prefetch(row.wrapping_byte_add(line * Line::BYTES));
                }
            }
            a = a.wrapping_add(tile.a_col);
            for start in &mut b {
                *start = start.wrapping_add(tile.b_step);
            }
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                // SAFETY: `run` promised `M` rows of `W` registers in C.
                unsafe {
                    let to = tile.c.add(i * tile.c_row + j * P::Sum::lanes::<S>());
                    to.cast::<Register<S, P>>().write_unaligned(sum);
                }
            }
        }
    }
}

/// The sums before the first step.
///
/// # Safety
///
/// When `resume` is set, C has `M` rows of `W` registers that may be read.
#[inline(always)]
unsafe fn start<S: Simd, P: Panel, const M: usize, const W: usize>(
    simd: S,
    tile: &Tile<P>,
) -> [[Register<S, P>; W]; M] {
    let mut sums = [[P::Sum::splat(simd, P::Sum::default()); W]; M];
    if tile.resume {
        for (i, row) in sums.iter_mut().enumerate() {
            for (j, sum) in row.iter_mut().enumerate() {
                // SAFETY: the caller promised these elements.
                *sum = unsafe {
                    let from = tile.c.add(i * tile.c_row + j * P::Sum::lanes::<S>());
                    from.cast::<Register<S, P>>().read_unaligned()
                };
            }
        }
    }
    sums
}

/// Asks for the cache line of `at`, which need not be readable.
#[inline(always)]
fn prefetch<R>(at: *const R) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch has no effect but on the caches, and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Where the first row of B lies, for each register the row of its panel.
#[inline(always)]
fn column_starts<P: Panel, const W: usize>(tile: &Tile<P>) -> [*const P; W] {
    std::array::from_fn(|j| tile.b.wrapping_add(j / PANEL_REGS * tile.b_panel))
}

/// Adds the product of one column of A and one row of B.
///
/// # Safety
///
/// `M` elements of A, `a_row` apart, and the register of B in the row at each of `b` must be readable.
#[inline(always)]
unsafe fn step<S: Simd, P: Panel, const M: usize, const W: usize>(
    simd: S,
    sums: &mut [[Register<S, P>; W]; M],
    a: *const P::Sum,
    a_row: usize,
    b: &[*const P; W],
) {
    // SAFETY: the caller promised `M` elements of A.
    let a = |i: usize| P::Sum::splat(simd, unsafe { *a.add(i * a_row) });
    // SAFETY: the caller promised these registers of B.
    let b = |j: usize| unsafe { P::load(simd, b[j], j % PANEL_REGS) };
    // The side with fewer registers is held, and the other passes by: three rows of four registers
    // would not fit sixteen registers the other way round.
    if const { M < W } {
        let a: [Register<S, P>; M] = std::array::from_fn(a);
        for j in 0..W {
            let b = b(j);
            for (row, &a) in sums.iter_mut().zip(&a) {
                row[j] = P::Sum::mul_add(simd, a, b, row[j]);
            }
        }
    } else {
        let b: [Register<S, P>; W] = std::array::from_fn(b);
        for (i, row) in sums.iter_mut().enumerate() {
            let a = a(i);
            for (sum, &b) in row.iter_mut().zip(&b) {
                *sum = P::Sum::mul_add(simd, a, b, *sum);
            }
        }
    }
}
