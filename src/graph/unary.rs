//! Operations on each element of one tensor.

use super::infer::{computes, is_float, is_wide_float};
use super::node::LazyTensor;
use super::op::{Op, UnaryOp};
use crate::error::{Reason, Result};
use candle_core::scalar::Scalar;
use candle_core::{DType, Device};
use std::sync::Arc;

impl UnaryOp {
    /// The dtypes for which Candle has it. For the others it panics while it runs.
    fn takes(self) -> fn(DType) -> bool {
        use UnaryOp::*;
        match self {
            Neg | Recip | Sqr | Sqrt | Exp | Log | Sin | Cos | Tanh => is_float,
            Sigmoid => is_wide_float,
            Erf | Abs | Floor | Ceil | Round | Sign | Relu | Gelu | GeluErf | Silu => computes,
        }
    }
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident $op:ident;)*) => {
        /// # Element by element
        ///
        /// Each keeps shape and dtype, and is an `Err` for a dtype that it does not take.
        impl LazyTensor {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> Result<Self> {
                    self.unary(UnaryOp::$op)
                }
            )*
        }
    };
}

unary! {
    /// `-x`. Floats.
    neg Neg;
    /// `1 / x`. Floats.
    recip Recip;
    /// `x * x`. Floats.
    sqr Sqr;
    /// The square root. Floats.
    sqrt Sqrt;
    /// `e` to the power of `x`. Floats.
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let x = LazyTensor::new(&[0f32, 1.0], &Device::Cpu)?;
    /// let y = executor.run(&x.exp()?)?;
    /// assert_eq!(y.to_vec1::<f32>()?, [1.0, 1f32.exp()]);
    /// let ids = LazyTensor::new(&[1u32], &Device::Cpu)?;
    /// assert_eq!(ids.exp().unwrap_err().to_string(), "exp([1] u32): not supported for u32");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    exp Exp;
    /// The natural logarithm. Floats.
    log Log;
    /// The sine. Floats.
    sin Sin;
    /// The cosine. Floats.
    cos Cos;
    /// The hyperbolic tangent. Floats.
    tanh Tanh;
    /// The error function. Floats; integers become 0, as in Candle.
    erf Erf;
    /// The absolute value. Any dtype.
    abs Abs;
    /// Rounded down. Any dtype.
    floor Floor;
    /// Rounded up. Any dtype.
    ceil Ceil;
    /// Rounded to the nearest integer, halves away from zero. Any dtype.
    round Round;
    /// -1, 0 or 1. Any dtype.
    sign Sign;
    /// `x` where positive, else 0. Any dtype.
    relu Relu;
    /// Gaussian error linear unit, by its tanh approximation. Floats; integers become 0, as in
    /// Candle.
    gelu Gelu;
    /// Gaussian error linear unit, exactly. Floats; integers become 0, as in Candle.
    gelu_erf GeluErf;
    /// `x * sigmoid(x)`. Floats; integers become 0, as in Candle.
    silu Silu;
    /// `1 / (1 + exp(-x))`. Floats of at least 16 bits.
    sigmoid Sigmoid;
}

impl LazyTensor {
    #[inline]
    fn unary(&self, op: UnaryOp) -> Result<Self> {
        self.need_dtype(op.name(), op.takes())?;
        Ok(self.build_same(Op::Unary(op)))
    }

    /// `x` where positive, else `alpha * (exp(x) - 1)`. Floats; `Err` for integers.
    pub fn elu(&self, alpha: f64) -> Result<Self> {
        self.need_dtype("elu", is_float)?;
        Ok(self.build_same(Op::Elu(alpha)))
    }

    /// `x` to the power of a number. Floats; `Err` for integers.
    pub fn powf(&self, exponent: f64) -> Result<Self> {
        self.need_dtype("powf", is_float)?;
        Ok(self.build_same(Op::Powf(exponent)))
    }

    /// `x * mul + add`, both cast to the tensor's dtype first. Any dtype.
    pub fn affine(&self, mul: f64, add: f64) -> Result<Self> {
        self.need_dtype("affine", computes)?;
        Ok(self.build_same(Op::Affine { mul, add }))
    }

    /// The elements as another dtype, cast as Rust's `as` does it. `Err` for dtypes that can only
    /// be stored.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        self.need_dtype("to_dtype", computes)?;
        if !computes(dtype) {
            return Err(self.refuse("to_dtype", Reason::UnsupportedDType(dtype)));
        }
        if dtype == self.0.dtype {
            return Ok(self.clone());
        }
        Self::build(Op::ToDType(dtype), &[self], self.0.dims.clone(), dtype)
    }

    /// The tensor on another device: from the host to the executor's device, or back. An
    /// executor runs operations on its own device and on the host.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        self.need_dtype("to_device", computes)?;
        let location = device.location();
        if location == self.0.location {
            return Ok(self.clone());
        }
        let op = Op::ToDevice(Arc::new(device.clone()));
        let inputs = [self.clone()].into_iter().collect();
        Ok(Self::from_op(
            op,
            inputs,
            self.0.dims.clone(),
            self.0.dtype,
            location,
        ))
    }

    /// A tensor of the same shape, dtype and device, of zeros.
    pub fn zeros_like(&self) -> Result<Self> {
        self.fill_like(Scalar::zero)
    }

    /// A tensor of the same shape, dtype and device, of ones.
    pub fn ones_like(&self) -> Result<Self> {
        self.fill_like(Scalar::one)
    }

    fn fill_like(&self, value: fn(DType) -> Scalar) -> Result<Self> {
        self.need_dtype("fill", computes)?;
        let op = Op::Fill {
            value: value(self.0.dtype),
            dims: self.dims().into(),
        };
        if self.0.location == super::node::host() {
            // nothing of `self` is needed, so it is not kept
            Self::build(op, &[], self.0.dims.clone(), self.0.dtype)
        } else {
            Ok(self.build_same(op))
        }
    }
}
