//! The right side of a product, packed for many uses.

use super::kernel::width;
use super::pack::Packs;
use super::real::Panel;
use crate::device::cpu::memory::{self, NoMemory};
use crate::device::cpu::pages::prefer_large_pages;
use crate::device::meter::{Meter, Packing};
use half::{bf16, f16};
use pulp::{Arch, Simd, WithSimd};
use std::marker::PhantomData;
use std::slice;
use std::sync::Arc;

/// One cache line, so that a `Vec` of them is aligned to it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Line([u8; Self::BYTES]);

impl Line {
    pub(super) const BYTES: usize = 64;
    const ZERO: Self = Self([0; Self::BYTES]);
}

/// Room for as many numbers as the product of the factors, from the start of a cache line on.
pub(super) fn room<'b, T: Plain>(
    buffer: &'b mut Vec<Line>,
    factors: &[usize],
) -> Result<&'b mut [T], NoMemory> {
    let len = memory::count::<T>(factors)?;
    let lines = (len * size_of::<T>()).div_ceil(Line::BYTES);
    if let Some(more) = lines.checked_sub(buffer.len()) {
        memory::reserve(buffer, &[more])?;
        buffer.resize(lines, Line::ZERO);
    }
    // SAFETY: `memory::count` has checked the size. There is room for so many, the start is aligned, and every
    // bit of it is initialised, which is all that such a number needs.
    Ok(unsafe { slice::from_raw_parts_mut(buffer.as_mut_ptr().cast(), len) })
}

/// Numbers that any bits are one of.
///
/// # Safety
/// They are.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: floats are plain numbers.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for f64 {}
// SAFETY: as above.
unsafe impl Plain for bf16 {}
// SAFETY: as above.
unsafe impl Plain for f16 {}

/// A matrix of `k` rows and `n` columns in panels: as many columns as fit into
/// [`PANEL_REGS`](super::kernel::PANEL_REGS) registers of the instruction set that this machine has.
///
/// A panel holds its rows one after another; missing columns of the last panel are zero.
#[derive(Debug)]
pub(super) struct Packed<P> {
    lines: Vec<Line>,
    k: usize,
    n: usize,
    width: usize,
    of: PhantomData<P>,
    counted: Option<Packing>,
}

impl<P: Panel> Packed<P> {
    /// Packs a matrix; `None` if there is no memory for that.
    pub(super) fn new(b: impl Packs<P>) -> Option<Self> {
        Arch::new().dispatch(Pack(b, PhantomData))
    }

    /// The same, counted as long as it is kept.
    pub(super) fn counted(b: impl Packs<P>, meter: &Arc<Meter>) -> Option<Self> {
        let mut packed = Self::new(b)?;
        let bytes = packed.lines.len() * Line::BYTES;
        packed.counted = Some(Packing::new(meter, bytes));
        Some(packed)
    }

    /// Packs for the registers of `simd`.
    pub(super) fn with<S: Simd>(simd: S, b: impl Packs<P>) -> Option<Self> {
        let (width, (rows, cols)) = (width::<S, P::Sum>(), b.size());
        let len = memory::count::<P>(&[cols.div_ceil(width), width, rows]).ok()?;
        let each = Line::BYTES / size_of::<P>();
        let mut lines: Vec<Line> = memory::reserved(&[len.div_ceil(each)]).ok()?;
        prefer_large_pages(&mut lines);
        let start: *mut P = lines.as_mut_ptr().cast();
        // SAFETY: `memory::count` has checked the size, and there is room for `len` elements rounded up to lines.
        // All of them are written before the new length makes them visible.
        unsafe {
            b.pack(simd, 0..cols, start);
            let end = len.next_multiple_of(each);
            start.add(len).write_bytes(0, end - len);
            lines.set_len(end / each);
        }
        Some(Self {
            lines,
            k: rows,
            n: cols,
            width,
            of: PhantomData,
            counted: None,
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

    pub(super) fn as_ptr(&self) -> *const P {
        self.lines.as_ptr().cast()
    }
}

struct Pack<B, P>(B, PhantomData<P>);

impl<P: Panel, B: Packs<P>> WithSimd for Pack<B, P> {
    type Output = Option<Packed<P>>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        Packed::with(simd, self.0)
    }
}
