//! One layer of the decoder.

use super::{Config, Projection, gguf};
use crate::nn::{
    KvCache, Module, MultiHeadAttention, RmsNorm, RotaryEmbedding, VarBuilder, linear_b, rms_norm,
};
use crate::{LazyTensor, QuantizedParams, Result};

/// Attention and a perceptron with a gate, each behind a norm and beside a residual.
#[derive(Clone, Debug)]
pub(super) struct Block {
    attention_norm: RmsNorm,
    attention: MultiHeadAttention<Projection>,
    perceptron_norm: RmsNorm,
    gate: Projection,
    up: Projection,
    down: Projection,
}

/// Where a layer's weights are: below a path, or those of a number.
pub(super) enum Weights<'a> {
    Float(VarBuilder),
    Quantized(&'a QuantizedParams, usize),
}

/// A linear layer of a layer, by the names of both formats.
struct Name {
    float: &'static str,
    gguf: &'static str,
}

const fn name(float: &'static str, gguf: &'static str) -> Name {
    Name { float, gguf }
}

impl Weights<'_> {
    fn projection(&self, name: &Name, sizes: (usize, usize), bias: bool) -> Result<Projection> {
        match self {
            Self::Float(vb) => {
                let linear = linear_b(sizes.0, sizes.1, bias, vb.pp(name.float))?;
                Ok(Projection::Float(linear))
            }
            Self::Quantized(weights, i) => {
                gguf::projection(weights, &format!("blk.{i}.{}", name.gguf), sizes)
            }
        }
    }

    fn norm(&self, name: &Name, config: &Config) -> Result<RmsNorm> {
        match self {
            Self::Float(vb) => rms_norm(config.hidden_size, config.rms_norm_eps, vb.pp(name.float)),
            Self::Quantized(weights, i) => {
                gguf::norm(weights, &format!("blk.{i}.{}.weight", name.gguf), config)
            }
        }
    }
}

impl Block {
    pub(super) fn new(
        weights: &Weights<'_>,
        config: &Config,
        rotary: &RotaryEmbedding,
    ) -> Result<Self> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let (queries, keys) = (heads * config.head_dim, kv_heads * config.head_dim);
        let project =
            |float, gguf, sizes, bias| weights.projection(&name(float, gguf), sizes, bias);
        let (own, out) = (config.attention_bias, config.attention_output_bias);
        let attention = MultiHeadAttention::new(
            project("self_attn.q_proj", "attn_q", (hidden, queries), own)?,
            project("self_attn.k_proj", "attn_k", (hidden, keys), own)?,
            project("self_attn.v_proj", "attn_v", (hidden, keys), own)?,
            heads,
            kv_heads,
        );
        let output = project("self_attn.o_proj", "attn_output", (queries, hidden), out)?;
        Ok(Self {
            attention_norm: weights.norm(&name("input_layernorm", "attn_norm"), config)?,
            attention: attention.with_output(output).with_rotary(rotary.clone()),
            perceptron_norm: weights.norm(&name("post_attention_layernorm", "ffn_norm"), config)?,
            gate: project("mlp.gate_proj", "ffn_gate", (hidden, wide), false)?,
            up: project("mlp.up_proj", "ffn_up", (hidden, wide), false)?,
            down: project("mlp.down_proj", "ffn_down", (wide, hidden), false)?,
        })
    }

    pub(super) fn forward(
        &self,
        states: &LazyTensor,
        mask: Option<&LazyTensor>,
        cache: &mut KvCache,
    ) -> Result<LazyTensor> {
        let normed = self.attention_norm.forward(states)?;
        let states = (states + self.attention.forward_cached(&normed, mask, cache)?)?;
        let normed = self.perceptron_norm.forward(&states)?;
        let gated = (self.gate.forward(&normed)?.silu()? * self.up.forward(&normed)?)?;
        states + self.down.forward(&gated)?
    }
}
