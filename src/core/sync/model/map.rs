//! DashMap: a lock for each shard, that readers share. Two shards, so that some keys share one and
//! some do not.

use super::super::{Mutex, MutexGuard};
use super::weak;
use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex as Hidden;

#[cfg(candlewick_loom)]
use loom::thread;
#[cfg(candlewick_shuttle)]
use shuttle::thread;

/// What a closure given to [`Map::alter`] wants done with the entry it saw.
#[derive(Debug)]
pub enum Alter<V> {
    /// Leave it as it is.
    Keep,
    /// Put this in its place; what was there comes back to the caller, outside the lock.
    Put(V),
}

/// How many threads read side by side. Further threads share the last place, and are ordered.
const READERS: usize = 3;

/// One shard. A reader locks its own lock, a writer all of them: so a reader comes after earlier
/// writers and before later ones, and is not ordered with other readers. A mutex around the entries
/// would order two readers, and so would loom's own lock for readers and writers. With the `strong`
/// stand-ins there is one lock.
struct Shard<K, V> {
    locks: Vec<Mutex<()>>,
    entries: UnsafeCell<HashMap<K, V>>,
}

// SAFETY: `entries` is read with one of the locks held and written with all of them.
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for Shard<K, V> {}

impl<K: Eq + Hash + Copy, V> Shard<K, V> {
    fn new() -> Self {
        Self {
            locks: (0..if weak() { READERS } else { 1 })
                .map(|_| Mutex::new(()))
                .collect(),
            entries: UnsafeCell::new(HashMap::new()),
        }
    }

    fn read<R>(&self, reader: usize, f: impl FnOnce(&HashMap<K, V>) -> R) -> R {
        let _lock = self.locks[reader.min(self.locks.len() - 1)].lock();
        // SAFETY: this lock is one of those that a writer holds, so there is no `&mut` beside it.
        f(unsafe { &*self.entries.get() })
    }

    fn write<R>(&self, f: impl FnOnce(&mut HashMap<K, V>) -> R) -> R {
        let _locks = All(self.locks.iter().map(Mutex::lock).collect());
        // SAFETY: all locks are held, so no reader and no other writer is inside.
        f(unsafe { &mut *self.entries.get() })
    }
}

/// All locks of a shard, given back in the order that is the reverse of how they were taken: the next
/// writer goes on when all are free, which is fewer interleavings and the same edges.
struct All<'a>(Vec<MutexGuard<'a, ()>>);

impl Drop for All<'_> {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

/// The few map operations the node store uses.
pub struct Map<K, V> {
    shards: [Shard<K, V>; 2],
    /// The threads that have read, in the order of their first look; invisible to the model.
    readers: Hidden<Vec<thread::ThreadId>>,
}

impl<K: Eq + Hash + Copy, V> Map<K, V> {
    /// An empty map.
    pub fn new() -> Self {
        Self {
            shards: [Shard::new(), Shard::new()],
            readers: Hidden::default(),
        }
    }
    fn shard(&self, key: K) -> &Shard<K, V> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        &self.shards[hasher.finish() as usize & 1]
    }
    /// The place of this thread among the readers.
    fn reader(&self) -> usize {
        let this = thread::current().id();
        let mut readers = self.readers.lock().unwrap();
        let known = readers.iter().position(|reader| *reader == this);
        let place = known.unwrap_or(readers.len());
        if known.is_none() {
            readers.push(this);
        }
        place
    }
    /// Looks at the entry of `key`.
    pub fn with<R>(&self, key: K, f: impl FnOnce(&V) -> R) -> Option<R> {
        self.shard(key)
            .read(self.reader(), |entries| entries.get(&key).map(f))
    }
    /// Looks at the entry of `key`, present or not, and may replace it, as one step.
    pub fn alter<R>(&self, key: K, f: impl FnOnce(Option<&V>) -> (Alter<V>, R)) -> (Option<V>, R) {
        self.shard(key).write(|entries| match f(entries.get(&key)) {
            (Alter::Keep, r) => (None, r),
            (Alter::Put(v), r) => (entries.insert(key, v), r),
        })
    }
    /// The number of entries, one shard after another.
    pub fn entries(&self) -> usize {
        let reader = self.reader();
        let shards = self.shards.iter();
        shards.map(|shard| shard.read(reader, HashMap::len)).sum()
    }
    /// Removes the entry of `key` if `f` says so, as one step.
    pub fn remove_if(&self, key: K, f: impl FnOnce(&V) -> bool) -> Option<V> {
        self.shard(key)
            .write(|entries| f(entries.get(&key)?).then(|| entries.remove(&key))?)
    }
}

impl<K: Eq + Hash + Copy, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}
