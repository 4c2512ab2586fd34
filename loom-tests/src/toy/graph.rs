//! The toy's graph, and what is cut out of it.

use super::{Alive, Ex, Hook, Toy, ToyEngine, ToyError};
use crate::core::actor::gate::Permit;
use crate::core::actor::launch::{Packed, Request};
use crate::core::cut::{Cut, Gather, Left, Opened, Pins, ValueId};
use crate::core::origin::Origin;
use crate::core::store::NodeId;
use crate::core::store::node_store::{Found, Held, NodeStore};
use crate::core::store::slot::Lean;
use crate::core::store::task::Payload;
use crate::core::sync::Ordering::{Acquire, Relaxed, Release};
use crate::core::sync::{Arc, AtomicUsize};
use smallvec::SmallVec;
use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc as StdArc;
use std::sync::atomic::AtomicUsize as StdAtomic;

/// A node: a number to add to the sum of its operands. It does not let go of its name in the store, which
/// scenarios do by hand.
#[derive(Debug)]
pub struct Node {
    pub(super) id: NodeId,
    /// What it is made from; nothing for a node that is known by its name alone: another one was submitted
    /// under it, or it is a placeholder.
    pub(super) origin: Option<Origin<Expr>>,
    /// How many tensors refer to it, if they are counted.
    tensors: Option<AtomicUsize>,
}

/// What a node is made from.
#[derive(Debug)]
pub struct Expr {
    add: u32,
    operands: Vec<Tensor>,
    /// An operation of the user's, of which the destructor matters.
    _operation: Operation,
}

/// What is dropped with an [`Expr`].
#[derive(Default)]
struct Operation(Option<Box<dyn Any + Send + Sync>>);

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Operation").field(&self.0.is_some()).finish()
    }
}

/// A reference to a node.
#[derive(Debug)]
pub struct Tensor(Arc<Node>);

impl Clone for Tensor {
    fn clone(&self) -> Self {
        if let Some(tensors) = &self.0.tensors {
            tensors.fetch_add(1, Relaxed); // ORDERING: Relaxed, as in `Arc`
        }
        Self(self.0.clone())
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        if let Some(tensors) = &self.0.tensors {
            tensors.fetch_sub(1, Release); // ORDERING: Release, as in `Arc`
        }
    }
}

/// A node that adds this to the sum of its operands, and to which the scenario keeps a tensor.
pub fn node(id: NodeId, add: u32, operands: &[&Tensor]) -> Tensor {
    Tensor::new(id, Some(Expr::new(add, operands)), None)
}

/// A node without operands, whose value is this, and that is made by an operation of the user's.
pub fn foreign(id: NodeId, value: u32, operation: impl Send + Sync + 'static) -> Tensor {
    let expr = Expr {
        _operation: Operation(Some(Box::new(operation))),
        ..Expr::new(value, &[])
    };
    Tensor::new(id, Some(expr), None)
}

/// A node that adds this to the sum of its operands, and whose tensors are counted: a cut asks whether there
/// is more than one. What refers to a counted node is counted as well. loom explores too few orders of
/// asking its own `Arc` (tokio-rs/loom#156), and std's answers from any count that the thread may still see.
pub fn counted(id: NodeId, add: u32, operands: &[&Tensor]) -> Tensor {
    Tensor::new(
        id,
        Some(Expr::new(add, operands)),
        Some(AtomicUsize::new(1)),
    )
}

/// A node that was submitted before, by its name; or a placeholder.
pub fn named(id: NodeId) -> Tensor {
    Tensor::new(id, None, None)
}

impl Expr {
    fn new(add: u32, operands: &[&Tensor]) -> Self {
        let operands = operands.iter().copied().cloned().collect();
        Self {
            add,
            operands,
            _operation: Operation::default(),
        }
    }
}

impl Node {
    /// The name of the node.
    pub fn id(&self) -> NodeId {
        self.id
    }
}

impl Tensor {
    fn new(id: NodeId, expr: Option<Expr>, tensors: Option<AtomicUsize>) -> Self {
        let origin = expr.map(Origin::new);
        Self(Arc::new(Node {
            id,
            origin,
            tensors,
        }))
    }

    /// What it is made from, to be looked at.
    pub(super) fn origin(&self) -> Option<&Origin<Expr>> {
        self.0.origin.as_ref()
    }

    /// The name of the node.
    pub fn id(&self) -> NodeId {
        self.0.id
    }

    /// Whether it still knows what it is made from.
    pub fn has_origin(&self) -> bool {
        self.origin()
            .is_some_and(|origin| origin.read(|_| ()).is_some())
    }
}

/// What a cut met at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// Its slot, to lean on.
    Slot,
    /// What it is made from.
    Origin,
}

