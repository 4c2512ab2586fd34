//! The owner: receives, begins, ends, and sleeps when there is nothing to do.

use super::explore::{Model, Search};
use super::graph::members;
use super::rule::{Close, Fault};
use super::state::{Broken, Door, FRAGMENTS, Interests, Met, Owner, Phase, Stage, State};

impl Model {
    /// Takes in all that the owner may do next.
    pub fn owner(&self, s: &State, search: &mut Search) {
        let clears_first = !self.is(Fault::ReceiveFirst);
        match s.owner {
            Owner::Asleep | Owner::Left => {}
            Owner::Round => search.must("begins a round", s, |s| {
                s.owner = Owner::Receive;
                self.clear_or_receive(s, clears_first);
            }),
            Owner::Receive => search.must("receives", s, |s| {
                s.owner = Owner::Work;
                self.clear_or_receive(s, !clears_first);
            }),
            Owner::Work => self.work(s, search),
            Owner::Rest => search.must("rests", s, |s| {
                s.owner = if s.bell { Owner::Round } else { Owner::Asleep };
            }),
        }
    }

    fn clear_or_receive(&self, s: &mut State, clear: bool) {
        if clear {
            s.bell = false;
            return;
        }
        for fragment in &mut s.fragments {
            fragment.stage = match fragment.stage {
                Stage::Sent => Stage::Received,
                Stage::Husk => Stage::HuskReceived,
                Stage::Kept => Stage::KeptReceived,
                other => other,
            };
        }
    }

    /// Takes in each of the things that there are to do after the husks; with none of them the round
    /// ends.
    fn work(&self, s: &State, search: &mut Search) {
        let husk = |stage| matches!(stage, Stage::HuskReceived | Stage::KeptReceived);
        if let Some(f) = (0..FRAGMENTS).find(|&f| husk(s.fragments[f].stage)) {
            return search.must("drops a husk", s, |s| self.drop_husk(s, f));
        }
        let before = search.steps;
        for f in 0..FRAGMENTS {
            match s.fragments[f].stage {
                Stage::Received if self.aborted(s) => {
                    search.must("turns a fragment away", s, |s| self.turn_away(s, f));
                }
                Stage::Received if self.may_begin(s, f) => {
                    search.must("begins a fragment", s, |s| self.begin(s, f));
                }
                Stage::Begun => self.run(s, f, search),
                _ => {}
            }
        }
        if search.steps == before {
            search.must("has nothing to do", s, |s| self.finish_round(s));
        } else if s.fragments.iter().any(|f| f.stage.in_channel()) {
            search.must("looks for more", s, |s| s.owner = Owner::Round);
        }
    }

    fn aborted(&self, s: &State) -> bool {
        s.door != Door::Open && self.rule.close == Close::Abort
    }

    fn finish_round(&self, s: &mut State) {
        let held = |stage| matches!(stage, Stage::Received | Stage::Begun);
        let back = s.permits == self.rule.capacity || self.is(Fault::LeaveEarly);
        let empty = !s.fragments.iter().any(|f| held(f.stage));
        if s.door == Door::Open || !back || !empty {
            s.owner = Owner::Rest;
            return;
        }
        s.owner = Owner::Left;
        if s.fragments.iter().any(|f| f.stage == Stage::Husk) {
            s.meet(Met::HuskBehind);
        }
    }

    // ---- a fragment ------------------------------------------------------------------------------

    /// Drops a message without work: it is not counted any more, or else its permit comes back.
    fn drop_husk(&self, s: &mut State, f: usize) {
        let stage = std::mem::replace(&mut s.fragments[f].stage, Stage::None);
        if stage == Stage::KeptReceived {
            if !self.is(Fault::KeepBeyond) {
                self.leave_queue(s, f);
            }
        } else if !self.is(Fault::KeepCount) && !self.is(Fault::UncountedHusk) {
            s.husks -= 1;
        }
    }

