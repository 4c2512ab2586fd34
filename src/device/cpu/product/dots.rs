//! Few rows by the columns of a matrix that lie in order each: keys, which a query is compared with
//! once. To pack them would cost more than the products.

use super::matrix::{AnyMat, Mat, each};
use super::real::{Real, Source};
use crate::device::cpu::memory::{self, NoMemory};
use crate::device::cpu::number::Element;
use pulp::Simd;
use std::slice;

/// Columns that are gone through side by side.
const COLUMNS: usize = 4;

/// Whole registers, and what is left over.
type Halves<'a, S, R> = (&'a [<R as Real>::Register<S>], &'a [R]);

/// Writes the product of two matrices that lie so. An element is summed up in as many parts as a
/// vector has lanes; what is left over is added in order.
///
/// # Safety
/// `c` has room for the rows of `a`, `c_row` apart, each as long as `b` has columns, and nobody
/// else touches them.
#[inline(always)]
pub(super) unsafe fn run<S: Simd, R: Real>(
    simd: S,
    a: AnyMat<'_, R>,
    b: AnyMat<'_, R>,
    c: (*mut R, usize),
) -> Result<(), NoMemory> {
    let wide = a.widened()?;
    let size = (a.rows(), a.cols());
    let a = match (&wide, a) {
        (Some(wide), _) => Mat::new(wide, size, (size.1, 1)),
        (None, AnyMat::Wide(a)) => a,
        (None, _) => unreachable!("others are widened"),
    };
    // SAFETY: the caller's promise.
    unsafe {
        match b {
            AnyMat::Wide(b) => {
                in_place(simd, a, b, c);
                Ok(())
            }
            b => each!(b, b => widened(simd, a, b, c)),
        }
    }
}

/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn in_place<S: Simd, R: Real>(
    simd: S,
    a: Mat<'_, R>,
    b: Mat<'_, R>,
    (c, c_row): (*mut R, usize),
) {
    for first in (0..b.cols()).step_by(COLUMNS) {
        let count = COLUMNS.min(b.cols() - first);
        // past the end the last column is summed again, and not written
        let columns: [&[R]; COLUMNS] = std::array::from_fn(|q| b.column(first + q.min(count - 1)));
        // SAFETY: the caller promised these elements.
        unsafe { some(simd, a, columns, (c.add(first), c_row), count) };
    }
}

/// The same, for columns that are widened first.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn widened<S: Simd, R: Real, T: Source<R>>(
    simd: S,
    a: Mat<'_, R>,
    b: Mat<'_, T>,
    (c, c_row): (*mut R, usize),
) -> Result<(), NoMemory> {
    let k = a.cols();
    let mut wide = memory::reserved::<R>(&[COLUMNS, k])?;
    wide.resize(COLUMNS * k, R::default());
    for first in (0..b.cols()).step_by(COLUMNS) {
        let count = COLUMNS.min(b.cols() - first);
        for (q, to) in wide.chunks_exact_mut(k).enumerate() {
            let column = b.column(first + q.min(count - 1));
            for (to, &x) in to.iter_mut().zip(column) {
                *to = x.wide();
            }
        }
        let columns: [&[R]; COLUMNS] = std::array::from_fn(|q| &wide[q * k..][..k]);
        // SAFETY: the caller promised these elements.
        unsafe { some(simd, a, columns, (c.add(first), c_row), count) };
    }
    Ok(())
}

/// Writes `count` columns.
///
/// # Safety
/// `c` has room for so many, in each row of `a`.
#[inline(always)]
unsafe fn some<S: Simd, R: Real>(
    simd: S,
    a: Mat<'_, R>,
    columns: [&[R]; COLUMNS],
    (c, c_row): (*mut R, usize),
    count: usize,
) {
    for i in 0..a.rows() {
        let sums = sums(simd, a.row(i), columns);
        // SAFETY: the caller promised these elements.
        let to = unsafe { slice::from_raw_parts_mut(c.add(i * c_row), count) };
        to.copy_from_slice(&sums[..count]);
    }
}

#[inline(always)]
fn sums<S: Simd, R: Real>(simd: S, a: &[R], columns: [&[R]; COLUMNS]) -> [R; COLUMNS] {
    let (a_whole, a_rest) = R::registers_of::<S>(a);
    let mut halves: [Halves<'_, S, R>; COLUMNS] = [(&[], &[]); COLUMNS];
    for (half, column) in halves.iter_mut().zip(columns) {
        *half = R::registers_of::<S>(&column[..a.len()]);
    }
    let columns = halves;
    let mut parts = [R::splat(simd, R::default()); COLUMNS];
    for (p, &a) in a_whole.iter().enumerate() {
        for (part, (column, _)) in parts.iter_mut().zip(&columns) {
            *part = R::mul_add(simd, a, column[p], *part);
        }
    }
    // loops, not `map`: that is not inlined, and what runs in it loses the instruction set
    let mut sums = [R::default(); COLUMNS];
    for (sum, part) in sums.iter_mut().zip(parts) {
        *sum = R::total(simd, part);
    }
    for (sum, (_, rest)) in sums.iter_mut().zip(&columns) {
        for (&a, &b) in a_rest.iter().zip(*rest) {
            *sum = Element::add(*sum, Element::mul(a, b));
        }
    }
    sums
}
