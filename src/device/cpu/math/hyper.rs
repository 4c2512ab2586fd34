//! The hyperbolic tangent.

use super::exp::exp_normal;
use super::{madd, poly};
use pulp::Simd;

/// `tanh(x)`, within 1.34 ulp.
///
/// The scheme of Cephes: an odd polynomial of degree 11 below 0.625 (Remez, for
/// this file) and `1 - 2 / (e^2x + 1)` beyond.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(x: f32) -> f32 {
    const SIGN: u32 = 1 << 31;
    let a = x.abs();
    let z = x * x;
    let p = poly::<S, 5>(
        z,
        [
            -0.005_692_296_7,
            0.020_628_167,
            -0.053_736_515,
            0.133_314_06,
            -0.333_332_8,
        ],
    );
    let near = madd::<S>(a * z, p, a);
    // 1 - 2 / (e^2a + 1); 10 is past the point where this rounds to 1.
    let capped = if a > 10.0 { 10.0 } else { a };
    let far = 1.0 - 2.0 / (exp_normal::<S>(capped + capped) + 1.0);
    // NaN takes the first way. Neither has a sign.
    let y = if a >= 0.625 { far } else { near };
    f32::from_bits(y.to_bits() | x.to_bits() & SIGN)
}
