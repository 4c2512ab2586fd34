//! *How* to compute a fragment: pure functions, run on the producer's thread.

pub(crate) mod batch;
mod beside;
mod cache;
mod constants;
mod draft;
pub(crate) mod effort;
mod emit;
mod epilogue;
mod estimate;
mod explain;
mod fuse;
mod layout;
mod outline;
pub(crate) mod product;
pub(crate) mod program;
mod role;
mod signature;
mod simplify;
pub(crate) mod types;
mod walk;

use crate::error::Result;
use crate::graph::cut::{Cut, Pins};
use crate::graph::fragment::{Fragment, Source, ValueId};
use crate::graph::{Dims, LazyTensor, Node, Op};
use beside::Beside;
use cache::Age;
pub(crate) use cache::Cache;
use candle_core::DType;
use draft::Draft;
pub(crate) use draft::PlannedOp;
pub use explain::Explanation;
use outline::Outline;
pub(crate) use product::Product;
pub(crate) use program::Fused;
use rustc_hash::FxHashSet;
use signature::{Signature, Signing};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// The numbers that a plan takes as parameters.
pub(crate) type Scalars = SmallVec<[f32; 8]>;

/// What the owner does for one fragment: steps in order, and after each the values that nobody
/// needs any more. A function of the fragment's structure only: the data, the numbers and what
/// cannot be compared stand in [`Prepared`].
#[derive(Debug)]
pub(crate) struct Plan {
    /// The number of values.
    pub(crate) values: usize,
    /// In an order in which every operand is computed before it is used.
    pub(crate) steps: Vec<Step>,
    /// Which of them run side by side.
    pub(crate) beside: Beside,
    /// After which step (by its place) which value is done with; in the order of the steps.
    pub(crate) last_uses: SmallVec<[(u32, ValueId); 6]>,
    /// The values asked for.
    pub(crate) outputs: SmallVec<[ValueId; 1]>,
    /// What says with which others it runs well.
    pub(crate) outline: Outline,
    /// About how long it takes, if that is known.
    estimate: Option<Duration>,
}

/// One thing for the device to do.
#[derive(Debug)]
pub(crate) enum Step {
    /// One operation, by Candle.
    Op(OpStep),
    /// Many at once, by the CPU engine.
    Fused(Box<Fused>),
    /// A matrix product and what follows it, by the CPU engine.
    Product(Box<Product>),
}

/// One operation, by Candle.
#[derive(Debug)]
pub(crate) struct OpStep {
    pub(crate) value: ValueId,
    pub(crate) op: PlannedOp,
    pub(crate) inputs: SmallVec<[ValueId; 3]>,
    pub(crate) dims: Dims,
    pub(crate) dtype: DType,
}

/// A fragment with its plan.
pub(crate) struct Prepared<S> {
    pub(crate) plan: Arc<Plan>,
    /// The values that it does not compute, by their numbers.
    pub(crate) sources: Vec<(ValueId, Source<S>)>,
    /// The operations that the plan leaves to the fragment.
    pub(crate) attached: SmallVec<[Op; 1]>,
    pub(crate) scalars: Scalars,
}

thread_local! {
    /// Used again, so that a look-up allocates nothing.
    static SIGNATURE: RefCell<Signature> = RefCell::default();
}

/// What a planner does. See [`Builder::passes`](crate::executor::Builder::passes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passes {
    /// Compute equal subexpressions once, also across the outputs of a submission.
    pub merge: bool,
    /// Leave out what changes nothing: casts to the same dtype, a transposition and its
    /// inverse, a reshape of a reshape; and compute what is made of `zeros`, `ones` and `full`
    /// alone when the plan is made, where that is exact.
    pub simplify: bool,
    /// Run several operations as one step. On the CPU only.
    ///
    /// A step of f16 or bf16 computes in f32 and rounds once, when its result is stored, and where
    /// the graph casts to such a dtype; eager Candle rounds after each operation. So its results
    /// differ from eager ones, and are closer to the exact ones: what overflows in between does
    /// not become infinite.
    pub fuse: bool,
}

impl Passes {
    /// All of them: the default.
    pub const ALL: Self = Self {
        merge: true,
        simplify: true,
        fuse: true,
    };
    /// None: every operation runs by itself through Candle, bit for bit as eager Candle.
    pub const NONE: Self = Self {
        merge: false,
        simplify: false,
        fuse: false,
    };
}

