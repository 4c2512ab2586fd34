//! From outputs to a queued fragment: cut, admit, launch.

use super::{Executor, SubmitAsync};
use crate::core::actor::admission::Refused;
use crate::core::actor::driving::{Waiting, would_sleep_for_ever};
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
use crate::request::{Ask, Cut, Graph};
use crate::submit::Submit;
use smallvec::SmallVec;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// What is asked of an executor, cut and not admitted, and for each requested result, which node it is.
pub(crate) struct Asked<A: Ask> {
    pub(crate) ready: Ready<Runner, A>,
    pub(crate) places: SmallVec<[u32; 1]>,
}

impl Executor {
    /// Cuts out what has to be computed for outputs.
    pub(crate) fn ask(&self, outputs: impl Outputs) -> Result<Asked<Graph>> {
        let (graph, places) = Graph::new(&self.0.home, outputs.tensors());
        let ready = Ready::cut(graph)?;
        Ok(Asked { ready, places })
    }

    /// Queues or runs, and waits while the queue is full.
    pub(crate) fn queue(
        &self,
        asked: Asked<impl Ask>,
        how: &Submit,
        start: Start,
    ) -> Result<Pending> {
        let tag = how.tag();
        let Some(bytes) = asked.ready.work().map(Cut::host_bytes) else {
            return Ok(self.join(asked, &tag));
        };
        let deadline = how.checked_deadline()?;
        let permit = match self.core().try_admit(bytes) {
            Err(Refused::Full) => self.wait_for_room(bytes, &tag, deadline.as_ref())?,
            other => other.map_err(|refused| self.refusal(refused, bytes))?,
        };
        self.launch(asked, permit, tag, start)
    }

    /// Queues or runs if there is room.
    pub(crate) fn try_queue(
        &self,
        asked: Asked<impl Ask>,
        how: &Submit,
        start: Start,
    ) -> Result<Pending> {
        let tag = how.tag();
        let Some(bytes) = asked.ready.work().map(Cut::host_bytes) else {
            return Ok(self.join(asked, &tag));
        };
        how.checked_deadline()?;
        let permit = self.core().try_admit(bytes);
        let permit = permit.map_err(|refused| self.refusal(refused, bytes))?;
        self.launch(asked, permit, tag, start)
    }

    /// Queues, and awaits room.
    async fn queue_async(&self, asked: Asked<impl Ask>, how: Submit, tag: Tag) -> Result<Pending> {
        let Some(bytes) = asked.ready.work().map(Cut::host_bytes) else {
            return Ok(self.join(asked, &tag));
        };
        how.checked_deadline()?;
        let permit = {
            let mut admit = pin!(self.core().admit(bytes, &tag));
            poll_fn(|cx| match admit.as_mut().poll(cx) {
                Poll::Pending if would_sleep_for_ever(self.core().gate()) => {
                    let call = "submit_async";
                    Poll::Ready(Err(Error::WouldDeadlock { call }))
                }
                poll => poll.map(|got| got.map_err(|refused| self.refusal(refused, bytes))),
            })
            .await?
        };
        self.launch(asked, permit, tag, Start::Post)
    }

    pub(super) fn launch(
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
        let submission = Core::launch(self.core(), ready, permit, tag, start, None);
        for id in nameless {
            self.core().store().release_node(id); // the share of a tensor that there is not
        }
        let submission = submission?;
        Ok(Pending { submission, places })
    }

    /// Takes up what was submitted before.
    pub(super) fn join(&self, asked: Asked<impl Ask>, tag: &Tag) -> Pending {
        Pending {
            submission: Core::join(self.core(), asked.ready, tag),
            places: asked.places,
        }
    }

    /// Queues what was asked once there is room, or says why there is nothing to queue.
    pub(crate) fn asked_async<R: Results, A: Ask + Send + 'static>(
        &self,
        asked: Result<Asked<A>>,
        how: Submit,
    ) -> SubmitAsync<R> {
        let (executor, tag) = (self.clone(), how.tag());
        let submit = async move {
            let pending = executor.queue_async(asked?, how, tag).await?;
            Ok(Handle::new(pending))
        };
        SubmitAsync::new(submit)
    }

    fn wait_for_room(&self, bytes: u64, tag: &Tag, deadline: Option<&Deadline>) -> Result<Permit> {
        let Some(_waiting) = Waiting::start(self.core().gate()) else {
            return Err(Error::WouldDeadlock { call: "submit" });
        };
        match block_on(self.core().admit(bytes, tag), deadline) {
            Some(permit) => permit.map_err(|refused| self.refusal(refused, bytes)),
            None => Err(Error::DeadlineExceeded),
        }
    }

    pub(super) fn refusal(&self, refused: Refused, bytes: u64) -> Error {
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
