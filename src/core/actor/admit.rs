//! The wait for room in the queue.

use super::admission::{Place, Refused, Weight};
use super::gate::{Gate, Permit};
use crate::core::store::tag::Tag;
use crate::core::sync::Arc;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The wait for a [`Permit`]: in line. Dropped, it leaves the line and takes nothing with it.
#[must_use = "a future does nothing unless polled"]
pub struct Admit<'a> {
    gate: &'a Arc<Gate>,
    weight: Weight,
    tag: &'a Tag,
    place: Option<Place>,
}

impl<'a> Admit<'a> {
    /// For a fragment with `bytes` of host data, in the turn that the tag says.
    pub fn new(gate: &'a Arc<Gate>, bytes: u64, tag: &'a Tag) -> Self {
        Self {
            gate,
            weight: Weight(bytes),
            tag,
            place: None,
        }
    }
}

impl Future for Admit<'_> {
    type Output = Result<Permit, Refused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            gate,
            weight,
            tag,
            place,
        } = &mut *self;
        let before = *place;
        let poll = gate.admission.poll_acquire(*weight, tag, place, cx);
        // new in line; or anew, because its own grant has lapsed
        if *place != before && gate.admission.next_lapse().is_some() {
            gate.turn.call(); // the owner is to look when that grant has lapsed
        }
        poll.map_ok(|()| Gate::permit(gate, *weight))
    }
}

impl Drop for Admit<'_> {
    fn drop(&mut self) {
        let place = self.place.take();
        if place.is_some_and(|place| self.gate.admission.leave(place)) {
            self.gate.turn.call();
        }
    }
}
