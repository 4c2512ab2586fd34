//! The executor without tensors: what submitters, waiters and the owner share.

use super::admission::{Admission, Place, Refused, Weight};
use super::engine::Engine;
use super::event::Event;
use super::owner::Owner;
use super::turn::Turn;
use crate::store::Kind;
use crate::store::node_store::NodeStore;
use crate::store::slot::Slot;
use crate::store::task::{Payload, Task};
use crate::store::waiters::Key;
use crate::sync::Ordering::{Relaxed, SeqCst};
use crate::sync::channel::{self, Sender};
use crate::sync::{Arc, AtomicU64, AtomicUsize, Mutex, UnsafeCell, fence, thread};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// How much an executor queues.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Fragments, 1 to [`super::admission::MAX_FRAGMENTS`].
    pub fragments: usize,
    /// Bytes of host data, at most [`super::admission::MAX_BYTES`].
    pub bytes: u64,
    /// Whether waiting threads may drive the device, where the engine allows it.
    pub lending: bool,
}

/// The most batches of a round, after which the owner looks again for inputs that have ended without
/// being run: under load there is always a next batch.
const ROUND: usize = if cfg!(any(candlewick_loom, candlewick_shuttle)) {
    2
} else {
    64
};

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

/// What has been done, for anybody to read.
#[derive(Debug, Default)]
struct Counters {
    run: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    expired: AtomicU64,
    lent: AtomicU64,
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
    /// Times that a waiting thread borrowed the turn.
    pub lent: u64,
}

/// What all sides of one executor share.
pub struct Core<E: Engine> {
    admission: Admission,
    turn: Arc<Turn>,
    queue: Sender<Arc<Task<E::Kind>>>,
    store: Arc<NodeStore<E::Kind>>,
    /// Belongs to whoever has the turn; taken out by the owner's thread when it leaves.
    owner: UnsafeCell<Option<Owner<E>>>,
    lendable: bool,
    /// Set once `fate` is: looked at for every fragment.
    doomed: AtomicUsize,
    fate: Mutex<Option<Fate<ErrorOf<E>>>>,
    done: Event,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    counters: Counters,
}

// SAFETY: `owner` is only touched by the thread that has the turn; `Turn` gives it to one at a
// time and orders one driver's accesses before the next one's. The rest is `Sync` by itself.
unsafe impl<E: Engine> Sync for Core<E> {}

/// Room in the queue for one fragment. Dropped unused, it is given back.
#[must_use]
pub struct Permit<'a, E: Engine> {
    core: &'a Core<E>,
    weight: Weight,
}

impl<E: Engine> Core<E> {
    /// Starts the owner's thread.
    pub fn start(limits: Limits, engine: E, name: String) -> std::io::Result<Arc<Self>> {
        let (queue, receiver) = channel::bounded(limits.fragments);
        let turn = Arc::new(Turn::new());
        let bell = turn.clone();
        let lendable = engine.lendable();
        let call_owner: Option<Box<dyn Fn() + Send + Sync>> =
            (!lendable).then(|| Box::new(move || bell.call()) as _);
        let core = Arc::new(Self {
            admission: Admission::new(limits.fragments, limits.bytes),
            turn,
            queue,
            store: Arc::new(NodeStore::new(call_owner)),
            owner: UnsafeCell::new(Some(Owner::new(engine, receiver))),
            lendable: lendable && limits.lending,
            doomed: AtomicUsize::new(0),
            fate: Mutex::new(None),
            done: Event::default(),
            thread: Mutex::new(None),
            counters: Counters::default(),
        });
        let shared = core.clone();
        let thread = thread::spawn(name, move || shared.own())?;
        *core.thread.lock() = Some(thread);
        Ok(core)
    }

    // ---- submitting ----------------------------------------------------------------------

