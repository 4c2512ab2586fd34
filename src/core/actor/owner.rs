//! What the driver of the device works on, and one round of its loop: receive what is queued,
//! form a batch, issue it, publish what has ended.

use super::SlotOf;
use super::driving::Operating;
use super::engine::{Engine, Inputs, Member, Results};
use super::flight::{AllBegun, Flight, Issued, Running, discard};
use super::lender::Lender;
use super::line::Line;
use super::shared::{Core, ErrorOf, Fate};
use crate::core::panics::catch;
use crate::core::store::task::{Payload, Received, Taken, Task};
use crate::core::store::{Kind, NodeId};
use crate::core::sync::channel::Receiver;
use crate::core::sync::{Arc, try_recv};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// From this many fragments on a ticket takes in no further batch: bounds how long a result that is done can
/// stay unpublished behind others. A batch that runs as one may have more by itself.
const BATCH: usize = 32;

/// The most tickets in flight: one that the device works on, one that waits behind it, and one that ends
/// while the owner publishes.
const IN_FLIGHT: usize = 3;

/// The owner's state: belongs to whoever has the turn.
pub struct Owner<E: Engine> {
    pub(super) engine: E,
    synchronous: bool,
    pub(super) queue: Receiver<Arc<Task<E::Kind>>>,
    pub(super) ready: Line<Arc<Task<E::Kind>>>,
    /// Taken from the line, and neither begun nor back in it.
    pub(super) hand: VecDeque<Arc<Task<E::Kind>>>,
    /// By an input that has neither ended nor been issued.
    pub(super) blocked: FxHashMap<NodeId, Vec<Arc<Task<E::Kind>>>>,
    /// What the device has been given, oldest first.
    pub(super) flights: VecDeque<Flight<E>>,
    /// What it is being given.
    pub(super) taking_off: AllBegun<E::Kind>,
}

impl<E: Engine> Owner<E> {
    /// An owner with nothing to do.
    pub fn new(engine: E, queue: Receiver<Arc<Task<E::Kind>>>) -> Self {
        Self {
            synchronous: engine.synchronous(),
            engine,
            queue,
            ready: Line::new(),
            hand: VecDeque::new(),
            blocked: FxHashMap::default(),
            flights: VecDeque::new(),
            taking_off: AllBegun::new(),
        }
    }

    // ---- what waits --------------------------------------------------------------------------

    /// Receives what is queued, puts what became more urgent where it belongs, and frees what was
    /// sent home.
    pub fn receive(&mut self, core: &Core<E>) {
        while let Some(task) = try_recv(&self.queue) {
            self.accept(task, core);
        }
        for task in core.take_lifted() {
            self.lift(task);
        }
        drop(core.store().take_doomed());
    }

    pub(super) fn accept(&mut self, task: Arc<Task<E::Kind>>, core: &Core<E>) {
        match task.receive() {
            Received::Work => self.push(task),
            Received::Husk { permit: None } => core.gate().husk_received(),
            Received::Husk { permit } => drop(permit),
        }
    }

    /// Behind its producer's others.
    fn push(&mut self, task: Arc<Task<E::Kind>>) {
        self.ready.push(task.tag().producer, task.class(), task);
    }

    /// Before its producer's others.
    fn push_front(&mut self, task: Arc<Task<E::Kind>>) {
        self.ready
            .push_front(task.tag().producer, task.class(), task);
    }

    /// A task became more urgent. It is queued a second time, where it belongs now: the first of the two
    /// that has its turn takes the work. If it waits for an input, that becomes more urgent then.
    fn lift(&mut self, task: Arc<Task<E::Kind>>) {
        if task.is_received() {
            self.push(task);
        }
    }

    /// Sets a task aside until an input of it has ended or been issued, and makes that as urgent.
    fn set_aside(&mut self, task: Arc<Task<E::Kind>>, input: &SlotOf<E>) {
        let before = input.task();
        if before.raise(task.class()) {
            self.lift(before.clone());
        }
        self.blocked.entry(input.id()).or_default().push(task);
    }

    /// Takes up those that waited for this node.
    fn unblock(&mut self, node: NodeId) {
        let unblocked = self.blocked.remove(&node);
        for task in unblocked.into_iter().flatten().rev() {
            self.push_front(task);
        }
    }

    /// Looks at the blocked fragments again: an input may have ended without being run.
    pub fn recheck(&mut self) {
        let ended = |_: &NodeId, tasks: &mut Vec<Arc<Task<E::Kind>>>| {
            tasks.iter().any(|task| !task.waits())
        };
        let mut ended: Vec<_> = self.blocked.extract_if(ended).collect();
        ended.sort_unstable_by_key(|(node, _)| *node); // not in the order of a hash table
        for task in ended.into_iter().flat_map(|(_, tasks)| tasks) {
            self.push_front(task);
        }
    }

