//! The right side of a product, as panels.

use super::MANY_ROWS;
use super::dots;
use super::driver::{Driver, Panels};
use super::kernel::{tile_rows, width};
use super::matrix::AnyMat;
use super::pack::Packs;
use super::packed::{Line, Packed, room};
use super::real::Real;
use crate::device::cpu::memory::NoMemory;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Elements of a right side that stays in the second cache while it is read where it is.
const IN_PLACE: usize = 1 << 16;
/// The same for the first cache. The rows of a panel of a longer one share few of its sets and push
/// each other out: with many rows, to read them again for each tile costs more than to pack.
const IN_PLACE_MANY_ROWS: usize = 1 << 13;

/// Whether a right side that spans `elements` elements, from first to last, is worth reading where it is.
pub(super) const fn is_small(elements: usize, rows: usize) -> bool {
    elements <= IN_PLACE && (rows < MANY_ROWS || elements <= IN_PLACE_MANY_ROWS)
}

/// The right side of a product.
#[derive(Clone, Copy)]
pub(super) enum Right<'a, R: Real> {
    Packed(&'a Packed<R>),
    Short(&'a Packed<R::Short>),
    Plain(AnyMat<'a, R>),
}

impl<R: Real> Right<'_, R> {
    /// Whether the right side is read where it is, for a left side of `rows` rows.
    pub(super) fn in_place<S: Simd>(&self, rows: usize) -> bool {
        match self {
            Right::Packed(_) | Right::Short(_) => true,
            Right::Plain(AnyMat::BF16(_) | AnyMat::F16(_)) => false,
            Right::Plain(b) => {
                let small = is_small(b.rows().saturating_mul(b.row_stride()), rows);
                b.col_stride() == 1 && (rows <= tile_rows::<S>() || small)
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
    ) -> Result<Ready<'static, R>, NoMemory> {
        let width = width::<S, R>();
        let b = match self {
            Right::Packed(packed) => {
                return Ok(Ready::Panels(Panels::packed(packed, width), panels));
            }
            Right::Short(packed) => return Ok(Ready::Short(Panels::packed(packed, width), panels)),
            Right::Plain(b) => b,
        };
        let (k, n) = (b.rows(), b.cols());
        if let (AnyMat::Wide(wide), true) = (b, self.in_place::<S>(rows)) {
            let whole = n / width * width;
            let last = match n % R::lanes::<S>() != 0 && panels.end * width > whole {
                true => {
                    let start = room(buffer, &[k, width])?.as_mut_ptr();
                    // SAFETY: there is room for one panel.
                    unsafe { b.pack(simd, whole..n, start) };
                    Some(start.cast_const())
                }
                false => None,
            };
            // SAFETY: the column stride is one, as `in_place` saw. The last panel has just been
            // packed if it needs to be, unless it is not among those that are asked for.
            let all = unsafe { Panels::in_place(wide, width, last) };
            return Ok(Ready::Panels(all, panels));
        }
        let start = room(buffer, &[k, width, panels.len()])?.as_mut_ptr();
        let cols = panels.start * width..n.min(panels.end * width);
        // SAFETY: there is room for these panels, and the caller reads no others.
        let packed = unsafe {
            b.pack(simd, cols, start);
            Panels::padded((k, n), width, start, panels.start)
        };
        Ok(Ready::Panels(packed, panels))
    }
}

/// Columns of a right side, as they are multiplied by.
pub(super) enum Ready<'a, R: Real> {
    Panels(Panels<R>, Range<usize>),
    Short(Panels<R::Short>, Range<usize>),
    /// All of them, as they lie.
    Columns(AnyMat<'a, R>),
}

impl<R: Real> Ready<'_, R> {
    /// Writes the product of some rows and these columns. Kept out of line: one copy for all
    /// callers.
    ///
    /// # Safety
    /// The panels are still there, and have as many rows as `a` columns. `c` has room for these
    /// rows and columns, and nobody else touches them.
    #[inline(never)]
    pub(super) unsafe fn multiply<S: Simd>(
        &self,
        simd: S,
        a: AnyMat<'_, R>,
        c: (*mut R, usize),
    ) -> Result<(), NoMemory> {
        simd.vectorize(Multiply { a, b: self, c })
    }
}

/// Holds the promise of [`Ready::multiply`].
struct Multiply<'a, R: Real> {
    a: AnyMat<'a, R>,
    b: &'a Ready<'a, R>,
    c: (*mut R, usize),
}

impl<R: Real> WithSimd for Multiply<'_, R> {
    type Output = Result<(), NoMemory>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let Self { a, b, c } = self;
        // SAFETY: the promise of `multiply`.
        unsafe {
            match b {
                Ready::Panels(b, panels) => Driver::new(a, *b, panels.clone(), c).run(simd),
                Ready::Short(b, panels) => Driver::new(a, *b, panels.clone(), c).run(simd),
                Ready::Columns(b) => dots::run(simd, a, *b, c),
            }
        }
    }
}
