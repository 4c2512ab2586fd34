//! A state of the model, as plain data, and its key.

use super::graph::{NODES, REQUESTS};

/// The most fragments: one for each request, or under the old rule two for each of two.
pub const FRAGMENTS: usize = 4;

/// A result's life. A slot that was cancelled is as if it had never been: no interest is left in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not claimed, or given up.
    None,
    Pending,
    Running,
    Ready,
    Failed,
    Closed,
    /// Its launch failed. It is given up as well, but some are still to be told.
    Refused,
}

/// The slot of one node that one request has claimed.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub phase: Phase,
    pub interest: u8,
}

/// For each node, the request in whose slot an interest is held: two bits, of which 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interests(u8);

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Cut,
    Admit,
    /// Asleep in the line for a permit.
    Lined,
    Number,
    Claim,
    /// All that was to be claimed was won by others.
    Back,
    /// Some was won by others: to cut again.
    Recut,
    Send,
    Post,
    Look,
    /// Looked, and is to register: only in a faulty rule.
    Looked,
    /// Asleep until the first of its outputs ends.
    Parked,
    Withdraw,
    /// Its launch has failed: to call the owner and to give everything back.
    Refused,
    Done,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub at: At,
    /// Its place among the numbers that still matter, from 1; 0 if it has none. Only their order
    /// is ever asked for.
    pub number: u8,
    /// A claim found that another had been quicker.
    pub lost: bool,
    /// The slots of its outputs, until they have ended or it withdraws.
    pub outputs: Interests,
    /// The inputs of its first cut, until it has sent.
    pub inputs: Interests,
    /// A cut in progress: the nodes to be looked at, as outputs (low half) and as operands (high).
    pub todo: u8,
}

/// Where a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not sent, or over.
    None,
    /// In the channel.
    Sent,
    /// In the owner's hands.
    Received,
    Begun,
    /// All its outputs were given up. Its message is still in the channel, without work and without
    /// its permit, which has come back.
    Husk,
    /// A husk that the owner has received, and that is still counted.
    HuskReceived,
    /// Such a message in the channel beyond the bound of the husks: it has kept its permit.
    Kept,
    /// Such a message beyond the bound, which the owner has received.
    KeptReceived,
}

impl Stage {
    /// Whether it takes a place in the channel.
    pub fn in_channel(self) -> bool {
        matches!(self, Stage::Sent | Stage::Husk | Stage::Kept)
    }
}

/// One fragment.
#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    pub stage: Stage,
    /// The nodes whose slots it is to end.
    pub outputs: u8,
    pub inputs: Interests,
}

/// What the owner does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Asleep,
    /// Before it clears the bell.
    Round,
    /// Before it receives.
    Receive,
    Work,
    /// Before it goes to sleep, unless the bell has rung.
    Rest,
    Left,
}

/// Whether the executor is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Open,
    /// Closed, and those in line are still to be refused.
    Shut,
    /// Closed, and the owner is still to be called.
    Refused,
    Closed,
}

/// What must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Nothing can happen, and a request, a fragment or the owner is not where it should be.
    Stuck,
    /// Queued fragments wait for each other.
    Circle,
    /// A fragment leans on a younger claim that had not begun.
    Order,
    /// Two fragments have begun to compute one node.
    Twice,
    /// A message found no place in the channel, although it had a permit.
    NoPlace,
    /// A message was sent after the owner had left.
    Unheard,
    /// A permit was taken or handed over after closing.
    Admitted,
    /// A cut came to a node whose origin is forgotten, because its slot has begun.
    Forgotten,
    /// At rest a permit is missing, or there is one too many.
    Permits,
    /// At rest an interest is left, or one was released twice.
    Interest,
    /// At rest another number of husks is counted than the channel has.
    Husks,
}

/// What an exploration is to have met, so that it does not pass by not happening: one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// A second cut computed a younger claim inside.
    YoungerInside,
    /// A second cut leaned on a claim that had begun.
    BegunBelow,
    /// A second cut leaned on an older claim that had not begun.
    OlderPending,
    /// All claims were lost.
    WonNone,
    /// A node was claimed while some were still to be told that its first claim had failed.
    ClaimedAnew,
    /// Withdrawing one fragment withdrew another.
    Chain,
    /// One output of a fragment had been given up when it began.
    GivenUpBeside,
    /// A permit was handed to the first in line.
    Granted,
    /// One who was handed a permit withdrew and passed it on.
    PassedOn,
    /// A permit came back after closing.
    LatePermit,
    /// Closing refused one in line.
    RefusedInLine,
    /// A fragment read a slot that had no value.
    BadInput,
    /// A fragment began while its input was running.
    Pipelined,
    /// A fragment was withdrawn in the channel and left a husk.
    HuskLeft,
    /// A fragment was withdrawn in the channel while that had all the husks that it may have.
    HuskBound,
    /// A message was sent while the channel had a message for each permit or more.
    HuskPlace,
    /// The owner left while a husk was in the channel.
    HuskBehind,
}

/// Where everything is.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// For each request the slots that it has claimed.
    pub slots: [[Slot; NODES]; REQUESTS],
    pub requests: [Request; REQUESTS],
    pub fragments: [Fragment; FRAGMENTS],
    pub owner: Owner,
    /// The owner was called, or told of a message, since it last cleared this.
    pub bell: bool,
    pub door: Door,
    pub permits: u8,
    /// Those in line, the first in the lowest two bits, each plus one.
    pub line: u8,
    /// The husks that are counted.
    pub husks: u8,
    /// Not part of the state: what the last step broke, and which events of [`Met`] there were.
    pub broken: Option<Broken>,
    pub met: u32,
}

