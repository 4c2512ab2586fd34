//! The configuration of Llama's and Qwen2's models.

use super::super::Fields;
use crate::{QuantizedParams, Result};
use std::f64::consts::PI;
use std::path::Path;

/// A decoder's sizes, by the names of its `config.json`.
///
/// ```
/// use candlewick::models::llama::Config;
/// let config = Config::from_json(
///     r#"{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4,
///         "num_key_value_heads": 2, "num_hidden_layers": 2, "intermediate_size": 128,
///         "vocab_size": 256, "max_position_embeddings": 512, "rms_norm_eps": 1e-5}"#,
/// )?;
/// assert_eq!((config.num_key_value_heads, config.rope_theta), (2, 10_000.0));
/// let error = Config::from_json(r#"{"model_type": "mamba"}"#).unwrap_err();
/// assert!(error.to_string().contains("model_type"), "{error}");
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How many ids there are.
    pub vocab_size: usize,
    /// The size of a hidden state.
    pub hidden_size: usize,
    /// The width of the perceptron in each layer.
    pub intermediate_size: usize,
    /// How many layers there are.
    pub num_hidden_layers: usize,
    /// How many heads of queries there are.
    pub num_attention_heads: usize,
    /// How many heads of keys and values there are; as many if it is not given.
    pub num_key_value_heads: usize,
    /// The size of a head; what the hidden size has for each if it is not given.
    pub head_dim: usize,
    /// The epsilon of the norms.
    pub rms_norm_eps: f64,
    /// The base of the positions' frequencies; 10000 if it is not given.
    pub rope_theta: f64,
    /// How the frequencies are changed for longer texts, if they are.
    pub rope_scaling: Option<RopeScaling>,
    /// The most positions that a text may have.
    pub max_position_embeddings: usize,
    /// Whether the embeddings are the head's weights too.
    pub tie_word_embeddings: bool,
    /// Whether queries, keys and values have a bias.
    pub attention_bias: bool,
    /// Whether the projection behind the heads has one: Llama's where the others have, Qwen2's not.
    pub attention_output_bias: bool,
    /// The ids that end a text.
    pub eos_token_id: Vec<u32>,
}

/// The scaling of Llama 3's frequencies: those of long waves are divided by `factor`, those of short
/// ones stay, and between them is a smooth passage.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeScaling {
    /// By how much the frequencies of long waves are divided.
    pub factor: f64,
    /// Waves longer than the original length over this are long.
    pub low_freq_factor: f64,
    /// Waves shorter than the original length over this are short.
    pub high_freq_factor: f64,
    /// The length of the texts that the model saw first.
    pub original_max_position_embeddings: usize,
}

/// Numbers in the table of positions: a million positions of heads of 128.
const LARGEST_TABLE: usize = 1 << 27;

impl Config {
    /// From the text of a `config.json`.
    ///
    /// # Errors
    /// [`ConfigError`](crate::ConfigError): no JSON; a field that is missing or out of its range;
    /// heads that do not go together; another model type, activation, scaling of positions, or a
    /// sliding window.
    pub fn from_json(text: &str) -> Result<Self> {
        Self::of(&Fields::parse(text)?)
    }

    /// From a `config.json`.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), naming the file; a file that cannot be read.
    pub fn from_file(file: impl AsRef<Path>) -> Result<Self> {
        Self::of(&Fields::read(file.as_ref())?)
    }

    fn of(fields: &Fields) -> Result<Self> {
        let qwen = match fields.text("model_type")? {
            Some("llama") => false,
            Some("qwen2") => true,
            _ => return Err(fields.refuse("model_type", "\"llama\" or \"qwen2\"")),
        };
        if fields.text("hidden_act")?.is_some_and(|act| act != "silu") {
            return Err(fields.refuse("hidden_act", "\"silu\""));
        }
        for field in ["use_sliding_window", "mlp_bias"] {
            if fields.flag(field)? == Some(true) {
                return Err(fields.refuse(field, "false"));
            }
        }
        // newer files have all of the positions in one field
        let parameters = fields.object("rope_parameters")?;
        let rope = parameters.as_ref().unwrap_or(fields);
        let scaled = match parameters {
            Some(_) => parameters.as_ref().map(scaling).transpose()?.flatten(),
            None => {
                let scaled = fields.object("rope_scaling")?;
                scaled.as_ref().map(scaling).transpose()?.flatten()
            }
        };
        let bias = fields.flag("attention_bias")?;
        let (hidden, heads) = (
            fields.size("hidden_size")?,
            fields.size("num_attention_heads")?,
        );
        let config = Self {
            vocab_size: fields.size("vocab_size")?,
            hidden_size: hidden,
            intermediate_size: fields.size("intermediate_size")?,
            num_hidden_layers: fields.size("num_hidden_layers")?,
            num_attention_heads: heads,
            num_key_value_heads: fields
                .size_if_given("num_key_value_heads")?
                .unwrap_or(heads),
            head_dim: fields.size_if_given("head_dim")?.unwrap_or(hidden / heads),
            rms_norm_eps: fields.number("rms_norm_eps")?,
            rope_theta: rope.number_if_given("rope_theta")?.unwrap_or(10_000.0),
            rope_scaling: scaled,
            max_position_embeddings: fields.size("max_position_embeddings")?,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            attention_bias: bias.unwrap_or(qwen),
            attention_output_bias: bias.unwrap_or(false) && !qwen,
            eos_token_id: fields.ids("eos_token_id")?,
        };
        config.check(|field, must| fields.refuse(field, must))?;
        Ok(config)
    }

