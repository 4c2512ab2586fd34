//! Cutting out what `submit` sends: the nodes below the requested outputs, down to leaves and
//! to nodes that were submitted themselves.

use super::kept::Kept;
use super::node::{Dims, Expr, Inputs, LazyTensor, Node, NodeId, copy};
use super::op::Op;
use crate::error::{Error, Result};
use candle_core::{DType, Shape, Tensor};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// Numbers the values of a fragment, in the order in which they can be computed.
pub(crate) type ValueId = u32;

/// The nodes of one submission, operands first. `S` stands for the result of a node that was
/// submitted before.
pub(crate) struct Fragment<S> {
    /// The number of values.
    pub(crate) values: u32,
    /// The values that it does not compute.
    pub(crate) sources: Vec<SourceValue<S>>,
    /// The values that it computes, in order.
    pub(crate) computed: Vec<Computed>,
    /// So many of them, the first, make the arguments of a compiled function: their numbers are
    /// no parameters of the rest, which other arguments share. 0 of any other submission.
    pub(crate) given: usize,
    /// The requested values, in the order of the request.
    pub(crate) outputs: SmallVec<[ValueId; 1]>,
    /// Bytes of host data that the fragment brings along.
    pub(crate) host_bytes: u64,
}

/// A value that the fragment does not compute.
pub(crate) struct SourceValue<S> {
    pub(crate) value: ValueId,
    pub(crate) dims: Dims,
    pub(crate) dtype: DType,
    /// Whether it is a tensor that was handed in, as parameters are, and was not made from host
    /// data for this graph.
    pub(crate) handed_in: bool,
    pub(crate) source: Source<S>,
}

/// Where such a value comes from.
pub(crate) enum Source<S> {
    /// A tensor that exists, and what a device keeps with it.
    Leaf(Tensor, Option<Arc<Kept>>),
    /// Another fragment computes it, or has.
    Submitted(S),
}

/// A value that the fragment computes.
#[derive(Debug)]
pub(crate) struct Computed {
    pub(crate) value: ValueId,
    pub(crate) op: Op,
    pub(crate) inputs: SmallVec<[ValueId; 3]>,
    pub(crate) dims: Dims,
    pub(crate) dtype: DType,
}

/// A node on the way down, whose operands are being visited.
struct Open {
    id: NodeId,
    op: Op,
    /// Those that have not been visited.
    inputs: smallvec::IntoIter<[LazyTensor; 3]>,
    visited: SmallVec<[ValueId; 3]>,
    dims: Dims,
    dtype: DType,
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
    /// Of the last cut, how many sources and how many computed values.
    static LAST: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
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

impl<S> Fragment<S> {
    /// Cuts out what is needed for `outputs`.
    ///
    /// `submitted` is asked about every node on the way: it answers with the result if the node
    /// was submitted and not cancelled, or refuses the node altogether.
    ///
    /// # Errors
    /// Those of `submitted`, and [`Error::Placeholder`].
    pub(crate) fn cut<'a>(
        outputs: impl IntoIterator<Item = &'a LazyTensor>,
        submitted: impl FnMut(&Node) -> Result<Option<S>>,
    ) -> Result<Self> {
        let mut cut = Cut::new(submitted);
        let (sources, computed) = LAST.get(); // a thread builds much the same again and again
        cut.fragment.sources.reserve(sources.min(MOST_KEPT));
        cut.fragment.computed.reserve(computed.min(MOST_KEPT));
        for output in outputs {
            let value = cut.visit(output)?;
            cut.fragment.outputs.push(value);
        }
        let Fragment {
            sources, computed, ..
        } = &cut.fragment;
        LAST.set((sources.len(), computed.len()));
        Ok(cut.fragment)
    }

    /// The result of another fragment that answers this place of the request.
    pub(crate) fn submitted_output(&self, index: usize) -> Option<&S> {
        self.submitted(*self.outputs.get(index)?)
    }

    /// Whether every requested value is the result of another fragment.
    pub(crate) fn is_known(&self) -> bool {
        self.outputs
            .iter()
            .all(|&value| self.submitted(value).is_some())
    }

    /// Asks only for what the fragment computes itself.
    pub(crate) fn drop_known_outputs(&mut self) {
        let mut outputs = std::mem::take(&mut self.outputs);
        outputs.retain(|value| self.submitted(*value).is_none());
        self.outputs = outputs;
    }

    fn submitted(&self, value: ValueId) -> Option<&S> {
        let source = self.sources.binary_search_by_key(&value, |s| s.value);
        match &self.sources[source.ok()?].source {
            Source::Submitted(slot) => Some(slot),
            Source::Leaf(..) => None,
        }
    }
}

