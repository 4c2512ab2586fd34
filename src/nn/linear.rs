//! The linear layer.

use super::{Module, VarBuilder, refuse};
use crate::{LazyTensor, Reason, Result};

/// `y = x @ weight^T + bias`.
///
/// `weight` is `[out, in]`, `bias` is `[out]`. Takes `[.., in]`, of rank at least 1, and gives
/// `[.., out]`; f32, f64, f16, bf16, all of one dtype.
///
/// ```
/// use candlewick::nn::{Linear, Module};
/// use candlewick::{Device, Executor, LazyTensor};
/// let w = LazyTensor::new(&[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &Device::Cpu)?;
/// let layer = Linear::new(w, None);
/// let x = LazyTensor::new(&[[10f32, 100.0]], &Device::Cpu)?;
/// let y = Executor::new(&Device::Cpu)?.run(&layer.forward(&x)?)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[210.0, 430.0, 650.0]]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Linear {
    weight: LazyTensor,
    bias: Option<LazyTensor>,
}

impl Linear {
    /// A layer of these weights.
    pub fn new(weight: LazyTensor, bias: Option<LazyTensor>) -> Self {
        Self { weight, bias }
    }

    /// `[out, in]`.
    pub fn weight(&self) -> &LazyTensor {
        &self.weight
    }

    /// `[out]`.
    pub fn bias(&self) -> Option<&LazyTensor> {
        self.bias.as_ref()
    }
}

impl Module for Linear {
    fn forward(&self, xs: &LazyTensor) -> Result<LazyTensor> {
        let (&[out, inner], [outer @ .., last]) = (self.weight.dims(), xs.dims()) else {
            return Err(refuse("linear", &[xs, &self.weight], Reason::Shapes));
        };
        let fits = self.bias.as_ref().is_none_or(|bias| bias.dims() == [out]);
        if inner != *last || !fits {
            let mut operands = vec![xs, &self.weight];
            operands.extend(&self.bias);
            return Err(refuse("linear", &operands, Reason::Shapes));
        }
        // a product of two matrices, whatever stands before the rows
        let rows = outer.iter().product::<usize>();
        let flat = match outer.len() {
            1 => xs.clone(),
            _ => xs.reshape((rows, inner))?,
        };
        let flat = flat.matmul(&self.weight.t()?)?;
        let flat = match &self.bias {
            Some(bias) => flat.broadcast_add(bias)?,
            None => flat,
        };
        match outer.len() {
            1 => Ok(flat),
            _ => {
                let mut dims = outer.to_vec();
                dims.push(out);
                flat.reshape(dims)
            }
        }
    }
}

/// A linear layer of the parameters `weight` and `bias`.
///
/// # Errors
/// As [`VarBuilder::get`].
pub fn linear(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    let weight = vb.get((out_dim, in_dim), "weight")?;
    Ok(Linear::new(weight, Some(vb.get(out_dim, "bias")?)))
}

/// A linear layer of the parameter `weight`.
///
/// # Errors
/// As [`VarBuilder::get`].
pub fn linear_no_bias(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    Ok(Linear::new(vb.get((out_dim, in_dim), "weight")?, None))
}

/// [`linear`] or [`linear_no_bias`].
///
/// # Errors
/// As [`VarBuilder::get`].
pub fn linear_b(in_dim: usize, out_dim: usize, bias: bool, vb: VarBuilder) -> Result<Linear> {
    if bias {
        linear(in_dim, out_dim, vb)
    } else {
        linear_no_bias(in_dim, out_dim, vb)
    }
}
