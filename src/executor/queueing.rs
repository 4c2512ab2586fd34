//! From outputs to a queued fragment: cut, admit, launch.

use super::{Executor, RunAsync, SubmitAsync};
use crate::core::actor::admission::Refused;
use crate::core::actor::driving::{Waiting, is_driving, would_sleep_for_ever};
use crate::core::actor::gate::Permit;
use crate::core::actor::launch::{Ready, Start};
use crate::core::actor::park::block_on;
use crate::core::actor::shared::Core;
use crate::core::store::tag::Tag;
use crate::core::sync::Deadline;
use crate::device::runner::Runner;
use crate::error::{Error, Result};
use crate::graph::NodeId;
use crate::handle::Handle;
use crate::outputs::{Outputs, Results};
use crate::pending::Pending;
use crate::request::{Ask, Borrowed, Cut, Owned};
use crate::submit::Submit;
use smallvec::SmallVec;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

/// A request whose graph has been cut and which has no permit yet.
pub(crate) struct Asked<A: Ask> {
    pub(crate) ready: Ready<Runner, A>,
    /// For each result that was asked for, the place of its node among the distinct nodes of the request.
    pub(crate) places: SmallVec<[u32; 1]>,
}

impl Executor {
    /// Cuts out what has to be computed for outputs.
    pub(crate) fn ask<'a>(&'a self, outputs: &'a impl Outputs) -> Result<Asked<Borrowed<'a>>> {
        let (graph, places) = Borrowed::new(&self.0.home, outputs.tensors());
        let ready = Ready::cut(graph)?;
        Ok(Asked { ready, places })
    }

    /// The same for a call that returns before it has launched it.
    pub(crate) fn ask_owned(&self, outputs: &impl Outputs) -> Result<Asked<Owned>> {
        let (graph, places) = Borrowed::new(&self.0.home, outputs.tensors());
        let ready = Ready::cut(graph.to_owned())?;
        Ok(Asked { ready, places })
    }

    /// Gets a permit, waiting while the queue is full, and launches the request: queues its work, or runs it
    /// here if `start` says so and the device is free. `call` is the method that [`Error::WouldDeadlock`] names.
    pub(crate) fn queue(
        &self,
        asked: Asked<impl Ask>,
        how: &Submit,
        start: Start,
        call: &'static str,
    ) -> Result<Pending> {
        let tag = how.tag();
        let Some(bytes) = asked.ready.work().map(Cut::host_bytes) else {
            return Ok(self.join(asked, &tag));
        };
        let deadline = how.checked_deadline()?;
        let permit = match self.core().try_admit(bytes) {
            Err(Refused::Full) => self.wait_for_room(bytes, &tag, deadline.as_ref(), call)?,
            other => other.map_err(|refused| self.refusal(refused, bytes))?,
        };
        self.launch(asked, permit, tag, start)
    }

    /// Queues the work of a request if there is room now.
    pub(crate) fn try_queue(&self, asked: Asked<impl Ask>, how: &Submit) -> Result<Pending> {
        let tag = how.tag();
        let Some(bytes) = asked.ready.work().map(Cut::host_bytes) else {
            return Ok(self.join(asked, &tag));
        };
        how.checked_deadline()?;
        let permit = self.core().try_admit(bytes);
        let permit = permit.map_err(|refused| self.refusal(refused, bytes))?;
        self.launch(asked, permit, tag, Start::Post)
    }

    /// As [`Executor::queue`], and awaits room.
    async fn queue_async(
        &self,
        asked: Asked<impl Ask>,
        how: Submit,
        start: Start,
        call: &'static str,
    ) -> Result<Pending> {
        let tag = how.tag();
        let Some(bytes) = asked.ready.work().map(Cut::host_bytes) else {
            return Ok(self.join(asked, &tag));
        };
        how.checked_deadline()?;
        let permit = match self.core().try_admit(bytes) {
            Err(Refused::Full) => self.await_room(bytes, &tag, call).await?,
            other => other.map_err(|refused| self.refusal(refused, bytes))?,
        };
        self.launch(asked, permit, tag, start)
    }

