//! What the driver of the device works on, and one round of its loop: receive what is queued,
//! form a batch, run it, publish.

use super::core::{Core, ErrorOf, Fate};
use super::engine::{Engine, Member, Results};
use super::line::{Line, Look};
use crate::store::slot::Begun;
use crate::store::tag::Tag;
use crate::store::task::{Payload, Taken, Task};
use crate::store::{Kind, NodeId};
use crate::sync::channel::Receiver;
use crate::sync::{Arc, Deadline};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// The most fragments that are issued before their results are waited for: bounds how long a
/// result that is done can stay unpublished behind others.
const BATCH: usize = 32;

/// So many queued fragments are looked at for those that may run together.
const LOOK_AHEAD: usize = 256;

/// A batch that waits for others notices so soon that the executor closes.
const CLOSING: Duration = Duration::from_millis(1);

/// A fragment that has begun.
struct Running<K: Kind> {
    payload: Payload<K>,
    outputs: SmallVec<[Option<Begun<K>>; 1]>,
}

/// Those of a batch.
type AllBegun<K> = SmallVec<[Running<K>; 1]>;

/// The owner's state: belongs to whoever has the turn.
pub struct Owner<E: Engine> {
    engine: E,
    synchronous: bool,
    queue: Receiver<Arc<Task<E::Kind>>>,
    ready: Line<Arc<Task<E::Kind>>>,
    /// By an input that has not ended.
    blocked: FxHashMap<NodeId, Vec<Arc<Task<E::Kind>>>>,
}

impl<E: Engine> Owner<E> {
    /// An owner with nothing to do.
    pub fn new(engine: E, queue: Receiver<Arc<Task<E::Kind>>>) -> Self {
        Self {
            synchronous: engine.synchronous(),
            engine,
            queue,
            ready: Line::new(),
            blocked: FxHashMap::default(),
        }
    }

    /// Receives what is queued and frees what was sent home.
    pub fn receive(&mut self, core: &Core<E>) {
        self.line_up();
        drop(core.store().take_doomed());
    }

    fn line_up(&mut self) {
        while let Ok(task) = self.queue.try_recv() {
            self.push(task);
        }
    }

    /// Behind its producer's others.
    fn push(&mut self, task: Arc<Task<E::Kind>>) {
        let &Tag {
            producer, priority, ..
        } = task.tag();
        self.ready.push(producer, priority, task);
    }

    /// Before its producer's others.
    fn push_front(&mut self, task: Arc<Task<E::Kind>>) {
        let &Tag {
            producer, priority, ..
        } = task.tag();
        self.ready.push_front(producer, priority, task);
    }

