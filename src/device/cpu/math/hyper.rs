//! The hyperbolic tangent.

use super::exp::exp_m1_normal;
use pulp::Simd;

/// `tanh(x)`, within 2.65 ulp.
///
/// `u / (u + 2)` with `u = e^2x - 1`, which is made without cancelling: one way for all arguments, half
/// as long as a polynomial for small ones beside it.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(x: f32) -> f32 {
    const SIGN: u32 = 1 << 31;
    let a = x.abs();
    // past the point where this rounds to 1; NaN stays
    let capped = if a > 10.0 { 10.0 } else { a };
    let u = exp_m1_normal::<S>(capped + capped);
    let y = u / (u + 2.0);
    f32::from_bits(y.to_bits() | x.to_bits() & SIGN)
}
