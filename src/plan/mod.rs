//! *How* to compute a fragment: pure functions, run on the producer's thread.

use crate::graph::fragment::{Computed, Fragment, Source, ValueId};
use smallvec::SmallVec;

/// One thing for the device to do.
pub(crate) type Step = Computed;

/// The sources of a plan's inputs, in the plan's order.
pub(crate) type Sources<S> = SmallVec<[(ValueId, Source<S>); 4]>;

/// What the owner does for one fragment: steps in order, and after each the values that nobody
/// needs any more. A function of the fragment's structure only; the data stands in [`Sources`].
#[derive(Debug)]
pub(crate) struct Plan {
    /// The number of values.
    pub(crate) values: usize,
    /// In an order in which every operand is computed before it is used.
    pub(crate) steps: Vec<Step>,
    /// After which step (by its place) which value is done with; in the order of the steps.
    pub(crate) last_uses: SmallVec<[(u32, ValueId); 6]>,
    /// The values asked for.
    pub(crate) outputs: SmallVec<[ValueId; 1]>,
}

impl Plan {
    /// The plan of a fragment, and where its inputs come from.
    pub(crate) fn new<S>(fragment: Fragment<S>) -> (Self, Sources<S>) {
        let Fragment {
            values,
            sources,
            computed,
            outputs,
            ..
        } = fragment;
        let mut plan = Plan {
            values: values as usize,
            steps: computed,
            last_uses: SmallVec::new(),
            outputs,
        };
        plan.drop_dead_steps_and_find_last_uses();
        (plan, sources)
    }

    /// Walking backwards, a value that nobody has needed yet is dead, and the first use met is
    /// the last.
    fn drop_dead_steps_and_find_last_uses(&mut self) {
        let mut needed: SmallVec<[bool; 32]> = SmallVec::from_elem(false, self.values);
        for &output in &self.outputs {
            needed[output as usize] = true;
        }
        let mut dead = 0;
        for (place, step) in self.steps.iter().enumerate().rev() {
            if !needed[step.value as usize] {
                dead += 1;
                continue;
            }
            for &input in &step.inputs {
                if !std::mem::replace(&mut needed[input as usize], true) {
                    self.last_uses.push((place as u32, input));
                }
            }
        }
        self.last_uses.reverse();
        if dead > 0 {
            self.steps.retain(|step| needed[step.value as usize]);
            self.last_uses.clear();
            self.drop_dead_steps_and_find_last_uses();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Op;
    use candle_core::DType;

    fn step(value: ValueId, inputs: &[ValueId]) -> Step {
        Computed {
            value,
            op: Op::ToDType(DType::F32),
            inputs: inputs.iter().copied().collect(),
            dims: SmallVec::new(),
            dtype: DType::F32,
        }
    }

    fn plan(values: u32, steps: Vec<Step>, outputs: &[ValueId]) -> Plan {
        let fragment = Fragment::<()> {
            values,
            sources: SmallVec::new(),
            computed: steps,
            outputs: outputs.iter().copied().collect(),
            host_bytes: 0,
        };
        Plan::new(fragment).0
    }

    #[test]
    fn a_value_is_done_with_after_its_last_use_unless_it_is_an_output() {
        // 0 source; 1 = f(0); 2 = g(0, 1); 3 = h(1)
        let steps = vec![step(1, &[0]), step(2, &[0, 1]), step(3, &[1])];
        let plan = plan(4, steps, &[2, 3]);
        assert_eq!(plan.last_uses.as_slice(), [(1, 0), (2, 1)]);
    }

    #[test]
    fn what_no_output_needs_is_not_computed() {
        let steps = vec![step(1, &[0]), step(2, &[1]), step(3, &[0])];
        let plan = plan(4, steps, &[3]);
        assert_eq!(plan.steps.len(), 1);
        assert_eq!(plan.last_uses.as_slice(), [(0, 0)]);
    }
}
