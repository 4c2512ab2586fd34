//! The claim: between a permit and the message, deciding who computes what.
//!
//! Nothing waits between the two, and whatever goes wrong, a claimed slot either gets its message
//! or closes: whoever depends on it already finds out.

use super::core::{Core, Permit};
use super::engine::Engine;
use crate::store::NodeId;
use crate::store::node_store::Claim;
use crate::store::slot::Slot;
use crate::store::tag::Tag;
use crate::store::task::{Payload, Task};
use crate::sync::Arc;
use smallvec::SmallVec;

type SlotOf<E> = Arc<Slot<<E as Engine>::Kind>>;

/// The outputs of one submission, each claimed or found to be claimed by somebody else.
#[must_use]
pub struct Claimed<'a, E: Engine> {
    core: &'a Core<E>,
    permit: Option<Permit<'a, E>>,
    task: Arc<Task<E::Kind>>,
    slots: SmallVec<[SlotOf<E>; 1]>,
    /// The claimed ones, by their place, until their work is on its way.
    won: SmallVec<[(usize, SlotOf<E>); 1]>,
}

impl<E: Engine> Core<E> {
    /// Claims `nodes`, which are distinct. The permit guarantees a place for the message.
    pub fn claim<'a>(
        &'a self,
        permit: Permit<'a, E>,
        nodes: &[NodeId],
        tag: Tag,
    ) -> Claimed<'a, E> {
        let task = Arc::new(Task::new(nodes.len(), permit.bytes(), tag));
        let (mut slots, mut won) = (SmallVec::new(), SmallVec::new());
        for (place, &node) in nodes.iter().enumerate() {
            slots.push(match self.store().claim(node, &task) {
                Claim::Found(slot) => slot,
                Claim::Won(slot) => {
                    won.push((place, slot.clone()));
                    slot
                }
            });
        }
        let permit = Some(permit);
        Claimed {
            core: self,
            permit,
            task,
            slots,
            won,
        }
    }
}

impl<E: Engine> Claimed<'_, E> {
    /// The slot of each node. Each counts the caller's interest, to be released once.
    pub fn slots(&self) -> &[SlotOf<E>] {
        &self.slots
    }

    /// Whether all of them are the caller's to compute.
    pub fn is_complete(&self) -> bool {
        self.won.len() == self.slots.len()
    }

    /// Sends the work for all of them, as one fragment. `work` makes it for the claimed slots.
    pub fn send(
        mut self,
        work: impl FnOnce(SmallVec<[SlotOf<E>; 1]>) -> Payload<E::Kind>,
        defer: bool,
    ) {
        debug_assert!(self.is_complete());
        let slots = self.won.iter().map(|(_, slot)| slot.clone()).collect();
        let payload = work(slots);
        self.dispatch(payload, defer);
    }

    /// Sends the work for what is the caller's to compute, a fragment for each: fragments of one
    /// output depend on each other as their nodes do, and so never in a circle, whoever claimed
    /// what in which order. `work` makes one for the node at a place.
    pub fn send_apart<X>(
        mut self,
        mut work: impl FnMut(usize, SlotOf<E>) -> Result<Payload<E::Kind>, X>,
        defer: bool,
    ) -> Result<(), X> {
        let mut parts = Vec::new();
        for (place, slot) in &self.won {
            parts.push(work(*place, slot.clone())?);
        }
        if let Some(mut first) = parts.pop() {
            first.rest = parts;
            self.dispatch(first, defer);
        }
        Ok(()) // if nothing is left to send, the permit goes back
    }

    fn dispatch(&mut self, payload: Payload<E::Kind>, defer: bool) {
        self.won.clear(); // the payload answers for them now
        if let Some(permit) = self.permit.take() {
            self.core.send(permit, &self.task, payload, defer);
        }
    }
}

impl<E: Engine> Drop for Claimed<'_, E> {
    fn drop(&mut self) {
        if !self.won.is_empty() {
            self.won.iter().for_each(|(_, slot)| slot.close());
            self.core.call_owner(); // something may be blocked on them
        }
    }
}
