//! The one source of chance, and the hash of what became of it.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Every choice of an episode comes from here.
pub(crate) struct Random(SmallRng);

impl Random {
    /// The choices of one episode of a seed.
    pub(crate) fn new(seed: u64, episode: u64) -> Self {
        let mut hash = Hash::default();
        hash.mix(seed);
        hash.mix(episode);
        Self(SmallRng::seed_from_u64(hash.0))
    }

    /// A number below this one, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end as u64) as usize
    }

    pub(crate) fn between(&mut self, from: i64, to: i64) -> i64 {
        self.0.random_range(from..=to)
    }

    /// True with this probability, in percent.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A rolling hash of choices and observations, in their order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hash(pub(crate) u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Hash {
    /// One word more.
    pub(crate) fn mix(&mut self, word: u64) {
        let mut x = (self.0 ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 29;
        self.0 = x.wrapping_mul(0x94d0_49bb_1331_11eb).rotate_left(31);
    }
}
