//! Which steps run side by side: small ones that have nothing to do with each other.
//!
//! A large step is divided among the threads. A small one is not worth that, but several together
//! are: each runs on one thread then. Going through the steps in order, a small one takes along
//! later small ones whose operands are there already.

use super::Step;
use super::effort::WORTH_HELP;
use crate::graph::fragment::ValueId;
use smallvec::SmallVec;
use std::ops::Range;

/// The most steps that run side by side: their results take up memory at the same time.
const MOST: usize = 32;
/// How many steps ahead the search for such steps looks: a result that is made early is kept for long.
const AHEAD: usize = 64;

/// Ranges of steps that run side by side, in order; most plans have none.
pub(crate) type Beside = SmallVec<[Range<u32>; 2]>;

/// Puts steps that run side by side next to each other. Every operand is still computed before it
/// is used.
pub(super) fn arrange(steps: Vec<Step>, values: usize) -> (Vec<Step>, Beside) {
    arrange_from(steps, values, WORTH_HELP)
}

/// The same, where steps of this effort together are worth a second thread.
fn arrange_from(steps: Vec<Step>, values: usize, worth: usize) -> (Vec<Step>, Beside) {
    let mut pending = vec![false; values];
    for step in &steps {
        pending[step.value() as usize] = true;
    }
    let mut left: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
    let mut arranged: Vec<Step> = Vec::with_capacity(left.len());
    let mut beside = Beside::new();
    for first in 0..left.len() {
        if left[first].is_none() {
            continue;
        }
        let places = together(&left, first, &pending, worth);
        let start = arranged.len() as u32;
        arranged.extend(places.iter().filter_map(|&place| left[place].take()));
        let range = start..arranged.len() as u32;
        for step in &arranged[start as usize..] {
            pending[step.value() as usize] = false;
        }
        if range.len() > 1 {
            beside.push(range);
        }
    }
    (arranged, beside)
}

/// The steps that run beside the first one that is left, which is among them.
fn together(
    left: &[Option<Step>],
    first: usize,
    pending: &[bool],
    worth: usize,
) -> SmallVec<[usize; 8]> {
    let is_made = |value: &ValueId| !pending[*value as usize];
    let fits = |step: &Step| is_small(step) && step.inputs().iter().all(is_made);
    let alone = SmallVec::from_elem(first, 1);
    if !left[first].as_ref().is_some_and(fits) {
        return alone;
    }
    let ahead = left.len().min(first + AHEAD);
    let fit = (first..ahead).filter(|&place| left[place].as_ref().is_some_and(fits));
    let places: SmallVec<[usize; 8]> = fit.take(MOST).collect();
    let effort = |&place: &usize| left[place].as_ref().map_or(0, Step::effort);
    match places.iter().map(effort).sum::<usize>() >= worth {
        true => places,
        false => alone,
    }
}

/// Whether the engine runs the step, on one thread.
fn is_small(step: &Step) -> bool {
    !matches!(step, Step::Op(_)) && step.effort() < WORTH_HELP
}

#[cfg(test)]
mod tests {
    use super::super::{Passes, Plan, Planner, Step};
    use super::{WORTH_HELP, arrange_from};
    use crate::graph::LazyTensor;
    use crate::graph::fragment::Fragment;
    use candle_core::{Device, Tensor};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn plan(outputs: &[&LazyTensor]) -> Arc<Plan> {
        let fragment = Fragment::<()>::cut(outputs.iter().copied(), |_| Ok(None)).unwrap();
        Planner::new(Passes::ALL, 0).prepare(fragment).plan
    }

    fn leaf(rows: usize, cols: usize) -> LazyTensor {
        LazyTensor::from(
            Tensor::zeros((rows, cols), candle_core::DType::F32, &Device::Cpu).unwrap(),
        )
    }

    /// Each of `count` products by a program on it.
    fn branches(count: usize, size: usize) -> LazyTensor {
        let x = leaf(size, size);
        let branch = |_| x.matmul(&leaf(size, size)).unwrap().sum_all().unwrap();
        let branches: Vec<LazyTensor> = (0..count).map(branch).collect();
        LazyTensor::stack(&branches, 0).unwrap()
    }

    #[test]
    fn small_branches_run_side_by_side() {
        let plan = plan(&[&branches(8, 64)]);
        let beside: Vec<usize> = plan.beside.iter().map(ExactSizeIterator::len).collect();
        assert_eq!(beside.first(), Some(&8), "{plan:?}");
    }

    #[test]
    fn neither_few_small_ones_nor_large_ones() {
        assert!(plan(&[&branches(2, 16)]).beside.is_empty());
        assert!(plan(&[&branches(8, 512)]).beside.is_empty());
    }

