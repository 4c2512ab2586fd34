//! The executor without tensors: what submitters, waiters and the owner share.

use super::admission::Refused;
use super::admit::Admit;
use super::driving::Driving;
use super::engine::{Bell, Engine};
use super::event::Event;
use super::gate::{Counters, Gate, Permit};
use super::launch::Start;
use super::lender::Lender;
use super::owner::Owner;
use super::submission::Submission;
use crate::core::panics::{catch, contain, discard};
use crate::core::store::Kind;
use crate::core::store::node_store::NodeStore;
use crate::core::store::tag::{Priority, Tag};
use crate::core::store::task::{Payload, Task};
use crate::core::store::waiters::Key;
use crate::core::sync::Ordering::Relaxed;
use crate::core::sync::channel::{self, Sender};
use crate::core::sync::{Arc, AtomicU64, AtomicUsize, Deadline, Mutex, UnsafeCell, looks, thread};
use std::future::poll_fn;

/// How much an executor queues.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Fragments, 1 to [`super::admission::MAX_FRAGMENTS`].
    pub fragments: usize,
    /// Bytes of host data, at most [`super::admission::MAX_BYTES`].
    pub bytes: u64,
    /// Whether callers may drive the device, where the engine allows it.
    pub lending: bool,
}

/// The most batches of a round, after which the owner looks again for inputs that have ended without
/// being run: under load there is always a next batch.
const ROUND: usize = looks(64, 2);

/// The error type of an engine.
pub type ErrorOf<E> = <<E as Engine>::Kind as Kind>::Error;

/// Why nothing is run any more.
#[derive(Clone, Debug)]
pub enum Fate<T> {
    /// The user asked for it.
    Aborted,
    /// The device is lost, or the owner panicked.
    Lost(T),
}

/// A copy of the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Fragments that were run, failed ones included.
    pub run: u64,
    /// Fragments with an output that failed.
    pub failed: u64,
    /// Fragments that were withdrawn before they began.
    pub cancelled: u64,
    /// Fragments whose deadline passed before they began.
    pub expired: u64,
    /// Times that a caller borrowed the turn.
    pub lent: u64,
    /// Batches that were issued to a device that is not done when it returns.
    pub tickets: u64,
    /// Fragments that were issued again after a late error.
    pub reissued: u64,
}

/// What all sides of one executor share.
pub struct Core<E: Engine> {
    gate: Arc<Gate>,
    queue: Sender<Arc<Task<E::Kind>>>,
    store: Arc<NodeStore<E::Kind>>,
    owner: OwnerCell<E>,
    lendable: bool,
    /// Whether the bell rings when a ticket ends.
    notified: bool,
    /// Tasks that became more urgent after they were sent.
    lifted: Mutex<Vec<Arc<Task<E::Kind>>>>,
    /// Whether there are any: looked at for every fragment.
    has_lifted: AtomicUsize,
    /// Set once `fate` is: looked at for every fragment.
    doomed: AtomicUsize,
    fate: Mutex<Option<Fate<ErrorOf<E>>>>,
    done: Event,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

/// The owner's state: belongs to whoever has the turn; taken out by the owner's thread when it leaves.
struct OwnerCell<E: Engine>(UnsafeCell<Option<Owner<E>>>);

// SAFETY: it is only touched by the thread that has the turn; `Turn` gives it to one at a
// time and orders one driver's accesses before the next one's. An engine is `Send`, and so is what
// the owner keeps of tasks.
unsafe impl<E: Engine> Sync for OwnerCell<E> {}
// SAFETY: as above.
unsafe impl<E: Engine> Send for OwnerCell<E> {}

impl<E: Engine> Core<E> {
    /// Starts the owner's thread.
    pub fn start(limits: Limits, engine: E, name: String) -> std::io::Result<Arc<Self>> {
        let core = Self::idle(limits, engine);
        let shared = core.clone();
        let thread = thread::spawn(name, move || shared.own())?;
        *core.thread.lock() = Some(thread);
        Ok(core)
    }