    /// From the metadata of a GGUF file of architecture `llama` or `qwen2`.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), by the keys of the metadata.
    pub fn from_gguf(weights: &QuantizedParams) -> Result<Self> {
        let fields = super::gguf::fields(weights)?;
        let scaling = fields.text("rope.scaling.type")?;
        if scaling.is_some_and(|scaling| scaling != "none") {
            return Err(fields.refuse("rope.scaling.type", "\"none\""));
        }
        let heads = fields.size("attention.head_count")?;
        let hidden = fields.size("embedding_length")?;
        let config = Self {
            vocab_size: fields.size("vocab_size")?,
            hidden_size: hidden,
            intermediate_size: fields.size("feed_forward_length")?,
            num_hidden_layers: fields.size("block_count")?,
            num_attention_heads: heads,
            num_key_value_heads: fields
                .size_if_given("attention.head_count_kv")?
                .unwrap_or(heads),
            head_dim: fields
                .size_if_given("attention.key_length")?
                .unwrap_or(hidden / heads),
            rms_norm_eps: fields.number("attention.layer_norm_rms_epsilon")?,
            rope_theta: fields
                .number_if_given("rope.freq_base")?
                .unwrap_or(10_000.0),
            rope_scaling: None,
            max_position_embeddings: fields.size_if_given("context_length")?.unwrap_or(4096),
            tie_word_embeddings: !weights.contains("output.weight"),
            attention_bias: weights.contains("blk.0.attn_q.bias"),
            attention_output_bias: weights.contains("blk.0.attn_output.bias"),
            eos_token_id: fields.id("eos_token_id")?.into_iter().collect(),
        };
        let turned = fields.size_if_given("rope.dimension_count")?;
        if turned.is_some_and(|turned| turned != config.head_dim) {
            return Err(fields.refuse("rope.dimension_count", "the size of a head"));
        }
        config.check(|field, must| match field {
            "num_key_value_heads" => fields.refuse("attention.head_count_kv", must),
            "max_position_embeddings" => fields.refuse("context_length", must),
            _ => fields.refuse("attention.key_length", must),
        })?;
        Ok(config)
    }

    /// What goes together.
    fn check(&self, refuse: impl Fn(&'static str, &'static str) -> crate::Error) -> Result<()> {
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return Err(refuse(
                "num_key_value_heads",
                "a divisor of num_attention_heads",
            ));
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            let must = "even, as hidden_size over num_attention_heads must be if it is not given";
            return Err(refuse("head_dim", must));
        }
        if self.max_position_embeddings.saturating_mul(self.head_dim) > LARGEST_TABLE {
            let must = "so many that the table of positions has at most 2^27 numbers";
            return Err(refuse("max_position_embeddings", must));
        }
        Ok(())
    }

    /// The angle of each pair from one position to the next, in radians.
    pub(super) fn frequencies(&self) -> Vec<f32> {
        let exponent = |i: usize| i as f32 / self.head_dim as f32;
        let plain = (0..self.head_dim)
            .step_by(2)
            .map(|i| 1.0 / (self.rope_theta as f32).powf(exponent(i)));
        match &self.rope_scaling {
            Some(scaling) => plain.map(|frequency| scaling.scale(frequency)).collect(),
            None => plain.collect(),
        }
    }
}

impl RopeScaling {
    fn scale(&self, frequency: f32) -> f32 {
        let frequency = f64::from(frequency);
        let turns = self.original_max_position_embeddings as f64 * frequency / (2.0 * PI);
        let smooth =
            (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor);
        let smooth = smooth.clamp(0.0, 1.0);
        ((1.0 - smooth) * frequency / self.factor + smooth * frequency) as f32
    }
}

/// What the fields of a scaling say.
fn scaling(fields: &Fields) -> Result<Option<RopeScaling>> {
    match fields.text("rope_type")?.or(fields.text("type")?) {
        Some("default") => Ok(None),
        Some("llama3") => {
            let scaling = RopeScaling {
                factor: fields.number("factor")?,
                low_freq_factor: fields.number("low_freq_factor")?,
                high_freq_factor: fields.number("high_freq_factor")?,
                original_max_position_embeddings: fields
                    .size("original_max_position_embeddings")?,
            };
            if scaling.factor == 0.0 {
                return Err(fields.refuse("factor", "more than 0"));
            }
            match scaling.high_freq_factor > scaling.low_freq_factor {
                true => Ok(Some(scaling)),
                false => Err(fields.refuse("high_freq_factor", "more than low_freq_factor")),
            }
        }
        _ => Err(fields.refuse("rope_type", "\"llama3\" or \"default\"")),
    }
}
