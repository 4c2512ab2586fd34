//! A request: its way through the first cut, the permit and the number to the claims, then the message and the
//! wait.

use super::explore::{Model, Search};
use super::graph::members;
use super::rule::{Close, Fault};
use super::state::{At, Broken, Door, Interests, Met, Owner, Phase, Stage, State};

impl Model {
    /// Takes in all that request `r` may do next.
    pub fn request(&self, s: &State, r: usize, search: &mut Search) {
        match s.requests[r].at {
            At::Cut => search.must("cuts", s, |s| self.cut(s, r)),
            At::Admit => self.admit(s, r, search),
            At::Number => search.must("draws a number", s, |s| {
                s.draw(r);
                self.go_on(s, r, At::Number);
            }),
            At::Claim => search.must("claims", s, |s| self.claim(s, r)),
            At::Back => search.must("gives its permit back", s, |s| self.won_none(s, r)),
            At::Recut => search.must("cuts again", s, |s| self.cut_again(s, r)),
            At::Send => search.must("sends", s, |s| self.send(s, r)),
            At::Post => search.must("posts", s, |s| self.post(s, r)),
            At::Look => search.must("looks", s, |s| self.look(s, r)),
            At::Looked => search.must("registers", s, |s| s.requests[r].at = At::Parked),
            At::Withdraw => search.must("withdraws", s, |s| self.withdraw_one(s, r)),
            At::Refused => search.must("gives everything back", s, |s| self.refused(s, r)),
            At::Lined | At::Parked | At::Done => {}
        }
        if self.rule.refuse && matches!(s.requests[r].at, At::Recut | At::Send) {
            search.must("fails to launch", s, |s| self.refuse(s, r));
        }
        if self.rule.cancel {
            self.cancel(s, r, search);
        }
    }

    /// After a step of the way to the claims comes the next one.
    pub fn go_on(&self, s: &mut State, r: usize, done: At) {
        let mut way = self.way().into_iter().skip_while(|&at| at != done).skip(1);
        match way.next() {
            Some(next) => s.requests[r].at = next,
            None => self.after_claims(s, r),
        }
    }

    /// The way to the claims.
    pub fn way(&self) -> [At; 4] {
        match self.rule.fault {
            Some(Fault::NumberFirst) => [At::Number, At::Cut, At::Admit, At::Claim],
            Some(Fault::PermitLast) => [At::Cut, At::Number, At::Claim, At::Admit],
            _ => [At::Cut, At::Admit, At::Number, At::Claim],
        }
    }

    // ---- a permit --------------------------------------------------------------------------------

    fn admit(&self, s: &State, r: usize, search: &mut Search) {
        if s.door != Door::Open {
            return search.must("finds it closed", s, |s| self.leave(s, r));
        }
        if s.permits > 0 && s.line == 0 {
            return search.must("takes a permit", s, |s| {
                s.permits -= 1;
                self.admitted(s);
                self.go_on(s, r, At::Admit);
            });
        }
        search.must("lines up", s, |s| {
            s.line_up(r);
            s.requests[r].at = At::Lined;
        });
        if self.rule.tries {
            search.must("finds it full", s, |s| self.leave(s, r));
        }
    }

    /// Releases all that it holds.
    fn leave(&self, s: &mut State, r: usize) {
        let request = &mut s.requests[r];
        request.at = At::Done;
        request.todo = 0;
        request.lost = false;
        let outputs = std::mem::replace(&mut request.outputs, Interests::NONE);
        let inputs = std::mem::replace(&mut request.inputs, Interests::NONE);
        s.forget_number(r);
        self.release_all(s, outputs);
        self.release_all(s, inputs);
    }

    // ---- claims ----------------------------------------------------------------------------------

    /// The first output, in the order of the request, in whose slot it holds no interest yet.
    pub fn unclaimed(&self, s: &State, r: usize) -> Option<usize> {
        let mut outputs = self.config.requests[r].outputs();
        outputs.find(|&node| s.requests[r].outputs.get(node).is_none())
    }

