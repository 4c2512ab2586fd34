//! Llama's and Qwen2's weights as GGUF files have them.

use super::super::Fields;
use super::{Config, Projection};
use crate::nn::{QLinear, RmsNorm};
use crate::{ConfigError, Invalid, LazyTensor, QuantizedParams, Reason, Result};
use candle_core::quantized::gguf_file::Value;
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

/// The metadata of the architecture, its prefix left out.
pub(super) fn fields(weights: &QuantizedParams) -> Result<Fields> {
    let architecture = match weights.metadata("general.architecture") {
        Some(Value::String(name)) if name == "llama" || name == "qwen2" => name,
        other => {
            return Err(ConfigError::Field {
                file: None,
                field: "general.architecture",
                must: "\"llama\" or \"qwen2\"".to_owned(),
                got: other.map(|value| format!("{value:?}")),
            }
            .into());
        }
    };
    let mut map = Map::new();
    for key in KEYS {
        if let Some(value) = weights.metadata(&format!("{architecture}.{key}")) {
            map.insert((*key).to_owned(), json_of(value));
        }
    }
    if let Some(value) = weights.metadata("tokenizer.ggml.eos_token_id") {
        map.insert("eos_token_id".to_owned(), json_of(value));
    }
    let embeddings = weights.get("token_embd.weight")?;
    if let [vocabulary, _] = embeddings.shape().dims() {
        map.insert("vocab_size".to_owned(), json!(vocabulary));
    }
    Ok(Fields::from_map(map))
}

const KEYS: &[&str] = &[
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
];

/// What is no number and no text becomes nothing that a field would take.
fn json_of(value: &Value) -> Json {
    let float = |x: f64| serde_json::Number::from_f64(x).map_or(Json::Null, Json::Number);
    match value {
        Value::U8(n) => json!(n),
        Value::I8(n) => json!(n),
        Value::U16(n) => json!(n),
        Value::I16(n) => json!(n),
        Value::U32(n) => json!(n),
        Value::I32(n) => json!(n),
        Value::U64(n) => json!(n),
        Value::I64(n) => json!(n),
        // the shortest decimal that means this f32, as a configuration would have it
        Value::F32(x) => x.to_string().parse().map_or(Json::Null, float),
        Value::F64(x) => float(*x),
        Value::String(text) => json!(text),
        other => json!(format!("{other:?}")),
    }
}

/// Whether the file's queries and keys turn neighbours against each other.
pub(super) fn is_interleaved(weights: &QuantizedParams) -> bool {
    matches!(weights.metadata("general.architecture"), Some(Value::String(name)) if name == "llama")
}

/// The frequencies, divided by the file's own factors if it has some.
pub(super) fn frequencies(weights: &QuantizedParams, config: &Config) -> Result<Vec<f32>> {
    let mut frequencies = config.frequencies();
    if weights.contains("rope_freqs.weight") {
        let factors = checked(weights, "rope_freqs.weight", &[frequencies.len()])?;
        let factors = factors.to_vec1::<f32>().map_err(|error| {
            let operands = [(factors.dims(), factors.dtype())];
            crate::Error::Invalid(Arc::new(Invalid {
                op: "rope_freqs",
                operands: operands.map(|(dims, dtype)| (dims.into(), dtype)).into(),
                reason: Reason::Candle(error),
            }))
        })?;
        frequencies
            .iter_mut()
            .zip(factors)
            .for_each(|(w, by)| *w /= by);
    }
    Ok(frequencies)
}

pub(super) fn projection(
    weights: &QuantizedParams,
    name: &str,
    (inner, out): (usize, usize),
) -> Result<Projection> {
    let weight_name = format!("{name}.weight");
    let weight = weights.get(&weight_name)?;
    if weight.shape().dims() != [out, inner] {
        return Err(refuse(weight_name, &[out, inner], weight.shape().dims()));
    }
    let bias = format!("{name}.bias");
    let bias = match weights.contains(&bias) {
        true => Some(LazyTensor::from(checked(weights, &bias, &[out])?)),
        false => None,
    };
    Ok(Projection::Quantized(QLinear::new(weight.clone(), bias)))
}

pub(super) fn norm(weights: &QuantizedParams, name: &str, config: &Config) -> Result<RmsNorm> {
    let weight = checked(weights, name, &[config.hidden_size])?;
    Ok(RmsNorm::new(weight.into(), config.rms_norm_eps))
}

/// A weight as f32, of this shape.
pub(super) fn checked(
    weights: &QuantizedParams,
    name: &str,
    dims: &[usize],
) -> Result<crate::Tensor> {
    let tensor = weights.tensor(name)?;
    match tensor.dims() == dims {
        true => Ok(tensor),
        false => Err(refuse(name.to_owned(), dims, tensor.dims())),
    }
}

fn refuse(name: String, expected: &[usize], got: &[usize]) -> crate::Error {
    crate::ParamsError::Shape {
        name,
        expected: expected.into(),
        got: got.into(),
    }
    .into()
}
