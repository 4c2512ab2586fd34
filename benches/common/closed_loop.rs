//! A closed loop: every producer has one request in flight.

use hdrhistogram::Histogram;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUNDS: usize = 3;

/// A way to answer requests. `call` is one, from start to answer: the producer's number and which of
/// its requests it is.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) call: Arc<dyn Fn(usize, usize) + Send + Sync>,
}

impl Contender {
    pub(crate) fn new(
        name: &'static str,
        call: impl Fn(usize, usize) + Send + Sync + 'static,
    ) -> Self {
        let call = Arc::new(call);
        Self { name, call }
    }
}

pub(crate) struct Round {
    per_second: f64,
    p50: u64,
    p99: u64,
}

/// All producers, for `time`; latencies in nanoseconds.
fn round(contender: &Contender, producers: usize, time: Duration) -> Round {
    let start = Instant::now();
    let one = |producer: usize| {
        let mut histogram = Histogram::new(3).unwrap();
        let mut request = 0;
        while start.elapsed() < time {
            let begin = Instant::now();
            (contender.call)(producer, request);
            histogram.record(begin.elapsed().as_nanos() as u64).unwrap();
            request += 1;
        }
        histogram
    };
    let histograms: Vec<Histogram<u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|i| scope.spawn(move || one(i)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let elapsed = start.elapsed().as_secs_f64();
    let mut all: Histogram<u64> = Histogram::new(3).unwrap();
    histograms.iter().for_each(|h| all.add(h).unwrap());
    Round {
        per_second: all.len() as f64 / elapsed,
        p50: all.value_at_quantile(0.5),
        p99: all.value_at_quantile(0.99),
    }
}

/// The contenders take turns; the median round of each is reported.
pub(crate) fn run(options: &Options, workload: &str, contenders: &[Contender], producers: usize) {
    let mut rounds: Vec<Vec<Round>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (contender, rounds) in contenders.iter().zip(&mut rounds) {
            let time = Duration::from_secs_f64(options.seconds);
            rounds.push(round(contender, producers, time));
        }
    }
    for (contender, mut rounds) in contenders.iter().zip(rounds) {
        rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        report(
            options,
            workload,
            contender.name,
            producers,
            &rounds[ROUNDS / 2],
        );
    }
}

fn report(options: &Options, workload: &str, contender: &str, producers: usize, round: &Round) {
    let (p50, p99) = (round.p50 as f64 / 1e3, round.p99 as f64 / 1e3);
    if options.json {
        let line = serde_json::json!({
            "workload": workload, "contender": contender, "producers": producers,
            "per_second": (round.per_second * 10.0).round() / 10.0, "p50_us": p50, "p99_us": p99,
        });
        println!("{line}");
    } else {
        println!(
            "{workload:7} {producers:>3} {contender:28} {:>9.1}/s  p50 {p50:>9.1} µs  p99 {p99:>10.1} µs",
            round.per_second
        );
    }
}

pub(crate) struct Options {
    pub(crate) json: bool,
    seconds: f64,
    workload: Option<String>,
    producers: Option<usize>,
}

impl Options {
    /// From the command line, and with `RAYON_NUM_THREADS` set: Candle at its best.
    pub(crate) fn read(seconds: f64) -> Self {
        if std::env::var_os("RAYON_NUM_THREADS").is_none() {
            // SAFETY: no other thread has been started yet.
            unsafe { std::env::set_var("RAYON_NUM_THREADS", "2") };
        }
        let mut options = Self {
            json: false,
            seconds,
            workload: None,
            producers: None,
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
            match arg.as_str() {
                "--json" => options.json = true,
                "--seconds" => options.seconds = value().parse().expect("seconds"),
                "--workload" => options.workload = Some(value()),
                "--producers" => options.producers = Some(value().parse().expect("a number")),
                "--bench" => {} // cargo's own
                other => panic!("unknown option {other}"),
            }
        }
        options
    }

    pub(crate) fn wants(&self, workload: &str) -> bool {
        self.workload.as_ref().is_none_or(|w| w == workload)
    }

    /// Those of `all` that were asked for.
    pub(crate) fn producers<'a>(&self, all: &'a [usize]) -> impl Iterator<Item = usize> + use<'a> {
        let asked = self.producers;
        all.iter()
            .copied()
            .filter(move |p| asked.is_none_or(|o| o == *p))
    }
}
