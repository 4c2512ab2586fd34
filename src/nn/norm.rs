//! Normalization over the last dimension.

use super::{Module, VarBuilder, refuse};
use crate::{D, DType, LazyTensor, Reason, Result};

/// How a [`layer_norm`] is made; a number alone is its epsilon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNormConfig {
    /// Added to the variance.
    pub eps: f64,
    /// Whether the mean is taken off; without, it is a [`RmsNorm`].
    pub remove_mean: bool,
    /// Whether there is a bias.
    pub affine: bool,
}

impl Default for LayerNormConfig {
    fn default() -> Self {
        Self::from(1e-5)
    }
}

impl From<f64> for LayerNormConfig {
    fn from(eps: f64) -> Self {
        Self {
            eps,
            remove_mean: true,
            affine: true,
        }
    }
}

/// Shifts and scales the last dimension to mean zero and variance one, then multiplies by `weight`
/// and adds `bias`, which have that dimension's size.
///
/// Takes and gives `[.., size]`; f32, f64, f16, bf16, all of one dtype. Halves are computed in f32.
/// Layer normalization as of [Ba et al. 2016](https://arxiv.org/abs/1607.06450).
///
/// ```
/// use candlewick::nn::{LayerNorm, Module};
/// use candlewick::{Device, LazyTensor};
/// let ones = LazyTensor::new(&[1f32, 1.0, 1.0], &Device::Cpu)?;
/// let layer = LayerNorm::new(ones.clone(), ones.zeros_like()?, 1e-5);
/// let x = LazyTensor::new(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::Cpu)?;
/// assert_eq!(layer.forward(&x)?.dims(), [2, 3]);
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: LazyTensor,
    bias: Option<LazyTensor>,
    remove_mean: bool,
    eps: f64,
}

impl LayerNorm {
    /// With a bias.
    pub fn new(weight: LazyTensor, bias: LazyTensor, eps: f64) -> Self {
        Self {
            weight,
            bias: Some(bias),
            remove_mean: true,
            eps,
        }
    }

    /// Without a bias.
    pub fn new_no_bias(weight: LazyTensor, eps: f64) -> Self {
        Self {
            weight,
            bias: None,
            remove_mean: true,
            eps,
        }
    }

    /// Without a bias, and without taking the mean off.
    pub fn rms_norm(weight: LazyTensor, eps: f64) -> Self {
        Self {
            weight,
            bias: None,
            remove_mean: false,
            eps,
        }
    }

    /// `[size]`.
    pub fn weight(&self) -> &LazyTensor {
        &self.weight
    }

    /// `[size]`.
    pub fn bias(&self) -> Option<&LazyTensor> {
        self.bias.as_ref()
    }

    /// What is added to the variance.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// Whether the mean is taken off.
    pub fn remove_mean(&self) -> bool {
        self.remove_mean
    }

    /// From the operations that it consists of: for what has no operation of its own.
    fn composed(&self, xs: &LazyTensor) -> Result<LazyTensor> {
        let dtype = xs.dtype();
        let inner = match dtype {
            DType::F16 | DType::BF16 => DType::F32,
            dtype => dtype,
        };
        let xs = xs.to_dtype(inner)?;
        let xs = if self.remove_mean {
            xs.broadcast_sub(&xs.mean_keepdim(D::Minus1)?)?
        } else {
            xs
        };
        let variance = xs.sqr()?.mean_keepdim(D::Minus1)?;
        let xs = xs.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        let xs = xs.to_dtype(dtype)?.broadcast_mul(&self.weight)?;
        match &self.bias {
            None => Ok(xs),
            Some(bias) => xs.broadcast_add(bias),
        }
    }
}

impl Module for LayerNorm {
    fn forward(&self, xs: &LazyTensor) -> Result<LazyTensor> {
        let mut operands = vec![xs, &self.weight];
        operands.extend(&self.bias);
        let size = xs.dims().last();
        let fits = |x: &&LazyTensor| x.rank() == 1 && x.dims().first() == size;
        if !operands[1..].iter().all(fits) {
            return Err(refuse("layer_norm", &operands, Reason::Shapes));
        }
        let own = matches!(xs.dtype(), DType::F32 | DType::F16 | DType::BF16);
        match &self.bias {
            Some(bias) if own && self.remove_mean => {
                xs.layer_norm(&self.weight, bias, self.eps as f32)
            }
            None if own && !self.remove_mean => xs.rms_norm(&self.weight, self.eps as f32),
            _ => self.composed(xs),
        }
    }
}

/// A layer normalization of the parameters `weight` and `bias`, or by their older names `gamma` and
/// `beta`.
///
/// # Errors
/// As [`VarBuilder::get`].
pub fn layer_norm(
    size: usize,
    config: impl Into<LayerNormConfig>,
    vb: VarBuilder,
) -> Result<LayerNorm> {
    let config = config.into();
    let either = |name: &'static str, older: &'static str| {
        let old = !vb.contains_tensor(name) && vb.contains_tensor(older);
        vb.get(size, if old { older } else { name })
    };
    let weight = either("weight", "gamma")?;
    let bias = config.affine.then(|| either("bias", "beta")).transpose()?;
    Ok(LayerNorm {
        weight,
        bias,
        remove_mean: config.remove_mean,
        eps: config.eps,
    })
}

/// [`layer_norm`] without a bias.
///
/// # Errors
/// As [`VarBuilder::get`].
pub fn layer_norm_no_bias(size: usize, eps: f64, vb: VarBuilder) -> Result<LayerNorm> {
    let config = LayerNormConfig {
        affine: false,
        ..eps.into()
    };
    layer_norm(size, config, vb)
}

/// Divides by the root of the mean square over the last dimension, then multiplies by `weight`.
///
/// Takes and gives `[.., size]`; f32, f64, f16, bf16, all of one dtype. Root mean square
/// normalization as of [Zhang and Sennrich 2019](https://arxiv.org/abs/1910.07467).
#[derive(Clone, Debug)]
pub struct RmsNorm(LayerNorm);

impl RmsNorm {
    /// A layer of this weight, `[size]`.
    pub fn new(weight: LazyTensor, eps: f64) -> Self {
        Self(LayerNorm::rms_norm(weight, eps))
    }

    /// The same as a layer normalization that keeps the mean.
    pub fn into_inner(self) -> LayerNorm {
        self.0
    }

    /// `[size]`.
    pub fn weight(&self) -> &LazyTensor {
        self.0.weight()
    }

    /// What is added to the mean square.
    pub fn eps(&self) -> f64 {
        self.0.eps()
    }
}

impl Module for RmsNorm {
    fn forward(&self, xs: &LazyTensor) -> Result<LazyTensor> {
        self.0.forward(xs)
    }
}

/// A root mean square normalization of the parameter `weight`.
///
/// # Errors
/// As [`VarBuilder::get`].
pub fn rms_norm(size: usize, eps: f64, vb: VarBuilder) -> Result<RmsNorm> {
    let config = LayerNormConfig {
        eps,
        remove_mean: false,
        affine: false,
    };
    Ok(RmsNorm(layer_norm(size, config, vb)?))
}
