//! The sigmoid and the gates `x * sigmoid(u)` built on it.

use super::exp::{exp_parts, exp64};
use super::{madd, madd64};
use pulp::Simd;

/// `1 / (1 + e^-x)` as `(m, s)` with the result `m * s`. Only that product can be
/// denormal.
#[inline(always)]
fn sigmoid_parts<S: Simd>(x: f32) -> (f32, f32) {
    let a = -x.abs();
    // Below this the power no longer counts for a positive `x`.
    let a = if a < -110.0 { -110.0 } else { a };
    let (m, s) = exp_parts::<S>(a);
    let power = m * s;
    let below = 1.0 + power;
    let negative = x < 0.0;
    let ratio = if negative { m } else { 1.0 } / below;
    let last = if negative { s } else { 1.0 };
    // Takes out the rounding of `below`; 1 / below is the other tail's sigmoid.
    let lost = (1.0 - below) + power;
    let part = ratio * last;
    let inverse = if negative { 1.0 - part } else { part };
    (madd::<S>(-ratio * inverse, lost, ratio), last)
}

/// `1 / (1 + e^-x)`, within 1.97 ulp, denormal results included.
///
/// From the power of `-|x|`, which cannot overflow, by way of [`exp`](super::exp()).
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(x: f32) -> f32 {
    let (m, s) = sigmoid_parts::<S>(x);
    m * s
}

/// `x * sigmoid(x)`, within 3.33 ulp down to the denormal end of the negative tail.
/// NaN for negative infinity, as `x / (1 + e^-x)` gives.
///
/// The same quotient as [`sigmoid`].
#[inline(always)]
pub(crate) fn silu<S: Simd>(x: f32) -> f32 {
    let (m, s) = sigmoid_parts::<S>(x);
    // Past -110 the result is zero, which x times the least power is not.
    let capped = if x < -110.0 { -110.0 } else { x };
    let y = capped * m * s;
    if x == f32::NEG_INFINITY { f32::NAN } else { y }
}

/// `x / (1 + e^-u)` rounded once, for a finite or infinite `u`.
#[inline(always)]
fn gate<S: Simd>(x: f32, u: f64) -> f32 {
    let t = if u < -700.0 { 700.0 } else { -u };
    let t = if t < -700.0 { -700.0 } else { t };
    let y = (f64::from(x) / (1.0 + exp64::<S>(t))) as f32;
    if x == f32::NEG_INFINITY { f32::NAN } else { y }
}

/// `0.5 x (1 + tanh(sqrt(2/pi) x (1 + 0.044715 x^2)))`, within 0.56 ulp down to the
/// denormal end of the negative tail. NaN for negative infinity, as the formula gives.
///
/// As a sigmoid, which does not cancel; in double precision, because the power
/// magnifies an error of its argument.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(x: f32) -> f32 {
    // (1 + tanh(u)) / 2 = sigmoid(2 u)
    const LINEAR: f64 = 1.595_769_121_605_730_7;
    const CUBIC: f64 = LINEAR * 0.044_715;
    let t = f64::from(x);
    gate::<S>(x, t * madd64::<S>(t * t, CUBIC, LINEAR))
}
