//! Elements in memory: what a program reads, and where its result goes.

use super::kernel::Target;
use super::place::Place;
use crate::plan::program::Operand;
use candle_core::WithDType;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::slice;

/// How many halves are cast at once.
const HALVES: usize = 256;

/// A type of elements in memory.
pub(super) trait Stored: WithDType {
    /// Memory as the place of a result.
    fn out(out: &mut [Place<Self>]) -> Out<'_>;
    /// Where shared memory begins, if it is for elements of this type.
    fn shared(memory: Shared) -> Option<*mut Self>;
}

macro_rules! dtypes {
    ($($name:ident $type:ty;)*) => {
        /// The data of an operand.
        #[derive(Clone, Copy)]
        pub(super) enum Data<'a> {
            $($name(&'a [$type]),)*
        }

        $(impl Stored for $type {
            fn out(out: &mut [Place<Self>]) -> Out<'_> {
                Out::$name(out)
            }
            fn shared(memory: Shared) -> Option<*mut Self> {
                match memory {
                    Shared::$name(to) => Some(to.cast()),
                    _ => None,
                }
            }
        })*

        /// Where the result goes.
        pub(super) enum Out<'a> {
            $($name(&'a mut [Place<$type>]),)*
        }

        /// The same memory for several threads, each of which writes to elements of its own.
        #[derive(Clone, Copy)]
        pub(super) enum Shared {
            $($name(*mut Place<$type>),)*
        }

        impl Shared {
            /// A part of it.
            ///
            /// # Safety
            /// The memory is there, has these elements, and nobody else touches them meanwhile.
            pub(super) unsafe fn part<'a>(self, from: usize, len: usize) -> Out<'a> {
                // SAFETY: the caller's promise.
                unsafe {
                    match self {
                        $(Self::$name(to) => Out::$name(slice::from_raw_parts_mut(to.add(from), len)),)*
                    }
                }
            }
        }

        impl Out<'_> {
            /// How many elements it has.
            pub(super) fn len(&self) -> usize {
                match self {
                    $(Out::$name(out) => out.len(),)*
                }
            }

            /// Its memory.
            pub(super) fn shared(&mut self) -> Shared {
                match self {
                    $(Out::$name(out) => Shared::$name(out.as_mut_ptr()),)*
                }
            }

            /// A part of it.
            pub(super) fn part(&mut self, from: usize, len: usize) -> Out<'_> {
                match self {
                    $(Out::$name(out) => Out::$name(&mut out[from..from + len]),)*
                }
            }
        }
    };
}

dtypes! {
    U8 u8;
    U32 u32;
    I16 i16;
    I32 i32;
    I64 i64;
    BF16 bf16;
    F16 f16;
    F32 f32;
    F64 f64;
}

// SAFETY: stands for a borrow, whose parts are given to several threads; they write to elements of
// their own.
unsafe impl Send for Shared {}

/// Copies the elements of a view, in its order.
#[inline(always)]
pub(super) fn gather<D: Copy, T>(
    operand: &Operand,
    data: &[D],
    to: Target<'_, T>,
    place: usize,
    cast: impl Fn(D) -> T,
) where
    T: Copy,
{
    let mut rest = to;
    let len = rest.len();
    operand.access.runs(place, len, |from, stride, count| {
        let (to, after) = std::mem::take(&mut rest).split_at_mut(count);
        match stride {
            0 => {
                let x = cast(data[from]);
                to.iter_mut().for_each(|to| {
                    to.write(x);
                });
            }
            1 => put(to, &data[from..from + count], &cast),
            _ => {
                // `runs` gives no empty ones
                let from = data[from..=from + (count - 1) * stride]
                    .iter()
                    .step_by(stride);
                for (to, &x) in to.iter_mut().zip(from) {
                    to.write(cast(x));
                }
            }
        }
        rest = after;
    });
}

/// The same, compiled once, for casts that are rare.
#[inline(never)]
pub(super) fn gather_rare<D: Copy, T: Copy>(
    operand: &Operand,
    data: &[D],
    to: Target<'_, T>,
    place: usize,
    cast: fn(D) -> T,
) {
    gather(operand, data, to, place, cast);
}

/// Casts each element.
#[inline(always)]
pub(super) fn put<T: Copy, D>(to: Target<'_, D>, from: &[T], cast: impl Fn(T) -> D) {
    assert_eq!(to.len(), from.len());
    for (to, &x) in to.iter_mut().zip(from) {
        to.write(cast(x));
    }
}

