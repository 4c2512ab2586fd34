//! Histories of a few submissions of a few shared nodes, checked against a sequential model.
//!
//! The model. A node is unsubmitted, or has a slot: claimed by a submission, begun, ended, cancelled or
//! expired; in the last two it can be claimed anew. A submission is asked for in one step (it finds the
//! slots that it shares or leans on) and claims in another, between its call and its return. What the owner
//! does is hidden: at each of its steps any fragment may begin whose inputs have begun, and any may end.
//! Parameters have a version, which each request reads whole.
//!
//! A history fits if some order of the hidden steps explains all that was observed. The search is that
//! of Wing and Gong, with a memory of the states that it has been in, and a budget of them: a history
//! whose budget runs out has not been looked at.

use candlewick::Cancel;
use std::collections::HashSet;

/// Something that happened, in the order of the one thread.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A submission finds what it shares and leans on.
    Ask(usize),
    /// From here on it may claim.
    Call(usize),
    /// By now it has claimed, or it never will.
    Return(usize, bool),
    Cancel(usize, Cancel),
    /// Its last handle goes.
    Drop(usize),
    /// The owner did as much as it wanted.
    Step,
    /// Its deadline has passed.
    Late(usize),
    Observe(usize, Seen),
    Swap(u64),
    /// A request read this version.
    Read(u64),
}

/// How a handle stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Pending,
    Value,
    Failed,
    Cancelled,
    Expired,
}

/// What came of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fits,
    DoesNotFit,
    NotLooked,
}