/// Looks for a node's slot, and then, with `origin`, for what it is made from, as a cut does: at the latest
/// when it asks again it finds one of them.
pub fn slot_or_origin(
    store: &Arc<NodeStore<Toy>>,
    id: NodeId,
    lean: Lean,
    origin: impl Fn() -> bool,
) -> Met {
    for _ in 0..2 {
        if NodeStore::acquire(store, id, lean).held().is_some() {
            return Met::Slot;
        }
        if origin() {
            return Met::Origin;
        }
    }
    panic!("neither an origin nor a slot")
}

// SAFETY: the scenarios take no reference to an operand. A counted node of one tensor is known to who reaches that
// tensor alone, and so was not submitted: its work would refer to it.
unsafe impl crate::core::cut::Tensor for Tensor {
    type Node = Node;
    type Expr = Expr;
    type Error = ToyError;
    fn node(&self) -> &Node {
        &self.0
    }
    /// What is submitted is referred to by its work until the origin is forgotten, so that the count says it
    /// all.
    fn is_shared(&self) -> bool {
        // ORDERING: Acquire, with the Release of those who let go of it: that they submitted it is seen.
        let tensors = self.0.tensors.as_ref();
        tensors.is_none_or(|tensors| tensors.load(Acquire) != 1)
    }
    fn id(node: &Node) -> NodeId {
        node.id
    }
    fn origin(node: &Node) -> Option<&Origin<Expr>> {
        node.origin.as_ref()
    }
    fn operands(expr: &Expr) -> &[Self] {
        &expr.operands
    }
    fn is_placeholder(node: &Node) -> bool {
        node.origin.is_none()
    }
    fn no_value(node: &Node) -> ToyError {
        panic!("node {} was not submitted", node.id)
    }
}

/// What a fragment does.
#[derive(Debug, Default)]
pub struct Work {
    /// How many values there are: numbered in the order in which they are read or computed.
    pub(super) values: usize,
    /// Which values are the results of other fragments, in the order of the inputs.
    pub(super) inputs: Vec<ValueId>,
    pub(super) computed: Vec<(ValueId, u32, Vec<ValueId>)>,
    pub(super) outputs: Vec<Output>,
    /// A guard that counts the work that exists.
    pub alive: Alive,
    /// Code of the user's that runs as part of it.
    pub hook: Hook,
}

#[derive(Debug)]
pub(super) struct Output {
    pub(super) value: ValueId,
    /// The node, which forgets what it is made from when the work begins; nothing once the output is
    /// given up.
    pub(super) node: Option<Tensor>,
}

impl Work {
    /// How many nodes it computes.
    pub fn steps(&self) -> usize {
        self.computed.len()
    }

    /// Work for so many outputs, which no graph was cut for.
    pub fn of(outputs: usize) -> Self {
        let outputs = (0..outputs).map(|_| Output {
            value: 0,
            node: None,
        });
        Self {
            values: 1,
            computed: vec![(0, 5, Vec::new())],
            outputs: outputs.collect(),
            ..Self::default()
        }
    }
}

/// What a task for one output is filled with, by itself: no slot is the output's yet.
pub fn payload(permit: Option<Permit>) -> Payload<Toy> {
    Payload {
        work: Work::of(1),
        inputs: SmallVec::new(),
        outputs: SmallVec::new(),
        permit,
    }
}

/// A fragment in the making.
#[derive(Default)]
pub struct Fragment {
    work: Work,
    held: SmallVec<[Held<Toy>; 2]>,
    outputs: SmallVec<[ValueId; 1]>,
    nodes: Vec<NodeId>,
}

impl Fragment {
    /// How often a node is computed in it.
    pub fn computes(&self, node: NodeId) -> usize {
        self.nodes.iter().filter(|&&other| other == node).count()
    }

    /// How often the result of another fragment is read in it.
    pub fn finds(&self, node: NodeId) -> usize {
        let found = self.held.iter().map(|held| held.slot().id());
        found.filter(|&other| other == node).count()
    }
}

impl Gather<Tensor> for Fragment {
    type Submitted = Held<Toy>;
    fn leaf(&mut self, _: ValueId, node: &Node) {
        panic!("node {} is no leaf", node.id)
    }
    fn submitted(&mut self, value: ValueId, _: &Node, held: Held<Toy>) {
        self.work.values = value as usize + 1;
        self.work.inputs.push(value);
        self.held.push(held);
    }
    fn computed(&mut self, value: ValueId, node: Opened<'_, Tensor>, inputs: &[ValueId]) {
        self.work.values = value as usize + 1;
        let step = (value, node.expr.add, inputs.to_vec());
        self.work.computed.push(step);
        self.nodes.push(node.node.id);
    }
    fn end(&mut self, outputs: SmallVec<[ValueId; 1]>) {
        self.outputs = outputs;
    }
}

