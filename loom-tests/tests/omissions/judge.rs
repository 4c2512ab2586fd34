//! Runs the tests against the mutants: the scenarios, and those that the core has of its own.

use super::Numbered;
use super::copy::{Ended, STUCK, run};
use super::mutants::Mutant;
use super::survivors::Explained;
use candlewick_loom_tests::SCENARIOS;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fmt, fs, thread};

/// No test takes longer than this beyond the time that a scenario explores.
const LIMIT: Duration = Duration::from_secs(60);
/// So many mutants are tried side by side.
const WORKERS: usize = 2;
/// A mutant meets so many tests before the next mutant has its turn, and in its later turns three times as
/// many as it has met.
const FIRST: usize = 8;
/// A mutant with which so many tests have stalled is tried no further.
const MOST_STALLS: usize = 3;

/// The name of a test, as the harness prints it.
type Test = &'static str;

/// A test that a mutant is to meet, and whether a scenario that is explored to its end must then have met all
/// outcomes that it names.
type Planned = (Test, bool);

/// What a scenario says that has not met an outcome.
const VACUOUS: &str = "vacuous: ";

/// What became of a mutant.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It does not compile.
    Unviable,
    /// This test fails.
    Caught(Test),
    /// This test does not end, and nobody knows why; no other one fails that was tried.
    Stalls(Test),
    /// So many tests reach it, and all of them pass.
    Survives(usize),
    /// The time was up before it had met all of its tests.
    NotLookedAt,
}

impl Verdict {
    /// Whether it is to be explained, because no test has failed of those that were tried.
    pub fn escapes(&self) -> bool {
        matches!(self, Verdict::Survives(_) | Verdict::Stalls(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Unviable => write!(f, "does not compile"),
            Verdict::Caught(test) => write!(f, "caught by {test}"),
            Verdict::Stalls(test) => write!(f, "stalls {test}"),
            Verdict::Survives(0) => write!(f, "no test reaches it"),
            Verdict::Survives(count) => write!(f, "passes {count} tests"),
            Verdict::NotLookedAt => write!(f, "not looked at"),
        }
    }
}

/// For each test that passes without a mutant, how long it takes and which mutants it reaches in that
/// time.
pub struct Reached {
    tests: BTreeMap<Test, (Duration, BTreeSet<usize>)>,
    /// What has taken so long was not explored to its end, and may reach others yet.
    bound: Duration,
}

/// A build of the tests with mutants in it.
pub struct Trial {
    scenarios: PathBuf,
    /// How long a scenario explores.
    bound: Duration,
    /// When the time is up.
    until: Instant,
}

/// A mutant that some of its tests have not caught.
struct Candidate<'a> {
    mutant: Numbered<'a>,
    /// How many tests it has met.
    met: usize,
    /// Those of them that did not end.
    stalled: Vec<Test>,
}

impl Trial {
    /// Makes a trial of such a build, whose scenarios explore for this long, until the time is up.
    pub fn new(scenarios: PathBuf, bound: Duration, until: Instant) -> Self {
        Self {
            scenarios,
            bound,
            until,
        }
    }

    /// Lists the tests of this build.
    fn tests(&self) -> Vec<Test> {
        let mut list = Command::new(&self.scenarios);
        let listed = list.args(["--list", "--format", "terse"]).output();
        let listed = String::from_utf8(listed.expect("the scenarios").stdout).unwrap();
        let tests = listed
            .lines()
            .filter_map(|line| line.strip_suffix(": test"));
        tests.map(|test| &*test.to_owned().leak()).collect()
    }

    /// Runs a test, for as long as a scenario explores.
    fn run(&self, test: Test, set: impl FnOnce(&mut Command)) -> Ended {
        run(&self.scenarios, test, LIMIT + self.bound, |run| {
            run.env("LOOM_MAX_DURATION", self.bound.as_secs().to_string())
                .env("LOOM_CHECKPOINT_INTERVAL", "500");
            set(run);
        })
    }

    /// Runs a test with a mutant. An outcome that was not met tells something if the exploration has come to
    /// its end.
    fn run_with(&self, number: usize, (test, covers): Planned) -> Ended {
        let began = Instant::now();
        let ended = self.run(test, |run| {
            run.env("OMITTED", number.to_string());
            if covers {
                run.env("CANDLEWICK_COVERAGE", "1");
            }
        });
        match ended {
            Ended::Failed(said) if said.contains(VACUOUS) && began.elapsed() >= self.bound => {
                Ended::Passed(said)
            }
            ended => ended,
        }
    }

    /// Has a mutant meet these tests. There is a verdict unless the tests that it has not met may know
    /// more.
    fn meet(&self, candidate: &mut Candidate, tests: &[Planned]) -> Option<Verdict> {
        for &(test, covers) in tests {
            if Instant::now() > self.until {
                return Some(Verdict::NotLookedAt);
            }
            candidate.met += 1;
            match self.run_with(candidate.mutant.0, (test, covers)) {
                Ended::Passed(_) => {}
                Ended::Failed(_) => return Some(Verdict::Caught(test)),
                Ended::Stalled(said) if said.contains(STUCK) => return Some(Verdict::Caught(test)),
                Ended::Stalled(_) => candidate.stalled.push(test),
            }
            if candidate.stalled.len() == MOST_STALLS {
                return Some(Verdict::Stalls(candidate.stalled[0]));
            }
        }
        None
    }

