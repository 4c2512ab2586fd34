//! What makes two fragments the same to a plan.

use super::Scalars;
use super::draft::Lies;
use crate::core::cut::Opened;
use crate::graph::cut::{Gather, operand_dtype};
use crate::graph::encode::{Words, dtype_word, list};
use crate::graph::fragment::{Computed, Fragment, Source, SourceValue, ValueId};
use crate::graph::leaf::Leaf;
use crate::graph::{LazyTensor, Node, Op};
use candle_core::{DType, Tensor};
use rustc_hash::FxHasher;
use smallvec::SmallVec;
use std::cell::Cell;
use std::hash::Hasher;

/// A fragment's structure, shapes and dtypes, in first-use numbering. Two fragments have the same
/// plan exactly if these words are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) words: Words,
    pub(crate) hash: u64,
}

/// Spreads the bits of a word over all of a hash: 2^64 divided by the golden ratio.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
/// How many of the parameters are compared with a number, at most, to find one that is equal.
const COMPARED: usize = 32;

/// The numbers that a plan takes as parameters, while a signature is made.
#[derive(Default)]
struct Parameters {
    scalars: Scalars,
    /// The place of the first parameter that may be shared: those before it belong to the arguments of a
    /// compiled function.
    from: usize,
}

impl Parameters {
    /// The places of a node's numbers, if they are parameters: those of operations on f32.
    fn of(&mut self, node: &Computed, on_f32: bool) -> SmallVec<[u32; 2]> {
        match on_f32 {
            true => {
                let scalars = node.op.scalars();
                scalars.iter().map(|&scalar| self.place(scalar)).collect()
            }
            false => SmallVec::new(),
        }
    }

    /// The place of a number among the parameters, which are added in the order of their first use. Equal
    /// numbers have one place, as far as [`COMPARED`] reaches.
    fn place(&mut self, scalar: f32) -> u32 {
        let (scalars, from) = (&mut self.scalars, self.from);
        let same = |s: &f32| s.to_bits() == scalar.to_bits();
        let known = scalars[from..].iter().take(COMPARED).position(same);
        let place = known.map_or(scalars.len(), |place| from + place);
        if known.is_none() {
            scalars.push(scalar);
        }
        place as u32
    }

    /// Numbers that are added from here on share no place with those that were added before.
    fn part(&mut self) {
        self.from = self.scalars.len();
    }
}

/// Which values of a fragment are f32.
fn f32s<S>(fragment: &Fragment<S>) -> SmallVec<[bool; 64]> {
    let mut f32s = SmallVec::new();
    f32s.resize(fragment.values as usize, false);
    for source in &fragment.sources {
        f32s[source.value as usize] = source.dtype == DType::F32;
    }
    for node in &fragment.computed {
        f32s[node.value as usize] = node.dtype == DType::F32;
    }
    f32s
}

/// For each computed value, which parameters are its operation's numbers.
pub(super) fn parameters<S>(fragment: &Fragment<S>, parametric: bool) -> Vec<SmallVec<[u32; 2]>> {
    let (mut parameters, f32s) = (Parameters::default(), f32s(fragment));
    let places = fragment.computed.iter().enumerate().map(|(at, node)| {
        if at == fragment.given {
            parameters.part();
        }
        let on_f32 = parametric && node.inputs.first().is_some_and(|&i| f32s[i as usize]);
        parameters.of(node, on_f32)
    });
    places.collect()
}

impl Signature {
    /// Becomes the signature of a fragment. With `parametric`, the numbers of operations on f32
    /// are left out and returned, so that one plan serves many of them.
    pub(super) fn of<S>(&mut self, fragment: &Fragment<S>, parametric: bool) -> Scalars {
        let f32s = f32s(fragment);
        let mut writer = Writer::new(self, parametric);
        let mut sources = fragment.sources.iter().peekable();
        for (at, node) in fragment.computed.iter().enumerate() {
            while let Some(source) = sources.next_if(|source| source.value < node.value) {
                writer.source(&source.dims, source.dtype, &source.lies());
            }
            if at == fragment.given {
                writer.parameters.part();
            }
            let on_f32 = node.inputs.first().is_some_and(|&i| f32s[i as usize]);
            writer.computed(&node.op, &node.inputs, on_f32, &node.dims, node.dtype);
        }
        for source in sources {
            writer.source(&source.dims, source.dtype, &source.lies());
        }
        writer.end(fragment.values, &fragment.outputs);
        writer.parameters.scalars
    }

    /// Adds words that do not come from the fragment, after [`Signature::of`].
    pub(super) fn and(&mut self, more: impl IntoIterator<Item = u64>) {
        self.words.extend(more);
        self.rehash();
    }

    fn rehash(&mut self) {
        let mut hasher = FxHasher::default();
        // four at once: each multiplication waits for the one before
        let mut lanes = [0u64; 4];
        let (fours, rest) = self.words.as_chunks::<4>();
        for four in fours {
            for (lane, word) in lanes.iter_mut().zip(four) {
                *lane = (lane.rotate_left(5) ^ word).wrapping_mul(ODD);
            }
        }
        let words = lanes.iter().chain(rest);
        words.for_each(|&word| hasher.write_u64(word));
        self.hash = hasher.finish();
    }
}

/// A signature in the making. Values come in the order of their numbers, which therefore are not
/// written.
struct Writer<'s> {
    signature: &'s mut Signature,
    parameters: Parameters,
    parametric: bool,
}

impl<'s> Writer<'s> {
    /// A word that begins no value.
    const END: u64 = u64::MAX;