    /// The same without a thread of its own: [`Core::step`] is what runs it.
    pub fn idle(limits: Limits, mut engine: E) -> Arc<Self> {
        let gate = Gate::new(limits.fragments, limits.bytes);
        // a place for each permit, and for each message that a withdrawn permit leaves behind
        let (queue, receiver) = channel::bounded(limits.fragments + gate.husks());
        let notified = engine.attach(Bell(gate.clone()));
        let bell = Bell(gate.clone());
        let lendable = engine.lendable();
        let call_owner: Option<Box<dyn Fn() + Send + Sync>> =
            (!lendable).then(|| Box::new(move || bell.ring()) as _);
        Arc::new(Self {
            gate,
            queue,
            store: Arc::new(NodeStore::new(call_owner)),
            owner: OwnerCell(UnsafeCell::new(Some(Owner::new(engine, receiver)))),
            lendable: lendable && limits.lending,
            notified,
            lifted: Mutex::new(Vec::new()),
            has_lifted: AtomicUsize::new(0),
            doomed: AtomicUsize::new(0),
            fate: Mutex::new(None),
            done: Event::default(),
            thread: Mutex::new(None),
        })
    }

    // ---- submitting ----------------------------------------------------------------------

    /// A permit for a fragment with `bytes` of host data, if there is room now.
    pub fn try_admit(&self, bytes: u64) -> Result<Permit, Refused> {
        Gate::try_admit(&self.gate, bytes)
    }

    /// A permit, after a wait in line, in the turn that the tag says.
    pub fn admit<'a>(&'a self, bytes: u64, tag: &'a Tag) -> Admit<'a> {
        Admit::new(&self.gate, bytes, tag)
    }

    /// Queues a fragment for whoever drives next.
    pub(super) fn post(&self, task: &Arc<Task<E::Kind>>) {
        if self.queue.try_send(task.clone()).is_err() {
            unreachable!("the channel has a place for every permit and husk, and the owner stays");
        }
        self.gate.turn.posted();
    }

    /// Makes a task at least as urgent as this.
    pub(super) fn lift(&self, task: &Arc<Task<E::Kind>>, class: Priority) {
        if task.raise(class) {
            self.lifted.lock().push(task.clone());
            // ORDERING: Relaxed; `posted` makes it visible to the driver who is to look.
            self.has_lifted.store(1, Relaxed);
            self.gate.turn.posted();
        }
    }

    /// For the owner: the tasks that became more urgent.
    pub(super) fn take_lifted(&self) -> Vec<Arc<Task<E::Kind>>> {
        // ORDERING: Relaxed; see `lift`. Set again by who pushes after the list was taken.
        if self.has_lifted.load(Relaxed) == 0 {
            return Vec::new();
        }
        let mut lifted = self.lifted.lock();
        self.has_lifted.store(0, Relaxed); // ORDERING: Relaxed; as above
        std::mem::take(&mut lifted)
    }

    // ---- driving for one's own sake ------------------------------------------------------------

    /// Borrows the turn, if nobody has it and there is something to do, and drives until the lender's
    /// result is there or nothing is left that it may run. `false` if the turn was not to be had.
    pub fn lend(&self, lender: &Lender<'_, E::Kind>) -> bool {
        let borrowed = self.lendable && self.gate.turn.try_borrow(true);
        if borrowed {
            self.drive(lender, |owner| owner.receive(self));
        }
        borrowed
    }

