//! Attention with several heads.

use super::{KvCache, Linear, Module, RotaryEmbedding, refuse};
use crate::{DType, Device, LazyTensor, Reason, Result};

/// `[batch, length, heads * size]` as `[batch, heads, length, size]`.
///
/// # Errors
/// Another rank, or a last dimension that `heads` does not divide.
pub fn split_heads(xs: &LazyTensor, heads: usize) -> Result<LazyTensor> {
    let (batch, length, hidden) = xs.dims3()?;
    if heads == 0 || !hidden.is_multiple_of(heads) {
        let reason = Reason::Argument {
            name: "heads",
            must: "a divisor of the last dimension",
        };
        return Err(refuse("split_heads", &[xs], reason));
    }
    xs.reshape((batch, length, heads, hidden / heads))?
        .transpose(1, 2)
}

/// `[batch, heads, length, size]` as `[batch, length, heads * size]`.
///
/// # Errors
/// Another rank.
pub fn merge_heads(xs: &LazyTensor) -> Result<LazyTensor> {
    let (batch, heads, length, size) = xs.dims4()?;
    xs.transpose(1, 2)?.reshape((batch, length, heads * size))
}

/// An additive mask `[length, start + length]`: each of `length` queries, the first of them at
/// position `start`, sees itself and what stands before it.
///
/// # Errors
/// A size that overflows; a dtype or device that [`LazyTensor::to_dtype`] or
/// [`LazyTensor::to_device`] does not take.
pub fn causal_mask(
    length: usize,
    start: usize,
    dtype: DType,
    device: &Device,
) -> Result<LazyTensor> {
    let size = start.checked_add(length);
    let all = size.and_then(|size| size.checked_mul(length));
    let all = all.filter(|&all| all <= isize::MAX as usize / size_of::<f32>());
    let (Some(size), Some(all)) = (size, all) else {
        return Err(refuse("causal_mask", &[], Reason::Overflow));
    };
    let row = |i: usize| {
        (0..size).map(move |j| {
            if j > start + i {
                f32::NEG_INFINITY
            } else {
                0.0
            }
        })
    };
    let mut mask = Vec::with_capacity(all);
    mask.extend((0..length).flat_map(row));
    let mask = LazyTensor::from_vec(mask, (length, size), &Device::Cpu)?;
    mask.to_dtype(dtype)?.to_device(device)
}

/// Attention with several heads: projections of queries, keys and values, attention in each head,
/// and a projection of what the heads found.
///
/// Takes `[batch, length, hidden]` and gives the same. `P` is what projects, a [`Linear`] unless
/// said otherwise. With fewer heads for keys and values than for queries, neighbouring queries share
/// one (grouped queries). The scores are scaled by one over the root of a head's size.
///
/// ```
/// use candlewick::nn::{Linear, MultiHeadAttention};
/// use candlewick::{DType, Device, LazyTensor};
/// let w = |out, inner| LazyTensor::ones((out, inner), DType::F32, &Device::Cpu);
/// let project = |out| Ok::<_, candlewick::Error>(Linear::new(w(out, 8)?, None));
/// let attention =
///     MultiHeadAttention::new(project(8)?, project(4)?, project(4)?, 4, 2).with_output(project(8)?);
/// let x = LazyTensor::ones((2, 5, 8), DType::F32, &Device::Cpu)?;
/// assert_eq!(attention.forward(&x, None)?.dims(), [2, 5, 8]);
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MultiHeadAttention<P = Linear> {
    query: P,
    key: P,
    value: P,
    output: Option<P>,
    heads: usize,
    kv_heads: usize,
    scale: Option<f64>,
    rotary: Option<RotaryEmbedding>,
}

impl<P: Module> MultiHeadAttention<P> {
    /// Of these projections, without one behind the heads. `heads` is a multiple of `kv_heads`.
    pub fn new(query: P, key: P, value: P, heads: usize, kv_heads: usize) -> Self {
        Self {
            query,
            key,
            value,
            output: None,
            heads,
            kv_heads,
            scale: None,
            rotary: None,
        }
    }

    /// With a projection of what the heads found.
    pub fn with_output(self, output: P) -> Self {
        Self {
            output: Some(output),
            ..self
        }
    }

    /// With another factor of the scores.
    pub fn with_scale(self, scale: f64) -> Self {
        Self {
            scale: Some(scale),
            ..self
        }
    }

    /// With queries and keys turned by their position.
    pub fn with_rotary(self, rotary: RotaryEmbedding) -> Self {
        Self {
            rotary: Some(rotary),
            ..self
        }
    }

    /// Every position of `xs` attends to every position. `mask` is added to the scores, and
    /// broadcasts to `[batch, heads, length, length]`.
    ///
    /// # Errors
    /// Shapes and dtypes that the projections or [`sdpa`](LazyTensor::sdpa) do not take.
    pub fn forward(&self, xs: &LazyTensor, mask: Option<&LazyTensor>) -> Result<LazyTensor> {
        self.attend(xs, xs, mask, None)
    }

    /// Every position of `xs` attends to every position of `context`, `[batch, other length,
    /// hidden]`: cross attention.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_cross(
        &self,
        xs: &LazyTensor,
        context: &LazyTensor,
        mask: Option<&LazyTensor>,
    ) -> Result<LazyTensor> {
        self.attend(xs, context, mask, None)
    }

    /// Every position of `xs` attends to those in the cache and to every position of `xs`, which is
    /// put behind them. `mask` broadcasts to `[batch, heads, length, all of them]`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward); the cache may then have the new positions already.
    pub fn forward_cached(
        &self,
        xs: &LazyTensor,
        mask: Option<&LazyTensor>,
        cache: &mut KvCache,
    ) -> Result<LazyTensor> {
        self.attend(xs, xs, mask, Some(cache))
    }

    fn attend(
        &self,
        xs: &LazyTensor,
        context: &LazyTensor,
        mask: Option<&LazyTensor>,
        cache: Option<&mut KvCache>,
    ) -> Result<LazyTensor> {
        let start = cache.as_ref().map_or(0, |cache| cache.current_seq_len());
        let turn = |xs: LazyTensor| match &self.rotary {
            Some(rotary) => rotary.rotate(&xs, start),
            None => Ok(xs),
        };
        let query = turn(split_heads(&self.query.forward(xs)?, self.heads)?)?;
        let key = turn(split_heads(&self.key.forward(context)?, self.kv_heads)?)?;
        let value = split_heads(&self.value.forward(context)?, self.kv_heads)?;
        let (key, value) = match cache {
            Some(cache) => cache.append(&key, &value)?,
            None => (key, value),
        };
        let size = query.dims()[3];
        let scale = self.scale.unwrap_or(1.0 / (size as f64).sqrt());
        let found = merge_heads(&query.sdpa(&key, &value, mask, scale)?)?;
        self.output.as_ref().forward(&found)
    }
}
