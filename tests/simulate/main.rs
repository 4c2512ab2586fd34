//! Whole executors in one seed: the shipped executor, planner and batcher on a simulated device, without a
//! thread of their own, under clients, a clock and faults that all come from one source of chance.
//!
//! An *episode* is a number of submissions, by one thread, to one executor after another; each *life* of an
//! executor has some features of a swarm (see `features.rs`). At its end the faults stop, everything is
//! driven to rest, and the executor is shut down or aborted; then every handle has resolved, every
//! value has been what the oracle in `graphs.rs` says, every error had a fault or a call that explains it,
//! and nothing is left. Short histories are checked against a sequential model: see `history.rs`.
//!
//! Everything that was chosen and seen goes into a rolling hash: equal seeds and numbers of submissions
//! have equal hashes. Two threads share the episodes, and the hashes are combined in the episodes' order.
//!
//! `SEED` (default 1), and `SUBMISSIONS` or else `SECONDS_MAX` (default 15) say what is run; `EPISODE` runs
//! that one alone. `SEED=1 SECONDS_MAX=600 bash .ci/deep simulate` is the long run.

mod arguments;
mod clients;
mod deeds;
mod ending;
mod faults;
mod features;
mod graphs;
mod history;
mod lies;
mod life;
mod random;
mod watch;
mod window;

use life::{Findings, Life};
use random::{Hash, Random};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Submissions of an episode.
const EPISODE: u64 = 1000;
/// Threads that share the episodes.
const THREADS: usize = 2;
/// An episode that takes longer hangs.
const HANGS: Duration = Duration::from_secs(120);
/// Among so many submissions there are histories that were looked at, and lies.
const MANY: u64 = 100_000;

/// What is to be run.
#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    start: Instant,
    /// The first episode that is not run.
    end: u64,
    /// Submissions of the last one.
    last: u64,
    until: Option<Instant>,
}

impl Plan {
    /// How many submissions an episode has.
    fn most(&self, episode: u64) -> u64 {
        match episode + 1 == self.end {
            true => self.last,
            false => EPISODE,
        }
    }

    /// Runs one episode.
    fn run(&self, episode: u64) -> Findings {
        let (mut random, mut findings) = (Random::new(self.seed, episode), Findings::default());
        let most = self.most(episode);
        let lives = || {
            while findings.submissions < most {
                let left = (most - findings.submissions) as usize;
                let submissions = Life::run(&mut random, &mut findings, self.start, left);
                findings.submissions += submissions.min(left) as u64; // what wakers submit comes on top
            }
        };
        if catch_unwind(AssertUnwindSafe(lives)).is_err() {
            findings.wrong.push("the simulation panicked".into());
            findings.submissions = most;
        }
        findings
    }
}

/// What all episodes found.
#[derive(Default)]
struct Sum {
    submissions: u64,
    unresolved: u64,
    wrong: u64,
    histories: u64,
    not_looked: u64,
    lies: u64,
}

impl Sum {
    /// Whether what was to be tested has been.
    fn is_enough(&self) -> bool {
        let looked = self.histories > 2 * self.not_looked && self.lies > 0;
        self.submissions > 0 && (looked || self.submissions < MANY)
    }
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    match value.parse() {
        Ok(number) => Some(number),
        Err(_) => {
            eprintln!("{name}={value} is not a number");
            std::process::exit(2);
        }
    }
}

