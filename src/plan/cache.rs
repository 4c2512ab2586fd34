//! Plans that were made, by signature.

use super::Plan;
use super::signature::Signature;
use crate::versions::Versions;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A plan of a longer signature is not kept: some thousand operations, which cost more to run
/// than to plan, and are rarely met twice.
pub(super) const LONGEST: usize = 1 << 15;

/// A bounded set of plans. Readers take no lock; whoever adds a plan makes a new version of the
/// set.
pub(super) struct Cache {
    plans: Versions<Set>,
    kept: usize,
    made: AtomicU64,
}

/// By the hash of the signature; the signature itself decides.
#[derive(Clone, Default)]
struct Set {
    by_hash: FxHashMap<u64, SmallVec<[Arc<Entry>; 1]>>,
    entries: usize,
}

struct Entry {
    signature: Signature,
    plan: Arc<Plan>,
    /// The number of plans made when it was last used: what was used longest ago goes first.
    used: AtomicU64,
}

impl Set {
    fn find(&self, signature: &Signature) -> Option<&Arc<Entry>> {
        let entries = self.by_hash.get(&signature.hash)?;
        let same = |entry: &&Arc<Entry>| entry.signature.words == signature.words;
        entries.iter().find(same)
    }

    /// Removes half of the entries: those used longest ago.
    fn shrink(&mut self) {
        // ORDERING: Relaxed; an estimate of what is worth keeping.
        let used = |entry: &Arc<Entry>| entry.used.load(Ordering::Relaxed);
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

impl Cache {
    pub(super) fn new(kept: usize) -> Self {
        Self {
            plans: Versions::new(Set::default()),
            kept,
            made: AtomicU64::new(0),
        }
    }

    /// The plan of this signature.
    pub(super) fn get(&self, signature: &Signature) -> Option<Arc<Plan>> {
        let plans = self.plans.snapshot();
        let entry = plans.value.find(signature)?;
        // ORDERING: Relaxed; both are estimates. Written only when it changes, so that many
        // readers of one plan share its cache line.
        let now = self.made.load(Ordering::Relaxed);
        if entry.used.load(Ordering::Relaxed) != now {
            entry.used.store(now, Ordering::Relaxed);
        }
        Some(entry.plan.clone())
    }

    /// Keeps a plan that was just made.
    pub(super) fn put(&self, signature: Signature, plan: &Arc<Plan>) {
        // ORDERING: Relaxed; a count.
        let made = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        if self.kept == 0 || signature.words.len() > LONGEST {
            return;
        }
        let entry = Arc::new(Entry {
            signature,
            plan: plan.clone(),
            used: AtomicU64::new(made),
        });
        let added: Result<u64, Infallible> = self.plans.update(|plans| {
            let mut plans = plans.clone();
            if plans.find(&entry.signature).is_none() {
                if plans.entries >= self.kept {
                    plans.shrink();
                }
                let same_hash = plans.by_hash.entry(entry.signature.hash).or_default();
                same_hash.push(entry.clone());
                plans.entries += 1;
            }
            Ok(plans)
        });
        let Ok(_) = added;
    }

    /// How many plans were made, and how many are kept.
    pub(super) fn counts(&self) -> (u64, usize) {
        // ORDERING: Relaxed; a statistic.
        let made = self.made.load(Ordering::Relaxed);
        (made, self.plans.snapshot().value.entries)
    }
}
