//! What the examples, tests and benchmarks with whole models share: from texts to ids.

use candlewick::models::SentenceEncoder;
use candlewick::{Device, Tensor};
use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use tokenizers::Tokenizer;

/// What `main` returns.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Turns texts into ids, each at its own length, as one model takes them.
pub struct Texts {
    tokenizer: Tokenizer,
    most: usize,
}

impl Texts {
    /// Of a model's folder. `most` is what the model takes; a folder that says less
    /// (`sentence_bert_config.json`) has its way.
    pub fn from_dir(dir: &Path, most: usize) -> Result<Self> {
        let file = dir.join("tokenizer.json");
        let mut tokenizer =
            Tokenizer::from_file(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        // Files often say that texts are padded and cut to a length that the model does not need.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None)?;
        let own = std::fs::read(dir.join("sentence_bert_config.json")).ok();
        let own = own.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
        let own = own.and_then(|config| config["max_seq_length"].as_u64());
        let most = own.map_or(most, |own| most.min(own as usize));
        tokenizer.with_truncation(Some(tokenizers::TruncationParams {
            max_length: most,
            ..Default::default()
        }))?;
        Ok(Self { tokenizer, most })
    }

    /// The most ids of a text: what is longer is cut.
    pub fn most(&self) -> usize {
        self.most
    }

    /// The ids of a text, with those that stand around it.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.tokenizer.encode(text, true)?.get_ids().to_vec())
    }

    /// The ids of a text, unless it is too long.
    pub fn whole_ids(&self, text: &str) -> Result<Option<Vec<u32>>> {
        let encoding = self.tokenizer.encode(text, true)?;
        let whole = encoding.get_overflowing().is_empty();
        Ok(whole.then(|| encoding.get_ids().to_vec()))
    }
}

/// The same model by candle-transformers, eager: what answers are compared with.
pub struct Reference {
    model: candle_transformers::models::bert::BertModel,
    pooling: candlewick::models::Pooling,
    normalize: bool,
}

impl Reference {
    /// Of the folder that `encoder` was read from.
    pub fn from_dir(dir: &Path, encoder: &SentenceEncoder) -> Result<Self> {
        let config = std::fs::read_to_string(dir.join("config.json"))?;
        let weights = candle_core::safetensors::load(dir.join("model.safetensors"), &Device::Cpu)?;
        Self::from_tensors(weights, &config, encoder)
    }

    /// Of these weights, which are `encoder`'s, and the text of a `config.json`.
    pub fn from_tensors(
        weights: HashMap<String, Tensor>,
        config: &str,
        encoder: &SentenceEncoder,
    ) -> Result<Self> {
        let config = serde_json::from_str(config)?;
        let weights =
            candle_nn::VarBuilder::from_tensors(weights, candle_core::DType::F32, &Device::Cpu);
        Ok(Self {
            model: candle_transformers::models::bert::BertModel::load(weights, &config)?,
            pooling: encoder.pooling(),
            normalize: encoder.normalizes(),
        })
    }

    /// The embeddings of texts that are padded to the length of the longest.
    pub fn embed(&self, texts: &[&[u32]]) -> candle_core::Result<Tensor> {
        let longest = texts.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let padded = |of: &dyn Fn(&[u32]) -> Vec<u32>| {
            let rows = texts.iter().flat_map(|ids| {
                let mut row = of(ids);
                row.resize(longest, 0);
                row
            });
            Tensor::from_vec(rows.collect(), (texts.len(), longest), &Device::Cpu)
        };
        let ids = padded(&|ids| ids.to_vec())?;
        let mask = padded(&|ids| vec![1; ids.len()])?;
        let alike = texts.iter().all(|ids| ids.len() == longest);
        let states = self
            .model
            .forward(&ids, &ids.zeros_like()?, (!alike).then_some(&mask))?;
        let pooled = match self.pooling {
            candlewick::models::Pooling::Cls => states.narrow(1, 0, 1)?.squeeze(1)?,
            candlewick::models::Pooling::Mean if alike => states.mean(1)?,
            candlewick::models::Pooling::Mean => {
                let mask = mask.to_dtype(states.dtype())?.unsqueeze(2)?;
                let sum = states.broadcast_mul(&mask)?.sum(1)?;
                sum.broadcast_div(&mask.sum(1)?)?
            }
        };
        if !self.normalize {
            return Ok(pooled);
        }
        pooled.broadcast_div(&pooled.sqr()?.sum_keepdim(1)?.sqrt()?)
    }
}

/// The cosine of the angle between two vectors, in f64.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| {
        let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
        products.sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
