//! Seeded faults, as text: each replaces one passage of the core, rebuilds a copy of it, and must
//! make the named scenario fail with the named message. The production source holds no trace of
//! them. A fault that survives fails the run, and so does a passage that no longer occurs exactly
//! once.
//!
//! ```text
//! cargo test --release --test seeded -- --ignored --nocapture
//! CANDLEWICK_FAULT=turn.rs cargo test …      # only those of one file, or with this in their text
//! ```
#![cfg(candlewick_loom)]

#[path = "seeded/copy.rs"]
mod copy;
#[path = "seeded/faults.rs"]
mod faults;

use copy::{Copy, Ended, run};
use faults::{FAULTS, Fault};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// No scenario takes as long, with a fault or without.
const LIMIT: Duration = Duration::from_secs(300);

impl Copy {
    /// Builds the copy as it is, and says where its tests are.
    fn build(&self) -> Result<PathBuf, String> {
        self.built(&mut self.cargo())
    }

    /// Whether a scenario passes without a fault. It is a look of a few seconds: `cargo test` is what runs
    /// all of it.
    fn passes(&self, scenarios: &Path, scenario: &str) -> Result<(), String> {
        let short = |run: &mut Command| {
            run.env("LOOM_MAX_DURATION", "5")
                .env("LOOM_CHECKPOINT_INTERVAL", "1000");
        };
        match run(scenarios, &format!("tests::{scenario}"), LIMIT, short) {
            Ended::Passed(said) if said.contains("test result: ok. 1 passed") => Ok(()),
            Ended::Stalled(said) => Err(format!("it stalls\n{said}")),
            Ended::Passed(said) | Ended::Failed(said) => Err(said),
        }
    }

    /// Seeds one fault, and says what is wrong if it is not caught.
    fn seed(&self, fault: &Fault) -> Result<(), String> {
        let file = self.source(fault.file);
        let good = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let count = good.matches(fault.from).count();
        if count != 1 {
            return Err(format!("the passage occurs {count} times, not once"));
        }
        fs::write(&file, good.replace(fault.from, fault.to)).unwrap();
        let caught = self.caught(fault);
        fs::write(&file, good).unwrap();
        caught
    }

    fn caught(&self, fault: &Fault) -> Result<(), String> {
        let scenarios = self.build();
        let scenarios = scenarios.map_err(|error| format!("does not build\n{error}"))?;
        let said = match run(
            &scenarios,
            &format!("tests::{}", fault.scenario),
            LIMIT,
            |_| (),
        ) {
            Ended::Passed(_) => return Err("survives".into()),
            Ended::Stalled(said) => return Err(format!("stalls\n{said}")),
            Ended::Failed(said) => said,
        };
        if !said.contains("running 1 test") {
            Err(format!("there is no scenario {}", fault.scenario))
        } else if !said.contains(fault.message) {
            Err(format!("is caught, but not by {:?}\n{said}", fault.message))
        } else {
            Ok(())
        }
    }
}

/// The faults that are asked for, by a part of their text.
fn chosen() -> Vec<&'static Fault> {
    let asked = env::var("CANDLEWICK_FAULT").unwrap_or_default();
    let all = FAULTS.iter();
    all.filter(|f| {
        [f.file, f.from, f.to, f.scenario, f.message]
            .iter()
            .any(|t| t.contains(&asked))
    })
    .collect()
}

/// What one copy finds wrong with the scenarios and faults that it takes from the lists.
fn work(
    copy: &Copy,
    scenarios: &Mutex<BTreeSet<&'static str>>,
    faults: &Mutex<Vec<&'static Fault>>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let built = copy.build();
    let built = built.unwrap_or_else(|error| panic!("the copy does not build\n{error}"));
    while let Some(scenario) = take(scenarios, |left| left.pop_first()) {
        if let Err(why) = copy.passes(&built, scenario) {
            wrong.push(format!("{scenario} does not pass without a fault\n{why}"));
        }
    }
    while let Some(fault) = take(faults, Vec::pop) {
        let start = Instant::now();
        let result = copy.seed(fault);
        let verdict = match result {
            Ok(()) => "caught",
            Err(_) => "NOT CAUGHT",
        };
        let seconds = start.elapsed().as_secs_f32();
        println!(
            "{verdict:10} {seconds:>5.1} s  {:24} {}: {:?}",
            fault.scenario, fault.file, fault.to
        );
        if let Err(why) = result {
            wrong.push(format!("{fault:?}\n{why}"));
        }
    }
    wrong
}

/// Takes the next one of a list that several take from.
fn take<L, T>(list: &Mutex<L>, next: impl FnOnce(&mut L) -> Option<T>) -> Option<T> {
    next(&mut list.lock().unwrap())
}

#[test]
#[ignore = "minutes: cargo test --release --test seeded -- --ignored"]
fn every_fault_is_caught() {
    let chosen = chosen();
    assert!(!chosen.is_empty(), "no faults to seed");
    let count = chosen.len();
    let scenarios = Mutex::new(chosen.iter().map(|f| f.scenario).collect());
    // From the end of the list, so turned round; one file's faults stay next to each other.
    let faults = Mutex::new(chosen.into_iter().rev().collect());
    let first = Copy::new("seeded", 0);
    let built = first.build(); // for the others too, so far as they are the same
    built.unwrap_or_else(|error| panic!("the copy does not build\n{error}"));
    let several = thread::available_parallelism().map_or(1, |n| n.get().min(4));
    let others: Vec<_> = (1..several)
        .map(|number| first.another("seeded", number))
        .collect();
    let copies: Vec<_> = std::iter::once(first).chain(others).collect();
    let wrong: Vec<String> = thread::scope(|scope| {
        let (scenarios, faults) = (&scenarios, &faults);
        let workers = copies.iter();
        let workers: Vec<_> = workers
            .map(|copy| scope.spawn(move || work(copy, scenarios, faults)))
            .collect();
        let found = workers.into_iter().map(|worker| worker.join().unwrap());
        found.flatten().collect()
    });
    assert!(
        wrong.is_empty(),
        "{} wrong, with {count} faults:\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

/// What is said of any scenario that fails: no fault is known by it.
const OF_ANY: &str = "running 1 test
thread 'tests::' panicked at src/scenarios
assertion `left == right` failed
  left:
 right:
assertion `left != right` failed
assertion failed:
the scenario panicked:
stack backtrace:
test tests:: ... FAILED
failures:
test result: FAILED. 0 passed; 1 failed";

/// The cheap half, on every run: each passage is there once, each scenario exists, and what it is to say is
/// not what any would.
#[test]
fn the_table_is_up_to_date() {
    assert!(!FAULTS.is_empty());
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    for fault in FAULTS {
        let source = fs::read_to_string(src.join(fault.file)).unwrap();
        assert_eq!(source.matches(fault.from).count(), 1, "{fault:?}");
        assert_ne!(fault.from, fault.to);
        let scenarios = candlewick_loom_tests::SCENARIOS;
        assert!(
            scenarios.iter().any(|s| s.name == fault.scenario),
            "{fault:?}"
        );
        assert!(!OF_ANY.contains(fault.message), "{fault:?}");
    }
}
