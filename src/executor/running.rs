//! A submission whose results are awaited at once.

use super::{Asked, Executor, SubmitAsync};
use crate::core::actor::admission::Refused;
use crate::core::actor::driving::is_driving;
use crate::core::actor::launch::Start;
use crate::error::Result;
use crate::handle::Handle;
use crate::outputs::Results;
use crate::pending::Pending;
use crate::request::{Ask, Cut, Graph};
use crate::submit::Submit;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The future of [`Executor::run_async`](crate::Executor::run_async) and
/// [`Compiled::run_async`](crate::Compiled::run_async): the results.
#[must_use = "dropped before it is ready, it submits nothing"]
pub struct RunAsync<R>(State<R>);

enum State<R> {
    /// Nothing has been queued.
    New(Box<New>),
    /// The queue is full.
    Queueing(SubmitAsync<R>),
    /// It is queued.
    Waiting(Handle<R>),
    /// It has ended.
    Done,
}

/// What was asked for, of which kind, or why it cannot be.
struct New {
    executor: Executor,
    how: Submit,
    asked: Result<Kind>,
}

pub(crate) enum Kind {
    Graph(Asked<Graph>),
    Call(Asked<crate::request::Call>),
}

impl From<Asked<Graph>> for Kind {
    fn from(asked: Asked<Graph>) -> Self {
        Kind::Graph(asked)
    }
}
impl From<Asked<crate::request::Call>> for Kind {
    fn from(asked: Asked<crate::request::Call>) -> Self {
        Kind::Call(asked)
    }
}

impl<R: Results> RunAsync<R> {
    pub(crate) fn new<A: Ask>(executor: &Executor, asked: Result<Asked<A>>, how: Submit) -> Self
    where
        Kind: From<Asked<A>>,
    {
        let new = New {
            executor: executor.clone(),
            how,
            asked: asked.map(Kind::from),
        };
        Self(State::New(Box::new(new)))
    }
}

/// What came of the first poll.
enum First<R> {
    Pending(Pending),
    Full(SubmitAsync<R>),
}

impl Executor {
    /// Runs what is asked if the device is idle and the work small, else queues it, at once or when there
    /// is room.
    fn first<R: Results, A: Ask + Send + 'static>(
        &self,
        asked: Asked<A>,
        how: Submit,
    ) -> Result<First<R>> {
        let tag = how.tag();
        let Some(cut) = asked.ready.work() else {
            return Ok(First::Pending(self.join(asked, &tag)));
        };
        how.checked_deadline()?;
        let limit = self.0.inline_limit;
        let small = cut.estimate().is_some_and(|time| time <= limit);
        let start = match small && !is_driving(self.core().gate()) {
            true => Start::RunIfIdle,
            false => Start::Post,
        };
        let bytes = Cut::host_bytes(cut);
        match self.core().try_admit(bytes) {
            Err(Refused::Full) => Ok(First::Full(self.asked_async(Ok(asked), how))),
            Err(refused) => Err(self.refusal(refused, bytes)),
            Ok(permit) => self.launch(asked, permit, tag, start).map(First::Pending),
        }
    }
}

impl New {
    fn start<R: Results>(self) -> Result<First<R>> {
        match self.asked? {
            Kind::Graph(asked) => self.executor.first(asked, self.how),
            Kind::Call(asked) => self.executor.first(asked, self.how),
        }
    }
}

impl<R: Results> Future for RunAsync<R> {
    type Output = Result<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match std::mem::replace(&mut self.0, State::Done) {
                State::Done => panic!("`RunAsync` was polled after it had ended"),
                State::New(new) => match new.start()? {
                    First::Pending(pending) => match pending.result() {
                        Some(result) => return Poll::Ready(result),
                        None => State::Waiting(Handle::new(pending)),
                    },
                    First::Full(submit) => State::Queueing(submit),
                },
                State::Queueing(mut submit) => match Pin::new(&mut submit).poll(cx) {
                    Poll::Ready(handle) => State::Waiting(handle?),
                    Poll::Pending => {
                        self.0 = State::Queueing(submit);
                        return Poll::Pending;
                    }
                },
                State::Waiting(mut handle) => {
                    let poll = Pin::new(&mut handle).poll(cx);
                    self.0 = State::Waiting(handle);
                    return Poll::Ready(ready!(poll));
                }
            };
            self.0 = next;
        }
    }
}

impl<R> fmt::Debug for RunAsync<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunAsync")
    }
}
