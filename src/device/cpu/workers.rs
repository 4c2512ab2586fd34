//! The threads that help with large steps: a pool of our own. On rayon's global pool, which
//! Candle uses by default, all threads may be waiting for this very executor.

use crate::graph::Op;
use candle_core::Tensor;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::OnceLock;

/// The pool, one for the process; `None` if its threads could not be started.
pub(super) fn pool() -> Option<&'static ThreadPool> {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let start = || {
        let builder = ThreadPoolBuilder::new().thread_name(|i| format!("candlewick-{i}"));
        builder.build().ok()
    };
    POOL.get_or_init(start).as_ref()
}

/// Multiplications from which on Candle's products use several threads.
const PARALLEL_PRODUCT: usize = 1 << 19;

/// Whether Candle hands parts of this operation to the rayon pool that it runs in.
///
/// Not operations of the user's own: they stay on the thread that has the turn, where waiting
/// for this executor is noticed and refused.
pub(super) fn uses_rayon(op: &Op, inputs: &[&Tensor]) -> bool {
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