    /// Whether received work is waiting to run.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether no received work is left at all.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.blocked.is_empty()
    }

    /// Looks at the blocked fragments again: an input may have ended without being run.
    pub fn recheck(&mut self) {
        let ended = |_: &NodeId, tasks: &mut Vec<Arc<Task<E::Kind>>>| {
            tasks.iter().any(|task| !task.waits())
        };
        let ended: Vec<_> = self.blocked.extract_if(ended).collect();
        for task in ended.into_iter().flat_map(|(_, tasks)| tasks) {
            self.push_front(task);
        }
    }

    /// Runs one batch of what is ready; `false` if nothing was.
    pub fn run_batch(&mut self, core: &Core<E>) -> bool {
        if let Some(fate) = core.fate() {
            return self.refuse(&fate, core);
        }
        if self.ready.len() > 1 {
            self.receive(core); // whoever came meanwhile takes turns with those who were here
        }
        let most = if self.synchronous { 1 } else { BATCH };
        let mut batch = AllBegun::<E::Kind>::new();
        let mut looked = false;
        while batch.len() < most {
            let Some(task) = self.ready.pop() else {
                break;
            };
            looked = true;
            self.take(task, &mut batch, core);
        }
        if self.synchronous {
            self.gather(&mut batch, core);
        }
        match batch.len() {
            0 => {}
            2.. if self.synchronous => self.run_together(batch, core),
            _ => self.run(batch, core),
        }
        looked
    }

    /// Takes the next fragment into a batch, if it can run and is still wanted.
    fn take(&mut self, task: Arc<Task<E::Kind>>, batch: &mut AllBegun<E::Kind>, core: &Core<E>) {
        match task.take_if_ready() {
            Taken::Ready(payload) => batch.extend(self.begin(&task, payload, core)),
            Taken::Blocked(input) => self.blocked.entry(input).or_default().push(task),
            Taken::Parts(parts) => {
                self.unpack(parts, &task);
                self.push_front(task);
            }
            Taken::Withdrawn => core.withdrawn(&task),
        }
    }

    /// Adds those of the next fragments that may run as one with the first.
    fn gather(&mut self, batch: &mut AllBegun<E::Kind>, core: &Core<E>) {
        let first = batch.first();
        let Some(mut open) = first.and_then(|first| self.engine.open(&first.payload.work)) else {
            return;
        };
        self.line_up();
        self.gather_ready(&mut open, batch, core);
        let delay = self.engine.max_delay();
        let patience = (!delay.is_zero()).then(|| Deadline::after(delay)).flatten();
        let Some(patience) = patience else {
            return;
        };
        // for more to come, as long as nobody waits whom that would hold up
        let nobody_waits = |this: &Self| this.ready.is_empty() && this.blocked.is_empty();
        while self.engine.has_room(&open) && nobody_waits(self) && !core.admission().is_closed() {
            let Some(left) = patience.left() else {
                return;
            };
            // in pieces: closing wakes nobody here
            if let Ok(task) = self.queue.recv_timeout(left.min(CLOSING)) {
                self.push(task);
                self.line_up();
                self.gather_ready(&mut open, batch, core);
            }
        }
    }

    fn gather_ready(&mut self, open: &mut E::Batch, batch: &mut AllBegun<E::Kind>, core: &Core<E>) {
        let engine = &self.engine;
        let look = |task: &Arc<Task<E::Kind>>| {
            if !engine.has_room(open) {
                return Look::Stop;
            }
            match task.is_ready_and(|work| engine.joins(open, work)) {
                true => Look::Take,
                false => Look::Leave,
            }
        };
        for task in self.ready.take_where(LOOK_AHEAD, look) {
            self.take(task, batch, core);
        }
    }

    /// Runs fragments as one. Whoever spoils that runs by itself, and the others again.
    fn run_together(&mut self, mut batch: AllBegun<E::Kind>, core: &Core<E>) {
        while batch.len() > 1 {
            match self.issue_together(&mut batch) {
                Ok(all) if all.len() == batch.len() => {
                    for (running, results) in batch.into_iter().zip(all) {
                        self.publish(running, Ok(results), core);
                    }
                    return self.look_for_loss(core);
                }
                Err(Some(culprit)) if culprit < batch.len() => {
                    let culprit = batch.remove(culprit);
                    self.run(SmallVec::from_iter([culprit]), core);
                }
                _ => break,
            }
        }
        for running in batch {
            self.run(SmallVec::from_iter([running]), core);
        }
    }

    fn issue_together(
        &mut self,
        batch: &mut [Running<E::Kind>],
    ) -> Result<Vec<Results<E::Kind>>, Option<usize>> {
        let members = batch.iter_mut().map(|running| {
            let Payload { work, inputs, .. } = &mut running.payload;
            Member { work, inputs }
        });
        let mut members: Vec<Member<'_, E::Kind>> = members.collect();
        let run = || self.engine.issue_together(&mut members);
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            drop(<E::Kind as Kind>::panicked(panic)); // with care: it is foreign
            Err(None)
        })
    }

    /// Ends all that is ready or blocked without running it.
    fn refuse(&mut self, fate: &Fate<ErrorOf<E>>, core: &Core<E>) -> bool {
        for task in std::mem::take(&mut self.blocked).into_values().flatten() {
            self.push_front(task);
        }
        let Some(task) = self.ready.pop() else {
            return false;
        };
        if let Some(mut payload) = task.take() {
            self.unpack(std::mem::take(&mut payload.rest), &task);
            if let Fate::Lost(error) = fate {
                for output in payload.begin().into_iter().flatten() {
                    output.finish(Err(error.clone()));
                }
            }
            discard(payload); // closes what has not ended
        }
        core.withdrawn(&task);
        true
    }

    /// Begins the outputs, if anybody still wants one of them.
    fn begin(
        &mut self,
        task: &Task<E::Kind>,
        mut payload: Payload<E::Kind>,
        core: &Core<E>,
    ) -> Option<Running<E::Kind>> {
        let late = task.tag().is_late() && payload.expire();
        let outputs = payload.begin();
        // each may have been cancelled since we took it
        if outputs.iter().all(Option::is_none) {
            match late {
                true => core.expired(task),
                false => core.withdrawn(task),
            }
            discard(payload);
            return None;
        }
        for (place, _) in outputs.iter().enumerate().filter(|(_, o)| o.is_none()) {
            E::Kind::given_up(&mut payload.work, place);
        }
        core.begun(task);
        Some(Running { payload, outputs })
    }

    /// Makes the further parts of a message fragments of their own, before its producer's others.
    fn unpack(&mut self, parts: Vec<Payload<E::Kind>>, of: &Task<E::Kind>) {
        for part in parts.into_iter().rev() {
            let part = Task::part(part, of.tag().clone());
            self.push_front(Arc::new(part));
        }
    }

    /// Runs a batch: issues all of it, waits once, publishes.
    fn run(&mut self, batch: AllBegun<E::Kind>, core: &Core<E>) {
        let several = batch.len() > 1;
        let mut issued: SmallVec<[_; 1]> = SmallVec::new();
        for mut running in batch {
            let results = self.issue(&mut running);
            issued.push((running, results));
        }
        match self.finish() {
            Ok(()) => {
                for (running, results) in issued {
                    self.publish(running, results, core);
                }
            }
            // Something in the batch did not happen: each member again by itself.
            Err(_) if several && self.engine.lost().is_none() => {
                for (running, _) in issued {
                    self.run(SmallVec::from_iter([running]), core);
                }
            }
            Err(error) => {
                for (running, _) in issued {
                    self.publish(running, Err(error.clone()), core);
                }
            }
        }
        self.look_for_loss(core);
    }

    fn look_for_loss(&mut self, core: &Core<E>) {
        if let Some(error) = self.engine.lost() {
            core.lose(error);
        }
    }

    /// Issues one fragment. A panic is an error of this fragment alone.
    fn issue(&mut self, running: &mut Running<E::Kind>) -> Issued<E::Kind> {
        let Payload { work, inputs, .. } = &mut running.payload;
        catch_unwind(AssertUnwindSafe(|| self.engine.issue(work, inputs)))
            .map_err(<E::Kind as Kind>::panicked)
    }

    fn finish(&mut self) -> Result<(), <E::Kind as Kind>::Error> {
        if self.synchronous {
            return Ok(());
        }
        catch_unwind(AssertUnwindSafe(|| self.engine.finish()))
            .unwrap_or_else(|panic| Err(<E::Kind as Kind>::panicked(panic)))
    }

    /// Ends the outputs, and makes the fragments ready that waited for one of them.
    fn publish(&mut self, running: Running<E::Kind>, results: Issued<E::Kind>, core: &Core<E>) {
        let Running { payload, outputs } = running;
        let results: Results<E::Kind> = match results {
            Ok(results) if results.len() == outputs.len() => results,
            Ok(_) => outputs
                .iter()
                .map(|_| Err(<E::Kind as Kind>::abandoned()))
                .collect(),
            Err(error) => outputs.iter().map(|_| Err(error.clone())).collect(),
        };
        core.count_run(results.iter().any(Result::is_err));
        // Before anybody is told: whoever finds the result finds nothing else left of the fragment.
        discard(payload);
        for (output, result) in outputs.into_iter().zip(results) {
            let Some(output) = output else { continue };
            let id = output.id();
            output.finish(result);
            if let Some(unblocked) = self.blocked.remove(&id) {
                for task in unblocked.into_iter().rev() {
                    self.push_front(task);
                }
            }
        }
    }
}

/// Drops a payload. Work may hold foreign code, and its drop may panic: not the owner's end.
fn discard<K: Kind>(payload: Payload<K>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
}

/// What a fragment came to: results of its outputs, or one error for all of them.
type Issued<K> = Result<Results<K>, <K as Kind>::Error>;
