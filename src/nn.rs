//! Layers with the names, constructors and parameter layouts of `candle_nn`, over lazy tensors.
//!
//! A model is ported by changing types: a [`VarBuilder`] reads a version of
//! [`Params`](crate::Params), layers hold the lazy tensors of their weights, and [`Module::forward`]
//! builds a graph.
//!
//! Layers are immutable and shared among threads freely. They keep their weights for as long as
//! they live, so that what a device makes of a weight (packed panels) is made once: build a layer
//! once, not for each request.
//!
//! ```
//! use candlewick::nn::{Activation, Module, VarBuilder, linear, seq};
//! use candlewick::{DType, Device, Executor, LazyTensor, Params, Tensor};
//! let params = Params::from_map([
//!     ("up.weight", Tensor::ones((8, 4), DType::F32, &Device::Cpu)?),
//!     ("up.bias", Tensor::zeros(8, DType::F32, &Device::Cpu)?),
//!     ("down.weight", Tensor::ones((4, 8), DType::F32, &Device::Cpu)?),
//!     ("down.bias", Tensor::zeros(4, DType::F32, &Device::Cpu)?),
//! ])?;
//! let vb = VarBuilder::from_snapshot(params.snapshot());
//! let mlp = seq()
//!     .add(linear(4, 8, vb.pp("up"))?)
//!     .add(Activation::Relu)
//!     .add(linear(8, 4, vb.pp("down"))?);
//!
//! let executor = Executor::new(&Device::Cpu)?;
//! let x = LazyTensor::new(&[[1f32, 0.0, 0.0, 0.0]], &Device::Cpu)?;
//! let y = executor.run(&mlp.forward(&x)?)?;
//! assert_eq!(y.to_vec2::<f32>()?, [[8.0; 4]]);
//!
//! let error = linear(5, 8, vb.pp("up")).unwrap_err();
//! assert_eq!(error.to_string(), "parameter \"up.weight\" is [8, 4], not [8, 5]");
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod activation;
mod attention;
mod cache;
mod conv;
mod dropout;
mod embedding;
mod func;
mod linear;
mod lora;
mod norm;
mod quantized;
mod rotary;
mod var_builder;

pub use self::{
    activation::{Activation, UnknownActivation},
    attention::{MultiHeadAttention, causal_mask, merge_heads, split_heads},
    cache::KvCache,
    conv::{
        Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, conv1d, conv1d_no_bias, conv2d, conv2d_no_bias,
    },
    dropout::Dropout,
    embedding::{Embedding, embedding},
    func::{Func, Sequential, func, seq},
    linear::{Linear, linear, linear_b, linear_no_bias},
    lora::{LoraLinear, lora_linear},
    norm::{LayerNorm, LayerNormConfig, RmsNorm, layer_norm, layer_norm_no_bias, rms_norm},
    quantized::QLinear,
    rotary::RotaryEmbedding,
    var_builder::VarBuilder,
};

use crate::{Error, LazyTensor, Reason, Result};

/// Something with weights that makes one tensor of another.
///
/// Closures are modules too, and `Some(&module)` is the module, `None` the identity.
///
/// ```
/// use candlewick::nn::{Activation, Module};
/// use candlewick::{Device, LazyTensor};
/// let x = LazyTensor::new(&[1f32, 2.0], &Device::Cpu)?;
/// let twice = |x: &LazyTensor| x + x;
/// let y = x.apply(&twice)?.apply(&Some(&Activation::Relu))?;
/// assert_eq!(y.dims(), [2]);
/// # Ok::<_, candlewick::Error>(())
/// ```
pub trait Module {
    /// The graph of this module's result.
    ///
    /// # Errors
    /// Those of the operations that it is made of; each module says which shapes and dtypes it
    /// takes.
    fn forward(&self, xs: &LazyTensor) -> Result<LazyTensor>;
}

impl<F: Fn(&LazyTensor) -> Result<LazyTensor>> Module for F {
    fn forward(&self, xs: &LazyTensor) -> Result<LazyTensor> {
        self(xs)
    }
}

impl<M: Module> Module for Option<&M> {
    fn forward(&self, xs: &LazyTensor) -> Result<LazyTensor> {
        match self {
            None => Ok(xs.clone()),
            Some(module) => module.forward(xs),
        }
    }
}

/// # Modules
impl LazyTensor {
    /// What a [module](crate::nn::Module) makes of this tensor.
    pub fn apply<M: Module>(&self, module: &M) -> Result<Self> {
        module.forward(self)
    }
}

/// Operands that a layer cannot take.
fn refuse(op: &'static str, operands: &[&LazyTensor], reason: Reason) -> Error {
    let operands = operands.iter().map(|x| (x.dims(), x.dtype()));
    Error::invalid(op, operands, reason)
}