    /// A permit for a fragment with `bytes` of host data, if there is room now.
    pub fn try_admit(&self, bytes: u64) -> Result<Permit<'_, E>, Refused> {
        let weight = Weight(bytes);
        self.admission.try_acquire(weight)?;
        Ok(Permit { core: self, weight })
    }

    /// A permit, after a wait in line.
    pub fn admit(&self, bytes: u64) -> Admit<'_, E> {
        Admit {
            core: self,
            weight: Weight(bytes),
            place: None,
        }
    }

    /// Queues a fragment. With `defer` the owner is not called if nobody else depends on it:
    /// the caller is expected to wait for the result and to run it itself; whoever looks for it
    /// (see [`Core::nudge`]) calls the owner.
    pub(super) fn send(
        &self,
        permit: Permit<'_, E>,
        task: &Arc<Task<E::Kind>>,
        payload: Payload<E::Kind>,
        defer: bool,
    ) {
        let outputs = payload.outputs.clone();
        task.fill(payload);
        std::mem::forget(permit); // it travels with the message
        if self.queue.try_send(task.clone()).is_err() {
            unreachable!("the channel has a place for every permit, and the owner stays");
        }
        let defer = defer && self.lendable;
        self.turn.posted(!defer);
        if defer {
            // ORDERING: SeqCst, with the fence in `nudge`. A waiter sets its flag and looks for
            // PENDING; we have set PENDING and look for its flag: one of us sees the other.
            fence(SeqCst);
            // A fragment that is blocked on this one has a permit, and its sender set PENDING
            // before we did, so the count includes it.
            let wanted = outputs.iter().any(|o| o.has_waiters()) || self.admission.queued() > 1;
            // One who waits in line waits for the place that this fragment takes.
            if wanted || self.admission.has_line() {
                self.turn.call();
            }
        }
    }

    // ---- waiting -------------------------------------------------------------------------

    /// For whoever looks for a result and is not going to run it: if messages lie there that
    /// nobody attends to, calls the owner.
    pub fn nudge(&self) {
        if self.lendable {
            // ORDERING: SeqCst, with the fence in `send`.
            fence(SeqCst);
            self.turn.call_if_unattended();
        }
    }

    /// Ready when the slot has ended; until then somebody is bound to run it.
    pub fn poll(&self, slot: &Slot<E::Kind>, cx: &Context<'_>, key: &mut Option<Key>) -> Poll<()> {
        let poll = slot.poll(cx, key);
        if poll.is_pending() {
            self.nudge();
        }
        poll
    }

    /// Borrows the turn, if nobody has it and there is something to do, and drives until `done`
    /// says so or nothing is left. `false` if the turn was not to be had.
    pub fn lend(&self, mut done: impl FnMut() -> bool) -> bool {
        if !self.lendable || !self.turn.try_borrow() {
            return false;
        }
        // ORDERING: Relaxed; a statistic.
        self.counters.lent.fetch_add(1, Relaxed);
        self.turn.start_round();
        let left = self.guarded(|owner| {
            owner.receive(self);
            while !done() && owner.run_batch(self) {
                if !owner.has_ready() {
                    owner.receive(self); // what came in meanwhile
                }
            }
            owner.has_ready()
        });
        self.turn.hand_back(left);
        true
    }

    // ---- for the owner: what became of a queued fragment ------------------------------------

    /// It has begun, and leaves the queue.
    pub fn begun(&self, task: &Task<E::Kind>) {
        self.leave_queue(task);
    }

    /// It will not begin, and leaves the queue.
    pub fn withdrawn(&self, task: &Task<E::Kind>) {
        // ORDERING: Relaxed; a statistic.
        self.counters.cancelled.fetch_add(1, Relaxed);
        self.leave_queue(task);
    }

    /// It has not begun by its deadline, and leaves the queue.
    pub fn expired(&self, task: &Task<E::Kind>) {
        // ORDERING: Relaxed; a statistic.
        self.counters.expired.fetch_add(1, Relaxed);
        self.leave_queue(task);
    }

    fn leave_queue(&self, task: &Task<E::Kind>) {
        if let Some(bytes) = task.admitted() {
            self.give_back(Weight(bytes));
        }
    }

    fn give_back(&self, weight: Weight) {
        if self.admission.release(weight) {
            self.turn.call();
        }
    }

    /// It has ended.
    pub fn count_run(&self, failed: bool) {
        // ORDERING: Relaxed; statistics.
        self.counters.run.fetch_add(1, Relaxed);
        if failed {
            self.counters.failed.fetch_add(1, Relaxed);
        }
    }

    // ---- owning --------------------------------------------------------------------------

    /// The owner's thread.
    fn own(&self) {
        loop {
            self.turn.take();
            loop {
                self.turn.start_round();
                let left = self.guarded(|owner| {
                    owner.receive(self);
                    owner.recheck();
                    (0..ROUND).all(|_| owner.run_batch(self))
                });
                if left {
                    continue;
                }
                if self.admission.is_drained() && self.guarded(|owner| owner.is_empty()) {
                    return self.leave();
                }
                if self.turn.try_rest() {
                    break;
                }
            }
        }
    }

    /// Runs `f` on the owner's state. The caller has the turn. A panic in it, outside of any
    /// operation, is the end of the owner: all that is queued and all that comes fails.
    fn guarded(&self, f: impl FnOnce(&mut Owner<E>) -> bool) -> bool {
        let run = || {
            self.owner.with_mut(|owner| {
                // SAFETY: the caller has the turn, so nobody else refers to the owner's state.
                let owner = unsafe { &mut *owner };
                owner.as_mut().map(f)
            })
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(result) => result.unwrap_or(false),
            Err(panic) => {
                self.lose(<E::Kind as Kind>::owner_panicked(panic));
                true // there may be work left, to be told
            }
        }
    }

    /// The owner's thread leaves, with the turn: nothing will be queued any more.
    fn leave(&self) {
        let owner = self.owner.with_mut(|owner| {
            // SAFETY: as in `guarded`; the turn is never given back.
            unsafe { (*owner).take() }
        });
        let _ = catch_unwind(AssertUnwindSafe(|| {
            drop(self.store.close_home());
            drop(owner);
        }));
        self.done.set();
    }

    /// Has the owner look at everything again.
    pub fn call_owner(&self) {
        self.turn.call();
    }

    // ---- closing -------------------------------------------------------------------------

    /// Refuses new work. What is queued is still run.
    pub fn close(&self) {
        self.admission.close();
        self.turn.call();
    }

    /// Refuses new work. What is queued and has not begun is not run.
    pub fn abort(&self) {
        self.end(Fate::Aborted);
        self.close();
    }

    /// The device is lost, or the owner is: everything queued or to come gets `error`.
    pub fn lose(&self, error: ErrorOf<E>) {
        self.end(Fate::Lost(error));
        self.admission.close();
        self.turn.call();
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
            let _ = thread.join(); // it has only to return; a panic in it was dealt with
        }
    }

    // ---- looking -------------------------------------------------------------------------

    /// The results.
    pub fn store(&self) -> &Arc<NodeStore<E::Kind>> {
        &self.store
    }

    /// The queue's bound and length.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Whether waiting threads may drive the device.
    pub fn lendable(&self) -> bool {
        self.lendable
    }

    /// Whether the owner's thread has left.
    pub fn is_done(&self) -> bool {
        self.done.is_set()
    }

    /// The reason, if the device or the owner is lost.
    pub fn lost(&self) -> Option<ErrorOf<E>> {
        match self.fate() {
            Some(Fate::Lost(error)) => Some(error),
            _ => None,
        }
    }

    /// What has been done.
    pub fn counts(&self) -> Counts {
        // ORDERING: Relaxed; statistics.
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        Counts {
            run: get(&self.counters.run),
            failed: get(&self.counters.failed),
            cancelled: get(&self.counters.cancelled),
            expired: get(&self.counters.expired),
            lent: get(&self.counters.lent),
        }
    }
}