/// A cut in progress.
pub(crate) struct Cut<S, F> {
    pub(crate) fragment: Fragment<S>,
    numbering: Numbering,
    submitted: F,
}

impl<S, F: FnMut(&Node) -> Result<Option<S>>> Cut<S, F> {
    /// Nothing yet.
    pub(crate) fn new(submitted: F) -> Self {
        Self {
            fragment: Fragment {
                values: 0,
                sources: Vec::new(),
                computed: Vec::new(),
                given: 0,
                outputs: SmallVec::new(),
                host_bytes: 0,
            },
            numbering: Numbering::default(),
            submitted,
        }
    }

    /// Gives `root` a value, and everything below it first. By a loop: graphs are deep.
    pub(crate) fn visit(&mut self, root: &LazyTensor) -> Result<ValueId> {
        let mut open: Vec<Open> = Vec::new();
        let mut value = self.enter(root.clone(), &mut open)?;
        loop {
            match (value, open.last_mut()) {
                (Some(value), None) => return Ok(value),
                (Some(value), Some(top)) => top.visited.push(value),
                (None, _) => {}
            }
            let next = open.last_mut().and_then(|top| top.inputs.next());
            value = match next {
                Some(input) => self.enter(input, &mut open)?,
                None => open.pop().map(|node| self.leave(node)),
            };
        }
    }

    /// Gives a tensor a value that no node stands for.
    pub(crate) fn tensor(&mut self, tensor: Tensor) -> ValueId {
        let value = self.next_value();
        self.source(SourceValue {
            value,
            dims: Dims::from_slice(tensor.dims()),
            dtype: tensor.dtype(),
            handed_in: false,
            source: Source::Leaf(tensor, None),
        })
    }

    /// What was cut so far makes the arguments of a compiled function. What follows knows their
    /// values only through placeholders: a node that the function captured and that an argument is
    /// made of as well is another value there, since the next call brings another argument.
    pub(crate) fn end_arguments(&mut self) {
        self.fragment.given = self.fragment.computed.len();
        self.numbering = Numbering::default();
    }

    /// From here on a placeholder stands for a value.
    pub(crate) fn put(&mut self, placeholder: &LazyTensor, value: ValueId) {
        self.numbering.put(placeholder.0.id, value);
    }

    /// The value of a node, or `None` after opening it.
    fn enter(&mut self, node: LazyTensor, open: &mut Vec<Open>) -> Result<Option<ValueId>> {
        let node = &*node.0;
        if let Some(value) = self.numbering.get(node.id) {
            return Ok(Some(value));
        }
        loop {
            if let Some(slot) = (self.submitted)(node)? {
                return Ok(Some(self.source_of(node, false, Source::Submitted(slot))));
            }
            let look = node.origin.read(|expr| match expr {
                Expr::Leaf { tensor, host, kept } => {
                    if *host {
                        let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
                        self.fragment.host_bytes += bytes as u64;
                    }
                    let leaf = Source::Leaf(tensor.clone(), kept.clone());
                    Ok(Some(self.source_of(node, !host, leaf)))
                }
                Expr::Op { op, inputs } => {
                    let mut left = Inputs::new();
                    inputs.iter().for_each(|input| left.push(input.clone()));
                    if open.capacity() == 0 {
                        open.reserve(LAST.get().1.clamp(4, DEEP));
                    }
                    open.push(Open {
                        id: node.id,
                        op: op.clone(),
                        inputs: left.into_iter(),
                        visited: SmallVec::new(),
                        dims: copy(&node.dims),
                        dtype: node.dtype,
                    });
                    Ok(None)
                }
                Expr::Placeholder => Err(Error::Placeholder {
                    shape: Shape::from(&node.dims[..]),
                    dtype: node.dtype,
                }),
            });
            if let Some(value) = look {
                return value;
            }
            // It began to run since we asked: the next answer is its result.
        }
    }

    /// Closes the innermost open node, whose operands all have values.
    fn leave(&mut self, node: Open) -> ValueId {
        let value = self.next_value();
        self.numbering.put(node.id, value);
        self.fragment.computed.push(Computed {
            value,
            op: node.op,
            inputs: node.visited,
            dims: node.dims,
            dtype: node.dtype,
        });
        value
    }

    fn source_of(&mut self, node: &Node, handed_in: bool, source: Source<S>) -> ValueId {
        let value = self.next_value();
        self.numbering.put(node.id, value);
        self.source(SourceValue {
            value,
            dims: copy(&node.dims),
            dtype: node.dtype,
            handed_in,
            source,
        })
    }

    fn source(&mut self, source: SourceValue<S>) -> ValueId {
        let value = source.value;
        self.fragment.sources.push(source);
        value
    }

    fn next_value(&mut self) -> ValueId {
        self.fragment.values += 1;
        self.fragment.values - 1
    }
}
