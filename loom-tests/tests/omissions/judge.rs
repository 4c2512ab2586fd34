//! Runs the scenarios against the mutants.

use super::Numbered;
use super::mutants::Mutant;
use super::survivors::Explained;
use candlewick_loom_tests::SCENARIOS;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fmt, fs, thread};

/// A scenario that takes longer hangs, which no passing one does.
const HANGS: Duration = Duration::from_secs(60);
const WORKERS: usize = 2;
/// How many scenarios a mutant meets before the next one has its turn.
const FIRST: usize = 8;

/// What became of a mutant.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It does not compile.
    Unviable,
    /// This scenario fails, or hangs.
    Caught(&'static str),
    /// So many scenarios reach it, and all of them pass.
    Survives(usize),
    /// The time was up.
    NotLookedAt,
}

impl Verdict {
    pub fn survives(&self) -> bool {
        matches!(self, Verdict::Survives(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Unviable => write!(f, "does not compile"),
            Verdict::Caught(scenario) => write!(f, "caught by {scenario}"),
            Verdict::Survives(0) => write!(f, "no scenario reaches it"),
            Verdict::Survives(count) => write!(f, "passes {count} scenarios"),
            Verdict::NotLookedAt => write!(f, "not looked at"),
        }
    }
}

/// For each scenario that passes without a mutant, how long it takes and which mutants it reaches in
/// that time.
pub struct Reached {
    scenarios: BTreeMap<&'static str, (Duration, BTreeSet<usize>)>,
    /// What has taken so long was not explored to its end, and may reach others yet.
    bound: Duration,
}

/// A build of the scenarios with mutants in it.
pub struct Trial {
    pub test: PathBuf,
    /// How long a scenario explores.
    pub bound: Duration,
    /// When the time is up.
    pub until: Instant,
}

impl Trial {
    /// Whether a scenario passes, in a process of its own: a deadlock aborts it.
    fn passes(&self, scenario: &str, mutant: Option<usize>, hits: Option<&PathBuf>) -> bool {
        let mut run = Command::new(&self.test);
        run.args(["--exact", &format!("tests::{scenario}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env("CANDLEWICK_COVERAGE", "0") // a fault is to be caught, not missed by all
            .env("CANDLEWICK_SHIM", "weak")
            .env("LOOM_MAX_DURATION", self.bound.as_secs().to_string())
            .env("LOOM_CHECKPOINT_INTERVAL", "500")
            .env_remove("CANDLEWICK_SHADOW")
            .env_remove("LOOM_MAX_PREEMPTIONS");
        if let Some(number) = mutant {
            run.env("OMITTED", number.to_string());
        }
        if let Some(hits) = hits {
            run.env("OMITTED_HITS", hits);
        }
        let mut process = run.spawn().expect("the scenarios");
        let start = Instant::now();
        loop {
            if let Some(status) = process.try_wait().unwrap() {
                return status.success();
            }
            if start.elapsed() > HANGS {
                process.kill().unwrap();
                process.wait().unwrap();
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What becomes of a mutant in these scenarios, if the time suffices.
    fn of(&self, mutant: Numbered, scenarios: &[&'static str]) -> Verdict {
        for scenario in scenarios {
            if Instant::now() > self.until {
                return Verdict::NotLookedAt;
            }
            if !self.passes(scenario, Some(mutant.0), None) {
                return Verdict::Caught(scenario);
            }
        }
        Verdict::Survives(scenarios.len())
    }

    /// What becomes of each of these, until the time is up. Those that the first scenarios do not
    /// catch go to the end of the line, so that little time shows most of what is caught.
    pub fn of_all<'a>(
        &self,
        mutants: Vec<Numbered<'a>>,
        reached: &Reached,
        explained: &Explained,
    ) -> Vec<(Numbered<'a>, Verdict)> {
        let line = mutants.into_iter().map(|mutant| (mutant, 0));
        let line = Mutex::new(line.collect::<VecDeque<_>>());
        let work = || {
            let mut verdicts = Vec::new();
            loop {
                let next = line.lock().unwrap().pop_front();
                let Some((mutant, passed)) = next else {
                    return verdicts;
                };
                let order = reached.order(mutant);
                let until = if passed == 0 { FIRST } else { order.len() };
                let until = until.min(order.len());
                let mut verdict = self.of(mutant, &order[passed..until]);
                if verdict.survives() {
                    if until < order.len() {
                        line.lock().unwrap().push_back((mutant, until));
                        continue;
                    }
                    verdict = Verdict::Survives(order.len());
                }
                match (&verdict, explained.explains(mutant.1)) {
                    (Verdict::NotLookedAt, _) if passed > 0 => {
                        println!("passes {passed} of {}: {}", order.len(), mutant.1)
                    }
                    (Verdict::NotLookedAt, _) => {}
                    (Verdict::Survives(_), true) => println!("{} (explained)", mutant.1),
                    (verdict, _) => println!("{} ({verdict})", mutant.1),
                }
                verdicts.push((mutant, verdict));
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
            let verdicts = workers.into_iter().map(|worker| worker.join().unwrap());
            verdicts.flatten().collect()
        })
    }
}

impl Reached {
    /// Runs every scenario once, without a mutant.
    pub fn look(trial: &Trial) -> Self {
        let queue = Mutex::new(SCENARIOS.iter().map(|s| s.name).collect::<VecDeque<_>>());
        let work = |worker: usize| {
            let (queue, mut found) = (&queue, BTreeMap::new());
            let hits = trial.test.with_extension(format!("hits-{worker}"));
            loop {
                let next = queue.lock().unwrap().pop_front();
                let Some(scenario) = next else { return found };
                let _ = fs::remove_file(&hits);
                let began = Instant::now();
                if !trial.passes(scenario, None, Some(&hits)) {
                    println!("left out, since it fails without a mutant: {scenario}");
                    continue;
                }
                let numbers = fs::read_to_string(&hits).unwrap_or_default();
                let numbers = numbers.lines().map(|line| line.parse().unwrap());
                found.insert(scenario, (began.elapsed(), numbers.collect()));
            }
        };
        let work = &work;
        let found = thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS).map(|i| scope.spawn(move || work(i))).collect();
            let found = workers.into_iter().map(|worker| worker.join().unwrap());
            found.flatten().collect()
        });
        Self {
            scenarios: found,
            bound: trial.bound,
        }
    }

    /// As if all of them reached this mutant.
    pub fn of_any(&self, number: usize) -> Self {
        let all = self.scenarios.iter();
        let all = all.map(|(&scenario, (time, _))| (scenario, (*time, BTreeSet::from([number]))));
        Self {
            scenarios: all.collect(),
            bound: self.bound,
        }
    }

    /// The scenarios that reach a mutant, or may if they explore for longer: those of its file first,
    /// and the quick ones first.
    fn order(&self, (number, mutant): Numbered) -> Vec<&'static str> {
        let scenarios = self.scenarios.iter();
        let mut order: Vec<_> = scenarios
            .map(|(&scenario, (time, reached))| {
                let likely = is_likely(mutant, scenario);
                let reaches = reached.contains(&number) || (likely && *time >= self.bound);
                (reaches, (!likely, *time, scenario))
            })
            .filter(|(reaches, _)| *reaches)
            .collect();
        order.sort();
        order
            .into_iter()
            .map(|(_, (.., scenario))| scenario)
            .collect()
    }
}

/// Whether a scenario is of a module that is about the mutant's file.
fn is_likely(mutant: &Mutant, scenario: &str) -> bool {
    let modules: &[&str] = match mutant.file {
        "store/slot.rs" | "store/begun.rs" | "store/waiters.rs" => &["slot", "store", "turns"],
        "store/task.rs" => &["store", "withdraw", "turns"],
        "store/node_store.rs" => &["store", "launch"],
        "actor/turn.rs" | "actor/park.rs" => &["turn", "lending"],
        "actor/admission.rs" | "actor/admit.rs" => &["admission", "grants"],
        "actor/gate.rs" => &["driving", "lending", "executor"],
        "actor/launch.rs" | "cut.rs" => &["launch", "random"],
        "actor/flight.rs" => &["tickets"],
        "actor/owner.rs" => &["executor", "batch", "tickets", "urgency"],
        "actor/shared.rs" | "actor/submission.rs" => &["executor", "lending", "withdraw"],
        "actor/event.rs" => &["executor", "turn"],
        "actor/driving.rs" => &["driving", "lending"],
        "actor/crew.rs" => &["crew"],
        "origin.rs" => &["store"],
        _ => &[],
    };
    let of = SCENARIOS.iter().find(|s| s.name == scenario);
    of.is_some_and(|s| modules.contains(&s.module))
}
