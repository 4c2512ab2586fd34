//! Sine and cosine.

use super::madd64;
use pulp::Simd;

/// Beyond it, sine and cosine are the standard library's.
pub(crate) const LARGEST_ANGLE: f32 = 134_217_728.0; // 2^27

/// The sine of `x + quarter pi/2`, up to [`LARGEST_ANGLE`]: reduced and computed in f64 (the
/// method of FreeBSD's `sinf`): 0.6 ulp.
#[inline(always)]
pub(crate) fn sine<S: Simd>(x: f32, quarter: u64) -> f32 {
    const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52
    let x = f64::from(x);
    let shifted = madd64::<S>(x, std::f64::consts::FRAC_2_PI, ROUND);
    let quadrant = shifted.to_bits().wrapping_add(quarter);
    let n = shifted - ROUND;
    let r = madd64::<S>(n, -1.570_796_310_901_641_8, x);
    let r = madd64::<S>(n, -1.589_325_477_352_819_7e-8, r);
    let z = r * r;
    let s = madd64::<S>(
        z,
        0.000_002_718_311_493_989_822,
        -0.000_198_393_348_360_966_32,
    );
    let s = madd64::<S>(z, s, 0.008_333_329_385_889_463);
    let s = madd64::<S>(z, s, -0.166_666_666_416_265_24);
    let s = madd64::<S>(z * r, s, r);
    let c = madd64::<S>(z, 0.000_024_390_448_796_277_41, -0.001_388_676_377_460_993);
    let c = madd64::<S>(z, c, 0.041_666_623_323_739_06);
    let c = madd64::<S>(z, c, -0.499_999_997_251_031);
    let c = madd64::<S>(z, c, 1.0);
    let value = if quadrant & 1 == 0 { s } else { c };
    let sign = (quadrant & 2) << 62;
    f64::from_bits(value.to_bits() ^ sign) as f32
}
