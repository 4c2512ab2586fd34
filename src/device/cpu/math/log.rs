//! The natural logarithm and the power function.

use super::exp::exp64;
use super::{madd, madd64, poly, poly64};
use pulp::Simd;

/// `ln(x)`, within 0.81 ulp, denormal arguments included.
///
/// The exponent is split off so that the rest lies in 2/3..4/3, as in Cephes with
/// other bounds; a minimax polynomial of degree 11 (Remez, for this file) does the rest.
#[inline(always)]
pub(crate) fn log<S: Simd>(x: f32) -> f32 {
    // to nine bits, so that its product with an exponent is exact, and the rest
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    const TWO_THIRDS: u32 = 0x3f2a_aaab;
    let tiny = x < f32::MIN_POSITIVE;
    let bits = (if tiny { x * 8_388_608.0 } else { x }).to_bits();
    let lift = bits.wrapping_sub(TWO_THIRDS) & 0xff80_0000;
    let k = ((lift as i32) >> 23) as f32 - if tiny { 23.0 } else { 0.0 };
    let f = f32::from_bits(bits.wrapping_sub(lift)) - 1.0;
    let p = poly::<S, 9>(
        f,
        [
            0.117_191_17,
            -0.128_802_02,
            0.108_208_66,
            -0.121_889_22,
            0.142_989_53,
            -0.166_800_86,
            0.199_997_65,
            -0.249_998_1,
            0.333_333_34,
        ],
    );
    let square = f * f;
    let low = madd::<S>(square * f, p, k * LN2_LO);
    let low = madd::<S>(square, -0.5, low);
    let y = madd::<S>(k, LN2_HI, f + low);
    // Infinity and NaN stand for themselves.
    let y = if x < f32::INFINITY { y } else { x };
    let edge = if x == 0.0 {
        f32::NEG_INFINITY
    } else {
        f32::NAN
    };
    if x > 0.0 { y } else { edge }
}

/// `ln(a)` in double precision for a finite `a > 0`, to about 2^-37 relative.
#[inline(always)]
fn log64<S: Simd>(a: f32) -> f64 {
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let tiny = a < f32::MIN_POSITIVE;
    let bits = (if tiny { a * 8_388_608.0 } else { a }).to_bits();
    let lift = bits.wrapping_sub(SQRT_HALF) & 0xff80_0000;
    let k = ((lift as i32) >> 23) as f32 - if tiny { 23.0 } else { 0.0 };
    let m = f64::from(f32::from_bits(bits.wrapping_sub(lift)));
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let p = poly64::<S, 4>(
        z,
        [
            0.235_839_219_239_329_4,
            0.285_372_208_258_288_96,
            0.400_003_364_756_740_9,
            0.666_666_656_402_544_5,
        ],
    );
    let ln_m = madd64::<S>(s * z, p, s + s);
    madd64::<S>(f64::from(k), std::f64::consts::LN_2, ln_m)
}

/// `x` to the power `y`, within 0.56 ulp on normal and denormal results; the special
/// cases are those of C99.
///
/// `e^(y ln x)` in double precision: the atanh series' form of the logarithm, as in
/// Cephes and SLEEF, with minimax polynomials (Remez, for this file).
#[inline(always)]
pub(crate) fn powf<S: Simd>(x: f32, y: f32) -> f32 {
    let a = x.abs();
    let ln = log64::<S>(a);
    let ln = if a == 0.0 { f64::NEG_INFINITY } else { ln };
    let ln = if a == f32::INFINITY {
        f64::INFINITY
    } else {
        ln
    };
    let t = f64::from(y) * ln;
    let t = if t < -700.0 { -700.0 } else { t };
    let t = if t > 700.0 { 700.0 } else { t };
    let size = exp64::<S>(t) as f32;
    let size = if x.is_nan() { f32::NAN } else { size };
    let (whole, odd) = parity(y);
    let negative = x.is_sign_negative();
    let signed = if negative && odd { -size } else { size };
    let bad = x < 0.0 && !whole && a != f32::INFINITY;
    let r = if bad { f32::NAN } else { signed };
    // 1 to any power, anything to the power 0, and -1 to an infinite power.
    let one = x == 1.0 || y == 0.0 || (a == 1.0 && y.abs() == f32::INFINITY);
    if one { 1.0 } else { r }
}

/// Whether `y` is a whole number, and whether it is an odd one.
#[inline(always)]
fn parity(y: f32) -> (bool, bool) {
    const WHOLE: f32 = 8_388_608.0;
    let a = y.abs();
    // Below 2^23 the sum drops the fraction and leaves the integer in the low bits.
    let sum = a + WHOLE;
    let small = a < WHOLE;
    let whole = !small || sum - WHOLE == a;
    // From 2^23 to 2^24 the lowest bit of `y` counts ones; beyond, all are even.
    let bits = if small { sum.to_bits() } else { a.to_bits() };
    let odd = whole && a < 2.0 * WHOLE && bits & 1 == 1;
    (whole, odd)
}
