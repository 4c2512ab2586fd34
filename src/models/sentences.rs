//! From the hidden states of a text's tokens to one vector for the text.

use super::bert::{BertModel, Config};
use super::config::{self, Fields};
use crate::nn::VarBuilder;
use crate::{ConfigError, D, DType, Device, LazyTensor, Params, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// How the hidden states of a text become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean, without padding.
    #[default]
    Mean,
    /// That of the first token.
    Cls,
}

/// A model that embeds sentences: texts of similar meaning get similar vectors.
///
/// A text goes in at its own length, one at a time and from any number of threads; batches of padded
/// texts are taken as well. The vectors are the same.
///
/// ```no_run
/// use candlewick::models::SentenceEncoder;
/// use candlewick::{Device, Executor};
/// let encoder = SentenceEncoder::from_dir("all-MiniLM-L6-v2", &Device::Cpu)?;
/// let executor = Executor::new(&Device::Cpu)?;
/// let embedding = encoder.embed(&[101, 7592, 2088, 102])?; // builds a graph
/// let embedding = executor.run(&embedding)?;
/// assert_eq!(embedding.dims(), [384]);
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SentenceEncoder {
    model: BertModel,
    pooling: Pooling,
    normalize: bool,
    device: Device,
}

impl SentenceEncoder {
    /// Of a model's folder, its weights on `device`: `config.json`, `model.safetensors` or its shards,
    /// and as sentence-transformers writes them `modules.json`, which says whether vectors are scaled
    /// to length 1, and the folder of the pooling that it names. Without `modules.json` it is the
    /// mean, and it is not scaled.
    ///
    /// # Errors
    /// A file that is missing or is not what it should be, by name: as [`Config::from_file`],
    /// [`Params::load_dir`] and [`BertModel::load`]; modules or a pooling that are not known here.
    pub fn from_dir(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        let config = Config::from_file(dir.join("config.json"))?;
        let (pooling, normalize) = modules(dir)?;
        let params = Params::load_dir(dir, device)?;
        let model = BertModel::load(VarBuilder::from_params(&params), &config)?;
        Ok(Self::new(model, pooling, normalize, device))
    }

    /// Of a model on `device`. With `normalize`, vectors are scaled to length 1.
    pub fn new(model: BertModel, pooling: Pooling, normalize: bool, device: &Device) -> Self {
        Self {
            model,
            pooling,
            normalize,
            device: device.clone(),
        }
    }

    /// The model.
    pub fn model(&self) -> &BertModel {
        &self.model
    }

    /// How hidden states become one.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Whether vectors are scaled to length 1.
    pub fn normalizes(&self) -> bool {
        self.normalize
    }

    /// The embedding of one text of any length, `[hidden]`.
    ///
    /// # Errors
    /// No ids, or more than the model has positions for. An id that the model does not have fails
    /// when it runs.
    pub fn embed(&self, ids: &[u32]) -> Result<LazyTensor> {
        let ids = LazyTensor::from_slice(ids, (1, ids.len()), &Device::Cpu)?;
        let ids = ids.to_device(&self.device)?;
        self.embed_batch(&ids, None)?.squeeze(0)
    }

    /// The embeddings of a batch of ids, `[batch, length]`, as `[batch, hidden]`. Where texts are
    /// padded to the length of the longest, `attention_mask`, of the same shape, is 1 for tokens and
    /// 0 for padding.
    ///
    /// # Errors
    /// As [`BertModel::forward`].
    pub fn embed_batch(
        &self,
        input_ids: &LazyTensor,
        attention_mask: Option<&LazyTensor>,
    ) -> Result<LazyTensor> {
        let states = self.model.forward(input_ids, None, attention_mask)?;
        let dtype = states.dtype();
        // sums of halves are made in f32
        let wide = match dtype {
            DType::F64 => DType::F64,
            _ => DType::F32,
        };
        let pooled = match (self.pooling, attention_mask) {
            (Pooling::Cls, _) => states.narrow(1, 0, 1)?.squeeze(1)?.to_dtype(wide)?,
            (Pooling::Mean, None) => states.to_dtype(wide)?.mean(1)?,
            (Pooling::Mean, Some(mask)) => masked_mean(&states.to_dtype(wide)?, mask)?,
        };
        let scaled = match self.normalize {
            true => {
                let length = pooled.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
                pooled.broadcast_div(&length.maximum(1e-12)?)?
            }
            false => pooled,
        };
        scaled.to_dtype(dtype)
    }
}

/// The mean over the length of `[batch, length, hidden]` where the mask is 1.
fn masked_mean(states: &LazyTensor, mask: &LazyTensor) -> Result<LazyTensor> {
    let mask = mask.to_dtype(states.dtype())?.unsqueeze(2)?;
    let sum = states.broadcast_mul(&mask)?.sum(1)?;
    sum.broadcast_div(&mask.sum(1)?.maximum(1e-9)?)
}

/// What `modules.json` says of pooling and scaling.
fn modules(dir: &Path) -> Result<(Pooling, bool)> {
    let file = dir.join("modules.json");
    if !file.exists() {
        return Ok((Pooling::Mean, false));
    }
    let refuse = |error: String| ConfigError::Json {
        file: Some(file.clone()),
        error: error.into(),
    };
    let list: Vec<Value> =
        serde_json::from_str(&config::text(&file)?).map_err(|error| refuse(error.to_string()))?;
    let (mut pooling, mut normalize) = (Pooling::Mean, false);
    for module in &list {
        let kind = module["type"].as_str().unwrap_or_default();
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => {}
            "Pooling" => {
                let path = PathBuf::from(module["path"].as_str().unwrap_or_default());
                pooling = pooling_of(&dir.join(path).join("config.json"))?;
            }
            "Normalize" => normalize = true,
            _ => return Err(refuse(format!("a module of type {kind:?} is not known")).into()),
        }
    }
    Ok((pooling, normalize))
}

fn pooling_of(file: &Path) -> Result<Pooling> {
    let fields = Fields::read(file)?;
    for other in [
        "pooling_mode_max_tokens",
        "pooling_mode_mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens",
        "pooling_mode_lasttoken",
    ] {
        if fields.flag(other)? == Some(true) {
            return Err(fields.refuse(other, "false"));
        }
    }
    let mean = fields.flag("pooling_mode_mean_tokens")? == Some(true);
    match fields.flag("pooling_mode_cls_token")? {
        Some(true) if mean => Err(fields.refuse("pooling_mode_cls_token", "false beside the mean")),
        Some(true) => Ok(Pooling::Cls),
        _ if mean => Ok(Pooling::Mean),
        _ => Err(fields.refuse(
            "pooling_mode_mean_tokens",
            "true, or that of the first token",
        )),
    }
}
