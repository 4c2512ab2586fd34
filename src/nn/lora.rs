//! A layer with a low-rank update.

use super::{Linear, Module, VarBuilder, refuse};
use crate::{LazyTensor, Reason, Result};

/// `y = base(x) + (x @ A^T) @ B^T * scale`.
///
/// `A` is `[rank, in]` and `B` is `[out, rank]`, both of the base's dtype: f32, f64, f16, bf16. The
/// base is a [`Linear`] or any other module from `[.., in]` to `[.., out]`, and is not copied: layers
/// with different updates share its weights. Low-rank adaptation as of
/// [Hu et al. 2021](https://arxiv.org/abs/2106.09685).
///
/// ```
/// use candlewick::nn::{Linear, LoraLinear, Module};
/// use candlewick::{DType, Device, Executor, LazyTensor};
/// let ones = |rows, columns| LazyTensor::ones((rows, columns), DType::F32, &Device::Cpu);
/// let layer = LoraLinear::new(Linear::new(ones(3, 4)?, None), ones(2, 4)?, ones(3, 2)?, 0.5);
/// let y = Executor::new(&Device::Cpu)?.run(&layer.forward(&ones(1, 4)?)?)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[8.0; 3]]); // 4 + 4 * 2 / 2
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LoraLinear<M = Linear> {
    base: M,
    a: LazyTensor,
    b: LazyTensor,
    scale: f64,
}

impl<M: Module> LoraLinear<M> {
    /// A layer with this update.
    pub fn new(base: M, a: LazyTensor, b: LazyTensor, scale: f64) -> Self {
        Self { base, a, b, scale }
    }

    /// What is updated.
    pub fn base(&self) -> &M {
        &self.base
    }

    /// `A`, `[rank, in]`.
    pub fn a(&self) -> &LazyTensor {
        &self.a
    }

    /// `B`, `[out, rank]`.
    pub fn b(&self) -> &LazyTensor {
        &self.b
    }

    /// The factor of the update.
    pub fn scale(&self) -> f64 {
        self.scale
    }
}

impl<M: Module> Module for LoraLinear<M> {
    fn forward(&self, xs: &LazyTensor) -> Result<LazyTensor> {
        let (&[rank, inner], &[_, rank2]) = (self.a.dims(), self.b.dims()) else {
            return Err(refuse("lora", &[xs, &self.a, &self.b], Reason::Shapes));
        };
        if rank != rank2 || xs.dims().last() != Some(&inner) {
            return Err(refuse("lora", &[xs, &self.a, &self.b], Reason::Shapes));
        }
        let base = self.base.forward(xs)?;
        // rows of one product, whatever stands before them
        let rows = xs.dims().iter().rev().skip(1).product::<usize>();
        let update = xs.reshape((rows, inner))?;
        let update = update.lora(&self.a.t()?, &self.b.t()?, self.scale)?;
        base.add(&update.reshape(base.shape())?)
    }
}

/// The base with an update of the parameters `lora_A.weight` (`[rank, in_dim]`) and `lora_B.weight`
/// (`[out_dim, rank]`), scaled by `alpha / rank`.
///
/// # Errors
/// As [`VarBuilder::get`]; a rank of 0.
pub fn lora_linear<M: Module>(
    base: M,
    (in_dim, out_dim): (usize, usize),
    rank: usize,
    alpha: f64,
    vb: VarBuilder,
) -> Result<LoraLinear<M>> {
    if rank == 0 {
        let (name, must) = ("rank", "at least 1");
        return Err(refuse("lora", &[], Reason::Argument { name, must }));
    }
    let a = vb.pp("lora_A").get((rank, in_dim), "weight")?;
    let b = vb.pp("lora_B").get((out_dim, rank), "weight")?;
    Ok(LoraLinear::new(base, a, b, alpha / rank as f64))
}
