//! Matrix products.

use super::infer::{broadcast, fits, is_norm_float, is_wide_float, refuse, same_dtype};
use super::node::{Dims, LazyTensor, copy};
use super::op::{Op, Weight};
use crate::error::{Reason, Result};
use candle_core::DType;
use candle_core::quantized::{GgmlDType, QTensor};
use std::sync::Arc;

/// # Matrix products
impl LazyTensor {
    /// The matrix product of `[.., m, k]` and `[.., k, n]`: two operands of the same rank, at
    /// least 2, with equally many leading matrices. f32, f64, f16, bf16; `Err` if shapes or
    /// dtypes do not agree.
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let x = LazyTensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
    /// let y = executor.run(&x.matmul(&x.t()?)?)?;
    /// assert_eq!(y.to_vec2::<f32>()?, [[5.0]]);
    /// let error = x.matmul(&x).unwrap_err();
    /// assert_eq!(error.to_string(), "matmul([1, 2] f32, [1, 2] f32): the shapes do not agree");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn matmul(&self, rhs: &Self) -> Result<Self> {
        let (a, b) = (&self.0.dims, &rhs.0.dims);
        let rank = a.len();
        let agree = rank >= 2
            && b.len() == rank
            && a[rank - 1] == b[rank - 2]
            && a[..rank - 2].iter().product::<usize>() == b[..rank - 2].iter().product::<usize>();
        if !agree {
            return Err(refuse("matmul", &[self, rhs], Reason::Shapes));
        }
        let dtype = self.check_product("matmul", rhs)?;
        let mut dims = copy(a);
        dims[rank - 1] = b[rank - 1];
        Self::build(Op::Matmul, &[self, rhs], dims, dtype)
    }

    /// [`matmul`](Self::matmul) of two operands of rank at least 2 whose leading dimensions
    /// broadcast together.
    pub fn broadcast_matmul(&self, rhs: &Self) -> Result<Self> {
        let (a, b) = (&self.0.dims, &rhs.0.dims);
        let ([batch_a @ .., m, k], [batch_b @ .., k2, n]) = (&a[..], &b[..]) else {
            return Err(refuse("broadcast_matmul", &[self, rhs], Reason::Shapes));
        };
        if k != k2 {
            return Err(refuse("broadcast_matmul", &[self, rhs], Reason::Shapes));
        }
        let Some(batch) = broadcast(batch_a, batch_b) else {
            return Err(refuse("broadcast_matmul", &[self, rhs], Reason::Broadcast));
        };
        let dtype = self.check_product("broadcast_matmul", rhs)?;
        let of = |rows: usize, columns: usize| -> Dims {
            batch.iter().copied().chain([rows, columns]).collect()
        };
        // the operands are laid out for every matrix
        if !fits(&of(*m, *k), dtype) || !fits(&of(*k, *n), dtype) {
            return Err(refuse("broadcast_matmul", &[self, rhs], Reason::Overflow));
        }
        Self::build(Op::BroadcastMatmul, &[self, rhs], of(*m, *n), dtype)
    }

    fn check_product(&self, op: &'static str, rhs: &Self) -> Result<DType> {
        let dtype = same_dtype(op, &[self, rhs])?;
        if !is_wide_float(dtype) {
            return Err(refuse(op, &[self, rhs], Reason::UnsupportedDType(dtype)));
        }
        Ok(dtype)
    }

    /// The low-rank update of a linear layer, `scale * ((self @ a) @ b)`: `self` is `[.., k]`,
    /// `a` is `[k, r]`, `b` is `[r, n]`, the result is `[.., n]`. f32, f64, f16, bf16.
    pub fn lora(&self, a: &Self, b: &Self, scale: f64) -> Result<Self> {
        let operands = [self, a, b];
        let agree = match (self.dims(), a.dims(), b.dims()) {
            ([.., _, k], [k2, r], [r2, _]) => k == k2 && r == r2,
            _ => false,
        };
        if !agree {
            return Err(refuse("lora", &operands, Reason::Shapes));
        }
        let dtype = same_dtype("lora", &operands)?;
        if !is_wide_float(dtype) {
            return Err(refuse("lora", &operands, Reason::UnsupportedDType(dtype)));
        }
        self.broadcast_matmul(a)?
            .broadcast_matmul(b)?
            .affine(scale, 0.0)
    }

    /// The matrix product of `[.., k]`, of rank at least 2, with the transpose of a quantized
    /// weight `[n, k]`, as Candle's `QMatMul`. f32, f16, bf16; only f32 with a weight of whole
    /// floats.
    pub fn qmatmul(&self, weight: &Arc<QTensor>) -> Result<Self> {
        let (&[n, k], [.., _, last]) = (weight.shape().dims(), self.dims()) else {
            return Err(self.refuse_weight(weight, Reason::Shapes));
        };
        if k != *last || k == 0 {
            return Err(self.refuse_weight(weight, Reason::Shapes));
        }
        let whole = matches!(
            weight.dtype(),
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16
        );
        if !is_norm_float(self.0.dtype) || (whole && self.0.dtype != DType::F32) {
            let reason = Reason::UnsupportedDType(self.0.dtype);
            return Err(self.refuse_weight(weight, reason));
        }
        let location = weight.device().location();
        if location != self.0.location {
            let reason = Reason::Devices(self.0.location, location);
            return Err(self.refuse_weight(weight, reason));
        }
        let mut dims = self.0.dims.clone();
        if let Some(last) = dims.last_mut() {
            *last = n;
        }
        Self::build(
            Op::Qmatmul(Weight(weight.clone())),
            &[self],
            dims,
            self.0.dtype,
        )
    }

    /// The weight stands among the operands as the floats that it stands for.
    fn refuse_weight(&self, weight: &QTensor, reason: Reason) -> crate::error::Error {
        let dims = Dims::from_slice(weight.shape().dims());
        let operands = [(&self.0.dims[..], self.0.dtype), (&dims[..], DType::F32)];
        crate::error::Error::invalid("qmatmul", operands, reason)
    }
}
