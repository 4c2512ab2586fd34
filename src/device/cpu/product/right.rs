//! The right side of a product, as panels.

use super::driver::Panels;
use super::kernel::{PANEL_REGS, tile_rows};
use super::matrix::Mat;
use super::pack;
use super::packed::{Line, Packed};
use pulp::Simd;
use std::ops::Range;

/// Elements of a right side that stays in the second cache while it is read where it is.
pub(super) const IN_PLACE: usize = 1 << 16;

/// The right side of a product.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    Packed(&'a Packed),
    Plain(Mat<'a>),
}

impl<'a> Right<'a> {
    /// Whether it is read where it is, by a left side of so many rows.
    pub(super) fn in_place<S: Simd>(&self, rows: usize) -> bool {
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
    pub(super) unsafe fn panels<S: Simd>(
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
