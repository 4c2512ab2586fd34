//! Fragments between their beginning and their end, and what is done when a ticket ends with an error.
//!
//! A flight is what one ticket stands for: a batch, or several fragments of one class. Its results have
//! been issued, so that fragments which read them may be issued behind it; they are published when the
//! ticket ends, in the order of the flights.
//!
//! An error that comes with a ticket says that something in its flight did not happen. Everything in it
//! is issued again, each fragment by itself with a ticket of its own, so that the error finds the one
//! that it belongs to; and so is everything that was issued on top of it since, because that has read
//! what did not happen. All other later flights stand.

use super::driving::Operating;
use super::engine::{Engine, Inputs, Results};
use super::gate::Counters;
use super::owner::Owner;
use super::shared::{Core, ErrorOf};
use crate::core::panics::{catch, contain};
use crate::core::store::begun::Begun;
use crate::core::store::task::Payload;
use crate::core::store::{Kind, NodeId};
use crate::core::sync::Deadline;
use rustc_hash::FxHashSet;
use smallvec::SmallVec;
use std::task::Poll;

/// A fragment that has begun.
pub(super) struct Running<K: Kind> {
    pub(super) payload: Payload<K>,
    pub(super) outputs: SmallVec<[Option<Begun<K>>; 1]>,
    /// Whether an output has failed.
    failed: bool,
}

/// Those of a batch.
pub(super) type AllBegun<K> = SmallVec<[Running<K>; 1]>;

/// What a fragment came to: results of its outputs, or one error for all of them.
pub(super) type Issued<K> = Result<Results<K>, <K as Kind>::Error>;

/// What one ticket stands for.
pub(super) struct Flight<E: Engine> {
    ticket: E::Ticket,
    members: AllBegun<E::Kind>,
    /// By then it has ended, or the device is lost. None before it is the oldest: the device has others to
    /// do.
    limit: Option<Deadline>,
}

impl<K: Kind> Running<K> {
    pub(super) fn new(payload: Payload<K>, outputs: SmallVec<[Option<Begun<K>>; 1]>) -> Self {
        Self {
            payload,
            outputs,
            failed: false,
        }
    }

