//! Tensors from host data.

use super::infer::{computes, fits};
use super::node::{Dims, LazyTensor};
use super::op::Op;
use super::shape::{ShapeWithOneHole, resolve};
use crate::error::{Error, Reason, Result};
use candle_core::scalar::Scalar;
use candle_core::{DType, Device, NdArray, Shape, Tensor, WithDType};

/// # New tensors
///
/// The data is made on the calling thread; for another device than the CPU, the owner moves it
/// there. Host data counts against the queue's bound in bytes.
impl LazyTensor {
    /// From a number, an array, a slice or a vector, nested up to four deep. `Err` if the parts
    /// differ in length.
    ///
    /// ```
    /// use candlewick::{Device, LazyTensor};
    /// assert_eq!(LazyTensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?.dims(), [2, 2]);
    /// assert_eq!(LazyTensor::new(7i64, &Device::Cpu)?.rank(), 0);
    /// # Ok::<_, candlewick::Error>(())
    /// ```
    pub fn new<A: NdArray>(array: A, device: &Device) -> Result<Self> {
        let tensor = Tensor::new(array, &Device::Cpu)
            .map_err(|e| Error::invalid("new", [], Reason::Candle(e)))?;
        Self::host_leaf(tensor, device)
    }

    /// From a vector, without a copy on the CPU; the shape may have one hole `()`. `Err` if the
    /// number of elements differs from the shape's.
    pub fn from_vec<S: ShapeWithOneHole, D: WithDType>(
        data: Vec<D>,
        shape: S,
        device: &Device,
    ) -> Result<Self> {
        Self::from_data("from_vec", data, shape, device)
    }

    /// From a copy of a slice; otherwise as [`from_vec`](Self::from_vec).
    pub fn from_slice<S: ShapeWithOneHole, D: WithDType>(
        data: &[D],
        shape: S,
        device: &Device,
    ) -> Result<Self> {
        Self::from_data("from_slice", data.to_vec(), shape, device)
    }

    fn from_data<S: ShapeWithOneHole, D: WithDType>(
        op: &'static str,
        data: Vec<D>,
        shape: S,
        device: &Device,
    ) -> Result<Self> {
        let err = |reason| Error::invalid(op, [], reason);
        if !computes(D::DTYPE) {
            return Err(err(Reason::UnsupportedDType(D::DTYPE)));
        }
        let dims = resolve(shape, data.len(), D::DTYPE).map_err(err)?;
        let tensor =
            Tensor::from_vec(data, &dims[..], &Device::Cpu).map_err(|e| err(Reason::Candle(e)))?;
        Self::host_leaf(tensor, device)
    }

    /// Zeros. `Err` if the shape's product overflows, or the dtype can only be stored.
    pub fn zeros<S: Into<Shape>>(shape: S, dtype: DType, device: &Device) -> Result<Self> {
        Self::filled("zeros", dtype, Scalar::zero, shape.into(), device)
    }

    /// Ones; otherwise as [`zeros`](Self::zeros).
    pub fn ones<S: Into<Shape>>(shape: S, dtype: DType, device: &Device) -> Result<Self> {
        Self::filled("ones", dtype, Scalar::one, shape.into(), device)
    }

    /// One value everywhere; otherwise as [`zeros`](Self::zeros).
    pub fn full<D: WithDType, S: Into<Shape>>(value: D, shape: S, device: &Device) -> Result<Self> {
        Self::filled(
            "full",
            D::DTYPE,
            |_| value.to_scalar(),
            shape.into(),
            device,
        )
    }

    /// The value is made where it is needed: no host data travels, however large the shape.
    fn filled(
        op: &'static str,
        dtype: DType,
        value: impl FnOnce(DType) -> Scalar,
        shape: Shape,
        device: &Device,
    ) -> Result<Self> {
        let dims = Dims::from_slice(shape.dims());
        let err = |reason| Error::invalid(op, [(&dims[..], dtype)], reason);
        if !computes(dtype) {
            return Err(err(Reason::UnsupportedDType(dtype)));
        }
        if !fits(&dims, dtype) {
            return Err(err(Reason::Overflow));
        }
        let value = value(dtype);
        let fill = |dims: &Dims| Op::Fill {
            value,
            dims: dims[..].into(),
        };
        if device.is_cpu() {
            return Self::build(fill(&dims), &[], dims, dtype);
        }
        let one = Self::build(fill(&Dims::new()), &[], Dims::new(), dtype)?.to_device(device)?;
        Self::build(fill(&dims), &[&one], dims, dtype)
    }