    /// Whether received work is waiting to be issued.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.hand.is_empty()
    }

    /// Whether the device has been given work of which it has not said that it is done.
    pub fn is_in_flight(&self) -> bool {
        !self.flights.is_empty() || !self.taking_off.is_empty()
    }

    /// Whether no received work is left at all.
    pub fn is_empty(&self) -> bool {
        !self.has_ready() && self.blocked.is_empty() && !self.is_in_flight()
    }

    // ---- one batch -----------------------------------------------------------------------------

    /// Issues one batch of what is ready; `false` if nothing was, or the device has enough to do, or it
    /// is not for this lender.
    pub fn run_batch(&mut self, core: &Core<E>, lender: Option<&Lender<'_, E::Kind>>) -> bool {
        self.settle(core);
        if let Some(fate) = core.fate() {
            // a lender would drop other callers' work; the owner is called when the end has been told
            return lender.is_none() && self.refuse(&fate, core);
        }
        self.receive(core); // who came meanwhile takes turns with those who were here
        if self.flights.len() >= IN_FLIGHT || !self.is_for(lender) {
            return false;
        }
        let Some(task) = self.ready.pop() else {
            return false;
        };
        let mut batch = AllBegun::<E::Kind>::new();
        self.hand.push_back(task);
        self.take_hand(&mut batch);
        self.start_batch(batch, lender, core);
        true
    }

    /// Takes over a task that did not come through the channel, with its payload, and runs it at once if
    /// nothing waits before it.
    pub fn run_now(
        &mut self,
        task: &Arc<Task<E::Kind>>,
        payload: Payload<E::Kind>,
        lender: &Lender<'_, E::Kind>,
        core: &Core<E>,
    ) {
        self.receive(core);
        let free = !self.has_ready() && !self.is_in_flight() && core.fate().is_none();
        if free && payload.is_ready() {
            let batch = Self::begin(task, payload).into_iter().collect();
            self.ready.lead(task.class());
            self.start_batch(batch, Some(lender), core);
        } else if task.fill(payload) {
            self.accept(task.clone(), core);
        }
    }

    /// Issues a batch that begins with these.
    fn start_batch(
        &mut self,
        mut batch: AllBegun<E::Kind>,
        lender: Option<&Lender<'_, E::Kind>>,
        core: &Core<E>,
    ) {
        self.gather(&mut batch, lender, core);
        if !self.synchronous {
            return self.issue_all(batch, core);
        }
        match batch.len() {
            0 => {}
            1 => self.run_each(batch, core),
            _ => self.run_together(batch, core),
        }
        self.look_for_loss(core);
    }

    /// Whether what has the next turn is for the lender, if it is one that drives.
    fn is_for(&self, lender: Option<&Lender<'_, E::Kind>>) -> bool {
        let (Some(lender), Some(task)) = (lender, self.ready.front()) else {
            return true;
        };
        task.is_gone_or(|work| {
            let (foreign, takes) = (self.engine.is_foreign(work), self.engine.estimate(work));
            lender.may_run(task, foreign, takes, lender.left())
        })
    }

    /// Takes what is in hand into a batch, if it can run and is still wanted.
    pub(super) fn take_hand(&mut self, batch: &mut AllBegun<E::Kind>) {
        while let Some(task) = self.hand.front().cloned() {
            match task.take_if_ready() {
                Taken::Ready(payload) => batch.extend(Self::begin(&task, payload)),
                Taken::Blocked(input) => self.set_aside(task, &input),
                Taken::Gone => {}
            }
            self.hand.pop_front();
        }
    }

    /// Begins the outputs, if one of them is still wanted.
    fn begin(task: &Task<E::Kind>, mut payload: Payload<E::Kind>) -> Option<Running<E::Kind>> {
        let late = task.tag().is_late() && payload.expire();
        let outputs = payload.begin();
        // each may have been cancelled since we took it
        if outputs.iter().all(Option::is_none) {
            let permit = payload.permit.take();
            match (permit, late) {
                (Some(permit), true) => permit.expire(),
                (permit, _) => payload.permit = permit,
            }
            discard(payload);
            return None;
        }
        for (place, _) in outputs.iter().enumerate().filter(|(_, o)| o.is_none()) {
            E::Kind::given_up(&mut payload.work, place);
        }
        drop(payload.permit.take()); // it leaves the queue
        Some(Running::new(payload, outputs))
    }

    // ---- on a device that is done when it returns ------------------------------------------------

    /// Runs fragments as one. Whoever spoils that runs by itself, and the others again.
    fn run_together(&mut self, mut batch: AllBegun<E::Kind>, core: &Core<E>) {
        while batch.len() > 1 {
            match self.issue_together(&mut batch) {
                Ok(all) => {
                    for (running, results) in batch.into_iter().zip(all) {
                        self.publish(running, Ok(results), core);
                    }
                    return;
                }
                Err(Some(culprit)) if culprit < batch.len() => {
                    let culprit = batch.remove(culprit);
                    self.run_each(SmallVec::from_iter([culprit]), core);
                }
                Err(_) => break,
            }
        }
        self.run_each(batch, core);
    }

    fn run_each(&mut self, batch: AllBegun<E::Kind>, core: &Core<E>) {
        for mut running in batch {
            let issued = self.issue(&mut running);
            self.publish(running, issued, core);
        }
    }

    /// Ends the outputs, and makes the fragments ready that waited for one of them.
    fn publish(&mut self, running: Running<E::Kind>, issued: Issued<E::Kind>, core: &Core<E>) {
        let made: SmallVec<[NodeId; 4]> = running.makes().collect();
        running.finish(issued, core);
        made.into_iter().for_each(|node| self.unblock(node));
    }

    // ---- on a device that goes on when it returns ------------------------------------------------

    /// Issues a batch, and behind it other fragments of the same class, under one ticket.
    fn issue_all(&mut self, batch: AllBegun<E::Kind>, core: &Core<E>) {
        let mut left = batch;
        while left.len() > 1 {
            match self.issue_together(&mut left) {
                Ok(all) => {
                    for (running, results) in std::mem::take(&mut left).into_iter().zip(all) {
                        self.issued(running, Ok(results));
                    }
                }
                Err(Some(culprit)) if culprit < left.len() => {
                    let culprit = left.remove(culprit);
                    self.issue_one(culprit);
                }
                Err(_) => break,
            }
        }
        left.into_iter().for_each(|running| self.issue_one(running));
        // no more than stand in line by now: what comes meanwhile does not put the ticket off
        for _ in 0..self.ready.len() {
            self.receive(core); // but if it is more urgent it has the next turn
            if self.taking_off.len() >= BATCH || core.fate().is_some() {
                break;
            }
            let Some(task) = self.ready.pop_same() else {
                break;
            };
            self.hand.push_back(task);
            let mut next = AllBegun::<E::Kind>::new();
            self.take_hand(&mut next);
            next.into_iter().for_each(|running| self.issue_one(running));
        }
        self.take_off(core);
        self.look_for_loss(core);
    }

    fn issue_one(&mut self, mut running: Running<E::Kind>) {
        let issued = self.issue(&mut running);
        self.issued(running, issued);
    }

    /// Later fragments may read its results, and those that waited for one are ready.
    fn issued(&mut self, mut running: Running<E::Kind>, issued: Issued<E::Kind>) {
        running.issue(issued);
        let made: SmallVec<[NodeId; 4]> = running.makes().collect();
        self.taking_off.push(running);
        made.into_iter().for_each(|node| self.unblock(node));
    }

    // ---- both ------------------------------------------------------------------------------------

    /// Starts fragments as one: results for each, or none.
    fn issue_together(
        &mut self,
        batch: &mut [Running<E::Kind>],
    ) -> Result<Vec<Results<E::Kind>>, Option<usize>> {
        let count = batch.len();
        let members = batch.iter_mut().map(|running| {
            let Payload { work, inputs, .. } = &mut running.payload;
            let inputs = Inputs::new(inputs);
            Member { work, inputs }
        });
        let mut members: Vec<Member<'_, E::Kind>> = members.collect();
        let foreign = members.iter().any(|m| self.engine.is_foreign(m.work));
        let _operating = foreign.then(Operating::start);
        match catch(|| self.engine.issue_together(&mut members)) {
            Ok(Ok(all)) if all.len() == count => Ok(all),
            Ok(Ok(_)) => Err(None),
            Ok(Err(culprit)) => Err(culprit),
            Err(panic) => {
                drop(<E::Kind as Kind>::panicked(panic)); // with care: it is foreign
                Err(None)
            }
        }
    }

    fn look_for_loss(&mut self, core: &Core<E>) {
        if let Some(error) = self.engine.lost() {
            core.lose(error);
        }
    }

    /// Ends all that is ready or blocked without running it; and, if the device is lost, what it has been
    /// given.
    fn refuse(&mut self, fate: &Fate<ErrorOf<E>>, core: &Core<E>) -> bool {
        if let Fate::Lost(error) = fate {
            self.crash(error, core);
        }
        let mut blocked: Vec<_> = std::mem::take(&mut self.blocked).into_iter().collect();
        blocked.sort_unstable_by_key(|(node, _)| *node); // as in `recheck`
        for task in blocked.into_iter().flat_map(|(_, tasks)| tasks) {
            self.push_front(task);
        }
        self.receive(core);
        let Some(task) = self.hand.pop_front().or_else(|| self.ready.pop()) else {
            return false;
        };
        if let Some(mut payload) = task.take() {
            if let Fate::Lost(error) = fate {
                for output in payload.begin().into_iter().flatten() {
                    output.finish(Err(error.clone()));
                }
            }
            discard(payload); // closes what has not ended
        }
        true
    }
}
