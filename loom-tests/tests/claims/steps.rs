//! What requests and the owner do alike: interests, permits, and calling each other.

use super::explore::Model;
use super::graph::members;
use super::rule::Fault;
use super::state::{At, Broken, Door, Interests, Met, Owner, Phase, Stage, State};

impl Model {
    /// Counts one more who wants the result.
    pub fn share(&self, s: &mut State, slot: (usize, usize)) {
        s.slot(slot).interest += 1;
    }

    /// Counts one less who wants the result. A slot that has not begun is given up with its last
    /// interest. A queued fragment goes with its last slot, then what only that wanted, and so on.
    pub fn release(&self, s: &mut State, slot: (usize, usize)) {
        let it = s.slot(slot);
        let Some(interest) = it.interest.checked_sub(1) else {
            return s.breaks(Broken::Interest);
        };
        it.interest = interest;
        let cancellable =
            it.phase == Phase::Pending || it.phase == Phase::Running && self.is(Fault::CancelBegun);
        if interest == 0 && cancellable {
            it.phase = Phase::None;
            self.output_gone(s, slot);
        } else if interest == 0 && it.phase == Phase::Refused {
            it.phase = Phase::None; // the last who was to be told has been
        }
    }

    /// Counts one less for each of several results.
    pub fn release_all(&self, s: &mut State, slots: Interests) {
        slots.iter().for_each(|slot| self.release(s, slot));
    }

    /// Notes that an output was given up. With the last one its fragment's payload goes.
    fn output_gone(&self, s: &mut State, slot: (usize, usize)) {
        let Some(f) = self.fragment_of(s, slot) else {
            return;
        };
        let fragment = &mut s.fragments[f];
        let wanted = |node: usize| s.slots[slot.0][node].phase == Phase::Pending;
        if members(fragment.outputs).any(wanted) {
            return;
        }
        fragment.stage = match fragment.stage {
            Stage::Sent if s.husks < self.rule.husks => Stage::Husk,
            Stage::Sent => Stage::Kept,
            Stage::Received => Stage::None,
            _ => return, // it has not been sent, or has begun
        };
        let stage = fragment.stage;
        let inputs = std::mem::replace(&mut fragment.inputs, Interests::NONE);
        fragment.outputs = 0;
        self.forget_sent(s, f);
        match stage {
            Stage::Husk => {
                s.meet(Met::HuskLeft);
                s.husks += !self.is(Fault::UncountedHusk) as u8;
            }
            Stage::Kept => s.meet(Met::HuskBound),
            _ => {}
        }
        if stage != Stage::Kept && !self.is(Fault::KeepWithdrawn) {
            self.leave_queue(s, f);
        }
        if !self.is(Fault::KeepInputs) {
            let before = self.queued(s);
            self.release_all(s, inputs);
            if self.queued(s) != before {
                s.meet(Met::Chain);
            }
        }
    }

    /// Takes a fragment out of the queue: its permit comes back.
    pub fn leave_queue(&self, s: &mut State, f: usize) {
        if f == self.fragments_of(self.claimant(f)).start {
            self.give_back(s); // under the old rule the further parts of a message have none
        }
    }

    /// The queued fragments, as a set.
    pub fn queued(&self, s: &State) -> u8 {
        let stages = s.fragments.iter().map(|fragment| fragment.stage);
        let queued = stages.map(|stage| matches!(stage, Stage::Sent | Stage::Received) as u8);
        queued.rev().fold(0, |set, queued| set << 1 | queued)
    }

    /// The fragment that is to end a slot, if it is made and not over.
    pub fn fragment_of(&self, s: &State, (claimant, node): (usize, usize)) -> Option<usize> {
        let has = |&f: &usize| s.fragments[f].outputs >> node & 1 == 1;
        self.fragments_of(claimant).find(has)
    }

    /// Notes that a fragment is not queued any more. Once that is true of all of its request, no slot of
    /// that is pending, and its number does not matter.
    pub fn forget_sent(&self, s: &mut State, f: usize) {
        let r = self.claimant(f);
        let queued = self.queued(s);
        if self.fragments_of(r).all(|f| queued >> f & 1 == 0) {
            s.forget_number(r);
        }
    }

    /// Ends a slot, and wakes those who wait for it.
    pub fn end(&self, s: &mut State, slot: (usize, usize), phase: Phase) {
        let it = s.slot(slot);
        it.phase = phase;
        if it.interest == 0 && phase == Phase::Refused {
            it.phase = Phase::None;
        }
        if phase == Phase::Refused && self.is(Fault::RefuseAsleep) {
            return;
        }
        for r in 0..self.requests() {
            if s.requests[r].at == At::Parked && self.awaited(s, r) == Some(slot) {
                s.requests[r].at = At::Look;
            }
        }
    }

    /// Gives a permit back. The first in line gets it.
    pub fn give_back(&self, s: &mut State) {
        let open = s.door == Door::Open || self.is(Fault::HandOn);
        if open
            && !self.is(Fault::PassLine)
            && let Some(first) = s.pop_line()
        {
            s.meet(Met::Granted);
            self.admitted(s);
            return self.go_on(s, first, At::Admit);
        }
        s.permits += 1;
        if s.permits > self.rule.capacity {
            s.breaks(Broken::Permits);
        }
        if s.door != Door::Open && !self.is(Fault::ReturnSilently) {
            s.meet(Met::LatePermit);
            self.call(s);
        }
    }

    /// Checks that no permit is taken or handed over after closing.
    pub fn admitted(&self, s: &mut State) {
        if s.door != Door::Open {
            s.breaks(Broken::Admitted);
        }
    }

    /// Has the owner look again.
    pub fn call(&self, s: &mut State) {
        s.bell = true;
        if s.owner == Owner::Asleep {
            s.owner = Owner::Round;
        }
    }

    /// Whether the pending claim of one request is older than that of another.
    pub fn older(&self, s: &State, one: usize, other: usize) -> bool {
        let number = |r: usize| s.requests[r].number;
        assert!(number(one) > 0 && number(other) > 0, "a number is missing");
        number(one) < number(other)
    }

    /// Says if a fragment that is sent waits for a younger one. If that never happens, there is no
    /// circle, also of more fragments than are explored.
    pub fn look_at_order(&self, s: &mut State, r: usize) {
        let inputs = s.fragments[r].inputs.iter();
        let mut pending = inputs.filter(|&slot| s.phase(slot) == Phase::Pending);
        if pending.any(|(claimant, _)| !self.older(s, claimant, r)) {
            s.breaks(Broken::Order);
        }
    }

    /// Says if queued fragments wait for each other: takes away those that do not wait for one of
    /// those that are left, until there is none.
    pub fn look_for_circle(&self, s: &mut State) {
        let mut left = self.queued(s);
        let waits = |f: usize, left: u8| {
            let inputs = s.fragments[f].inputs.iter();
            let mut pending = inputs.filter(|&slot| s.phase(slot) == Phase::Pending);
            let is_left = |f: usize| left >> f & 1 == 1;
            pending.any(|slot| self.fragment_of(s, slot).is_some_and(is_left))
        };
        while let Some(free) = members(left).find(|&f| !waits(f, left)) {
            left &= !(1 << free);
        }
        if left != 0 {
            s.breaks(Broken::Circle);
        }
    }
}