/// Makes plans, and keeps those that it made.
pub(crate) struct Planner {
    passes: Passes,
    cache: Cache<Plan>,
}

impl Planner {
    /// A planner that keeps at most `kept` plans.
    pub(crate) fn new(passes: Passes, kept: usize) -> Self {
        Self {
            passes,
            cache: Cache::new(kept),
        }
    }

    /// The plan of a fragment, and the fragment's own part in it.
    pub(crate) fn prepare<S>(&self, fragment: Fragment<S>) -> Prepared<S> {
        let mut signature = take();
        let scalars = signature.of(&fragment, self.passes.fuse);
        let plan = self.cache.get(&signature).unwrap_or_else(|age| {
            let plan = Arc::new(plan(Draft::new(&fragment, self.passes.fuse), self.passes));
            self.cache.put(signature.clone(), &plan, age);
            plan
        });
        keep(signature);
        let computed = fragment.computed.into_iter();
        let attached = computed.filter(|node| node.op.is_opaque());
        let sources = fragment.sources.into_iter();
        Prepared {
            plan,
            sources: sources
                .map(|source| (source.value, source.source))
                .collect(),
            attached: attached.map(|node| node.op).collect(),
            scalars,
        }
    }

    /// The plan for what these nodes need, if there is one, without a fragment, and the bytes of host
    /// data that count. Nothing also if one of them is the result of another fragment.
    ///
    /// # Errors
    /// Those of [`Cut::visit`].
    pub(crate) fn find<'a, S>(
        &self,
        outputs: impl IntoIterator<Item = &'a LazyTensor>,
        submitted: impl FnMut(&Node) -> Result<Option<S>>,
    ) -> Result<Option<(Prepared<S>, u64)>> {
        let mut signature = take();
        let mut cut = Cut::new(submitted, Signing::new(&mut signature, self.passes.fuse));
        cut.ask(outputs, &mut Pins::new())?;
        let mut signing = cut.into;
        let scalars = signing.scalars();
        let (attached, host_bytes) = (signing.attached, signing.host_bytes);
        let (sources, simple) = (signing.sources, !signing.asks_for_known);
        let plan = simple.then(|| self.cache.get(&signature).ok()).flatten();
        keep(signature);
        let prepared = plan.map(|plan| Prepared {
            plan,
            sources,
            attached,
            scalars,
        });
        Ok(prepared.map(|prepared| (prepared, host_bytes)))
    }

    /// What `cache` has for fragments like this one, which makes the arguments of a compiled
    /// function; `more` is what else the function sees of them. Else what is needed to put it
    /// there. With it, the numbers that are parameters.
    pub(crate) fn look_up<S, V>(
        &self,
        fragment: &Fragment<S>,
        more: impl IntoIterator<Item = u64>,
        cache: &Cache<V>,
    ) -> (std::result::Result<Arc<V>, Missing>, Scalars) {
        let mut signature = take();
        let scalars = signature.of(fragment, self.passes.fuse);
        signature.and(more);
        let found = cache.get(&signature);
        let found = found.map_err(|age| Missing(signature.clone(), age));
        keep(signature);
        (found, scalars)
    }

    /// How a fragment would run.
    pub(crate) fn explain<S>(&self, fragment: &Fragment<S>) -> Explanation {
        let plan = plan(Draft::new(fragment, self.passes.fuse), self.passes);
        explain::explain(fragment, &plan)
    }

    /// How many plans were made, and how many are kept.
    pub(crate) fn counts(&self) -> (u64, usize) {
        self.cache.counts()
    }
}

/// The memory of this thread's last signature; new memory while the thread ends.
fn take() -> Signature {
    SIGNATURE.try_with(RefCell::take).unwrap_or_default()
}

/// Keeps the memory of a signature for the next one of this thread.
fn keep(signature: Signature) {
    if signature.words.len() <= cache::LONGEST {
        // a longer one would be memory for nothing, and so would one of a thread that ends
        let _ = SIGNATURE.try_with(|kept| kept.replace(signature));
    }
}

/// A signature for which a cache had nothing.
pub(crate) struct Missing(Signature, Age);

impl Missing {
    /// Keeps what was made for it.
    pub(crate) fn put<V>(self, value: &Arc<V>, cache: &Cache<V>) {
        cache.put(self.0, value, self.1);
    }
}

