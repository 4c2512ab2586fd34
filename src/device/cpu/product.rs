//! Matrix products with few rows: what a large weight costs is then to be read once. Candle's
//! product packs its operands first, which pays from more rows on.
//!
//! An element of the result is summed up in an order that only the inner size decides: it depends
//! neither on the number of rows nor on how the columns are divided.

use super::super::workers;
use super::kernel::Target;
use super::math::madd;
use crate::plan::product::{FEW_ROWS, Product, Right};
use pulp::{Arch, Simd, WithSimd};
use smallvec::SmallVec;
use std::mem::MaybeUninit;

/// So many sums are kept in the nearest cache.
const SUMS: usize = 4096;
/// So many rows of the right side are gone through for all columns before the next: they lie in
/// as many pages, of which a core remembers some thousand.
const ROWS_AT_ONCE: usize = 256;

/// Multiplications from which on other threads help. One row reads a number of the right side
/// for each; several rows use it again, and are done sooner.
const WORTH_HELP_WITH_A_ROW: usize = 1 << 23;
const WORTH_HELP_WITH_ROWS: usize = 1 << 24;

/// Columns `first..first + len` of a product.
struct Columns<'a> {
    product: &'a Product,
    a: &'a [f32],
    b: &'a [f32],
    first: usize,
    len: usize,
    /// Of each row, these columns.
    out: SmallVec<[Target<'a>; FEW_ROWS]>,
}

/// Runs a product, in parts if that is worth it. Writes every element of `out`, which are `m * n`.
pub(super) fn run(step: &Product, a: &[f32], b: &[f32], out: &mut [MaybeUninit<f32>]) {
    assert_eq!(out.len(), step.m * step.n);
    let worth_help = match step.m {
        1 => WORTH_HELP_WITH_A_ROW,
        _ => WORTH_HELP_WITH_ROWS,
    };
    let threads = match step.m * step.k * step.n >= worth_help {
        true => workers::threads(),
        false => 1,
    };
    // whole cache lines for each
    let each = step.n.div_ceil(threads).next_multiple_of(16);
    let rows = out.chunks_mut(step.n).map(|row| row.chunks_mut(each));
    let mut rows: SmallVec<[_; FEW_ROWS]> = rows.collect();
    let parts = (0..step.n).step_by(each).map(|first| Columns {
        product: step,
        a,
        b,
        first,
        len: each.min(step.n - first),
        out: rows.iter_mut().filter_map(Iterator::next).collect(),
    });
    workers::share(parts, Columns::run);
}

impl WithSimd for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match self.product.right {
            Right::Rows(stride) => self.by_rows(simd, stride),
            Right::Columns(stride) => self.by_columns(simd, stride),
        }
    }
}

impl<'a> Columns<'a> {
    /// Computes them, with the best instructions that this machine has.
    fn run(self) {
        Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn row(&self, i: usize) -> &'a [f32] {
        let start = i * self.product.a_stride;
        &self.a[start..start + self.product.k]
    }

    /// The right side's rows lie in order: adds multiples of them.
    #[inline(always)]
    fn by_rows<S: Simd>(&mut self, simd: S, stride: usize) {
        let (rows, k) = (self.out.len(), self.product.k);
        let mut sums = [0f32; SUMS];
        // whole cache lines; at least one, for there are few rows
        let width = SUMS / rows / 16 * 16;
        let mut done = 0;
        while done < self.len {
            let cols = width.min(self.len - done);
            sums[..rows * cols].fill(0.0);
            let mut p = 0;
            while p < k {
                let depth = ROWS_AT_ONCE.min(k - p);
                let b = &self.b[p * stride + self.first + done..];
                let mut i = 0;
                while i < rows {
                    let sums = &mut sums[i * cols..];
                    let left = |n: usize| -> [&[f32]; 4] {
                        [0, 1, 2, 3].map(|q| &self.row(i + q.min(n - 1))[p..p + depth])
                    };
                    let terms = |n: usize| Terms {
                        a: left(n),
                        b,
                        stride,
                        depth,
                    };
                    i += match rows - i {
                        1 if rows == 1 => add_to_row::<S>(&mut sums[..cols], left(1)[0], b, stride),
                        1 => add_rows::<S, 1>(simd, sums, cols, terms(1)),
                        2 | 3 => add_rows::<S, 2>(simd, sums, cols, terms(2)),
                        _ => add_rows::<S, 4>(simd, sums, cols, terms(4)),
                    };
                }
                p += depth;
            }
            for (out, sums) in self.out.iter_mut().zip(sums.chunks_exact(cols)) {
                for (out, &sum) in out[done..done + cols].iter_mut().zip(sums) {
                    out.write(sum);
                }
            }
            done += cols;
        }
    }