fn main() -> ExitCode {
    if !arguments::wanted("simulate") {
        return ExitCode::SUCCESS;
    }
    let start = Instant::now();
    let (submissions, seconds) = (setting("SUBMISSIONS"), setting("SECONDS_MAX"));
    let end = submissions.map_or(u64::MAX, |submissions| submissions.div_ceil(EPISODE));
    let until = match (submissions, seconds) {
        (Some(_), None) => None,
        (_, seconds) => Some(start + Duration::from_secs(seconds.unwrap_or(15))),
    };
    let plan = Plan {
        seed: setting("SEED").unwrap_or(1),
        start,
        end,
        last: submissions.map_or(EPISODE, |n| n - EPISODE * end.saturating_sub(1)),
        until,
    };
    let episodes = match setting("EPISODE") {
        Some(episode) => episode..end.min(episode + 1),
        None => 0..end,
    };
    let before = watched(move || before_all(&plan));
    before.iter().for_each(|what| eprintln!("{what}"));
    let (hashes, sum) = run_all(&plan, episodes);
    let mut hash = Hash::default();
    hashes.iter().for_each(|word| hash.mix(*word));
    if !sum.is_enough() {
        eprintln!("seed {}: too little was tested", plan.seed);
    }
    let wrong = sum.wrong + before.len() as u64 + u64::from(!sum.is_enough());
    println!(
        "{{\"seed\":{},\"submissions\":{},\"unresolved\":{},\"wrong\":{wrong},\"histories\":{},\
         \"not_looked\":{},\"lies\":{},\"hash\":\"{:016x}\",\"seconds\":{:.1}}}",
        plan.seed,
        sum.submissions,
        sum.unresolved,
        sum.histories,
        sum.not_looked,
        sum.lies,
        hash.0,
        start.elapsed().as_secs_f64()
    );
    match wrong + sum.unresolved {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// What `f` comes to; a hang, or a panic in it, is the end.
fn watched<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (ended, ending) = mpsc::channel();
    std::thread::spawn(move || ended.send(f()));
    ending.recv_timeout(HANGS).unwrap_or_else(|error| {
        eprintln!("what comes before the episodes hangs, or has panicked: {error}");
        std::process::exit(1)
    })
}

/// What is wrong with the simulation itself: that an episode has another hash when it is run a second time, or
/// that histories are believed which cannot have been.
fn before_all(plan: &Plan) -> Vec<String> {
    let mut wrong = lies::that_are_believed();
    let short = Plan {
        end: 1,
        last: 300,
        ..*plan
    };
    let seed = plan.seed;
    let (once, again) = (short.run(0), short.run(0));
    if once.hash != again.hash {
        wrong.push(format!(
            "seed {seed}: episode 0 has another hash the second time"
        ));
    }
    wrong
}

/// Runs these episodes, or as many as there is time for. Their hashes, in order.
fn run_all(plan: &Plan, episodes: Range<u64>) -> (Vec<u64>, Sum) {
    let next = AtomicU64::new(episodes.start);
    let (ended, endings) = mpsc::channel();
    let mut hashes: Vec<(u64, u64)> = Vec::new();
    let mut sum = Sum::default();
    let running: [AtomicU64; THREADS] = Default::default();
    std::thread::scope(|scope| {
        for running in &running {
            let (next, ended, episodes) = (&next, ended.clone(), &episodes);
            scope.spawn(move || {
                while plan.until.is_none_or(|until| Instant::now() < until) {
                    let episode = next.fetch_add(1, Relaxed);
                    if episode >= episodes.end {
                        return;
                    }
                    running.store(episode, Relaxed);
                    let _ = ended.send((episode, plan.run(episode)));
                }
            });
        }
        drop(ended);
        loop {
            let (episode, findings) = match endings.recv_timeout(HANGS) {
                Ok(ending) => ending,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    eprintln!(
                        "seed {}: one of the episodes {running:?} hangs (EPISODE=..)",
                        plan.seed
                    );
                    std::process::exit(1);
                }
            };
            for what in &findings.wrong {
                let submissions = episode * EPISODE + plan.most(episode);
                eprintln!(
                    "seed {}, episode {episode}: {what}\n  again: \
                     SEED={} SUBMISSIONS={submissions} bash .ci/deep simulate (with EPISODE={episode} that one alone)",
                    plan.seed, plan.seed
                );
            }
            hashes.push((episode, findings.hash.0));
            sum.submissions += findings.submissions;
            sum.unresolved += findings.unresolved;
            sum.wrong += findings.wrong.len() as u64;
            sum.histories += findings.histories;
            sum.not_looked += findings.not_looked;
            sum.lies += findings.lies;
        }
    });
    hashes.sort_unstable();
    (hashes.into_iter().map(|(_, hash)| hash).collect(), sum)
}
