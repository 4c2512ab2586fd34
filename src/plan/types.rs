//! The type that a step computes in.

use crate::graph::Op;
use candle_core::DType;
use candle_core::scalar::Scalar;
use half::{bf16, f16};

/// The type of a program's registers. Operands of other dtypes are cast when they are loaded, and
/// the result is cast when it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compute {
    /// Of f16 and bf16 too: f32 holds all their values.
    F32,
    F64,
    U8,
    U32,
    I16,
    I32,
    I64,
}

impl Compute {
    /// The type in which values of this dtype are computed; `None` if the engine does not.
    pub(crate) fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => Some(Compute::F32),
            DType::F64 => Some(Compute::F64),
            DType::U8 => Some(Compute::U8),
            DType::U32 => Some(Compute::U32),
            DType::I16 => Some(Compute::I16),
            DType::I32 => Some(Compute::I32),
            DType::I64 => Some(Compute::I64),
            _ => None,
        }
    }

    pub(crate) fn dtype(self) -> DType {
        match self {
            Compute::F32 => DType::F32,
            Compute::F64 => DType::F64,
            Compute::U8 => DType::U8,
            Compute::U32 => DType::U32,
            Compute::I16 => DType::I16,
            Compute::I32 => DType::I32,
            Compute::I64 => DType::I64,
        }
    }

    pub(super) fn is_float(self) -> bool {
        matches!(self, Compute::F32 | Compute::F64)
    }
}

/// Whether values of this dtype have fewer digits than the registers that they are computed in.
pub(super) fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// A number of an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    /// A parameter of the plan: of operations on f32.
    Parameter(u32),
    Float(f64),
    Int(i64),
}

impl Number {
    /// A constant as Candle takes it beside elements of this dtype: cast to it first.
    fn constant(value: Scalar, dtype: DType) -> Self {
        let number = match value {
            Scalar::U8(v) => Number::Int(v.into()),
            Scalar::U32(v) => Number::Int(v.into()),
            Scalar::I16(v) => Number::Int(v.into()),
            Scalar::I32(v) => Number::Int(v.into()),
            Scalar::I64(v) => Number::Int(v),
            _ => Number::Float(value.to_f64()),
        };
        match (dtype, number) {
            (DType::F16, Number::Int(v)) => Number::Float(f16::from_f32(v as f32).into()),
            (DType::BF16, Number::Int(v)) => Number::Float(bf16::from_f32(v as f32).into()),
            (DType::F16, Number::Float(v)) => Number::Float(f16::from_f64(v).into()),
            (DType::BF16, Number::Float(v)) => Number::Float(bf16::from_f64(v).into()),
            _ => number,
        }
    }

    /// The number of this place in an operation on elements of this dtype.
    pub(super) fn of(op: &Op, place: usize, dtype: DType) -> Self {
        let value = match (op, place) {
            (Op::Affine { mul, .. }, 0) => Scalar::F64(*mul),
            (Op::Affine { add, .. }, _) => Scalar::F64(*add),
            (Op::Elu(value) | Op::Powf(value), _) => Scalar::F64(*value),
            (Op::BinaryScalar { value, .. } | Op::CompareScalar { value, .. }, _) => *value,
            _ => unreachable!("an operation without numbers"),
        };
        Self::constant(value, dtype)
    }
}
