//! The error function.

use super::exp::exp_normal;
use super::{madd, poly};
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
