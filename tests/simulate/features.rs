//! A swarm: each life of an executor has some of the features and not the others, so that rare
//! combinations of few come up as often as all at once.

use crate::graphs::Content;
use crate::random::Random;
use std::time::Duration;

/// What one life has.
#[derive(Clone, Debug)]
pub(crate) struct Features {
    /// A device that goes on when it returns; else the CPU, which callers may drive.
    pub(crate) tickets: bool,
    pub(crate) capacity: usize,
    pub(crate) bytes: Option<u64>,
    /// The most fragments in one batch.
    pub(crate) batch: usize,
    pub(crate) fusion: bool,
    pub(crate) plans: usize,
    pub(crate) step_latency: Duration,
    pub(crate) ticket_latency: Duration,
    pub(crate) clients: usize,
    pub(crate) submissions: usize,
    pub(crate) content: Content,
    pub(crate) cancels: bool,
    pub(crate) deadlines: bool,
    pub(crate) drops: bool,
    pub(crate) forgets: bool,
    pub(crate) sessions: bool,
    pub(crate) priorities: bool,
    pub(crate) deeds: bool,
    pub(crate) waits: bool,
    pub(crate) runs: bool,
    pub(crate) compiled: bool,
    pub(crate) histories: bool,
    pub(crate) step_faults: bool,
    pub(crate) ticket_faults: bool,
    /// Faults after which the executor is lost.
    pub(crate) losses: bool,
}

impl Features {
    /// One of two, each by itself.
    pub(crate) fn choose(random: &mut Random) -> Self {
        let tickets = random.chance(75);
        let slow = random.chance(70);
        let micros = |random: &mut Random, most| match slow {
            true => Duration::from_micros(random.below(most) as u64),
            false => Duration::ZERO,
        };
        let mut on = |percent| random.chance(percent);
        let (batching, fusion, small_bytes, few_plans) = (on(60), on(80), on(10), on(20));
        let content = Content {
            params: on(50),
            custom: on(40),
            failing: on(30),
            host_leaves: on(50),
        };
        Self {
            tickets,
            cancels: on(50),
            deadlines: on(40),
            drops: on(60),
            forgets: on(30),
            sessions: on(50),
            priorities: on(50),
            deeds: on(30),
            waits: on(60),
            runs: on(50),
            compiled: on(30),
            histories: on(50),
            step_faults: tickets && on(25),
            ticket_faults: tickets && on(25),
            losses: tickets && on(12),
            content,
            fusion,
            capacity: 1 + random.below(16),
            bytes: small_bytes.then(|| 100 + random.below(400) as u64),
            batch: if batching { 2 + random.below(20) } else { 1 },
            plans: if few_plans { 4 } else { 1024 },
            step_latency: micros(random, 20),
            ticket_latency: micros(random, 300),
            clients: 3 + random.below(8),
            submissions: 20 + random.below(400),
        }
    }

    /// Whether an operation of ours may run again although all went well with it.
    pub(crate) fn repeats(&self) -> bool {
        self.step_faults || self.ticket_faults || self.losses || self.content.failing
    }
}
