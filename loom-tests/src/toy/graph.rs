//! The toy's graph, and what is cut out of it.

use super::{Ex, Toy, ToyEngine, ToyError};
use crate::core::actor::launch::{Packed, Request};
use crate::core::cut::{Cut, Gather, Opened, ValueId};
use crate::core::origin::Origin;
use crate::core::store::NodeId;
use crate::core::store::node_store::{Found, Held, NodeStore};
use crate::core::store::slot::Lean;
use crate::core::sync::Arc;
use smallvec::SmallVec;
use std::panic::resume_unwind;
use std::sync::Arc as StdArc;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize as StdAtomic, Ordering::SeqCst};

/// A node: a number to add to the sum of its operands. Names itself; its reference in the store is given
/// back by hand.
#[derive(Debug)]
pub struct Node {
    pub(super) id: NodeId,
    /// Nothing for a node that is known by its name alone: another tensor was submitted under it.
    pub(super) origin: Option<Origin<Expr>>,
}

/// What a node is made from.
#[derive(Debug)]
pub struct Expr {
    add: u32,
    operands: Vec<Tensor>,
}

/// A reference to a node.
#[derive(Clone, Debug)]
pub struct Tensor(Arc<Node>);

/// A node that adds this to the sum of its operands.
pub fn node(id: NodeId, add: u32, operands: &[&Tensor]) -> Tensor {
    let operands = operands.iter().copied().cloned().collect();
    Tensor(Arc::new(Node {
        id,
        origin: Some(Origin::new(Expr { add, operands })),
    }))
}

/// A node that was submitted before, by its name.
pub fn named(id: NodeId) -> Tensor {
    Tensor(Arc::new(Node { id, origin: None }))
}

impl Tensor {
    /// Its name.
    pub fn id(&self) -> NodeId {
        self.0.id
    }

    /// Whether it still knows what it is made from.
    pub fn has_origin(&self) -> bool {
        let origin = self.0.origin.as_ref();
        origin.is_some_and(|origin| origin.read(|_| ()).is_some())
    }
}

impl crate::core::cut::Tensor for Tensor {
    type Node = Arc<Node>;
    type Expr = Expr;
    type Error = ToyError;
    fn node(&self) -> &Arc<Node> {
        &self.0
    }
    fn is_shared(&self) -> bool {
        true // any of them may be submitted
    }
    fn id(node: &Arc<Node>) -> NodeId {
        node.id
    }
    fn origin(node: &Arc<Node>) -> Option<&Origin<Expr>> {
        node.origin.as_ref()
    }
    fn operands(expr: &Expr) -> &[Self] {
        &expr.operands
    }
    fn is_placeholder(node: &Arc<Node>) -> bool {
        node.origin.is_none()
    }
    fn no_value(node: &Arc<Node>) -> ToyError {
        panic!("node {} was not submitted", node.id)
    }
}

/// What a fragment does.
#[derive(Debug, Default)]
pub struct Work {
    /// The number of values, of which the first are inputs or computed in this order.
    pub(super) values: usize,
    /// Which values are the results of other fragments, in the order of the inputs.
    pub(super) inputs: Vec<ValueId>,
    pub(super) computed: Vec<(ValueId, u32, Vec<ValueId>)>,
    pub(super) outputs: Vec<Output>,
    /// Counts the work that exists.
    pub alive: Alive,
    /// Code of the user's that runs as part of it.
    pub hook: Hook,
}

#[derive(Debug)]
pub(super) struct Output {
    pub(super) value: ValueId,
    /// Forgets what it is made from when the work begins; nothing once it is given up.
    pub(super) node: Option<Arc<Node>>,
}

impl Work {
    /// Work for outputs that none is cut for.
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

/// A fragment in the making.
#[derive(Default)]
pub struct Fragment {
    work: Work,
    held: SmallVec<[Held<Toy>; 2]>,
    outputs: SmallVec<[ValueId; 1]>,
}

impl Gather<Tensor> for Fragment {
    type Submitted = Held<Toy>;
    fn leaf(&mut self, _: ValueId, node: &Arc<Node>) {
        panic!("node {} is no leaf", node.id)
    }
    fn submitted(&mut self, value: ValueId, _: &Arc<Node>, held: Held<Toy>) {
        self.work.values = value as usize + 1;
        self.work.inputs.push(value);
        self.held.push(held);
    }
    fn computed(&mut self, value: ValueId, node: Opened<'_, Tensor>, inputs: &[ValueId]) {
        self.work.values = value as usize + 1;
        let step = (value, node.expr.add, inputs.to_vec());
        self.work.computed.push(step);
    }
    fn end(&mut self, outputs: SmallVec<[ValueId; 1]>) {
        self.outputs = outputs;
    }
}

/// A request for nodes, and what is done with its work between claiming and sending.
pub struct Ask {
    tensors: Vec<Tensor>,
    store: Arc<NodeStore<Toy>>,
    /// Runs after the claims, before the message is sent.
    before_send: Box<dyn Fn(&mut Work) + Send>,
    /// What the second cut ends with, if not well.
    second_cut: Option<ToyError>,
}

impl Ask {
    /// A request for these, which are distinct.
    pub fn new(ex: &Ex, tensors: &[&Tensor]) -> Self {
        Self {
            tensors: tensors.iter().copied().cloned().collect(),
            store: ex.store().clone(),
            before_send: Box::new(|_| ()),
            second_cut: None,
        }
    }

