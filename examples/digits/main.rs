//! Thirty-two threads classify handwritten digits, one at a time, through one executor.
//!
//! ```sh
//! cargo run --release --example digits
//! ```
//!
//! Every answer is compared with eager Candle's. Beside the executor run eager Candle behind a
//! mutex and eager Candle on each thread, and in the end the weights are replaced under load.
//! The process exits with 1 if anything is not as it should be. `data/README.md` says where the
//! images come from.

mod contenders;
mod data;
mod load;
mod model;
mod report;
mod swap;

use contenders::{BehindMutex, Candlewick, Contender, EachThread};
use data::Digit;
use load::Tally;
use model::{Answer, Eager};
use report::{Progress, percent};
use std::error::Error;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The share of the held-out images that must be right.
const ACCURACY: f64 = 0.96;
/// The contenders take turns, so that a slow moment of the machine hits all of them.
const ROUNDS: u32 = 3;
const ROUND: Duration = Duration::from_millis(1200);
const WARM_UP: Duration = Duration::from_millis(200);
const SWAP: Duration = Duration::from_millis(2000);

fn main() -> ExitCode {
    give_candle_its_best_setting();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("digits: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Unless it is told how many threads to use, Candle reads /proc/cpuinfo anew for each matmul,
/// which takes longer than this network does.
fn give_candle_its_best_setting() {
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        let cores = thread::available_parallelism().map_or(1, |n| n.get());
        // SAFETY: main calls this before anything else, so there is no other thread yet that
        // could be reading the environment.
        unsafe { std::env::set_var("RAYON_NUM_THREADS", cores.to_string()) };
    }
}

fn run() -> Result<()> {
    let began = Instant::now();
    let digits = data::digits()?;
    let (first, second) = data::weights()?;
    let eager = Eager::new(&first)?;
    let expected = eager.classify_all(&digits)?;
    let after = Eager::new(&second)?.classify_all(&digits)?;
    swap::check_distinct(&expected, &after)?;

    let served = Candlewick {
        executor: candlewick::Executor::new(&candlewick::Device::Cpu)?,
        params: candlewick::Params::from_map(first)?,
    };
    let mutex = BehindMutex(Mutex::new(eager.clone()));
    let each = EachThread(eager);
    let progress = Progress::new((WARM_UP + ROUND * ROUNDS) * 3 + SWAP)?;

    progress.phase("held-out images");
    let (right, of) = load::accuracy(&served, &digits)?;
    let tallies = measure(&[&served, &mutex, &each], &digits, &expected, &progress)?;
    progress.phase("replacing the weights");
    let answers = (&expected[..], &after[..]);
    let swap = swap::under_load(&served, &digits, second, answers, SWAP, &progress)?;
    drop(progress);

    report::contenders(&tallies);
    println!();
    println!(
        "held-out images right: {right} of {of} ({})",
        percent(right as u64, of as u64)
    );
    report::swap(&swap);
    check(right, (&digits, &expected), &tallies, &swap)?;
    close(&served)?;
    println!(
        "all as it should be, in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Warms each contender up, then lets them take turns.
fn measure(
    contenders: &[&dyn Contender],
    digits: &[Digit],
    expected: &[Answer],
    progress: &Progress,
) -> Result<Vec<(&'static str, Tally)>> {
    let mut tallies = Vec::new();
    for contender in contenders {
        progress.phase(&format!("warming up {}", contender.name()));
        let warm_up = load::round(*contender, digits, expected, WARM_UP, progress)?;
        // timed apart, but its answers count
        let mut tally = Tally::new()?;
        tally.off = warm_up.off;
        tallies.push((contender.name(), tally));
    }
    for round in 1..=ROUNDS {
        for (contender, (name, tally)) in contenders.iter().zip(&mut tallies) {
            progress.phase(&format!("round {round} of {ROUNDS}, {name}"));
            tally.add(&load::round(*contender, digits, expected, ROUND, progress)?)?;
        }
    }
    Ok(tallies)
}

/// An error for the first thing that is not as it should be.
fn check(
    right: usize,
    (digits, expected): (&[Digit], &[Answer]),
    tallies: &[(&'static str, Tally)],
    swap: &swap::Swap,
) -> Result<()> {
    let held_out = digits
        .iter()
        .zip(expected)
        .filter(|(digit, _)| digit.held_out);
    let of = held_out.clone().count();
    let eager = held_out
        .filter(|(digit, answer)| model::best(answer) == digit.label)
        .count();
    if right != eager {
        return Err(format!("{right} held-out images right, and {eager} on eager Candle").into());
    }
    if (right as f64) < ACCURACY * of as f64 {
        return Err(format!("{right} of {of} held-out images right: too few").into());
    }
    for (name, tally) in tallies {
        if tally.answers() == 0 || tally.off != 0 {
            let (off, answers) = (tally.off, tally.answers());
            return Err(format!("{name}: {off} of {answers} answers are not Candle's").into());
        }
    }
    if let Some(error) = &swap.first_error {
        let failed = swap.failed;
        return Err(format!("{failed} requests failed around the swap, one with: {error}").into());
    }
    if swap.mixed != 0 || swap.stale != 0 {
        let (mixed, stale) = (swap.mixed, swap.stale);
        return Err(format!("{mixed} answers of mixed versions, {stale} stale ones").into());
    }
    if swap.old == 0 || swap.new == 0 {
        return Err("the weights were not replaced under load".into());
    }
    Ok(())
}

/// Shuts the executor down; nothing may be left in it.
fn close(served: &Candlewick) -> Result<()> {
    served
        .executor
        .shutdown_blocking(Some(Duration::from_secs(5)))?;
    let stats = served.executor.stats();
    println!(
        "fragments run: {}; the queue was lent to a waiting thread {} times; left: {} nodes, {} bytes",
        stats.fragments_run, stats.lent, stats.live_nodes, stats.live_bytes
    );
    if (stats.live_nodes, stats.live_bytes) != (0, 0) || stats.fragments_failed != 0 {
        return Err(format!("the executor is not empty after shutdown: {stats:?}").into());
    }
    Ok(())
}