    /// The numbers from `start` to `end`, without `end`, in steps of one. As
    /// [`arange_step`](Self::arange_step).
    pub fn arange<D: WithDType>(start: D, end: D, device: &Device) -> Result<Self> {
        Self::steps("arange", start, end, D::one, device)
    }

    /// The numbers from `start` to `end`, without `end`, in steps of `step`, each made by adding
    /// to the one before. `Err` if the step is 0 or too small to get there, or there are more
    /// numbers than memory.
    pub fn arange_step<D: WithDType>(start: D, end: D, step: D, device: &Device) -> Result<Self> {
        Self::steps("arange_step", start, end, || step, device)
    }

    fn steps<D: WithDType>(
        op: &'static str,
        start: D,
        end: D,
        step: impl FnOnce() -> D,
        device: &Device,
    ) -> Result<Self> {
        let data = if computes(D::DTYPE) {
            progression(start, end, step())
        } else {
            Err(Reason::UnsupportedDType(D::DTYPE))
        };
        let data = data.map_err(|reason| Error::invalid(op, [], reason))?;
        let len = data.len();
        Self::from_data(op, data, len, device)
    }

    fn host_leaf(tensor: Tensor, device: &Device) -> Result<Self> {
        Self::from_leaf(tensor, true).to_device(device)
    }
}

/// Candle's loop goes on for ever where a float no longer grows, and past the end of integers.
fn progression<D: WithDType>(start: D, end: D, step: D) -> Result<Vec<D>, Reason> {
    let up = match step.partial_cmp(&D::zero()) {
        Some(std::cmp::Ordering::Greater) => true,
        Some(std::cmp::Ordering::Less) => false,
        _ => {
            return Err(Reason::Argument {
                name: "step",
                must: "a number other than 0",
            });
        }
    };
    let before_end = |v: &D| if up { *v < end } else { *v > end };
    if !before_end(&start) {
        return Ok(Vec::new());
    }
    let len = length(start.to_scalar(), end.to_scalar(), step.to_scalar())?;
    let mut data = Vec::new();
    data.try_reserve(len).map_err(|_| Reason::Overflow)?;
    let mut current = start;
    loop {
        data.push(current);
        if D::DTYPE.is_int() && data.len() == len {
            return Ok(data); // one more could overflow
        }
        let next = current + step;
        if !before_end(&next) {
            return Ok(data);
        }
        if next == current {
            return Err(Reason::Argument {
                name: "step",
                must: "large enough to reach the end",
            });
        }
        current = next;
    }
}

/// Candle 0.11.1 calls itself for ever when it makes an f64 of an f8.
fn float(value: Scalar) -> f64 {
    match value {
        Scalar::F8E4M3(v) => f64::from(v.to_f32()),
        other => other.to_f64(),
    }
}

/// How many numbers there are: exact for integers, about right for floats.
fn length(start: Scalar, end: Scalar, step: Scalar) -> Result<usize, Reason> {
    let whole = |s: Scalar| match s {
        Scalar::U8(v) => Some(i128::from(v)),
        Scalar::U32(v) => Some(i128::from(v)),
        Scalar::I16(v) => Some(i128::from(v)),
        Scalar::I32(v) => Some(i128::from(v)),
        Scalar::I64(v) => Some(i128::from(v)),
        _ => None,
    };
    let len = match (whole(start), whole(end), whole(step)) {
        (Some(start), Some(end), Some(step)) => {
            usize::try_from((end - start).unsigned_abs().div_ceil(step.unsigned_abs())).ok()
        }
        _ => {
            let len = ((float(end) - float(start)) / float(step)).ceil();
            (len < isize::MAX as f64).then_some(len as usize)
        }
    };
    len.ok_or(Reason::Overflow)
}
