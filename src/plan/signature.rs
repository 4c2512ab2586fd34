//! What makes two fragments the same to a plan.

use super::Scalars;
use super::draft::Lies;
use crate::graph::encode::{Words, dtype_word, list};
use crate::graph::fragment::{Computed, Fragment, Source, SourceValue};
use candle_core::DType;
use rustc_hash::FxHasher;
use smallvec::SmallVec;
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
/// So many numbers are looked through for one that is the same.
const COMPARED: usize = 32;

/// The parameters of a plan, in the making.
#[derive(Default)]
struct Parameters {
    scalars: Scalars,
    /// Those before this one belong to the arguments of a compiled function.
    from: usize,
}

impl Parameters {
    /// The places of a node's numbers, if they are parameters: those of operations on f32.
    fn of(&mut self, node: &Computed, on_f32: bool) -> SmallVec<[u32; 2]> {
        let mut places = SmallVec::new();
        if on_f32 {
            for &scalar in &node.op.scalars() {
                places.push(self.place(scalar));
            }
        }
        places
    }

    /// The place of a number: each different one stands there once, in first-use order.
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

    /// What comes from here on shares nothing with what came before.
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
        let (words, f32s) = (&mut self.words, f32s(fragment));
        let mut parameters = Parameters::default();
        words.clear();
        words.push(u64::from(fragment.values) << 1 | u64::from(parametric));
        words.push(fragment.sources.len() as u64);
        for source in &fragment.sources {
            let lies = source.lies();
            let how = match lies {
                Lies::InOrder => 0,
                Lies::Strided(_) => 1,
                Lies::Unknown => 2,
            };
            let what = dtype_word(source.dtype) << 8 | how;
            words.push(u64::from(source.value) << 32 | (source.dims.len() as u64) << 16 | what);
            words.extend(source.dims.iter().map(|&d| d as u64));
            if let Lies::Strided(strides) = lies {
                words.extend(strides.iter().map(|&s| s as u64));
            }
        }
        for (at, node) in fragment.computed.iter().enumerate() {
            if at == fragment.given {
                parameters.part();
            }
            // computed values have the numbers that sources leave over, in order
            let first = node.inputs.first().copied().unwrap_or_default();
            words.push(u64::from(first) << 32 | node.inputs.len() as u64);
            words.extend(node.inputs.iter().skip(1).map(|&input| u64::from(input)));
            let on_f32 = parametric && node.inputs.first().is_some_and(|&i| f32s[i as usize]);
            if on_f32 {
                node.op.encode_kind(words);
                let places = parameters.of(node, on_f32);
                places.iter().for_each(|&place| words.push(place.into()));
            } else {
                node.op.encode(words);
            }
            if node.op.is_opaque() {
                // only the operation knows what it makes of its operands
                words.push(dtype_word(node.dtype));
                list(words, node.dims.iter().copied());
            }
        }
        list(words, fragment.outputs.iter().map(|&o| o as usize));
        self.rehash();
        parameters.scalars
    }

    /// Adds something that the fragment does not say, after [`Signature::of`].
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

impl<S> SourceValue<S> {
    /// How it lies in memory. The result of another fragment may be a view.
    pub(super) fn lies(&self) -> Lies {
        match &self.source {
            Source::Leaf(tensor, _) if tensor.is_contiguous() => Lies::InOrder,
            Source::Leaf(tensor, _) => Lies::Strided(tensor.stride().iter().copied().collect()),
            Source::Submitted(_) => Lies::Unknown,
        }
    }
}
