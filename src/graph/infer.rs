//! What every operation checks about its operands.

use super::node::{Dims, Inputs, LazyTensor, copy};
use super::op::{Axes, Op};
use crate::error::{Error, Reason, Result};
use candle_core::shape::{Dim, Dims as DimList};
use candle_core::{DType, DeviceLocation};

/// An error that names the operation and its operands.
#[cold]
pub(super) fn refuse(op: &'static str, operands: &[&LazyTensor], reason: Reason) -> Error {
    Error::invalid(
        op,
        operands.iter().map(|x| (&x.0.dims[..], x.0.dtype)),
        reason,
    )
}

/// Whether Candle computes with this dtype; the others it only stores.
pub(super) fn computes(dtype: DType) -> bool {
    dtype.is_int() || is_float(dtype)
}

/// Every floating point dtype that Candle computes with.
pub(super) fn is_float(dtype: DType) -> bool {
    matches!(
        dtype,
        DType::BF16 | DType::F16 | DType::F32 | DType::F64 | DType::F8E4M3
    )
}

/// Those of at least 16 bits.
pub(super) fn is_wide_float(dtype: DType) -> bool {
    matches!(dtype, DType::BF16 | DType::F16 | DType::F32 | DType::F64)
}

/// Those that the fused normalizations take.
pub(super) fn is_norm_float(dtype: DType) -> bool {
    matches!(dtype, DType::BF16 | DType::F16 | DType::F32)
}

/// The number of bytes of a result, if Candle can address it. Dimensions of size 0 count as 1:
/// Candle multiplies the others up for the strides.
pub(crate) fn fits(dims: &[usize], dtype: DType) -> bool {
    dims.iter()
        .try_fold(dtype.size_in_bytes().max(1), |n, &d| {
            n.checked_mul(d.max(1))
        })
        .is_some_and(|bytes| isize::try_from(bytes).is_ok())
}

/// The number of elements; what does not [fit](fits) counts as at most `usize::MAX`.
pub(super) fn count(dims: &[usize]) -> usize {
    dims.iter().fold(1, |n, &d| n.saturating_mul(d))
}

/// The shape of two operands broadcast together.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Dims> {
    let rank = a.len().max(b.len());
    let at = |d: &[usize], i: usize| match (i + d.len()).checked_sub(rank) {
        Some(i) => d[i],
        None => 1,
    };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (a, b) if a == b => Some(a),
            (1, b) => Some(b),
            (a, 1) => Some(a),
            _ => None,
        })
        .collect()
}

/// Whether a tensor of shape `from` can be broadcast to shape `to`.
pub(super) fn broadcasts_to(from: &[usize], to: &[usize]) -> bool {
    let Some(added) = to.len().checked_sub(from.len()) else {
        return false;
    };
    from.iter()
        .zip(&to[added..])
        .all(|(&f, &t)| f == t || f == 1)
}

impl LazyTensor {
    /// A node that computes `op` from operands on one device, if its result can be addressed.
    pub(super) fn build(
        op: Op,
        operands: &[&LazyTensor],
        dims: Dims,
        dtype: DType,
    ) -> Result<Self> {
        let location = one_location(op.name(), operands)?;
        if !fits(&dims, dtype) {
            return Err(refuse(op.name(), operands, Reason::Overflow));
        }
        let mut inputs = Inputs::new();
        operands.iter().for_each(|&x| inputs.push(x.clone()));
        Ok(Self::from_op(op, inputs, dims, dtype, location))
    }

    /// A node of the same shape and dtype.
    pub(super) fn build_same(&self, op: Op) -> Self {
        let mut inputs = Inputs::new();
        inputs.push(self.clone());
        Self::from_op(
            op,
            inputs,
            copy(&self.0.dims),
            self.0.dtype,
            self.0.location,
        )
    }

    /// The same elements under another shape.
    pub(super) fn build_shape(&self, op: Op, dims: Dims) -> Result<Self> {
        self.need_dtype(op.name(), computes)?;
        Self::build(op, &[self], dims, self.0.dtype)
    }

    pub(super) fn refuse(&self, op: &'static str, reason: Reason) -> Error {
        refuse(op, &[self], reason)
    }

    /// Refuses dtypes that the operation does not have.
    #[inline]
    pub(super) fn need_dtype(&self, op: &'static str, takes: fn(DType) -> bool) -> Result<()> {
        if takes(self.0.dtype) {
            Ok(())
        } else {
            Err(self.refuse(op, Reason::UnsupportedDType(self.0.dtype)))
        }
    }

    /// Refuses tensors without elements.
    pub(super) fn need_elements(&self, op: &'static str) -> Result<()> {
        if self.0.dims.contains(&0) {
            let reason = Reason::Argument {
                name: "the tensor",
                must: "non-empty",
            };
            return Err(self.refuse(op, reason));
        }
        Ok(())
    }

    /// Resolves a dimension.
    pub(super) fn axis<D: Dim>(&self, op: &'static str, dim: D) -> Result<usize> {
        dim.to_index(&self.shape(), op)
            .map_err(|e| self.dim_error(op, e))
    }

    /// Resolves the place of a new dimension.
    pub(super) fn new_axis<D: Dim>(&self, op: &'static str, dim: D) -> Result<usize> {
        dim.to_index_plus_one(&self.shape(), op)
            .map_err(|e| self.dim_error(op, e))
    }

    /// Resolves several dimensions, all different.
    pub(super) fn axes<D: DimList>(&self, op: &'static str, dims: D) -> Result<Axes> {
        match dims.to_indexes(&self.shape(), op) {
            Ok(dims) => Ok(Axes::from_vec(dims)),
            Err(e) => Err(self.dim_error(op, e)),
        }
    }

    #[cold]
    fn dim_error(&self, op: &'static str, error: candle_core::Error) -> Error {
        use candle_core::Error as E;
        let reason = match error {
            E::WithBacktrace { inner, .. } | E::Context { inner, .. } => {
                return self.dim_error(op, *inner);
            }
            E::DimOutOfRange { dim, .. } => Reason::Dim {
                dim: i64::from(dim),
                rank: self.rank(),
            },
            E::DuplicateDimIndex { dims, .. } => {
                let twice = dims
                    .iter()
                    .enumerate()
                    .find(|(i, d)| dims[..*i].contains(d));
                Reason::DuplicateDim(twice.map_or(0, |(_, &d)| d))
            }
            other => Reason::Candle(other),
        };
        self.refuse(op, reason)
    }
}

/// Where all operands are.
#[inline]
fn one_location(op: &'static str, operands: &[&LazyTensor]) -> Result<DeviceLocation> {
    let Some((first, rest)) = operands.split_first() else {
        return Ok(super::node::host());
    };
    match rest.iter().find(|x| x.0.location != first.0.location) {
        None => Ok(first.0.location),
        Some(other) => {
            let reason = Reason::Devices(first.0.location, other.0.location);
            Err(refuse(op, operands, reason))
        }
    }
}

/// Refuses operands whose dtypes differ.
#[inline]
pub(super) fn same_dtype(op: &'static str, operands: &[&LazyTensor]) -> Result<DType> {
    let first = operands[0].0.dtype;
    if operands.iter().all(|x| x.0.dtype == first) {
        Ok(first)
    } else {
        Err(refuse(op, operands, Reason::DTypes))
    }
}
