//! One layer of the encoder.

use super::Config;
use crate::nn::{
    Activation, LayerNorm, Linear, Module, MultiHeadAttention, VarBuilder, layer_norm, linear,
};
use crate::{LazyTensor, Result};

/// Attention and a perceptron, each with a residual and a norm behind it.
#[derive(Clone, Debug)]
pub(super) struct BertLayer {
    attention: MultiHeadAttention,
    attention_output: Output,
    intermediate: Linear,
    activation: Activation,
    output: Output,
}

/// A projection back to the hidden size, the residual, and the norm.
#[derive(Clone, Debug)]
struct Output {
    dense: Linear,
    norm: LayerNorm,
}

impl BertLayer {
    pub(super) fn load(vb: VarBuilder, config: &Config) -> Result<Self> {
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        let own = vb.pp("attention.self");
        let project = |name: &str| linear(hidden, hidden, own.pp(name));
        let (query, key, value) = (project("query")?, project("key")?, project("value")?);
        let dense = vb.pp("intermediate.dense");
        Ok(Self {
            attention: MultiHeadAttention::new(query, key, value, heads, heads),
            attention_output: Output::load(hidden, vb.pp("attention.output"), config)?,
            intermediate: linear(hidden, config.intermediate_size, dense)?,
            activation: config.hidden_act,
            output: Output::load(config.intermediate_size, vb.pp("output"), config)?,
        })
    }

    pub(super) fn forward(
        &self,
        states: &LazyTensor,
        mask: Option<&LazyTensor>,
    ) -> Result<LazyTensor> {
        let attended = self.attention.forward(states, mask)?;
        let states = self.attention_output.forward(&attended, states)?;
        let wide = states.apply(&self.intermediate)?.apply(&self.activation)?;
        self.output.forward(&wide, &states)
    }
}

impl Output {
    fn load(width: usize, vb: VarBuilder, config: &Config) -> Result<Self> {
        Ok(Self {
            dense: linear(width, config.hidden_size, vb.pp("dense"))?,
            norm: layer_norm(
                config.hidden_size,
                config.layer_norm_eps,
                vb.pp("LayerNorm"),
            )?,
        })
    }

    fn forward(&self, found: &LazyTensor, residual: &LazyTensor) -> Result<LazyTensor> {
        self.norm.forward(&(self.dense.forward(found)? + residual)?)
    }
}
