//! Programs in f32 and f64.

use super::data::{
    Data, Out, from_bf16, gather, gather_f16, gather_rare, put, put_f16, put_rare, round_f16,
    to_bf16,
};
use super::kernel::{self, Target, map};
use super::math;
use super::number::{Element, casts, common};
use super::tile::Register;
use crate::graph::UnaryOp;
use crate::plan::program::{Operand, RowOp};
use crate::plan::types::Number;
use candle_core::cpu::erf::erf_f64;
use half::{bf16, f16};
use pulp::{Arch, Simd, WithSimd};
use std::cell::RefCell;
use std::thread::LocalKey;

/// What rows need.
pub(super) trait Float: Element {
    /// The exponential of what is at most 88. A result that is not normal may be 0.
    fn exp_below<S: Simd>(self) -> Self;
    fn log<S: Simd>(self) -> Self;
    fn sqrt(self) -> Self;
    fn count(count: usize) -> Self;
}

macro_rules! float {
    ($type:ident) => {
        fn dispatch(run: impl WithSimd<Output = ()>) {
            Arch::new().dispatch(run);
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            self + other
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            self - other
        }
        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            self * other
        }
        #[inline(always)]
        fn div(self, other: Self) -> Self {
            self / other
        }
        #[inline(always)]
        fn row<S: Simd>(op: RowOp, to: Target<'_, Self>, a: &[Self], cols: usize) {
            match op {
                RowOp::Softmax => kernel::softmax::<S, $type>(to, a, cols),
                RowOp::LogSoftmax => kernel::log_softmax::<S, $type>(to, a, cols),
            }
        }
        #[inline(always)]
        fn rms_norm(to: Target<'_, Self>, args: [&[Self]; 2], cols: usize, eps: f32) {
            kernel::rms_norm(to, args, cols, eps as $type);
        }
        #[inline(always)]
        fn layer_norm(to: Target<'_, Self>, args: [&[Self]; 3], cols: usize, eps: f32) {
            kernel::layer_norm(to, args, cols, eps as $type);
        }
    };
}

macro_rules! rows {
    ($type:ident) => {
        #[inline(always)]
        fn sqrt(self) -> Self {
            self.sqrt()
        }
        #[inline(always)]
        fn count(count: usize) -> Self {
            count as $type
        }
    };
}

impl Float for f32 {
    #[inline(always)]
    fn exp_below<S: Simd>(self) -> Self {
        math::exp_below::<S>(self)
    }
    #[inline(always)]
    fn log<S: Simd>(self) -> Self {
        math::log::<S>(self)
    }
    rows!(f32);
}

impl Float for f64 {
    #[inline(always)]
    fn exp_below<S: Simd>(self) -> Self {
        self.exp()
    }
    #[inline(always)]
    fn log<S: Simd>(self) -> Self {
        self.ln()
    }
    rows!(f64);
}

impl Element for f32 {
    common!(f32 F32);
    float!(f32);

    #[inline(always)]
    fn load(operand: &Operand, data: Data<'_>, to: Target<'_, Self>, place: usize) {
        match data {
            Data::F32(data) => gather_rare(operand, data, to, place, |x| x),
            Data::BF16(data) => gather(operand, data, to, place, from_bf16),
            Data::F16(data) => gather_f16(operand, data, to, place),
            Data::U8(data) => gather(operand, data, to, place, f32::from),
            Data::U32(data) => gather_rare(operand, data, to, place, |x| x as f32),
            Data::I16(data) => gather_rare(operand, data, to, place, f32::from),
            Data::I32(data) => gather_rare(operand, data, to, place, |x| x as f32),
            Data::I64(data) => gather_rare(operand, data, to, place, |x| x as f32),
            Data::F64(data) => gather_rare(operand, data, to, place, |x| x as f32),
        }
    }

    #[inline(always)]
    fn store(from: &[Self], out: Out<'_>) {
        match out {
            Out::F32(out) => put_rare(out, from, |x| x),
            Out::BF16(out) => put(out, from, to_bf16),
            Out::F16(out) => put_f16(out, from),
            Out::U8(out) => put(out, from, |x| x as u8),
            Out::U32(out) => put_rare(out, from, |x| x as u32),
            Out::I16(out) => put_rare(out, from, |x| x as i16),
            Out::I32(out) => put_rare(out, from, |x| x as i32),
            Out::I64(out) => put_rare(out, from, |x| x as i64),
            Out::F64(out) => put_rare(out, from, f64::from),
        }
    }

    #[inline(always)]
    fn round_half(to: Target<'_, Self>, a: &[Self], brief: bool) {
        match brief {
            true => map(to, a, |x| from_bf16(to_bf16(x))),
            false => round_f16(to, a),
        }
    }

