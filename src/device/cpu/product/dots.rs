//! Few rows by the columns of a matrix that lie in order each: keys, which a query is compared with
//! once. To pack them would cost more than the products.

use super::matrix::Mat;
use pulp::Simd;
use std::slice;

/// Columns that are gone through side by side.
const COLUMNS: usize = 4;

/// Writes the product of two matrices that lie so. An element is summed up in as many parts as a
/// vector has lanes; what is left over is added in order.
///
/// # Safety
/// `c` has room for the rows of `a`, `c_row` apart, each as long as `b` has columns, and nobody
/// else touches them.
#[inline(always)]
pub(super) unsafe fn run<S: Simd>(simd: S, a: Mat<'_>, b: Mat<'_>, (c, c_row): (*mut f32, usize)) {
    for first in (0..b.cols()).step_by(COLUMNS) {
        let count = COLUMNS.min(b.cols() - first);
        // past the end the last column is summed again, and not written
        let columns: [&[f32]; COLUMNS] =
            std::array::from_fn(|q| b.column(first + q.min(count - 1)));
        for i in 0..a.rows() {
            let sums = sums(simd, a.row(i), columns);
            // SAFETY: the caller promised these elements.
            let to = unsafe { slice::from_raw_parts_mut(c.add(i * c_row + first), count) };
            to.copy_from_slice(&sums[..count]);
        }
    }
}

#[inline(always)]
fn sums<S: Simd>(simd: S, a: &[f32], columns: [&[f32]; COLUMNS]) -> [f32; COLUMNS] {
    let (a_whole, a_rest) = S::as_simd_f32s(a);
    let mut halves: [(&[S::f32s], &[f32]); COLUMNS] = [(&[], &[]); COLUMNS];
    for (half, column) in halves.iter_mut().zip(columns) {
        *half = S::as_simd_f32s(&column[..a.len()]);
    }
    let columns = halves;
    let mut parts = [simd.splat_f32s(0.0); COLUMNS];
    for (p, &a) in a_whole.iter().enumerate() {
        for (part, (column, _)) in parts.iter_mut().zip(&columns) {
            *part = simd.mul_add_e_f32s(a, column[p], *part);
        }
    }
    // loops, not `map`: that is not inlined, and what runs in it loses the instruction set
    let mut sums = [0f32; COLUMNS];
    for (sum, part) in sums.iter_mut().zip(parts) {
        *sum = simd.reduce_sum_f32s(part);
    }
    for (sum, (_, rest)) in sums.iter_mut().zip(&columns) {
        for (&a, &b) in a_rest.iter().zip(*rest) {
            *sum += a * b;
        }
    }
    sums
}
