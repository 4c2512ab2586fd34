//! Choosing the next id from scores.

use crate::{Error, Invalid, Reason, Result};
use std::sync::Arc;

/// How the next id is chosen from the scores.
///
/// ```
/// use candlewick::models::Sampling;
/// let greedy = Sampling::greedy();
/// let bold = Sampling { temperature: 0.8, top_k: Some(40), top_p: Some(0.95), seed: 7 };
/// assert_eq!(Sampling { temperature: 0.0, ..bold }.temperature, greedy.temperature);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// The number by which scores are divided before they become probabilities; at 0 the id with the highest
    /// score is taken, the first of equal ones.
    pub temperature: f64,
    /// How many ids the choice is made from: those with the highest scores. `None` for all.
    pub top_k: Option<usize>,
    /// The choice is made from the fewest ids, of the highest scores, whose probabilities add up to at least
    /// this (nucleus sampling, [Holtzman et al. 2019](https://arxiv.org/abs/1904.09751)). `None` for all ids.
    pub top_p: Option<f64>,
    /// Where the choice begins in the sequence of random numbers: with the same seed and the same scores the
    /// same ids are chosen.
    pub seed: u64,
}

impl Sampling {
    /// Always the id with the highest score.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: None,
            seed: 0,
        }
    }
}

/// Chooses ids from scores.
pub(super) struct Choice {
    pub(super) sampling: Sampling,
    random: u64,
}

impl Choice {
    pub(super) fn new(sampling: Sampling) -> Result<Self> {
        let Sampling {
            temperature,
            top_k,
            top_p,
            seed,
        } = sampling;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(refuse("the temperature", "a number that is not negative"));
        }
        if top_k == Some(0) {
            return Err(refuse("top_k", "at least 1"));
        }
        if top_p.is_some_and(|p| p.is_nan() || p <= 0.0 || p > 1.0) {
            return Err(refuse("top_p", "above 0 and at most 1"));
        }
        let random = seed;
        Ok(Self { sampling, random })
    }

    pub(super) fn choose(&mut self, scores: &[f32]) -> Result<u32> {
        let highest = scores.iter().copied().filter(|s| !s.is_nan());
        let highest = highest.fold(f32::NEG_INFINITY, f32::max);
        if highest.is_infinite() {
            return Err(refuse("the scores", "numbers"));
        }
        let place = match self.sampling.temperature {
            0.0 => scores.iter().position(|&s| s == highest),
            temperature => self.sample(scores, f64::from(highest), temperature),
        };
        Ok(place.unwrap_or_default() as u32)
    }

    fn sample(&mut self, scores: &[f32], highest: f64, temperature: f64) -> Option<usize> {
        let weight = |s: f32| ((f64::from(s) - highest) / temperature).exp();
        let weights = scores.iter().map(|&s| weight(s)).enumerate();
        let mut weights: Vec<(usize, f64)> = weights.filter(|(_, w)| *w > 0.0).collect();
        // the highest first, of equal ones the first
        weights.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        weights.truncate(self.sampling.top_k.unwrap_or(usize::MAX));
        if let Some(p) = self.sampling.top_p {
            let all: f64 = weights.iter().map(|(_, w)| w).sum();
            let mut sum = 0.0;
            let reached = weights.iter().position(|(_, w)| {
                sum += w;
                sum >= p * all
            });
            weights.truncate(reached.map_or(usize::MAX, |last| last + 1));
        }
        let all: f64 = weights.iter().map(|(_, w)| w).sum();
        let mut rest = self.uniform() * all;
        let chosen = weights.iter().find(|(_, w)| {
            rest -= w;
            rest < 0.0
        });
        chosen.or(weights.last()).map(|(place, _)| *place)
    }

    /// A random number from 0 to below 1: SplitMix64, as of
    /// [Steele, Lea and Flood 2014](https://doi.org/10.1145/2714064.2660195).
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

pub(super) fn refuse(name: &'static str, must: &'static str) -> Error {
    invalid(Reason::Argument { name, must })
}

pub(super) fn invalid(reason: Reason) -> Error {
    Error::Invalid(Arc::new(Invalid {
        op: "generate",
        operands: Vec::new(),
        reason,
    }))
}
