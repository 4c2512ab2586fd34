//! What Prometheus asks for: how requests fare, and how the executor is.

use crate::{Admission, Server};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use candlewick::{Executor, Stats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// The status that stands for a client that went away before it was answered.
const GONE: u16 = 499;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    route: String,
    status: u16,
}

/// The server's metrics.
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    texts: Counter,
    tokens: Counter,
}

impl Metrics {
    /// Those of a server with this executor.
    pub fn new(executor: &Executor, admission: &Admission) -> Self {
        let mut registry = Registry::with_prefix("candlewick");
        let requests = Family::default();
        // from half a millisecond to half a minute
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0005, 2.0, 17));
        let seconds = Family::new_with_constructor(buckets);
        let (texts, tokens) = (Counter::default(), Counter::default());
        registry.register(
            "requests",
            "Requests by route and status; 499 where the client went away",
            requests.clone(),
        );
        registry.register(
            "request_seconds",
            "From the first byte of a request to its answer",
            seconds.clone(),
        );
        registry.register("texts", "Texts that were embedded", texts.clone());
        registry.register("tokens", "Their tokens", tokens.clone());
        registry.register_collector(Box::new(OfExecutor {
            executor: executor.clone(),
            under_way: Box::new(admission.watch()),
        }));
        Self {
            registry,
            requests,
            seconds,
            texts,
            tokens,
        }
    }

    /// So many texts were embedded.
    pub(crate) fn embedded(&self, texts: usize, tokens: usize) {
        self.texts.inc_by(texts as u64);
        self.tokens.inc_by(tokens as u64);
    }
}

/// Reads the executor when it is asked.
struct OfExecutor {
    executor: Executor,
    under_way: Box<dyn Fn() -> u32 + Send + Sync>,
}

impl fmt::Debug for OfExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfExecutor").finish_non_exhaustive()
    }
}

impl Collector for OfExecutor {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats: Stats = self.executor.stats();
        let counters = [
            (
                "fragments_run",
                "Graphs that were run.",
                stats.fragments_run,
            ),
            (
                "fragments_failed",
                "Graphs that failed.",
                stats.fragments_failed,
            ),
            (
                "fragments_cancelled",
                "Graphs that were withdrawn before they began.",
                stats.fragments_cancelled,
            ),
            (
                "fragments_expired",
                "Graphs that had not begun by their deadline.",
                stats.fragments_expired,
            ),
            (
                "batches",
                "Times that several graphs ran as one.",
                stats.batches,
            ),
            (
                "fragments_batched",
                "Graphs that ran in batches.",
                stats.fragments_batched,
            ),
            ("plans_made", "Plans that were made.", stats.plans_made),
        ];
        for (name, help, value) in counters {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        let gauges = [
            (
                "tokens_under_way",
                "Tokens of requests that are being answered.",
                u64::from((self.under_way)()),
            ),
            ("queued", "Graphs in the queue.", stats.queued as u64),
            ("queued_bytes", "Their host data.", stats.queued_bytes),
            (
                "live_nodes",
                "Results that somebody refers to.",
                stats.live_nodes as u64,
            ),
            ("live_bytes", "Their size.", stats.live_bytes),
        ];
        for (name, help, value) in gauges {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        Ok(())
    }
}

/// `GET /metrics`.
pub async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &server.metrics.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Counts every request, also those whose client goes away.
pub async fn count(
    State(server): State<Arc<Server>>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let route = path.map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let mut counted = Counted {
        server,
        route,
        status: GONE,
        since: Instant::now(),
    };
    let response = next.run(request).await;
    counted.status = response.status().as_u16();
    response
}

struct Counted {
    server: Arc<Server>,
    route: String,
    status: u16,
    since: Instant,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let metrics = &self.server.metrics;
        let labels = Labels {
            route: std::mem::take(&mut self.route),
            status: self.status,
        };
        metrics.requests.get_or_create(&labels).inc();
        let took = self.since.elapsed().as_secs_f64();
        metrics.seconds.get_or_create(&labels).observe(took);
    }
}
