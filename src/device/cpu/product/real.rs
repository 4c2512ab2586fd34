//! The numbers that products are summed in, and those that are widened to them.

use super::matrix::{AnyMat, Mat};
use super::packed::Plain;
use crate::device::cpu::data::{Data, Stored, from_bf16, from_f16};
use crate::device::cpu::number::Element;
use half::{bf16, f16};
use pulp::Simd;
use std::fmt::Debug;

/// A type that products are summed in.
pub(super) trait Real: Element + Plain + Stored + Panel<Sum = Self> {
    /// What panels of weights are made of that are kept as they are.
    type Short: Panel<Sum = Self> + Source<Self::Short>;
    type Register<S: Simd>: Copy;

    /// The elements of a register.
    fn lanes<S: Simd>() -> usize;
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Register<S>;
    /// `a * b + sum`, fused where the instruction set can, for every element alike.
    fn mul_add<S: Simd>(
        simd: S,
        a: Self::Register<S>,
        b: Self::Register<S>,
        sum: Self::Register<S>,
    ) -> Self::Register<S>;
    /// The registers of a slice, and what is left over.
    fn registers_of<S: Simd>(slice: &[Self]) -> (&[Self::Register<S>], &[Self]);
    /// The sum of the elements of a register.
    fn total<S: Simd>(simd: S, a: Self::Register<S>) -> Self;
    fn of_f32(x: f32) -> Self;
    /// A matrix that is worth keeping as it is.
    fn short<'a>(mat: &AnyMat<'a, Self>) -> Option<Mat<'a, Self::Short>>;
    /// These numbers as an operand of a program.
    fn data(numbers: &[Self]) -> Data<'_>;
}

/// What a panel's rows are made of.
pub(super) trait Panel: Copy + Default + Debug + Plain + Send + Sync + 'static {
    type Sum: Real;

    /// Whether the columns stand in a row as they do in the matrix.
    const IN_ORDER: bool = true;

    /// Exchanges rows and columns.
    #[inline(always)]
    fn turned(columns: [[Self; SIDE]; SIDE]) -> [[Self; SIDE]; SIDE] {
        std::array::from_fn(|i| std::array::from_fn(|j| columns[j][i]))
    }
    /// Where the column `i` of a register stands in a row.
    fn place(register: usize, i: usize, lanes: usize) -> usize;
    /// One of the registers of a row, widened.
    ///
    /// # Safety
    /// The row is readable.
    unsafe fn load<S: Simd>(
        simd: S,
        row: *const Self,
        register: usize,
    ) -> <Self::Sum as Real>::Register<S>;
}

macro_rules! panel {
    ($type:ident $($turned:item)?) => {
        impl Panel for $type {
            type Sum = Self;

            $($turned)?

            #[inline(always)]
            fn place(register: usize, i: usize, lanes: usize) -> usize {
                register * lanes + i
            }
            // SAFETY: as the trait says.
            #[inline(always)]
            unsafe fn load<S: Simd>(
                _: S,
                row: *const Self,
                register: usize,
            ) -> <Self as Real>::Register<S> {
                let from = row.wrapping_add(register * Self::lanes::<S>());
                // SAFETY: the caller's promise.
                unsafe { from.cast::<<Self as Real>::Register<S>>().read_unaligned() }
            }
        }
    };
}
panel!(f32
    /// Spelled with the baseline instructions of this architecture: the compiler does not find
    /// them, and moves single elements instead.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn turned(columns: [[f32; SIDE]; SIDE]) -> [[f32; SIDE]; SIDE] {
        use std::arch::x86_64::{
            __m128, _mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps,
        };
        use std::mem::transmute;
        // SAFETY: both types are 64 bytes of plain numbers, and SSE belongs to every x86-64.
        unsafe {
            let [a, b, c, d] = transmute::<[[f32; SIDE]; SIDE], [__m128; SIDE]>(columns);
            let (low_ab, low_cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
            let (high_ab, high_cd) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
            transmute::<[__m128; SIDE], [[f32; SIDE]; SIDE]>([
                _mm_movelh_ps(low_ab, low_cd),
                _mm_movehl_ps(low_cd, low_ab),
                _mm_movelh_ps(high_ab, high_cd),
                _mm_movehl_ps(high_cd, high_ab),
            ])
        }
    }
);
panel!(f64);

