//! A trace: what all calls of a function with the same shapes share, and how a call adds to it.

use super::Roots;
use crate::core::actor::launch::Ready;
use crate::core::store::node_store::{Held, NodeStore};
use crate::core::store::slot::Lean;
use crate::device::runner::Tensors;
use crate::error::Result;
use crate::executor::Asked;
use crate::graph::cut::{Cut, Gather, Pins};
use crate::graph::fragment::{Fragment, Source, ValueId};
use crate::graph::{Node, NodeId, Op};
use crate::plan::{Plan, Prepared, Scalars};
use crate::request::{self, Call, ExecutorHome, size};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;
use std::sync::Arc;

/// The result of a node that was submitted.
pub(super) type Submitted = Held<Tensors>;

/// What a cut asks about each node.
pub(super) trait Asks: FnMut(&Node) -> Result<Option<Submitted>> {}
impl<F: FnMut(&Node) -> Result<Option<Submitted>>> Asks for F {}

/// A function, traced: a plan whose first sources, numbers and custom operations are those of the
/// arguments, and the others.
pub(super) struct Trace {
    plan: Arc<Plan>,
    /// What the function captured.
    captured: Vec<(ValueId, Source<NodeId>)>,
    attached: SmallVec<[Op; 1]>,
    scalars: Scalars,
    /// Arguments that the plan does not read: no call waits for them.
    unused: FxHashSet<ValueId>,
    sizes: SmallVec<[u64; 1]>,
    places: SmallVec<[u32; 1]>,
    /// Keeps alive what it captured.
    _roots: Roots,
}

/// How much of a fragment is the arguments': its beginning.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    sources: usize,
    attached: usize,
    scalars: usize,
    /// Of the arguments only: what the function captured is not a call's, and is there once.
    host_bytes: u64,
}

impl Parts {
    /// Those of a fragment that is nothing but arguments.
    pub(super) fn of<S>(fragment: &Fragment<S>, scalars: usize) -> Self {
        let opaque = fragment.computed.iter().filter(|node| node.op.is_opaque());
        Self {
            sources: fragment.sources.len(),
            attached: opaque.count(),
            scalars,
            host_bytes: fragment.host_bytes,
        }
    }
}

impl Trace {
    /// Plans what the function returned for the arguments that were cut: the trace for later
    /// calls, and this one.
    pub(super) fn make(
        mut cut: Cut<impl Asks, Fragment<Submitted>>,
        roots: Roots,
        parts: Parts,
        home: &Arc<ExecutorHome>,
    ) -> Result<(Self, Asked<Call>)> {
        let mut outputs: SmallVec<[ValueId; 1]> = SmallVec::new();
        let (mut sizes, mut places) = (SmallVec::new(), SmallVec::new());
        let mut known: FxHashMap<ValueId, u32> = FxHashMap::default();
        let mut pins = Pins::new();
        for root in &roots {
            let value = cut.visit(root, &mut pins)?;
            let next = outputs.len() as u32;
            let place = *known.entry(value).or_insert(next);
            places.push(place);
            if place == next {
                outputs.push(value);
                sizes.push(size(root));
            }
        }
        drop(pins);
        cut.into.end(outputs);
        let mut prepared = home.planner.prepare(cut.into);
        let plan = prepared.plan.clone();
        let read = plan.read();
        let values = prepared.sources.iter().map(|source| source.0);
        let unused: FxHashSet<ValueId> = values.filter(|value| !read.contains(value)).collect();
        let captured = prepared.sources[parts.sources..].iter();
        let captured = captured.filter(|source| read.contains(&source.0));
        let captured = captured.map(|(value, source)| (*value, captured_as(source)));
        let trace = Self {
            captured: captured.collect(),
            attached: prepared.attached[parts.attached..]
                .iter()
                .cloned()
                .collect(),
            scalars: Scalars::from_slice(&prepared.scalars[parts.scalars..]),
            plan: plan.clone(),
            unused,
            sizes,
            places,
            _roots: roots,
        };
        prepared
            .sources
            .retain(|(value, _)| !trace.unused.contains(value));
        let call = trace.with(prepared, parts.host_bytes, home);
        Ok((trace, call))
    }

    /// A call with these arguments, which are those of the trace but for the data. `None` if
    /// something that the function captured is gone: cancelled, or no longer referred to.
    pub(super) fn call(
        &self,
        arguments: Fragment<Submitted>,
        mut scalars: Scalars,
        home: &Arc<ExecutorHome>,
    ) -> Option<Asked<Call>> {
        let mut sources = Vec::with_capacity(arguments.sources.len() + self.captured.len());
        for source in arguments.sources {
            if !self.unused.contains(&source.value) {
                sources.push((source.value, source.source));
            }
        }
        for (value, captured) in &self.captured {
            sources.push((*value, captured_by(captured, home)?));
        }
        scalars.extend_from_slice(&self.scalars);
        let own = arguments.computed.into_iter().map(|node| node.op);
        let own = own.filter(Op::is_opaque);
        let prepared = Prepared {
            plan: self.plan.clone(),
            sources,
            attached: own.chain(self.attached.iter().cloned()).collect(),
            scalars,
        };
        Some(self.with(prepared, arguments.host_bytes, home))
    }

    fn with(
        &self,
        prepared: Prepared<Submitted>,
        host_bytes: u64,
        home: &Arc<ExecutorHome>,
    ) -> Asked<Call> {
        let cut = request::Cut::Planned {
            prepared,
            host_bytes,
        };
        Asked {
            ready: Ready::own(Call::new(home, self.sizes.clone()), cut),
            places: self.places.clone(),
        }
    }
}

/// A submitted tensor is kept by its name: a trace takes no interest in the result, so that it
/// can still be cancelled.
fn captured_as(source: &Source<Submitted>) -> Source<NodeId> {
    match source {
        Source::Leaf(tensor, kept) => Source::Leaf(tensor.clone(), kept.clone()),
        Source::Submitted(held) => Source::Submitted(held.slot().id()),
    }
}

fn captured_by(source: &Source<NodeId>, home: &ExecutorHome) -> Option<Source<Submitted>> {
    Some(match source {
        Source::Leaf(tensor, kept) => Source::Leaf(tensor.clone(), kept.clone()),
        Source::Submitted(id) => {
            Source::Submitted(NodeStore::acquire(home.core.store(), *id, Lean::Any).held()?)
        }
    })
}
