//! One executor from its building to its end: what clients do with it, and the virtual time.

use crate::deeds::{Counting, Outbox, TheHandle};
use crate::faults::{Faults, Kinds};
use crate::features::Features;
use crate::graphs::{Graphs, twice_and_one};
use crate::random::{Hash, Random};
use crate::window::Window;
use candlewick::device::Script;
use candlewick::{
    Batching, Compiled, Device, Executor, Passes, RunAsync, Session, SubmitAsync, Tensor,
};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A device counts as lost after a batch of this length.
pub(crate) const TICKET_LIMIT: Duration = Duration::from_secs(10);
/// A grant that is not taken up lapses before this.
pub(crate) const GRANT: Duration = Duration::from_millis(101);

/// A request of which something is expected.
pub(crate) enum Wait {
    Submitting(SubmitAsync<Vec<Tensor>>),
    Running(RunAsync<Vec<Tensor>>),
    Handle(TheHandle),
}

/// One that a client looks at.
pub(crate) struct Ongoing {
    pub(crate) submission: usize,
    pub(crate) wait: Wait,
    /// Of the last poll that found nothing.
    pub(crate) waker: Option<Arc<Counting>>,
}

impl Ongoing {
    pub(crate) fn describe(&self) -> String {
        let (kind, finished) = match &self.wait {
            Wait::Submitting(_) => ("waits for room", false),
            Wait::Running(_) => ("runs", false),
            Wait::Handle(handle) => ("waits", handle.is_finished()),
        };
        let woken = self.waker.as_ref().map(|waker| waker.is_woken());
        let number = self.submission;
        format!("submission {number} {kind}, finished {finished}, woken {woken:?}")
    }
}

/// What is known of a submission.
#[derive(Default)]
pub(crate) struct Submission {
    pub(crate) outputs: Vec<usize>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancelled: bool,
    /// A digest of the result that was seen.
    pub(crate) result: Option<u64>,
    /// Whether that was of values.
    pub(crate) fine: bool,
    /// Whether it was the error of a fault.
    pub(crate) faulted: bool,
    /// Its place in the history that is being recorded.
    pub(crate) recorded: Option<usize>,
}

/// What an episode found.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) submissions: u64,
    pub(crate) unresolved: u64,
    pub(crate) wrong: Vec<String>,
    pub(crate) histories: u64,
    pub(crate) not_looked: u64,
    /// Histories that were rejected when a lie was told in them.
    pub(crate) lies: u64,
    pub(crate) hash: Hash,
}

/// One executor, its device and its clients.
pub(crate) struct Life<'e> {
    pub(crate) random: &'e mut Random,
    pub(crate) findings: &'e mut Findings,
    pub(crate) features: Features,
    pub(crate) executor: Executor,
    pub(crate) script: Script,
    pub(crate) faults: Faults,
    pub(crate) graphs: Graphs,
    pub(crate) submissions: Vec<Submission>,
    pub(crate) ongoing: Vec<Ongoing>,
    /// What was forgotten: neither looked at again nor dropped while the executor lives.
    pub(crate) forgotten: Vec<Wait>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) compiled: Option<Compiled<'static, Vec<Tensor>>>,
    pub(crate) outbox: Outbox,
    pub(crate) window: Option<Window>,
    pub(crate) closing: bool,
    pub(crate) aborted: bool,
    /// The nodes at which each fault was seen.
    pub(crate) blamed: Vec<(usize, usize)>,
    /// Cancelled since the owner last looked.
    pub(crate) husks: usize,
    /// Nodes that a submission asked for alone and at once before any other did, and that submission.
    pub(crate) firsts: Vec<(usize, usize)>,
    /// Whether the faults have stopped.
    pub(crate) calm: bool,
    /// How many fragments were queued, at least and at most.
    pub(crate) launched: (u64, u64),
    /// The most submissions of this life.
    pub(crate) most: usize,
    /// Whether the last look found something.
    pub(crate) seen: bool,
}

impl<'e> Life<'e> {
    fn new(random: &'e mut Random, findings: &'e mut Findings, start: Instant) -> Self {
        Script::set_now(Some(start));
        let features = Features::choose(random);
        let script = Script::new();
        script.latency(features.step_latency, features.ticket_latency);
        script.stepped();
        let passes = Passes {
            fuse: features.fusion,
            ..Passes::ALL
        };
        let batching = Batching {
            fragments: features.batch,
            ..Batching::default()
        };
        let builder = Executor::builder(&Device::Cpu)
            .queue_capacity(features.capacity)
            .queue_bytes(features.bytes.unwrap_or(1 << 30))
            .passes(passes)
            .plans(features.plans)
            .batching(batching)
            .ticket_limit(TICKET_LIMIT)
            .threads(1)
            .stepped();
        let builder = match features.tickets {
            true => builder.simulated(&script),
            false => builder,
        };
        let executor = builder.build().expect("the bounds are good");
        let compiled = executor.compile(twice_and_one);
        let graphs = Graphs::new(random);
        Self {
            graphs,
            sessions: (0..features.clients).map(|_| Session::new()).collect(),
            compiled: features.compiled.then_some(compiled),
            random,
            findings,
            features,
            executor,
            script,
            faults: Faults::default(),
            submissions: Vec::new(),
            ongoing: Vec::new(),
            forgotten: Vec::new(),
            outbox: Outbox::default(),
            window: None,
            closing: false,
            aborted: false,
            blamed: Vec::new(),
            husks: 0,
            firsts: Vec::new(),
            calm: false,
            launched: (0, 0),
            most: 0,
            seen: false,
        }
    }