/// A bf16 is the upper half of an f32. So the first register's columns stand in the lower halves of
/// the words of a row, and the second's in the upper ones: each is one operation away.
impl Panel for bf16 {
    type Sum = f32;
    const IN_ORDER: bool = false;

    #[inline(always)]
    fn place(register: usize, i: usize, _: usize) -> usize {
        // the lower half of a word comes first in memory, or last
        let comes_last = register == usize::from(cfg!(target_endian = "little"));
        2 * i + usize::from(comes_last)
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, row: *const Self, register: usize) -> S::f32s {
        // SAFETY: the caller's promise; a row has as many words as a register.
        let words = unsafe { row.cast::<S::u32s>().read_unaligned() };
        simd.transmute_f32s_u32s(match register {
            0 => simd.wrapping_dyn_shl_u32s(words, simd.splat_u32s(16)),
            _ => simd.and_u32s(words, simd.splat_u32s(0xffff_0000)),
        })
    }
}

/// Side of the blocks that are transposed in registers.
pub(super) const SIDE: usize = 4;

macro_rules! real {
    ($type:ident $variant:ident $register:ident $lanes:ident $splat:ident $mul_add:ident $slice:ident $total:ident) => {
        type Register<S: Simd> = S::$register;

        #[inline(always)]
        fn lanes<S: Simd>() -> usize {
            S::$lanes
        }
        #[inline(always)]
        fn splat<S: Simd>(simd: S, x: Self) -> Self::Register<S> {
            simd.$splat(x)
        }
        #[inline(always)]
        fn mul_add<S: Simd>(
            simd: S,
            a: Self::Register<S>,
            b: Self::Register<S>,
            sum: Self::Register<S>,
        ) -> Self::Register<S> {
            simd.$mul_add(a, b, sum)
        }
        #[inline(always)]
        fn registers_of<S: Simd>(slice: &[Self]) -> (&[Self::Register<S>], &[Self]) {
            S::$slice(slice)
        }
        #[inline(always)]
        fn total<S: Simd>(simd: S, a: Self::Register<S>) -> Self {
            simd.$total(a)
        }
        #[inline(always)]
        fn of_f32(x: f32) -> Self {
            $type::from(x)
        }
        fn data(numbers: &[Self]) -> Data<'_> {
            Data::$variant(numbers)
        }
    };
}

impl Real for f32 {
    type Short = bf16;

    fn short<'a>(mat: &AnyMat<'a, f32>) -> Option<Mat<'a, bf16>> {
        match mat {
            AnyMat::BF16(mat) => Some(*mat),
            _ => None,
        }
    }
    real!(f32 F32 f32s F32_LANES splat_f32s mul_add_e_f32s as_simd_f32s reduce_sum_f32s);
}

impl Real for f64 {
    type Short = f64;

    fn short<'a>(_: &AnyMat<'a, f64>) -> Option<Mat<'a, f64>> {
        None
    }
    real!(f64 F64 f64s F64_LANES splat_f64s mul_add_e_f64s as_simd_f64s reduce_sum_f64s);
}

/// A type of operands, whose elements are widened to those that are summed.
pub(super) trait Source<R>: Copy {
    fn wide(self) -> R;
}

impl<R: Real> Source<R> for R {
    #[inline(always)]
    fn wide(self) -> R {
        self
    }
}

impl<R: Real> Source<R> for bf16 {
    #[inline(always)]
    fn wide(self) -> R {
        R::of_f32(from_bf16(self))
    }
}

impl Source<bf16> for bf16 {
    #[inline(always)]
    fn wide(self) -> bf16 {
        self
    }
}

impl<R: Real> Source<R> for f16 {
    #[inline(always)]
    fn wide(self) -> R {
        R::of_f32(from_f16(self))
    }
}
