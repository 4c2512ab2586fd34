//! The Open Inference Protocol, version 2, over REST, with its extension for binary tensors.
//!
//! The model takes `text`, BYTES `[n]`, or else `input_ids`, INT64 or INT32 `[n, length]`, with an
//! `attention_mask` of the same shape if rows are padded at their end. It makes `embedding`, FP32
//! `[n, hidden]`. Padding is not computed: each row goes in at its own length.

mod tensors;

use crate::Server;
use crate::embed::Text;
use crate::refusal::{Protocol, Refused};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use tensors::{Input, Values};

/// In a request and an answer with binary tensors: how many bytes of the body are JSON.
const JSON_LENGTH: &str = "inference-header-content-length";

/// The only version there is.
const VERSION: &str = "1";

/// The protocol's form of an error.
struct Inference;

impl Protocol for Inference {
    fn error(refused: &Refused) -> Value {
        json!({ "error": refused.message })
    }
}

type Refusal = crate::refusal::Refusal<Inference>;

/// The routes below `/v2`.
pub fn routes() -> Router<Arc<Server>> {
    let model = Router::new()
        .route("/", get(metadata))
        .route("/ready", get(model_ready))
        .route("/infer", post(infer));
    Router::new()
        .route("/", get(server_metadata))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .nest("/models/{model}", model.clone())
        .nest("/models/{model}/versions/{version}", model)
}

/// Which model a path names.
#[derive(Deserialize)]
struct Named {
    model: String,
    version: Option<String>,
}

impl Named {
    fn check(&self, server: &Server) -> Result<(), Refused> {
        server.named(&self.model)?;
        match self.version.as_deref() {
            None | Some(VERSION) => Ok(()),
            Some(other) => {
                let message = format!("version {other:?} is not served here, {VERSION:?} is");
                Err(Refused::new(StatusCode::NOT_FOUND, message))
            }
        }
    }
}

async fn server_metadata() -> Json<Value> {
    Json(json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data"],
    }))
}

async fn live(State(server): State<Arc<Server>>) -> (StatusCode, Json<Value>) {
    let live = server.live();
    (status(live), Json(json!({ "live": live })))
}

async fn ready(State(server): State<Arc<Server>>) -> (StatusCode, Json<Value>) {
    let ready = server.ready().is_ok();
    (status(ready), Json(json!({ "ready": ready })))
}

async fn model_ready(
    State(server): State<Arc<Server>>,
    Path(named): Path<Named>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    named.check(&server)?;
    let ready = server.ready().is_ok();
    let answer = json!({ "name": server.name, "ready": ready });
    Ok((status(ready), Json(answer)))
}

