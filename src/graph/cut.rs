//! Cutting out what a submission sends: the nodes below the requested outputs, down to leaves and to
//! nodes that were submitted themselves.
//!
//! A walk changes no node's reference count and waits for nobody. A node that several refer to is pinned, so
//! that it does not forget what it is made from, until the walk ends, and is numbered, to be known when
//! it is met again. A node to which only one operand of a pinned node refers is neither: nobody else can
//! come by it, and it is met once.

use super::fragment::ValueId;
use super::kept::Kept;
use super::node::{Expr, LazyTensor, Made, Node, NodeId};
use super::op::Op;
use crate::error::{Error, Result};
use crate::origin::Pinned;
use candle_core::{DType, Shape, Tensor};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// What is made of a cut. It is told of each value once, in an order in which they can be computed,
/// numbered from 0.
pub(crate) trait Gather {
    /// Stands for the result of a node that was submitted before.
    type Submitted;

    /// A tensor that exists.
    fn leaf(&mut self, value: ValueId, leaf: Leaf<'_>);
    /// The result of another fragment.
    fn submitted(&mut self, value: ValueId, node: &Node, result: Self::Submitted);
    /// What is computed. The operands' values stand in the order of the operands.
    fn computed(&mut self, value: ValueId, node: Opened<'_>, inputs: &[ValueId]);
    /// That is all: the values that were asked for, in the order of the request.
    fn end(&mut self, outputs: SmallVec<[ValueId; 1]>);
}

/// A tensor that exists.
pub(crate) struct Leaf<'a> {
    pub(crate) tensor: &'a Tensor,
    /// What a device keeps with it.
    pub(crate) kept: Option<&'a Arc<Kept>>,
    /// Whether it was handed in, as parameters are, and was not made from host data for this graph.
    pub(crate) handed_in: bool,
    /// The bytes that count against the queue's bound: host data that was made for this graph.
    pub(crate) host_bytes: u64,
}

/// A node that is computed.
#[derive(Clone, Copy)]
pub(crate) struct Opened<'a> {
    pub(crate) node: &'a Node,
    pub(crate) op: &'a Op,
    pub(crate) operands: &'a [LazyTensor],
}

impl Opened<'_> {
    /// The dtype of the first operand.
    pub(crate) fn operand_dtype(&self) -> Option<DType> {
        self.operands.first().map(|operand| operand.0.dtype)
    }
}

/// Nodes that do not forget what they are made from while a walk goes on.
pub(crate) type Pins<'a> = SmallVec<[Pinned<'a, Expr>; 16]>;

/// A node on the way down, whose operands are being visited.
struct Open<'a> {
    node: Opened<'a>,
    /// How many of them have been visited.
    visited: usize,
    /// Whether it is numbered.
    shared: bool,
}

/// The way down.
type Way<'a> = SmallVec<[Open<'a>; 4]>;

/// A cut in progress.
pub(crate) struct Cut<F, G> {
    /// What is made of it.
    pub(crate) into: G,
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

/// A cut begins with room for so many nodes on the way down at most.
const DEEP: usize = 256;
/// A cut keeps memory for so many nodes at most.
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
            self.many = KEPT.take();
            self.many.extend(self.few.iter().copied());
        }
        self.many.insert(id, value);
    }
}

impl Drop for Numbering {
    fn drop(&mut self) {
        if (1..MOST_KEPT).contains(&self.many.capacity()) {
            self.many.clear();
            KEPT.set(std::mem::take(&mut self.many));
        }
    }
}

