//! The right side of a product, packed for many uses.

use super::kernel::PANEL_REGS;
use super::matrix::Mat;
use super::pack;
use pulp::{Arch, Simd, WithSimd};

/// One cache line, so that a `Vec` of them is aligned to it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Line([f32; Self::LEN]);

impl Line {
    pub(super) const LEN: usize = 16;
    pub(super) const ZERO: Self = Self([0.0; Self::LEN]);
}

/// A matrix of `k` rows and `n` columns in panels: as many columns as fit into
/// [`PANEL_REGS`] registers of the instruction set that this machine has.
///
/// A panel holds its rows one after another; missing columns of the last panel are zero.
#[derive(Debug)]
pub(super) struct Packed {
    lines: Vec<Line>,
    k: usize,
    n: usize,
    width: usize,
}

impl Packed {
    /// Packs a matrix; `None` if there is no memory for that.
    pub(super) fn new(b: Mat<'_>) -> Option<Self> {
        Arch::new().dispatch(Pack(b))
    }

    /// Packs for the registers of `simd`.
    pub(super) fn with<S: Simd>(simd: S, b: Mat<'_>) -> Option<Self> {
        let width = PANEL_REGS * S::F32_LANES;
        let columns = b.cols().div_ceil(width).checked_mul(width)?;
        let len = columns.checked_mul(b.rows())?;
        let mut lines: Vec<Line> = Vec::new();
        lines.try_reserve_exact(len.div_ceil(Line::LEN)).ok()?;
        let start: *mut f32 = lines.as_mut_ptr().cast();
        // SAFETY: there is room for `len` elements rounded up to lines. All of them are written
        // before the new length makes them visible.
        unsafe {
            pack::panels(simd, b, 0..b.cols(), start);
            let end = len.next_multiple_of(Line::LEN);
            start.add(len).write_bytes(0, end - len);
            lines.set_len(end / Line::LEN);
        }
        Some(Self {
            lines,
            k: b.rows(),
            n: b.cols(),
            width,
        })
    }

    /// Rows.
    pub(super) fn k(&self) -> usize {
        self.k
    }

    /// Columns, without the padding.
    pub(super) fn n(&self) -> usize {
        self.n
    }

    /// Columns of a panel.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn as_ptr(&self) -> *const f32 {
        self.lines.as_ptr().cast()
    }
}

struct Pack<'a>(Mat<'a>);

impl WithSimd for Pack<'_> {
    type Output = Option<Packed>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        Packed::with(simd, self.0)
    }
}
