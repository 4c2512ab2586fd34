//! Llama: a decoder that continues a text. Qwen2 has the same architecture with biases.
//!
//! Root mean square norms before each half of a layer, rotary positions, grouped queries, and a
//! perceptron with a gate (SwiGLU, [Shazeer 2020](https://arxiv.org/abs/2002.05202)), as of
//! [Touvron et al. 2023](https://arxiv.org/abs/2302.13971) and
//! [Yang et al. 2024](https://arxiv.org/abs/2407.10671).

mod block;
mod config;
mod gguf;

pub use config::{Config, RopeScaling};

use crate::nn::{
    Embedding, KvCache, Linear, Module, QLinear, RmsNorm, RotaryEmbedding, VarBuilder, causal_mask,
    embedding, linear_no_bias, rms_norm,
};
use crate::{DType, Device, Error, Invalid, LazyTensor, Params, QuantizedParams, Reason, Result};
use block::{Block, Weights};
use std::path::Path;
use std::sync::Arc;

/// A decoder, from ids to the scores of the next one.
///
/// [`Generation`](super::Generation) continues texts with it. By hand, a step is one submission of
/// the scores and of what the cache holds:
///
/// ```no_run
/// use candlewick::models::llama::{Cache, LlamaModel};
/// use candlewick::{Device, Executor, LazyTensor};
/// let model = LlamaModel::from_dir("model", &Device::Cpu)?;
/// let executor = Executor::new(&Device::Cpu)?;
/// let mut cache = Cache::new(&model);
/// for ids in [vec![1u32, 15043], vec![3186]] {
///     let ids = LazyTensor::from_slice(&ids, (1, ids.len()), &Device::Cpu)?;
///     let scores = model.forward(&ids, &mut cache)?;
///     let mut outputs = vec![&scores];
///     outputs.extend(cache.tensors());
///     let results = executor.run(&outputs[..])?;
///     assert_eq!(results[0].dims(), [1, model.config().vocab_size]);
/// }
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LlamaModel {
    config: Config,
    device: Device,
    words: Embedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Projection,
}

/// A linear layer of floats or of quantized weights.
#[derive(Clone, Debug)]
enum Projection {
    Float(Linear),
    Quantized(QLinear),
}

impl Module for Projection {
    fn forward(&self, xs: &LazyTensor) -> Result<LazyTensor> {
        match self {
            Self::Float(linear) => linear.forward(xs),
            Self::Quantized(linear) => linear.forward(xs),
        }
    }
}

/// The keys and values of a text so far, for each layer. A clone goes on by itself: what it has in
/// common with the other is there once.
#[derive(Clone, Debug)]
pub struct Cache(Vec<KvCache>);

impl Cache {
    /// Of no text yet.
    pub fn new(model: &LlamaModel) -> Self {
        Self(model.blocks.iter().map(|_| KvCache::new(2)).collect())
    }

    /// Whether it has a place for each of the model's layers.
    pub(super) fn is_of(&self, model: &LlamaModel) -> bool {
        self.0.len() == model.blocks.len()
    }

    /// How many positions the text has.
    pub fn len(&self) -> usize {
        self.0.first().map_or(0, KvCache::current_seq_len)
    }

    /// Whether it is of no text yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it holds: to be submitted together with a step's scores. Then the next step's graph
    /// begins with the results of this one, which stay on the device.
    pub fn tensors(&self) -> impl Iterator<Item = &LazyTensor> {
        self.0
            .iter()
            .flat_map(|cache| cache.k().into_iter().chain(cache.v()))
    }

    /// Goes back to the first `length` positions.
    ///
    /// # Errors
    /// More than there are.
    pub fn truncate(&mut self, length: usize) -> Result<()> {
        self.0
            .iter_mut()
            .try_for_each(|cache| cache.truncate(length))
    }
}

impl LlamaModel {
    /// Of a model's folder, its weights on `device`: `config.json` and `model.safetensors` or its
    /// shards.
    ///
    /// # Errors
    /// As [`Config::from_file`], [`Params::load_dir`] and [`load`](Self::load).
    pub fn from_dir(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        let config = Config::from_file(dir.join("config.json"))?;
        let params = Params::load_dir(dir, device)?;
        Self::load(VarBuilder::from_params(&params), &config)
    }

    /// Of a GGUF file of architecture `llama` or `qwen2`, its weights on `device`.
    ///
    /// # Errors
    /// As [`QuantizedParams::load_gguf`] and [`from_gguf`](Self::from_gguf).
    pub fn from_gguf_file(file: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::from_gguf(&QuantizedParams::load_gguf(file, device)?)
    }

