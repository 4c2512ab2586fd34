//! The exponential, and what needs its reduced argument.

use super::{madd, madd64, poly, poly64};
use pulp::Simd;

/// Adding 1.5 * 2^23 leaves the nearest integer in the low mantissa bits,
/// with no call or saturating conversion.
const ROUND: f32 = 12_582_912.0;
/// The same for `f64`: 1.5 * 2^52.
const ROUND64: f64 = 6_755_399_441_055_744.0;
/// ln 2 to 15 bits, so that its product with a small integer is exact.
const LN2_HI: f32 = 0.693_145_75;
/// The rest of ln 2.
const LN2_LO: f32 = 1.428_606_8e-6;

/// `x = k ln 2 + r` with `|r|` at most half of ln 2; `k + lift` stands in the low nine bits of
/// what is returned with `r`.
#[inline(always)]
fn reduce<S: Simd>(x: f32, lift: u8) -> (u32, f32) {
    let round = ROUND + f32::from(lift);
    let shifted = madd::<S>(x, std::f32::consts::LOG2_E, round);
    let whole = shifted - round;
    let r = madd::<S>(whole, -LN2_HI, x);
    (shifted.to_bits(), madd::<S>(whole, -LN2_LO, r))
}

/// The float whose exponent stands in the low nine bits, as 127 more than it is.
#[inline(always)]
fn pow2(lifted: u32) -> f32 {
    f32::from_bits(lifted << 23)
}

/// `e^r - 1` for `|r|` at most half of ln 2, to about 2^-28 of `e^r`.
#[inline(always)]
fn beside_one<S: Simd>(r: f32) -> f32 {
    let q = poly::<S, 5>(
        r,
        [
            0.001_383_828_2,
            0.008_369_298,
            0.041_668_087,
            0.166_665_15,
            0.499_999_94,
        ],
    );
    madd::<S>(r * r, q, r)
}

/// `2^shift e^x` where `127 + shift` is `lift`, for an `x` with which neither end of the range of
/// exponents is left; where the result would be a little below the normal ones it is 0.
#[inline(always)]
pub(super) fn exp_lifted<S: Simd>(x: f32, lift: u8) -> f32 {
    let (lifted, r) = reduce::<S>(x, lift);
    let scale = pow2(lifted);
    madd::<S>(beside_one::<S>(r), scale, scale)
}

/// `e^x` for `x` in -87..=88.
#[inline(always)]
pub(super) fn exp_normal<S: Simd>(x: f32) -> f32 {
    exp_lifted::<S>(x, 127)
}

/// `e^x - 1` for `x` in -87..=88: `2^k (e^r - 1) + (2^k - 1)`, in which nothing cancels near zero.
#[inline(always)]
pub(super) fn exp_m1_normal<S: Simd>(x: f32) -> f32 {
    let (lifted, r) = reduce::<S>(x, 127);
    let scale = pow2(lifted);
    madd::<S>(beside_one::<S>(r), scale, scale - 1.0)
}

/// `e^x` for `x` up to 88, within 1.1 ulp; results that are not normal are 0.
#[inline(always)]
pub(crate) fn exp_below<S: Simd>(x: f32) -> f32 {
    exp_normal::<S>(if x < -88.0 { -88.0 } else { x })
}

/// `e^x`, within 1.06 ulp, denormal results included.
///
/// Cody and Waite's reduction with the two-part ln 2 of Cephes, then a minimax
/// polynomial of degree 6 (Remez, for this file; 2^-28 relative). The power of two comes
/// in two halves, neither of which leaves the normal range, so a denormal result is rounded
/// once, in the last multiplication.
#[inline(always)]
pub(crate) fn exp<S: Simd>(x: f32) -> f32 {
    let x = if x < -104.5 { -104.5 } else { x };
    let x = if x > 89.5 { 89.5 } else { x };
    let (lifted, r) = reduce::<S>(x, 254);
    let half = lifted >> 1;
    let (first, second) = (pow2(half), pow2(lifted.wrapping_sub(half)));
    madd::<S>(beside_one::<S>(r), first, first) * second
}

/// `e^t` in double precision, to about 2^-28 relative, for `t` in -700..=700.
#[inline(always)]
pub(super) fn exp64<S: Simd>(t: f64) -> f64 {
    let shifted = madd64::<S>(t, std::f64::consts::LOG2_E, ROUND64);
    let whole = shifted - ROUND64;
    let r = madd64::<S>(whole, -std::f64::consts::LN_2, t);
    let p = poly64::<S, 7>(
        r,
        [
            0.001_381_428_833_080_931,
            0.008_368_899_961_109_693,
            0.041_668_404_944_697_01,
            0.166_665_191_195_386,
            0.499_999_933_480_695_8,
            1.0,
            1.0,
        ],
    );
    // The low bits of `shifted` hold k; a NaN that came from an f32 has zeros there.
    f64::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 52))
}

/// `x` if positive, else `alpha * (e^x - 1)`. Within 1.02 ulp for
/// an `alpha` of 1, and 1.96 ulp for 1.6732632; any other stays under 2.6.
///
/// The reduction of [`exp`] with `e^r - 1` kept apart from the 1, so that nothing
/// cancels near zero: `2^k (e^r - 1) + (2^k - 1)`. Minimax polynomial of degree 7
/// (Remez, for this file).
#[inline(always)]
pub(crate) fn elu<S: Simd>(x: f32, alpha: f32) -> f32 {
    let clamped = if x < -20.0 { -20.0 } else { x };
    let clamped = if clamped > 0.0 { 0.0 } else { clamped };
    let (lifted, r) = reduce::<S>(clamped, 127);
    let q = poly::<S, 6>(
        r,
        [
            1.504_622_3e-4,
            0.001_393_054_3,
            0.008_341_51,
            0.041_666_51,
            0.166_666_36,
            0.5,
        ],
    );
    let small = madd::<S>(r * r, q, r);
    let scale = pow2(lifted);
    let grown = madd::<S>(small, scale, scale - 1.0);
    // Keeps the sign of -0, which the sum above loses.
    let grown = if clamped == 0.0 { clamped } else { grown };
    if x > 0.0 { x } else { alpha * grown }
}