    /// Ends what has not begun as closed.
    fn turn_away(&self, s: &mut State, f: usize) {
        let (outputs, inputs) = self.take(s, f);
        let r = self.claimant(f);
        for node in members(outputs) {
            if s.phase((r, node)) == Phase::Pending {
                self.end(s, (r, node), Phase::Closed);
            }
        }
        self.forget_sent(s, f);
        self.release_all(s, inputs);
        self.leave_queue(s, f);
    }

    /// Ends a fragment, and returns the outputs and the inputs that it had.
    fn take(&self, s: &mut State, f: usize) -> (u8, Interests) {
        let fragment = &mut s.fragments[f];
        fragment.stage = Stage::None;
        let inputs = std::mem::replace(&mut fragment.inputs, Interests::NONE);
        (std::mem::take(&mut fragment.outputs), inputs)
    }

    /// Whether every input has ended or been issued.
    fn ready(&self, s: &State, f: usize) -> bool {
        let mut inputs = s.fragments[f].inputs.iter();
        inputs.all(|slot| s.phase(slot) != Phase::Pending)
    }

    fn may_begin(&self, s: &State, f: usize) -> bool {
        let urgent = |f| self.config.requests[self.claimant(f)].urgent;
        let other_class = |&other: &usize| urgent(other) != urgent(f);
        let mut others = (0..self.parts() * self.requests()).filter(other_class);
        let first = |other: usize| {
            let queued = s.fragments[other].stage == Stage::Received;
            let counts = self.is(Fault::HeadOfLine) || self.ready(s, other);
            queued && counts && urgent(other) || s.fragments[other].stage == Stage::Begun
        };
        self.ready(s, f) && !(self.rule.classes && others.any(first))
    }

    /// Begins the outputs that are still wanted: the queue has a place again.
    fn begin(&self, s: &mut State, f: usize) {
        let r = self.claimant(f);
        let outputs = s.fragments[f].outputs;
        for node in members(outputs) {
            if s.phase((r, node)) == Phase::Pending {
                s.slot((r, node)).phase = Phase::Running;
                self.look_for_another(s, (r, node), f);
            } else {
                s.meet(Met::GivenUpBeside);
                s.fragments[f].outputs &= !(1 << node);
            }
        }
        s.fragments[f].stage = Stage::Begun;
        let mut inputs = s.fragments[f].inputs.iter();
        if inputs.any(|slot| s.phase(slot) == Phase::Running) {
            s.meet(Met::Pipelined);
        }
        self.forget_sent(s, f);
        self.leave_queue(s, f);
    }

    /// A node is computed once as an output, also if that was withdrawn (in a faulty rule).
    fn look_for_another(&self, s: &mut State, (r, node): (usize, usize), f: usize) {
        let mut others = (0..self.requests()).filter(|&other| other != r);
        let begun = others.any(|other| s.phase((other, node)).begun());
        let computes = |other: usize| {
            let fragment = &s.fragments[other];
            fragment.stage == Stage::Begun && fragment.outputs >> node & 1 == 1
        };
        if begun || (0..FRAGMENTS).any(|other| other != f && computes(other)) {
            s.breaks(Broken::Twice);
        }
    }

    /// Takes in the end of a fragment that has begun, once its inputs have ended: the device runs them
    /// in order.
    fn run(&self, s: &State, f: usize, search: &mut Search) {
        let inputs = s.fragments[f].inputs;
        if inputs.iter().any(|slot| !s.phase(slot).ended()) {
            return;
        }
        let good = inputs.iter().all(|slot| s.phase(slot) == Phase::Ready);
        if good {
            search.must("ends a fragment", s, |s| self.publish(s, f, Phase::Ready));
        }
        if !good || self.rule.fail {
            search.must("ends a fragment with an error", s, |s| {
                if !good {
                    s.meet(Met::BadInput);
                }
                self.publish(s, f, Phase::Failed);
            });
        }
    }

    fn publish(&self, s: &mut State, f: usize, phase: Phase) {
        let (outputs, inputs) = self.take(s, f);
        self.release_all(s, inputs);
        for node in members(outputs) {
            let slot = (self.claimant(f), node);
            if s.phase(slot) == Phase::Running {
                self.end(s, slot, phase);
            }
        }
    }
}
