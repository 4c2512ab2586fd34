//! What the script of the device is told to do wrong, each time under a number of its own, so that every
//! error can be traced to the fault that explains it.

use crate::random::Random;
use candlewick::device::{Fault, Script};
use candlewick::{Cause, Error};
use std::collections::BTreeMap;

/// Where a fault waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Step(u64),
    Ticket(u64),
}

/// All that was to go wrong in one life.
#[derive(Default)]
pub(crate) struct Faults {
    /// By number, and whether the executor is lost by it.
    given: Vec<(Place, bool)>,
    taken: BTreeMap<Place, usize>,
}

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The operation of ours at this node.
    Operation(usize),
    /// The fault of this number.
    Fault(usize),
    Cancelled,
    Expired,
    Closed,
    Full,
    TooLarge,
    /// The device or the owner.
    Lost,
    /// Nothing of these.
    Other,
}

/// The number behind this word.
fn number_after(text: &str, word: &str) -> Option<usize> {
    let rest = &text[text.find(word)? + word.len()..];
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

impl Why {
    pub(crate) fn of(error: &Error) -> Self {
        let failure = match error {
            Error::Cancelled => return Why::Cancelled,
            Error::DeadlineExceeded => return Why::Expired,
            Error::Closed => return Why::Closed,
            Error::QueueFull { .. } => return Why::Full,
            Error::TooLarge { .. } => return Why::TooLarge,
            Error::OwnerLost(_) => return Why::Lost,
            Error::Failed(failure) => failure,
            _ => return Why::Other,
        };
        let text = match &failure.cause {
            Cause::OutOfMemory { asked, .. } => return Why::Fault(*asked as usize),
            Cause::Candle(error) => error.to_string(),
            Cause::Panic(text) => text.clone(),
            _ => return Why::Other,
        };
        let operation = number_after(&text, "operation ").map(Why::Operation);
        let fault = number_after(&text, "fault ").map(Why::Fault);
        operation.or(fault).unwrap_or(Why::Other)
    }

    /// For the hash.
    pub(crate) fn word(self) -> u64 {
        match self {
            Why::Operation(node) => 1000 + node as u64,
            Why::Fault(fault) => 1_000_000 + fault as u64,
            Why::Cancelled => 1,
            Why::Expired => 2,
            Why::Closed => 3,
            Why::Full => 4,
            Why::TooLarge => 5,
            Why::Lost => 6,
            Why::Other => 7,
        }
    }
}

impl Faults {
    /// Has something go wrong soon.
    pub(crate) fn give(&mut self, script: &Script, random: &mut Random, of: Kinds) {
        let soon = random.below(6) as u64;
        let at_step = match (of.steps, of.tickets) {
            (true, true) => random.chance(50),
            (steps, _) => steps,
        };
        let place = match at_step {
            true => Place::Step(script.steps() + soon),
            false => Place::Ticket(script.tickets() + soon / 2),
        };
        if self.taken.contains_key(&place) {
            return;
        }
        let number = self.given.len();
        let text = format!("fault {number} ");
        let fault = match (random.below(if of.losses { 8 } else { 4 }), place) {
            (0, _) => Fault::OutOfMemory {
                asked: number as u64,
                left: 0,
            },
            (1, Place::Step(_)) => Fault::Panic(text),
            (4, _) => Fault::Lost(text),
            (5, _) => Fault::OwnerPanic,
            (6, Place::Ticket(_)) => Fault::NeverEnds,
            (7, Place::Ticket(_)) => Fault::Panic(text),
            _ => Fault::Error(text),
        };
        let panics = matches!((&fault, place), (Fault::Panic(_), Place::Ticket(_)));
        let lost = matches!(fault, Fault::Lost(_) | Fault::OwnerPanic | Fault::NeverEnds);
        match place {
            Place::Step(step) => script.at_step(step, fault),
            Place::Ticket(ticket) => script.at_ticket(ticket, fault),
        }
        self.taken.insert(place, number);
        self.given.push((place, lost || panics));
    }

    /// Nothing that has not been met happens any more.
    pub(crate) fn calm(&mut self, script: &Script) {
        script.calm();
        for fault in 0..self.given.len() {
            if !self.is_met(script, fault) {
                self.given[fault].0 = Place::Step(u64::MAX);
            }
        }
    }

    /// Whether the device has come to where this fault waits.
    pub(crate) fn is_met(&self, script: &Script, fault: usize) -> bool {
        self.given.get(fault).is_some_and(|(place, _)| match place {
            Place::Step(step) => script.steps() > *step,
            Place::Ticket(ticket) => script.tickets() > *ticket,
        })
    }

    /// Whether a fault explains the loss of the executor.
    pub(crate) fn explain_loss(&self, script: &Script) -> bool {
        let mut all = 0..self.given.len();
        all.any(|fault| self.given[fault].1 && self.is_met(script, fault))
    }

    /// Whether a ticket has ended with an error; all tickets have ended.
    pub(crate) fn demand_reissue(&self, script: &Script) -> bool {
        let at_ticket = |fault: &usize| matches!(self.given[*fault].0, Place::Ticket(_));
        let mut all = (0..self.given.len()).filter(at_ticket);
        all.any(|fault| !self.given[fault].1 && self.is_met(script, fault))
    }

    /// Whether the executor must be lost by now.
    pub(crate) fn demand_loss(&self, script: &Script) -> bool {
        let at_step = |fault: &usize| matches!(self.given[*fault].0, Place::Step(_));
        let mut all = (0..self.given.len()).filter(at_step);
        all.any(|fault| self.given[fault].1 && self.is_met(script, fault))
    }
}

/// Which kinds may be given.
#[derive(Clone, Copy)]
pub(crate) struct Kinds {
    pub(crate) steps: bool,
    pub(crate) tickets: bool,
    pub(crate) losses: bool,
}
