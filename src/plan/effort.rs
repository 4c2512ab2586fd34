//! About how long a step of the engine takes, as far as that decides who runs it.

use super::draft::Draft;
use super::layout::is_view;
use super::product::Sides;
use super::program::{RowOp, What};
use super::types::Compute;
use super::{Fused, OpStep, Product, Step};
use crate::graph::{Op, UnaryOp};
use std::time::Duration;

/// From this number of simple operations on, of one step or of several that run side by side, sleeping helpers
/// are woken, which takes as long as many simple operations. The thread that runs the step does not wait for a
/// helper that has not begun.
pub(crate) const WORTH_HELP: usize = 1 << 21;
/// From this number of simple operations on, some five microseconds, a fused step is shared with helpers that are
/// awake and looking for work. A helper that takes a part at the end of a shorter step would delay the step by
/// more than it takes.
pub(crate) const WORTH_SHARING: usize = 1 << 16;
/// The number of simple operations from which on products, alone or beside other steps, are shared with such
/// helpers: a simple operation of a product takes less time.
pub(crate) const PRODUCT_WORTH_SHARING: usize = 1 << 18;

/// How many multiplications take as long as reading one number from memory.
const READING: usize = 8;

/// How many simple operations take as long as beginning and ending a step: about 300 ns.
const STEP: usize = 4096;
/// How many simple operations take as long as what Candle does for each number that an operation reads or
/// makes: it has no vector code.
const CANDLE: usize = 16;
/// Simple operations in a microsecond, on one thread.
const IN_A_MICROSECOND: usize = 13_000;

/// About how long these steps take on one thread; `None` if one of them is an operation whose time cannot be
/// estimated: a custom one, or a quantized product.
pub(super) fn estimate(steps: &[Step], draft: &Draft) -> Option<Duration> {
    let mut sum = 0_usize;
    for step in steps {
        let effort = match step {
            Step::Op(step) => candle(step, draft)?,
            step => step.effort(),
        };
        sum = sum.saturating_add(effort).saturating_add(STEP);
    }
    let nanos = (sum as u128 * 1000) / IN_A_MICROSECOND as u128;
    Some(Duration::from_nanos(nanos.try_into().unwrap_or(u64::MAX)))
}

/// How many simple operations take as long as an operation that Candle runs; `None` if it cannot be estimated.
fn candle(step: &OpStep, draft: &Draft) -> Option<usize> {
    let op = step.op.own()?;
    if is_view(op) {
        return Some(0);
    }
    let count = |dims: &[usize]| dims.iter().fold(1_usize, |n, &d| n.saturating_mul(d));
    let operands = step.inputs.iter().map(|&input| draft.info(input));
    let read = operands
        .clone()
        .map(|info| count(&info.dims))
        .fold(0, usize::saturating_add);
    let made = count(&step.dims);
    // each number that is made is a sum over a dimension, or over a kernel
    let terms = match op {
        Op::Matmul | Op::BroadcastMatmul => {
            operands.clone().next().and_then(|x| x.dims.last().copied())
        }
        Op::Conv1d(_) | Op::Conv2d(_) => operands
            .clone()
            .nth(1)
            .map(|kernel| count(&kernel.dims[1..])),
        Op::MaxPool2d(window) | Op::AvgPool2d(window) => {
            Some(window.kernel.0.saturating_mul(window.kernel.1))
        }
        _ => None,
    };
    let sums = made.saturating_mul(terms.unwrap_or(0)).saturating_mul(2);
    let moved = read.saturating_add(made).saturating_mul(CANDLE);
    Some(moved.saturating_add(sums))
}

impl Step {
    /// About how many simple operations take as long as this step; 0 for a step that Candle runs.
    pub(crate) fn effort(&self) -> usize {
        match self {
            Step::Op(_) => 0,
            Step::Fused(step) => step.effort(),
            Step::Product(step) => step.effort(),
        }
    }
}

impl Fused {
    /// About how many simple operations take as long as this step. A function of an f64 counts four times as
    /// much as one of an f32, because it is a call of the standard library.
    pub(crate) fn effort(&self) -> usize {
        let function = if self.compute == Compute::F64 { 32 } else { 8 };
        let cost = |what| match what {
            What::Unary(op, _) if is_function(op) => function,
            What::Elu(..) | What::Powf(..) => function,
            What::Row(RowOp::Softmax | RowOp::LogSoftmax, _) => function + 4,
            What::Pair { .. } => 2,
            What::RmsNorm(..) => 3,
            What::LayerNorm(..) => 4,
            _ => 1,
        };
        let each: usize = self.instrs.iter().map(|instr| cost(instr.what)).sum();
        self.rows.saturating_mul(self.cols).saturating_mul(each)
    }
}

