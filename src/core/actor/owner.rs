//! What the driver of the device works on, and one round of its loop: receive what is queued,
//! form a batch, issue it, publish what has ended.

use super::SlotOf;
use super::driving::Operating;
use super::engine::{Engine, Inputs, Member, Results};
use super::flight::{AllBegun, Flight, Issued, Running, discard};
use super::line::{Line, Look};
use super::shared::{Core, ErrorOf, Fate};
use crate::core::panics::catch;
use crate::core::store::task::{Payload, Received, Taken, Task};
use crate::core::store::{Kind, NodeId};
use crate::core::sync::channel::Receiver;
use crate::core::sync::{Arc, Deadline, try_recv};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::any::Any;
use std::collections::VecDeque;
use std::time::Duration;

/// The most fragments that one ticket stands for: bounds how long a result that is done can stay
/// unpublished behind others.
const BATCH: usize = 32;

/// The most tickets in flight: one that the device works on, one that waits behind it, and one that ends
/// while the owner publishes.
const IN_FLIGHT: usize = 3;

/// How many queued fragments are looked at for those that may join a batch.
const LOOK_AHEAD: usize = 256;

/// A batch that waits for others notices so soon that the executor closes.
const CLOSING: Duration = Duration::from_millis(1);

/// The owner's state: belongs to whoever has the turn.
pub struct Owner<E: Engine> {
    pub(super) engine: E,
    synchronous: bool,
    queue: Receiver<Arc<Task<E::Kind>>>,
    ready: Line<Arc<Task<E::Kind>>>,
    /// Taken from the line, and neither begun nor back in it.
    hand: VecDeque<Arc<Task<E::Kind>>>,
    /// By an input that has neither ended nor been issued.
    blocked: FxHashMap<NodeId, Vec<Arc<Task<E::Kind>>>>,
    /// What the device has been given, oldest first.
    pub(super) flights: VecDeque<Flight<E>>,
    /// What it is being given.
    pub(super) taking_off: AllBegun<E::Kind>,
}

/// A caller that drives for the sake of its own result.
pub struct Lender<'a, K: Kind> {
    /// Whether its result is there.
    pub done: &'a dyn Fn() -> bool,
    /// Whether a task is its own.
    pub own: &'a dyn Fn(&Task<K>) -> bool,
    /// Work that would last beyond this is not for it.
    pub until: Option<&'a Deadline>,
    /// Whether it runs nothing but its own.
    pub alone: bool,
}

impl<K: Kind> Lender<'_, K> {
    /// How much time it has; `None` if it has no limit.
    fn left(&self) -> Option<Duration> {
        let until = self.until?;
        Some(until.left().unwrap_or(Duration::ZERO))
    }

    /// Whether it may run a task that takes so long: it does not run operations of another user's own,
    /// which may want a lock that it holds.
    fn may_run(
        &self,
        task: &Task<K>,
        foreign: bool,
        takes: Duration,
        left: Option<Duration>,
    ) -> bool {
        let own = || (self.own)(task);
        (!foreign && !self.alone || own()) && left.is_none_or(|left| takes <= left)
    }
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

    fn accept(&mut self, task: Arc<Task<E::Kind>>, core: &Core<E>) {
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
            return self.refuse(&fate, core);
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
    fn take_hand(&mut self, batch: &mut AllBegun<E::Kind>) {
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

    /// Adds those of the next fragments of the same class that may run as one with the first.
    fn gather(
        &mut self,
        batch: &mut AllBegun<E::Kind>,
        lender: Option<&Lender<'_, E::Kind>>,
        core: &Core<E>,
    ) {
        if lender.is_some_and(|lender| lender.alone) {
            return;
        }
        let Some(first) = batch.first() else {
            return;
        };
        self.receive(core);
        let delay = self.engine.max_delay();
        if self.ready.is_empty() && delay.is_zero() {
            return;
        }
        let Some(mut open) = self.engine.open(&first.payload.work) else {
            return;
        };
        if !self.ready.is_empty() {
            self.gather_ready(&mut open, batch, lender);
        }
        let patience = (!delay.is_zero()).then(|| Deadline::after(delay)).flatten();
        let Some(patience) = patience else {
            return;
        };
        // for more to come, as long as nothing waits that this would hold up
        let nothing_waits = |this: &Self| this.ready.is_empty() && this.blocked.is_empty();
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
        let mut joins = |task: &Arc<Task<E::Kind>>| {
            if !engine.has_room(open) {
                return Look::Stop;
            }
            let takes = task.if_ready(|work| {
                let (foreign, takes) = (engine.is_foreign(work), engine.estimate(work));
                let may = lender.is_none_or(|lender| lender.may_run(task, foreign, takes, left));
                (may && engine.joins(open, work)).then_some(takes)
            });
            let Some(takes) = takes else {
                return Look::Leave;
            };
            left = left.map(|left| left.saturating_sub(takes));
            Look::Take
        };
        ready.take_where(LOOK_AHEAD, hand, |task| {
            catch(|| joins(task)).unwrap_or_else(|caught| {
                panic = Some(caught);
                Look::Stop
            })
        });
        if let Some(panic) = panic {
            std::panic::resume_unwind(panic); // the owner's end: what is in hand is told
        }
        self.take_hand(batch);
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