/// The same, compiled once, for casts that are rare.
#[inline(never)]
pub(super) fn put_rare<T: Copy, D>(to: Target<'_, D>, from: &[T], cast: fn(T) -> D) {
    put(to, from, cast);
}

/// Copies the elements of a view of f16, in its order. Casts go by many at once: there are
/// instructions for that.
pub(super) fn gather_f16(operand: &Operand, data: &[f16], to: Target<'_, f32>, place: usize) {
    let mut rest = to;
    let len = rest.len();
    operand.access.runs(place, len, |from, stride, count| {
        let (to, after) = std::mem::take(&mut rest).split_at_mut(count);
        if stride == 1 {
            let data = &data[from..from + count];
            for (to, from) in to.chunks_mut(HALVES).zip(data.chunks(HALVES)) {
                let mut part = [0f32; HALVES];
                let part = &mut part[..to.len()];
                from.convert_to_f32_slice(part);
                put(to, part, |x| x);
            }
        } else {
            for (i, to) in to.chunks_mut(HALVES).enumerate() {
                let (mut part, mut picked) = ([0f32; HALVES], [f16::ZERO; HALVES]);
                let first = from + i * HALVES * stride;
                let elements = (0..to.len()).map(|j| data[first + j * stride]);
                picked.iter_mut().zip(elements).for_each(|(to, x)| *to = x);
                picked.convert_to_f32_slice(&mut part);
                put(to, &part[..to.len()], |x| x);
            }
        }
        rest = after;
    });
}

/// Rounds to f16.
pub(super) fn put_f16(to: Target<'_, f16>, from: &[f32]) {
    assert_eq!(to.len(), from.len());
    for (to, from) in to.chunks_mut(HALVES).zip(from.chunks(HALVES)) {
        let mut part = [f16::ZERO; HALVES];
        let part = &mut part[..from.len()];
        part.convert_from_f32_slice(from);
        put(to, part, |x| x);
    }
}

/// Rounds to f16, and stays f32.
pub(super) fn round_f16(to: Target<'_, f32>, from: &[f32]) {
    assert_eq!(to.len(), from.len());
    for (to, from) in to.chunks_mut(HALVES).zip(from.chunks(HALVES)) {
        let (mut part, mut wide) = ([f16::ZERO; HALVES], [0f32; HALVES]);
        part[..from.len()].convert_from_f32_slice(from);
        part.convert_to_f32_slice(&mut wide);
        put(to, &wide[..from.len()], |x| x);
    }
}

/// The value of a bf16, which is the upper half of an f32.
#[inline(always)]
pub(super) fn from_bf16(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// The value of an f16. What is too large for a finite one after the change of the exponent is
/// infinite or no number.
#[inline(always)]
pub(super) fn from_f16(x: f16) -> f32 {
    const LIFT: f32 = f32::from_bits(0x7780_0000); // 2 to the 112
    let bits = u32::from(x.to_bits());
    let size = f32::from_bits((bits & 0x7fff) << 13) * LIFT;
    let special = if size >= 65536.0 { 0x7f80_0000 } else { 0 };
    f32::from_bits(size.to_bits() | special | (bits & 0x8000) << 16)
}

/// Rounds to bf16, half to even.
#[inline(always)]
pub(super) fn to_bf16(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    bf16::from_bits(if x.is_nan() { quiet } else { rounded } as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_has_the_value_that_half_says() {
        for bits in 0..=u16::MAX {
            let (got, expected) = (
                from_f16(f16::from_bits(bits)),
                f16::from_bits(bits).to_f32(),
            );
            let same = got.to_bits() == expected.to_bits();
            assert!(
                same || got.is_nan() && expected.is_nan(),
                "{bits:x}: {got} {expected}"
            );
        }
    }

    #[test]
    fn bf16_is_rounded_as_by_half() {
        for bits in (0..=u32::MAX).step_by(4099).chain(0x7f7f_0000..0x7f81_0000) {
            let x = f32::from_bits(bits);
            let (got, expected) = (to_bf16(x), bf16::from_f32(x));
            assert_eq!(got.to_bits(), expected.to_bits(), "{x:e} {bits:x}");
            assert_eq!(from_bf16(got).to_bits(), expected.to_f32().to_bits());
        }
    }
}
