//! The primitives under loom and shuttle. In the order of `real.rs`: read the two side by side.

#[cfg(candlewick_loom)]
use loom as rt;
#[cfg(candlewick_shuttle)]
use shuttle as rt;

use std::any::Any;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

pub use super::model::channel;
pub use rt::sync::Arc;
pub use rt::sync::atomic::fence;

#[cfg(candlewick_loom)]
pub use super::model::atomic::{AtomicU64, AtomicUsize};
#[cfg(candlewick_shuttle)]
pub use rt::sync::atomic::{AtomicU64, AtomicUsize};

/// What `std::task::Wake` is implemented for.
pub use std::sync::Arc as WakeArc;

/// How often a thread looks before it sleeps. The looks change nothing: what they find is found by going
/// to sleep as well.
pub const fn looks(_here: usize, model: usize) -> usize {
    model
}

/// Where the real one ends the process.
#[cold]
pub fn overflow(what: &str) -> ! {
    panic!("too many {what}")
}

/// A panic that was caught: foreign code's, or loom's own of a race that it met there, which goes on.
pub fn caught(panic: Box<dyn Any + Send>) -> Box<dyn Any + Send> {
    let text = panic.downcast_ref::<String>();
    if text.is_some_and(|text| text.starts_with("Causality violation")) {
        std::panic::resume_unwind(panic);
    }
    panic
}

/// Receives, if there is a message: the look of the real one is part of the model's own.
pub fn try_recv<T>(receiver: &channel::Receiver<T>) -> Option<T> {
    receiver.try_recv().ok()
}

pub use rt::thread_local;

/// Threads of the core: only what it starts and joins.
pub mod thread {
    use super::rt;
    pub use rt::thread::{JoinHandle, yield_now};

    /// Nothing to spin for: whoever is waited for runs when the scheduler says so.
    pub fn spin_loop() {
        yield_now();
    }

    /// Starts a thread.
    pub fn spawn<T: Send + 'static>(
        _name: String,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<JoinHandle<T>> {
        Ok(rt::thread::spawn(f))
    }
}

/// A mutex that is never poisoned.
#[derive(Debug)]
pub struct Mutex<T>(rt::sync::Mutex<T>);
/// The guard of a [`Mutex`].
pub type MutexGuard<'a, T> = rt::sync::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    /// A mutex around `value`.
    pub fn new(value: T) -> Self {
        Self(rt::sync::Mutex::new(value))
    }
    /// Locks.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The value, by unique access.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// A condition variable for [`Mutex`].
#[derive(Debug)]
pub struct Condvar(rt::sync::Condvar);

impl Condvar {
    /// A condition variable.
    pub fn new() -> Self {
        Self(rt::sync::Condvar::new())
    }
    /// Sleeps until notified.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }
    /// A wait whose time is up at once, after whatever the other threads do until then. A limit
    /// may be reached at any moment; that a notified sleeper wakes is what [`Condvar::wait`] is
    /// explored for.
    pub fn wait_timeout<'a, T>(
        &self,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        _limit: Duration,
    ) -> MutexGuard<'a, T> {
        drop(guard);
        rt::thread::yield_now();
        mutex.lock()
    }
    /// Wakes one sleeper.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(candlewick_loom)]
pub use super::model::cell::UnsafeCell;

/// Interior mutability whose every access is a closure.
#[cfg(candlewick_shuttle)]
#[derive(Debug, Default)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(candlewick_shuttle)]
impl<T> UnsafeCell<T> {
    /// A cell around `value`.
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }
    /// Reads through a raw pointer.
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }
    /// Writes through a raw pointer.
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

pub use super::model::map::{Alter, Map};
pub use super::model::swap::Swap;

/// A point in time that comes after the second look at the clock.
#[derive(Debug)]
pub struct Deadline(AtomicBool);

impl Clone for Deadline {
    fn clone(&self) -> Self {
        // ORDERING: Relaxed; outside of the model.
        Self(AtomicBool::new(self.0.load(Relaxed)))
    }
}

impl Deadline {
    /// Soon.
    pub fn after(_limit: Duration) -> Option<Self> {
        Some(Self(AtomicBool::new(false)))
    }
    /// One of two, which a model's clock does not tell apart.
    pub fn earlier(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.or(other)
    }
    /// Whether nothing is left of it.
    pub fn has_passed(&self) -> bool {
        self.left().is_none()
    }
    /// What is left of it: something once, then nothing.
    pub fn left(&self) -> Option<Duration> {
        // ORDERING: Relaxed; outside of the model.
        (!self.0.swap(true, Relaxed)).then_some(Duration::from_millis(1))
    }
}
