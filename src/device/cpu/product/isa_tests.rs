//! The same products on every instruction set that this processor has.

use super::driver::{Driver, Panels};
use super::kernel::PANEL_REGS;
use super::matrix::Mat;
use super::packed::Packed;
use super::right::Right;
use pulp::{Scalar, Simd};
use rand::{Rng, SeedableRng, rngs::StdRng};

fn values(rng: &mut StdRng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// The product with a right side that is packed, or not.
fn product<S: Simd>(simd: S, a: Mat<'_>, b: Mat<'_>, packed: bool) -> Vec<f32> {
    let all = Packed::with(simd, b).unwrap();
    let right = match packed {
        true => Right::Packed(&all),
        false => Right::Plain(b),
    };
    let panels = 0..b.cols().div_ceil(PANEL_REGS * S::F32_LANES);
    let mut c = vec![f32::NAN; a.rows() * b.cols()];
    let mut buffer = Vec::new();
    struct Run<'a> {
        a: Mat<'a>,
        b: Panels,
        panels: std::ops::Range<usize>,
        c: (*mut f32, usize),
    }
    impl pulp::WithSimd for Run<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            // SAFETY: all panels of B, and all rows and columns of C.
            unsafe { Driver::new(self.a, self.b, self.panels, self.c) }.run(simd);
        }
    }
    // SAFETY: used once, at once.
    let b_panels = unsafe { right.panels(simd, panels.clone(), a.rows(), &mut buffer) };
    simd.vectorize(Run {
        a,
        b: b_panels,
        panels,
        c: (c.as_mut_ptr(), b.cols()),
    });
    c
}

/// One element.
fn at(x: Mat<'_>, i: usize, j: usize) -> f32 {
    assert!(i < x.rows() && j < x.cols());
    // SAFETY: the matrix lies in its slice.
    unsafe { *x.as_ptr().add(i * x.row_stride() + j * x.col_stride()) }
}

/// Rows that follow one another.
fn rows(data: &[f32], rows: usize, cols: usize) -> Mat<'_> {
    Mat::new(data, (rows, cols), (cols, 1))
}

fn assert_close(got: &[f32], a: Mat<'_>, b: Mat<'_>) {
    for i in 0..a.rows() {
        for j in 0..b.cols() {
            let terms = (0..a.cols()).map(|p| f64::from(at(a, i, p)) * f64::from(at(b, p, j)));
            let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
            let bound = a.cols() as f64 * f64::from(f32::EPSILON) * size;
            let got = f64::from(got[i * b.cols() + j]);
            assert!((got - sum).abs() <= bound, "{i},{j}: {got} for {sum}");
        }
    }
}

/// All sizes near the edges of tiles and panels, in both layouts of B.
fn check<S: Simd>(simd: S) {
    let mut rng = StdRng::seed_from_u64(1);
    let width = PANEL_REGS * S::F32_LANES;
    let columns = [
        1,
        width / 2,
        width - 1,
        width,
        width + 1,
        4 * width,
        5 * width + 1,
    ];
    for m in (1..20).chain([40]) {
        for n in columns {
            for k in [1, 17, 530] {
                let (left, right) = (values(&mut rng, m * k), values(&mut rng, k * n));
                let a = rows(&left, m, k);
                let by_row = rows(&right, k, n);
                let by_column = Mat::new(&right, (k, n), (1, k));
                for b in [by_row, by_column] {
                    let c = product(simd, a, b, true);
                    assert_close(&c, a, b);
                    let bits = |c: &[f32]| c.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&c), bits(&product(simd, a, b, false)));
                }
            }
        }
    }
}

#[test]
fn scalar() {
    check(Scalar);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn avx2() {
    if let Some(simd) = pulp::x86::V3::try_new() {
        check(simd);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn avx512() {
    if let Some(simd) = pulp::x86::V4::try_new() {
        check(simd);
    }
}

#[cfg(target_arch = "aarch64")]
#[test]
fn neon() {
    if let Some(simd) = pulp::aarch64::Neon::try_new() {
        check(simd);
    }
}

/// Both have the fused multiply-add, and sum in the same order.
#[cfg(target_arch = "x86_64")]
#[test]
fn both_vector_sets_give_the_same_bits() {
    let (Some(v3), Some(v4)) = (pulp::x86::V3::try_new(), pulp::x86::V4::try_new()) else {
        return;
    };
    let mut rng = StdRng::seed_from_u64(2);
    let (left, right) = (values(&mut rng, 33 * 700), values(&mut rng, 700 * 90));
    let (a, b) = (rows(&left, 33, 700), rows(&right, 700, 90));
    assert_eq!(product(v3, a, b, true), product(v4, a, b, true));
}
