//! Operations on two tensors element by element.

use super::infer::{broadcast, computes, is_float, refuse, same_dtype};
use super::node::{Dims, Inputs, LazyTensor, copy};
use super::op::{BinaryOp, CompareOp, Op};
use crate::error::{Reason, Result};
use candle_core::scalar::Scalar;
use candle_core::{DType, WithDType};

/// What can stand on the right of an element-wise operation: `&LazyTensor`, or one number of any
/// of Candle's element types, which is cast to the tensor's dtype.
///
/// As [`candle_core::scalar::TensorOrScalar`].
pub trait TensorOrScalar {
    /// Which of the two it is.
    #[doc(hidden)]
    fn right(&self) -> Right<'_>;
}

/// The right side of an element-wise operation.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Right<'a> {
    /// A tensor.
    Tensor(&'a LazyTensor),
    /// One number.
    Scalar(Scalar),
    /// A number of a dtype that can only be stored.
    Unsupported(DType),
}

impl TensorOrScalar for &LazyTensor {
    fn right(&self) -> Right<'_> {
        Right::Tensor(self)
    }
}

impl<T: WithDType> TensorOrScalar for T {
    fn right(&self) -> Right<'_> {
        if computes(T::DTYPE) {
            Right::Scalar(self.to_scalar())
        } else {
            Right::Unsupported(T::DTYPE)
        }
    }
}

/// What an element-wise operation of two operands makes.
#[derive(Clone, Copy)]
enum Kind {
    Binary(BinaryOp),
    Compare(CompareOp),
}

impl Kind {
    fn name(self, broadcast: bool) -> &'static str {
        match self {
            Kind::Binary(op) => op.name(broadcast),
            Kind::Compare(op) => op.name(broadcast),
        }
    }

    fn of_tensors(self, broadcast: bool) -> Op {
        match self {
            Kind::Binary(op) => Op::Binary { op, broadcast },
            Kind::Compare(op) => Op::Compare { op, broadcast },
        }
    }

    fn of_scalar(self, value: Scalar) -> Op {
        match self {
            Kind::Binary(op) => Op::BinaryScalar { op, value },
            Kind::Compare(op) => Op::CompareScalar { op, value },
        }
    }

    fn dtype(self, operands: DType) -> DType {
        match self {
            Kind::Binary(_) => operands,
            Kind::Compare(_) => DType::U8,
        }
    }
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident $broadcast:ident $kind:ident::$op:ident;)*) => {
        /// # Two operands, element by element
        ///
        /// The right side is a tensor of the same shape and dtype, or a number. The variants
        /// that start with `broadcast_` take two tensors whose shapes broadcast together.
        /// `Err` if shapes or dtypes do not agree. Comparisons make `u8`: 1 where it holds.
        impl LazyTensor {
            $(
                $(#[$doc])*
                pub fn $name<T: TensorOrScalar>(&self, rhs: T) -> Result<Self> {
                    self.elementwise(Kind::$kind($kind::$op), rhs.right())
                }

                #[doc = concat!("[`", stringify!($name), "`](Self::", stringify!($name),
                    ") of shapes that broadcast together; `Err` if they do not, or the dtypes differ.")]
                pub fn $broadcast(&self, rhs: &LazyTensor) -> Result<Self> {
                    self.elementwise_broadcast(Kind::$kind($kind::$op), rhs)
                }
            )*
        }
    };
}

use {BinaryOp as Binary, CompareOp as Compare};

binary! {
    /// The sum.
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let x = LazyTensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
    /// let row = LazyTensor::new(&[10f32, 20.0], &Device::Cpu)?;
    /// let y = x.broadcast_add(&row)?.maximum(14.0)?;
    /// let y = executor.run(&y)?;
    /// assert_eq!(y.to_vec2::<f32>()?, [[14.0, 22.0], [14.0, 24.0]]);
    /// let error = x.add(&row).unwrap_err();
    /// assert_eq!(error.to_string(), "add([2, 2] f32, [2] f32): the shapes do not agree");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    add broadcast_add Binary::Add;
    /// The difference.
    sub broadcast_sub Binary::Sub;
    /// The product.
    mul broadcast_mul Binary::Mul;
    /// The quotient. Dividing integers by zero fails when it runs.
    div broadcast_div Binary::Div;
    /// The larger of the two.
    maximum broadcast_maximum Binary::Maximum;
    /// The smaller of the two.
    minimum broadcast_minimum Binary::Minimum;
    /// Whether they are equal.
    eq broadcast_eq Compare::Eq;
    /// Whether they differ.
    ne broadcast_ne Compare::Ne;
    /// Whether the left is less.
    lt broadcast_lt Compare::Lt;
    /// Whether the left is less or equal.
    le broadcast_le Compare::Le;
    /// Whether the left is greater.
    gt broadcast_gt Compare::Gt;
    /// Whether the left is greater or equal.
    ge broadcast_ge Compare::Ge;
}

