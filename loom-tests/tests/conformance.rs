//! The two halves of `sync` against each other: the stand-ins give the same answers to the same
//! random calls as the real crates do, and drop messages and values at the same moments.
//!
//! The concurrent half of the contract (that the real ones are linearizable) is assumed of them,
//! and exercised by the runs on real threads and under ThreadSanitizer.
#![cfg(candlewick_loom)]

#[path = "../../src/core/sync/real.rs"]
#[allow(dead_code, unused_imports, clippy::disallowed_methods)]
mod real; // the shipped half, which this build of candlewick leaves out

use candlewick_loom_tests::core::sync::{Alter, Map, Swap, channel};
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

const SEEDS: u64 = 3000;
const CALLS: u64 = 40;

struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A value that counts in its side's counter when it is dropped.
struct Counted(u64, StdArc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_add(1, SeqCst);
    }
}

/// How many values have been dropped, in the model and in the real crate.
#[derive(Default)]
struct Drops {
    model: StdArc<AtomicUsize>,
    real: StdArc<AtomicUsize>,
}

impl Drops {
    fn pair(&self, n: u64) -> (Counted, Counted) {
        (
            Counted(n, self.model.clone()),
            Counted(n, self.real.clone()),
        )
    }
    fn check(&self, seed: u64) {
        let (model, real) = (self.model.load(SeqCst), self.real.load(SeqCst));
        assert_eq!(model, real, "dropped at different times; seed {seed}");
    }
}

/// An answer to `try_send` that can be compared.
fn sent(answer: Result<(), channel::TrySendError<Counted>>) -> Result<(), (bool, u64)> {
    answer.map_err(|error| {
        let full = error.is_full();
        (full, error.into_inner().0)
    })
}

/// `true` for each kind of answer that this run met: sent, full, refused; got, empty, over.
type Met = [bool; 6];

fn channels(seed: u64) -> Met {
    let mut rng = Rng::new(seed);
    let (drops, mut met) = (Drops::default(), Met::default());
    let capacity = 1 + rng.below(3) as usize;
    let (sender, receiver) = channel::bounded::<Counted>(capacity);
    let (real_sender, real_receiver) = real::channel::bounded::<Counted>(capacity);
    let mut senders = vec![(sender, real_sender)];
    let mut receivers = Some((receiver, real_receiver));
    for n in 0..CALLS {
        match (rng.below(16), senders.first(), &receivers) {
            (0..=6, Some((model, real)), _) => {
                let (a, b) = drops.pair(n);
                let answer = sent(model.try_send(a));
                assert_eq!(answer, sent(real.try_send(b)), "seed {seed}");
                met[answer.map_or_else(|(full, _)| if full { 1 } else { 2 }, |()| 0)] = true;
            }
            (7..=12, _, Some((model, real))) => {
                let answer = model.try_recv().map(|message| message.0);
                assert_eq!(
                    answer,
                    real.try_recv().map(|message| message.0),
                    "seed {seed}"
                );
                met[match answer {
                    Ok(_) => 3,
                    Err(channel::TryRecvError::Empty) => 4,
                    Err(channel::TryRecvError::Disconnected) => 5,
                }] = true;
            }
            (13, Some((model, real)), _) if senders.len() < 4 => {
                let more = (model.clone(), real.clone());
                senders.push(more);
            }
            (14, Some(_), _) => drop(senders.pop()),
            (15, _, Some(_)) if rng.below(4) == 0 => receivers = None,
            _ => {}
        }
        drops.check(seed);
    }
    drop((senders, receivers));
    drops.check(seed);
    met
}

fn number(value: Option<&Counted>) -> Option<u64> {
    value.map(|value| value.0)
}

/// Whether a new value takes the place of this one.
fn replaces(old: Option<&Counted>) -> bool {
    number(old).is_none_or(|n| n % 2 == 1)
}

fn maps(seed: u64) {
    let mut rng = Rng::new(seed);
    let drops = Drops::default();
    let (model, real) = (Map::<u64, Counted>::new(), real::Map::<u64, Counted>::new());
    for n in 0..CALLS {
        let key = rng.below(5);
        match rng.below(8) {
            0..=3 => {
                let (a, b) = drops.pair(n);
                let (old, saw) = model.alter(key, |old| match replaces(old) {
                    true => (Alter::Put(a), number(old)),
                    false => (Alter::Keep, number(old)),
                });
                let (real_old, real_saw) = real.alter(key, |old| match replaces(old) {
                    true => (real::Alter::Put(b), number(old)),
                    false => (real::Alter::Keep, number(old)),
                });
                assert_eq!(
                    number(old.as_ref()),
                    number(real_old.as_ref()),
                    "seed {seed}"
                );
                assert_eq!(saw, real_saw, "seed {seed}");
            }
            4 | 5 => {
                let looked = model.with(key, |value| value.0);
                assert_eq!(looked, real.with(key, |value| value.0), "seed {seed}");
            }
            _ => {
                let removed = model.remove_if(key, |value| value.0 % 3 != 0);
                let real_removed = real.remove_if(key, |value| value.0 % 3 != 0);
                assert_eq!(
                    number(removed.as_ref()),
                    number(real_removed.as_ref()),
                    "seed {seed}"
                );
            }
        }
        assert_eq!(model.entries(), real.entries(), "seed {seed}");
        drops.check(seed);
    }
    drop((model, real));
    drops.check(seed);
}

/// Compares the answers of the two swaps, and not when values are dropped: the model keeps every value
/// as long as it lives.
fn swaps(seed: u64) {
    use candlewick_loom_tests::core::sync::Arc;
    let mut rng = Rng::new(seed);
    let model = Swap::new(Arc::new(0));
    let real = real::Swap::new(StdArc::new(0));
    for n in 1..CALLS {
        match rng.below(3) {
            0 => {
                assert_eq!(*model.load_full(), *real.load_full(), "seed {seed}");
                let look = |value: &u64| *value;
                assert_eq!(model.with(look), real.with(look), "seed {seed}");
            }
            1 => {
                let old = model.rcu(|old| Arc::new(**old * 31 % 1009 + n));
                let real_old = real.rcu(|old| StdArc::new(**old * 31 % 1009 + n));
                assert_eq!(*old, *real_old, "seed {seed}");
            }
            _ => {
                // the same value again
                let old = model.rcu(Arc::clone);
                let real_old = real.rcu(StdArc::clone);
                assert_eq!(*old, *real_old, "seed {seed}");
            }
        }
    }
    assert_eq!(*model.load_full(), *real.load_full(), "seed {seed}");
}

#[test]
fn channels_agree() {
    let met = StdArc::new(std::sync::Mutex::new(Met::default()));
    for seed in 0..SEEDS {
        let met = met.clone();
        loom::model(move || {
            let some = channels(seed);
            let mut all = met.lock().unwrap();
            (0..all.len()).for_each(|i| all[i] |= some[i]);
        });
    }
    assert_eq!(
        *met.lock().unwrap(),
        [true; 6],
        "vacuous: some kind of answer never came"
    );
}

#[test]
fn maps_agree() {
    (0..SEEDS).for_each(|seed| loom::model(move || maps(seed)));
}

#[test]
fn swaps_agree() {
    (0..SEEDS).for_each(|seed| loom::model(move || swaps(seed)));
}
