//! The linear layer of a quantized weight.

use super::{Module, refuse};
use crate::{LazyTensor, Reason, Result};
use candle_core::quantized::QTensor;
use std::fmt;
use std::sync::Arc;

/// `y = x @ weight^T + bias` with a quantized weight.
///
/// `weight` is `[out, in]`, `bias` is `[out]`. Takes what [`LazyTensor::qmatmul`] takes.
///
/// ```
/// use candle_core::quantized::{GgmlDType, QTensor};
/// use candlewick::nn::{Module, QLinear};
/// use candlewick::{DType, Device, Executor, LazyTensor, Tensor};
/// use std::sync::Arc;
/// let w = Tensor::ones((4, 32), DType::F32, &Device::Cpu)?;
/// let layer = QLinear::new(Arc::new(QTensor::quantize(&w, GgmlDType::Q8_0)?), None);
/// let x = LazyTensor::ones((1, 32), DType::F32, &Device::Cpu)?;
/// let y = Executor::new(&Device::Cpu)?.run(&layer.forward(&x)?)?;
/// assert_eq!(y.dims(), [1, 4]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct QLinear {
    weight: Arc<QTensor>,
    bias: Option<LazyTensor>,
}

impl QLinear {
    /// A layer of these weights.
    pub fn new(weight: Arc<QTensor>, bias: Option<LazyTensor>) -> Self {
        Self { weight, bias }
    }

    /// `[out, in]`.
    pub fn weight(&self) -> &Arc<QTensor> {
        &self.weight
    }

    /// `[out]`.
    pub fn bias(&self) -> Option<&LazyTensor> {
        self.bias.as_ref()
    }
}

impl Module for QLinear {
    fn forward(&self, xs: &LazyTensor) -> Result<LazyTensor> {
        let ys = xs.qmatmul(&self.weight)?;
        match &self.bias {
            Some(bias) if bias.dims() == &ys.dims()[ys.rank() - 1..] => ys.broadcast_add(bias),
            Some(bias) => Err(refuse("qlinear", &[xs, bias], Reason::Shapes)),
            None => Ok(ys),
        }
    }
}

impl fmt::Debug for QLinear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QLinear")
            .field("weight", &(self.weight.shape(), self.weight.dtype()))
            .field("bias", &self.bias)
            .finish()
    }
}
