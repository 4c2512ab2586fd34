//! Cutting out what `submit` sends: the nodes below the requested outputs, down to leaves and
//! to nodes that were submitted themselves.

use super::kept::Kept;
use super::node::{Dims, Expr, Inputs, LazyTensor, Node, NodeId};
use super::op::Op;
use candle_core::{DType, Tensor};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
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
    node: LazyTensor,
    inputs: Inputs,
    visited: SmallVec<[ValueId; 3]>,
}

/// What a look at a node's origin found.
enum Look {
    Leaf(Tensor, bool, Option<Arc<Kept>>),
    Inputs(Inputs),
}

/// Node ids to value ids: most fragments are small enough for a scan.
#[derive(Default)]
struct Numbering {
    few: SmallVec<[(NodeId, ValueId); 16]>,
    many: FxHashMap<NodeId, ValueId>,
}

impl Numbering {
    fn get(&self, id: NodeId) -> Option<ValueId> {
        if self.many.is_empty() {
            self.few.iter().find(|e| e.0 == id).map(|e| e.1)
        } else {
            self.many.get(&id).copied()
        }
    }

    fn put(&mut self, id: NodeId, value: ValueId) {
        if self.many.is_empty() && self.few.len() < self.few.inline_size() {
            self.few.push((id, value));
            return;
        }
        if self.many.is_empty() {
            self.many.extend(self.few.iter().copied());
        }
        self.many.insert(id, value);
    }
}

impl<S> Fragment<S> {
    /// Cuts out what is needed for `outputs`.
    ///
    /// `submitted` is asked about every node on the way: it answers with the result if the node
    /// was submitted and not cancelled. `E` is its way to refuse the node altogether.
    pub(crate) fn cut<'a, E>(
        outputs: impl IntoIterator<Item = &'a LazyTensor>,
        submitted: impl FnMut(&Node) -> Result<Option<S>, E>,
    ) -> Result<Self, E> {
        let mut cut = Cut {
            fragment: Fragment {
                values: 0,
                sources: Vec::new(),
                computed: Vec::new(),
                outputs: SmallVec::new(),
                host_bytes: 0,
            },
            numbering: Numbering::default(),
            submitted,
        };
        for output in outputs {
            let value = cut.visit(output)?;
            cut.fragment.outputs.push(value);
        }
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
struct Cut<S, F> {
    fragment: Fragment<S>,
    numbering: Numbering,
    submitted: F,
}

impl<S, E, F: FnMut(&Node) -> Result<Option<S>, E>> Cut<S, F> {
    /// Gives `root` a value, and everything below it first. By a loop: graphs are deep.
    fn visit(&mut self, root: &LazyTensor) -> Result<ValueId, E> {
        let mut open: SmallVec<[Open; 4]> = SmallVec::new();
        let mut value = self.enter(root, &mut open)?;
        loop {
            match (value, open.last_mut()) {
                (Some(value), None) => return Ok(value),
                (Some(value), Some(top)) => top.visited.push(value),
                (None, _) => {}
            }
            let Some(top) = open.last() else {
                unreachable!("a node without a value is open")
            };
            value = match top.inputs.get(top.visited.len()).cloned() {
                Some(input) => self.enter(&input, &mut open)?,
                None => self.leave(&mut open)?,
            };
        }
    }

    /// The value of a node, or `None` after opening it.
    fn enter(
        &mut self,
        node: &LazyTensor,
        open: &mut SmallVec<[Open; 4]>,
    ) -> Result<Option<ValueId>, E> {
        if let Some(value) = self.numbering.get(node.0.id) {
            return Ok(Some(value));
        }
        loop {
            if let Some(slot) = (self.submitted)(&node.0)? {
                return Ok(Some(self.source(node, Source::Submitted(slot))));
            }
            let look = node.0.origin.read(|expr| match expr {
                Expr::Leaf { tensor, host, kept } => {
                    Look::Leaf(tensor.clone(), *host, kept.clone())
                }
                Expr::Op { inputs, .. } => Look::Inputs(inputs.clone()),
            });
            match look {
                Some(Look::Leaf(tensor, host, kept)) => {
                    if host {
                        let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
                        self.fragment.host_bytes += bytes as u64;
                    }
                    return Ok(Some(self.source(node, Source::Leaf(tensor, kept))));
                }
                Some(Look::Inputs(inputs)) => {
                    let (node, visited) = (node.clone(), SmallVec::new());
                    open.push(Open {
                        node,
                        inputs,
                        visited,
                    });
                    return Ok(None);
                }
                // It began to run since we asked: the next answer is its result.
                None => {}
            }
        }
    }

    /// Closes the innermost open node, whose operands all have values. `None` if it began to run
    /// in the meantime and has to be asked for again: then its operands are not needed after all.
    fn leave(&mut self, open: &mut SmallVec<[Open; 4]>) -> Result<Option<ValueId>, E> {
        let Some(Open { node, visited, .. }) = open.pop() else {
            unreachable!("a node without a value is open")
        };
        let op = node.0.origin.read(|expr| match expr {
            Expr::Op { op, .. } => Some(op.clone()),
            Expr::Leaf { .. } => None,
        });
        let Some(Some(op)) = op else {
            return self.enter(&node, open);
        };
        let value = self.number(&node);
        self.fragment.computed.push(Computed {
            value,
            op,
            inputs: visited,
            dims: node.0.dims.clone(),
            dtype: node.0.dtype,
        });
        Ok(Some(value))
    }

    fn source(&mut self, node: &LazyTensor, source: Source<S>) -> ValueId {
        let value = self.number(node);
        self.fragment.sources.push(SourceValue {
            value,
            dims: node.0.dims.clone(),
            dtype: node.0.dtype,
            source,
        });
        value
    }

    fn number(&mut self, node: &LazyTensor) -> ValueId {
        let value = self.fragment.values;
        self.fragment.values += 1;
        self.numbering.put(node.0.id, value);
        value
    }
}
