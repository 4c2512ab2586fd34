//! Runs a scenario under whichever scheduler this build has, counts its executions, and checks
//! that the exploration was not vacuous.

use crate::{SCENARIOS, Scenario};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

static SEEN: Mutex<BTreeMap<&'static str, usize>> = Mutex::new(BTreeMap::new());

/// Notes which of its outcomes an execution had. Outside of the model: it orders nothing.
pub fn saw(outcome: &'static str) {
    *SEEN.lock().unwrap().entry(outcome).or_default() += 1;
}

/// Runs the scenario of this name.
pub fn check(name: &str) {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    static ONE: Mutex<()> = Mutex::new(()); // the counts are global: one at a time
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    let scenario = SCENARIOS.iter().find(|s| s.name == name).expect("listed");
    RUNS.store(0, Relaxed);
    SEEN.lock().unwrap_or_else(|e| e.into_inner()).clear();
    let body = scenario.body;
    let start = Instant::now();
    explore(scenario, move || {
        RUNS.fetch_add(1, Relaxed);
        body();
    });
    let (runs, seen) = (RUNS.load(Relaxed), SEEN.lock().unwrap().clone());
    let seconds = start.elapsed().as_secs_f64();
    println!("{name:26} {runs:>9} executions {seconds:>8.3} s  {seen:?}");
    if std::env::var("CANDLEWICK_COVERAGE").is_ok_and(|v| v == "0") {
        return;
    }
    assert!(runs > 1, "vacuous: one execution of {name}");
    if cfg!(candlewick_loom) {
        for outcome in scenario.must_see {
            assert!(
                seen.contains_key(outcome),
                "vacuous: {name} never saw {outcome:?}"
            );
        }
    }
}

#[cfg(candlewick_loom)]
fn explore(scenario: &Scenario, f: impl Fn() + Send + Sync + 'static) {
    candlewick::sync::model::set_stale(scenario.stale);
    let mut builder = loom::model::Builder::new(); // reads LOOM_* from the environment
    builder.max_branches = builder.max_branches.max(50_000);
    if builder.preemption_bound.is_none() && std::env::var_os("LOOM_EXHAUSTIVE").is_none() {
        builder.preemption_bound = scenario.bound;
    }
    builder.check(f);
}

/// How many executions, where chance chooses them.
#[cfg(not(candlewick_loom))]
fn iterations() -> usize {
    let asked = std::env::var("CANDLEWICK_ITERATIONS").ok();
    asked.map_or(2000, |n| n.parse().expect("a number"))
}

#[cfg(candlewick_shuttle)]
fn explore(_: &Scenario, f: impl Fn() + Send + Sync + 'static) {
    match std::env::var("SHUTTLE_SCHEDULER").as_deref() {
        Ok("pct") => shuttle::check_pct(f, iterations(), 3),
        _ => shuttle::check_random(f, iterations()),
    }
}

#[cfg(not(any(candlewick_loom, candlewick_shuttle)))]
fn explore(_: &Scenario, f: impl Fn() + Send + Sync + 'static) {
    (0..iterations()).for_each(|_| f());
}