    /// The model of these parameters, with the names of Hugging Face's library. It computes in their
    /// dtype.
    ///
    /// # Errors
    /// As [`VarBuilder::get`].
    pub fn load(vb: VarBuilder, config: &Config) -> Result<Self> {
        let (hidden, model) = (config.hidden_size, vb.pp("model"));
        let words = embedding(config.vocab_size, hidden, model.pp("embed_tokens"))?;
        let head = match config.tie_word_embeddings {
            true => Linear::new(words.embeddings().clone(), None),
            false => linear_no_bias(hidden, config.vocab_size, vb.pp("lm_head"))?,
        };
        let (dtype, device) = (words.embeddings().dtype(), vb.device());
        let rotary = rotary(config, &config.frequencies(), dtype, &device)?;
        let layers = model.pp("layers");
        let block = |i| Block::new(&Weights::Float(layers.pp(i)), config, &rotary);
        Ok(Self {
            words,
            blocks: (0..config.num_hidden_layers)
                .map(block)
                .collect::<Result<_>>()?,
            norm: rms_norm(hidden, config.rms_norm_eps, model.pp("norm"))?,
            head: Projection::Float(head),
            device,
            config: config.clone(),
        })
    }

    /// The model of a GGUF file. It computes in f32.
    ///
    /// # Errors
    /// As [`Config::from_gguf`]; weights that are missing or have another shape.
    pub fn from_gguf(weights: &QuantizedParams) -> Result<Self> {
        let config = Config::from_gguf(weights)?;
        let (vocabulary, hidden) = (config.vocab_size, config.hidden_size);
        let device = weights.get("token_embd.weight")?.device();
        let words = gguf::checked(weights, "token_embd.weight", &[vocabulary, hidden])?;
        let head = match config.tie_word_embeddings {
            true => "token_embd",
            false => "output",
        };
        let frequencies = gguf::frequencies(weights, &config)?;
        let rotary = rotary(&config, &frequencies, DType::F32, &device)?;
        let rotary = rotary.interleaved(gguf::is_interleaved(weights));
        let block = |i| Block::new(&Weights::Quantized(weights, i), &config, &rotary);
        Ok(Self {
            words: Embedding::new(words.into(), hidden),
            blocks: (0..config.num_hidden_layers)
                .map(block)
                .collect::<Result<_>>()?,
            norm: gguf::norm(weights, "output_norm.weight", &config)?,
            head: gguf::projection(weights, head, (hidden, vocabulary))?,
            device,
            config,
        })
    }

    /// The scores (logits) of what follows the last of these ids, `[batch, vocabulary]`. `input_ids`
    /// is `[batch, length]`, u8, u32 or i64, and follows what is in the cache, which then has them
    /// too.
    ///
    /// # Errors
    /// Another rank or dtype, no ids, more positions than the model has, a cache of another batch or
    /// model. An id that the model does not have fails when it runs.
    pub fn forward(&self, input_ids: &LazyTensor, cache: &mut Cache) -> Result<LazyTensor> {
        let refuse = |name, must| {
            Err(Error::Invalid(Arc::new(Invalid {
                op: "llama",
                operands: vec![(input_ids.shape(), input_ids.dtype())],
                reason: Reason::Argument { name, must },
            })))
        };
        let (_, length) = input_ids.dims2()?;
        let start = cache.len();
        if length == 0 || length + start > self.max_length() {
            return refuse("the length", "1 to what the model has positions for");
        }
        if !cache.is_of(self) {
            return refuse("the cache", "of this model");
        }
        let mut states = self.words.forward(input_ids)?;
        let mask = match length {
            1 => None,
            _ => Some(causal_mask(length, start, states.dtype(), &self.device)?),
        };
        for (block, cache) in self.blocks.iter().zip(&mut cache.0) {
            states = block.forward(&states, mask.as_ref(), cache)?;
        }
        let last = states.narrow(1, length - 1, 1)?.squeeze(1)?;
        self.head.forward(&self.norm.forward(&last)?)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The most positions that a text may have.
    pub fn max_length(&self) -> usize {
        self.config.max_position_embeddings
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

fn rotary(
    config: &Config,
    frequencies: &[f32],
    dtype: DType,
    device: &Device,
) -> Result<RotaryEmbedding> {
    let positions = config.max_position_embeddings;
    RotaryEmbedding::from_frequencies(frequencies, positions, dtype, device)
}