/// The plan of a draft.
fn plan(mut draft: Draft, passes: Passes) -> Plan {
    draft.drop_dead();
    if passes.simplify {
        simplify::identities(&mut draft);
        constants::fold(&mut draft);
    }
    if passes.merge {
        simplify::merge(&mut draft);
    }
    let steps = match passes.fuse {
        true => fuse::steps(&draft),
        false => draft.nodes.iter().map(|n| op_step(&draft, n)).collect(),
    };
    let (mut steps, beside) = beside::arrange(steps, draft.values.len());
    let last_uses = last_uses(&steps, &draft.outputs, draft.values.len());
    write_over(&draft, &mut steps, &beside, &last_uses);
    Plan {
        values: draft.values.len(),
        outline: Outline::of(&steps, &draft),
        estimate: effort::estimate(&steps, &draft),
        steps,
        beside,
        last_uses,
        outputs: draft.outputs,
    }
}

/// A node as a step of its own.
fn op_step(draft: &Draft, node: &draft::DraftNode) -> Step {
    let info = draft.info(node.value);
    Step::Op(OpStep {
        value: node.value,
        op: node.op.clone(),
        inputs: node.inputs.clone(),
        dims: info.dims.clone(),
        dtype: info.dtype,
    })
}

impl Plan {
    /// About how long the plan takes on one thread; `None` if it runs an operation whose time cannot be
    /// estimated: a custom one, or a quantized product.
    pub(crate) fn estimate(&self) -> Option<Duration> {
        self.estimate
    }

    /// The values that a step needs, or that were asked for.
    pub(crate) fn read(&self) -> FxHashSet<ValueId> {
        let used = self.last_uses.iter().map(|&(_, used)| used);
        used.chain(self.outputs.iter().copied()).collect()
    }

    /// The steps in order: each by itself, or several that run side by side.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let mut beside = self.beside.iter().peekable();
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = next;
            let several = beside.next_if(|range| range.start as usize == start);
            next = several.map_or(start + 1, |range| range.end as usize);
            (start < self.steps.len()).then_some(start..next)
        })
    }
}

impl Step {
    /// The value that it computes.
    pub(crate) fn value(&self) -> ValueId {
        match self {
            Step::Op(step) => step.value,
            Step::Fused(step) => step.value,
            Step::Product(step) => step.value,
        }
    }

    /// The shape of that value.
    pub(crate) fn dims(&self) -> &[usize] {
        match self {
            Step::Op(step) => &step.dims,
            Step::Fused(step) => &step.dims,
            Step::Product(step) => &step.dims,
        }
    }

    /// The values that it reads.
    pub(crate) fn inputs(&self) -> SmallVec<[ValueId; 4]> {
        match self {
            Step::Op(step) => step.inputs.iter().copied().collect(),
            Step::Fused(step) => step.inputs.iter().map(|input| input.value).collect(),
            Step::Product(step) => step.inputs(),
        }
    }
}

/// Lets fused steps write their results over operands that the engine made and that end with them.
/// Not steps beside others, which may still be reading.
fn write_over(draft: &Draft, steps: &mut [Step], beside: &Beside, last_uses: &[(u32, ValueId)]) {
    let made = |step: &Step| (!matches!(step, Step::Op(_))).then(|| step.value());
    let own: FxHashSet<ValueId> = steps.iter().filter_map(made).collect();
    let alone = |place: &u32| !beside.iter().any(|range| range.contains(place));
    for &(place, value) in last_uses.iter().filter(|(place, _)| alone(place)) {
        if let (Step::Fused(step), true) = (&mut steps[place as usize], own.contains(&value)) {
            step.write_over(value, draft.info(value));
        }
    }
}

/// Walking backwards, the first use met is the last; outputs have none.
fn last_uses(steps: &[Step], outputs: &[ValueId], values: usize) -> SmallVec<[(u32, ValueId); 6]> {
    let mut needed: SmallVec<[bool; 32]> = SmallVec::from_elem(false, values);
    let mut uses = SmallVec::new();
    for &output in outputs {
        needed[output as usize] = true;
    }
    for (place, step) in steps.iter().enumerate().rev() {
        for input in step.inputs() {
            if !std::mem::replace(&mut needed[input as usize], true) {
                uses.push((place as u32, input));
            }
        }
    }
    uses.reverse();
    uses
}

#[cfg(test)]
mod signature_tests;
#[cfg(test)]
mod tests;
