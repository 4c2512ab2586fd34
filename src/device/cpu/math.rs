//! Functions of one f32, without branches: inlined into a loop, the compiler makes vector code
//! of them, for whichever instruction set the loop is compiled for. So a result depends neither
//! on the place in a vector nor on the length of a tile.
//!
//! The errors are in units in the last place (ulp) of the exact result, the largest over every
//! f32, as `cargo test --release -- --ignored every_f32` measures them.

use pulp::Simd;

/// `a * b + c`, rounded once where the instruction set can.
#[inline(always)]
pub(super) fn madd<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::IS_SCALAR {
        a * b + c
    } else {
        a.mul_add(b, c)
    }
}

/// The same in f64.
#[inline(always)]
fn madd64<S: Simd>(a: f64, b: f64, c: f64) -> f64 {
    if S::IS_SCALAR {
        a * b + c
    } else {
        a.mul_add(b, c)
    }
}

/// `x`, at least `low` and at most `high`; NaN stays.
#[inline(always)]
fn within(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// Two to the power of a whole number of -126 to 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// Adding it rounds to a whole number, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23

/// `x = n ln 2 + r` with whole `n` and small `r` (Cody and Waite); returns `n`, `r` and
/// `exp(r) - 1` (the polynomial of SLEEF's `expf`).
#[inline(always)]
fn exp_parts<S: Simd>(x: f32) -> (i32, f32) {
    let shifted = madd::<S>(x, std::f32::consts::LOG2_E, ROUND);
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let whole = shifted - ROUND;
    let r = madd::<S>(whole, -0.693_145_75, x);
    let r = madd::<S>(whole, -1.428_606_8e-6, r);
    let p = madd::<S>(r, 0.000_198_527_62, 0.001_393_043_6);
    let p = madd::<S>(p, r, 0.008_333_361);
    let p = madd::<S>(p, r, 0.041_666_485);
    let p = madd::<S>(p, r, 0.166_666_67);
    let p = madd::<S>(p, r, 0.5);
    (n, madd::<S>(r * r, p, r))
}

/// The exponential, denormal results included: 1.1 ulp.
#[inline(always)]
pub(super) fn exp<S: Simd>(x: f32) -> f32 {
    let (n, p) = exp_parts::<S>(within(x, -104.0, 89.0));
    // In two halves: the power itself may be beyond what f32 can say.
    let half = n >> 1;
    (1.0 + p) * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// `exp(x) - 1` for `x` up to 64, without cancellation.
#[inline(always)]
fn exp_m1<S: Simd>(x: f32) -> f32 {
    let (n, p) = exp_parts::<S>(within(x, -25.0, 64.0));
    let scale = power_of_two(n);
    madd::<S>(scale, p, scale - 1.0)
}

/// The hyperbolic tangent, as `(e - 1) / (e + 1)` of `e = exp(2 x)`: 2.3 ulp.
#[inline(always)]
pub(super) fn tanh<S: Simd>(x: f32) -> f32 {
    let magnitude = within(x.abs(), 0.0, 10.0);
    let e = exp_m1::<S>(2.0 * magnitude);
    (e / (e + 2.0)).copysign(x)
}

/// The natural logarithm (the method of FreeBSD's `logf`): 0.9 ulp.
#[inline(always)]
pub(super) fn log<S: Simd>(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 33_554_432.0 } else { x }; // 2^25
    let bits = (scaled.to_bits() as i32).wrapping_add(0x3f80_0000 - 0x3f35_04f3);
    let k = (bits >> 23) - 127;
    let m = f32::from_bits(((bits & 0x007f_ffff) + 0x3f35_04f3) as u32);
    let k = k as f32 - if tiny { 25.0 } else { 0.0 };
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let odd = w * madd::<S>(w, 0.242_790_79, 0.400_009_72);
    let even = z * madd::<S>(w, 0.284_987_87, 0.666_666_6);
    let half = 0.5 * f * f;
    let low = madd::<S>(s, half + odd + even, k * 9.058_001e-6);
    let result = madd::<S>(k, 0.693_138_1, low - half + f);
    let result = if x == f32::INFINITY { x } else { result };
    let result = if x == 0.0 { f32::NEG_INFINITY } else { result };
    // also for NaN, for which every comparison is false
    if x >= 0.0 { result } else { f32::NAN }
}

/// The error function, as a quotient of polynomials (those of Eigen's `erf`): 7.2 ulp.
#[inline(always)]
pub(super) fn erf<S: Simd>(x: f32) -> f32 {
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

/// Numerator and denominator of `1 / (1 + exp(-x))`, neither of which overflows.
#[inline(always)]
fn sigmoid_parts<S: Simd>(x: f32) -> (f32, f32) {
    let e = exp::<S>(-x.abs());
    (if x < 0.0 { e } else { 1.0 }, 1.0 + e)
}

/// `1 / (1 + exp(-x))`: 2.5 ulp.
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(x: f32) -> f32 {
    let (above, below) = sigmoid_parts::<S>(x);
    above / below
}

/// `x / (1 + exp(-x))`: 3 ulp, or 1e-43 where the result is denormal. NaN for minus infinity,
/// as Candle's.
#[inline(always)]
pub(super) fn silu<S: Simd>(x: f32) -> f32 {
    let (above, below) = sigmoid_parts::<S>(x);
    x * above / below
}

/// GELU with `tanh`: within 4e-7 of the larger of 1 and its argument.
#[inline(always)]
pub(super) fn gelu<S: Simd>(x: f32) -> f32 {
    let inner = 0.797_884_6 * x * (1.0 + 0.044_715 * x * x);
    0.5 * x * (1.0 + tanh::<S>(inner))
}

/// GELU with `erf`: within 4e-7 of the larger of 1 and its argument.
#[inline(always)]
pub(super) fn gelu_erf<S: Simd>(x: f32) -> f32 {
    (erf::<S>(x * std::f32::consts::FRAC_1_SQRT_2) + 1.0) * 0.5 * x
}

/// `x` where positive, else `alpha (exp(x) - 1)`.
#[inline(always)]
pub(super) fn elu<S: Simd>(x: f32, alpha: f32) -> f32 {
    let below = alpha * exp_m1::<S>(x);
    if x > 0.0 { x } else { below }
}

/// Half away from zero, as `f32::round`.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    const WHOLE: f32 = 8_388_608.0; // 2^23: from here on every f32 is whole
    let magnitude = x.abs();
    let nearest = (magnitude + WHOLE) - WHOLE; // half to even
    let up = if magnitude - nearest == 0.5 {
        nearest + 1.0
    } else {
        nearest
    };
    let rounded = if magnitude < WHOLE { up } else { magnitude };
    rounded.copysign(x)
}

/// The largest whole number that is not above `x`.
#[inline(always)]
pub(super) fn floor(x: f32) -> f32 {
    const WHOLE: f32 = 8_388_608.0;
    let magnitude = x.abs();
    let nearest = ((magnitude + WHOLE) - WHOLE).copysign(x);
    let down = if nearest > x { nearest - 1.0 } else { nearest };
    let floor = if magnitude < WHOLE { down } else { x };
    floor.copysign(if floor == 0.0 { x } else { floor })
}

/// The smallest whole number that is not below `x`.
#[inline(always)]
pub(super) fn ceil(x: f32) -> f32 {
    -floor(-x)
}

/// Beyond it, sine and cosine are the standard library's.
pub(super) const LARGEST_ANGLE: f32 = 134_217_728.0; // 2^27

/// The sine of `x + quarter pi/2`, up to [`LARGEST_ANGLE`]: reduced and computed in f64 (the
/// method of FreeBSD's `sinf`): 0.6 ulp.
#[inline(always)]
pub(super) fn sine<S: Simd>(x: f32, quarter: u64) -> f32 {
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
