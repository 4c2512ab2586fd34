//! Whether it is well, and whether to send it requests.

use crate::Server;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use candlewick::Health;
use serde_json::{Value, json};
use std::sync::Arc;

impl Server {
    /// Whether it takes requests, or why not: the owner of the device says so.
    pub(crate) fn ready(&self) -> Result<(), String> {
        match self.executor.health() {
            Health::Running if self.is_draining() => Err("draining".to_owned()),
            Health::Running => Ok(()),
            Health::Closing => Err("closing".to_owned()),
            Health::Closed => Err("closed".to_owned()),
            Health::Lost(error) => Err(error.to_string()),
            other => Err(format!("{other:?}")),
        }
    }

    /// Whether it can do its work at all: if not, it has to be started anew.
    pub(crate) fn live(&self) -> bool {
        !matches!(self.executor.health(), Health::Lost(_))
    }
}

/// `GET /health`: 200 if it takes requests, else 503 and why not.
pub async fn health(State(server): State<Arc<Server>>) -> (StatusCode, Json<Value>) {
    match server.ready() {
        Ok(()) => (StatusCode::OK, Json(json!({ "status": "ok" }))),
        Err(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({ "status": why })),
        ),
    }
}
