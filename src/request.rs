//! From a request to a queued fragment: cut, admit, claim, plan, send.
//!
//! The order matters. A fragment is cut before anything is claimed, so it depends only on what
//! was claimed earlier, and no two fragments can wait for each other. It is admitted before
//! anything is claimed, so a full queue leaves nothing claimed, and whoever depends on a claim
//! can count on its message.

use crate::actor::core::{Core, Permit};
use crate::actor::submission::Submission;
use crate::device::runner::{Output, Runner, Tensors, Work};
use crate::error::{Error, Result};
use crate::graph::fragment::{Fragment, Source};
use crate::graph::{Home, LazyTensor, Node, NodeId, next_id};
use crate::plan::{Explanation, Planner, Prepared};
use crate::store::node_store::{Held, NodeStore};
use crate::store::slot::Slot;
use crate::store::tag::Tag;
use crate::store::task::Payload;
use candle_core::{DeviceLocation, Shape};
use smallvec::SmallVec;
use std::sync::{Arc, Weak};

/// The core of an executor over Candle.
pub(crate) type TheCore = Core<Runner>;

/// What a submitted node keeps of its executor.
pub(crate) struct ExecutorHome {
    pub(crate) id: u64,
    pub(crate) core: Arc<TheCore>,
    pub(crate) location: DeviceLocation,
    pub(crate) planner: Planner,
}

/// One submission that is not admitted yet and has claimed nothing.
pub(crate) struct Request {
    /// The distinct outputs.
    nodes: SmallVec<[LazyTensor; 1]>,
    /// For each requested result, which of `nodes` it is.
    places: SmallVec<[u32; 1]>,
    host_bytes: u64,
    work: ToDo,
}

/// What has to be computed.
enum ToDo {
    /// Its plan is known, and none of the outputs is.
    Planned(Prepared<Held<Tensors>>),
    /// It is to be planned.
    Cut(Fragment<Held<Tensors>>),
}

impl ToDo {
    /// The result of another fragment that answers this place of the request.
    fn submitted_output(&self, index: usize) -> Option<&Held<Tensors>> {
        match self {
            ToDo::Planned(_) => None,
            ToDo::Cut(fragment) => fragment.submitted_output(index),
        }
    }

    /// With a plan.
    fn prepared(self, planner: &Planner) -> Prepared<Held<Tensors>> {
        match self {
            ToDo::Planned(prepared) => prepared,
            ToDo::Cut(mut fragment) => {
                fragment.drop_known_outputs();
                planner.prepare(fragment)
            }
        }
    }
}

/// What waits for a permit, has claimed nothing, and then is queued.
pub(crate) trait Ask: Sized {
    /// Bytes of host data that the fragment brings along.
    fn host_bytes(&self) -> u64;

    /// Claims the outputs and queues the fragment. The permit guarantees its place. With `defer`,
    /// the caller is about to wait for it: see `Core::send`.
    fn launch(
        self,
        home: &Arc<ExecutorHome>,
        permit: Permit<'_, Runner>,
        tag: Tag,
        defer: bool,
    ) -> Result<Launched>;
}

/// A call of a compiled function: a plan with all that it needs. Its results are its own: no
/// tensor names them.
pub(crate) struct Call {
    pub(crate) prepared: Prepared<Held<Tensors>>,
    /// The size of each distinct output.
    pub(crate) sizes: SmallVec<[u64; 1]>,
    /// For each requested result, which of them it is.
    pub(crate) places: SmallVec<[u32; 1]>,
    pub(crate) host_bytes: u64,
}

/// Interest in the results of a request.
pub(crate) struct Launched {
    pub(crate) submission: Submission<Runner>,
    /// For each requested result, which output of the submission it is.
    pub(crate) places: SmallVec<[u32; 1]>,
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
    /// The result of a node that was submitted here; an error if it cannot be used here.
    pub(crate) fn submitted(&self, node: &Node) -> Result<Option<Held<Tensors>>> {
        if node.location != self.location && !node.may_be_on_host() {
            return Err(self.foreign(node.location));
        }
        match node.home.get() {
            None => Ok(None),
            Some(home) => {
                self.check(node, &**home)?;
                Ok(NodeStore::acquire(self.core.store(), node.id))
            }
        }
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
        let capacity_bytes = self.core.admission().bytes();
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

impl Request {
    /// Cuts out what has to be computed for `tensors`.
    pub(crate) fn cut<'a>(
        home: &Arc<ExecutorHome>,
        tensors: impl IntoIterator<Item = &'a LazyTensor>,
    ) -> Result<Self> {
        let (nodes, places) = distinct(tensors);
        let found = home.planner.find(&nodes, |node| home.submitted(node))?;
        let (work, host_bytes) = match found {
            Some((prepared, bytes)) => (ToDo::Planned(prepared), bytes),
            None => {
                let fragment = Fragment::cut(&nodes, |node| home.submitted(node))?;
                let bytes = fragment.host_bytes;
                (ToDo::Cut(fragment), bytes)
            }
        };
        home.check_bytes(host_bytes)?;
        Ok(Self {
            nodes,
            places,
            host_bytes,
            work,
        })
    }

    /// How it would run.
    pub(crate) fn explain<'a>(
        home: &ExecutorHome,
        tensors: impl IntoIterator<Item = &'a LazyTensor>,
    ) -> Result<Explanation> {
        let (nodes, _) = distinct(tensors);
        let fragment = Fragment::cut(&nodes, |node| home.submitted(node))?;
        home.check_bytes(fragment.host_bytes)?;
        Ok(home.planner.explain(&fragment))
    }

