//! Which queued fragments join a batch: those of its class that the engine runs as one with the first.

use super::engine::Engine;
use super::flight::AllBegun;
use super::lender::Lender;
use super::line::Look;
use super::owner::Owner;
use super::shared::Core;
use crate::core::panics::catch;
use crate::core::store::task::Task;
use crate::core::sync::{Arc, Deadline};
use std::any::Any;
use std::time::Duration;

/// How many queued fragments are looked at for those that may join a batch.
const LOOK_AHEAD: usize = 256;

/// A batch that waits for others notices so soon that the executor closes.
const CLOSING: Duration = Duration::from_millis(1);

impl<E: Engine> Owner<E> {
    /// Adds those of the next fragments of the same class that may run as one with the first.
    pub(super) fn gather(
        &mut self,
        batch: &mut AllBegun<E::Kind>,
        lender: Option<&Lender<'_, E::Kind>>,
        core: &Core<E>,
    ) {
        if lender.is_some_and(|lender| lender.alone) {
            return;
        }
        let first = batch.first();
        let Some(mut open) = first.and_then(|first| self.engine.open(&first.payload.work)) else {
            return;
        };
        self.receive(core);
        if !self.ready.is_empty() {
            self.gather_ready(&mut open, batch, lender);
        }
        let delay = self.engine.max_delay();
        let patience = (!delay.is_zero()).then(|| Deadline::after(delay)).flatten();
        let Some(patience) = patience else {
            return;
        };
        // for more to come, as long as nothing waits that this would hold up, the end of a ticket included
        let nothing_waits =
            |this: &Self| this.ready.is_empty() && this.blocked.is_empty() && !this.is_in_flight();
        while self.engine.has_room(&open)
            && nothing_waits(self)
            && !core.gate().admission.is_closed()
        {
            let Some(left) = patience.left() else {
                return;
            };
            // in pieces: closing wakes nobody here
            if let Ok(task) = self.queue.recv_timeout(left.min(CLOSING)) {
                self.accept(task, core);
                self.receive(core);
                self.gather_ready(&mut open, batch, lender);
            }
        }
    }

    fn gather_ready(
        &mut self,
        open: &mut E::Batch,
        batch: &mut AllBegun<E::Kind>,
        lender: Option<&Lender<'_, E::Kind>>,
    ) {
        let mut panic: Option<Box<dyn Any + Send>> = None;
        let Self {
            engine,
            ready,
            hand,
            ..
        } = self;
        // a batch takes no longer than its members would one after the other
        let begun = batch
            .iter()
            .map(|running| engine.estimate(&running.payload.work));
        let begun = begun.fold(Duration::ZERO, Duration::saturating_add);
        let left = lender.and_then(Lender::left);
        let mut left = left.map(|left| left.saturating_sub(begun));
        ready.take_where(LOOK_AHEAD, hand, |task: &Arc<Task<E::Kind>>| {
            // the engine's panic is caught before the task's lock is given back
            let looked = task.if_ready(|work| {
                catch(|| {
                    if !engine.has_room(open) {
                        return Look::Stop;
                    }
                    let (foreign, takes) = (engine.is_foreign(work), engine.estimate(work));
                    let may = lender.is_none_or(|l| l.may_run(task, foreign, takes, left));
                    if !may || !engine.joins(open, work) {
                        return Look::Leave;
                    }
                    left = left.map(|left| left.saturating_sub(takes));
                    Look::Take
                })
            });
            match looked {
                None => Look::Leave,
                Some(Ok(look)) => look,
                Some(Err(caught)) => {
                    panic = Some(caught);
                    Look::Stop
                }
            }
        });
        if let Some(panic) = panic {
            std::panic::resume_unwind(panic); // the owner's end: what is in hand is told
        }
        self.take_hand(batch);
    }
}
