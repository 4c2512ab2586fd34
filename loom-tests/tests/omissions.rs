//! Faults by omission, systematically: each statement of the protocols that has an effect is left
//! out, each two that follow one another are swapped, each memory ordering is weakened, one at a
//! time. A scenario, or a test that the core has of its own, must fail for each, or
//! `omissions/survivors.txt` says why none does. A mutant with which one does not end within a minute is not
//! caught by that, unless loom has said that threads wait for each other. It is caught by a scenario that is
//! explored to its end without an outcome that it must meet.
//!
//! The mutants are branches of one build, and the environment takes one of them. Each scenario runs
//! in a process of its own. A first round without a mutant notes which mutants a scenario reaches: the
//! others it cannot tell from the original. A scenario whose time was up then may reach more, so the
//! mutants of its file meet it all the same.
//!
//! ```text
//! cargo test --release --test omissions -- --ignored --nocapture
//! CANDLEWICK_FAULT=turn.rs cargo test …       # only those of one file, or with this in their text
//! OMISSIONS_FROM=100 OMISSIONS_COUNT=50 …     # only these of them
//! OMISSIONS_SECONDS=1500 …                    # stop then, and say how many were not looked at
//! OMISSIONS_BOUND=20 …                        # how many seconds a scenario explores (default 4; more on a machine
//!                                             // that has other things to do)
//! ```
#![cfg(candlewick_loom)]

#[path = "seeded/copy.rs"]
#[allow(dead_code)] // the seeded faults use the rest
mod copy;
#[path = "omissions/judge.rs"]
mod judge;
#[path = "omissions/mutants.rs"]
mod mutants;
#[path = "omissions/survivors.rs"]
mod survivors;
#[path = "omissions/switched.rs"]
mod switched;

use copy::Copy;
use judge::{Reached, Trial, Verdict};
use mutants::Mutant;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use survivors::Explained;
use switched::{SWITCH, Switched, switched};

/// A mutant and its number among all.
type Numbered<'a> = (usize, &'a Mutant);

fn core() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/core")
}

fn asked<T: std::str::FromStr>(name: &str, usual: T) -> T {
    let value = env::var(name).ok();
    let parsed = value.map(|v| v.parse().ok().unwrap_or_else(|| panic!("{name}: a number")));
    parsed.unwrap_or(usual)
}

fn chosen(all: &[Mutant]) -> Vec<Numbered<'_>> {
    let part = env::var("CANDLEWICK_FAULT").unwrap_or_default();
    let of_part = all.iter().enumerate();
    of_part
        .filter(|(_, m)| m.to_string().contains(&part))
        .skip(asked("OMISSIONS_FROM", 0))
        .take(asked("OMISSIONS_COUNT", usize::MAX))
        .collect()
}

/// A build of the tests with mutants in it.
struct Built {
    scenarios: PathBuf,
    unviable: BTreeSet<usize>,
    /// Left out, because the compiler may have complained about them: to be built alone.
    doubtful: BTreeSet<usize>,
}

/// Builds the copy with these mutants, without those that do not compile.
fn build(copy: &Copy, mutants: &[Numbered]) -> Built {
    let (mut unviable, mut doubtful) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let mut files: BTreeMap<&str, Vec<Numbered>> = BTreeMap::new();
        for &(number, mutant) in mutants {
            let of_file = files.entry(mutant.file).or_default();
            if !unviable.contains(&number) && !doubtful.contains(&number) {
                of_file.push((number, mutant));
            }
        }
        let mut sources: BTreeMap<&str, Switched> = BTreeMap::new();
        for &file in mutants::FILES {
            let path = copy.source("core").join(file);
            let kept = path.with_extension("original");
            if !kept.exists() {
                std::fs::copy(&path, &kept).unwrap();
            }
            let of_file = files.remove(file).unwrap_or_default();
            let source = switched(&std::fs::read_to_string(kept).unwrap(), &of_file);
            if source.text != std::fs::read_to_string(&path).unwrap() {
                std::fs::write(path, &source.text).unwrap();
            }
            sources.insert(file, source);
        }
        let mut cargo = copy.cargo();
        // built once and run for hours; and unoptimised, some scenarios overflow loom's stacks
        cargo.env("CARGO_PROFILE_SEEDED_OPT_LEVEL", "1");
        let said = match copy.built(&mut cargo) {
            Ok(scenarios) => {
                return Built {
                    scenarios,
                    unviable,
                    doubtful,
                };
            }
            Err(said) => said,
        };
        let before = unviable.len() + doubtful.len();
        for line in said.lines().filter(|line| line.contains(": error")) {
            let Some((file, row, column)) = place(line) else {
                continue;
            };
            let Some(source) = sources.get(file) else {
                continue;
            };
            // a mutant that leaves out what an arm is worth: the compiler complains about the worth
            let at = match line.contains("incompatible types") {
                true => source.around(row, column),
                false => source.at(row, column),
            };
            let is_felt = |number| mutants.iter().any(|(n, m)| *n == number && m.is_felt);
            match at {
                Some(number) => unviable.extend([number]),
                None => doubtful.extend(
                    source
                        .near(row, column, is_felt)
                        .or_else(|| source.near(row, column, |_| true)),
                ),
            }
        }
        let blamed = unviable.len() + doubtful.len() > before;
        assert!(blamed, "does not build without a mutant\n{said}");
    }
}

/// Where the compiler complains: the file, the line and the column.
fn place(line: &str) -> Option<(&str, usize, usize)> {
    let (_, line) = line.split_once("src/core/")?;
    let mut parts = line.splitn(4, ':');
    Some((
        parts.next()?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    ))
}