    /// Two steps of so many simple operations that have nothing to do with each other.
    fn two(efforts: [usize; 2]) -> usize {
        let [x, y] = efforts.map(|effort| (leaf(1, effort) + 1.0).unwrap());
        let plan = plan(&[&x, &y]);
        let made: Vec<usize> = plan.steps.iter().map(Step::effort).collect();
        assert_eq!(made, efforts);
        plan.beside.iter().map(ExactSizeIterator::len).sum()
    }

    /// Together they are worth another thread from here on; one that is worth it by itself is divided instead.
    #[test]
    fn steps_run_side_by_side_from_the_effort_that_is_worth_help() {
        const HALF: usize = WORTH_HELP / 2;
        assert_eq!(two([HALF, HALF]), 2);
        assert_eq!(two([HALF, HALF - 1]), 0);
        assert_eq!(two([WORTH_HELP - 16, 16]), 2);
        assert_eq!(two([WORTH_HELP, 16]), 0);
    }

    #[test]
    fn operands_come_first_and_every_step_once() {
        let (x, mut last) = (leaf(64, 64), Vec::new());
        for _ in 0..6 {
            let y = x.matmul(&leaf(64, 64)).unwrap().softmax(1).unwrap();
            last.push(
                y.matmul(&leaf(64, 64))
                    .unwrap()
                    .t()
                    .unwrap()
                    .softmax(1)
                    .unwrap(),
            );
        }
        let sum = last
            .iter()
            .skip(1)
            .fold(last[0].clone(), |sum, y| (sum + y).unwrap());
        let plan = plan(&[&sum]);
        assert!(!plan.beside.is_empty());
        let mut made = vec![false; plan.values];
        let steps: Vec<_> = plan.steps.iter().map(|step| step.value()).collect();
        for range in plan.ranges() {
            let steps = &plan.steps[range];
            for input in steps.iter().flat_map(|step| step.inputs()) {
                assert!(made[input as usize] || !steps_make(&plan, input));
            }
            for step in steps {
                assert!(!std::mem::replace(&mut made[step.value() as usize], true));
            }
        }
        assert!(steps.iter().all(|&value| made[value as usize]));
    }

    fn steps_make(plan: &Plan, value: u32) -> bool {
        plan.steps.iter().any(|step| step.value() == value)
    }

    /// A graph of so many operations on random earlier results.
    fn random(nodes: usize, rng: &mut impl Rng) -> Vec<LazyTensor> {
        let mut values = vec![leaf(3, 3), leaf(3, 3)];
        for _ in 0..nodes {
            let pick = |rng: &mut _| values[Rng::random_range(rng, 0..values.len())].clone();
            let (x, y) = (pick(rng), pick(rng));
            values.push(match rng.random_range(0..5) {
                0 => x.matmul(&y).unwrap(),
                1 => x.softmax(1).unwrap(),
                2 => x.t().unwrap().contiguous().unwrap(),
                3 => x
                    .arg_sort_last_dim(true)
                    .unwrap()
                    .to_dtype(x.dtype())
                    .unwrap(),
                _ => (&x + &y).unwrap(),
            });
        }
        values
    }

    /// However steps are arranged: each once, its operands before it, none of them beside it.
    #[test]
    fn any_graph_keeps_its_order() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut together = 0;
        for round in 0..300 {
            let all = random(1 + round % 60, &mut rng);
            let plan = plan(&all.iter().skip(2).step_by(3).collect::<Vec<_>>());
            let Ok(plan) = Arc::try_unwrap(plan) else {
                unreachable!("nothing is kept")
            };
            let (count, computed): (_, BTreeSet<u32>) = (
                plan.steps.len(),
                plan.steps.iter().map(Step::value).collect(),
            );
            let (steps, beside) = arrange_from(plan.steps, plan.values, 1);
            assert_eq!(steps.len(), count);
            let mut made = BTreeSet::new();
            let mut ranges = beside.iter().peekable();
            let mut next = 0u32;
            while let Some(first) = steps.get(next as usize) {
                let several = ranges.next_if(|range| range.start == next);
                let range = several.cloned().unwrap_or(next..next + 1);
                together += usize::from(range.len() > 1);
                assert!(range.len() == 1 || !matches!(first, Step::Op(_)));
                let steps = &steps[range.start as usize..range.end as usize];
                for input in steps.iter().flat_map(Step::inputs) {
                    assert!(made.contains(&input) || !computed.contains(&input));
                }
                made.extend(steps.iter().map(Step::value));
                next = range.end;
            }
            assert_eq!(made, computed);
            assert!(ranges.next().is_none());
        }
        assert!(together > 300, "{together}");
    }
}
