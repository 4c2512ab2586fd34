//! The two cuts of a request: the first one before it claims, the second one of what it won.

use super::explore::Model;
use super::graph::members;
use super::rule::Fault;
use super::state::{At, Broken, Met, Phase, State};

impl Model {
    /// The first cut leans on every live claim that it comes to.
    pub fn cut(&self, s: &mut State, r: usize) {
        loop {
            self.visit(s, r);
            if s.requests[r].todo == 0 {
                break;
            }
            if self.rule.stepwise {
                return;
            }
        }
        match self.unclaimed(s, r) {
            Some(_) => self.go_on(s, r, At::Cut),
            None => {
                s.forget_number(r);
                s.requests[r].at = At::Look; // others compute all of it
            }
        }
    }

    /// The first cut looks at the largest node that it is to look at: none comes back to it.
    fn visit(&self, s: &mut State, r: usize) {
        let (node, asked, reached) = take_largest(&mut s.requests[r].todo);
        let Some(claimant) = s.live(node) else {
            s.requests[r].todo |= self.operands(node) << 4;
            return;
        };
        if asked {
            s.requests[r].outputs.set(node, claimant);
            self.share(s, (claimant, node));
        }
        if reached {
            s.requests[r].inputs.set(node, claimant);
            self.share(s, (claimant, node));
        }
    }

    /// The second cut, of what was won. It makes the fragment's inputs; those of the first cut are
    /// released when it is sent.
    pub fn cut_again(&self, s: &mut State, r: usize) {
        if self.is(Fault::Apart) {
            return self.cut_apart(s, r);
        }
        while s.requests[r].todo != 0 {
            self.visit_again(s, r);
            if self.rule.stepwise {
                break;
            }
        }
        if s.requests[r].todo == 0 {
            s.fragments[r].outputs = self.won(s, r);
            s.requests[r].at = self.launch();
        }
    }

    fn visit_again(&self, s: &mut State, r: usize) {
        let (node, ..) = take_largest(&mut s.requests[r].todo);
        if let Some(claimant) = s.live(node)
            && self.leans(s, r, (claimant, node))
        {
            s.fragments[r].inputs.set(node, claimant);
            return self.share(s, (claimant, node));
        }
        let below = self.operands(node) & !self.won(s, r);
        s.requests[r].todo |= below << 4;
    }

    /// Whether the second cut of `r` leans on a live claim: on an older one, or on what has begun.
    fn leans(&self, s: &mut State, r: usize, slot: (usize, usize)) -> bool {
        if s.phase(slot) != Phase::Pending {
            s.meet(Met::BegunBelow);
            if self.is(Fault::IgnoreBegun) {
                s.breaks(Broken::Forgotten);
            }
            return true;
        }
        let older = self.older(s, slot.0, r);
        s.meet(match older {
            true => Met::OlderPending,
            false => Met::YoungerInside,
        });
        older || self.is(Fault::LeanOnYounger)
    }

    /// The old rule: each output that was won is cut as a fragment of its own.
    fn cut_apart(&self, s: &mut State, r: usize) {
        for (output, f) in members(self.won(s, r)).zip(self.fragments_of(r)) {
            s.fragments[f].outputs = 1 << output;
            let mut todo = self.operands(output) << 4;
            while todo != 0 {
                let (node, ..) = take_largest(&mut todo);
                match s.live(node) {
                    None => todo |= self.operands(node) << 4,
                    Some(claimant) => {
                        s.fragments[f].inputs.set(node, claimant);
                        self.share(s, (claimant, node));
                    }
                }
            }
        }
        s.requests[r].todo = 0;
        s.requests[r].at = self.launch();
    }
}

/// Takes the largest node out of what a cut is to look at: it, whether it is an output, and whether
/// it was reached as an operand.
fn take_largest(todo: &mut u8) -> (usize, bool, bool) {
    let both = *todo & 15 | *todo >> 4;
    let node = both.ilog2() as usize;
    let (asked, reached) = (*todo >> node & 1 == 1, *todo >> (4 + node) & 1 == 1);
    *todo &= !(0b1_0001 << node);
    (node, asked, reached)
}
