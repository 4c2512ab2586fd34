//! The threads that help with large steps on the CPU: a crew of our own, and a pool of our own for
//! Candle. On rayon's global pool, which Candle uses by default, all threads may be waiting for this
//! very executor.

use super::eval;
use crate::core::actor::crew::Crew;
use crate::error::Cause;
use crate::graph::Op;
use crate::plan::effort::{PRODUCT_WORTH_SHARING, WORTH_HELP};
use candle_core::Tensor;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::num::NonZero;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::available_parallelism;
use std::time::Instant;

/// The helper threads of an executor: those that all executors of the process share, or its own.
#[derive(Default)]
pub(crate) struct Workers {
    /// How many threads work on one step, the driver's included; `None` for as many as the process may use.
    threads: Option<usize>,
    crew: OnceLock<Crew>,
    pool: OnceLock<Option<ThreadPool>>,
    missed: Missed,
}

/// The helper threads that executors share if they were not given a number of their own.
static ALL: Workers = Workers {
    threads: None,
    crew: OnceLock::new(),
    pool: OnceLock::new(),
    missed: Missed::new(),
};

/// Who helps with a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Help {
    /// On how many threads the step runs at most, the calling one included.
    pub(super) threads: usize,
    /// Whether helpers that sleep are woken for the step.
    wake: bool,
}

impl Help {
    /// The calling thread runs the step alone.
    const NONE: Self = Self {
        threads: 1,
        wake: false,
    };
}

/// Counts steps that follow one another soon, and with each of which a helper would have helped if one had been
/// awake.
#[derive(Default)]
struct Missed {
    since: OnceLock<Instant>,
    /// When the last such step was, in nanoseconds after `since`.
    last: AtomicU64,
    count: AtomicU64,
}

impl Missed {
    /// Steps that are at most this many nanoseconds apart follow one another soon: a helper that had helped with
    /// the first would still be looking for work at the second.
    const SOON: u64 = 100_000;
    /// At this number of such steps a helper is woken; for fewer, which are rare, it is not worth it.
    const MANY: u64 = 4;

    const fn new() -> Self {
        Self {
            since: OnceLock::new(),
            last: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }

    /// Counts one more such step, and says whether to wake a helper for those that follow.
    fn again(&self) -> bool {
        let now = self.since.get_or_init(Instant::now).elapsed().as_nanos() as u64;
        // ORDERING: Relaxed; estimates. Several executors may share them.
        let last = self.last.swap(now, Relaxed);
        if now.saturating_sub(last) > Self::SOON {
            self.count.store(0, Relaxed); // ORDERING: as above
            return false;
        }
        let missed = self.count.fetch_add(1, Relaxed) + 1; // ORDERING: as above
        if missed >= Self::MANY {
            self.count.store(0, Relaxed); // ORDERING: as above
        }
        missed >= Self::MANY
    }
}

impl Workers {
    /// A pool of `threads` threads of this executor's own; without a number, the pool that executors share,
    /// of as many as the process may use.
    pub(crate) fn new(threads: Option<usize>) -> Self {
        Self {
            threads,
            ..Self::default()
        }
    }

    /// The `Workers` that hold the threads: these, or those of the process.
    fn owner(&self) -> &Self {
        match self.threads {
            Some(_) => self,
            None => &ALL,
        }
    }

    /// The threads that help with steps of our own, this one left out.
    fn crew(&self) -> &Crew {
        let start = || Crew::new(self.threads() - 1, |i| format!("candlewick-{i}"));
        self.owner().crew.get_or_init(start)
    }

    /// The threads that Candle's operations run on, where it divides them. `None` if they could not
    /// be started.
    fn pool(&self) -> Option<&ThreadPool> {
        let start = || {
            let builder = ThreadPoolBuilder::new().num_threads(self.threads());
            let builder = builder.thread_name(|i| format!("candlewick-candle-{i}"));
            builder.build().ok()
        };
        self.owner().pool.get_or_init(start).as_ref()
    }

    /// How many threads there are for a step that is worth them.
    pub(super) fn threads(&self) -> usize {
        static USABLE: OnceLock<usize> = OnceLock::new();
        let usable = || {
            let said = std::env::var("RAYON_NUM_THREADS").ok();
            let said = said.and_then(|said| said.parse().ok()).filter(|&n| n > 0);
            let have = || available_parallelism().map_or(1, NonZero::get);
            said.unwrap_or_else(have)
        };
        self.threads.unwrap_or_else(|| *USABLE.get_or_init(usable))
    }

    /// Who helps with a step of this effort (see `plan/effort.rs`): nobody if the effort is below
    /// `worth_sharing`.
    pub(super) fn help(&self, effort: usize, worth_sharing: usize) -> Help {
        let threads = self.threads();
        if threads == 1 || effort < worth_sharing {
            return Help::NONE;
        }
        let wake = effort >= WORTH_HELP;
        if wake || self.crew().is_awake() {
            return Help { threads, wake };
        }
        // a helper that is woken comes late for this step, but in time for those that follow soon
        match self.owner().missed.again() {
            true => Help {
                threads,
                wake: true,
            },
            false => Help::NONE,
        }
    }