/// One history, and the graph that it is of.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// For each node, the nodes that it is made from.
    pub(crate) below: Vec<Vec<usize>>,
    /// For each submission, the nodes that it asks for, and whether it has a deadline.
    pub(crate) submissions: Vec<(Vec<usize>, bool)>,
    pub(crate) events: Vec<Event>,
    /// Whether operations may fail.
    pub(crate) faults: bool,
    /// The version before the first event.
    pub(crate) version: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Pending,
    Begun,
    Ended,
    Cancelled,
    Expired,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Slot {
    node: usize,
    by: usize,
    phase: Phase,
    /// Bits of the submissions whose handles want it.
    wanted: u32,
    /// Bits of the submissions whose fragments read it.
    read: u32,
    /// Whether its claimer has a deadline and still wants it, or nothing has wanted it since.
    due: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    New,
    Asked,
    Called,
    Claimed,
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Fragment {
    None,
    Queued,
    Begun,
    Over,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Submission {
    stage: Stage,
    fragment: Fragment,
    /// For each output, its slot.
    slots: Vec<Option<usize>>,
    wants: bool,
    late: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    slots: Vec<Slot>,
    submissions: Vec<Submission>,
    version: u64,
}

impl Slot {
    fn given_up(&self) -> bool {
        matches!(self.phase, Phase::Cancelled | Phase::Expired)
    }
    fn interest(&self) -> u32 {
        self.wanted.count_ones() + self.read.count_ones()
    }
    /// Another one comes to want or to read it: the deadline of one who has let go is lifted.
    fn shared(&mut self) -> &mut Self {
        self.due &= self.interest() > 0;
        self
    }
}

impl State {
    /// The slot of a node, if it has one that was not given up.
    fn slot_of(&self, node: usize) -> Option<usize> {
        let last = self.slots.iter().rposition(|slot| slot.node == node)?;
        (!self.slots[last].given_up()).then_some(last)
    }

    /// The fragment of a submission reads what has a slot below these nodes.
    fn lean(&mut self, history: &History, sub: usize, from: &[usize]) {
        let mut way: Vec<usize> = from
            .iter()
            .flat_map(|&node| &history.below[node])
            .copied()
            .collect();
        while let Some(node) = way.pop() {
            match self.slot_of(node) {
                Some(slot) if self.slots[slot].by != sub => {
                    self.slots[slot].shared().read |= 1 << sub;
                }
                _ => way.extend(&history.below[node]),
            }
        }
    }

    fn let_go(&mut self, sub: usize) {
        self.slots
            .iter_mut()
            .for_each(|slot| slot.read &= !(1 << sub));
    }

    fn ask(&mut self, history: &History, sub: usize) {
        let outputs = &history.submissions[sub].0;
        let slots: Vec<_> = outputs.iter().map(|&node| self.slot_of(node)).collect();
        for &slot in slots.iter().flatten() {
            self.slots[slot].shared().wanted |= 1 << sub;
        }
        let own = outputs
            .iter()
            .zip(&slots)
            .filter(|(_, slot)| slot.is_none());
        let own: Vec<usize> = own.map(|(&node, _)| node).collect();
        self.lean(history, sub, &own);
        let submission = &mut self.submissions[sub];
        submission.slots = slots;
        submission.stage = Stage::Asked;
    }

    fn claim(&mut self, history: &History, sub: usize) {
        let (outputs, deadline) = &history.submissions[sub];
        let (mut own, mut won) = (0, Vec::new());
        for (place, &node) in outputs.iter().enumerate() {
            if self.submissions[sub].slots[place].is_some() {
                continue;
            }
            own += 1;
            let slot = self.slot_of(node).unwrap_or_else(|| {
                won.push(node);
                self.slots.push(Slot {
                    node,
                    by: sub,
                    phase: Phase::Pending,
                    wanted: 0,
                    read: 0,
                    due: *deadline,
                });
                self.slots.len() - 1
            });
            if self.slots[slot].by != sub {
                self.slots[slot].shared();
            }
            self.slots[slot].wanted |= 1 << sub;
            self.submissions[sub].slots[place] = Some(slot);
        }
        if won.len() < own {
            self.let_go(sub);
            self.lean(history, sub, &won);
        }
        let submission = &mut self.submissions[sub];
        submission.stage = Stage::Claimed;
        submission.wants = true;
        if !won.is_empty() {
            submission.fragment = Fragment::Queued;
        }
    }

    /// The submission wants nothing any more. Its deadline goes with it where something else wants the result.
    fn unwant(&mut self, sub: usize) {
        for slot in &mut self.slots {
            slot.wanted &= !(1 << sub);
            slot.due &= slot.by != sub || slot.interest() == 0;
        }
        self.submissions[sub].wants = false;
    }

    fn cancel(&mut self, sub: usize) -> Cancel {
        let mut sum = Cancel::Finished;
        let slots: Vec<usize> = self.submissions[sub]
            .slots
            .iter()
            .flatten()
            .copied()
            .collect();
        self.unwant(sub);
        for slot in slots {
            let slot = &mut self.slots[slot];
            let one = match slot.phase {
                Phase::Pending if slot.interest() == 0 => {
                    slot.phase = Phase::Cancelled;
                    Cancel::Cancelled
                }
                Phase::Pending => Cancel::Shared,
                Phase::Begun => Cancel::Running,
                _ => Cancel::Finished,
            };
            let rank = |cancel| match cancel {
                Cancel::Running => 3,
                Cancel::Shared => 2,
                Cancel::Cancelled => 1,
                Cancel::Finished => 0,
            };
            sum = if rank(one) > rank(sum) { one } else { sum };
        }
        for sub in 0..self.submissions.len() {
            let mut own = self.slots.iter().filter(|slot| slot.by == sub);
            let queued = self.submissions[sub].fragment == Fragment::Queued;
            if queued && own.all(|slot| slot.phase == Phase::Cancelled) {
                self.submissions[sub].fragment = Fragment::Over;
                self.let_go(sub);
            }
        }
        sum
    }

    /// A fragment begins, or turns out to be late, if it can.
    fn begin(&mut self, sub: usize) -> bool {
        let reads = self.slots.iter().filter(|slot| slot.read & (1 << sub) != 0);
        if reads.into_iter().any(|slot| slot.phase == Phase::Pending) {
            return false;
        }
        let (late, mut begun) = (self.submissions[sub].late, false);
        for slot in self.slots.iter_mut().filter(|slot| slot.by == sub) {
            if slot.phase == Phase::Pending {
                let expires = late && slot.due && slot.interest() <= 1;
                slot.phase = if expires {
                    Phase::Expired
                } else {
                    Phase::Begun
                };
                begun |= !expires;
            }
        }
        self.submissions[sub].fragment = if begun {
            Fragment::Begun
        } else {
            Fragment::Over
        };
        if !begun {
            self.let_go(sub);
        }
        true
    }

    fn end(&mut self, sub: usize) {
        for slot in self.slots.iter_mut().filter(|slot| slot.by == sub) {
            if slot.phase == Phase::Begun {
                slot.phase = Phase::Ended;
            }
        }
        self.submissions[sub].fragment = Fragment::Over;
        self.let_go(sub);
    }

    /// Whether a handle may be seen like this.
    fn may_be(&self, history: &History, sub: usize, seen: Seen) -> bool {
        if self.submissions[sub].stage != Stage::Claimed {
            return false; // there is no handle
        }
        let slots = self.submissions[sub].slots.iter().flatten();
        let phases: Vec<Phase> = slots.map(|&slot| self.slots[slot].phase).collect();
        let has = |phase| phases.contains(&phase);
        let pending = has(Phase::Pending) || has(Phase::Begun);
        match seen {
            Seen::Pending => pending,
            Seen::Value => phases.iter().all(|&phase| phase == Phase::Ended),
            Seen::Failed => !pending && history.faults && has(Phase::Ended),
            Seen::Cancelled => !pending && has(Phase::Cancelled),
            Seen::Expired => !pending && has(Phase::Expired),
        }
    }

    /// What is visible happens, if it may.
    fn happen(&mut self, history: &History, event: Event) -> bool {
        match event {
            Event::Ask(sub) => self.ask(history, sub),
            Event::Call(sub) => self.submissions[sub].stage = Stage::Called,
            Event::Return(sub, true) => return self.submissions[sub].stage == Stage::Claimed,
            Event::Return(sub, false) => {
                if self.submissions[sub].stage == Stage::Claimed {
                    return false;
                }
                self.submissions[sub].stage = Stage::Refused;
                self.unwant(sub);
                self.let_go(sub);
            }
            Event::Cancel(sub, said) => return self.cancel(sub) == said,
            Event::Drop(sub) if self.submissions[sub].wants => self.unwant(sub),
            Event::Drop(_) | Event::Step => {}
            Event::Late(sub) => self.submissions[sub].late = true,
            Event::Observe(sub, seen) => return self.may_be(history, sub, seen),
            Event::Swap(version) => {
                let next = version == self.version || version == self.version + 1;
                self.version = version;
                return next;
            }
            Event::Read(version) => return version == self.version,
        }
        true
    }
}

impl History {
    /// Searches for an order of the hidden steps that explains what was seen.
    pub(crate) fn check(&self, budget: usize) -> Verdict {
        let new = Submission {
            stage: Stage::New,
            fragment: Fragment::None,
            slots: Vec::new(),
            wants: false,
            late: false,
        };
        let first = State {
            slots: Vec::new(),
            submissions: vec![new; self.submissions.len()],
            version: self.version,
        };
        let mut seen: HashSet<(usize, State)> = HashSet::new();
        let mut way = vec![(0, first)];
        while let Some((at, state)) = way.pop() {
            let Some(&event) = self.events.get(at) else {
                return Verdict::Fits;
            };
            if !seen.insert((at, state.clone())) {
                continue;
            }
            if seen.len() > budget {
                return Verdict::NotLooked;
            }
            let mut next = state.clone();
            if next.happen(self, event) {
                way.push((at + 1, next));
            }
            for sub in 0..self.submissions.len() {
                let mut next = state.clone();
                if state.submissions[sub].stage == Stage::Called {
                    next.claim(self, sub);
                    way.push((at, next));
                    continue;
                }
                let moved = match (event, state.submissions[sub].fragment) {
                    (Event::Step, Fragment::Queued) => next.begin(sub),
                    (Event::Step, Fragment::Begun) => {
                        next.end(sub);
                        true
                    }
                    _ => false,
                };
                if moved {
                    way.push((at, next));
                }
            }
        }
        Verdict::DoesNotFit
    }
}