/// A state in few bits. Two states with one key are the same.
pub type Key = [u64; REQUESTS + 1];

impl Interests {
    pub const NONE: Self = Self(0);

    pub fn get(self, node: usize) -> Option<usize> {
        (self.0 >> (2 * node) & 3).checked_sub(1).map(usize::from)
    }

    pub fn set(&mut self, node: usize, claimant: usize) {
        self.clear(node);
        self.0 |= (claimant as u8 + 1) << (2 * node);
    }

    pub fn clear(&mut self, node: usize) {
        self.0 &= !(3 << (2 * node));
    }

    /// The slots in which an interest is held, as claimants and nodes.
    pub fn iter(self) -> impl Iterator<Item = (usize, usize)> {
        (0..NODES).filter_map(move |node| Some((self.get(node)?, node)))
    }
}

impl Phase {
    pub fn ended(self) -> bool {
        !matches!(self, Phase::None | Phase::Pending | Phase::Running)
    }

    /// Whether its node is being computed or has been.
    pub fn begun(self) -> bool {
        matches!(self, Phase::Running | Phase::Ready | Phase::Failed)
    }

    fn live(self) -> bool {
        !matches!(self, Phase::None | Phase::Refused)
    }
}

impl State {
    /// The first state, in which nothing has happened. Request `r` begins at `at`, to look at `todo[r]`.
    pub fn new(at: At, todo: impl Iterator<Item = u8>, permits: u8) -> Self {
        let slot = Slot {
            phase: Phase::None,
            interest: 0,
        };
        let fragment = Fragment {
            stage: Stage::None,
            outputs: 0,
            inputs: Interests::NONE,
        };
        let request = Request {
            at: At::Done,
            number: 0,
            lost: false,
            outputs: Interests::NONE,
            inputs: Interests::NONE,
            todo: 0,
        };
        let mut state = Self {
            slots: [[slot; NODES]; REQUESTS],
            requests: [request; REQUESTS],
            fragments: [fragment; FRAGMENTS],
            owner: Owner::Asleep,
            bell: false,
            door: Door::Open,
            permits,
            line: 0,
            husks: 0,
            broken: None,
            met: 0,
        };
        for (request, todo) in state.requests.iter_mut().zip(todo) {
            (request.at, request.todo) = (at, todo);
        }
        state
    }

    /// A word for each request with its slots, and one for the fragments.
    pub fn key(&self) -> Key {
        let mut key = [0; REQUESTS + 1];
        for (word, (r, slots)) in key.iter_mut().zip(self.requests.iter().zip(&self.slots)) {
            for slot in slots {
                *word = *word << 6 | (slot.phase as u64) << 3 | slot.interest as u64;
            }
            *word = *word << 4 | r.at as u64;
            *word = *word << 2 | r.number as u64;
            *word = *word << 1 | r.lost as u64;
            *word = *word << 8 | r.outputs.0 as u64;
            *word = *word << 8 | r.inputs.0 as u64;
            *word = *word << 8 | r.todo as u64; // 55 bits by now
        }
        for fragment in &self.fragments {
            let word = &mut key[REQUESTS];
            *word = *word << 3 | fragment.stage as u64;
            *word = *word << 4 | fragment.outputs as u64;
            *word = *word << 8 | fragment.inputs.0 as u64;
        }
        key[0] = key[0] << 3 | self.owner as u64;
        key[0] = key[0] << 1 | self.bell as u64;
        key[0] = key[0] << 2 | self.door as u64;
        key[0] = key[0] << 2 | self.husks as u64;
        key[1] = key[1] << 2 | self.permits as u64;
        key[1] = key[1] << 6 | self.line as u64;
        key
    }

    /// The request whose claim of a node is live: there is one at most.
    pub fn live(&self, node: usize) -> Option<usize> {
        (0..REQUESTS).find(|&r| self.slots[r][node].phase.live())
    }

    pub fn slot(&mut self, (claimant, node): (usize, usize)) -> &mut Slot {
        &mut self.slots[claimant][node]
    }

    pub fn phase(&self, (claimant, node): (usize, usize)) -> Phase {
        self.slots[claimant][node].phase
    }

    pub fn meet(&mut self, event: Met) {
        self.met |= 1 << event as u32;
    }

    /// Says what went wrong, if that was not said already.
    pub fn breaks(&mut self, broken: Broken) {
        self.broken.get_or_insert(broken);
    }

    /// Request `r` draws the next number.
    pub fn draw(&mut self, r: usize) {
        let largest = self.requests.iter().map(|request| request.number).max();
        self.requests[r].number = 1 + largest.unwrap_or(0);
    }

    /// The number of `r` does not matter any more: nothing of it is pending.
    pub fn forget_number(&mut self, r: usize) {
        let gone = std::mem::take(&mut self.requests[r].number);
        for request in &mut self.requests {
            request.number -= (request.number > gone && gone > 0) as u8;
        }
    }

    /// Request `r` lines up.
    pub fn line_up(&mut self, r: usize) {
        let place = (0..).step_by(2).find(|place| self.line >> place & 3 == 0);
        self.line |= (r as u8 + 1) << place.unwrap_or(0);
    }

    /// The first in line leaves it.
    pub fn pop_line(&mut self) -> Option<usize> {
        let first = (self.line & 3).checked_sub(1);
        self.line >>= 2;
        first.map(usize::from)
    }

    /// Request `r` leaves the line.
    pub fn leave_line(&mut self, r: usize) {
        for _ in 0..REQUESTS {
            match self.pop_line() {
                Some(other) if other != r => self.line_up(other),
                _ => {}
            }
        }
    }
}
