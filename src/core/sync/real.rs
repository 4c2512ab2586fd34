//! The shipped primitives.

use std::any::Any;
use std::cell::Cell;
use std::hash::{BuildHasherDefault, Hash};
use std::time::{Duration, Instant};

pub use crossbeam_channel as channel;
pub use std::sync::Arc;
pub use std::sync::atomic::{AtomicU64, AtomicUsize};

/// What `std::task::Wake` is implemented for.
pub use std::sync::Arc as WakeArc;

/// How often a thread looks before it sleeps: `here` times, and the second number of times under a model
/// checker, where every look is one more branch.
pub const fn looks(here: usize, _model: usize) -> usize {
    here
}

/// Ends the process: what comes after would be memory that is freed while it is read.
#[cold]
#[allow(clippy::disallowed_methods)] // as `Arc` does
pub fn overflow(what: &str) -> ! {
    eprintln!("candlewick: too many {what}");
    std::process::abort()
}

/// A panic that was caught: foreign code's, whatever it says.
pub fn caught(panic: Box<dyn Any + Send>) -> Box<dyn Any + Send> {
    panic
}

/// Receives, if there is a message. crossbeam's own attempt at an empty channel costs a fence; by the
/// look before it, which is a plain load, it is seen whatever was sent before the caller was told of it.
pub fn try_recv<T>(receiver: &channel::Receiver<T>) -> Option<T> {
    match receiver.is_empty() {
        true => None,
        false => receiver.try_recv().ok(),
    }
}

pub use std::thread_local;

/// Threads of the core: only what it starts and joins.
pub mod thread {
    pub use std::hint::spin_loop;
    pub use std::thread::{JoinHandle, yield_now};

    /// Starts a named thread.
    pub fn spawn<T: Send + 'static>(
        name: String,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<JoinHandle<T>> {
        std::thread::Builder::new().name(name).spawn(f)
    }
}

pub use std_locks::*;
mod std_locks {
    use std::sync::PoisonError;
    use std::time::Duration;

    /// A mutex that is never poisoned: nothing foreign runs under the core's locks.
    #[derive(Default, Debug)]
    pub struct Mutex<T>(std::sync::Mutex<T>);
    /// The guard of a [`Mutex`].
    pub type MutexGuard<'a, T> = std::sync::MutexGuard<'a, T>;

    impl<T> Mutex<T> {
        /// A mutex around `value`.
        pub const fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }
        /// Locks.
        #[inline]
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
        /// The value, by unique access.
        pub fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// A condition variable for [`Mutex`].
    #[derive(Default, Debug)]
    pub struct Condvar(std::sync::Condvar);

    impl Condvar {
        /// A condition variable.
        pub const fn new() -> Self {
            Self(std::sync::Condvar::new())
        }
        /// Sleeps until notified, or for no reason.
        pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
        }
        /// Sleeps until notified, for at most `limit`, or for no reason.
        pub fn wait_timeout<'a, T>(
            &self,
            _mutex: &'a Mutex<T>,
            guard: MutexGuard<'a, T>,
            limit: Duration,
        ) -> MutexGuard<'a, T> {
            self.0
                .wait_timeout(guard, limit)
                .unwrap_or_else(PoisonError::into_inner)
                .0
        }
        /// Wakes one sleeper.
        pub fn notify_one(&self) {
            self.0.notify_one();
        }
    }
}

/// Interior mutability whose every access is a closure, so that loom can check it for races.
#[derive(Debug, Default)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// A cell around `value`.
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }
    /// Reads through a raw pointer.
    #[inline(always)]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }
    /// Writes through a raw pointer.
    #[inline(always)]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// What a closure given to [`Map::alter`] wants done with the entry it saw.
#[derive(Debug)]
pub enum Alter<V> {
    /// Leave it as it is.
    Keep,
    /// Put this in its place; what was there comes back to the caller, outside the lock.
    Put(V),
}

