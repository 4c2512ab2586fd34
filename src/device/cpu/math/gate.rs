//! The sigmoid and the gates `x * sigmoid(u)`: the activations of networks, whose speed counts for
//! more than the last digit of a tail that is added to larger numbers.

use super::exp::exp_lifted;
use super::madd;
use pulp::Simd;

/// `1 / (1 + e^-x)`, within 2.5 ulp, denormal results included.
///
/// Both sides of the fraction are 2^30 times smaller, so that `e^-x` does not overflow before
/// the fraction is 0.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(x: f32) -> f32 {
    const SMALL: f32 = 1.0 / (1 << 30) as f32;
    let x = if x < -106.0 { -106.0 } else { x };
    // e^-64 is nothing beside 1
    let x = if x > 64.0 { 64.0 } else { x };
    SMALL / (SMALL + exp_lifted::<S>(-x, 127 - 30))
}

/// `x / (1 + e^-x)`, within 3.5 ulp or 1e-43, which is more where the sigmoid is denormal. NaN for
/// negative infinity, as the formula gives.
#[inline(always)]
pub(crate) fn silu<S: Simd>(x: f32) -> f32 {
    x * sigmoid::<S>(x)
}

/// `0.5 x (1 + tanh(sqrt(2/pi) x (1 + 0.044715 x^2)))`, within 4e-7 of the larger of 1 and its
/// argument; as a gate, which is the same: `(1 + tanh u) / 2 = sigmoid 2u`.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(x: f32) -> f32 {
    const TWICE: f32 = 2.0 * 0.797_884_6;
    let inner = madd::<S>(x * x, TWICE * 0.044_715, TWICE) * x;
    x * sigmoid::<S>(inner)
}

/// `0.5 x (1 + erf(x / sqrt 2))`, within 4e-7 of the larger of 1 and its argument.
#[inline(always)]
pub(crate) fn gelu_erf<S: Simd>(x: f32) -> f32 {
    (erf_beside_one::<S>(x * std::f32::consts::FRAC_1_SQRT_2) + 1.0) * 0.5 * x
}

/// The error function within 7.2 ulp, which is little beside 1: as a quotient of polynomials
/// (those of Eigen's `erf`), half as long as [`erf`](super::erf()).
#[inline(always)]
fn erf_beside_one<S: Simd>(x: f32) -> f32 {
    let z = x * x;
    let z = if z > 16.0 { 16.0 } else { z };
    let p = madd::<S>(z, -2.726_142_3e-10, 2.770_681_4e-8);
    let p = madd::<S>(z, p, -2.101_024e-6);
    let p = madd::<S>(z, p, -5.692_506_5e-5);
    let p = madd::<S>(z, p, -7.349_906e-4);
    let p = madd::<S>(z, p, -2.954_6e-3);
    let p = madd::<S>(z, p, -1.609_603_3e-2);
    let q = madd::<S>(z, -1.456_607_2e-5, -2.133_740_6e-4);
    let q = madd::<S>(z, q, -1.682_827e-3);
    let q = madd::<S>(z, q, -7.373_329e-3);
    let q = madd::<S>(z, q, -1.426_474e-2);
    let inside = x * (p / q);
    // from here on the nearest f32 is 1
    if x.abs() > 3.832_507 {
        1f32.copysign(x)
    } else {
        inside
    }
}