#[test]
#[ignore = "hours: cargo test --release --test omissions -- --ignored"]
fn every_omission_is_caught_or_explained() {
    let all = mutants::all(&core());
    let explained = Explained::read();
    let chosen = chosen(&all);
    assert!(!chosen.is_empty(), "no mutants");
    let copy = Copy::new("omissions", 0);
    let switch = copy.source("core/mod.rs");
    let mut module = std::fs::OpenOptions::new()
        .append(true)
        .open(switch)
        .unwrap();
    module.write_all(SWITCH.as_bytes()).unwrap();
    let bound = Duration::from_secs(asked("OMISSIONS_BOUND", 4));
    let limit = Duration::from_secs(asked("OMISSIONS_SECONDS", 1 << 30));
    let until = Instant::now() + limit;
    let Built {
        scenarios,
        mut unviable,
        doubtful,
    } = build(&copy, &chosen);
    let (alone, together): (Vec<Numbered>, Vec<Numbered>) = chosen
        .iter()
        .partition(|(number, _)| doubtful.contains(number));
    println!(
        "{} do not compile, {} are built alone",
        unviable.len(),
        alone.len()
    );
    let trial = Trial::new(scenarios, bound, until);
    let reached = Reached::look(&trial);
    let viable = together
        .iter()
        .filter(|(number, _)| !unviable.contains(number));
    // those that are explained when the others are done
    let (known, open): (Vec<Numbered>, Vec<Numbered>) =
        viable.partition(|(_, mutant)| explained.explains(mutant));
    let mut verdicts = trial.of_all(open, &reached, &explained);
    verdicts.extend(trial.of_all(known, &reached, &explained));
    for mutant in alone {
        let built = match Instant::now() < until {
            true => build(&copy, &[mutant]),
            false => {
                verdicts.push((mutant, Verdict::NotLookedAt));
                continue;
            }
        };
        if built.unviable.is_empty() && built.doubtful.is_empty() {
            let trial = Trial::new(built.scenarios, bound, until);
            verdicts.extend(trial.of_all(vec![mutant], &reached.of_any(mutant.0), &explained));
        } else {
            unviable.insert(mutant.0);
        }
    }
    let unviable = chosen
        .iter()
        .filter(|(number, _)| unviable.contains(number));
    unviable
        .clone()
        .for_each(|(_, mutant)| println!("{mutant} (does not compile)"));
    verdicts.extend(unviable.map(|&mutant| (mutant, Verdict::Unviable)));
    let count = |wanted: &dyn Fn(&Mutant, &Verdict) -> bool| {
        let fits = verdicts.iter().filter(|((_, m), v)| wanted(m, v));
        fits.count()
    };
    println!(
        "{} mutants, {} of them chosen: {} unviable, {} caught, {} explained; of the others \
         {} survive, {} stall, {} were not looked at",
        all.len(),
        chosen.len(),
        count(&|_, v| matches!(v, Verdict::Unviable)),
        count(&|_, v| matches!(v, Verdict::Caught(_))),
        count(&|m, v| v.escapes() && explained.explains(m)),
        count(&|m, v| matches!(v, Verdict::Survives(_)) && !explained.explains(m)),
        count(&|m, v| matches!(v, Verdict::Stalls(_)) && !explained.explains(m)),
        count(&|_, v| matches!(v, Verdict::NotLookedAt)),
    );
    let escaped = verdicts
        .iter()
        .filter(|((_, m), v)| v.escapes() && !explained.explains(m));
    let escaped: Vec<_> = escaped.map(|((_, m), v)| format!("{m} ({v})")).collect();
    assert!(escaped.is_empty(), "not explained:\n{}", escaped.join("\n"));
}

/// The files of the core that run under a model as they ship, below `src/core`: not those that only list
/// others, nor the tests of one.
fn files(core: &Path) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    let mut folders = vec![core.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let below = path
                .strip_prefix(core)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            match entry.file_type().unwrap().is_dir() {
                true if below == "sync" => {}
                true => folders.push(path),
                false => drop(files.insert(below)),
            }
        }
    }
    files.retain(|file| {
        file != "sync.rs" && !file.ends_with("mod.rs") && !file.ends_with("_tests.rs")
    });
    files
}

/// The cheap half, on every run: there are mutants, each changes its file, and each explained one is
/// still there.
#[test]
fn mutants_are_found_and_survivors_exist() {
    let all = mutants::all(&core());
    assert!(all.len() > 600, "only {} mutants", all.len());
    for kind in [
        "drop",
        "swap",
        "Acquire -> Relaxed",
        "Release -> Relaxed",
        "AcqRel -> Acquire",
    ] {
        assert!(all.iter().any(|m| m.kind == kind), "no {kind}");
    }
    let mut sources = BTreeMap::new();
    for mutant in &all {
        let read = || std::fs::read_to_string(core().join(mutant.file)).unwrap();
        let source: &String = sources.entry(mutant.file).or_insert_with(read);
        assert_ne!(mutant.instead(source), source[mutant.range()], "{mutant}");
        assert!(!mutant.text.is_empty(), "{mutant}");
    }
    assert_eq!(
        files(&core()),
        BTreeSet::from_iter(mutants::FILES.iter().map(|file| file.to_string()))
    );
    for file in mutants::FILES {
        let of_file = all.iter().enumerate().filter(|(_, m)| m.file == *file);
        let source = std::fs::read_to_string(core().join(file)).unwrap();
        let source = switched(&source, &of_file.collect::<Vec<_>>());
        let parsed = syn::parse_file(&source.text);
        parsed.unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    println!("{} mutants", all.len());
    let stale = Explained::read().stale(&all);
    assert!(stale.is_empty(), "no such mutants:\n{}", stale.join("\n"));
}
