//! What was made for fragments, by signature: plans, and traces of compiled functions.

use super::signature::Signature;
use crate::core::versions::Versions;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What has a longer signature is not kept: some thousand operations, which cost more to run
/// than to plan, and are rarely met twice.
pub(super) const LONGEST: usize = 1 << 15;

/// A bounded set. Readers take no lock; a thread that adds something makes a new version of the set.
pub(crate) struct Cache<V> {
    versions: Versions<Set<V>>,
    kept: usize,
    made: AtomicU64,
}

/// By the hash of the signature; the signature itself decides.
struct Set<V> {
    by_hash: FxHashMap<u64, SmallVec<[Arc<Entry<V>>; 1]>>,
    entries: usize,
    /// How often everything was forgotten.
    age: Age,
}

/// Tells what was begun before everything was forgotten from what was begun after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Age(u64);

struct Entry<V> {
    signature: Signature,
    value: Arc<V>,
    /// How many had been made when it was last used: what was used longest ago goes first.
    used: AtomicU64,
}

impl<V> Clone for Set<V> {
    fn clone(&self) -> Self {
        Self {
            by_hash: self.by_hash.clone(),
            ..*self
        }
    }
}

impl<V> Set<V> {
    fn empty(age: Age) -> Self {
        Self {
            by_hash: FxHashMap::default(),
            entries: 0,
            age,
        }
    }

    fn find(&self, signature: &Signature) -> Option<&Arc<Entry<V>>> {
        let entries = self.by_hash.get(&signature.hash)?;
        let same = |entry: &&Arc<Entry<V>>| entry.signature.words == signature.words;
        entries.iter().find(same)
    }

    /// Removes half of the entries: those used longest ago.
    fn shrink(&mut self) {
        // ORDERING: Relaxed; an estimate of what is worth keeping.
        let used = |entry: &Arc<Entry<V>>| entry.used.load(Ordering::Relaxed);
        let mut times: Vec<u64> = self.by_hash.values().flatten().map(used).collect();
        times.sort_unstable();
        let mut excess = times.len().div_ceil(2);
        let oldest = times[excess - 1];
        self.by_hash.retain(|_, entries| {
            entries.retain(|entry| {
                let goes = excess > 0 && used(entry) <= oldest;
                excess -= usize::from(goes);
                !goes
            });
            !entries.is_empty()
        });
        self.entries = self.by_hash.values().map(SmallVec::len).sum();
    }
}

impl<V> Cache<V> {
    /// An empty set that keeps at most `kept` entries.
    pub(crate) fn new(kept: usize) -> Self {
        Self {
            versions: Versions::new(Set::empty(Age::default())),
            kept,
            made: AtomicU64::new(0),
        }
    }

    /// What is kept for this signature; else the age of the set, to be given to
    /// [`Cache::put`].
    pub(super) fn get(&self, signature: &Signature) -> Result<Arc<V>, Age> {
        self.versions.with(|set| {
            let entry = set.value.find(signature).ok_or(set.value.age)?;
            // ORDERING: Relaxed; both are estimates. Written only when it changes, so that many
            // readers of one entry share its cache line.
            let now = self.made.load(Ordering::Relaxed);
            if entry.used.load(Ordering::Relaxed) != now {
                entry.used.store(now, Ordering::Relaxed);
            }
            Ok(entry.value.clone())
        })
    }

    /// Keeps what was just made, unless everything was forgotten since it was begun, or another thread
    /// was faster.
    pub(super) fn put(&self, signature: Signature, value: &Arc<V>, age: Age) {
        // ORDERING: Relaxed; a count.
        let made = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        if self.kept == 0 || signature.words.len() > LONGEST {
            return;
        }
        let entry = Arc::new(Entry {
            signature,
            value: value.clone(),
            used: AtomicU64::new(made),
        });
        let added: Result<u64, Infallible> = self.versions.update(|set| {
            let mut set = set.clone();
            if set.age == age && set.find(&entry.signature).is_none() {
                if set.entries >= self.kept {
                    set.shrink();
                }
                let same_hash = set.by_hash.entry(entry.signature.hash).or_default();
                same_hash.push(entry.clone());
                set.entries += 1;
            }
            Ok(set)
        });
        let Ok(_) = added;
    }

    /// Forgets everything, also what is in the making.
    pub(crate) fn forget(&self) {
        let forgotten: Result<u64, Infallible> = self
            .versions
            .update(|set| Ok(Set::empty(Age(set.age.0 + 1))));
        let Ok(_) = forgotten;
    }

    /// How many were made, and how many are kept.
    pub(crate) fn counts(&self) -> (u64, usize) {
        // ORDERING: Relaxed; a statistic.
        let made = self.made.load(Ordering::Relaxed);
        (made, self.versions.snapshot().value.entries)
    }
}