    /// The right side's columns lie in order: a sum of products for each.
    #[inline(always)]
    fn by_columns<S: Simd>(&mut self, simd: S, stride: usize) {
        let k = self.product.k;
        let mut j = 0;
        while j < self.len {
            let count = 4.min(self.len - j);
            // past the end the last column is summed again, and not written
            let b: [&[f32]; 4] = [0, 1, 2, 3].map(|q: usize| {
                let column = self.first + j + q.min(count - 1);
                &self.b[column * stride..][..k]
            });
            let mut i = 0;
            while i < self.out.len() {
                let (sums, rows) = match self.out.len() - i {
                    1 => (dots::<S, 1>(simd, [self.row(i); 1], b), 1),
                    _ => (dots::<S, 2>(simd, [self.row(i), self.row(i + 1)], b), 2),
                };
                for (r, sums) in sums.iter().enumerate().take(rows) {
                    for (q, &sum) in sums.iter().enumerate().take(count) {
                        self.out[i + r][j + q].write(sum);
                    }
                }
                i += rows;
            }
            j += count;
        }
    }
}

/// Adds rows of `b`, times the numbers of one row of `a`, to one row of sums, in the same order.
/// There is nothing to use a row of `b` for twice, so what counts is that it is read in long
/// runs. Returns 1.
#[inline(always)]
fn add_to_row<S: Simd>(sums: &mut [f32], a: &[f32], b: &[f32], stride: usize) -> usize {
    let cols = sums.len();
    let row = |p: usize| &b[p * stride..][..cols];
    let whole = a.len() / 4 * 4;
    for p in (0..whole).step_by(4) {
        let (a, b) = (&a[p..p + 4], [0, 1, 2, 3].map(|q| row(p + q)));
        let [b0, b1, b2, b3] = b;
        for j in 0..cols {
            let sum = madd::<S>(a[0], b0[j], sums[j]);
            let sum = madd::<S>(a[1], b1[j], sum);
            let sum = madd::<S>(a[2], b2[j], sum);
            sums[j] = madd::<S>(a[3], b3[j], sum);
        }
    }
    for (p, &a) in a.iter().enumerate().skip(whole) {
        for (sum, &b) in sums.iter_mut().zip(row(p)) {
            *sum = madd::<S>(a, b, *sum);
        }
    }
    1
}

/// What is added to sums: `depth` rows of `b`, times the numbers of up to four rows of `a`.
#[derive(Clone, Copy)]
struct Terms<'a> {
    a: [&'a [f32]; 4],
    b: &'a [f32],
    /// From one row of `b` to the next.
    stride: usize,
    depth: usize,
}

/// Adds terms to `R` rows of `cols` sums, to each one after the other. Returns `R`.
#[inline(always)]
fn add_rows<S: Simd, const R: usize>(
    simd: S,
    sums: &mut [f32],
    cols: usize,
    terms: Terms<'_>,
) -> usize {
    let lanes = S::F32_LANES;
    let mut j = 0;
    // as many registers as the instruction set has room for
    while lanes >= 16 && j + 4 * lanes <= cols {
        add_block::<S, R, 4>(simd, sums, cols, j, terms);
        j += 4 * lanes;
    }
    while j + 2 * lanes <= cols {
        add_block::<S, R, 2>(simd, sums, cols, j, terms);
        j += 2 * lanes;
    }
    for j in j..cols {
        for r in 0..R {
            let sum = &mut sums[r * cols + j];
            for p in 0..terms.depth {
                *sum = madd::<S>(terms.a[r][p], terms.b[p * terms.stride + j], *sum);
            }
        }
    }
    R
}

/// The same for `C` vectors from column `j` on, whose sums stay in registers.
#[inline(always)]
fn add_block<S: Simd, const R: usize, const C: usize>(
    simd: S,
    sums: &mut [f32],
    cols: usize,
    j: usize,
    terms: Terms<'_>,
) {
    let lanes = S::F32_LANES;
    let mut block = [[simd.splat_f32s(0.0); C]; R];
    for (r, block) in block.iter_mut().enumerate() {
        let row = S::as_simd_f32s(&sums[r * cols + j..][..C * lanes]).0;
        for (to, &from) in block.iter_mut().zip(row) {
            *to = from;
        }
    }
    for p in 0..terms.depth {
        let row = S::as_simd_f32s(&terms.b[p * terms.stride + j..][..C * lanes]).0;
        for (a, block) in terms.a.iter().zip(block.iter_mut()) {
            let a = simd.splat_f32s(a[p]);
            for (sum, &b) in block.iter_mut().zip(row) {
                *sum = fused::<S>(simd, a, b, *sum);
            }
        }
    }
    for (r, block) in block.iter().enumerate() {
        let row = S::as_mut_simd_f32s(&mut sums[r * cols + j..][..C * lanes]).0;
        for (to, &from) in row.iter_mut().zip(block) {
            *to = from;
        }
    }
}