/// The few map operations the node store uses.
///
/// No guard leaves this type, so no shard lock is held across foreign code. A closure must
/// not call the map, take a lock or drop a value.
pub struct Map<K, V>(dashmap::DashMap<K, V, BuildHasherDefault<rustc_hash::FxHasher>>);

#[allow(clippy::disallowed_methods)] // the guards do not leave
impl<K: Eq + Hash + Copy, V> Map<K, V> {
    /// An empty map.
    pub fn new() -> Self {
        Self(dashmap::DashMap::default())
    }
    /// Looks at the entry of `key`.
    pub fn with<R>(&self, key: K, f: impl FnOnce(&V) -> R) -> Option<R> {
        self.0.get(&key).map(|v| f(&v))
    }
    /// Looks at the entry of `key`, present or not, and may replace it, as one step.
    pub fn alter<R>(&self, key: K, f: impl FnOnce(Option<&V>) -> (Alter<V>, R)) -> (Option<V>, R) {
        match self.0.entry(key) {
            dashmap::Entry::Occupied(mut e) => match f(Some(e.get())) {
                (Alter::Keep, r) => (None, r),
                (Alter::Put(v), r) => (Some(e.insert(v)), r),
            },
            dashmap::Entry::Vacant(e) => match f(None) {
                (Alter::Keep, r) => (None, r),
                (Alter::Put(v), r) => {
                    e.insert(v);
                    (None, r)
                }
            },
        }
    }
    /// The number of entries, one shard after another.
    pub fn entries(&self) -> usize {
        self.0.len()
    }
    /// Removes the entry of `key` if `f` says so, as one step.
    pub fn remove_if(&self, key: K, f: impl FnOnce(&V) -> bool) -> Option<V> {
        self.0.remove_if(&key, |_, v| f(v)).map(|(_, v)| v)
    }
}

impl<K: Eq + Hash + Copy, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

/// A hot-swappable `Arc`.
pub struct Swap<T>(arc_swap::ArcSwap<T>);

impl<T> Swap<T> {
    /// Starts with `value`.
    pub fn new(value: Arc<T>) -> Self {
        Self(arc_swap::ArcSwap::new(value))
    }
    /// What `f` makes of the current value.
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        f(&self.0.load())
    }
    /// The current value.
    pub fn load_full(&self) -> Arc<T> {
        self.0.load_full()
    }
    /// Replaces the value by what `f` makes of it (`f` may run several times); returns the old one.
    pub fn rcu(&self, mut f: impl FnMut(&Arc<T>) -> Arc<T>) -> Arc<T> {
        self.0.rcu(|old| f(old))
    }
}

thread_local! {
    /// The time of a simulation that runs on this thread alone.
    static VIRTUAL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The time: the machine's, or that of a simulation on this thread.
pub fn now() -> Instant {
    VIRTUAL.get().unwrap_or_else(Instant::now)
}

/// From here on it is this time on this thread, until it is set again; `None` for the machine's.
pub fn set_now(time: Option<Instant>) {
    VIRTUAL.set(time);
}

/// Lets so much time pass: asleep, or at once in a simulation.
pub fn pass(time: Duration) {
    match VIRTUAL.get() {
        Some(now) => VIRTUAL.set(Some(now + time)),
        None => std::thread::sleep(time),
    }
}

/// A point in time after which a wait gives up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// `limit` from now; `None` if that is further than the clock reaches.
    pub fn after(limit: Duration) -> Option<Self> {
        now().checked_add(limit).map(Self)
    }
    /// This moment.
    pub fn at(moment: Instant) -> Self {
        Self(moment)
    }
    /// The earlier of two, or the one that there is.
    pub fn earlier(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.into_iter().chain(other).min()
    }
    /// Whether nothing is left of it.
    pub fn has_passed(&self) -> bool {
        now() >= self.0
    }
    /// What is left of it.
    pub fn left(&self) -> Option<Duration> {
        let left = self.0.saturating_duration_since(now());
        (!left.is_zero()).then_some(left)
    }
}