    /// Runs a task that was not sent, for its submission. The payload comes back if another thread drives:
    /// then it is to be sent. Nobody is woken for it, unless something is left when the result is there.
    pub(super) fn run(
        &self,
        task: &Arc<Task<E::Kind>>,
        payload: Payload<E::Kind>,
        submission: &Submission<E>,
        start: Start,
    ) -> Option<Payload<E::Kind>> {
        let turn = &self.gate.turn;
        let borrowed = self.lendable
            && match start {
                Start::Post => false,
                Start::Run => turn.try_borrow(false),
                Start::RunIfIdle => turn.try_borrow_idle(),
            };
        if !borrowed {
            return Some(payload);
        }
        submission.driven(None, start == Start::RunIfIdle, |core, lender| {
            core.drive(lender, |owner| owner.run_now(task, payload, lender, core));
        });
        None
    }

    /// The caller has borrowed the turn, which started a round.
    fn drive(&self, lender: &Lender<'_, E::Kind>, first: impl FnOnce(&mut Owner<E>)) {
        Counters::add_driving(&self.gate.counters.lent);
        let left = self.guarded(|owner| {
            first(owner);
            while !(lender.done)() && owner.run_batch(self, Some(lender)) {}
            owner.has_ready()
        });
        self.gate.turn.hand_back(left);
    }

    /// It has ended.
    pub(super) fn count_run(&self, failed: bool) {
        Counters::add_driving(&self.gate.counters.run);
        if failed {
            Counters::add_driving(&self.gate.counters.failed);
        }
    }

    // ---- owning --------------------------------------------------------------------------