impl LazyTensor {
    #[inline]
    fn elementwise(&self, kind: Kind, rhs: Right<'_>) -> Result<Self> {
        let op = kind.name(false);
        let (made, rhs) = match rhs {
            Right::Tensor(rhs) => {
                if self.0.dims != rhs.0.dims {
                    return Err(refuse(op, &[self, rhs], Reason::Shapes));
                }
                same_dtype(op, &[self, rhs])?;
                if self.0.location != rhs.0.location {
                    let reason = Reason::Devices(self.0.location, rhs.0.location);
                    return Err(refuse(op, &[self, rhs], reason));
                }
                (kind.of_tensors(false), Some(rhs))
            }
            Right::Scalar(value) => (kind.of_scalar(value), None),
            Right::Unsupported(dtype) => {
                return Err(self.refuse(op, Reason::UnsupportedDType(dtype)));
            }
        };
        self.need_dtype(op, computes)?;
        let mut inputs = Inputs::new();
        inputs.push(self.clone());
        if let Some(rhs) = rhs {
            inputs.push(rhs.clone());
        }
        let dtype = kind.dtype(self.0.dtype);
        Ok(Self::from_op(
            made,
            inputs,
            copy(&self.0.dims),
            dtype,
            self.0.location,
        ))
    }

    fn elementwise_broadcast(&self, kind: Kind, rhs: &LazyTensor) -> Result<Self> {
        let op = kind.name(true);
        let Some(dims) = broadcast(&self.0.dims, &rhs.0.dims) else {
            return Err(refuse(op, &[self, rhs], Reason::Broadcast));
        };
        let dtype = same_dtype(op, &[self, rhs])?;
        self.need_dtype(op, computes)?;
        Self::build(kind.of_tensors(true), &[self, rhs], dims, kind.dtype(dtype))
    }

    /// `self` to the power of `rhs`, as `exp(rhs * log(self))`. Floats of one dtype; `rhs` is a
    /// tensor of the same shape, or a number.
    pub fn pow<T: TensorOrScalar>(&self, rhs: T) -> Result<Self> {
        match rhs.right() {
            Right::Tensor(rhs) => {
                if self.0.dims != rhs.0.dims {
                    return Err(refuse("pow", &[self, rhs], Reason::Shapes));
                }
                self.check_pow("pow", rhs)?;
                rhs.mul(&self.log()?)?.exp()
            }
            value => {
                self.need_dtype("pow", is_float)?;
                self.log()?
                    .elementwise(Kind::Binary(BinaryOp::Mul), value)?
                    .exp()
            }
        }
    }

    /// [`pow`](Self::pow) of shapes that broadcast together.
    pub fn broadcast_pow(&self, rhs: &LazyTensor) -> Result<Self> {
        if broadcast(&self.0.dims, &rhs.0.dims).is_none() {
            return Err(refuse("broadcast_pow", &[self, rhs], Reason::Broadcast));
        }
        self.check_pow("broadcast_pow", rhs)?;
        rhs.broadcast_mul(&self.log()?)?.exp()
    }

    fn check_pow(&self, op: &'static str, rhs: &LazyTensor) -> Result<()> {
        same_dtype(op, &[self, rhs])?;
        self.need_dtype(op, is_float)
    }

    /// Limits every element to between `min` and `max`, each a number or a tensor of the same
    /// shape and dtype.
    pub fn clamp<T1: TensorOrScalar, T2: TensorOrScalar>(&self, min: T1, max: T2) -> Result<Self> {
        self.maximum(min)?.minimum(max)
    }

    /// Takes from `on_true` where this tensor is not 0, else from `on_false`. This one is of
    /// integers; the other two are of one dtype; all have the same shape. `Err` otherwise.
    pub fn where_cond(&self, on_true: &Self, on_false: &Self) -> Result<Self> {
        let operands = [self, on_true, on_false];
        if self.0.dims != on_true.0.dims || self.0.dims != on_false.0.dims {
            return Err(refuse("where_cond", &operands, Reason::Shapes));
        }
        let dtype = on_true.0.dtype;
        if dtype != on_false.0.dtype {
            return Err(refuse("where_cond", &operands, Reason::DTypes));
        }
        let bad = if !self.0.dtype.is_int() {
            self.0.dtype
        } else {
            dtype
        };
        if !self.0.dtype.is_int() || !computes(dtype) {
            return Err(refuse(
                "where_cond",
                &operands,
                Reason::UnsupportedDType(bad),
            ));
        }
        let dims: Dims = self.0.dims.clone();
        Self::build(Op::WhereCond, &operands, dims, dtype)
    }
}
