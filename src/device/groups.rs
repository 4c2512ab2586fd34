//! Which fragments of a batch share what: the same tensors, by identity.

use super::runner::Tensors;
use super::value::read;
use crate::core::actor::engine::Member;
use crate::error::Error;
use crate::graph::fragment::{Source as From, ValueId};
use candle_core::Tensor;

/// A value that a fragment does not compute.
pub(super) struct Source {
    pub(super) value: ValueId,
    pub(super) tensor: Tensor,
}

/// Fragments that run together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Their places in the batch.
    pub(super) members: Vec<usize>,
    /// For each value, whether it is the same tensor for all of them.
    pub(super) same: Vec<bool>,
}

impl Source {
    /// Those of a fragment, in the order of their values; or the error of an input that failed.
    pub(super) fn all(fragment: &Member<'_, Tensors>) -> Result<Vec<Self>, Error> {
        let sources = fragment.work.sources.iter();
        let sources = sources.map(|(value, source)| {
            let tensor = match source {
                From::Leaf(tensor, _) => tensor.clone(),
                From::Submitted(index) => fragment.inputs.read(*index, read)?.whole()?.clone(),
            };
            let value = *value;
            Ok(Self { value, tensor })
        });
        sources.collect()
    }

    fn bytes(&self) -> usize {
        self.tensor.elem_count() * self.tensor.dtype().size_in_bytes()
    }
}

/// For each of the first one's sources, whether the other has the same tensor in its place.
fn shared(first: &[Source], other: &[Source]) -> Vec<bool> {
    let mut others = other.iter().peekable();
    let same = first.iter().map(|source| {
        while others.next_if(|other| other.value < source.value).is_some() {}
        let other = others.peek().filter(|other| other.value == source.value);
        other.is_some_and(|other| other.tensor.id() == source.tensor.id())
    });
    same.collect()
}

/// Divides fragments into groups: each begins with the first that is left, and takes in those
/// that share with it the set of tensors by which most bytes are saved.
pub(super) fn groups(sources: &[Vec<Source>]) -> Vec<Group> {
    let mut left: Vec<usize> = (0..sources.len()).collect();
    let mut groups = Vec::new();
    while let Some((&first, others)) = left.split_first() {
        let own = &sources[first];
        let shares = others.iter().map(|&other| shared(own, &sources[other]));
        let shares: Vec<Vec<bool>> = shares.collect();
        let covers = |share: &[bool], set: &[bool]| set.iter().zip(share).all(|(s, x)| !s || *x);
        let saved = |set: &[bool]| {
            let count = shares.iter().filter(|share| covers(share, set)).count();
            let bytes = own.iter().zip(set).filter(|(_, same)| **same);
            let bytes = bytes.map(|(s, _)| s.bytes());
            let bytes = bytes.fold(0, usize::saturating_add);
            (count.saturating_mul(bytes), count)
        };
        let none = vec![false; own.len()];
        let mut best = (saved(&none), &none);
        let mut tried: Vec<&Vec<bool>> = Vec::new();
        for set in &shares {
            if !tried.contains(&set) {
                tried.push(set);
                best = best.max((saved(set), set));
            }
        }
        let set = best.1;
        let end = own.last().map_or(0, |source| source.value as usize + 1);
        let mut same = vec![false; end];
        for (source, shared) in own.iter().zip(set) {
            same[source.value as usize] = *shared;
        }
        let with = others.iter().zip(&shares);
        let with = with.filter(|(_, share)| covers(share, set));
        let members: Vec<usize> = [first].into_iter().chain(with.map(|(&m, _)| m)).collect();
        left.retain(|place| !members.contains(place));
        groups.push(Group { members, same });
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn tensor(len: usize) -> Tensor {
        Tensor::zeros(len, candle_core::DType::F32, &Device::Cpu).unwrap()
    }

    fn sources(tensors: &[&Tensor]) -> Vec<Source> {
        let sources = tensors.iter().zip(0..).map(|(&tensor, value)| Source {
            value: value * 2,
            tensor: tensor.clone(),
        });
        sources.collect()
    }

    fn members(groups: &[Group]) -> Vec<&[usize]> {
        groups.iter().map(|group| &group.members[..]).collect()
    }

    #[test]
    fn two_models_are_two_groups() {
        let (a, b) = (tensor(100), tensor(100));
        let x: Vec<Tensor> = (0..5).map(|_| tensor(1)).collect();
        let all: Vec<_> = x
            .iter()
            .enumerate()
            .map(|(i, x)| sources(&[x, if i % 2 == 0 { &a } else { &b }]))
            .collect();
        let groups = groups(&all);
        assert_eq!(members(&groups), [&[0, 2, 4][..], &[1, 3]]);
        assert_eq!(groups[0].same, [false, false, true]);
    }

    #[test]
    fn adapters_share_the_base() {
        let base = tensor(1000);
        let adapters = [tensor(10), tensor(10)];
        let x: Vec<Tensor> = (0..4).map(|_| tensor(1)).collect();
        let all: Vec<_> = x
            .iter()
            .enumerate()
            .map(|(i, x)| sources(&[x, &base, &adapters[i % 2]]))
            .collect();
        let groups = groups(&all);
        assert_eq!(members(&groups), [[0, 1, 2, 3]]);
        assert_eq!(groups[0].same, [false, false, true, false, false]);
    }

    #[test]
    fn the_same_input_twice_is_not_what_all_share() {
        let (w, x, y) = (tensor(100), tensor(10), tensor(10));
        let all = [&x, &x, &y].map(|x| sources(&[x, &w]));
        let found = groups(&all);
        assert_eq!(members(&found), [[0, 1, 2]]);
        assert_eq!(found[0].same, [false, false, true]);
        let twins = groups(&all[..2]);
        assert_eq!(twins[0].same, [true, false, true]);
    }

    #[test]
    fn what_shares_nothing_runs_together_all_the_same() {
        let x: Vec<Tensor> = (0..3).map(|_| tensor(1)).collect();
        let all: Vec<_> = x.iter().map(|x| sources(&[x])).collect();
        assert_eq!(members(&groups(&all)), [[0, 1, 2]]);
    }
}