    /// The owner's thread.
    fn own(&self) {
        let mut limit = None;
        loop {
            self.gate.turn.take(limit.as_ref());
            loop {
                match self.round() {
                    Round::Left => return,
                    Round::Busy => {}
                    Round::Rest(next) => {
                        limit = next;
                        if self.gate.turn.try_rest() {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// One round of whoever has the turn as the owner.
    fn round(&self) -> Round {
        self.gate.turn.start_round();
        self.gate.lapse();
        let left = self.guarded(|owner| {
            owner.receive(self);
            owner.recheck();
            (0..ROUND).all(|_| owner.run_batch(self, None))
        });
        if left {
            return Round::Busy;
        }
        if self.gate.admission.is_drained() && self.guarded(|owner| owner.is_empty()) {
            self.leave();
            return Round::Left;
        }
        if !self.notified && self.guarded(|owner| owner.is_in_flight()) {
            // nobody will tell: wait for the oldest, then look what came in meanwhile
            self.guarded(|owner| {
                owner.wait_for_ticket(self);
                true
            });
            return Round::Busy;
        }
        let mut next = self.gate.admission.next_lapse();
        self.guarded(|owner| {
            next = Deadline::earlier(owner.next_limit(), next.take());
            false
        });
        Round::Rest(next)
    }

    /// Does what the owner's thread would do if it were woken now, until nothing is left: for an executor
    /// that was made without a thread. `false` if another thread has the turn.
    pub fn step(&self) -> bool {
        if !self.gate.turn.try_take() && !self.gate.turn.try_borrow_idle() {
            return false;
        }
        loop {
            match self.round() {
                Round::Left => return true,
                Round::Busy => {}
                Round::Rest(_) if self.gate.turn.try_rest() => return true,
                Round::Rest(_) => {}
            }
        }
    }

    /// Runs `f` on the owner's state. The caller has the turn. A panic in it, outside of any
    /// operation, is the end of the owner: all that is queued and all that comes fails.
    fn guarded(&self, f: impl FnOnce(&mut Owner<E>) -> bool) -> bool {
        let _driving = Driving::start(&self.gate);
        let run = || {
            self.owner.0.with_mut(|owner| {
                // SAFETY: the caller has the turn, so nobody else refers to the owner's state.
                let owner = unsafe { &mut *owner };
                owner.as_mut().map(f)
            })
        };
        match catch(run) {
            Ok(result) => result.unwrap_or(false),
            Err(panic) => {
                self.lose(<E::Kind as Kind>::owner_panicked(panic));
                true // there may be work left, to be told
            }
        }
    }

    /// The owner's thread leaves, with the turn: nothing will be queued any more.
    fn leave(&self) {
        let _driving = Driving::start(&self.gate);
        let owner = self.owner.0.with_mut(|owner| {
            // SAFETY: as in `guarded`; the turn is never given back.
            unsafe { (*owner).take() }
        });
        contain(|| drop(self.store.close_home()));
        contain(|| drop(owner));
        self.done.set();
    }

    // ---- closing -------------------------------------------------------------------------

    /// Refuses new work. What is queued is still run.
    pub fn close(&self) {
        self.gate.admission.close();
        self.gate.turn.call();
    }

    /// Refuses new work. What is queued and has not begun is not run.
    pub fn abort(&self) {
        self.end(Fate::Aborted);
        self.close();
    }

    /// The device is lost, or the owner is: everything queued or to come gets `error`.
    pub fn lose(&self, error: ErrorOf<E>) {
        self.end(Fate::Lost(error));
        self.gate.admission.close();
        self.gate.turn.call();
    }

    fn end(&self, fate: Fate<ErrorOf<E>>) {
        let mut cell = self.fate.lock();
        // the first cause is kept, but an abort does not hide a loss
        let unused = match (&*cell, fate) {
            (None, fate) | (Some(Fate::Aborted), fate @ Fate::Lost(_)) => cell.replace(fate),
            (_, fate) => Some(fate),
        };
        drop(cell);
        drop(unused);
        // ORDERING: Relaxed; see `fate`. The owner sees it by the call that follows.
        self.doomed.store(1, Relaxed);
    }

    /// Why nothing is run any more, if that is so.
    pub fn fate(&self) -> Option<Fate<ErrorOf<E>>> {
        // ORDERING: Relaxed; the reason is read under its lock. Seen late, one more fragment runs.
        if self.doomed.load(Relaxed) == 0 {
            return None;
        }
        self.fate.lock().clone()
    }

    /// Waits until the owner's thread has left, and joins it. Dropping the future loses nothing.
    pub async fn closed(&self) {
        let mut wait = DoneWait {
            done: &self.done,
            key: None,
        };
        poll_fn(|cx| wait.done.poll(cx, &mut wait.key)).await;
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // it has only to return; a panic in it was dealt with
            thread.join().unwrap_or_else(discard);
        }
    }

    // ---- looking -------------------------------------------------------------------------

    /// The results.
    pub fn store(&self) -> &Arc<NodeStore<E::Kind>> {
        &self.store
    }

    /// The queue's bound, the turn and the counters.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Whether the owner's thread has left.
    pub fn is_done(&self) -> bool {
        self.done.is_set()
    }

    /// The reason, if the device or the owner is lost. A caller that was refused because of the loss finds the
    /// reason here: the loser stores it under its lock and closes admission after that, so that a caller which has
    /// seen admission closed takes the lock later.
    pub fn lost(&self) -> Option<ErrorOf<E>> {
        match self.fate.lock().clone() {
            Some(Fate::Lost(error)) => Some(error),
            _ => None,
        }
    }

    /// What has been done.
    pub fn counts(&self) -> Counts {
        // ORDERING: Relaxed; statistics.
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let counters = &self.gate.counters;
        Counts {
            run: get(&counters.run),
            failed: get(&counters.failed),
            cancelled: get(&counters.cancelled),
            expired: get(&counters.expired),
            lent: get(&counters.lent),
            tickets: get(&counters.tickets),
            reissued: get(&counters.reissued),
        }
    }
}

/// What came of a round.
enum Round {
    /// There may be more to do.
    Busy,
    /// Nothing is left to do, until this moment at most.
    Rest(Option<Deadline>),
    /// The owner has left.
    Left,
}

/// The wait for the owner's end.
struct DoneWait<'a> {
    done: &'a Event,
    key: Option<Key>,
}

impl Drop for DoneWait<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.done.deregister(key);
        }
    }
}

#[cfg(all(test, not(any(candlewick_loom, candlewick_shuttle))))]
#[path = "shared_tests.rs"]
mod tests;