    async fn await_room(&self, bytes: u64, tag: &Tag, call: &'static str) -> Result<Permit> {
        let mut admit = pin!(self.core().admit(bytes, tag));
        let poll = |cx: &mut Context<'_>| match admit.as_mut().poll(cx) {
            Poll::Pending if would_sleep_for_ever(self.core().gate()) => {
                Poll::Ready(Err(Error::WouldDeadlock { call }))
            }
            poll => poll.map(|got| got.map_err(|refused| self.refusal(refused, bytes))),
        };
        poll_fn(poll).await
    }

    fn launch(
        &self,
        asked: Asked<impl Ask>,
        permit: Permit,
        tag: Tag,
        start: Start,
    ) -> Result<Pending> {
        let Asked { ready, places } = asked;
        // a thread of a rayon pool does not drive: see `Pending::wait_on_rayon`
        let start = match rayon::current_thread_index() {
            Some(_) => Start::Post,
            None => start,
        };
        let nameless: SmallVec<[NodeId; 1]> = ready.request().nameless().into();
        let submission = Core::launch(self.core(), ready, permit, tag, start);
        for id in nameless {
            self.core().store().release_node(id); // no tensor names the results of a call
        }
        let submission = submission?;
        Ok(Pending { submission, places })
    }

    /// A request of which every node was submitted before: nothing is queued, and its results are waited for.
    fn join(&self, asked: Asked<impl Ask>, tag: &Tag) -> Pending {
        Pending {
            submission: Core::join(self.core(), asked.ready, tag),
            places: asked.places,
        }
    }

    /// A future that queues the work of a request once there is room, and yields the handle; or the error with
    /// which the graph could not be cut.
    pub(crate) fn asked_async<R: Results, A: Ask + Send + 'static>(
        &self,
        asked: Result<Asked<A>>,
        how: Submit,
    ) -> SubmitAsync<R> {
        let (executor, call) = (self.clone(), "submit_async");
        let how = how.by_this_thread();
        let submit = async move {
            let pending = executor.queue_async(asked?, how, Start::Post, call);
            pending.await.map(Handle::new)
        };
        SubmitAsync::new(submit)
    }

    /// A future that runs the work of a request inside of its first poll if the device is idle and the work
    /// small; else queues it once there is room, and awaits the results.
    pub(crate) fn run_asked_async<R: Results, A: Ask + Send + 'static>(
        &self,
        asked: Result<Asked<A>>,
        how: Submit,
    ) -> RunAsync<R> {
        let (executor, call) = (self.clone(), "run_async");
        let how = how.by_this_thread();
        let run = async move {
            let asked = asked?;
            let start = executor.start_in_poll(&asked);
            let pending = executor.queue_async(asked, how, start, call).await?;
            if let Some(result) = pending.result() {
                return result;
            }
            Handle::new(pending).await
        };
        RunAsync::new(run)
    }

    /// Who is to run the work of a request that is made by a poll: the polling thread, if the device is idle
    /// and the plan is known and small.
    fn start_in_poll(&self, asked: &Asked<impl Ask>) -> Start {
        let takes = asked.ready.work().and_then(Cut::estimate);
        let small = takes.is_some_and(|time| time <= self.0.inline_limit);
        match small && !is_driving(self.core().gate()) {
            true => Start::RunIfIdle,
            false => Start::Post,
        }
    }

    fn wait_for_room(
        &self,
        bytes: u64,
        tag: &Tag,
        deadline: Option<&Deadline>,
        call: &'static str,
    ) -> Result<Permit> {
        let Some(_waiting) = Waiting::start(self.core().gate()) else {
            return Err(Error::WouldDeadlock { call });
        };
        match block_on(self.core().admit(bytes, tag), deadline) {
            Some(permit) => permit.map_err(|refused| self.refusal(refused, bytes)),
            None => Err(Error::DeadlineExceeded),
        }
    }

    fn refusal(&self, refused: Refused, bytes: u64) -> Error {
        let admission = &self.core().gate().admission;
        match refused {
            Refused::Full => Error::QueueFull {
                capacity: admission.fragments(),
                capacity_bytes: admission.bytes(),
                bytes,
            },
            Refused::Closed => self.0.home.core.lost().unwrap_or(Error::Closed),
        }
    }
}