    /// What becomes of each of these, until the time is up. Those that the first tests do not
    /// catch go to the end of the line, so that little time shows most of what is caught.
    pub fn of_all<'a>(
        &self,
        mutants: Vec<Numbered<'a>>,
        reached: &Reached,
        explained: &Explained,
    ) -> Vec<(Numbered<'a>, Verdict)> {
        let line = mutants.into_iter().map(|mutant| Candidate {
            mutant,
            met: 0,
            stalled: Vec::new(),
        });
        let line = Mutex::new(line.collect::<VecDeque<_>>());
        let work = || {
            let mut verdicts = Vec::new();
            loop {
                let next = line.lock().unwrap().pop_front();
                let Some(mut candidate) = next else {
                    return verdicts;
                };
                let (order, met) = (reached.order(candidate.mutant), candidate.met);
                let until = (3 * met).max(FIRST).min(order.len());
                let verdict = self.meet(&mut candidate, &order[met..until]);
                if verdict.is_none() && until < order.len() {
                    line.lock().unwrap().push_back(candidate);
                    continue;
                }
                let verdict = verdict.unwrap_or(match candidate.stalled.first() {
                    Some(test) => Verdict::Stalls(test),
                    None => Verdict::Survives(order.len()),
                });
                let mutant = candidate.mutant;
                match (&verdict, explained.explains(mutant.1)) {
                    (Verdict::NotLookedAt, _) if met > 0 => {
                        println!("passes {met} of {}: {}", order.len(), mutant.1)
                    }
                    (Verdict::NotLookedAt, _) => {}
                    (verdict, true) if verdict.escapes() => println!("{} (explained)", mutant.1),
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
    /// Runs every test once, without a mutant.
    pub fn look(trial: &Trial) -> Self {
        let queue = Mutex::new(trial.tests().into_iter().collect::<VecDeque<_>>());
        let work = |worker: usize| {
            let (queue, mut found) = (&queue, BTreeMap::new());
            let hits = trial.scenarios.with_extension(format!("hits-{worker}"));
            loop {
                let next = queue.lock().unwrap().pop_front();
                let Some(test) = next else { return found };
                let _ = fs::remove_file(&hits);
                let began = Instant::now();
                let ended = trial.run(test, |run| _ = run.env("OMITTED_HITS", &hits));
                if !matches!(ended, Ended::Passed(_)) {
                    println!("left out, since it does not pass without a mutant: {test}");
                    continue;
                }
                let numbers = fs::read_to_string(&hits).unwrap_or_default();
                let numbers = numbers.lines().map(|line| line.parse().unwrap());
                found.insert(test, (began.elapsed(), numbers.collect()));
            }
        };
        let work = &work;
        let found = thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS).map(|i| scope.spawn(move || work(i))).collect();
            let found = workers.into_iter().map(|worker| worker.join().unwrap());
            found.flatten().collect()
        });
        Self {
            tests: found,
            bound: trial.bound,
        }
    }

    /// The same tests, as if all of them reached this mutant.
    pub fn of_any(&self, number: usize) -> Self {
        let all = self.tests.iter();
        let all = all.map(|(&test, (time, _))| (test, (*time, BTreeSet::from([number]))));
        Self {
            tests: all.collect(),
            bound: self.bound,
        }
    }

    /// The tests that reach a mutant, or may if they explore for longer: those of its file first,
    /// and the quick ones first.
    fn order(&self, (number, mutant): Numbered) -> Vec<Planned> {
        let tests = self.tests.iter();
        let mut order: Vec<_> = tests
            .map(|(&test, (time, reached))| {
                let likely = is_likely(mutant, test);
                let reaches = reached.contains(&number) || (likely && *time >= self.bound);
                (reaches, (!likely, *time, test))
            })
            .filter(|(reaches, _)| *reaches)
            .collect();
        order.sort();
        let explored = |time| time < self.bound;
        let planned = order
            .into_iter()
            .map(|(_, (_, time, test))| (test, explored(time)));
        planned.collect()
    }
}

/// Whether a test is one of the mutant's file, or a scenario of a module that is about it.
fn is_likely(mutant: &Mutant, test: Test) -> bool {
    let file = mutant.file.trim_end_matches(".rs").replace('/', "::");
    if test
        .strip_prefix("core::")
        .is_some_and(|test| test.starts_with(&file))
    {
        return true;
    }
    let modules: &[&str] = match mutant.file {
        "store/slot.rs" | "store/begun.rs" | "store/waiters.rs" | "store/word.rs" => {
            &["slot", "store", "turns", "prying"]
        }
        "store/task.rs" => &["store", "withdraw", "executor"],
        "store/node_store.rs" => &["store", "launch"],
        "actor/turn.rs" | "actor/park.rs" => &["turn", "lending"],
        "actor/admission.rs" | "actor/admit.rs" => &["admission", "grants", "prying"],
        "actor/gate.rs" => &["driving", "lending", "executor"],
        "actor/launch.rs" => &["launch", "random"],
        "cut.rs" => &["cut", "launch", "random"],
        "actor/gather.rs" | "actor/lender.rs" => &["batch", "lending"],
        "actor/flight.rs" => &["tickets"],
        "actor/engine.rs" => &["tickets"],
        "actor/line.rs" => &["turns", "urgency", "grants"],
        "actor/owner.rs" => &["executor", "batch", "tickets", "urgency"],
        "actor/shared.rs" => &["executor", "lending", "urgency", "tickets", "grants"],
        "actor/submission.rs" => &["executor", "lending", "withdraw"],
        "actor/event.rs" => &["executor", "turn", "prying"],
        "actor/driving.rs" => &["driving", "lending"],
        "actor/crew.rs" => &["crew"],
        "origin.rs" => &["store", "cut"],
        "panics.rs" => &["executor", "crew"],
        "versions.rs" => &["versions"],
        _ => &[],
    };
    let name = test.strip_prefix("tests::");
    let of = SCENARIOS.iter().find(|s| Some(s.name) == name);
    of.is_some_and(|s| modules.contains(&s.module))
}
