//! Functions of one f32, without branches: inlined into a loop, the compiler makes vector code
//! of them, for whichever instruction set the loop is compiled for. So a result depends neither
//! on the place in a vector nor on the length of a tile. It may differ between instruction sets
//! in the last place, because `madd` rounds once where there is a fused instruction and twice
//! elsewhere.
//!
//! The errors are in units in the last place (ulp) of the exact result, the largest over every
//! f32, as `cargo test --release -- --ignored every_f32` measures them; a correctly rounded
//! function has 0.5.

mod erf;
mod exact;
mod exp;
mod gate;
mod hyper;
mod log;
mod trig;

pub(crate) use erf::erf;
pub(crate) use exact::{ceil, floor, round};
pub(crate) use exp::{elu, exp, exp_below};
pub(crate) use gate::{gelu, gelu_erf, sigmoid, silu};
pub(crate) use hyper::tanh;
pub(crate) use log::{log, powf};
pub(crate) use trig::{LARGEST_ANGLE, sine};

use pulp::Simd;

/// `a * b + c`, fused where the instruction set has a fused multiply-add.
///
/// Without one, `mul_add` would be a slow library call.
#[inline(always)]
pub(crate) fn madd<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::IS_SCALAR || cfg!(target_family = "wasm") {
        a * b + c
    } else {
        a.mul_add(b, c)
    }
}

/// [`madd`] in double precision.
#[inline(always)]
fn madd64<S: Simd>(a: f64, b: f64, c: f64) -> f64 {
    if S::IS_SCALAR || cfg!(target_family = "wasm") {
        a * b + c
    } else {
        a.mul_add(b, c)
    }
}

/// A polynomial; coefficients from the highest power down.
///
/// Sums even and odd powers apart: two chains half as long wait less than one.
#[inline(always)]
fn poly<S: Simd, const N: usize>(x: f32, coefs: [f32; N]) -> f32 {
    let square = x * x;
    let (mut last, mut other) = (coefs[1], coefs[0]);
    for c in &coefs[2..] {
        (last, other) = (madd::<S>(other, square, *c), last);
    }
    madd::<S>(other, x, last)
}

/// [`poly`] in double precision.
#[inline(always)]
fn poly64<S: Simd, const N: usize>(x: f64, coefs: [f64; N]) -> f64 {
    let square = x * x;
    let (mut last, mut other) = (coefs[1], coefs[0]);
    for c in &coefs[2..] {
        (last, other) = (madd64::<S>(other, square, *c), last);
    }
    madd64::<S>(other, x, last)
}
