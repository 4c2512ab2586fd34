//! Sentence embeddings over HTTP: one executor and one encoder behind an axum router.
//!
//! Every request is answered as if it were alone: each text is a graph of its own, and the executor
//! batches those of all requests. What it cannot do in time it refuses at once.

mod admission;
mod embed;
mod health;
mod inference;
mod metrics;
mod openai;
mod refusal;
mod serving;

pub use admission::Admission;
pub use metrics::Metrics;
pub use serving::{serve, until_told};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};
use candlewick::Executor;
use candlewick::models::SentenceEncoder;
use candlewick_models::Texts;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tower_http::timeout::TimeoutLayer;

/// What a request may bring at most, and what is taken of all.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body; more is answered with 413.
    pub body: usize,
    /// Texts of a request; more is answered with 400.
    pub texts: usize,
    /// Tokens of all requests that are being answered; what comes on top is answered with 429.
    pub tokens: usize,
    /// Work that has not begun so long after its request is not done, and answered with 503.
    pub time: Duration,
    /// Whether texts that are too long are cut, instead of answered with 400.
    pub cut: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 8 << 20,
            texts: 2048,
            tokens: 1 << 14,
            time: Duration::from_secs(30),
            cut: false,
        }
    }
}

/// What all requests share.
pub struct Server {
    name: String,
    executor: Executor,
    encoder: SentenceEncoder,
    texts: Texts,
    limits: Limits,
    admission: Admission,
    metrics: Metrics,
    draining: AtomicBool,
}

impl Server {
    /// One that serves `encoder` by the name `name`.
    pub fn new(
        name: String,
        executor: Executor,
        encoder: SentenceEncoder,
        texts: Texts,
        limits: Limits,
    ) -> Arc<Self> {
        let admission = Admission::new(limits.tokens);
        Arc::new(Self {
            metrics: Metrics::new(&executor, &admission),
            name,
            executor,
            encoder,
            texts,
            limits,
            admission,
            draining: AtomicBool::new(false),
        })
    }

    /// What runs the work.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// From now on it says that it is not ready, so that nobody new is sent here.
    pub fn drain(&self) {
        // ORDERING: Relaxed; no data travels with it.
        self.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        // ORDERING: Relaxed; no data travels with it.
        self.draining.load(Ordering::Relaxed)
    }
}

/// The server's routes.
pub fn router(server: Arc<Server>) -> Router {
    let Limits { body, time, .. } = server.limits;
    // also over reading the body; what has begun in time has as long again
    let time = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, 2 * time);
    let count = axum::middleware::from_fn_with_state(server.clone(), metrics::count);
    Router::new()
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{model}", get(openai::model))
        .nest("/v2", inference::routes())
        .route("/health", get(health::health))
        .route("/metrics", get(metrics::metrics))
        .layer(DefaultBodyLimit::max(body))
        .layer(time)
        .layer(count)
        .with_state(server)
}
