//! The types that programs compute in: what differs between them. Results are Candle's: exactly
//! so for integers, and for f64 where an element is computed by itself.

use super::data::{Data, Out, gather_rare, put_rare};
use super::kernel::{Target, map};
use super::tile::Register;
use crate::graph::UnaryOp;
use crate::plan::program::{Operand, RowOp};
use crate::plan::types::Number;
use half::{bf16, f16};
use pulp::{Scalar, Simd, WithSimd};
use std::cell::RefCell;
use std::thread::LocalKey;

/// A type of registers.
pub(super) trait Element: Copy + Default + PartialOrd + Send + Sync + 'static {
    const ONE: Self;

    fn number(number: Number, parameters: &[f32]) -> Self;
    /// Runs something, with the best instructions of this machine if that is worth its code:
    /// all that it calls is compiled for each set of instructions.
    fn dispatch(run: impl WithSimd<Output = ()>);
    /// The registers of this thread, kept between steps.
    fn registers() -> &'static LocalKey<RefCell<Vec<Register<Self>>>>;

    /// The elements of an operand of this type.
    fn elements(data: Data<'_>) -> Option<&[Self]>;
    /// Casts the elements of an operand, in its order.
    fn load(operand: &Operand, data: Data<'_>, to: Target<'_, Self>, place: usize);
    /// The result itself, if it is of this type.
    fn result(out: Out<'_>) -> Option<Target<'_, Self>>;
    /// Casts to the type of the result.
    fn store(from: &[Self], out: Out<'_>);

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;

    fn unary<S: Simd>(op: UnaryOp, to: Target<'_, Self>, a: &[Self]);
    fn elu<S: Simd>(to: Target<'_, Self>, a: &[Self], alpha: Self);
    fn powf<S: Simd>(to: Target<'_, Self>, a: &[Self], exponent: Self);
    fn row<S: Simd>(op: RowOp, to: Target<'_, Self>, a: &[Self], cols: usize);
    fn rms_norm(to: Target<'_, Self>, args: [&[Self]; 2], cols: usize, eps: f32);
    fn layer_norm(to: Target<'_, Self>, args: [&[Self]; 3], cols: usize, eps: f32);
    /// Rounded to f16, or to bf16.
    fn round_half(to: Target<'_, Self>, a: &[Self], brief: bool);
}

/// What is the same for every type but for its name.
macro_rules! common {
    ($type:ident $variant:ident) => {
        const ONE: Self = 1 as $type;

        #[inline(always)]
        fn number(number: Number, parameters: &[f32]) -> Self {
            match number {
                Number::Parameter(place) => parameters[place as usize] as $type,
                Number::Float(value) => value as $type,
                Number::Int(value) => value as $type,
            }
        }

        fn registers() -> &'static LocalKey<RefCell<Vec<Register<Self>>>> {
            thread_local! {
                static REGISTERS: RefCell<Vec<Register<$type>>> = const { RefCell::new(Vec::new()) };
            }
            &REGISTERS
        }

        #[inline(always)]
        fn elements(data: Data<'_>) -> Option<&[Self]> {
            match data {
                Data::$variant(data) => Some(data),
                _ => None,
            }
        }

        #[inline(always)]
        fn result(out: Out<'_>) -> Option<Target<'_, Self>> {
            match out {
                Out::$variant(out) => Some(out),
                _ => None,
            }
        }
    };
}
pub(super) use common;

/// Casts as Rust's `as`; halves by way of f32, but for f64.
macro_rules! casts {
    ($type:ident $f16:expr, $bf16:expr) => {
        fn load(operand: &Operand, data: Data<'_>, to: Target<'_, Self>, place: usize) {
            match data {
                Data::U8(data) => gather_rare(operand, data, to, place, |x| x as $type),
                Data::U32(data) => gather_rare(operand, data, to, place, |x| x as $type),
                Data::I16(data) => gather_rare(operand, data, to, place, |x| x as $type),
                Data::I32(data) => gather_rare(operand, data, to, place, |x| x as $type),
                Data::I64(data) => gather_rare(operand, data, to, place, |x| x as $type),
                Data::BF16(data) => gather_rare(operand, data, to, place, |x| x.to_f32() as $type),
                Data::F16(data) => gather_rare(operand, data, to, place, |x| x.to_f32() as $type),
                Data::F32(data) => gather_rare(operand, data, to, place, |x| x as $type),
                Data::F64(data) => gather_rare(operand, data, to, place, |x| x as $type),
            }
        }

        fn store(from: &[Self], out: Out<'_>) {
            match out {
                Out::U8(out) => put_rare(out, from, |x| x as u8),
                Out::U32(out) => put_rare(out, from, |x| x as u32),
                Out::I16(out) => put_rare(out, from, |x| x as i16),
                Out::I32(out) => put_rare(out, from, |x| x as i32),
                Out::I64(out) => put_rare(out, from, |x| x as i64),
                Out::BF16(out) => put_rare(out, from, $bf16),
                Out::F16(out) => put_rare(out, from, $f16),
                Out::F32(out) => put_rare(out, from, |x| x as f32),
                Out::F64(out) => put_rare(out, from, |x| x as f64),
            }
        }
    };
}
pub(super) use casts;

macro_rules! integer {
    ($type:ident $variant:ident, $abs:expr, $sign:expr) => {
        impl Element for $type {
            common!($type $variant);
            casts!($type |x| f16::from_f32(x as f32), |x| bf16::from_f32(x as f32));

            fn dispatch(run: impl WithSimd<Output = ()>) {
                Scalar::new().vectorize(run);
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            fn div(self, _: Self) -> Self {
                unreachable!("integers are divided by Candle")
            }

            #[inline(always)]
            fn unary<S: Simd>(op: UnaryOp, to: Target<'_, Self>, a: &[Self]) {
                match op {
                    UnaryOp::Abs => map(to, a, $abs),
                    UnaryOp::Sign => map(to, a, $sign),
                    UnaryOp::Relu => map(to, a, |x| x.max(0)),
                    UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => map(to, a, |x| x),
                    _ => unreachable!("functions of integers go to Candle"),
                }
            }
            fn elu<S: Simd>(_: Target<'_, Self>, _: &[Self], _: Self) {
                unreachable!("functions of integers go to Candle")
            }
            fn powf<S: Simd>(_: Target<'_, Self>, _: &[Self], _: Self) {
                unreachable!("functions of integers go to Candle")
            }
            fn row<S: Simd>(_: RowOp, _: Target<'_, Self>, _: &[Self], _: usize) {
                unreachable!("functions of integers go to Candle")
            }
            fn rms_norm(_: Target<'_, Self>, _: [&[Self]; 2], _: usize, _: f32) {
                unreachable!("functions of integers go to Candle")
            }
            fn layer_norm(_: Target<'_, Self>, _: [&[Self]; 3], _: usize, _: f32) {
                unreachable!("functions of integers go to Candle")
            }
            fn round_half(_: Target<'_, Self>, _: &[Self], _: bool) {
                unreachable!("halves are computed in f32")
            }
        }
    };
}

integer!(u8 U8, |x| x, |x: u8| x.min(1));
integer!(u32 U32, |x| x, |x: u32| x.min(1));
integer!(i16 I16, i16::wrapping_abs, i16::signum);
integer!(i32 I32, i32::wrapping_abs, i32::signum);
integer!(i64 I64, i64::wrapping_abs, i64::signum);
