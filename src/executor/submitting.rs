//! A submission that awaits room in the queue.

use crate::error::Result;
use crate::handle::Handle;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The future of [`Executor::submit_async`](crate::Executor::submit_async): a handle, once there is room.
#[must_use = "dropped before it is ready, it submits nothing"]
pub struct SubmitAsync<R>(Submitting<R>);

impl<R> SubmitAsync<R> {
    pub(super) fn new(submit: impl Future<Output = Result<Handle<R>>> + Send + 'static) -> Self {
        Self(Box::pin(submit))
    }
}

type Submitting<R> = Pin<Box<dyn Future<Output = Result<Handle<R>>> + Send>>;

impl<R> Future for SubmitAsync<R> {
    type Output = Result<Handle<R>>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<R> fmt::Debug for SubmitAsync<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubmitAsync")
    }
}
