//! BERT's configuration.

use super::super::Fields;
use crate::Result;
use crate::nn::Activation;
use std::path::Path;

/// BERT's sizes, by the names of its `config.json`.
///
/// ```
/// use candlewick::models::bert::Config;
/// let config = Config::from_json(
///     r#"{"model_type": "bert", "hidden_size": 384, "num_attention_heads": 12,
///         "num_hidden_layers": 6, "intermediate_size": 1536, "vocab_size": 30522,
///         "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12}"#,
/// )?;
/// assert_eq!(config.num_hidden_layers, 6);
/// let error = Config::from_json("{}").unwrap_err();
/// assert!(error.to_string().contains("vocab_size is missing"), "{error}");
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How many ids there are.
    pub vocab_size: usize,
    /// The size of a hidden state.
    pub hidden_size: usize,
    /// How many layers there are.
    pub num_hidden_layers: usize,
    /// Into how many heads a hidden state is divided.
    pub num_attention_heads: usize,
    /// The width of the perceptron in each layer.
    pub intermediate_size: usize,
    /// The perceptron's activation function; `gelu` if it is not given.
    pub hidden_act: Activation,
    /// The most ids that a text may have.
    pub max_position_embeddings: usize,
    /// How many token types there are.
    pub type_vocab_size: usize,
    /// The epsilon of the norms.
    pub layer_norm_eps: f64,
    /// The id of padding; 0 if it is not given.
    pub pad_token_id: u32,
    /// `bert`, also if it is not given.
    pub model_type: String,
}

/// The sizes of BERT's base model.
impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 30_522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            pad_token_id: 0,
            model_type: "bert".to_owned(),
        }
    }
}

impl Config {
    /// From the text of a `config.json`.
    ///
    /// # Errors
    /// [`ConfigError`](crate::ConfigError): no JSON; a field that is missing or out of its
    /// range; heads that do not divide the hidden size; another model type or another kind of
    /// positions.
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
        let model_type = fields.text("model_type")?.unwrap_or("bert");
        if model_type != "bert" {
            return Err(fields.refuse("model_type", "\"bert\""));
        }
        let positions = fields.text("position_embedding_type")?;
        if positions.is_some_and(|positions| positions != "absolute") {
            return Err(fields.refuse("position_embedding_type", "\"absolute\""));
        }
        let config = Self {
            vocab_size: fields.size("vocab_size")?,
            hidden_size: fields.size("hidden_size")?,
            num_hidden_layers: fields.size("num_hidden_layers")?,
            num_attention_heads: fields.size("num_attention_heads")?,
            intermediate_size: fields.size("intermediate_size")?,
            hidden_act: fields.parsed("hidden_act")?.unwrap_or_default(),
            max_position_embeddings: fields.size("max_position_embeddings")?,
            type_vocab_size: fields.size("type_vocab_size")?,
            layer_norm_eps: fields.number("layer_norm_eps")?,
            pad_token_id: fields.id("pad_token_id")?.unwrap_or_default(),
            model_type: model_type.to_owned(),
        };
        if !config
            .hidden_size
            .is_multiple_of(config.num_attention_heads)
        {
            return Err(fields.refuse("num_attention_heads", "a divisor of hidden_size"));
        }
        Ok(config)
    }
}
