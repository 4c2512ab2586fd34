//! The threads that help with large steps on the CPU: a pool of our own. On rayon's global pool,
//! which Candle uses by default, all threads may be waiting for this very executor.

use super::eval;
use crate::error::Cause;
use crate::graph::Op;
use candle_core::Tensor;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::OnceLock;

/// The pool, one for the process; `None` if its threads could not be started.
fn pool() -> Option<&'static ThreadPool> {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let start = || {
        let builder = ThreadPoolBuilder::new().thread_name(|i| format!("candlewick-{i}"));
        builder.build().ok()
    };
    POOL.get_or_init(start).as_ref()
}

/// How many threads there are for a step that is worth them.
pub(super) fn threads() -> usize {
    pool().map_or(1, ThreadPool::current_num_threads)
}

/// Runs parts side by side: the first on this thread, the others on the pool's.
pub(super) fn share<P: Send>(mut parts: impl Iterator<Item = P>, run: fn(P)) {
    let Some(own) = parts.next() else { return };
    let mut others = parts.peekable();
    let (Some(pool), true) = (pool(), others.peek().is_some()) else {
        run(own);
        return others.for_each(run);
    };
    pool.in_place_scope(|scope| {
        others.for_each(|part| scope.spawn(move |_| run(part)));
        run(own);
    });
}

/// Runs one operation through Candle, in the pool if Candle divides it.
pub(super) fn eval(op: &Op, inputs: &[&Tensor]) -> Result<Tensor, Cause> {
    match pool() {
        Some(pool) if is_divided(op, inputs) => pool.install(|| eval::eval(op, inputs)),
        _ => eval::eval(op, inputs),
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
