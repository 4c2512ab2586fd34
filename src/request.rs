//! What is submitted, as the core's launch asks for it: a graph to be cut and planned, or a call of a
//! compiled function.

use crate::core::actor::launch::{Packed, Request};
use crate::core::actor::shared::Core;
use crate::core::store::node_store::{Found, Held, NodeStore};
use crate::core::store::slot::Lean;
use crate::device::runner::{Runner, Tensors};
use crate::device::work::{Output, Work};
use crate::error::{Error, Result};
use crate::graph::fragment::{Fragment, Left, Source};
use crate::graph::{Home, LazyTensor, Node, NodeId, next_id};
use crate::plan::{Explanation, Planner, Prepared};
use candle_core::{DeviceLocation, Shape};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::borrow::Borrow;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The core of an executor over Candle.
pub(crate) type TheCore = Core<Runner>;

/// What a submitted node keeps of its executor.
pub(crate) struct ExecutorHome {
    pub(crate) id: u64,
    pub(crate) core: Arc<TheCore>,
    pub(crate) location: DeviceLocation,
    pub(crate) planner: Planner,
}

/// A graph of which some nodes are asked for, by references or by tensors of its own.
pub(crate) struct Graph<H, T> {
    home: H,
    /// The distinct ones.
    nodes: SmallVec<[T; 1]>,
}

/// A graph while its caller waits.
pub(crate) type Borrowed<'a> = Graph<&'a Arc<ExecutorHome>, &'a LazyTensor>;

/// A graph that outlives the call.
pub(crate) type Owned = Graph<Arc<ExecutorHome>, LazyTensor>;

/// What has to be computed.
pub(crate) enum Cut {
    /// Its plan is known, and none of the outputs is the result of another fragment.
    Planned {
        prepared: Prepared<Held<Tensors>>,
        host_bytes: u64,
    },
    /// It is to be planned.
    New(Fragment<Held<Tensors>>),
}

/// A call of a compiled function. Its results are its own: no tensor names them.
pub(crate) struct Call {
    home: Arc<ExecutorHome>,
    ids: SmallVec<[NodeId; 1]>,
    /// The size of each.
    sizes: SmallVec<[u64; 1]>,
}

/// What is asked of an executor: by a request of the core's.
pub(crate) trait Ask: Request<Runner, Cut = Cut> {
    /// The results that no tensor names, once they are claimed.
    fn nameless(&self) -> &[NodeId] {
        &[]
    }
}

impl Cut {
    /// Bytes of host data that the fragment brings along.
    pub(crate) fn host_bytes(&self) -> u64 {
        match self {
            Cut::Planned { host_bytes, .. } => *host_bytes,
            Cut::New(fragment) => fragment.host_bytes,
        }
    }

    /// About how long it takes, if its plan is known.
    pub(crate) fn estimate(&self) -> Option<Duration> {
        match self {
            Cut::Planned { prepared, .. } => prepared.plan.estimate(),
            Cut::New(_) => None,
        }
    }

    /// With a plan.
    fn prepared(self, planner: &Planner) -> Prepared<Held<Tensors>> {
        match self {
            Cut::Planned { prepared, .. } => prepared,
            Cut::New(fragment) => planner.prepare(fragment),
        }
    }
}

impl Home for ExecutorHome {
    fn executor(&self) -> u64 {
        self.id
    }
    fn release(&self, id: NodeId) {
        self.core.store().release_node(id);
    }
}

impl ExecutorHome {
    /// The result of a node that was submitted here, if it may be leaned on; an error if it cannot be used
    /// here.
    fn submitted(&self, node: &Node, lean: Lean) -> Result<Found<Tensors>> {
        if node.location != self.location && !node.may_be_on_host() {
            return Err(self.foreign(node.location));
        }
        match node.home.get() {
            None => node.check().map(|()| Found::Nothing),
            Some(home) => {
                self.check(node, &**home)?;
                Ok(NodeStore::acquire(self.core.store(), node.id, lean))
            }
        }
    }

    /// What a cut asks about each node before anything is claimed.
    pub(crate) fn asking(&self) -> impl Fn(&Node) -> Result<Option<Held<Tensors>>> {
        |node: &Node| self.submitted(node, Lean::Any).map(Found::held)
    }

    /// The refusal of a tensor on another device.
    pub(crate) fn foreign(&self, tensor: DeviceLocation) -> Error {
        Error::ForeignDevice {
            tensor,
            executor: self.location,
        }
    }

