//! DashMap: a lock for each shard. Two shards, so that some keys share one and some do not.

use super::super::Mutex;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a closure given to [`Map::alter`] wants done with the entry it saw.
#[derive(Debug)]
pub enum Alter<V> {
    /// Leave it as it is.
    Keep,
    /// Put this in its place; what was there comes back to the caller, outside the lock.
    Put(V),
}

/// The few map operations the node store uses.
pub struct Map<K, V>([Mutex<HashMap<K, V>>; 2]);

impl<K: Eq + Hash + Copy, V> Map<K, V> {
    /// An empty map.
    pub fn new() -> Self {
        Self([Mutex::new(HashMap::new()), Mutex::new(HashMap::new())])
    }
    fn shard(&self, key: K) -> &Mutex<HashMap<K, V>> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        &self.0[hasher.finish() as usize & 1]
    }
    /// Looks at the entry of `key`.
    pub fn with<R>(&self, key: K, f: impl FnOnce(&V) -> R) -> Option<R> {
        self.shard(key).lock().get(&key).map(f)
    }
    /// Looks at the entry of `key`, present or not, and may replace it, as one step.
    pub fn alter<R>(&self, key: K, f: impl FnOnce(Option<&V>) -> (Alter<V>, R)) -> (Option<V>, R) {
        let mut shard = self.shard(key).lock();
        match f(shard.get(&key)) {
            (Alter::Keep, r) => (None, r),
            (Alter::Put(v), r) => (shard.insert(key, v), r),
        }
    }
    /// Removes the entry of `key` if `f` says so, as one step.
    pub fn remove_if(&self, key: K, f: impl FnOnce(&V) -> bool) -> Option<V> {
        let mut shard = self.shard(key).lock();
        if f(shard.get(&key)?) {
            shard.remove(&key)
        } else {
            None
        }
    }
}

impl<K: Eq + Hash + Copy, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}
