//! arc-swap: a store is a read-modify-write with Release and Acquire, a load an Acquire load.

use super::super::{Arc, AtomicUsize, Mutex, Ordering};
use super::weak;
use std::sync::Mutex as Hidden;

/// A hot-swappable `Arc`.
pub enum Swap<T> {
    /// A mutex; optimistic like the real one.
    Strong(Mutex<Arc<T>>),
    /// Every value ever stored is kept; the atomic says which is current.
    Weak {
        /// Which is current.
        current: AtomicUsize,
        /// All of them. Boxed, so that an entry does not move.
        all: Hidden<Vec<Box<Arc<T>>>>,
    },
}

impl<T> Swap<T> {
    /// Starts with `value`.
    pub fn new(value: Arc<T>) -> Self {
        match weak() {
            true => Swap::Weak {
                current: AtomicUsize::new(0),
                all: Hidden::new(vec![Box::new(value)]),
            },
            false => Swap::Strong(Mutex::new(value)),
        }
    }

    fn push(all: &Hidden<Vec<Box<Arc<T>>>>, value: Arc<T>) -> usize {
        let mut all = all.lock().unwrap();
        all.push(Box::new(value));
        all.len() - 1
    }

    fn at(all: &Hidden<Vec<Box<Arc<T>>>>, index: usize) -> Arc<T> {
        let entry: *const Arc<T> = &*all.lock().unwrap()[index];
        // SAFETY: the list only grows and its entries are boxed, so this one neither moves nor
        // dies. Cloned outside of the lock, because that is an operation of the model.
        unsafe { (*entry).clone() }
    }

    /// What `f` makes of the current value.
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        f(&self.load_full())
    }

    /// The current value.
    pub fn load_full(&self) -> Arc<T> {
        match self {
            Swap::Strong(value) => value.lock().clone(),
            // ORDERING: Acquire, with the AcqRel of `rcu`: assumption A3.
            Swap::Weak { current, all } => Self::at(all, current.load(Ordering::Acquire)),
        }
    }

    /// Replaces the value by what `f` makes of it (`f` may run several times); returns the old one.
    pub fn rcu(&self, mut f: impl FnMut(&Arc<T>) -> Arc<T>) -> Arc<T> {
        match self {
            Swap::Strong(value) => loop {
                let old = value.lock().clone();
                let new = f(&old);
                let mut now = value.lock();
                if Arc::ptr_eq(&now, &old) {
                    let last = std::mem::replace(&mut *now, new);
                    drop(now);
                    drop(last);
                    return old;
                }
            },
            Swap::Weak { current, all } => loop {
                // ORDERING: Acquire, with the AcqRel below.
                let i = current.load(Ordering::Acquire);
                let old = Self::at(all, i);
                let j = Self::push(all, f(&old));
                // ORDERING: AcqRel, with the Acquire of the loads.
                let swapped = current.compare_exchange(i, j, Ordering::AcqRel, Ordering::Relaxed);
                if swapped.is_ok() {
                    return old;
                }
            },
        }
    }
}