    /// The same, with something to be done between claiming and sending.
    pub fn before_send(self, f: impl Fn(&mut Work) + Send + 'static) -> Self {
        Self {
            before_send: Box::new(f),
            ..self
        }
    }

    /// The same, and a counter of the work that exists: one, until it is dropped.
    pub fn counted(self) -> (Self, StdArc<StdAtomic>) {
        let (alive, count) = Alive::counted();
        let alive = StdMutex::new(Some(alive));
        let put = move |work: &mut Work| {
            work.alive = alive.lock().unwrap().take().expect("sent once");
        };
        (self.before_send(put), count)
    }

    /// The same, whose second cut fails.
    pub fn fail_second_cut(self) -> Self {
        Self {
            second_cut: Some(ToyError::Failed),
            ..self
        }
    }
}

impl Request<ToyEngine> for Ask {
    type Cut = Fragment;
    fn nodes(&self) -> usize {
        self.tensors.len()
    }
    fn node(&self, place: usize) -> NodeId {
        self.tensors[place].id()
    }
    fn bind(&self, _: usize) -> Result<(), ToyError> {
        Ok(())
    }
    fn cut(&self, places: &[usize], lean: Lean) -> Result<Fragment, ToyError> {
        if let (Lean::Older(_), Some(error)) = (lean, &self.second_cut) {
            return Err(error.clone());
        }
        let mut passed_over = 0;
        let look = |node: &Arc<Node>| {
            let found = NodeStore::acquire(&self.store, node.id, lean);
            passed_over += u64::from(matches!(found, Found::PassedOver));
            Ok(found.held())
        };
        let mut cut = Cut::new(look, Fragment::default());
        cut.ask(places.iter().map(|&place| &self.tensors[place]))?;
        let cut = cut.into;
        self.store.count_recomputed(passed_over);
        Ok(cut)
    }
    fn found<'c>(&self, cut: &'c Fragment, output: usize) -> Option<&'c Held<Toy>> {
        let value = cut.outputs[output];
        let input = cut.work.inputs.iter().position(|&input| input == value)?;
        Some(&cut.held[input])
    }
    fn pack(&self, cut: Fragment, places: &[usize]) -> Packed<Toy> {
        let mut work = cut.work;
        let nodes = places.iter().map(|&place| self.tensors[place].0.clone());
        let outputs = cut.outputs.iter().zip(nodes);
        work.outputs = outputs
            .map(|(&value, node)| Output {
                value,
                node: Some(node),
            })
            .collect();
        (self.before_send)(&mut work);
        (work, cut.held)
    }
}

/// Code that runs whenever the work is issued, and is dropped with it.
#[derive(Default)]
pub struct Hook(pub(super) Option<Box<dyn FnMut() + Send>>);

impl Hook {
    /// Runs this.
    pub fn new(f: impl FnMut() + Send + 'static) -> Self {
        Self(Some(Box::new(f)))
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hook").field(&self.0.is_some()).finish()
    }
}

/// A guard that counts how many of its kind exist. Outside of the model: it orders nothing.
#[derive(Debug, Default)]
pub struct Alive(Option<StdArc<StdAtomic>>);

impl Alive {
    /// A guard and its counter.
    pub fn counted() -> (Self, StdArc<StdAtomic>) {
        let count = StdArc::new(StdAtomic::new(1));
        (Self(Some(count.clone())), count)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_sub(1, SeqCst);
        }
    }
}

/// Panics when it is dropped: so many times with another one.
#[derive(Debug)]
pub struct Bomb(pub u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        match self.0 {
            0 => resume_unwind(Box::new("a destructor")),
            more => resume_unwind(Box::new(Self(more - 1))),
        }
    }
}
