//! Cutting out what a submission sends: the nodes below the requested outputs, down to leaves and to
//! nodes that were submitted themselves.
//!
//! A walk changes no node's reference count and waits for nothing. A node to which more than one reference
//! leads is pinned, so that it does not forget what it is made from, until the walk ends, and is numbered,
//! to be known when it is met again. A node to which only one operand of a pinned node refers is neither:
//! no other thread can come by it, and it is met once.

use super::origin::{Origin, Pinned};
use super::store::NodeId;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};

/// Numbers the values of a fragment, in the order in which they can be computed.
pub type ValueId = u32;

/// A reference to a node of a graph that a cut can walk.
///
/// # Safety
/// A walk reads what is not shared without a pin. While a tensor is an operand of what a node is made from, and
/// that is pinned or read by such a walk, `is_shared` may answer `false` only if no other thread can come by
/// the operand's node, and nobody has submitted it; and `origin` and `operands` answer the same each time.
pub unsafe trait Tensor: Sized {
    /// The node.
    type Node;
    /// What a computed node is made from.
    type Expr;
    /// Why a graph cannot be cut.
    type Error;

    /// The node that this refers to.
    fn node(&self) -> &Self::Node;
    /// Whether anything but one operand may come by the node.
    fn is_shared(&self) -> bool;
    /// Identifies a node.
    fn id(node: &Self::Node) -> NodeId;
    /// What a computed node is made from; nothing for a node that exists.
    fn origin(node: &Self::Node) -> Option<&Origin<Self::Expr>>;
    /// The operands, in order.
    fn operands(expr: &Self::Expr) -> &[Self];
    /// Whether the node only stands for a value that [`Cut::put`] gives it.
    fn is_placeholder(node: &Self::Node) -> bool;
    /// The error of a placeholder without a value.
    fn no_value(node: &Self::Node) -> Self::Error;
}

/// What is made of a cut. It is told of each value once, in an order in which they can be computed,
/// numbered from 0.
pub trait Gather<T: Tensor> {
    /// Stands for the result of a node that was submitted before.
    type Submitted;

    /// A node that exists.
    fn leaf(&mut self, value: ValueId, node: &T::Node);
    /// The result of another fragment.
    fn submitted(&mut self, value: ValueId, node: &T::Node, result: Self::Submitted);
    /// What is computed. The operands' values stand in the order of the operands.
    fn computed(&mut self, value: ValueId, node: Opened<'_, T>, inputs: &[ValueId]);
    /// That is all: the values that were asked for, in the order of the request.
    fn end(&mut self, outputs: SmallVec<[ValueId; 1]>);
}

/// A node that is computed.
pub struct Opened<'a, T: Tensor> {
    /// The node.
    pub node: &'a T::Node,
    /// What it is made from.
    pub expr: &'a T::Expr,
}

/// Nodes that do not forget what they are made from while a walk goes on.
///
/// A node was met by way of one that is pinned already, whose operands may be all that keeps it. So the last
/// to be pinned is the first to be let go of.
pub struct Pins<'a, T: Tensor>(SmallVec<[Pinned<'a, T::Expr>; 16]>);

impl<T: Tensor> Pins<'_, T> {
    /// None yet.
    pub fn new() -> Self {
        Self(SmallVec::new())
    }
}

impl<T: Tensor> Default for Pins<'_, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Tensor> Drop for Pins<'_, T> {
    #[inline]
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

/// What a cut lets go of. It may run foreign code when it is dropped.
pub struct Left<'a, T: Tensor, G> {
    /// What the walk has pinned.
    pub pins: Pins<'a, T>,
    /// What it had gathered when it failed.
    pub gathered: Option<G>,
}

impl<T: Tensor, G> Default for Left<'_, T, G> {
    fn default() -> Self {
        Self {
            pins: Pins::new(),
            gathered: None,
        }
    }
}

/// A node on the way down, whose operands are being visited.
struct Open<'a, T: Tensor> {
    node: Opened<'a, T>,
    operands: &'a [T],
    /// How many of them have been visited.
    visited: usize,
    /// Whether it is numbered.
    shared: bool,
}

/// The way down.
type Way<'a, T> = SmallVec<[Open<'a, T>; 4]>;

/// A cut in progress.
pub struct Cut<F, G> {
    /// What is made of it.
    pub into: G,
    values: u32,
    numbering: Numbering,
    submitted: F,
}

/// Node ids to value ids: most fragments are small enough for a scan.
#[derive(Default)]
struct Numbering {
    few: SmallVec<[(NodeId, ValueId); 16]>,
    many: FxHashMap<NodeId, ValueId>,
}

