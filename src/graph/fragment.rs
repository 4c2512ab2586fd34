//! What `submit` sends: the nodes below the requested outputs, down to leaves and to nodes that were
//! submitted themselves.

use super::cut::{Cut, Gather};
use super::kept::Kept;
use super::leaf::Leaf;
use super::node::{Dims, LazyTensor, Node, copy};
use super::op::Op;
use crate::core::cut::Opened;
pub(crate) use crate::core::cut::ValueId;
use crate::error::Result;
use candle_core::{DType, Tensor};
use smallvec::SmallVec;
use std::cell::Cell;
use std::sync::Arc;

/// The nodes of one submission, operands first. `S` stands for the result of a node that was
/// submitted before.
pub(crate) struct Fragment<S> {
    /// The number of values.
    pub(crate) values: u32,
    /// The values that it does not compute.
    pub(crate) sources: Vec<SourceValue<S>>,
    /// The values that it computes, in order.
    pub(crate) computed: Vec<Computed>,
    /// How many of `computed`, counted from the first, belong to the arguments of a call of a compiled
    /// function. Their numbers are never shared with those of the rest, because the next call brings other
    /// arguments. 0 for a fragment that is not such a call.
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

/// What a cut lets go of.
pub(crate) type Left<'a, S> = crate::core::cut::Left<'a, LazyTensor, Fragment<S>>;

thread_local! {
    /// How many sources and how many computed values the last fragment of this thread had.
    static LAST: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// The most sources, and the most computed values, for which a fragment reserves room at the beginning.
const MOST: usize = 1 << 14;

impl<S> Fragment<S> {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        let (sources, computed) = LAST.get(); // a thread builds much the same again and again
        Self {
            values: 0,
            sources: Vec::with_capacity(sources.min(MOST)),
            computed: Vec::with_capacity(computed.min(MOST)),
            given: 0,
            outputs: SmallVec::new(),
            host_bytes: 0,
        }
    }

    /// Cuts out what is needed for `outputs`.
    ///
    /// # Errors
    /// Those of [`Cut::visit`].
    pub(crate) fn cut<'a>(
        outputs: impl IntoIterator<Item = &'a LazyTensor>,
        submitted: impl FnMut(&Node) -> Result<Option<S>>,
    ) -> Result<Self> {
        Self::cut_leaving(outputs, submitted, &mut Left::default())
    }

    /// The same, and what it lets go of stays in `left`.
    pub(crate) fn cut_leaving<'a>(
        outputs: impl IntoIterator<Item = &'a LazyTensor>,
        submitted: impl FnMut(&Node) -> Result<Option<S>>,
        left: &mut Left<'a, S>,
    ) -> Result<Self> {
        let mut cut = Cut::new(submitted, Self::new());
        match cut.ask(outputs, &mut left.pins) {
            Ok(()) => Ok(cut.into),
            Err(error) => {
                left.gathered = Some(cut.into);
                Err(error)
            }
        }
    }

    /// What was cut so far makes the arguments of a compiled function. What follows knows their values
    /// only through placeholders: a node that the function captured and that an argument is made of as
    /// well is another value there, since the next call brings another argument.
    pub(crate) fn end_arguments(&mut self, values: &[ValueId]) {
        self.given = self.computed.len();
        self.outputs = SmallVec::from_slice(values);
    }

    /// If the output at this place is the result of another fragment: that result.
    pub(crate) fn found(&self, output: usize) -> Option<&S> {
        self.result(*self.outputs.get(output)?)
    }

    /// Adds a leaf: a tensor that exists.
    pub(crate) fn leaf(&mut self, value: ValueId, leaf: &Leaf<'_>) {
        let tensor = leaf.tensor;
        self.values = value + 1;
        self.host_bytes += leaf.host_bytes;
        self.sources.push(SourceValue {
            value,
            dims: Dims::from_slice(tensor.dims()),
            dtype: tensor.dtype(),
            handed_in: leaf.handed_in,
            source: Source::Leaf(tensor.clone(), leaf.kept.cloned()),
        });
    }

    fn result(&self, value: ValueId) -> Option<&S> {
        let source = self.sources.binary_search_by_key(&value, |s| s.value);
        match &self.sources[source.ok()?].source {
            Source::Submitted(slot) => Some(slot),
            Source::Leaf(..) => None,
        }
    }
}

impl<S> Gather<LazyTensor> for Fragment<S> {
    type Submitted = S;

    fn leaf(&mut self, value: ValueId, node: &Node) {
        Fragment::leaf(self, value, &Leaf::of(node));
    }

    fn submitted(&mut self, value: ValueId, node: &Node, result: S) {
        self.values = value + 1;
        self.sources.push(SourceValue {
            value,
            dims: copy(&node.dims),
            dtype: node.dtype,
            handed_in: false,
            source: Source::Submitted(result),
        });
    }

    fn computed(&mut self, value: ValueId, opened: Opened<'_, LazyTensor>, inputs: &[ValueId]) {
        let Opened { node, expr } = opened;
        self.values = value + 1;
        self.computed.push(Computed {
            value,
            op: expr.op.clone(),
            inputs: SmallVec::from_slice(inputs),
            dims: copy(&node.dims),
            dtype: node.dtype,
        });
    }

    fn end(&mut self, outputs: SmallVec<[ValueId; 1]>) {
        self.outputs = outputs;
        LAST.set((self.sources.len(), self.computed.len()));
    }
}
