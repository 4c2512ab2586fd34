//! Which results exist, and for how long.
//!
//! A slot counts its references. The count never rises from zero, so whoever takes it to zero
//! is the last one ever and removes the entry; a look-up that comes later finds nothing, or
//! finds zero and says that the node is gone.
//!
//! Invariants: a key is a node that was submitted; its entry is replaced only if it was
//! given up; at rest, when nobody names a node or waits for it, the map is empty.

use super::slot::{Lean, Released, Share, Slot};
use super::task::{Payload, Task};
use super::{Kind, NodeId};
use crate::core::panics::contain;
use crate::core::sync::Ordering::Relaxed;
use crate::core::sync::{Alter, Arc, AtomicU64, Map, Mutex};

/// The results of one executor.
pub struct NodeStore<K: Kind> {
    map: Map<NodeId, Arc<Slot<K>>>,
    /// The number of the last launch that claims.
    number: AtomicU64,
    /// Nodes that a fragment computes although a younger claim on them had not begun.
    recomputed: AtomicU64,
    home: Option<Home<K>>,
}

/// Results that only the owner may free, on their way to it.
struct Home<K: Kind> {
    /// `None` once the owner is gone: then they are dropped where they are.
    doomed: Mutex<Option<Vec<Arc<Slot<K>>>>>,
    call_owner: Box<dyn Fn() + Send + Sync>,
}

impl<K: Kind> Home<K> {
    /// Has the owner free a slot; if it has left, frees it here.
    fn send(&self, slot: Arc<Slot<K>>) {
        let mut doomed = self.doomed.lock();
        let here = match &mut *doomed {
            Some(list) => {
                list.push(slot);
                None
            }
            None => Some(slot),
        };
        drop(doomed);
        if here.is_none() {
            (self.call_owner)();
        }
    }
}

/// Who computes a node.
#[must_use]
pub enum Claim<K: Kind> {
    /// The caller does. The slot counts the node and the caller's submission.
    Won(Arc<Slot<K>>),
    /// Somebody else does, or did. The slot counts the caller's submission.
    Found(Arc<Slot<K>>),
}

/// What a look-up of a node found.
#[must_use]
pub enum Found<K: Kind> {
    /// Its result, or that it is on its way.
    Held(Held<K>),
    /// A younger claim that has not begun: the caller computes the node as well.
    PassedOver,
    /// No claim, or one that was given up.
    Nothing,
}

impl<K: Kind> Found<K> {
    /// The interest, if the node was found.
    pub fn held(self) -> Option<Held<K>> {
        match self {
            Self::Held(held) => Some(held),
            Self::PassedOver | Self::Nothing => None,
        }
    }
}

/// Interest in a slot, given back when dropped.
pub struct Held<K: Kind> {
    store: Arc<NodeStore<K>>,
    slot: Arc<Slot<K>>,
    released: bool,
}

impl<K: Kind> NodeStore<K> {
    /// An empty store. With `call_owner`, results are freed by the owner, who is called to do so
    /// and takes them with [`NodeStore::take_doomed`]; without, by whoever lets go last.
    pub fn new(call_owner: Option<Box<dyn Fn() + Send + Sync>>) -> Self {
        Self {
            map: Map::new(),
            number: AtomicU64::new(0),
            recomputed: AtomicU64::new(0),
            home: call_owner.map(|call_owner| Home {
                doomed: Mutex::new(Some(Vec::new())),
                call_owner,
            }),
        }
    }

    /// A number for the claims of a launch, greater than that of every claim that the caller has seen.
    pub fn draw(&self) -> u64 {
        // ORDERING: Relaxed; a claim that the caller has seen was put into the map after its number
        // was drawn, and the map's lock orders that before this: of one word's modifications, the one
        // that happens before comes first.
        self.number.fetch_add(1, Relaxed) + 1
    }

    /// Decides who computes node `id`. The caller holds a tensor that names it, and has drawn `number`.
    pub fn claim(&self, id: NodeId, number: u64, task: &Arc<Task<K>>) -> Claim<K> {
        let (replaced, found) = self.map.alter(id, |entry| match entry {
            Some(slot) if slot.share(Lean::Any) => (Alter::Keep, Ok(slot.clone())),
            _ => {
                let slot = Arc::new(Slot::new(id, number, task.clone()));
                (Alter::Put(slot.clone()), Err(slot))
            }
        });
        match found {
            Ok(slot) => Claim::Found(slot),
            Err(slot) => {
                drop(replaced);
                Claim::Won(slot)
            }
        }
    }

