//! Matrix products of floats, and what is done to their rows before they leave the cache.
//!
//! Every element of a product is one chain of multiply-adds in the order of `k`, of f64 or f32; f16
//! and bf16 are widened when they are copied, and the result is rounded once. So its bits depend
//! neither on the number of rows, nor on how rows and columns are divided among threads, nor on
//! whether the right side was packed before. But for few queries that are compared with keys
//! (`dots.rs`): there the shapes and strides decide, and no threads either.

mod dots;
mod driver;
#[cfg(test)]
mod isa_tests;
mod job;
mod kernel;
mod matrix;
mod pack;
mod packed;
mod real;
mod right;

use super::data::{Data, Out, Shared};
use super::fused;
use super::memory::{NoMemory, reserved};
use super::place::places;
use crate::device::meter::Meter;
use crate::device::workers::{Help, PARTS, Workers};
use crate::graph::Kept;
use crate::plan::Product;
use crate::plan::effort::PRODUCT_WORTH_SHARING;
use crate::plan::product::{PRODUCTS, Sides};
use crate::plan::types::Compute;
use job::Raws;
use kernel::{MAX_ROWS, MAX_WIDTH};
use matrix::AnyMat;
use packed::Packed;
use pulp::Arch;
use real::Real;
use right::is_small;
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;

/// Rows from which on threads share the rows of a product rather than its columns, and from which on
/// packing costs little beside the product.
const MANY_ROWS: usize = 64;

/// The left side of a product, if it is not made row by row, and its right side.
type Sided<'a> = (Option<Data<'a>>, Data<'a>);

/// What a product reads.
pub(super) struct Operands<'a> {
    /// Of each product.
    pub(super) factors: [Option<Sided<'a>>; PRODUCTS],
    /// What is kept with the right sides that are tensors that outlive the fragment.
    pub(super) kept: [Option<&'a Kept>; PRODUCTS],
    /// Counts what is made of them.
    pub(super) meter: &'a Arc<Meter>,
    /// The operands of all programs; the place of a product holds anything.
    pub(super) programs: &'a [Data<'a>],
    pub(super) scalars: &'a [f32],
}

/// The operands of the programs, with something in the places of the products.
pub(super) fn program_operands<'a>(
    step: &Product,
    mut others: impl Iterator<Item = Data<'a>>,
) -> SmallVec<[Data<'a>; 4]> {
    let mut operands = SmallVec::new();
    for then in step.programs() {
        let raws = then.raws();
        let inputs = then.program.inputs.iter();
        operands.extend(
            inputs.filter_map(|input| match raws.contains(&input.value) {
                true => Some(Data::F32(&[])),
                false => others.next(),
            }),
        );
    }
    operands
}

/// One of the products of a step.
#[derive(Clone, Copy)]
struct One<'a, R: Real> {
    sides: Sides<'a>,
    /// The data of its sides.
    a: Option<Data<'a>>,
    b: Data<'a>,
    packed: Option<KeptPanels<'a, R>>,
}

/// A right side that was packed before.
#[derive(Clone, Copy)]
enum KeptPanels<'a, R: Real> {
    Wide(&'a Packed<R>),
    /// Without widening: half as much to read.
    Short(&'a Packed<R::Short>),
}

/// Runs a product, in parts if that is worth it. Writes every element of `out`, unless there is no memory for
/// what it makes on the way.
pub(super) fn run(
    step: &Product,
    operands: &Operands<'_>,
    out: Out<'_>,
    workers: &Workers,
) -> Result<(), NoMemory> {
    match step.compute {
        Compute::F64 => run_in::<f64>(step, operands, out, workers),
        _ => run_in::<f32>(step, operands, out, workers),
    }
}

fn run_in<'a, R: Real>(
    step: &'a Product,
    operands: &'a Operands<'a>,
    mut out: Out<'_>,
    workers: &Workers,
) -> Result<(), NoMemory> {
    assert_eq!(out.len(), step.count() * step.m * step.columns());
    let by_dots = step.second.is_some() && step.is_few_by_columns();
    let sides = step.sides();
    let products = std::array::from_fn(|which| {
        let (sides, (a, b)) = (sides[which]?, operands.factors[which]?);
        // keys that are compared with few queries are read once, as they lie
        let kept = operands.kept[which].filter(|_| which > 0 || !by_dots);
        let rows = step.count() * step.m;
        let packed = kept.and_then(|kept| packed::<R>(sides, b, rows, (kept, operands.meter)));
        Some(One {
            sides,
            a,
            b,
            packed,
        })
    });
    let job = Job {
        step,
        operands,
        products: &products,
        by_dots,
        bare: None,
        batch: 0..step.count(),
        rows: 0..step.m,
        cols: 0..step.n,
        out: out.shared(),
    };
    let help = workers.help(step.effort(), PRODUCT_WORTH_SHARING);
    if help.threads > 1 && job.is_few_whole_rows(help.threads) {
        return job.in_two_steps(help, out, workers);
    }
    workers.try_share(help, job.divided(help.threads).into_iter(), Job::run)
}

