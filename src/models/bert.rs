//! BERT: an encoder that sees a whole text at once.
//!
//! As of [Devlin et al. 2018](https://arxiv.org/abs/1810.04805). MiniLM, E5 and BGE models have this
//! architecture.

mod config;
mod layer;

pub use config::Config;

use crate::nn::{Embedding, LayerNorm, Module, VarBuilder, embedding, layer_norm};
use crate::{DType, Error, Invalid, LazyTensor, Reason, Result};
use layer::BertLayer;
use std::sync::Arc;

/// BERT's encoder, from ids to a vector for each of them.
///
/// ```no_run
/// use candlewick::models::bert::{BertModel, Config};
/// use candlewick::nn::VarBuilder;
/// use candlewick::{Device, Executor, LazyTensor, Params};
/// let config = Config::from_file("model/config.json")?;
/// let params = Params::load(&["model/model.safetensors"], &Device::Cpu)?;
/// let model = BertModel::load(VarBuilder::from_params(&params), &config)?;
///
/// let executor = Executor::new(&Device::Cpu)?;
/// let ids = LazyTensor::new(&[[101u32, 7592, 2088, 102]], &Device::Cpu)?;
/// let hidden = executor.run(&model.forward(&ids, None, None)?)?;
/// assert_eq!(hidden.dims(), [1, 4, config.hidden_size]);
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BertModel {
    words: Embedding,
    positions: LazyTensor,
    types: Embedding,
    norm: LayerNorm,
    layers: Vec<BertLayer>,
}

impl BertModel {
    /// The model of these parameters: `embeddings.*` and `encoder.*`, at the root, below `bert` or
    /// below the configuration's model type. It computes in their dtype.
    ///
    /// # Errors
    /// As [`VarBuilder::get`].
    pub fn load(vb: VarBuilder, config: &Config) -> Result<Self> {
        const FIRST: &str = "embeddings.word_embeddings.weight";
        let roots = ["bert", config.model_type.as_str()];
        let mut below = roots.into_iter().map(|root| vb.pp(root));
        let vb = match vb.contains_tensor(FIRST) {
            true => vb,
            false => below
                .find(|below| below.contains_tensor(FIRST))
                .unwrap_or(vb),
        };

        let (hidden, embeddings) = (config.hidden_size, vb.pp("embeddings"));
        let positions = embeddings.pp("position_embeddings");
        let types = embeddings.pp("token_type_embeddings");
        let layer = |i| BertLayer::load(vb.pp("encoder.layer").pp(i), config);
        Ok(Self {
            words: embedding(config.vocab_size, hidden, embeddings.pp("word_embeddings"))?,
            positions: positions.get((config.max_position_embeddings, hidden), "weight")?,
            types: embedding(config.type_vocab_size, hidden, types)?,
            norm: layer_norm(hidden, config.layer_norm_eps, embeddings.pp("LayerNorm"))?,
            layers: (0..config.num_hidden_layers)
                .map(layer)
                .collect::<Result<_>>()?,
        })
    }

    /// The encoder's last hidden states, `[batch, length, hidden]`.
    ///
    /// `input_ids` is `[batch, length]`, u8, u32 or i64, as are `token_type_ids`, which are 0 if they
    /// are not given. `attention_mask`, of the same shape and any dtype, is 1 where there is a token
    /// and 0 where there is padding; without it there is none.
    ///
    /// # Errors
    /// Other shapes or dtypes, no ids, more than the model has positions for. An id that the model
    /// does not have fails when it runs.
    pub fn forward(
        &self,
        input_ids: &LazyTensor,
        token_type_ids: Option<&LazyTensor>,
        attention_mask: Option<&LazyTensor>,
    ) -> Result<LazyTensor> {
        let mut operands = vec![input_ids];
        operands.extend(token_type_ids);
        operands.extend(attention_mask);
        let same = |x: &&LazyTensor| x.rank() == 2 && x.dims() == input_ids.dims();
        if !operands.iter().all(same) {
            return Err(refuse(&operands, Reason::Shapes));
        }
        let (_, length) = input_ids.dims2()?;
        let (name, must) = ("the length", "at most the number of the model's positions");
        if length > self.max_length() {
            return Err(refuse(&operands, Reason::Argument { name, must }));
        }
        let words = self.words.forward(input_ids)?;
        let words = match token_type_ids {
            Some(types) => words.add(&self.types.forward(types)?)?,
            // the row of type 0, for all
            None => words.broadcast_add(&self.types.embeddings().narrow(0, 0, 1)?)?,
        };
        let words = words.broadcast_add(&self.positions.narrow(0, 0, length)?)?;
        let mask = attention_mask.map(|mask| additive(mask, words.dtype()));
        let mask = mask.transpose()?;
        let mut states = self.norm.forward(&words)?;
        for layer in &self.layers {
            states = layer.forward(&states, mask.as_ref())?;
        }
        Ok(states)
    }

    /// The most ids that a text may have.
    pub fn max_length(&self) -> usize {
        self.positions.dims()[0]
    }

    /// The number of ids that there are: each must be below it.
    pub fn vocab_size(&self) -> usize {
        self.words.embeddings().dims()[0]
    }

    /// The size of a hidden state.
    pub fn hidden_size(&self) -> usize {
        self.words.hidden_size()
    }

    /// The dtype that it computes in: that of the parameters.
    pub fn dtype(&self) -> DType {
        self.positions.dtype()
    }
}

/// `[batch, 1, 1, length]`: 0 where the mask is 1. Where it is 0, so little that nothing is left of
/// it, but finite, so that a text of padding alone has an answer.
fn additive(mask: &LazyTensor, dtype: DType) -> Result<LazyTensor> {
    let least = match dtype {
        DType::F16 => 65_504.0,
        _ => 1e38,
    };
    let (batch, length) = mask.dims2()?;
    let mask = mask.to_dtype(dtype)?.reshape((batch, 1, 1, length))?;
    mask.affine(least, -least)
}

fn refuse(operands: &[&LazyTensor], reason: Reason) -> Error {
    let operands = operands.iter().map(|x| (x.shape(), x.dtype())).collect();
    Error::Invalid(Arc::new(Invalid {
        op: "bert",
        operands,
        reason,
    }))
}
