//! What travels to the owner: one small message, a reference to this.

use super::begun::Begun;
use super::node_store::Held;
use super::slot::Slot;
use super::tag::{Priority, Tag};
use super::{Kind, NodeId};
use crate::core::actor::gate::Permit;
use crate::core::sync::Ordering::Relaxed;
use crate::core::sync::{Arc, AtomicUsize, Mutex};
use smallvec::SmallVec;

/// Work and the slots that its results go to.
///
/// The payload is behind a lock so that withdrawing the last output frees it at once, on
/// whichever thread that happens, and not when the owner comes to it.
pub struct Task<K: Kind> {
    cell: Mutex<Cell<K>>,
    /// Outputs that have not been cancelled.
    wanted: AtomicUsize,
    /// How urgent it is: as its submission said, or as a later one that wants a result of it.
    class: AtomicUsize,
    tag: Tag,
}

struct Cell<K: Kind> {
    payload: Option<Payload<K>>,
    /// Whether the owner has received the message.
    received: bool,
    /// The payload was withdrawn before that: its message is still in the channel, where it takes a
    /// place beyond the permits' (see `Gate`), or else keeps the permit whose place it takes.
    husk: Option<Option<Permit>>,
}

/// A fragment's work. It begins when every input has ended or been issued.
pub struct Payload<K: Kind> {
    /// What to do.
    pub work: K::Work,
    /// Results of other fragments that it reads.
    pub inputs: SmallVec<[Held<K>; 2]>,
    /// Where its results go, until it begins.
    pub outputs: SmallVec<[Arc<Slot<K>>; 1]>,
    /// Its place in the queue, until it begins.
    pub permit: Option<Permit>,
}

/// What came with a message.
#[must_use]
#[derive(Debug)]
pub enum Received {
    /// Work.
    Work,
    /// None any more: it was withdrawn, and its permit came back then, or comes with the message.
    Husk {
        /// The permit, if it has not come back.
        permit: Option<Permit>,
    },
}

/// What a queued task has for the owner.
#[must_use]
pub enum Taken<K: Kind> {
    /// Its payload: every input has ended or been issued.
    Ready(Payload<K>),
    /// Nothing yet: this input has not.
    Blocked(Arc<Slot<K>>),
    /// Nothing any more: it has begun already, or every output was cancelled.
    Gone,
}

impl<K: Kind> Task<K> {
    /// A task for `outputs` slots, without its payload yet: the slots are made first.
    pub fn new(outputs: usize, tag: Tag) -> Self {
        Self {
            class: AtomicUsize::new(tag.priority as usize),
            tag,
            cell: Mutex::new(Cell {
                payload: None,
                received: false,
                husk: None,
            }),
            wanted: AtomicUsize::new(outputs),
        }
    }

    /// Who submitted it, how urgent that was, and until when.
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// How urgent it is by now.
    pub fn class(&self) -> Priority {
        // ORDERING: Relaxed; a hint by which the owner chooses.
        Priority::of(self.class.load(Relaxed))
    }

    /// Makes it as urgent as this, if it is less so. Whether it was.
    pub fn raise(&self, class: Priority) -> bool {
        // ORDERING: Relaxed; the owner is told of it under a lock, see `Core::lift`.
        let old = self.class.fetch_update(Relaxed, Relaxed, |old| {
            (old > class as usize).then_some(class as usize)
        });
        old.is_ok()
    }

    /// `outputs` of its outputs were claimed by other launches. To be called before [`Task::fill`], which looks
    /// whether any output is left.
    pub fn lose_outputs(&self, outputs: usize) {
        // ORDERING: Relaxed; see `fill`.
        self.wanted.fetch_sub(outputs, Relaxed);
    }

    /// Puts the payload in. `false` if every output was cancelled by then: nothing is to be sent.
    pub fn fill(&self, payload: Payload<K>) -> bool {
        let mut cell = self.cell.lock();
        // ORDERING: Relaxed; under the lock that `output_gone` takes after its decrement. If
        // that came before, we see zero; if not, it finds the payload.
        if self.wanted.load(Relaxed) > 0 {
            cell.payload = Some(payload);
            return true;
        }
        drop(cell);
        drop(payload);
        false
    }

