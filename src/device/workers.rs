//! The threads that help with large steps on the CPU: a pool of our own. On rayon's global pool,
//! which Candle uses by default, all threads may be waiting for this very executor.

use super::eval;
use crate::error::Cause;
use crate::graph::Op;
use candle_core::Tensor;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::OnceLock;

/// The threads of an executor: those of the process, or its own.
#[derive(Default)]
pub(crate) struct Workers {
    /// How many, if not as many as the process may use.
    threads: Option<usize>,
    own: OnceLock<Option<ThreadPool>>,
}

impl Workers {
    /// So many threads; by default those that all executors share, as many as the process may use.
    pub(crate) fn new(threads: Option<usize>) -> Self {
        Self {
            threads,
            own: OnceLock::new(),
        }
    }

    /// Started when it is first needed; `None` if its threads could not be started.
    fn pool(&self) -> Option<&ThreadPool> {
        static SHARED: OnceLock<Option<ThreadPool>> = OnceLock::new();
        let start = |threads: usize| {
            let builder = ThreadPoolBuilder::new().num_threads(threads);
            let builder = builder.thread_name(|i| format!("candlewick-{i}"));
            builder.build().ok()
        };
        let pool = match self.threads {
            Some(threads) => self.own.get_or_init(|| start(threads)),
            None => SHARED.get_or_init(|| start(0)),
        };
        pool.as_ref()
    }

    /// How many threads there are for a step that is worth them.
    pub(super) fn threads(&self) -> usize {
        let all = || self.pool().map_or(1, ThreadPool::current_num_threads);
        self.threads.unwrap_or_else(all)
    }

    /// Runs parts side by side: the first on this thread, the others on the pool's.
    pub(super) fn share<P: Send>(&self, mut parts: impl Iterator<Item = P>, run: fn(P)) {
        let Some(own) = parts.next() else { return };
        let mut others = parts.peekable();
        if others.peek().is_none() {
            return run(own);
        }
        let Some(pool) = self.pool() else {
            run(own);
            return others.for_each(run);
        };
        pool.in_place_scope(|scope| {
            others.for_each(|part| scope.spawn(move |_| run(part)));
            run(own);
        });
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

/// Multiplications from which on Candle's products use several threads.
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