    /// The outputs that it won.
    pub fn won(&self, s: &State, r: usize) -> u8 {
        let slots = s.requests[r].outputs.iter();
        let won = slots.filter(|&(claimant, _)| claimant == r);
        won.fold(0, |set, (_, node)| set | 1 << node)
    }

    fn claim(&self, s: &mut State, r: usize) {
        let Some(node) = self.unclaimed(s, r) else {
            unreachable!("the last claim has gone on")
        };
        let claimant = match s.live(node) {
            Some(other) => {
                s.requests[r].lost = true;
                other
            }
            None => {
                if (0..self.requests()).any(|other| s.phase((other, node)) == Phase::Refused) {
                    s.meet(Met::ClaimedAnew);
                }
                s.slot((r, node)).phase = Phase::Pending;
                r
            }
        };
        s.requests[r].outputs.set(node, claimant);
        self.share(s, (claimant, node));
        if self.unclaimed(s, r).is_none() {
            self.go_on(s, r, At::Claim);
        }
    }

    /// Decides what comes of the claims: a message, a second cut, or nothing to do.
    fn after_claims(&self, s: &mut State, r: usize) {
        let won = self.won(s, r);
        let lost = std::mem::take(&mut s.requests[r].lost);
        if !lost {
            let f = self.fragments_of(r).start;
            s.fragments[f].outputs = won;
            s.fragments[f].inputs = s.requests[r].inputs;
            s.requests[r].inputs = Interests::NONE;
            s.requests[r].at = self.launch();
        } else if won == 0 {
            s.requests[r].at = At::Back;
        } else {
            let below = members(won).fold(0, |set, node| set | self.operands(node));
            s.requests[r].todo = (below & !won) << 4;
            s.requests[r].at = At::Recut;
        }
    }

    /// Gives the permit back: others compute all outputs.
    fn won_none(&self, s: &mut State, r: usize) {
        s.meet(Met::WonNone);
        s.requests[r].at = At::Look;
        s.forget_number(r);
        let inputs = std::mem::replace(&mut s.requests[r].inputs, Interests::NONE);
        self.release_all(s, inputs);
        if !self.is(Fault::KeepPermit) {
            self.give_back(s);
        }
    }

    // ---- the launch ------------------------------------------------------------------------------

    /// The first step of the launch.
    pub fn launch(&self) -> At {
        match self.is(Fault::PostFirst) {
            true => At::Post,
            false => At::Send,
        }
    }

    /// Sends the message: it goes into the channel.
    fn send(&self, s: &mut State, r: usize) {
        let sent = s.fragments.iter().filter(|f| f.stage.in_channel()).count();
        if sent >= (self.rule.capacity + self.rule.places) as usize {
            s.breaks(Broken::NoPlace);
        } else if sent >= self.rule.capacity as usize {
            s.meet(Met::HuskPlace);
        }
        if s.owner == Owner::Left {
            s.breaks(Broken::Unheard);
        }
        for f in self.fragments_of(r) {
            if s.fragments[f].outputs != 0 {
                s.fragments[f].stage = Stage::Sent;
            }
        }
        s.requests[r].at = match self.is(Fault::PostFirst) {
            true => At::Look,
            false => At::Post,
        };
        let inputs = std::mem::replace(&mut s.requests[r].inputs, Interests::NONE);
        self.release_all(s, inputs);
        self.look_for_circle(s);
        if self.rule.fault.is_none() {
            self.look_at_order(s, r); // with a fault it is the circle that is to be found
        }
    }

    /// Tells the owner of the message.
    fn post(&self, s: &mut State, r: usize) {
        match self.is(Fault::PostAsleep) {
            true => s.bell = true,
            false => self.call(s),
        }
        s.requests[r].at = match self.is(Fault::PostFirst) {
            true => At::Send,
            false => At::Look,
        };
    }

