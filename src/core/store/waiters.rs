//! A list of wakers, for use under a lock.

use crate::core::panics::contain;
use std::task::Waker;

/// Who waits. Wakers are foreign code (cloning, dropping and waking one may run anything), so
/// every method hands them out to be dropped or woken after the lock is released.
#[derive(Debug, Default)]
pub struct Waiters {
    list: Vec<Option<Waker>>,
    free: Vec<usize>,
    taken: bool,
}

/// A registered wait: an index into the list, good until the list is taken.
#[derive(Debug)]
pub struct Key(usize);

impl Waiters {
    /// Puts a waker on the list, in the place of the one that `key` stands for. What comes back
    /// is to be dropped outside of the lock.
    #[must_use]
    pub fn register(&mut self, waker: Waker, key: &mut Option<Key>) -> Option<Waker> {
        if self.taken {
            return Some(waker);
        }
        if let Some(key) = key {
            return self.list[key.0].replace(waker);
        }
        let index = match self.free.pop() {
            Some(index) => {
                self.list[index] = Some(waker);
                index
            }
            None => {
                self.list.push(Some(waker));
                self.list.len() - 1
            }
        };
        *key = Some(Key(index));
        None
    }

    /// Takes a wait back. The waker is to be dropped outside of the lock.
    #[must_use]
    pub fn deregister(&mut self, key: Key) -> Option<Waker> {
        if self.taken {
            return None;
        }
        self.free.push(key.0);
        self.list[key.0].take()
    }

    /// Takes the whole list, for good: whoever registers later is told at once.
    pub fn take(&mut self) -> Woken {
        self.taken = true;
        Woken(std::mem::take(&mut self.list))
    }

    /// The number of waits on the list.
    pub fn len(&self) -> usize {
        self.list.iter().flatten().count()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Wakers to be woken outside of the lock.
#[must_use]
#[derive(Debug, Default)]
pub struct Woken(Vec<Option<Waker>>);

impl Woken {
    /// Wakes them all. One that panics costs the others nothing.
    pub fn wake(self) {
        for waker in self.0.into_iter().flatten() {
            wake_one(waker);
        }
    }
}

/// Wakes, and contains a panic of the foreign code behind it.
pub fn wake_one(waker: Waker) {
    contain(|| waker.wake());
}