    /// Refuses more host data than the queue may ever hold.
    pub(crate) fn check_bytes(&self, bytes: u64) -> Result<()> {
        let capacity_bytes = self.core.gate().admission.bytes();
        if bytes > capacity_bytes {
            return Err(Error::TooLarge {
                bytes,
                capacity_bytes,
            });
        }
        Ok(())
    }

    fn check(&self, node: &Node, home: &dyn Home) -> Result<()> {
        if home.executor() == self.id {
            return Ok(());
        }
        Err(Error::ForeignExecutor {
            shape: Shape::from(node.dims.as_slice()),
            dtype: node.dtype,
        })
    }

    /// Marks a node as this executor's. Two executors may race for it: one gets it.
    fn bind(self: &Arc<Self>, node: &Node) -> Result<()> {
        let home = node.home.get_or_init(|| self.clone() as Arc<dyn Home>);
        self.check(node, &**home)
    }
}

impl<'a> Borrowed<'a> {
    /// A graph of which these tensors are asked for, and for each of them, which of its nodes it is.
    pub(crate) fn new(
        home: &'a Arc<ExecutorHome>,
        tensors: impl IntoIterator<Item = &'a LazyTensor>,
    ) -> (Self, SmallVec<[u32; 1]>) {
        let (nodes, places) = distinct(tensors);
        (Self { home, nodes }, places)
    }

    /// With references of its own.
    pub(crate) fn to_owned(&self) -> Owned {
        Owned {
            home: self.home.clone(),
            nodes: self.nodes.iter().copied().cloned().collect(),
        }
    }

    /// How it would run.
    pub(crate) fn explain(
        home: &ExecutorHome,
        tensors: impl IntoIterator<Item = &'a LazyTensor>,
    ) -> Result<Explanation> {
        let (nodes, _) = distinct(tensors);
        let fragment = Fragment::cut(nodes.iter().copied(), home.asking())?;
        home.check_bytes(fragment.host_bytes)?;
        Ok(home.planner.explain(&fragment))
    }
}

impl<H: Borrow<Arc<ExecutorHome>>, T: Borrow<LazyTensor>> Graph<H, T> {
    fn home(&self) -> &Arc<ExecutorHome> {
        self.home.borrow()
    }

    fn tensor(&self, place: usize) -> &LazyTensor {
        self.nodes[place].borrow()
    }
}

impl<H: Borrow<Arc<ExecutorHome>>, T: Borrow<LazyTensor>> Request<Runner> for Graph<H, T> {
    type Cut = Cut;
    type Left<'r>
        = Left<'r, Held<Tensors>>
    where
        Self: 'r;

    fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn node(&self, place: usize) -> NodeId {
        self.tensor(place).0.id
    }

    fn bind(&self, place: usize) -> Result<()> {
        self.home().bind(&self.tensor(place).0)
    }

    fn cut(&self, places: &[usize]) -> Result<Cut> {
        let home = &**self.home();
        let asked = || places.iter().map(|&place| self.tensor(place));
        let cut = match home.planner.find(asked(), home.asking())? {
            Some((prepared, host_bytes)) => Cut::Planned {
                prepared,
                host_bytes,
            },
            None => Cut::New(Fragment::cut(asked(), home.asking())?),
        };
        home.check_bytes(cut.host_bytes())?;
        Ok(cut)
    }

    fn cut_again<'r>(
        &'r self,
        places: &[usize],
        lean: Lean,
        left: &mut Self::Left<'r>,
    ) -> Result<Cut> {
        let home = &**self.home();
        let mut passed_over = 0;
        let submitted = |node: &Node| {
            let found = home.submitted(node, lean)?;
            passed_over += u64::from(matches!(found, Found::PassedOver));
            Ok(found.held())
        };
        let asked = places.iter().map(|&place| self.tensor(place));
        let fragment = Fragment::cut_leaving(asked, submitted, left)?;
        if let Err(error) = home.check_bytes(fragment.host_bytes) {
            left.gathered = Some(fragment);
            return Err(error);
        }
        home.core.store().count_recomputed(passed_over);
        Ok(Cut::New(fragment))
    }

    fn found<'c>(&self, cut: &'c Cut, output: usize) -> Option<&'c Held<Tensors>> {
        match cut {
            Cut::Planned { .. } => None,
            Cut::New(fragment) => fragment.found(output),
        }
    }

    fn pack(&self, cut: Cut, places: &[usize]) -> Packed<Tensors> {
        let outputs = places.iter().map(|&place| output(self.tensor(place)));
        pack(cut.prepared(&self.home().planner), outputs.collect())
    }
}