#[inline(always)]
fn fused<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if S::IS_SCALAR {
        simd.add_f32s(simd.mul_f32s(a, b), c)
    } else {
        simd.mul_add_f32s(a, b, c)
    }
}

/// The products of `R` rows with four columns. Each is summed up in as many parts as a vector has
/// lanes.
#[inline(always)]
fn dots<S: Simd, const R: usize>(simd: S, a: [&[f32]; R], b: [&[f32]; 4]) -> [[f32; 4]; 2] {
    let whole = a[0].len() / S::F32_LANES * S::F32_LANES;
    let mut parts = [[simd.splat_f32s(0.0); 4]; R];
    let columns = b.map(|b| S::as_simd_f32s(&b[..whole]).0);
    let rows = a.map(|a| S::as_simd_f32s(&a[..whole]).0);
    for p in 0..whole / S::F32_LANES {
        let columns = columns.map(|column| column[p]);
        for (row, parts) in rows.iter().zip(&mut parts) {
            for (part, &b) in parts.iter_mut().zip(&columns) {
                *part = fused::<S>(simd, row[p], b, *part);
            }
        }
    }
    let mut sums = [[0f32; 4]; 2];
    for ((sums, parts), a) in sums.iter_mut().zip(&parts).zip(a) {
        for ((sum, &part), b) in sums.iter_mut().zip(parts).zip(b) {
            *sum = simd.reduce_sum_f32s(part);
            for (&a, &b) in a[whole..].iter().zip(&b[whole..]) {
                *sum = madd::<S>(a, b, *sum);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use crate::device::CommandStream;
    use crate::device::cpu::CpuStream;
    use crate::plan::product::{FEW_ROWS, Factor, Product, Right};
    use candle_core::{Device, Tensor};

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let number = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0;
        (0..count).map(number).collect()
    }

    /// The first `m` rows of a product of fixed numbers.
    fn multiply(m: usize, k: usize, n: usize, right: Right) -> Vec<f32> {
        let (a, b) = (numbers(FEW_ROWS * k, 1), numbers(k * n, 2));
        let a = Tensor::from_slice(&a[..m * k], m * k, &Device::Cpu).unwrap();
        let b = Tensor::from_vec(b, k * n, &Device::Cpu).unwrap();
        let factor = |value| Factor {
            value,
            offset: 0,
            as_it_lies: true,
        };
        let step = Product {
            value: 2,
            op: "matmul",
            dims: [m, n].into_iter().collect(),
            a: factor(0),
            b: factor(1),
            m,
            k,
            n,
            a_stride: k,
            right,
        };
        let result = CpuStream::new(0).product(&step, &a, &b).unwrap();
        result.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn products_are_right_and_do_not_depend_on_the_number_of_rows() {
        for (k, n) in [
            (1, 1),
            (3, 5),
            (4, 17),
            (65, 64),
            (130, 31),
            (7, 1100),
            (600, 3700),
        ] {
            for right in [Right::Rows(n), Right::Columns(k)] {
                let all = multiply(FEW_ROWS, k, n, right);
                check(k, n, right, &all);
                for m in 1..FEW_ROWS {
                    assert_eq!(
                        multiply(m, k, n, right),
                        all[..m * n],
                        "{m} rows, {right:?}"
                    );
                }
            }
        }
    }

    /// Against f64: the error of a sum of products is within the sum of their magnitudes.
    fn check(k: usize, n: usize, right: Right, got: &[f32]) {
        let (a, b) = (numbers(FEW_ROWS * k, 1), numbers(k * n, 2));
        for (place, &got) in got.iter().enumerate() {
            let (i, j) = (place / n, place % n);
            let at = |p: usize| match right {
                Right::Rows(_) => b[p * n + j],
                Right::Columns(_) => b[j * k + p],
            };
            let terms = (0..k).map(|p| f64::from(a[i * k + p]) * f64::from(at(p)));
            let (truth, size) = terms.fold((0.0, 0.0), |(t, s), x| (t + x, s + x.abs()));
            let off = (f64::from(got) - truth).abs();
            assert!(
                off <= 1e-6 * size + 1e-30,
                "{k}, {n}, {right:?}: {got} is not {truth}"
            );
        }
    }
}
