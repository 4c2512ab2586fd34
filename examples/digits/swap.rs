//! The weights are replaced while every thread is classifying.

use crate::Result;
use crate::contenders::Candlewick;
use crate::data::{Digit, Named, PIXELS};
use crate::load::{is_near, on_all_threads};
use crate::model::{Answer, TOLERANCE, answer, distance, lazy};
use crate::report::Progress;
use candlewick::Snapshot;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What the requests around the replacement got.
#[derive(Default)]
pub(crate) struct Swap {
    /// Answered by the old weights, and by the new.
    pub(crate) old: u64,
    pub(crate) new: u64,
    /// Of the old: those that were under way while the weights were replaced.
    pub(crate) across: u64,
    /// Requests that got an error.
    pub(crate) failed: u64,
    pub(crate) first_error: Option<String>,
    /// Answers that are not those of the version that the request took.
    pub(crate) mixed: u64,
    /// Requests that began after the replacement and yet took the old weights.
    pub(crate) stale: u64,
    /// How long the replacement took.
    pub(crate) took: Duration,
}

impl Swap {
    fn fail(&mut self, error: &dyn Error) {
        self.failed += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    fn add(&mut self, other: Swap) {
        self.old += other.old;
        self.new += other.new;
        self.across += other.across;
        self.failed += other.failed;
        self.mixed += other.mixed;
        self.stale += other.stale;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// The smallest distance of two networks' answers to one image: unless it is far more than the
/// tolerance, an answer does not tell by which weights it was made.
pub(crate) fn check_distinct(old: &[Answer], new: &[Answer]) -> Result<f32> {
    let distances = old.iter().zip(new).map(|(a, b)| distance(a, b));
    let least = distances.fold(f32::INFINITY, f32::min);
    match least > 100. * TOLERANCE {
        true => Ok(least),
        false => Err(format!("two answers of the two networks differ by {least} only").into()),
    }
}

/// Replaces the weights by `weights` when half of `time` is over. `old` and `new` are eager
/// Candle's answers under each set.
pub(crate) fn under_load(
    served: &Candlewick,
    digits: &[Digit],
    weights: Named,
    (old, new): (&[Answer], &[Answer]),
    time: Duration,
    progress: &Progress,
) -> Result<Swap> {
    let first = served.params.snapshot().version();
    // 0 until the weights have been replaced, then their version
    let second = AtomicU64::new(0);
    let replace = || -> Result<Duration> {
        thread::sleep(time / 2);
        let began = Instant::now();
        let version = served.params.replace(weights)?;
        let took = began.elapsed();
        // ORDERING: Release; with the Acquire in `seen`: whoever sees the version comes after it.
        second.store(version, Ordering::Release);
        Ok(took)
    };
    // ORDERING: Acquire; with the Release above.
    let seen = || second.load(Ordering::Acquire);
    let work = |at: usize, swap: &mut Swap| -> Result<()> {
        let replaced = seen();
        let snapshot = served.params.snapshot();
        let version = snapshot.version();
        swap.stale += u64::from(replaced != 0 && version != replaced);
        let expected = if version == first { old } else { new };
        let at = at % digits.len();
        match classify(served, &snapshot, &digits[at].pixels) {
            Ok(answer) => swap.mixed += u64::from(!is_near(&answer, &expected[at])),
            Err(error) => swap.fail(&*error),
        }
        swap.across += u64::from(version == first && seen() != 0);
        *if version == first {
            &mut swap.old
        } else {
            &mut swap.new
        } += 1;
        Ok(())
    };
    thread::scope(|scope| {
        let replacing = scope.spawn(replace);
        let (swaps, _) = on_all_threads(time, progress, || Ok(Swap::default()), work)?;
        let mut sum = Swap::default();
        swaps.into_iter().for_each(|swap| sum.add(swap));
        sum.took = replacing
            .join()
            .map_err(|_| "the replacing thread panicked")??;
        Ok(sum)
    })
}

/// As [`Contender::classify`](crate::contenders::Contender::classify), under these weights.
fn classify(served: &Candlewick, weights: &Snapshot, pixels: &[f32; PIXELS]) -> Result<Answer> {
    answer(&served.executor.run(&lazy(weights, pixels)?)?)
}