    /// Runs parts side by side, on at most `help.threads` threads: on the calling one, and on helpers that come
    /// while there are parts left. A thread that is done with a part takes the next.
    pub(super) fn share<P>(
        &self,
        help: Help,
        parts: impl Iterator<Item = P> + Send,
        run: impl Fn(P) + Sync,
    ) {
        if help.threads <= 1 {
            return parts.for_each(run);
        }
        let crew = self.crew();
        crew.share_parts(help.threads - 1, help.wake, parts, run);
    }

    /// The same for parts that may fail: the first error that one has met. What has not begun by then does not
    /// begin.
    pub(super) fn try_share<P, E: Send + Sync>(
        &self,
        help: Help,
        parts: impl Iterator<Item = P> + Send,
        run: impl Fn(P) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let failed = OnceLock::new();
        self.share(help, parts, |part| {
            if failed.get().is_none()
                && let Err(error) = run(part)
            {
                let _ = failed.set(error); // the first is kept
            }
        });
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// Runs each of several parts on one thread, side by side if that is worth it. `work` is how many simple
    /// operations take as long as all of them together.
    pub(super) fn each<P: Send, R: Send + Sync>(
        &self,
        parts: Vec<P>,
        work: usize,
        run: impl Fn(P, &Workers) -> R + Sync,
    ) -> Vec<R> {
        let alone = Workers::new(Some(1));
        let mut help = self.help(work, PRODUCT_WORTH_SHARING);
        help.threads = help.threads.min(parts.len());
        let results: Vec<OnceLock<R>> = parts.iter().map(|_| OnceLock::new()).collect();
        self.share(help, parts.into_iter().zip(&results), |(part, result)| {
            let _ = result.set(run(part, &alone)); // set here only
        });
        let results = results.into_iter().filter_map(OnceLock::into_inner);
        results.collect()
    }

    /// Runs one operation through Candle, in the pool if Candle divides it.
    pub(super) fn eval(&self, op: &Op, inputs: &[&Tensor]) -> Result<Tensor, Cause> {
        if !is_divided(op, inputs) {
            return eval::eval(op, inputs);
        }
        match self.pool() {
            Some(pool) => pool.install(|| eval::eval(op, inputs)),
            None => eval::eval(op, inputs),
        }
    }
}

/// How many parts a step is divided into for each thread: a helper that comes late leaves its parts to the
/// others.
pub(super) const PARTS: usize = 4;
/// The number of multiplications from which on Candle divides a product among several threads.
const PARALLEL_PRODUCT: usize = 1 << 19;

/// Whether Candle hands parts of this operation to the rayon pool that it runs in.
///
/// Not operations of the user's own: they stay on the thread that has the turn, where waiting
/// for this executor is noticed and refused.
fn is_divided(op: &Op, inputs: &[&Tensor]) -> bool {
    match (op, inputs) {
        (Op::Matmul | Op::BroadcastMatmul, [x, y]) => {
            let columns = y.dims().last().map_or(0, |&n| n);
            x.elem_count().saturating_mul(columns) >= PARALLEL_PRODUCT
        }
        (
            Op::SoftmaxLastDim
            | Op::RmsNorm { .. }
            | Op::LayerNorm { .. }
            | Op::Rope { .. }
            | Op::ArgSort { .. }
            | Op::Conv1d(_)
            | Op::Conv2d(_),
            _,
        ) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::effort::WORTH_SHARING;
    use std::time::Duration;

    const WORTH: [usize; 2] = [WORTH_SHARING, PRODUCT_WORTH_SHARING];

    fn eventually(mut happened: impl FnMut() -> bool) {
        let start = Instant::now();
        while !happened() {
            assert!(start.elapsed() < Duration::from_secs(20));
        }
    }

    /// Nobody is woken for a first step of less.
    #[test]
    fn others_are_woken_for_a_step_that_is_worth_their_help() {
        for worth in WORTH {
            let workers = Workers::new(Some(2));
            assert!(!workers.help(WORTH_HELP - 1, worth).wake);
            let help = workers.help(WORTH_HELP, worth);
            assert!(help.wake && help.threads == 2, "{help:?}");
        }
    }

    /// From some effort on a step is shared with those who are looking for work; below, never.
    #[test]
    fn a_step_that_is_worth_sharing_is_shared_with_those_who_are_awake() {
        let workers = Workers::new(Some(2));
        let wake_them = || {
            let help = workers.help(WORTH_HELP, WORTH_SHARING);
            workers.share(help, 0..8, |_| std::thread::yield_now());
        };
        for worth in WORTH {
            eventually(|| {
                wake_them();
                assert_eq!(workers.help(worth - 1, worth).threads, 1);
                let help = workers.help(worth, worth);
                help.threads == 2 && !help.wake
            });
            // of such steps in a row one wakes somebody, and of shorter ones none
            assert!((0..1000).all(|_| !workers.help(worth - 1, worth).wake));
            eventually(|| workers.help(worth, worth).wake);
        }
    }

    #[test]
    fn one_thread_has_no_help() {
        let help = Workers::new(Some(1)).help(usize::MAX, WORTH_SHARING);
        assert!(!help.wake && help.threads == 1);
    }
}
