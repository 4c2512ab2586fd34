//! Submissions as futures.

use crate::error::Result;
use crate::handle::Handle;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// The future of [`Executor::submit_async`](crate::Executor::submit_async): a handle, once there is room.
/// As an `async` block, it panics if it is polled again after that.
#[must_use = "dropped before it is ready, it submits nothing"]
pub struct SubmitAsync<R>(Boxed<Handle<R>>);

/// The future of [`Executor::run_async`](crate::Executor::run_async) and
/// [`Compiled::run_async`](crate::Compiled::run_async): the results. As an `async` block, it panics if it is
/// polled again after that.
#[must_use = "it does nothing unless polled; dropped before it is ready, it withdraws the work"]
pub struct RunAsync<R>(Boxed<R>);

impl<R> SubmitAsync<R> {
    pub(super) fn new(submit: impl Future<Output = Result<Handle<R>>> + Send + 'static) -> Self {
        Self(Box::pin(submit))
    }
}

impl<R> RunAsync<R> {
    pub(super) fn new(run: impl Future<Output = Result<R>> + Send + 'static) -> Self {
        Self(Box::pin(run))
    }
}

impl<R> Future for SubmitAsync<R> {
    type Output = Result<Handle<R>>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<R> Future for RunAsync<R> {
    type Output = Result<R>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<R> fmt::Debug for SubmitAsync<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubmitAsync")
    }
}

impl<R> fmt::Debug for RunAsync<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunAsync")
    }
}