impl<F, G> Cut<F, G>
where
    F: FnMut(&Node) -> Result<Option<G::Submitted>>,
    G: Gather,
{
    /// Nothing yet.
    ///
    /// `submitted` is asked about every node on the way: it answers with the result if the node
    /// was submitted and not cancelled, or refuses the node altogether.
    pub(crate) fn new(submitted: F, into: G) -> Self {
        Self {
            into,
            values: 0,
            numbering: Numbering::default(),
            submitted,
        }
    }

    /// Visits everything below these nodes, which are what is asked for.
    ///
    /// # Errors
    /// Those of [`Cut::visit`].
    pub(crate) fn ask<'a>(
        &mut self,
        outputs: impl IntoIterator<Item = &'a LazyTensor>,
    ) -> Result<()> {
        let mut pins = Pins::new();
        let values = outputs
            .into_iter()
            .map(|output| self.visit(output, &mut pins));
        let values = values.collect::<Result<_>>()?;
        self.into.end(values);
        Ok(())
    }

    /// Gives a tensor a value that no node stands for.
    pub(crate) fn tensor(&mut self, tensor: &Tensor) -> ValueId {
        let value = self.next_value();
        let leaf = Leaf {
            tensor,
            kept: None,
            handed_in: false,
            host_bytes: 0,
        };
        self.into.leaf(value, leaf);
        value
    }

    /// From here on a placeholder stands for a value.
    pub(crate) fn put(&mut self, placeholder: &LazyTensor, value: ValueId) {
        self.numbering.put(placeholder.0.id, value);
    }

    /// From here on a node that was met before is another value.
    pub(crate) fn forget(&mut self) {
        self.numbering = Numbering::default();
    }

    /// Gives `root` a value, and everything below it first. By a loop: graphs are deep. All roots are
    /// to be visited with the same pins, but for those after [`Cut::forget`].
    ///
    /// # Errors
    /// Those of `submitted`, and [`Error::Placeholder`].
    pub(crate) fn visit<'a>(
        &mut self,
        root: &'a LazyTensor,
        pins: &mut Pins<'a>,
    ) -> Result<ValueId> {
        let mut open = Way::with_capacity(DEPTH.get());
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
            let next = open.last().map(|top| top.node.operands.get(top.visited));
            value = match next.flatten() {
                Some(operand) => self.enter(operand, is_shared(operand), &mut open, pins)?,
                None => open.pop().map(|node| self.leave(node, &mut inputs)),
            };
        }
    }

    /// The value of a node, or `None` after opening it.
    #[inline]
    fn enter<'a>(
        &mut self,
        tensor: &'a LazyTensor,
        shared: bool,
        open: &mut Way<'a>,
        pins: &mut Pins<'a>,
    ) -> Result<Option<ValueId>> {
        let node = &**tensor.0;
        if shared && let Some(value) = self.numbering.get(node.id) {
            return Ok(Some(value));
        }
        loop {
            if let Some(result) = (self.submitted)(node)? {
                let value = self.next_value();
                self.numbering.put(node.id, value);
                self.into.submitted(value, node, result);
                return Ok(Some(value));
            }
            let origin = match &node.made {
                Made::Op(origin) => origin,
                _ => return self.source(node, shared).map(Some),
            };
            if shared {
                match origin.pin() {
                    Some(pinned) => pins.push(pinned),
                    // It began to run since we asked: the next answer is its result.
                    None => continue,
                }
            }
            // SAFETY: what is shared has just been pinned, for longer than the walk. What is not is only
            // known to an operand of a node that is pinned, or that is known likewise: nobody can submit
            // it, and only what was submitted forgets.
            let Some(Expr { op, inputs }) = (unsafe { origin.look() }) else {
                unreachable!("it cannot be forgotten")
            };
            let node = Opened {
                node,
                op,
                operands: inputs,
            };
            open.push(Open {
                node,
                visited: 0,
                shared,
            });
            return Ok(None);
        }
    }

    /// The value of a node that is not computed.
    fn source(&mut self, node: &Node, shared: bool) -> Result<ValueId> {
        let Made::Leaf { tensor, host, kept } = &node.made else {
            let known = self.numbering.get(node.id);
            return known.ok_or_else(|| Error::Placeholder {
                shape: Shape::from(&node.dims[..]),
                dtype: node.dtype,
            });
        };
        let value = self.next_value();
        if shared {
            self.numbering.put(node.id, value);
        }
        let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
        let leaf = Leaf {
            tensor,
            kept: kept.as_ref(),
            handed_in: !host,
            host_bytes: if *host { bytes as u64 } else { 0 },
        };
        self.into.leaf(value, leaf);
        Ok(value)
    }

    /// Closes the innermost open node, whose operands all have values.
    #[inline]
    fn leave(&mut self, open: Open<'_>, inputs: &mut SmallVec<[ValueId; 32]>) -> ValueId {
        let value = self.next_value();
        let Opened { node, operands, .. } = open.node;
        if open.shared {
            self.numbering.put(node.id, value);
        }
        let own = inputs.len() - operands.len();
        self.into.computed(value, open.node, &inputs[own..]);
        inputs.truncate(own);
        value
    }

    fn next_value(&mut self) -> ValueId {
        self.values += 1;
        self.values - 1
    }
}

/// Whether anybody but one operand may come by a node.
#[inline]
fn is_shared(operand: &LazyTensor) -> bool {
    if Arc::strong_count(&operand.0) != 1 {
        return true;
    }
    // ORDERING: Acquire, with the Release of those who let go of it: that they submitted it is seen.
    // The owner, who refers to it weakly, does so only then.
    fence(Ordering::Acquire);
    operand.0.home.get().is_some()
}
