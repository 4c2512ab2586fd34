//! The exponential, and what needs its reduced argument.

use super::{madd, madd64, poly, poly64};
use pulp::Simd;

/// Adding 1.5 * 2^23 leaves the nearest integer in the low mantissa bits,
/// with no call or saturating conversion.
const ROUND: f32 = 12_582_912.0;
/// The same for `f64`: 1.5 * 2^52.
const ROUND64: f64 = 6_755_399_441_055_744.0;
/// ln 2 to nine bits, so that its product with a small integer is exact.
pub(super) const LN2_HI: f32 = 0.693_359_4;
/// The rest of ln 2.
pub(super) const LN2_LO: f32 = -2.121_944_4e-4;

/// `x = k ln 2 + r` with `|r|` at most half of ln 2.
#[inline(always)]
fn reduce<S: Simd>(x: f32) -> (i32, f32) {
    let shifted = madd::<S>(x, std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let k = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let r = madd::<S>(whole, -LN2_HI, x);
    (k, madd::<S>(whole, -LN2_LO, r))
}

/// 2^k for `k` in the range of normal exponents.
#[inline(always)]
fn pow2(k: i32) -> f32 {
    f32::from_bits((k.wrapping_add(127) << 23) as u32)
}

/// `e^r` for `|r|` at most half of ln 2.
#[inline(always)]
fn exp_near<S: Simd>(r: f32) -> f32 {
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
    1.0 + madd::<S>(r * r, q, r)
}

/// `e^x` as `(m, s)` with `e^x = m * s`, for `x` in -160..=160.
///
/// Neither part leaves the normal range, so a caller can work on `m` and round
/// a denormal result once, in its last multiplication by `s`.
#[inline(always)]
fn exp_parts<S: Simd>(x: f32) -> (f32, f32) {
    let (k, r) = reduce::<S>(x);
    let half = k >> 1;
    let m = exp_near::<S>(r) * pow2(half);
    (m, pow2(k.wrapping_sub(half)))
}

/// `e^x` for `x` in -87..=88, where neither end of the range of exponents is
/// near. Any value may come out for NaN.
#[inline(always)]
pub(super) fn exp_normal<S: Simd>(x: f32) -> f32 {
    let (k, r) = reduce::<S>(x);
    let bits = exp_near::<S>(r).to_bits();
    f32::from_bits(bits.wrapping_add((k as u32) << 23))
}

/// `e^x`, within 1.06 ulp, denormal results included.
///
/// Cody and Waite's reduction with the two-part ln 2 of Cephes, then a minimax
/// polynomial of degree 6 (Remez, for this file; 2^-28 relative).
#[inline(always)]
pub(crate) fn exp<S: Simd>(x: f32) -> f32 {
    let x = if x < -104.5 { -104.5 } else { x };
    let x = if x > 89.5 { 89.5 } else { x };
    let (m, s) = exp_parts::<S>(x);
    m * s
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
    let (k, r) = reduce::<S>(clamped);
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
    let scale = pow2(k);
    let grown = madd::<S>(small, scale, scale - 1.0);
    // Keeps the sign of -0, which the sum above loses.
    let grown = if clamped == 0.0 { clamped } else { grown };
    if x > 0.0 { x } else { alpha * grown }
}