impl<E: Engine> Permit<'_, E> {
    /// The bytes of host data that it is for.
    pub fn bytes(&self) -> u64 {
        self.weight.0
    }
}

impl<E: Engine> Drop for Permit<'_, E> {
    fn drop(&mut self) {
        self.core.give_back(self.weight);
    }
}

/// The wait for a [`Permit`]: in line, first come first served. Dropped, it leaves the line and
/// takes nothing with it.
#[must_use = "a future does nothing unless polled"]
pub struct Admit<'a, E: Engine> {
    core: &'a Core<E>,
    weight: Weight,
    place: Option<Place>,
}

impl<'a, E: Engine> Future for Admit<'a, E> {
    type Output = Result<Permit<'a, E>, Refused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            core,
            weight,
            place,
        } = &mut *self;
        let poll = core.admission.poll_acquire(*weight, place, cx);
        if poll.is_pending() {
            core.nudge(); // the queue may be full of what nobody attends to
        }
        poll.map_ok(|()| Permit {
            core,
            weight: *weight,
        })
    }
}

impl<E: Engine> Drop for Admit<'_, E> {
    fn drop(&mut self) {
        let place = self.place.take();
        if place.is_some_and(|place| self.core.admission.leave(place)) {
            self.core.turn.call();
        }
    }
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