/// A right side as it was packed before, if the same tensor is multiplied by again and again: from
/// its second product on, or from its first with many rows.
fn packed<'a, R: Real>(
    Sides { b, k, n, .. }: Sides<'_>,
    data: Data<'_>,
    rows: usize,
    (kept, meter): (&'a Kept, &Arc<Meter>),
) -> Option<KeptPanels<'a, R>> {
    let small = is_small(k.saturating_mul(b.row), rows) && n.is_multiple_of(MAX_WIDTH);
    let as_good_as_packed = b.col == 1 && small && R::elements(data).is_some();
    let shared = b.batch.iter().all(|&step| step == 0);
    if !shared || as_good_as_packed {
        return None;
    }
    let entry = kept.entry([b.offset, k, n, b.row, b.col])?;
    // many rows would have it packed anyway
    let at_once = rows >= MANY_ROWS;
    let mat = AnyMat::<R>::new(data, b.offset, (k, n), (b.row, b.col));
    match R::short(&mat) {
        Some(mat) => entry
            .get_or_make(at_once, || Packed::counted(mat, meter))
            .map(KeptPanels::Short),
        None => entry
            .get_or_make(at_once, || Packed::counted(mat, meter))
            .map(KeptPanels::Wide),
    }
}

/// A part of a product: these rows and columns, of these members of the batch.
struct Job<'a, R: Real> {
    step: &'a Product,
    operands: &'a Operands<'a>,
    products: &'a [Option<One<'a, R>>; PRODUCTS],
    /// Whether the first product is made of sums along rows and columns.
    by_dots: bool,
    /// The one product that is made, if the program is left for later.
    bare: Option<usize>,
    batch: Range<usize>,
    rows: Range<usize>,
    cols: Range<usize>,
    out: Shared,
}

impl<R: Real> Job<'_, R> {
    fn run(self) -> Result<(), NoMemory> {
        Arch::new().dispatch(self)
    }

    /// Whether a program looks at whole rows, so that columns cannot be divided.
    fn by_rows(&self) -> bool {
        let mut programs = self.step.programs();
        self.bare.is_none()
            && (self.step.second.is_some() || programs.any(|then| then.program.whole_rows))
    }

    /// Whether there are fewer rows than would keep the threads busy, and a program looks at whole
    /// ones.
    fn is_few_whole_rows(&self, threads: usize) -> bool {
        let rows = self.batch.len() * self.rows.len();
        rows < MAX_ROWS * threads && self.by_rows() && self.step.second.is_none()
    }

    /// Has the threads share the columns of the products, and runs the program then.
    fn in_two_steps(mut self, help: Help, out: Out<'_>, workers: &Workers) -> Result<(), NoMemory> {
        let mut raws: SmallVec<[Vec<R>; 2]> = SmallVec::new();
        for which in (0..2).filter(|&which| self.products[which].is_some()) {
            let mut raw: Vec<R> = reserved(&[out.len()])?;
            self.out = R::out(places(&mut raw.spare_capacity_mut()[..out.len()])).shared();
            self.bare = Some(which);
            let parts = self.clone().divided(help.threads);
            workers.try_share(help, parts.into_iter(), Job::run)?;
            // SAFETY: there is room for so many, and the jobs wrote every element of the product.
            unsafe { raw.set_len(out.len()) };
            raws.push(raw);
        }
        let raws: Raws<'_, R> = raws.iter().map(|raw| &raw[..]).collect();
        self.program(0, &raws, 0, out);
        Ok(())
    }

    /// Divided into parts for `threads` threads.
    fn divided(self, threads: usize) -> SmallVec<[Self; 8]> {
        let count = self.batch.len();
        if threads == 1 {
            return SmallVec::from_iter([self]);
        }
        if count >= threads {
            let batches = cut(self.batch.clone(), threads * PARTS, 1);
            return batches
                .map(|batch| self.with(|job| job.batch = batch))
                .collect();
        }
        let parts = threads.div_ceil(count);
        let mut all = self.products[..2].iter().flatten();
        let packed = all.all(|one| one.packed.is_some());
        let by_rows = self.by_rows() || packed && self.rows.len() >= MANY_ROWS * parts;
        // a right side that is not packed is made ready for each part of the rows again
        let (parts, rows) = match by_rows && !packed {
            true => (parts, MAX_ROWS * 3),
            false => (parts * PARTS, MAX_ROWS),
        };
        let each = self
            .batch
            .clone()
            .map(|i| self.with(|job| job.batch = i..i + 1));
        let divide = |job: Self| -> SmallVec<[Self; 8]> {
            match by_rows {
                true => cut(job.rows.clone(), parts, rows)
                    .map(|rows| job.with(|job| job.rows = rows))
                    .collect(),
                false => cut(job.cols.clone(), parts, MAX_WIDTH)
                    .map(|cols| job.with(|job| job.cols = cols))
                    .collect(),
            }
        };
        each.flat_map(divide).collect()
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut job = self.clone();
        change(&mut job);
        job
    }
}

impl<R: Real> Clone for Job<'_, R> {
    fn clone(&self) -> Self {
        Self {
            batch: self.batch.clone(),
            rows: self.rows.clone(),
            cols: self.cols.clone(),
            ..*self
        }
    }
}

/// Cuts a range into `parts` parts of about the same size, each a multiple of `unit`.
fn cut(range: Range<usize>, parts: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let each = range.len().div_ceil(parts).next_multiple_of(unit).max(1);
    let end = range.end;
    range
        .step_by(each)
        .map(move |first| first..end.min(first + each))
}
