//! What travels to the owner: one small message, a reference to this.

use super::node_store::Held;
use super::slot::{Begun, Slot};
use super::tag::Tag;
use super::{Kind, NodeId};
use crate::sync::Ordering::Relaxed;
use crate::sync::{Arc, AtomicUsize, Mutex};
use smallvec::SmallVec;

/// Work and the slots that its results go to.
///
/// The payload is behind a lock so that withdrawing the last output frees it at once, on
/// whichever thread that happens, and not when the owner comes to it.
pub struct Task<K: Kind> {
    payload: Mutex<Option<Payload<K>>>,
    /// Outputs that have not been cancelled.
    wanted: AtomicUsize,
    /// Bytes of host data that it was admitted with; `None` for a part of another's message,
    /// which has no place of its own in the queue.
    admitted: Option<u64>,
    tag: Tag,
}

/// A fragment's work. It begins when every input has ended.
pub struct Payload<K: Kind> {
    /// What to do.
    pub work: K::Work,
    /// Results of other fragments that it reads.
    pub inputs: SmallVec<[Held<K>; 2]>,
    /// Where its results go.
    pub outputs: SmallVec<[Arc<Slot<K>>; 1]>,
    /// More work that came in the same message, each with outputs of its own.
    pub rest: Vec<Payload<K>>,
}

/// What a queued task has for the owner.
#[must_use]
pub enum Taken<K: Kind> {
    /// Its payload: every input has ended.
    Ready(Payload<K>),
    /// The further parts of its message, to be queued beside it: none may wait for another.
    Parts(Vec<Payload<K>>),
    /// Nothing yet: this input has not ended.
    Blocked(NodeId),
    /// Nothing any more: every output was cancelled.
    Withdrawn,
}

impl<K: Kind> Task<K> {
    /// A task for `outputs` slots, without its payload yet: the slots are made first.
    pub fn new(outputs: usize, bytes: u64, tag: Tag) -> Self {
        Self {
            tag,
            payload: Mutex::new(None),
            wanted: AtomicUsize::new(outputs),
            admitted: Some(bytes),
        }
    }

    /// A task for one part of a message that had several.
    pub fn part(payload: Payload<K>, tag: Tag) -> Self {
        Self {
            tag,
            wanted: AtomicUsize::new(payload.outputs.len()),
            payload: Mutex::new(Some(payload)),
            admitted: None,
        }
    }

    /// Whose it is, how urgent, and until when.
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// The bytes that it takes up in the queue, if it has a place there.
    pub fn admitted(&self) -> Option<u64> {
        self.admitted
    }

    /// Puts the payload in.
    pub fn fill(&self, payload: Payload<K>) {
        let mut cell = self.payload.lock();
        // ORDERING: Relaxed; under the lock that `output_gone` takes after its decrement. If
        // that came before, we see zero; if not, it finds the payload.
        let late = if self.wanted.load(Relaxed) == 0 {
            Some(payload)
        } else {
            cell.replace(payload)
        };
        drop(cell);
        drop(late);
    }

    /// One output was cancelled. With the last one the payload goes: the caller drops it.
    #[must_use]
    pub fn output_gone(&self) -> Option<Payload<K>> {
        // ORDERING: Relaxed; see `fill`.
        let last = self.wanted.fetch_sub(1, Relaxed) == 1;
        if last { self.take() } else { None }
    }

    /// Takes the payload out; the caller drops it outside of the lock.
    #[must_use]
    pub fn take(&self) -> Option<Payload<K>> {
        self.payload.lock().take()
    }

    /// Whether it can run now, and its work is of this kind.
    pub fn is_ready_and(&self, fits: impl FnOnce(&K::Work) -> bool) -> bool {
        let cell = self.payload.lock();
        cell.as_ref().is_some_and(|payload| {
            payload.rest.is_empty() && payload.blocked_by().is_none() && fits(&payload.work)
        })
    }

    /// Whether it is to run, and an input has not ended.
    pub fn waits(&self) -> bool {
        let cell = self.payload.lock();
        cell.as_ref()
            .is_some_and(|payload| payload.blocked_by().is_some())
    }

    /// Takes the payload out if it can run.
    pub fn take_if_ready(&self) -> Taken<K> {
        let mut cell = self.payload.lock();
        let Some(payload) = &mut *cell else {
            return Taken::Withdrawn;
        };
        if !payload.rest.is_empty() {
            return Taken::Parts(std::mem::take(&mut payload.rest));
        }
        match payload.blocked_by() {
            Some(input) => Taken::Blocked(input),
            None => cell.take().map_or(Taken::Withdrawn, Taken::Ready),
        }
    }
}

impl<K: Kind> Payload<K> {
    /// An input that has not ended.
    fn blocked_by(&self) -> Option<NodeId> {
        let mut inputs = self.inputs.iter();
        let input = inputs.find(|i| !i.slot().is_finished())?;
        Some(input.slot().id())
    }

    /// Gives up every output that nobody wants any more, now that it is late: whether there was one.
    pub fn expire(&self) -> bool {
        let expired = self.outputs.iter().map(|output| output.expire());
        expired.fold(false, |some, one| some | one)
    }

    /// Begins every output that is still wanted: the right to end it, or nothing, for each.
    pub fn begin(&self) -> SmallVec<[Option<Begun<K>>; 1]> {
        self.outputs.iter().map(Slot::begin).collect()
    }
}

/// Wherever work is lost before it began, its waiters find out.
impl<K: Kind> Drop for Payload<K> {
    fn drop(&mut self) {
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