    fn new(signature: &'s mut Signature, parametric: bool) -> Self {
        signature.words.clear();
        Self {
            signature,
            parameters: Parameters::default(),
            parametric,
        }
    }

    /// The lowest bit of the first word tells a source from what is computed.
    fn source(&mut self, dims: &[usize], dtype: DType, lies: &Lies) {
        let how = match lies {
            Lies::InOrder => 0,
            Lies::Strided(_) => 1,
            Lies::Unknown => 2,
        };
        let words = &mut self.signature.words;
        words.push((dims.len() as u64) << 32 | dtype_word(dtype) << 16 | how << 8 | 1);
        words.extend(dims.iter().map(|&d| d as u64));
        if let Lies::Strided(strides) = lies {
            words.extend(strides.iter().map(|&s| s as u64));
        }
    }

    fn computed(
        &mut self,
        op: &Op,
        inputs: &[ValueId],
        on_f32: bool,
        dims: &[usize],
        dtype: DType,
    ) {
        let words = &mut self.signature.words;
        let first = inputs.first().copied().unwrap_or_default();
        words.push(u64::from(first) << 32 | (inputs.len() as u64) << 1);
        words.extend(inputs.iter().skip(1).map(|&input| u64::from(input)));
        if on_f32 && self.parametric {
            op.encode_kind(words);
            for scalar in op.scalars() {
                words.push(self.parameters.place(scalar).into());
            }
        } else {
            op.encode(words);
        }
        if op.is_opaque() {
            // only the operation knows what it makes of its operands
            words.push(dtype_word(dtype));
            list(words, dims.iter().copied());
        }
    }

    fn end(&mut self, values: u32, outputs: &[ValueId]) {
        let words = &mut self.signature.words;
        words.push(Self::END);
        words.push(u64::from(values) << 1 | u64::from(self.parametric));
        list(words, outputs.iter().map(|&output| output as usize));
        self.signature.rehash();
    }
}

/// Makes the signature of a graph while it is cut, without a fragment, and collects what a submission has of its
/// own besides its plan: sources, numbers, and operations that the plan leaves to it.
pub(super) struct Signing<'s, S> {
    writer: Writer<'s>,
    pub(super) sources: Vec<(ValueId, Source<S>)>,
    pub(super) attached: SmallVec<[Op; 1]>,
    pub(super) host_bytes: u64,
    /// Whether an output is the result of another fragment.
    pub(super) asks_for_known: bool,
    values: u32,
}

impl<'s, S> Signing<'s, S> {
    pub(super) fn new(signature: &'s mut Signature, parametric: bool) -> Self {
        Self {
            writer: Writer::new(signature, parametric),
            sources: Vec::with_capacity(SOURCES.get()),
            attached: SmallVec::new(),
            host_bytes: 0,
            asks_for_known: false,
            values: 0,
        }
    }

    /// The numbers that are parameters.
    pub(super) fn scalars(&mut self) -> Scalars {
        std::mem::take(&mut self.writer.parameters.scalars)
    }
}

impl<S> Gather<LazyTensor> for Signing<'_, S> {
    type Submitted = S;

    fn leaf(&mut self, value: ValueId, node: &Node) {
        let leaf = Leaf::of(node);
        let Leaf { tensor, kept, .. } = leaf;
        self.values = value + 1;
        self.host_bytes += leaf.host_bytes;
        self.writer
            .source(tensor.dims(), tensor.dtype(), &lies(tensor));
        let source = Source::Leaf(tensor.clone(), kept.cloned());
        self.sources.push((value, source));
    }

    fn submitted(&mut self, value: ValueId, node: &Node, result: S) {
        self.values = value + 1;
        self.writer.source(&node.dims, node.dtype, &Lies::Unknown);
        self.sources.push((value, Source::Submitted(result)));
    }

    fn computed(&mut self, value: ValueId, opened: Opened<'_, LazyTensor>, inputs: &[ValueId]) {
        let on_f32 = operand_dtype(&opened) == Some(DType::F32);
        let Opened { node, expr } = opened;
        let op = &expr.op;
        self.values = value + 1;
        self.writer
            .computed(op, inputs, on_f32, &node.dims, node.dtype);
        if op.is_opaque() {
            self.attached.push(op.clone());
        }
    }

    fn end(&mut self, outputs: SmallVec<[ValueId; 1]>) {
        self.writer.end(self.values, &outputs);
        let known = |output: &ValueId| {
            let source = self.sources.binary_search_by_key(output, |source| source.0);
            source.is_ok_and(|at| matches!(self.sources[at].1, Source::Submitted(_)))
        };
        self.asks_for_known = outputs.iter().any(known);
        SOURCES.set(self.sources.len().min(MOST));
    }
}

thread_local! {
    /// How many sources the last fragment had: a thread builds much the same again and again.
    static SOURCES: Cell<usize> = const { Cell::new(0) };
}

/// The most sources for which a signing reserves room at the beginning.
const MOST: usize = 1 << 14;

impl<S> SourceValue<S> {
    /// How the value lies in memory. That of the result of another fragment is unknown: it may be a view.
    pub(super) fn lies(&self) -> Lies {
        match &self.source {
            Source::Leaf(tensor, _) => lies(tensor),
            Source::Submitted(_) => Lies::Unknown,
        }
    }
}

fn lies(tensor: &Tensor) -> Lies {
    match tensor.is_contiguous() {
        true => Lies::InOrder,
        false => Lies::Strided(tensor.stride().iter().copied().collect()),
    }
}