    /// Whether every output was submitted before: then there is nothing to compute.
    pub(crate) fn is_known(&self) -> bool {
        match &self.work {
            ToDo::Planned(_) => false,
            ToDo::Cut(fragment) => fragment.is_known(),
        }
    }

    /// Interest in outputs that were all submitted before.
    pub(crate) fn known(self, home: &ExecutorHome) -> Launched {
        let outputs = (0..self.nodes.len())
            .filter_map(|index| self.work.submitted_output(index).map(Held::share));
        let submission = Submission::new(home.core.clone(), outputs.collect());
        Launched {
            submission,
            places: self.places,
        }
    }
}

impl Ask for Request {
    fn host_bytes(&self) -> u64 {
        self.host_bytes
    }

    fn launch(
        self,
        home: &Arc<ExecutorHome>,
        permit: Permit<'_, Runner>,
        tag: Tag,
        defer: bool,
    ) -> Result<Launched> {
        let known = |index| self.work.submitted_output(index);
        let places = 0..self.nodes.len();
        let own: SmallVec<[&LazyTensor; 1]> = places
            .filter(|&i| known(i).is_none())
            .map(|i| &self.nodes[i])
            .collect();
        let mut ids: SmallVec<[NodeId; 1]> = SmallVec::new();
        for node in &own {
            home.bind(&node.0)?;
            ids.push(node.0.id);
        }
        let claimed = home.core.claim(permit, &ids, tag);
        let mut slots = claimed.slots().iter().cloned();
        let outputs = (0..self.nodes.len()).filter_map(|i| match known(i) {
            Some(held) => Some(held.share()),
            None => slots.next(),
        });
        let submission = Submission::new(home.core.clone(), outputs.collect());
        if claimed.is_complete() {
            let outputs = own.iter().map(|node| output(node)).collect();
            let fragment = self.work.prepared(&home.planner);
            claimed.send(|slots| payload(fragment, outputs, slots), defer);
        } else {
            // Somebody claimed a part since the fragment was cut: what is left is cut again.
            claimed.send_apart(|place, slot| alone(own[place], slot, home), defer)?;
        }
        Ok(Launched {
            submission,
            places: self.places,
        })
    }
}

impl Ask for Call {
    fn host_bytes(&self) -> u64 {
        self.host_bytes
    }

    fn launch(
        self,
        home: &Arc<ExecutorHome>,
        permit: Permit<'_, Runner>,
        tag: Tag,
        defer: bool,
    ) -> Result<Launched> {
        let ids: SmallVec<[NodeId; 1]> = self.sizes.iter().map(|_| next_id()).collect();
        let claimed = home.core.claim(permit, &ids, tag);
        debug_assert!(claimed.is_complete(), "ids are never used again");
        let slots = claimed.slots().iter().cloned().collect();
        let submission = Submission::new(home.core.clone(), slots);
        for id in ids {
            home.release(id); // the node's share, which no tensor will give back
        }
        let outputs = self.sizes.iter().map(|&bytes| Output {
            node: Weak::new(),
            bytes,
        });
        let outputs = outputs.collect();
        claimed.send(|slots| payload(self.prepared, outputs, slots), defer);
        Ok(Launched {
            submission,
            places: self.places,
        })
    }
}

/// The distinct ones, and for each tensor which of them it is.
fn distinct<'a>(
    tensors: impl IntoIterator<Item = &'a LazyTensor>,
) -> (SmallVec<[LazyTensor; 1]>, SmallVec<[u32; 1]>) {
    let mut nodes: SmallVec<[LazyTensor; 1]> = SmallVec::new();
    let mut places = SmallVec::new();
    for tensor in tensors {
        let known = nodes.iter().position(|n| n.0.id == tensor.0.id);
        places.push(known.unwrap_or(nodes.len()) as u32);
        if known.is_none() {
            nodes.push(tensor.clone());
        }
    }
    (nodes, places)
}

/// The work for one node by itself, whose slot is claimed already.
fn alone(
    root: &LazyTensor,
    slot: Arc<Slot<Tensors>>,
    home: &ExecutorHome,
) -> Result<Payload<Tensors>> {
    let fragment = Fragment::cut([root], |node| match node.id == root.0.id {
        true => Ok(None),
        false => home.submitted(node),
    })?;
    let outputs = SmallVec::from_iter([output(root)]);
    let fragment = home.planner.prepare(fragment);
    Ok(payload(fragment, outputs, SmallVec::from_iter([slot])))
}

/// What is sent for a fragment.
fn payload(
    fragment: Prepared<Held<Tensors>>,
    outputs: SmallVec<[Output; 1]>,
    slots: SmallVec<[Arc<Slot<Tensors>>; 1]>,
) -> Payload<Tensors> {
    let mut inputs = SmallVec::new();
    let sources = fragment.sources.into_iter().map(|(value, source)| {
        let from = match source {
            Source::Leaf(tensor, kept) => Source::Leaf(tensor, kept),
            Source::Submitted(held) => {
                inputs.push(held);
                Source::Submitted(inputs.len() - 1)
            }
        };
        (value, from)
    });
    let sources = sources.collect();
    Payload {
        work: Box::new(Work {
            plan: fragment.plan,
            sources,
            attached: fragment.attached,
            scalars: fragment.scalars,
            outputs,
        }),
        inputs,
        outputs: slots,
        rest: Vec::new(),
    }
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
