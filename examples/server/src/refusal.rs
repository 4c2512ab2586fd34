//! What a request may be refused for, in each protocol's form.

use crate::Server;
use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use candlewick::{Cause, Error};
use serde_json::Value;
use std::marker::PhantomData;
use std::time::Duration;

/// A request that is not answered: why, and when to come again.
#[derive(Debug)]
pub struct Refused {
    pub status: StatusCode,
    pub message: String,
    pub retry_after: Option<Duration>,
}

impl Refused {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The request is not one that can be answered.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is no room now.
    pub fn full(server: &Server) -> Self {
        let message = format!("{} tokens are under way", server.admission.under_way());
        Self {
            retry_after: Some(server.admission.retry_after()),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, message)
        }
    }

    /// In a second, perhaps by another server behind the same address.
    fn unavailable(error: &Error) -> Self {
        Self {
            retry_after: Some(Duration::from_secs(1)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match &error {
            Error::DeadlineExceeded | Error::Closed | Error::OwnerLost(_) => {
                Self::unavailable(&error)
            }
            Error::Failed(failure) if matches!(failure.cause, Cause::DeviceLost(_)) => {
                Self::unavailable(&error)
            }
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

/// How a protocol says it.
pub trait Protocol {
    fn error(refused: &Refused) -> Value;
}

/// An answer that is not the one asked for.
pub struct Refusal<P>(Refused, PhantomData<P>);

impl<P> From<Refused> for Refusal<P> {
    fn from(refused: Refused) -> Self {
        Self(refused, PhantomData)
    }
}

impl<P: Protocol> IntoResponse for Refusal<P> {
    fn into_response(self) -> Response {
        let Refused {
            status,
            retry_after,
            ..
        } = self.0;
        let retry = retry_after.map(|after| [(header::RETRY_AFTER, after.as_secs().to_string())]);
        (status, retry, Json(P::error(&self.0))).into_response()
    }
}
