//! Thirty-two threads that classify one image after another and check every answer.

use crate::Result;
use crate::contenders::Contender;
use crate::data::Digit;
use crate::model::{Answer, TOLERANCE, best, distance};
use crate::report::Progress;
use hdrhistogram::Histogram;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const THREADS: usize = 32;

/// What came of a round, or of several.
pub(crate) struct Tally {
    /// Nanoseconds from the pixels to the ten numbers.
    pub(crate) latency: Histogram<u64>,
    /// Requests in a second, of each round.
    pub(crate) per_second: Vec<f64>,
    /// Answers that agree with eager Candle's in every bit.
    pub(crate) same_bits: u64,
    /// Answers that are further off than the tolerance.
    pub(crate) off: u64,
}

impl Tally {
    pub(crate) fn new() -> Result<Self> {
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        Ok(Self {
            latency,
            per_second: Vec::new(),
            same_bits: 0,
            off: 0,
        })
    }

    pub(crate) fn answers(&self) -> u64 {
        self.latency.len()
    }

    pub(crate) fn add(&mut self, other: &Tally) -> Result<()> {
        self.latency.add(&other.latency)?;
        self.per_second.extend(&other.per_second);
        self.same_bits += other.same_bits;
        self.off += other.off;
        Ok(())
    }
}

/// Calls `work(thread, step)` on every thread, again and again until the time is up or one
/// fails. What each thread has gathered comes back, and how long it took.
pub(crate) fn on_all_threads<S: Send>(
    time: Duration,
    progress: &Progress,
    start: impl Fn() -> Result<S> + Sync,
    work: impl Fn(usize, &mut S) -> Result<()> + Sync,
) -> Result<(Vec<S>, Duration)> {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let barrier = Barrier::new(THREADS + 1);
    let run = |thread: usize| -> Result<S> {
        let gathered = start();
        barrier.wait();
        let mut gathered = gathered?;
        // each thread begins elsewhere among the images
        let mut at = thread * 7;
        // ORDERING: Relaxed; it only ends the loop, and joining publishes the results.
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = work(at, &mut gathered) {
                // ORDERING: Relaxed; as above.
                stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
            at += 1;
            // ORDERING: Relaxed; a count, for the eye only.
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(gathered)
    };
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..THREADS).map(|t| scope.spawn(move || run(t))).collect();
        barrier.wait();
        let began = Instant::now();
        // ORDERING: Relaxed; as above.
        while began.elapsed() < time && !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(50).min(time.saturating_sub(began.elapsed())));
            // ORDERING: Relaxed; as above.
            progress.at(began.elapsed(), done.load(Ordering::Relaxed));
        }
        // ORDERING: Relaxed; as above.
        stop.store(true, Ordering::Relaxed);
        let joined = threads
            .into_iter()
            .map(|t| t.join().map_err(|_| "a thread panicked")?);
        let gathered = joined.collect::<Result<Vec<S>>>()?;
        let took = began.elapsed();
        progress.advance(time);
        Ok((gathered, took))
    })
}

/// One round of one contender. `expected` are eager Candle's answers, image by image.
pub(crate) fn round(
    contender: &dyn Contender,
    digits: &[Digit],
    expected: &[Answer],
    time: Duration,
    progress: &Progress,
) -> Result<Tally> {
    let (tallies, took) = on_all_threads(time, progress, Tally::new, |at, tally| {
        let at = at % digits.len();
        let began = Instant::now();
        let answer = contender.classify(&digits[at].pixels)?;
        tally
            .latency
            .saturating_record(began.elapsed().as_nanos() as u64);
        tally.same_bits += u64::from(answer.map(f32::to_bits) == expected[at].map(f32::to_bits));
        tally.off += u64::from(!is_near(&answer, &expected[at]));
        Ok(())
    })?;
    let mut sum = Tally::new()?;
    for tally in &tallies {
        sum.add(tally)?;
    }
    sum.per_second
        .push(sum.answers() as f64 / took.as_secs_f64());
    Ok(sum)
}

/// Whether it is the same answer within the tolerance; no answer with a NaN is.
pub(crate) fn is_near(a: &Answer, b: &Answer) -> bool {
    distance(a, b) <= TOLERANCE
}

/// Classifies each held-out image once, the images dealt out among the threads. How many were
/// right, of how many.
pub(crate) fn accuracy(contender: &dyn Contender, digits: &[Digit]) -> Result<(usize, usize)> {
    let held_out: Vec<&Digit> = digits.iter().filter(|digit| digit.held_out).collect();
    let count = |thread: usize| -> Result<usize> {
        let mut right = 0;
        for digit in held_out.iter().skip(thread).step_by(THREADS) {
            right += usize::from(best(&contender.classify(&digit.pixels)?) == digit.label);
        }
        Ok(right)
    };
    let right = thread::scope(|scope| {
        let count = &count;
        let threads: Vec<_> = (0..THREADS)
            .map(|t| scope.spawn(move || count(t)))
            .collect();
        let counts = threads
            .into_iter()
            .map(|t| t.join().map_err(|_| "a thread panicked")?);
        counts.sum::<Result<usize>>()
    })?;
    Ok((right, held_out.len()))
}