    /// The launch fails: what was won is given up, and who waits for it is told.
    fn refuse(&self, s: &mut State, r: usize) {
        for node in members(self.won(s, r)) {
            self.end(s, (r, node), Phase::Refused);
        }
        s.requests[r].at = At::Refused;
        s.requests[r].todo = 0;
    }

    /// After that the owner, who may hold a fragment that leans on it, is called.
    fn refused(&self, s: &mut State, r: usize) {
        if !self.is(Fault::RefuseSilently) {
            self.call(s);
        }
        let f = self.fragments_of(r).start;
        s.fragments[f].outputs = 0;
        let inputs = std::mem::replace(&mut s.fragments[f].inputs, Interests::NONE);
        self.release_all(s, inputs);
        self.leave(s, r);
        self.give_back(s);
    }

    // ---- waiting ---------------------------------------------------------------------------------

    /// The slot of the first output that has not been seen to end.
    pub fn awaited(&self, s: &State, r: usize) -> Option<(usize, usize)> {
        let mut outputs = self.config.requests[r].outputs();
        outputs.find_map(|node| Some((s.requests[r].outputs.get(node)?, node)))
    }

    /// Releases the outputs that have ended, up to one that has not. There it registers, in the
    /// step in which it looks. (An interest in what has ended holds up nothing: looking at several
    /// in one step hides nothing.)
    fn look(&self, s: &mut State, r: usize) {
        while let Some(slot) = self.awaited(s, r) {
            if !s.phase(slot).ended() {
                s.requests[r].at = match self.is(Fault::WaitBlindly) {
                    true => At::Looked,
                    false => At::Parked,
                };
                return;
            }
            s.requests[r].outputs.clear(slot.1);
            self.release(s, slot);
        }
        s.requests[r].at = At::Done;
    }

    // ---- withdrawing -----------------------------------------------------------------------------

    /// Takes in that a request withdraws: while it waits for a permit, or between being handed one and
    /// taking it, or while it waits for results.
    fn cancel(&self, s: &State, r: usize, search: &mut Search) {
        match s.requests[r].at {
            At::Admit => search.may("withdraws", s, |s| self.leave(s, r)),
            At::Lined => search.may("leaves the line", s, |s| {
                s.leave_line(r);
                self.leave(s, r);
            }),
            At::Number => search.may("passes its permit on", s, |s| {
                s.meet(Met::PassedOn);
                self.leave(s, r);
                self.give_back(s);
            }),
            At::Look | At::Parked => search.may("withdraws", s, |s| self.withdraw_one(s, r)),
            _ => {}
        }
    }

    /// Withdraws from one output after the other.
    fn withdraw_one(&self, s: &mut State, r: usize) {
        if let Some(slot) = self.awaited(s, r) {
            s.requests[r].outputs.clear(slot.1);
            self.release(s, slot);
        }
        s.requests[r].at = match self.awaited(s, r) {
            Some(_) => At::Withdraw,
            None => At::Done,
        };
    }

    // ---- closing ---------------------------------------------------------------------------------

    /// Closing is three steps: say so, refuse those in line, call the owner.
    pub fn close(&self, s: &State, search: &mut Search) {
        match s.door {
            Door::Open if self.rule.close != Close::Never => {
                search.may("closes", s, |s| s.door = Door::Shut);
            }
            Door::Shut => search.must("refuses those in line", s, |s| self.refuse_line(s)),
            Door::Refused => search.must("calls the owner", s, |s| {
                s.door = Door::Closed;
                self.call(s);
            }),
            Door::Open | Door::Closed => {}
        }
    }

    fn refuse_line(&self, s: &mut State) {
        s.door = Door::Refused;
        if self.is(Fault::LeaveLine) {
            return;
        }
        while let Some(r) = s.pop_line() {
            s.meet(Met::RefusedInLine);
            s.requests[r].at = At::Admit; // awake: it finds it closed
        }
    }
}
