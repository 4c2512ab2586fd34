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

/// So many numbers are looked through for one that is the same.
const COMPARED: usize = 32;

/// The place of a number among the parameters: each different one stands there once, in
/// first-use order.
fn place(scalars: &mut Scalars, scalar: f32) -> u32 {
    let same = |s: &f32| s.to_bits() == scalar.to_bits();
    let known = scalars.iter().take(COMPARED).position(same);
    let place = known.unwrap_or(scalars.len());
    if known.is_none() {
        scalars.push(scalar);
    }
    place as u32
}

/// The numbers of a node that are parameters: those of operations on f32.
fn numbers(node: &Computed, on_f32: bool) -> SmallVec<[f32; 2]> {
    match on_f32 {
        true => node.op.scalars(),
        false => SmallVec::new(),
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
    let (mut scalars, f32s) = (Scalars::new(), f32s(fragment));
    let places = fragment.computed.iter().map(|node| {
        let on_f32 = parametric && node.inputs.first().is_some_and(|&i| f32s[i as usize]);
        let numbers = numbers(node, on_f32).into_iter();
        numbers.map(|number| place(&mut scalars, number)).collect()
    });
    places.collect()
}

impl Signature {
    /// Becomes the signature of a fragment. With `parametric`, the numbers of operations on f32
    /// are left out and returned, so that one plan serves many of them.
    pub(super) fn of<S>(&mut self, fragment: &Fragment<S>, parametric: bool) -> Scalars {
        let (words, f32s) = (&mut self.words, f32s(fragment));
        let mut scalars = Scalars::new();
        words.clear();
        words.push(u64::from(fragment.values) << 1 | u64::from(parametric));
        words.push(fragment.sources.len() as u64);
        for source in &fragment.sources {
            words.push(u64::from(source.value) << 16 | dtype_word(source.dtype) << 8);
            list(words, source.dims.iter().copied());
            match source.lies() {
                Lies::Strided(strides) => list(words, strides.iter().copied()),
                Lies::InOrder => words.push(u64::MAX),
                Lies::Unknown => words.push(u64::MAX - 1),
            }
        }
        for node in &fragment.computed {
            words.push(u64::from(node.value) << 32 | node.inputs.len() as u64);
            words.extend(node.inputs.iter().map(|&input| u64::from(input)));
            let on_f32 = parametric && node.inputs.first().is_some_and(|&i| f32s[i as usize]);
            if on_f32 {
                node.op.encode_kind(words);
                let numbers = numbers(node, on_f32).into_iter();
                words.extend(numbers.map(|number| u64::from(place(&mut scalars, number))));
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
        let mut hasher = FxHasher::default();
        words.iter().for_each(|&word| hasher.write_u64(word));
        self.hash = hasher.finish();
        scalars
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