    /// One output was cancelled. With the last one the payload goes: the caller drops it, and with it
    /// the place in the queue.
    #[must_use]
    pub fn output_gone(&self) -> Option<Payload<K>> {
        // ORDERING: Relaxed; see `fill`.
        let last = self.wanted.fetch_sub(1, Relaxed) == 1;
        if last { self.withdraw() } else { None }
    }

    fn withdraw(&self) -> Option<Payload<K>> {
        let mut cell = self.cell.lock();
        let mut payload = cell.payload.take()?;
        if !cell.received {
            let permit = payload.permit.take();
            let (here, there) = match permit {
                Some(permit) if permit.leave_husk() => (Some(permit), None),
                other => (None, other),
            };
            payload.permit = here;
            cell.husk = Some(there);
        }
        Some(payload)
    }

    /// For the owner, who has received the message.
    pub fn receive(&self) -> Received {
        let mut cell = self.cell.lock();
        cell.received = true;
        let husk = cell.husk.take();
        drop(cell);
        match husk {
            None => Received::Work,
            Some(permit) => Received::Husk { permit },
        }
    }

    /// Whether the owner has received the message.
    pub fn is_received(&self) -> bool {
        self.cell.lock().received
    }

    /// Takes the payload out; the caller drops it outside of the lock.
    #[must_use]
    pub fn take(&self) -> Option<Payload<K>> {
        self.cell.lock().payload.take()
    }

    /// What `f` makes of its work, if it can run now.
    pub fn if_ready<R>(&self, f: impl FnOnce(&K::Work) -> R) -> Option<R> {
        let cell = self.cell.lock();
        let payload = cell.payload.as_ref()?;
        payload.is_ready().then(|| f(&payload.work))
    }

    /// Whether nothing of it is left, or its work is of this kind.
    pub fn is_gone_or(&self, fits: impl FnOnce(&K::Work) -> bool) -> bool {
        let cell = self.cell.lock();
        cell.payload
            .as_ref()
            .is_none_or(|payload| fits(&payload.work))
    }

    /// Whether it is to run, and an input has neither ended nor been issued.
    pub fn waits(&self) -> bool {
        let cell = self.cell.lock();
        cell.payload
            .as_ref()
            .is_some_and(|payload| payload.blocked_by().is_some())
    }

    /// Takes the payload out if it can run.
    pub fn take_if_ready(&self) -> Taken<K> {
        let mut cell = self.cell.lock();
        let Some(payload) = &cell.payload else {
            return Taken::Gone;
        };
        match payload.blocked_by() {
            Some(input) => Taken::Blocked(input.clone()),
            None => cell.payload.take().map_or(Taken::Gone, Taken::Ready),
        }
    }
}

impl<K: Kind> Payload<K> {
    /// Whether every input has ended or been issued.
    pub fn is_ready(&self) -> bool {
        self.blocked_by().is_none()
    }

    /// An input that has neither ended nor been issued.
    fn blocked_by(&self) -> Option<&Arc<Slot<K>>> {
        let mut inputs = self.inputs.iter().map(Held::slot);
        inputs.find(|slot| !slot.is_issued())
    }

    /// Gives up every output that only its submission wants, now that it is late: whether there was
    /// one.
    pub fn expire(&self) -> bool {
        let expired = self.outputs.iter().map(|output| output.expire());
        expired.fold(false, |some, one| some | one)
    }

    /// Begins every output that is still wanted: the right to end it, or nothing, for each. The payload
    /// answers for them no more.
    pub fn begin(&mut self) -> SmallVec<[Option<Begun<K>>; 1]> {
        self.outputs.drain(..).map(Slot::begin_own).collect()
    }

    /// The nodes whose results it reads.
    pub fn reads(&self, node: impl Fn(NodeId) -> bool) -> bool {
        self.inputs.iter().any(|input| node(input.slot().id()))
    }
}

/// Wherever work is lost before it began, its waiters find out, and its place in the queue is free.
impl<K: Kind> Drop for Payload<K> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            permit.withdraw();
        }
        self.outputs.iter().for_each(|output| output.close());
        // Letting go of an input may leave the fragment that computes it unwanted, and so on
        // down a chain as long as the queue: by a loop, each payload dropped without inputs.
        let mut inputs = std::mem::take(&mut self.inputs);
        while let Some(input) = inputs.pop() {
            if let Some(mut unwanted) = input.let_go() {
                inputs.append(&mut unwanted.inputs);
            }
        }
    }
}