/// Whether an operation takes more than an instruction or two for each element.
fn is_function(op: UnaryOp) -> bool {
    use UnaryOp::{Abs, Ceil, Floor, Neg, Recip, Relu, Round, Sign, Sqr, Sqrt};
    let simple = matches!(
        op,
        Neg | Recip | Sqr | Sqrt | Abs | Floor | Ceil | Round | Sign | Relu
    );
    !simple
}

impl Product {
    /// About how many simple operations take as long as this step: its multiplications, its additions, and the
    /// reading of the right sides, which is nearly all of the time when there are few rows.
    pub(crate) fn effort(&self) -> usize {
        let rows = self.m.saturating_add(READING);
        let each = |Sides { k, n, .. }: Sides<'_>| [2, self.count(), rows, n, k];
        let products = self.sides().into_iter().flatten().map(each);
        let times = |sizes: [usize; 5]| sizes.into_iter().fold(1, usize::saturating_mul);
        products.map(times).fold(0, usize::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Passes, Planner};
    use super::*;
    use crate::graph::LazyTensor;
    use crate::graph::fragment::Fragment;
    use candle_core::{CpuStorage, CustomOp1, D, DType, Device, Layout, Shape};

    fn x(dims: &[usize], dtype: DType) -> LazyTensor {
        LazyTensor::from(candle_core::Tensor::zeros(dims, dtype, &Device::Cpu).unwrap())
    }

    fn numbers(count: usize) -> LazyTensor {
        x(&[count], DType::F32)
    }

    fn estimate_with(passes: Passes, y: &LazyTensor) -> Option<Duration> {
        let fragment = Fragment::<()>::cut([y], |_| Ok(None)).unwrap();
        Planner::new(passes, 0).prepare(fragment).plan.estimate()
    }

    fn estimate(y: &LazyTensor) -> Duration {
        estimate_with(Passes::ALL, y).unwrap()
    }

    /// What a step of so many simple operations takes.
    fn operations(count: usize) -> Duration {
        let nanos = (count + STEP) as u64 * 1000 / IN_A_MICROSECOND as u64;
        Duration::from_nanos(nanos)
    }

    /// A step of simple operations takes a microsecond for so many of them, its beginning and end included: with
    /// one number less it takes less.
    #[test]
    fn a_microsecond_is_so_many_simple_operations() {
        for micros in [1, 2, 50, 1000] {
            let count = IN_A_MICROSECOND * micros - STEP;
            let time = Duration::from_micros(micros as u64);
            let takes = |count| estimate(&(numbers(count) + 1.0).unwrap());
            assert_eq!(takes(count), time);
            assert!(takes(count - 1) < time);
            assert!(takes(count + 13) > time);
        }
    }

    /// A function is worth several simple operations, more of them in f64; a root is a simple one.
    #[test]
    fn functions_take_longer_than_simple_operations() {
        const N: usize = 10_000;
        assert_eq!(estimate(&numbers(N).sqrt().unwrap()), operations(N));
        assert_eq!(estimate(&numbers(N).exp().unwrap()), operations(8 * N));
        let double = x(&[N], DType::F64).exp().unwrap();
        assert_eq!(estimate(&double), operations(32 * N));
        let softmax = x(&[100, 100], DType::F32).softmax(D::Minus1).unwrap();
        assert_eq!(estimate(&softmax), operations(12 * N));
    }

    /// With few rows a product takes as long as reading its right side.
    #[test]
    fn a_product_reads_what_it_multiplies() {
        let product = |rows| {
            let right = x(&[64, 32], DType::F32);
            estimate(&x(&[rows, 64], DType::F32).matmul(&right).unwrap())
        };
        assert_eq!(product(1), operations(2 * (1 + READING) * 64 * 32));
        assert_eq!(product(100), operations(2 * (100 + READING) * 64 * 32));
    }

    /// Candle takes longer for each number that it reads or makes; how long code of the user's own takes is not
    /// known, whatever stands beside it.
    #[test]
    fn what_candle_does_takes_longer_and_foreign_code_nobody_knows_how_long() {
        const N: usize = 1000;
        let exp = numbers(N).exp().unwrap();
        let by_candle = estimate_with(Passes::NONE, &exp);
        assert_eq!(by_candle, Some(operations(2 * N * CANDLE)));
        let foreign = exp.apply_op1(Foreign, N, DType::F32).unwrap();
        let beside = (&foreign + 1.0).unwrap();
        for y in [&foreign, &beside] {
            assert_eq!(estimate_with(Passes::ALL, y), None);
        }
    }

    struct Foreign;

    impl CustomOp1 for Foreign {
        fn name(&self) -> &'static str {
            "foreign"
        }
        fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
            Ok((s.clone(), l.shape().clone()))
        }
    }
}
