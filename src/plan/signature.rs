//! What makes two fragments the same to a plan.

use crate::graph::Dims;
use crate::graph::encode::{Words, dtype_word, list};
use crate::graph::fragment::{Fragment, Source, SourceValue, ValueId};
use candle_core::DType;
use rustc_hash::FxHasher;
use smallvec::SmallVec;
use std::hash::Hasher;

/// A fragment's structure, shapes and dtypes, in first-use numbering. Two fragments have the same
/// plan exactly if these words are equal.
#[derive(Debug)]
pub(crate) struct Signature {
    pub(crate) words: Words,
    pub(crate) hash: u64,
}

/// The numbers of a fragment's operations that are parameters of its plan.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    /// Each different number once, in first-use order.
    pub(crate) scalars: SmallVec<[f32; 8]>,
    /// For each computed value, which of them are its operation's.
    pub(crate) places: Vec<SmallVec<[u32; 2]>>,
}

/// So many numbers are looked through for one that is the same.
const COMPARED: usize = 32;

impl Parameters {
    fn place(&mut self, scalar: f32) -> u32 {
        let same = |s: &f32| s.to_bits() == scalar.to_bits();
        let known = self.scalars.iter().take(COMPARED).position(same);
        let place = known.unwrap_or(self.scalars.len());
        if known.is_none() {
            self.scalars.push(scalar);
        }
        place as u32
    }
}

/// The signature of a fragment. With `parametric`, the numbers of operations on f32 are left out
/// and returned apart, so that one plan serves many of them.
pub(crate) fn signature<S>(fragment: &Fragment<S>, parametric: bool) -> (Signature, Parameters) {
    let mut words = Words::new();
    let mut parameters = Parameters::default();
    parameters.places.reserve(fragment.computed.len());
    words.push(u64::from(fragment.values) << 1 | u64::from(parametric));
    words.push(fragment.sources.len() as u64);
    let mut dtypes: SmallVec<[DType; 32]> = SmallVec::new();
    dtypes.resize(fragment.values as usize, DType::U8);
    for source in &fragment.sources {
        dtypes[source.value as usize] = source.dtype;
        words.push(u64::from(source.value) << 16 | dtype_word(source.dtype) << 8);
        list(&mut words, source.dims.iter().copied());
        match source.strides() {
            Some(strides) => list(&mut words, strides.iter().copied()),
            None => words.push(u64::MAX),
        }
    }
    for node in &fragment.computed {
        let mut places = SmallVec::new();
        dtypes[node.value as usize] = node.dtype;
        let on_f32 = |&input: &ValueId| dtypes[input as usize] == DType::F32;
        words.push(u64::from(node.value) << 32 | node.inputs.len() as u64);
        words.extend(node.inputs.iter().map(|&input| u64::from(input)));
        if parametric && node.inputs.first().is_some_and(on_f32) {
            node.op.encode_kind(&mut words);
            for scalar in node.op.scalars() {
                let place = parameters.place(scalar);
                words.push(u64::from(place));
                places.push(place);
            }
        } else {
            node.op.encode(&mut words);
        }
        if node.op.is_opaque() {
            // only the operation knows what it makes of its operands
            words.push(dtype_word(node.dtype));
            list(&mut words, node.dims.iter().copied());
        }
        parameters.places.push(places);
    }
    list(&mut words, fragment.outputs.iter().map(|&o| o as usize));
    let mut hasher = FxHasher::default();
    words.iter().for_each(|&word| hasher.write_u64(word));
    let hash = hasher.finish();
    (Signature { words, hash }, parameters)
}

impl<S> SourceValue<S> {
    /// The strides of a tensor that exists and does not lie in order.
    pub(crate) fn strides(&self) -> Option<Dims> {
        match &self.source {
            Source::Leaf(tensor) if !tensor.is_contiguous() => {
                Some(tensor.stride().iter().copied().collect())
            }
            _ => None,
        }
    }
}