fn status(well: bool) -> StatusCode {
    match well {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn metadata(
    State(server): State<Arc<Server>>,
    Path(named): Path<Named>,
) -> Result<Json<Value>, Refusal> {
    named.check(&server)?;
    let hidden = server.encoder.model().hidden_size();
    Ok(Json(json!({
        "name": server.name,
        "versions": [VERSION],
        "platform": "candlewick",
        "inputs": [
            { "name": "text", "datatype": "BYTES", "shape": [-1] },
            { "name": "input_ids", "datatype": "INT64", "shape": [-1, -1] },
            { "name": "attention_mask", "datatype": "INT64", "shape": [-1, -1] },
        ],
        "outputs": [{ "name": "embedding", "datatype": "FP32", "shape": [-1, hidden] }],
    })))
}

#[derive(Deserialize)]
struct Request {
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    inputs: Vec<Input>,
    #[serde(default)]
    outputs: Vec<Wanted>,
}

#[derive(Default, Deserialize)]
struct Parameters {
    #[serde(default)]
    binary_data_output: bool,
}

#[derive(Deserialize)]
struct Wanted {
    name: String,
    #[serde(default)]
    parameters: WantedParameters,
}

#[derive(Default, Deserialize)]
struct WantedParameters {
    binary_data: Option<bool>,
}

impl Request {
    /// Whether the answer's tensor is binary.
    fn binary(&self) -> Result<bool, Refused> {
        let mut binary = self.parameters.binary_data_output;
        for wanted in &self.outputs {
            if wanted.name != "embedding" {
                return Err(Refused::bad(format!(
                    "there is no output {:?}",
                    wanted.name
                )));
            }
            binary = wanted.parameters.binary_data.unwrap_or(binary);
        }
        Ok(binary)
    }
}

async fn infer(
    State(server): State<Arc<Server>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    named.check(&server)?;
    let body = body.map_err(|e| Refused::new(e.status(), e.body_text()))?;
    let (json, binary) = split(&headers, &body)?;
    let mut request: Request =
        serde_json::from_slice(json).map_err(|e| Refused::bad(format!("the request: {e}")))?;
    let binary_output = request.binary()?;
    let texts = texts(std::mem::take(&mut request.inputs), binary)?;
    let embedded = server.embed(texts).await?;
    let answer = Answer {
        model_name: &server.name,
        model_version: VERSION,
        id: request.id,
        outputs: [Output::default()],
    };
    Ok(answer.with(embedded.vectors, binary_output))
}

/// The JSON and the binary part of a body.
fn split<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Refused> {
    let Some(length) = headers.get(JSON_LENGTH) else {
        return Ok((body, &[]));
    };
    let length = length.to_str().ok().and_then(|text| text.parse().ok());
    length
        .and_then(|length| body.split_at_checked(length))
        .ok_or_else(|| Refused::bad(format!("{JSON_LENGTH}: not a length within the body")))
}

/// The texts of the inputs, of which `binary` has the bytes of those that are not in the JSON.
fn texts(inputs: Vec<Input>, mut binary: &[u8]) -> Result<Vec<Text>, Refused> {
    let (mut words, mut ids, mut mask) = (None, None, None);
    for input in inputs {
        let (name, shape) = (input.name.clone(), input.shape.clone());
        let place = match name.as_str() {
            "text" => &mut words,
            "input_ids" => &mut ids,
            "attention_mask" => &mut mask,
            _ => return Err(Refused::bad(format!("there is no input {name:?}"))),
        };
        let values = input.read(&mut binary)?;
        if place.replace((values, shape)).is_some() {
            return Err(Refused::bad(format!("{name}: given twice")));
        }
    }
    if !binary.is_empty() {
        let message = format!("{} bytes belong to no input", binary.len());
        return Err(Refused::bad(message));
    }
    match (words, ids, mask) {
        (Some((Values::Bytes(words), _)), None, None) => {
            Ok(words.into_iter().map(Text::Words).collect())
        }
        (None, Some((Values::Integers(ids), shape)), None) => rows(&ids, None, &shape),
        (None, Some((Values::Integers(ids), shape)), Some((Values::Integers(mask), of_mask))) => {
            if shape != of_mask {
                let message = format!("attention_mask: {of_mask:?}, expected {shape:?}");
                return Err(Refused::bad(message));
            }
            rows(&ids, Some(&mask), &shape)
        }
        _ => Err(Refused::bad(
            "inputs: expected text, or input_ids with or without attention_mask",
        )),
    }
}

/// Each row of ids at its own length.
fn rows(ids: &[i64], mask: Option<&[i64]>, shape: &[usize]) -> Result<Vec<Text>, Refused> {
    let &[_, length] = shape else {
        return Err(Refused::bad(format!(
            "input_ids: {shape:?}, expected two dimensions"
        )));
    };
    let length = length.max(1);
    let row = |(at, ids): (usize, &[i64])| {
        let long = match mask.map(|mask| &mask[at * length..][..ids.len()]) {
            None => ids.len(),
            Some(mask) => {
                let long = mask.iter().take_while(|&&m| m == 1).count();
                if mask[long..].iter().any(|&m| m != 0) {
                    let message = "expected ones and then zeros";
                    return Err(Refused::bad(format!("attention_mask, row {at}: {message}")));
                }
                long
            }
        };
        let id = |&id: &i64| {
            let refuse = |_| Refused::bad(format!("input_ids, row {at}: {id} is not an id"));
            u32::try_from(id).map_err(refuse)
        };
        let ids: Result<_, _> = ids[..long].iter().map(id).collect();
        Ok(Text::Ids(ids?))
    };
    ids.chunks(length).enumerate().map(row).collect()
}

#[derive(Serialize)]
struct Answer<'a> {
    model_name: &'a str,
    model_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: [Output; 1],
}

#[derive(Default, Serialize)]
struct Output {
    name: &'static str,
    datatype: &'static str,
    shape: [usize; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<OutputParameters>,
}

#[derive(Serialize)]
struct OutputParameters {
    binary_data_size: usize,
}

impl Answer<'_> {
    fn with(mut self, vectors: Vec<Vec<f32>>, binary: bool) -> Response {
        let shape = [vectors.len(), vectors.first().map_or(0, Vec::len)];
        let data = vectors.concat();
        self.outputs = [Output {
            name: "embedding",
            datatype: "FP32",
            shape,
            parameters: binary.then_some(OutputParameters {
                binary_data_size: size_of_val(data.as_slice()),
            }),
            data: None,
        }];
        if !binary {
            self.outputs[0].data = Some(data);
            return Json(self).into_response();
        }
        let mut body = match serde_json::to_vec(&self) {
            Ok(json) => json,
            Err(e) => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                return Refusal::from(Refused::new(status, e.to_string())).into_response();
            }
        };
        let headers = [
            (JSON_LENGTH, body.len().to_string()),
            ("content-type", "application/octet-stream".to_owned()),
        ];
        body.extend(data.iter().flat_map(|x| x.to_le_bytes()));
        (headers, body).into_response()
    }
}
