//! What the example shows: a bar while it works, a table when it is done.

use crate::Result;
use crate::load::{THREADS, Tally};
use crate::swap::Swap;
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::time::Duration;

/// A bar on a terminal; elsewhere a line for each phase.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Of the phases that are over.
    over: Cell<Duration>,
}

impl Progress {
    /// `total` is what all rounds take together.
    pub(crate) fn new(total: Duration) -> Result<Self> {
        let bar = ProgressBar::new(total.as_millis() as u64);
        let style = "{elapsed:>4} [{bar:30}] {percent:>3} %  {prefix}{msg}";
        bar.set_style(ProgressStyle::with_template(style)?.progress_chars("=> "));
        Ok(Self {
            bar,
            over: Cell::default(),
        })
    }

    pub(crate) fn phase(&self, name: &str) {
        self.bar.set_message("");
        self.bar.set_prefix(name.to_owned());
        if self.bar.is_hidden() {
            eprintln!("{name}");
        }
    }

    /// So far in this phase.
    pub(crate) fn at(&self, elapsed: Duration, done: u64) {
        self.bar
            .set_position((self.over.get() + elapsed).as_millis() as u64);
        self.bar.set_message(format!(": {done} digits"));
    }

    /// The phase is over, `time` of the total with it.
    pub(crate) fn advance(&self, time: Duration) {
        self.over.set(self.over.get() + time);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Throughput and latency of each contender, and how its answers compare to eager Candle's.
pub(crate) fn contenders(tallies: &[(&'static str, Tally)]) {
    println!("{THREADS} threads, one digit at a time:");
    println!();
    println!(
        "{:<18} {:>9} {:>16} {:>8} {:>8} {:>9} {:>7} {:>10} {:>4}",
        "",
        "digits/s",
        "(least..most)",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "max ms",
        "same bits",
        "off"
    );
    for (name, tally) in tallies {
        let mut rounds = tally.per_second.clone();
        rounds.sort_by(f64::total_cmp);
        let at = |place: usize| rounds.get(place).copied().unwrap_or(f64::NAN);
        let micros = |q| tally.latency.value_at_quantile(q) as f64 / 1e3;
        println!(
            "{name:<18} {:>9.0} {:>16} {:>8.1} {:>8.1} {:>9.1} {:>7.1} {:>10} {:>4}",
            at(rounds.len() / 2),
            format!("{:.0}..{:.0}", at(0), at(rounds.len().saturating_sub(1))),
            micros(0.5),
            micros(0.99),
            micros(0.999),
            tally.latency.max() as f64 / 1e6,
            percent(tally.same_bits, tally.answers()),
            tally.off,
        );
    }
    println!();
    println!("Latency is from the pixels to the ten numbers. With more threads than cores, eager");
    println!(
        "Candle answers at once whoever has a core and the mutex, and the rest of its time is"
    );
    println!("in the few requests that are switched out: see p99.9 and the maximum.");
}

/// What the replacement of the weights did to the requests.
pub(crate) fn swap(swap: &Swap) {
    println!(
        "weights replaced under load in {:.0} µs: {} digits by the old, {} by the new, \
         {} under way across it",
        swap.took.as_secs_f64() * 1e6,
        swap.old,
        swap.new,
        swap.across,
    );
    println!(
        "requests that failed: {}, mixed versions: {}, took old weights afterwards: {}",
        swap.failed, swap.mixed, swap.stale
    );
}

/// Rounded down, so that 100 % means all.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let share = part as f64 / whole.max(1) as f64;
    format!("{:.2} %", (share * 1e4).floor() / 1e2)
}