    /// A result for each output.
    fn results(&self, issued: Issued<K>) -> Results<K> {
        match issued {
            Ok(results) if results.len() == self.outputs.len() => results,
            Ok(_) => self.outputs.iter().map(|_| Err(K::abandoned())).collect(),
            Err(error) => self.outputs.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// Its results may be read by later fragments from now on.
    pub(super) fn issue(&mut self, issued: Issued<K>) {
        let results = self.results(issued);
        self.failed = results.iter().any(Result::is_err);
        for (output, result) in self.outputs.iter_mut().zip(results) {
            if let Some(output) = output {
                output.issue(result);
            }
        }
    }

    /// Ends the outputs with these results.
    pub(super) fn finish<E: Engine<Kind = K>>(self, issued: Issued<K>, core: &Core<E>) {
        let results = self.results(issued);
        core.count_run(results.iter().any(Result::is_err));
        // Before anybody is told: who finds the result finds nothing else left of the fragment.
        discard(self.payload);
        for (output, result) in self.outputs.into_iter().zip(results) {
            if let Some(output) = output {
                output.finish(result);
            }
        }
    }

    /// Ends the outputs with the results that were issued.
    fn confirm<E: Engine<Kind = K>>(self, core: &Core<E>) {
        core.count_run(self.failed);
        discard(self.payload); // as in `finish`
        self.outputs.into_iter().flatten().for_each(Begun::confirm);
    }

    /// The nodes whose results it makes.
    pub(super) fn makes(&self) -> impl Iterator<Item = NodeId> {
        let outputs = self.outputs.iter().flatten();
        outputs.map(|output| output.slot().id())
    }
}

impl<E: Engine> Owner<E> {
    /// Takes a ticket for what has been issued.
    pub(super) fn take_off(&mut self, core: &Core<E>) {
        if self.taking_off.is_empty() {
            return;
        }
        Counters::add_driving(&core.gate().counters.tickets);
        let ticket = self.engine.ticket();
        let members = std::mem::take(&mut self.taking_off);
        self.flights.push_back(Flight {
            ticket,
            members,
            limit: None,
        });
        self.start_limit();
    }

    /// The device has begun with the oldest flight by now: its time counts.
    fn start_limit(&mut self) {
        if let Some(flight) = self.flights.front_mut()
            && flight.limit.is_none()
        {
            let limit = self.engine.ticket_limit(&flight.ticket);
            flight.limit = limit.and_then(Deadline::after);
        }
    }

    /// Publishes what has ended, in order.
    pub(super) fn settle(&mut self, core: &Core<E>) {
        while let Some(flight) = self.flights.front_mut() {
            let Poll::Ready(result) = self.engine.poll(&mut flight.ticket) else {
                if flight.limit.as_ref().is_some_and(Deadline::has_passed) {
                    core.lose(E::Kind::overdue());
                }
                return;
            };
            if !self.land(result, core) {
                return;
            }
        }
    }

    /// Waits for the oldest ticket, for devices that do not tell when one has ended.
    pub(super) fn wait_for_ticket(&mut self, core: &Core<E>) {
        let Some(flight) = self.flights.front_mut() else {
            return;
        };
        match self.engine.wait(&mut flight.ticket, flight.limit.as_ref()) {
            Poll::Ready(result) => drop(self.land(result, core)),
            Poll::Pending => core.lose(E::Kind::overdue()),
        }
    }

    /// When the oldest ticket is overdue.
    pub(super) fn next_limit(&self) -> Option<Deadline> {
        self.flights.front()?.limit.clone()
    }

    /// The oldest flight has ended. `false` if the device is lost, by which all flights end: see
    /// [`Owner::crash`].
    fn land(&mut self, result: Result<(), ErrorOf<E>>, core: &Core<E>) -> bool {
        let lost = self.engine.lost();
        match (result, lost) {
            (_, Some(lost)) => {
                core.lose(lost);
                return false;
            }
            (Ok(()), None) => {
                let flight = self.flights.pop_front();
                self.start_limit();
                let members = flight.into_iter().flat_map(|flight| flight.members);
                members.for_each(|running| running.confirm(core));
            }
            (Err(_), None) => return self.recover(core),
        }
        true
    }

    /// The oldest flight ended with an error. Issues again what may not have happened, and what has read
    /// from that. `false` if the device is lost.
    fn recover(&mut self, core: &Core<E>) -> bool {
        let mut affected: FxHashSet<NodeId> = FxHashSet::default();
        let mut flawed = true; // the first
        while !self.flights.is_empty() {
            self.start_limit();
            if !flawed {
                let limit = self.next_limit();
                match self.wait_for_front(limit.as_ref()) {
                    Poll::Ready(result) => flawed = result.is_err(),
                    Poll::Pending => {
                        core.lose(E::Kind::overdue());
                        return false;
                    }
                }
                if let Some(lost) = self.engine.lost() {
                    core.lose(lost);
                    return false;
                }
            }
            let flight = self.flights.pop_front();
            self.taking_off = flight.map(|flight| flight.members).unwrap_or_default();
            while !self.taking_off.is_empty() {
                let running = self.taking_off.remove(0);
                let reads = running.payload.reads(|node| affected.contains(&node));
                if !flawed && !reads {
                    running.confirm(core);
                    continue;
                }
                affected.extend(running.makes());
                if !self.issue_again(running, core) {
                    return false;
                }
            }
            flawed = false;
        }
        true
    }

    fn wait_for_front(&mut self, limit: Option<&Deadline>) -> Poll<Result<(), ErrorOf<E>>> {
        match self.flights.front_mut() {
            Some(flight) => self.engine.wait(&mut flight.ticket, limit),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Issues a fragment by itself, waits for it and publishes. `false` if the device is lost.
    fn issue_again(&mut self, mut running: Running<E::Kind>, core: &Core<E>) -> bool {
        Counters::add_driving(&core.gate().counters.reissued);
        let issued = self.issue(&mut running);
        // on the device it is behind the flights that are left
        let mut ticket = self.engine.ticket();
        let before = u32::try_from(self.flights.len()).unwrap_or(u32::MAX);
        let limit = self.engine.ticket_limit(&ticket).and_then(|limit| {
            let all = limit.saturating_mul(before.saturating_add(1));
            Deadline::after(all)
        });
        let ended = self.engine.wait(&mut ticket, limit.as_ref());
        if let Some(lost) = self.engine.lost() {
            running.finish(Err(lost.clone()), core);
            core.lose(lost);
            return false;
        }
        match ended {
            Poll::Ready(Ok(())) => running.finish(issued, core),
            Poll::Ready(Err(error)) => running.finish(Err(error), core),
            Poll::Pending => {
                running.finish(Err(E::Kind::overdue()), core);
                core.lose(E::Kind::overdue());
                return false;
            }
        }
        true
    }

    /// Ends everything that has been issued with this error.
    pub(super) fn crash(&mut self, error: &ErrorOf<E>, core: &Core<E>) {
        let flights = std::mem::take(&mut self.flights);
        let members = flights.into_iter().flat_map(|flight| flight.members);
        let lost = members.chain(std::mem::take(&mut self.taking_off));
        let lost: Vec<_> = lost.collect();
        for running in lost {
            running.finish(Err(error.clone()), core);
        }
    }

    /// Issues one fragment. A panic is an error of this fragment alone.
    pub(super) fn issue(&mut self, running: &mut Running<E::Kind>) -> Issued<E::Kind> {
        let Payload { work, inputs, .. } = &mut running.payload;
        let _operating = self.engine.is_foreign(work).then(Operating::start);
        catch(|| self.engine.issue(work, Inputs::new(inputs))).map_err(<E::Kind as Kind>::panicked)
    }
}

/// Drops a payload. Work may hold foreign code, and its drop may panic: not the owner's end.
pub(super) fn discard<K: Kind>(payload: Payload<K>) {
    contain(|| drop(payload));
}