    #[inline(always)]
    fn unary<S: Simd>(op: UnaryOp, to: Target<'_, Self>, a: &[Self]) {
        match op {
            UnaryOp::Neg => map(to, a, |x| -x),
            UnaryOp::Recip => map(to, a, |x| 1.0 / x),
            UnaryOp::Sqr => map(to, a, |x| x * x),
            UnaryOp::Sqrt => map(to, a, f32::sqrt),
            UnaryOp::Exp => map(to, a, math::exp::<S>),
            UnaryOp::Log => map(to, a, math::log::<S>),
            UnaryOp::Sin => trigonometric::<S>(to, a, 0, f32::sin),
            UnaryOp::Cos => trigonometric::<S>(to, a, 1, f32::cos),
            UnaryOp::Tanh => map(to, a, math::tanh::<S>),
            UnaryOp::Erf => map(to, a, math::erf::<S>),
            UnaryOp::Abs => map(to, a, f32::abs),
            UnaryOp::Floor => map(to, a, math::floor),
            UnaryOp::Ceil => map(to, a, math::ceil),
            UnaryOp::Round => map(to, a, math::round),
            UnaryOp::Sign => map(to, a, |x| {
                f32::from(u8::from(x > 0.0)) - f32::from(u8::from(x < 0.0))
            }),
            UnaryOp::Relu => map(to, a, |x| if x > 0.0 { x } else { 0.0 }),
            UnaryOp::Gelu => map(to, a, math::gelu::<S>),
            UnaryOp::GeluErf => map(to, a, math::gelu_erf::<S>),
            UnaryOp::Silu => map(to, a, math::silu::<S>),
            UnaryOp::Sigmoid => map(to, a, math::sigmoid::<S>),
        }
    }

    #[inline(always)]
    fn elu<S: Simd>(to: Target<'_, Self>, a: &[Self], alpha: Self) {
        map(to, a, |x| math::elu::<S>(x, alpha));
    }

    #[inline(always)]
    fn powf<S: Simd>(to: Target<'_, Self>, a: &[Self], exponent: Self) {
        if exponent == 2.0 {
            map(to, a, |x| x * x);
        } else {
            map(to, a, |x| math::powf::<S>(x, exponent));
        }
    }
}

/// Sine or cosine; what is too large for our own is done again by the standard library's.
#[inline(always)]
fn trigonometric<S: Simd>(to: Target<'_, f32>, a: &[f32], quarter: u64, exact: fn(f32) -> f32) {
    map(to, a, |x| {
        let value = math::sine::<S>(x, quarter);
        if x == 0.0 && quarter == 0 { x } else { value }
    });
    for (to, &x) in to.iter_mut().zip(a) {
        if x.abs() > math::LARGEST_ANGLE {
            to.write(exact(x));
        }
    }
}

impl Element for f64 {
    common!(f64 F64);
    float!(f64);
    casts!(f64 f16::from_f64, bf16::from_f64);

    fn round_half(_: Target<'_, Self>, _: &[Self], _: bool) {
        unreachable!("halves are computed in f32")
    }

    /// By the standard library, as Candle.
    #[inline(always)]
    fn unary<S: Simd>(op: UnaryOp, to: Target<'_, Self>, a: &[Self]) {
        match op {
            UnaryOp::Neg => map(to, a, |x| -x),
            UnaryOp::Recip => map(to, a, |x| 1.0 / x),
            UnaryOp::Sqr => map(to, a, |x| x * x),
            UnaryOp::Sqrt => map(to, a, f64::sqrt),
            UnaryOp::Abs => map(to, a, f64::abs),
            UnaryOp::Sign => map(to, a, |x| {
                f64::from(u8::from(x > 0.0)) - f64::from(u8::from(x < 0.0))
            }),
            UnaryOp::Relu => map(to, a, |x| if x > 0.0 { x } else { 0.0 }),
            _ => map_f64(to, a, function(op)),
        }
    }

    fn elu<S: Simd>(to: Target<'_, Self>, a: &[Self], alpha: Self) {
        map(to, a, |x| match x.is_sign_positive() {
            true => x,
            false => (x.exp() - 1.0) * alpha,
        });
    }

    fn powf<S: Simd>(to: Target<'_, Self>, a: &[Self], exponent: Self) {
        map(to, a, |x| x.powf(exponent));
    }
}

/// Compiled once: calls of functions do not become vector code.
#[inline(never)]
fn map_f64(to: Target<'_, f64>, a: &[f64], f: fn(f64) -> f64) {
    map(to, a, f);
}

/// Candle's functions of f64.
fn function(op: UnaryOp) -> fn(f64) -> f64 {
    const ROOT_2_PI: f64 = 0.797_884_560_802_865_4;
    match op {
        UnaryOp::Exp => f64::exp,
        UnaryOp::Log => f64::ln,
        UnaryOp::Sin => f64::sin,
        UnaryOp::Cos => f64::cos,
        UnaryOp::Tanh => f64::tanh,
        UnaryOp::Erf => erf_f64,
        UnaryOp::Floor => f64::floor,
        UnaryOp::Ceil => f64::ceil,
        UnaryOp::Round => f64::round,
        UnaryOp::Gelu => |x| 0.5 * x * (1.0 + f64::tanh(ROOT_2_PI * x * (1.0 + 0.044715 * x * x))),
        UnaryOp::GeluErf => |x| (erf_f64(x * std::f64::consts::FRAC_1_SQRT_2) + 1.0) * 0.5 * x,
        UnaryOp::Silu => |x| x / (1.0 + (-x).exp()),
        UnaryOp::Sigmoid => |x| ((-x).exp() + 1.0).recip(),
        _ => unreachable!("vector code"),
    }
}
