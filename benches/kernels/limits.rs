//! What this machine can do at best, measured beside the rows: a processor that is slow for a while is
//! slow for the limit too.

use crate::{median, time};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::hint::black_box;

/// What bounds a row.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    /// One read and one write of so many floats, into memory that is used again.
    Stream(usize),
    /// So many multiply-adds with nothing to wait for; or, if that takes longer, reading so many weights
    /// once.
    Products { adds: usize, weights: usize },
}

impl Limit {
    /// Of products of so many rows by so many weights.
    pub(crate) fn products(rows: usize, weights: usize) -> Option<Self> {
        let adds = rows * weights;
        Some(Self::Products { adds, weights })
    }

    /// Microseconds on all threads, the median of so many rounds.
    pub(crate) fn measure(self, rounds: usize) -> f64 {
        match self {
            Limit::Stream(elements) => {
                let (from, mut to) = (vec![1f32; elements], vec![0f32; elements]);
                let times = (0..rounds).map(|_| {
                    let start = std::time::Instant::now();
                    copy(&from, &mut to);
                    black_box(&to);
                    start.elapsed().as_secs_f64() * 1e6
                });
                median(times.collect())
            }
            Limit::Products { adds, weights } => {
                let weights = vec![1f32; weights];
                let adds = of_rounds(rounds, &|| multiply_adds(adds));
                let read = of_rounds(rounds, &|| read(&weights));
                adds.max(read)
            }
        }
    }
}

fn of_rounds(rounds: usize, run: &dyn Fn()) -> f64 {
    let calls = crate::calls(run);
    median((0..rounds).map(|_| time(calls, run)).collect())
}

fn copy(from: &[f32], to: &mut [f32]) {
    let each = share(from.len());
    let parts = to.par_chunks_mut(each).zip(from.par_chunks(each));
    parts.for_each(|(to, from)| to.copy_from_slice(from));
}

/// What each thread does of so much.
fn share(all: usize) -> usize {
    all.div_ceil(rayon::current_num_threads()).max(1)
}

/// So many multiply-adds in registers.
fn multiply_adds(count: usize) {
    rayon::broadcast(|_| black_box(Arch::new().dispatch(MultiplyAdds(share(count)))));
}

struct MultiplyAdds(usize);

impl WithSimd for MultiplyAdds {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        // enough of them to hide how long each takes
        const CHAINS: usize = 12;
        let [a, b] = black_box([0.5f32, 1.5]).map(|x| simd.splat_f32s(x));
        let mut sums = [simd.splat_f32s(0.0); CHAINS];
        for _ in 0..self.0.div_ceil(CHAINS * S::F32_LANES) {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(a, b, *sum);
            }
        }
        let total = sums.into_iter().reduce(|x, y| simd.add_f32s(x, y));
        simd.reduce_sum_f32s(total.unwrap_or(a))
    }
}

/// Reads every float once.
fn read(from: &[f32]) {
    let parts = from.par_chunks(share(from.len()));
    parts.for_each(|part| _ = black_box(Arch::new().dispatch(Sum(part))));
}

struct Sum<'a>(&'a [f32]);

impl WithSimd for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        const CHAINS: usize = 8;
        let mut sums = [simd.splat_f32s(0.0); CHAINS];
        let (registers, _) = S::as_simd_f32s(self.0);
        for some in registers.chunks_exact(CHAINS) {
            for (sum, &x) in sums.iter_mut().zip(some) {
                *sum = simd.add_f32s(*sum, x);
            }
        }
        let total = sums.into_iter().reduce(|x, y| simd.add_f32s(x, y));
        total.map_or(0.0, |total| simd.reduce_sum_f32s(total))
    }
}
