//! Operations that make one number of many.

use super::infer::{computes, count, is_float, refuse};
use super::node::{Dims, LazyTensor};
use super::op::{Axes, Op, ReduceOp};
use crate::error::{Reason, Result};
use candle_core::DType;
use candle_core::shape::{Dim, Dims as DimList};

macro_rules! reduce_one {
    ($($(#[$doc:meta])* $name:ident $keepdim:ident $op:ident;)*) => {
        /// # Along one dimension
        ///
        /// `Err` for a dimension that does not exist and for a tensor without elements.
        impl LazyTensor {
            $(
                $(#[$doc])*
                pub fn $name<D: Dim>(&self, dim: D) -> Result<Self> {
                    self.reduce_one(ReduceOp::$op, dim, false)
                }

                #[doc = concat!("[`", stringify!($name), "`](Self::", stringify!($name),
                    ") that keeps the dimension, with size 1.")]
                pub fn $keepdim<D: Dim>(&self, dim: D) -> Result<Self> {
                    self.reduce_one(ReduceOp::$op, dim, true)
                }
            )*
        }
    };
}

reduce_one! {
    /// The largest element. Any dtype.
    max max_keepdim Max;
    /// The smallest element. Any dtype.
    min min_keepdim Min;
    /// The index of the largest element, as `u32`. Any dtype.
    ///
    /// ```
    /// use candlewick::{D, Device, Executor, LazyTensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let x = LazyTensor::new(&[[1f32, 5.0, 3.0], [9.0, 7.0, 8.0]], &Device::Cpu)?;
    /// let y = executor.run(&x.argmax(D::Minus1)?)?;
    /// assert_eq!(y.to_vec1::<u32>()?, [1, 0]);
    /// assert_eq!(x.argmax(2).unwrap_err().to_string(), "argmax([2, 3] f32): no dimension 2 in rank 2");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    argmax argmax_keepdim ArgMax;
    /// The index of the smallest element, as `u32`. Any dtype.
    argmin argmin_keepdim ArgMin;
}

/// # Sums, means, variances
impl LazyTensor {
    /// The sum over one or several dimensions. Any dtype; `Err` for a dimension that does not
    /// exist or is named twice.
    pub fn sum<D: DimList>(&self, dims: D) -> Result<Self> {
        let axes = self.axes("sum", dims)?;
        self.reduce(ReduceOp::Sum, axes, false)
    }

    /// [`sum`](Self::sum) that keeps the dimensions, with size 1.
    pub fn sum_keepdim<D: DimList>(&self, dims: D) -> Result<Self> {
        let axes = self.axes("sum_keepdim", dims)?;
        self.reduce(ReduceOp::Sum, axes, true)
    }

    /// The mean over one or several dimensions: the sum times the inverse of the count, in the
    /// tensor's dtype. Any dtype (for integers that inverse is 0, as in Candle).
    pub fn mean<D: DimList>(&self, dims: D) -> Result<Self> {
        let axes = self.axes("mean", dims)?;
        self.mean_impl(axes, false)
    }

    /// [`mean`](Self::mean) that keeps the dimensions, with size 1.
    pub fn mean_keepdim<D: DimList>(&self, dims: D) -> Result<Self> {
        let axes = self.axes("mean_keepdim", dims)?;
        self.mean_impl(axes, true)
    }

    /// The variance along a dimension, of a sample: the divisor is one less than the count.
    /// Floats; `Err` for integers and for a dimension of size 0.
    pub fn var<D: Dim>(&self, dim: D) -> Result<Self> {
        let dim = self.axis("var", dim)?;
        self.var_impl("var", dim)?.squeeze(dim)
    }

    /// [`var`](Self::var) that keeps the dimension, with size 1.
    pub fn var_keepdim<D: Dim>(&self, dim: D) -> Result<Self> {
        let dim = self.axis("var_keepdim", dim)?;
        self.var_impl("var_keepdim", dim)
    }

    /// The sum of all elements, a scalar.
    pub fn sum_all(&self) -> Result<Self> {
        self.reduce(ReduceOp::Sum, (0..self.rank()).collect(), false)
    }

    /// The mean of all elements, a scalar.
    pub fn mean_all(&self) -> Result<Self> {
        self.sum_all()?
            .affine(1.0 / count(&self.0.dims) as f64, 0.0)
    }

    /// The largest of all elements, a scalar. `Err` if there are none.
    pub fn max_all(&self) -> Result<Self> {
        self.extreme("max_all", ReduceOp::Max)
    }

    /// The smallest of all elements, a scalar. `Err` if there are none.
    pub fn min_all(&self) -> Result<Self> {
        self.extreme("min_all", ReduceOp::Min)
    }

    fn extreme(&self, name: &'static str, op: ReduceOp) -> Result<Self> {
        self.need_dtype(name, computes)?;
        self.need_elements(name)?;
        if self.rank() == 0 {
            return Ok(self.clone());
        }
        self.flatten_all()?.reduce_one(op, 0, false)
    }

    fn mean_impl(&self, axes: Axes, keepdim: bool) -> Result<Self> {
        let over: usize = axes.iter().map(|&i| self.0.dims[i]).product();
        self.reduce(ReduceOp::Sum, axes, keepdim)?
            .affine(1.0 / over as f64, 0.0)
    }

    fn var_impl(&self, op: &'static str, dim: usize) -> Result<Self> {
        self.need_dtype(op, is_float)?;
        let Some(divisor) = self.0.dims[dim].checked_sub(1) else {
            let reason = Reason::Argument {
                name: "the dimension",
                must: "non-empty",
            };
            return Err(self.refuse(op, reason));
        };
        let mean = self.mean_keepdim(dim)?;
        let squares = self.broadcast_sub(&mean)?.sqr()?;
        squares.sum_keepdim(dim)?.affine(1.0 / divisor as f64, 0.0)
    }

    fn reduce_one<D: Dim>(&self, op: ReduceOp, dim: D, keepdim: bool) -> Result<Self> {
        let name = op.name(keepdim);
        let dim = self.axis(name, dim)?;
        self.need_elements(name)?;
        self.reduce(op, Axes::from_slice(&[dim]), keepdim)
    }

    fn reduce(&self, op: ReduceOp, axes: Axes, keepdim: bool) -> Result<Self> {
        self.need_dtype(op.name(keepdim), computes)?;
        let dims: Dims = (self.0.dims.iter().enumerate())
            .filter_map(|(i, &d)| match (axes.contains(&i), keepdim) {
                (false, _) => Some(d),
                (true, keep) => keep.then_some(1),
            })
            .collect();
        let dtype = match op {
            ReduceOp::ArgMax | ReduceOp::ArgMin => DType::U32,
            _ => self.0.dtype,
        };
        Self::build(
            Op::Reduce {
                op,
                dims: axes,
                keepdim,
            },
            &[self],
            dims,
            dtype,
        )
    }
}

/// # Normalization
impl LazyTensor {
    /// Exponentials along a dimension, scaled to sum to one. Floats; `Err` for integers, a
    /// dimension that does not exist, and tensors without elements.
    ///
    /// ```
    /// use candlewick::{D, Device, Executor, LazyTensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let x = LazyTensor::new(&[[1f32, 1.0], [0.0, 0.0]], &Device::Cpu)?;
    /// let y = executor.run(&x.softmax(D::Minus1)?)?;
    /// assert_eq!(y.to_vec2::<f32>()?, [[0.5, 0.5], [0.5, 0.5]]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn softmax<D: Dim>(&self, dim: D) -> Result<Self> {
        let dim = self.check_softmax("softmax", dim)?;
        Ok(self.build_same(Op::Softmax(dim)))
    }

    /// The logarithm of [`softmax`](Self::softmax), computed without forming it.
    pub fn log_softmax<D: Dim>(&self, dim: D) -> Result<Self> {
        let dim = self.check_softmax("log_softmax", dim)?;
        Ok(self.build_same(Op::LogSoftmax(dim)))
    }

    /// [`softmax`](Self::softmax) over the last dimension by Candle's operation of its own, which
    /// is faster and may differ in the last bit. f32, f64, f16, bf16.
    pub fn softmax_last_dim(&self) -> Result<Self> {
        self.check_softmax("softmax_last_dim", candle_core::D::Minus1)?;
        let own = |d| matches!(d, DType::F32 | DType::F64 | DType::F16 | DType::BF16);
        self.need_dtype("softmax_last_dim", own)?;
        Ok(self.build_same(Op::SoftmaxLastDim))
    }

    fn check_softmax<D: Dim>(&self, op: &'static str, dim: D) -> Result<usize> {
        let dim = self.axis(op, dim)?;
        self.need_dtype(op, is_float)?;
        self.need_elements(op)?;
        Ok(dim)
    }

    /// Divides by the root of the mean square over the last dimension, then multiplies by
    /// `alpha`, which has that dimension's size. f32, f16, bf16, all of one dtype.
    pub fn rms_norm(&self, alpha: &Self, eps: f32) -> Result<Self> {
        self.norm("rms_norm", Op::RmsNorm { eps }, &[self, alpha])
    }

    /// Shifts and scales to mean zero and variance one over the last dimension, then multiplies
    /// by `alpha` and adds `beta`, which have that dimension's size. f32, f16, bf16, all of one
    /// dtype.
    pub fn layer_norm(&self, alpha: &Self, beta: &Self, eps: f32) -> Result<Self> {
        self.norm("layer_norm", Op::LayerNorm { eps }, &[self, alpha, beta])
    }

    fn norm(&self, name: &'static str, op: Op, operands: &[&Self]) -> Result<Self> {
        let Some(size) = self.0.dims.last() else {
            let reason = Reason::Rank {
                expected: "at least one dimension",
                got: 0,
            };
            return Err(refuse(name, operands, reason));
        };
        if operands[1..].iter().any(|x| x.dims() != [*size]) {
            return Err(refuse(name, operands, Reason::Shapes));
        }
        let dtype = super::infer::same_dtype(name, operands)?;
        if !super::infer::is_norm_float(dtype) {
            return Err(refuse(name, operands, Reason::UnsupportedDType(dtype)));
        }
        Self::build(op, operands, self.0.dims.clone(), dtype)
    }
}