    /// Lives through at most `most` submissions. Returns their number.
    pub(crate) fn run(
        random: &'e mut Random,
        findings: &'e mut Findings,
        start: Instant,
        most: usize,
    ) -> usize {
        let mut life = Self::new(random, findings, start);
        life.most = most.min(life.features.submissions);
        while life.submissions.len() < life.most && !life.is_lost() {
            life.act();
        }
        let submissions = life.submissions.len().max(1);
        life.finish();
        submissions
    }

    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.executor.health(), candlewick::Health::Lost(_))
    }

    /// Something that must not be.
    pub(crate) fn wrong(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.findings.wrong.push(what);
    }

    pub(crate) fn mix(&mut self, word: u64) {
        self.findings.hash.mix(word);
    }

    /// One client does something, or the owner, or time passes.
    fn act(&mut self) {
        let choice = self.random.below(100);
        self.mix(choice as u64);
        match choice {
            0..30 => self.submit(),
            30..48 => self.step(),
            48..60 => self.pass_some_time(),
            60..76 => self.look_at_one(),
            76..81 if self.features.cancels => self.cancel_one(),
            81..85 if self.features.drops => self.drop_one(),
            85..90 if self.features.drops => self.drop_tensor(),
            90..92 if self.features.content.params => self.swap(),
            92..94 => self.give_fault(),
            94.. if self.features.histories => self.act_in_window(),
            _ => self.look_at_one(),
        }
        const MOST_ONGOING: usize = 24;
        if self.ongoing.len() > MOST_ONGOING {
            self.step();
            self.pass_some_time();
            self.look_at_one();
            if self.ongoing.len() > 2 * MOST_ONGOING {
                self.drive(8);
            }
        }
    }

    fn swap(&mut self) {
        match self.graphs.swap(self.random) {
            Ok(version) => self.record_swap(version),
            Err(what) => self.wrong(what),
        }
    }

    fn give_fault(&mut self) {
        let kinds = Kinds {
            steps: self.features.step_faults,
            tickets: self.features.ticket_faults,
            losses: self.features.losses,
        };
        if kinds.steps || kinds.tickets {
            self.faults.give(&self.script, self.random, kinds);
        }
    }

    // ---- the owner and the clock -----------------------------------------------------------------

    /// The owner does what there is to do.
    pub(crate) fn step(&mut self) {
        let (before, next) = (Script::now(), self.script.next_end());
        let done = self.executor.stats().fragments_run;
        // once it is lost and nothing is left, the owner has left with the turn
        if !self.executor.step() && !self.is_lost() {
            self.wrong("the turn is not to be had");
        }
        self.husks = 0;
        self.record_step(before);
        if before == Script::now() && next.is_none_or(|end| end > before) {
            self.check_nothing_ended(done);
        }
        if self.random.chance(10) {
            self.check_rest();
        }
        self.take_outbox();
        for place in 0..self.ongoing.len() {
            self.check_wake(place);
        }
    }

    /// It is this time from now on, if it was not later.
    pub(crate) fn pass_until(&mut self, time: Instant) {
        if time > Script::now() {
            Script::set_now(Some(time));
        }
        self.record_time();
    }

    fn pass_some_time(&mut self) {
        let now = Script::now();
        let next = self.script.next_end();
        let time = match self.random.below(8) {
            0..4 => next.unwrap_or(now),
            4..6 => now + Duration::from_micros(self.random.below(300) as u64),
            6 => now + Duration::from_millis(self.random.below(4) as u64),
            _ => now + GRANT,
        };
        self.pass_until(time);
    }

    /// Steps, looks at what was woken and lets time pass until nothing changes any more, in at most `most` rounds.
    /// Whether nothing is left to wait for.
    pub(crate) fn drive(&mut self, most: usize) -> bool {
        let mut idle = 0;
        for _ in 0..most {
            self.step();
            if self.look_at_woken() {
                idle = 0;
                continue;
            }
            if let Some(end) = self.script.next_end().filter(|end| *end > Script::now()) {
                self.pass_until(end);
                continue;
            }
            if self.ongoing.is_empty() && self.script.next_end().is_none() {
                return true;
            }
            idle += 1;
            // a grant may have to lapse first; or a ticket never ends
            let time = if idle % 4 == 3 {
                TICKET_LIMIT + TICKET_LIMIT
            } else {
                GRANT
            };
            if idle > 12 + self.forgotten.len() {
                return false;
            }
            self.pass_until(Script::now() + time);
        }
        false
    }

    /// What one poll finds.
    pub(crate) fn poll(wait: &mut Wait, waker: &Arc<Counting>) -> Poll<Polled> {
        let waker = Waker::from(waker.clone());
        let mut cx = Context::from_waker(&waker);
        match wait {
            Wait::Submitting(submit) => {
                let poll = std::pin::Pin::new(submit).poll(&mut cx);
                poll.map(Polled::Submitted)
            }
            Wait::Running(run) => std::pin::Pin::new(run).poll(&mut cx).map(Polled::Result),
            Wait::Handle(handle) => std::pin::Pin::new(handle).poll(&mut cx).map(Polled::Result),
        }
    }
}

/// What a poll came to.
pub(crate) enum Polled {
    Submitted(candlewick::Result<TheHandle>),
    Result(candlewick::Result<Vec<Tensor>>),
}