/// What a scenario does with work that is about to be sent.
type Completion = Box<dyn FnOnce(&mut Work) + Send>;

/// A request for nodes, and what is done with its work between claiming and sending.
pub struct Ask {
    tensors: Vec<Tensor>,
    store: Arc<NodeStore<Toy>>,
    /// What runs after the claims, before the message is sent.
    before_send: Cell<Option<Completion>>,
    /// What the second cut ends with, if not well.
    second_cut: Option<ToyError>,
}

impl Ask {
    /// A request for these nodes, which are distinct.
    pub fn new(ex: &Ex, tensors: &[&Tensor]) -> Self {
        Self {
            tensors: tensors.iter().copied().cloned().collect(),
            store: ex.store().clone(),
            before_send: Cell::default(),
            second_cut: None,
        }
    }

    /// The same request, with something to be done between claiming and sending.
    pub fn before_send(self, f: impl FnOnce(&mut Work) + Send + 'static) -> Self {
        self.before_send.set(Some(Box::new(f)));
        self
    }

    /// The same request, whose work runs this whenever it is issued.
    pub fn hook(self, f: impl FnMut() + Send + 'static) -> Self {
        self.before_send(move |work| work.hook = Hook::new(f))
    }

    /// The same request, with whose work this is dropped.
    pub fn holding(self, guard: impl Send + 'static) -> Self {
        self.before_send(move |work| work.hook = Hook::holding(guard))
    }

    /// The same request, and a counter of the work that exists: one, until the work is dropped.
    pub fn counted(self) -> (Self, StdArc<StdAtomic>) {
        let (alive, count) = Alive::counted();
        (self.before_send(move |work| work.alive = alive), count)
    }

    /// The same request, whose second cut fails.
    pub fn fail_second_cut(self) -> Self {
        Self {
            second_cut: Some(ToyError::Failed),
            ..self
        }
    }
}

impl Ask {
    fn cut_by<'r>(
        &'r self,
        places: &[usize],
        lean: Lean,
        pins: &mut Pins<'r, Tensor>,
    ) -> Result<Fragment, ToyError> {
        let mut passed_over = 0;
        let look = |node: &Node| {
            let found = NodeStore::acquire(&self.store, node.id, lean);
            passed_over += u64::from(matches!(found, Found::PassedOver));
            Ok(found.held())
        };
        let mut cut = Cut::new(look, Fragment::default());
        cut.ask(places.iter().map(|&place| &self.tensors[place]), pins)?;
        let cut = cut.into;
        let twice = cut.nodes.iter().find(|&&node| cut.computes(node) > 1);
        assert_eq!(twice, None, "a node is computed twice in one fragment");
        let mut found = cut.held.iter().map(|held| held.slot().id());
        let twice = found.find(|&node| cut.finds(node) > 1);
        assert_eq!(twice, None, "a result is read twice in one fragment");
        self.store.count_recomputed(passed_over);
        Ok(cut)
    }
}

impl Request<ToyEngine> for Ask {
    type Cut = Fragment;
    type Left<'r> = Left<'r, Tensor, Fragment>;
    fn nodes(&self) -> usize {
        self.tensors.len()
    }
    fn node(&self, place: usize) -> NodeId {
        self.tensors[place].id()
    }
    fn bind(&self, _: usize) -> Result<(), ToyError> {
        Ok(())
    }
    fn cut(&self, places: &[usize]) -> Result<Fragment, ToyError> {
        self.cut_by(places, Lean::Any, &mut Pins::new())
    }
    fn cut_again<'r>(
        &'r self,
        places: &[usize],
        lean: Lean,
        left: &mut Left<'r, Tensor, Fragment>,
    ) -> Result<Fragment, ToyError> {
        let cut = self.cut_by(places, lean, &mut left.pins)?;
        match &self.second_cut {
            None => Ok(cut),
            Some(error) => {
                left.gathered = Some(cut);
                Err(error.clone())
            }
        }
    }
    fn found<'c>(&self, cut: &'c Fragment, output: usize) -> Option<&'c Held<Toy>> {
        let value = cut.outputs[output];
        let input = cut.work.inputs.iter().position(|&input| input == value)?;
        Some(&cut.held[input])
    }
    fn pack(&self, cut: Fragment, places: &[usize]) -> Packed<Toy> {
        let mut work = cut.work;
        let nodes = places.iter().map(|&place| self.tensors[place].clone());
        let outputs = cut.outputs.iter().zip(nodes);
        work.outputs = outputs
            .map(|(&value, node)| Output {
                value,
                node: Some(node),
            })
            .collect();
        if let Some(before_send) = self.before_send.take() {
            before_send(&mut work);
        }
        (work, cut.held)
    }
}
