//! The escape hatch: Candle's custom operations as nodes.

use super::infer::refuse;
use super::node::{Dims, LazyTensor};
use super::op::{Custom, Op};
use crate::error::{Reason, Result};
use candle_core::{CustomOp1, CustomOp2, CustomOp3, DType, Shape};
use std::sync::Arc;

/// # Custom operations
///
/// Each takes the shape and dtype that the result will have, because nothing runs before the
/// graph is submitted; a result that differs is a failure then. The operation runs on the thread
/// that drives the device, so it must not wait for the executor. Its forward functions are called
/// with operands in any memory layout, as Candle calls them.
///
/// The forward functions may be called more than once for one submission, so they must give the same
/// result again and should do nothing besides. This happens
/// - when another fragment of the same batch fails: the others run again without it;
/// - on a device that goes on when it returns, when an error is reported late: every fragment of that ticket
///   is issued again, and so is what was issued since and has read from it
///   ([`Stats::fragments_reissued`](crate::Stats::fragments_reissued));
/// - rarely, when submissions of several outputs overlap at the same moment: both may compute the node
///   ([`Stats::nodes_recomputed`](crate::Stats::nodes_recomputed)).
///
/// And an operation whose result is not submitted itself runs in every fragment that needs the result.
impl LazyTensor {
    /// An operation of yours on one tensor.
    ///
    /// ```
    /// use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape};
    /// use candlewick::{DType, Device, Executor, LazyTensor};
    /// struct Total;
    /// impl CustomOp1 for Total {
    ///     fn name(&self) -> &'static str {
    ///         "total"
    ///     }
    ///     fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
    ///         let (start, end) = l.contiguous_offsets().expect("called with contiguous data");
    ///         let total = s.as_slice::<f32>()?[start..end].iter().sum();
    ///         Ok((CpuStorage::F32(vec![total]), Shape::from(())))
    ///     }
    /// }
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let x = LazyTensor::new(&[1f32, 2.0, 3.0], &Device::Cpu)?;
    /// let y = x.apply_op1(Total, (), DType::F32)?;
    /// assert_eq!(executor.run(&y)?.to_scalar::<f32>()?, 6.0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn apply_op1<C>(&self, op: C, shape: impl Into<Shape>, dtype: DType) -> Result<Self>
    where
        C: CustomOp1 + Send + Sync + 'static,
    {
        self.apply_op1_arc(Arc::new(Box::new(op)), shape, dtype)
    }

    /// [`apply_op1`](Self::apply_op1) of an operation that is shared.
    pub fn apply_op1_arc(
        &self,
        op: Arc<Box<dyn CustomOp1 + Send + Sync>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Self> {
        custom(Op::Custom1(Custom(op)), &[self], shape.into(), dtype)
    }

    /// An operation of yours on two tensors of one device.
    pub fn apply_op2<C>(
        &self,
        rhs: &Self,
        op: C,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Self>
    where
        C: CustomOp2 + Send + Sync + 'static,
    {
        self.apply_op2_arc(rhs, Arc::new(Box::new(op)), shape, dtype)
    }

    /// [`apply_op2`](Self::apply_op2) of an operation that is shared.
    pub fn apply_op2_arc(
        &self,
        rhs: &Self,
        op: Arc<Box<dyn CustomOp2 + Send + Sync>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Self> {
        custom(Op::Custom2(Custom(op)), &[self, rhs], shape.into(), dtype)
    }

    /// An operation of yours on three tensors of one device.
    pub fn apply_op3<C>(
        &self,
        t2: &Self,
        t3: &Self,
        op: C,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Self>
    where
        C: CustomOp3 + Send + Sync + 'static,
    {
        self.apply_op3_arc(t2, t3, Arc::new(Box::new(op)), shape, dtype)
    }

    /// [`apply_op3`](Self::apply_op3) of an operation that is shared.
    pub fn apply_op3_arc(
        &self,
        t2: &Self,
        t3: &Self,
        op: Arc<Box<dyn CustomOp3 + Send + Sync>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Self> {
        custom(
            Op::Custom3(Custom(op)),
            &[self, t2, t3],
            shape.into(),
            dtype,
        )
    }
}

fn custom(op: Op, operands: &[&LazyTensor], shape: Shape, dtype: DType) -> Result<LazyTensor> {
    if !super::infer::computes(dtype) {
        return Err(refuse(op.name(), operands, Reason::UnsupportedDType(dtype)));
    }
    LazyTensor::build(op, operands, Dims::from_slice(shape.dims()), dtype)
}