impl<H: Borrow<Arc<ExecutorHome>>, T: Borrow<LazyTensor>> Ask for Graph<H, T> {}

impl Call {
    /// A call with results of these sizes.
    pub(crate) fn new(home: &Arc<ExecutorHome>, sizes: SmallVec<[u64; 1]>) -> Self {
        Self {
            home: home.clone(),
            ids: sizes.iter().map(|_| next_id()).collect(),
            sizes,
        }
    }
}

impl Request<Runner> for Call {
    type Cut = Cut;
    type Left<'r> = ();

    fn nodes(&self) -> usize {
        self.ids.len()
    }

    fn node(&self, place: usize) -> NodeId {
        self.ids[place]
    }

    fn bind(&self, _: usize) -> Result<()> {
        Ok(())
    }

    /// Never called: a call is cut before it is a request.
    fn cut(&self, _: &[usize]) -> Result<Cut> {
        Err(Error::Closed)
    }

    /// Never called: the ids of a call are new, so that it loses no claim.
    fn cut_again(&self, _: &[usize], _: Lean, (): &mut ()) -> Result<Cut> {
        Err(Error::Closed)
    }

    fn found<'c>(&self, _: &'c Cut, _: usize) -> Option<&'c Held<Tensors>> {
        None
    }

    fn pack(&self, cut: Cut, places: &[usize]) -> Packed<Tensors> {
        let outputs = places.iter().map(|&place| Output {
            node: Weak::new(),
            bytes: self.sizes[place],
        });
        pack(cut.prepared(&self.home.planner), outputs.collect())
    }
}

impl Ask for Call {
    fn nameless(&self) -> &[NodeId] {
        &self.ids
    }
}

/// Among more tensors than this, equal ones are found by a table.
const FEW: usize = 8;

/// The distinct ones, and for each tensor which of them it is.
fn distinct<'a>(
    tensors: impl IntoIterator<Item = &'a LazyTensor>,
) -> (SmallVec<[&'a LazyTensor; 1]>, SmallVec<[u32; 1]>) {
    let mut nodes: SmallVec<[&LazyTensor; 1]> = SmallVec::new();
    let mut places = SmallVec::new();
    let mut table: FxHashMap<NodeId, u32> = FxHashMap::default();
    for tensor in tensors {
        let id = tensor.0.id;
        let known = match nodes.len() {
            ..FEW => nodes
                .iter()
                .position(|n| n.0.id == id)
                .map(|place| place as u32),
            _ => table.get(&id).copied(),
        };
        let next = nodes.len() as u32;
        places.push(known.unwrap_or(next));
        if known.is_none() {
            nodes.push(tensor);
            if nodes.len() == FEW {
                let all = nodes.iter().zip(0..);
                table.extend(all.map(|(node, place)| (node.0.id, place)));
            } else if nodes.len() > FEW {
                table.insert(id, next);
            }
        }
    }
    (nodes, places)
}

/// The work of a fragment, and the results of others that it reads.
fn pack(fragment: Prepared<Held<Tensors>>, outputs: SmallVec<[Output; 1]>) -> Packed<Tensors> {
    let mut inputs = SmallVec::new();
    // not collected in place: that gives back a part of the memory, which costs more than new memory
    let mut sources = Vec::with_capacity(fragment.sources.len());
    for (value, source) in fragment.sources {
        let from = match source {
            Source::Leaf(tensor, kept) => Source::Leaf(tensor, kept),
            Source::Submitted(held) => {
                inputs.push(held);
                Source::Submitted(inputs.len() - 1)
            }
        };
        sources.push((value, from));
    }
    let work = Work {
        plan: fragment.plan,
        sources,
        attached: fragment.attached,
        scalars: fragment.scalars,
        outputs,
    };
    (Box::new(work), inputs)
}

/// Only a node that was submitted is referred to weakly: see `graph/recycle.rs`.
fn output(tensor: &LazyTensor) -> Output {
    debug_assert!(tensor.0.home.get().is_some());
    Output {
        node: Arc::downgrade(&tensor.0),
        bytes: size(tensor),
    }
}

/// The bytes of a result.
pub(crate) fn size(tensor: &LazyTensor) -> u64 {
    (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64
}