thread_local! {
    /// Memory for the next cut of this thread.
    static KEPT: RefCell<FxHashMap<NodeId, ValueId>> = RefCell::default();
    /// How deep the last cut went.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// The most nodes on the way down for which a cut reserves room at the beginning.
const DEEP: usize = 256;
/// The most nodes for which a thread keeps a cut's memory.
const MOST_KEPT: usize = 1 << 14;

impl Numbering {
    #[inline]
    fn get(&self, id: NodeId) -> Option<ValueId> {
        if self.many.is_empty() {
            self.few.iter().find(|e| e.0 == id).map(|e| e.1)
        } else {
            self.many.get(&id).copied()
        }
    }

    #[inline]
    fn put(&mut self, id: NodeId, value: ValueId) {
        if self.many.is_empty() {
            if self.few.len() < self.few.inline_size() {
                self.few.push((id, value));
                return;
            }
            self.many = KEPT.try_with(RefCell::take).unwrap_or_default();
            self.many.extend(self.few.iter().copied());
        }
        self.many.insert(id, value);
    }
}

impl Drop for Numbering {
    fn drop(&mut self) {
        if (1..MOST_KEPT).contains(&self.many.capacity()) {
            self.many.clear();
            let many = std::mem::take(&mut self.many);
            let _ = KEPT.try_with(|kept| kept.replace(many)); // not while the thread ends
        }
    }
}

impl<F, G> Cut<F, G> {
    /// Nothing yet.
    ///
    /// `submitted` is asked about every node on the way: it answers with the result if the node was
    /// submitted, not given up, and may be leaned on, or refuses the node altogether.
    pub fn new(submitted: F, into: G) -> Self {
        Self {
            into,
            values: 0,
            numbering: Numbering::default(),
            submitted,
        }
    }

    /// A value that no node stands for.
    pub fn next_value(&mut self) -> ValueId {
        self.values += 1;
        self.values - 1
    }

    /// From here on a placeholder stands for a value.
    pub fn put(&mut self, placeholder: NodeId, value: ValueId) {
        self.numbering.put(placeholder, value);
    }

    /// From here on a node that was met before is another value.
    pub fn forget(&mut self) {
        self.numbering = Numbering::default();
    }

    /// Visits everything below these nodes, which are what is asked for. What is pinned stays pinned.
    ///
    /// # Errors
    /// Those of [`Cut::visit`].
    pub fn ask<'a, T: Tensor + 'a>(
        &mut self,
        outputs: impl IntoIterator<Item = &'a T>,
        pins: &mut Pins<'a, T>,
    ) -> Result<(), T::Error>
    where
        G: Gather<T>,
        F: FnMut(&T::Node) -> Result<Option<G::Submitted>, T::Error>,
    {
        let values = outputs.into_iter().map(|output| self.visit(output, pins));
        let values = values.collect::<Result<_, _>>()?;
        self.into.end(values);
        Ok(())
    }

    /// Gives `root` a value, and everything below it first. By a loop: graphs are deep. All roots are
    /// to be visited with the same pins, but for those after [`Cut::forget`].
    ///
    /// # Errors
    /// Those of `submitted`, and [`Tensor::no_value`].
    pub fn visit<'a, T: Tensor>(
        &mut self,
        root: &'a T,
        pins: &mut Pins<'a, T>,
    ) -> Result<ValueId, T::Error>
    where
        G: Gather<T>,
        F: FnMut(&T::Node) -> Result<Option<G::Submitted>, T::Error>,
    {
        let mut open = Way::<T>::with_capacity(DEPTH.get());
        let (mut inputs, mut deepest) = (SmallVec::new(), 0);
        let mut value = self.enter(root, true, &mut open, pins)?; // the caller refers to it
        loop {
            if let Some(value) = value {
                let Some(top) = open.last_mut() else {
                    DEPTH.set(deepest.min(DEEP)); // a thread builds much the same again and again
                    return Ok(value);
                };
                inputs.push(value);
                top.visited += 1;
            }
            deepest = deepest.max(open.len());
            let next = open.last().map(|top| top.operands.get(top.visited));
            value = match next.flatten() {
                Some(operand) => self.enter(operand, operand.is_shared(), &mut open, pins)?,
                None => open.pop().map(|node| self.leave(node, &mut inputs)),
            };
        }
    }

    /// The value of a node, or `None` after opening it.
    #[inline]
    fn enter<'a, T: Tensor>(
        &mut self,
        tensor: &'a T,
        shared: bool,
        open: &mut Way<'a, T>,
        pins: &mut Pins<'a, T>,
    ) -> Result<Option<ValueId>, T::Error>
    where
        G: Gather<T>,
        F: FnMut(&T::Node) -> Result<Option<G::Submitted>, T::Error>,
    {
        let node = tensor.node();
        if shared && let Some(value) = self.numbering.get(T::id(node)) {
            return Ok(Some(value));
        }
        loop {
            if let Some(result) = (self.submitted)(node)? {
                let value = self.next_value();
                self.numbering.put(T::id(node), value);
                self.into.submitted(value, node, result);
                return Ok(Some(value));
            }
            let Some(origin) = T::origin(node) else {
                return self.source::<T>(node, shared).map(Some);
            };
            if shared {
                match origin.pin() {
                    Some(pinned) => pins.0.push(pinned),
                    // It began to run since we asked: the next answer is its result.
                    None => continue,
                }
            }
            // SAFETY: what is shared has just been pinned, for longer than the walk. What is not is only
            // known to an operand of a node that is pinned, or that is known likewise: nothing can submit
            // it, and only what was submitted forgets.
            let Some(expr) = (unsafe { origin.look() }) else {
                unreachable!("it cannot be forgotten")
            };
            open.push(Open {
                node: Opened { node, expr },
                operands: T::operands(expr),
                visited: 0,
                shared,
            });
            return Ok(None);
        }
    }

    /// The value of a node that is not computed.
    fn source<T: Tensor>(&mut self, node: &T::Node, shared: bool) -> Result<ValueId, T::Error>
    where
        G: Gather<T>,
    {
        if T::is_placeholder(node) {
            let known = self.numbering.get(T::id(node));
            return known.ok_or_else(|| T::no_value(node));
        }
        let value = self.next_value();
        if shared {
            self.numbering.put(T::id(node), value);
        }
        self.into.leaf(value, node);
        Ok(value)
    }

    /// Closes the innermost open node, whose operands all have values.
    #[inline]
    fn leave<T: Tensor>(
        &mut self,
        open: Open<'_, T>,
        inputs: &mut SmallVec<[ValueId; 32]>,
    ) -> ValueId
    where
        G: Gather<T>,
    {
        let value = self.next_value();
        if open.shared {
            self.numbering.put(T::id(open.node.node), value);
        }
        let own = inputs.len() - open.operands.len();
        self.into.computed(value, open.node, &inputs[own..]);
        inputs.truncate(own);
        value
    }
}
