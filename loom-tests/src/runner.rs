//! Runs a scenario under whichever scheduler this build has, counts its executions, and checks
//! that the exploration was not vacuous.

use crate::{SCENARIOS, Scenario};
use counts::Seen;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// Counts how often the executions of a scenario came to each outcome.
mod counts {
    use std::collections::BTreeMap;

    pub(super) type Seen = BTreeMap<&'static str, usize>;

    /// Counts for tests that run side by side: a model's threads all run on the thread that explores it,
    /// so each test has counts of its own.
    #[cfg(any(candlewick_loom, candlewick_shuttle))]
    mod of_test {
        use super::Seen;
        use std::cell::RefCell;

        thread_local! {
            static SEEN: RefCell<Seen> = const { RefCell::new(Seen::new()) };
        }

        pub(in super::super) struct Alone;

        pub(in super::super) fn alone() -> Alone {
            Alone
        }

        pub(in super::super) fn with<R>(f: impl FnOnce(&mut Seen) -> R) -> R {
            SEEN.with_borrow_mut(f)
        }
    }

    /// Counts for real threads, which all tests share: one test runs at a time.
    #[cfg(not(any(candlewick_loom, candlewick_shuttle)))]
    mod of_test {
        use super::Seen;
        use std::sync::{Mutex, MutexGuard, PoisonError};

        pub(in super::super) fn alone() -> MutexGuard<'static, ()> {
            static ONE: Mutex<()> = Mutex::new(());
            ONE.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(in super::super) fn with<R>(f: impl FnOnce(&mut Seen) -> R) -> R {
            static SEEN: Mutex<Seen> = Mutex::new(Seen::new());
            f(&mut SEEN.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }

    pub(super) use of_test::{alone, with};
}

/// Notes which of its outcomes an execution had. That is outside of the model and orders nothing.
pub fn saw(outcome: &'static str) {
    counts::with(|seen| *seen.entry(outcome).or_default() += 1);
}

/// Runs the scenario of this name.
pub fn check(name: &str) {
    let _alone = counts::alone();
    let scenario = SCENARIOS.iter().find(|s| s.name == name).expect("listed");
    counts::with(Seen::clear);
    let body = scenario.body;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let start = Instant::now();
    let explored = move || {
        counted.fetch_add(1, Relaxed);
        body();
    };
    told(move || explore(scenario, explored));
    let (runs, seen) = (runs.load(Relaxed), counts::with(|seen| seen.clone()));
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

/// Panics with text where the scenario panics: the test harness waits forever for a test whose
/// payload panics when it is dropped, and prints nothing of one that was resumed.
fn told(run: impl FnOnce()) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(run)) else {
        return;
    };
    let literal = payload.downcast_ref::<&str>().copied();
    let text = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("a payload that is not text").to_owned();
    std::mem::forget(payload);
    panic!("the scenario panicked: {text}");
}

#[cfg(candlewick_loom)]
fn explore(scenario: &Scenario, f: impl Fn() + Send + Sync + 'static) {
    crate::core::sync::model::set_stale(scenario.stale);
    let mut builder = loom::model::Builder::new(); // reads LOOM_* from the environment
    builder.max_branches = builder.max_branches.max(50_000);
    if builder.preemption_bound.is_none() && std::env::var_os("LOOM_EXHAUSTIVE").is_none() {
        builder.preemption_bound = scenario.bound;
    }
    builder.check(f);
}

/// How many executions there are where chance chooses them.
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

/// Runs a scenario again and again on real threads. Some wait for a clock: a scenario stops at
/// `CANDLEWICK_SECONDS`, but not before its tenth execution.
#[cfg(not(any(candlewick_loom, candlewick_shuttle)))]
fn explore(_: &Scenario, f: impl Fn() + Send + Sync + 'static) {
    let asked = std::env::var("CANDLEWICK_SECONDS").ok();
    let seconds = asked.map_or(u64::MAX, |n| n.parse().expect("a number"));
    let start = Instant::now();
    let runs = (0..iterations()).take_while(|run| *run < 10 || start.elapsed().as_secs() < seconds);
    runs.for_each(|_| f());
}