    /// Interest in node `id`, if it was submitted and not given up, and `lean` allows it.
    pub fn acquire(this: &Arc<Self>, id: NodeId, lean: Lean) -> Found<K> {
        let look = |slot: &Arc<Slot<K>>| match slot.share(lean) {
            true => Ok(slot.clone()),
            false => Err(slot.is_passed_over(lean)),
        };
        match this.map.with(id, look) {
            Some(Ok(slot)) => Found::Held(Held::new(this, slot)),
            Some(Err(true)) => Found::PassedOver,
            Some(Err(false)) | None => Found::Nothing,
        }
    }

    /// Counts `nodes` nodes that a fragment passed over and computes: see [`NodeStore::recomputed`].
    pub fn count_recomputed(&self, nodes: u64) {
        // ORDERING: Relaxed; a statistic.
        self.recomputed.fetch_add(nodes, Relaxed);
    }

    /// The node's own reference goes: no tensor names it any more.
    pub fn release_node(&self, id: NodeId) {
        let mut released = Released::Held;
        let gone = self.map.remove_if(id, |slot| {
            released = slot.release(Share::Node);
            released != Released::Held
        });
        if let Some(slot) = gone {
            drop(self.removed(slot, released));
        }
    }

    /// One reference less. What comes back is work that nobody wants any more, to be dropped.
    #[must_use]
    pub fn release(&self, slot: &Arc<Slot<K>>, share: Share) -> Option<Payload<K>> {
        let released = slot.release(share);
        if released == Released::Held {
            return None;
        }
        let entry = self
            .map
            .remove_if(slot.id(), |entry| Arc::ptr_eq(entry, slot));
        self.removed(entry?, released)
    }

    /// A slot that nobody refers to has left the map.
    #[must_use]
    fn removed(&self, slot: Arc<Slot<K>>, released: Released) -> Option<Payload<K>> {
        let unwanted = match released {
            Released::Withdrawn => slot.task().output_gone(),
            _ => None,
        };
        match &self.home {
            Some(home) => home.send(slot),
            None if released == Released::Ended => {
                // SAFETY: this is the one who was told, and the entry has been removed once.
                contain(|| drop(unsafe { slot.take_result() }));
            }
            None => {} // the owner's own reference is the last: what it publishes goes with it
        }
        unwanted
    }

    /// For the owner: the results that it is to free.
    pub fn take_doomed(&self) -> Vec<Arc<Slot<K>>> {
        let Some(home) = &self.home else {
            return Vec::new();
        };
        home.doomed
            .lock()
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// For the owner, when it leaves: what is released from now on is freed where that happens.
    pub fn close_home(&self) -> Vec<Arc<Slot<K>>> {
        let Some(home) = &self.home else {
            return Vec::new();
        };
        home.doomed.lock().take().unwrap_or_default()
    }

    /// How many nodes were computed inside of a fragment although another one had claimed them: its claim
    /// was younger and had not begun, so that waiting for it could have been waiting in a circle.
    pub fn recomputed(&self) -> u64 {
        // ORDERING: Relaxed; a statistic.
        self.recomputed.load(Relaxed)
    }

    /// The number of nodes whose result exists or is on its way.
    pub fn nodes(&self) -> usize {
        self.map.entries()
    }
}

impl<K: Kind> Held<K> {
    fn new(store: &Arc<NodeStore<K>>, slot: Arc<Slot<K>>) -> Self {
        Self {
            store: store.clone(),
            slot,
            released: false,
        }
    }

    /// The slot.
    pub fn slot(&self) -> &Arc<Slot<K>> {
        &self.slot
    }

    /// Interest of the caller's own in the same slot.
    pub fn share(&self) -> Self {
        self.slot.share_again();
        Self::new(&self.store, self.slot.clone())
    }

    /// The slot, with the interest, which the caller gives back from now on.
    pub fn into_slot(mut self) -> Arc<Slot<K>> {
        self.released = true;
        self.slot.clone()
    }

    /// Gives the interest back and hands over the work that nobody wants any more. A loop over
    /// this, not a recursion, is how a long chain of fragments is withdrawn.
    #[must_use]
    pub(super) fn let_go(mut self) -> Option<Payload<K>> {
        self.released = true;
        self.store.release(&self.slot, Share::Interest)
    }
}

impl<K: Kind> Drop for Held<K> {
    fn drop(&mut self) {
        if !self.released {
            drop(self.store.release(&self.slot, Share::Interest));
        }
    }
}
