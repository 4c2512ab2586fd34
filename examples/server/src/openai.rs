//! OpenAI's embeddings: texts or ids in, vectors out.

use crate::Server;
use crate::embed::Text;
use crate::refusal::{Protocol, Refused};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// OpenAI's form of an error.
pub struct OpenAi;

impl Protocol for OpenAi {
    fn error(refused: &Refused) -> Value {
        let kind = match refused.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        json!({ "error": { "message": refused.message, "type": kind, "param": null, "code": null } })
    }
}

type Refusal = crate::refusal::Refusal<OpenAi>;

#[derive(Deserialize)]
struct Request {
    input: Input,
    model: String,
    #[serde(default)]
    encoding_format: Encoding,
    dimensions: Option<usize>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "input: expected a text, a list of texts, ids, or a list of lists of ids"
)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u32>),
    ManyIds(Vec<Vec<u32>>),
}

impl Input {
    fn texts(self) -> Vec<Text> {
        match self {
            Self::Text(text) => vec![Text::Words(text)],
            Self::Texts(texts) => texts.into_iter().map(Text::Words).collect(),
            Self::Ids(ids) => vec![Text::Ids(ids)],
            Self::ManyIds(many) => many.into_iter().map(Text::Ids).collect(),
        }
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    Base64,
}

#[derive(Serialize)]
struct Answer<'a> {
    object: &'static str,
    data: Vec<Embedding>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Encoded,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Encoded {
    Float(Vec<f32>),
    /// Of the floats' bytes, little-endian.
    Base64(String),
}

impl Encoding {
    fn encode(self, vector: Vec<f32>) -> Encoded {
        match self {
            Self::Float => Encoded::Float(vector),
            Self::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                Encoded::Base64(BASE64_STANDARD.encode(bytes))
            }
        }
    }
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// `POST /v1/embeddings`.
pub async fn embeddings(
    State(server): State<Arc<Server>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body.map_err(|e| Refused::new(e.status(), e.body_text()))?;
    let request: Request =
        serde_json::from_slice(&body).map_err(|e| Refused::bad(format!("the request: {e}")))?;
    server.named(&request.model)?;
    let hidden = server.encoder.model().hidden_size();
    if request.dimensions.is_some_and(|wanted| wanted != hidden) {
        return Err(Refused::bad(format!("dimensions: this model has {hidden}")).into());
    }
    let embedded = server.embed(request.input.texts()).await?;
    let encode = |(index, vector)| Embedding {
        object: "embedding",
        index,
        embedding: request.encoding_format.encode(vector),
    };
    let answer = Answer {
        object: "list",
        data: embedded
            .vectors
            .into_iter()
            .enumerate()
            .map(encode)
            .collect(),
        model: &server.name,
        usage: Usage {
            prompt_tokens: embedded.tokens,
            total_tokens: embedded.tokens,
        },
    };
    Ok(Json(answer).into_response())
}

/// `GET /v1/models`.
pub async fn models(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [server.card()] }))
}

/// `GET /v1/models/{model}`.
pub async fn model(
    State(server): State<Arc<Server>>,
    Path(model): Path<String>,
) -> Result<Json<Value>, Refusal> {
    server.named(&model)?;
    Ok(Json(server.card()))
}

impl Server {
    /// Whether the model is asked for by its name.
    pub(crate) fn named(&self, name: &str) -> Result<(), Refused> {
        if name == self.name {
            return Ok(());
        }
        let message = format!("model {name:?} is not served here, {:?} is", self.name);
        Err(Refused::new(StatusCode::NOT_FOUND, message))
    }

    fn card(&self) -> Value {
        json!({ "id": self.name, "object": "model", "created": 0, "owned_by": "candlewick" })
    }
}
