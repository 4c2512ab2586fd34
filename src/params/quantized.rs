//! Named quantized weights.

use crate::error::{Error, ParamsError, Reason, Result};
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::Value;
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The quantized weights of a model by name, with what its file says about it: for
/// [`LazyTensor::qmatmul`](crate::LazyTensor::qmatmul).
///
/// Unlike [`Params`](crate::Params), a set of these does not change; cloning is a reference count.
/// Weights stay quantized in memory; small ones that graphs use whole (norms, biases) come as
/// floats from [`tensor`](Self::tensor).
///
/// ```
/// use candle_core::quantized::{GgmlDType, QTensor};
/// use candlewick::{DType, Device, Executor, LazyTensor, QuantizedParams, Tensor};
/// let w = Tensor::ones((4, 32), DType::F32, &Device::Cpu)?;
/// let weights = QuantizedParams::from_map([("w", QTensor::quantize(&w, GgmlDType::Q8_0)?)])?;
///
/// let x = LazyTensor::ones((1, 32), DType::F32, &Device::Cpu)?;
/// let y = x.qmatmul(weights.get("w")?)?;
/// let y = Executor::new(&Device::Cpu)?.run(&y)?;
/// assert!((y.to_vec2::<f32>()?[0][0] - 32.0).abs() < 0.1);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct QuantizedParams(Arc<Set>);

struct Set {
    metadata: BTreeMap<String, Value>,
    weights: BTreeMap<String, Arc<QTensor>>,
}

impl QuantizedParams {
    pub(super) fn new(
        metadata: BTreeMap<String, Value>,
        weights: BTreeMap<String, Arc<QTensor>>,
    ) -> Self {
        Self(Arc::new(Set { metadata, weights }))
    }

    /// A set of the given weights, without metadata.
    ///
    /// # Errors
    /// [`ParamsError::Repeated`] if a name is given twice.
    pub fn from_map<N: Into<String>>(
        weights: impl IntoIterator<Item = (N, QTensor)>,
    ) -> Result<Self> {
        let mut set = BTreeMap::new();
        for (name, weight) in weights {
            let name = name.into();
            if set.insert(name.clone(), Arc::new(weight)).is_some() {
                return Err(ParamsError::Repeated { name }.into());
            }
        }
        Ok(Self::new(BTreeMap::new(), set))
    }

    /// The tensors and the metadata of a GGUF file, on `device`.
    ///
    /// # Errors
    /// As [`Loader::gguf`](crate::Loader::gguf), which also reports progress.
    pub fn load_gguf(file: impl AsRef<Path>, device: &Device) -> Result<Self> {
        super::Loader::new(device).gguf(file)
    }

    /// The weight of this name.
    ///
    /// # Errors
    /// [`ParamsError::Unknown`].
    pub fn get(&self, name: &str) -> Result<&Arc<QTensor>> {
        self.0.weights.get(name).ok_or_else(|| {
            let name = name.to_owned();
            ParamsError::Unknown { name }.into()
        })
    }

    /// The weight of this name as f32, on its device.
    ///
    /// # Errors
    /// [`ParamsError::Unknown`]; [`Error::Invalid`] if Candle cannot turn it into floats.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let weight = self.get(name)?;
        weight.dequantize(&weight.device()).map_err(|error| {
            let operands = [(weight.shape().dims(), DType::F32)];
            Error::invalid("dequantize", operands, Reason::Candle(error))
        })
    }

    /// What the file says under this key.
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.0.metadata.get(key)
    }

    /// Whether there is a weight of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.weights.contains_key(name)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.weights.keys().map(String::as_str)
    }

    /// The number of weights.
    pub fn len(&self) -> usize {
        self.0.weights.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.weights.is_empty()
    }
}

impl fmt::Debug for QuantizedParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuantizedParams")
            .field("names", &self.names().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
