//! The error function and the exact gelu.

use super::exp::{exp_normal, exp64};
use super::{madd, poly, poly64};
use pulp::Simd;

/// `erf(x)`, within 1.36 ulp (1.10 with fused multiply-add).
///
/// An odd polynomial of degree 15 below 1, and `1 - e^-p(x)` with a polynomial of
/// degree 6 beyond; both minimax (Remez, for this file).
#[inline(always)]
pub(crate) fn erf<S: Simd>(x: f32) -> f32 {
    let a = x.abs();
    let near = poly::<S, 7>(
        x * x,
        [
            7.806_904e-5,
            -7.997_853e-4,
            0.005_187_162,
            -0.026_853_347,
            0.112_835_79,
            -0.376_126_26,
            0.128_379_17,
        ],
    );
    let near = madd::<S>(near, x, x);
    // erfc(a) = e^-(a + a P(a)); 4 is past the point where erf rounds to 1.
    let capped = if a > 4.0 { 4.0 } else { a };
    let power = poly::<S, 6>(
        capped,
        [
            -2.106_898_6e-4,
            0.003_187_349_3,
            -0.022_799_82,
            0.105_118_37,
            0.635_829_7,
            0.128_480_6,
        ],
    );
    let far = 1.0 - exp_normal::<S>(madd::<S>(-capped, power, -capped));
    // NaN takes the first way.
    if a >= 1.0 { far.copysign(x) } else { near }
}

/// `0.5 x (1 + erf(x / sqrt 2))`, within 0.95 ulp down to the denormal end of the
/// negative tail. NaN for negative infinity, as the formula gives.
///
/// The normal distribution's tail is `e^(-x^2/2)` times a smooth factor, here a
/// polynomial in `(a - 4) / (a + 4)` over `a + 4` (Remez, for this file). All of it
/// in double precision, so that nothing cancels.
#[inline(always)]
pub(crate) fn gelu_erf<S: Simd>(x: f32) -> f32 {
    let t = f64::from(x);
    let a = t.abs();
    // Past 37 the tail is zero in f32, and e^(-37^2 / 2) still a normal f64.
    let a = if a > 37.0 { 37.0 } else { a };
    let inv = 1.0 / (a + 4.0);
    let p = poly64::<S, 10>(
        (a - 4.0) * inv,
        [
            -1.091_701_56e-4,
            2.101_633_44e-4,
            1.555_465_39e-3,
            -3.539_082_36e-3,
            -7.522_339e-3,
            6.041_118_88e-2,
            -0.186_523_765,
            0.387_136_251,
            -0.607_896_566,
            0.755_285_144,
        ],
    );
    // The normal distribution's tail beyond |x|.
    let tail = p * inv * exp64::<S>(a * a * -0.5);
    let mass = if x < 0.0 { tail } else { 1.0 - tail };
    let y = (t * mass) as f32;
    if x == f32::NEG_INFINITY { f32::NAN } else { y }
}
