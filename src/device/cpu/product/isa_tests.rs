//! The same products on every instruction set that this processor has.

use super::kernel::width;
use super::matrix::{AnyMat, Mat};
use super::packed::Packed;
use super::real::Real;
use super::right::Right;
use half::{bf16, f16};
use pulp::{Scalar, Simd};
use rand::{Rng, SeedableRng, rngs::StdRng};

fn values(rng: &mut StdRng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// The product with a right side that is packed, or not.
fn product<S: Simd, R: Real>(simd: S, a: AnyMat<'_, R>, b: AnyMat<'_, R>, packed: bool) -> Vec<R> {
    let all: Packed<R> = Packed::with(simd, b).unwrap();
    let short = R::short(&b).map(|b| Packed::with(simd, b).unwrap());
    let right = match (&short, packed) {
        (Some(short), true) => Right::Short(short),
        (None, true) => Right::Packed(&all),
        (_, false) => Right::Plain(b),
    };
    let panels = 0..b.cols().div_ceil(width::<S, R>());
    let mut c = vec![R::of_f32(f32::NAN); a.rows() * b.cols()];
    let mut buffer = Vec::new();
    // SAFETY: used once, at once.
    let b_panels = unsafe { right.panels(simd, panels, a.rows(), &mut buffer).unwrap() };
    // SAFETY: all panels of B, and all rows and columns of C.
    unsafe {
        b_panels
            .multiply(simd, a, (c.as_mut_ptr(), b.cols()))
            .unwrap()
    };
    c
}

/// One element.
fn at(x: Mat<'_, f64>, i: usize, j: usize) -> f64 {
    assert!(i < x.rows() && j < x.cols());
    // SAFETY: the matrix lies in its slice.
    unsafe { *x.as_ptr().add(i * x.row_stride() + j * x.col_stride()) }
}

/// Rows that follow one another.
fn rows<T: Copy>(data: &[T], rows: usize, cols: usize) -> Mat<'_, T> {
    Mat::new(data, (rows, cols), (cols, 1))
}

fn assert_close(got: &[f64], a: Mat<'_, f64>, b: Mat<'_, f64>, epsilon: f64) {
    for i in 0..a.rows() {
        for j in 0..b.cols() {
            let terms = (0..a.cols()).map(|p| at(a, i, p) * at(b, p, j));
            let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
            let bound = a.cols() as f64 * epsilon * size;
            let got = got[i * b.cols() + j];
            assert!((got - sum).abs() <= bound, "{i},{j}: {got} for {sum}");
        }
    }
}

/// All sizes near the edges of tiles and panels, in both layouts of B.
fn check_type<S: Simd, R: Real + Into<f64>, T: Copy + Into<f64>>(
    simd: S,
    of: impl Fn(f32) -> T,
    any: impl for<'a> Fn(Mat<'a, T>) -> AnyMat<'a, R>,
    epsilon: f64,
) {
    let mut rng = StdRng::seed_from_u64(1);
    let width = width::<S, R>();
    let columns = [
        1,
        width / 2,
        width - 1,
        width,
        width + 1,
        4 * width,
        9 * width + 1,
    ];
    for m in (1..20).chain([40]) {
        for n in columns {
            for k in [1, 17, 530] {
                let mut random =
                    |len| -> Vec<T> { values(&mut rng, len).into_iter().map(&of).collect() };
                let (left, right) = (random(m * k), random(k * n));
                let exact = |x: &[T]| -> Vec<f64> { x.iter().map(|&x| x.into()).collect() };
                let (exact_left, exact_right) = (exact(&left), exact(&right));
                let a = rows(&left, m, k);
                for strides in [(n, 1), (1, k)] {
                    let b = Mat::new(&right, (k, n), strides);
                    let result = |packed| -> Vec<f64> {
                        let c = product(simd, any(a), any(b), packed);
                        c.into_iter().map(R::into).collect()
                    };
                    let c = result(true);
                    let b = Mat::new(&exact_right, (k, n), strides);
                    assert_close(&c, rows(&exact_left, m, k), b, epsilon);
                    assert_eq!(c, result(false));
                }
            }
        }
    }
}

#[expect(
    clippy::redundant_closure,
    reason = "a constructor alone has one lifetime"
)]
fn check<S: Simd>(simd: S) {
    let single = f64::from(f32::EPSILON);
    check_type::<_, f32, _>(simd, |x| x, |a| AnyMat::Wide(a), single);
    check_type::<_, f64, _>(simd, f64::from, |a| AnyMat::Wide(a), f64::EPSILON);
    check_type::<_, f32, _>(simd, bf16::from_f32, |a| AnyMat::BF16(a), single);
    check_type::<_, f32, _>(simd, f16::from_f32, |a| AnyMat::F16(a), single);
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
    let (a, b) = (AnyMat::Wide(a), AnyMat::Wide(b));
    assert_eq!(product(v3, a, b, true), product(v4, a, b, true));
}
