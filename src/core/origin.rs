//! Where a node comes from, until its result exists.
//!
//! A node that has been submitted no longer needs what it is made from: its result is kept
//! instead. Forgetting the origin is what lets a long chain of submitted states (each made
//! from the one before) give back the memory of the old ones.
//!
//! The owner forgets the origin only after the node's slot has begun to run; from then on the
//! slot can no longer be given up. A slot that was given up keeps its node's origin, also when
//! others of the same fragment run. So a reader that finds no origin is certain to find the
//! slot: see `docs/concurrency.md`, "Claims".
//!
//! Nobody waits here. Readers are counted in one word, beside the mark that the origin is
//! forgotten: after it no reader comes in, and of those who are in, the last drops it.

use crate::core::panics::contain;
use crate::core::sync::Ordering::{AcqRel, Acquire, Relaxed};
use crate::core::sync::{AtomicUsize, UnsafeCell};
use std::ops::Deref;

/// Nobody may come in any more.
const FORGOTTEN: usize = 1;
/// One who is in.
const READER: usize = 2;

/// A value that many may read until one has it dropped.
#[derive(Debug)]
pub struct Origin<T> {
    word: AtomicUsize,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value is shared by readers, and is taken out and dropped by one thread: whoever
// marks it as forgotten while nobody is in, or the last who was in before. The word orders both.
unsafe impl<T: Send + Sync> Sync for Origin<T> {}

/// An origin that is not dropped as long as this lives. It lets go without a panic, whatever the value's
/// destructor does.
#[derive(Debug)]
pub struct Pinned<'a, T>(&'a Origin<T>);

impl<T> Origin<T> {
    /// An origin that is still known.
    pub fn new(value: T) -> Self {
        Self {
            word: AtomicUsize::new(0),
            value: UnsafeCell::new(Some(value)),
        }
    }

    /// Looks at the origin; `None` if it has been forgotten.
    pub fn read<R>(&self, f: impl FnOnce(&T) -> R) -> Option<R> {
        self.pin().map(|origin| f(&origin))
    }

    /// Keeps the origin for a while; `None` if it has been forgotten.
    #[inline]
    pub fn pin(&self) -> Option<Pinned<'_, T>> {
        // ORDERING: Relaxed; the caller came by the origin in order, and nothing is written after that.
        // Whoever would drop it finds in the same word that this reader is in. Acquire if it has been
        // forgotten, with the Release of `forget`: the caller's next look at the slot sees that its work
        // has begun.
        let entered = self.word.fetch_update(Relaxed, Acquire, |w| {
            (w & FORGOTTEN == 0).then_some(w + READER)
        });
        let pinned = entered.is_ok().then(|| Pinned(self))?;
        // SAFETY: the reader that was just counted keeps others from taking it out.
        unsafe { self.look() }.is_some().then_some(pinned)
    }

    /// Looks at the origin without being counted.
    ///
    /// # Safety
    /// Nobody may forget it, nor take it out, as long as the reference lives.
    #[inline]
    pub unsafe fn look(&self) -> Option<&T> {
        // SAFETY: the value is only written by whoever takes it out, and the caller says that
        // nobody does.
        self.value.with(|value| unsafe { (*value).as_ref() })
    }

    /// Forgets the origin. It is dropped here, or by the last who is reading it, and a panic of its destructor
    /// is nobody's.
    pub fn forget(&self) {
        // ORDERING: AcqRel, with itself in `Pinned::drop`: what is dropped has been read before.
        if self.word.fetch_or(FORGOTTEN, AcqRel) == 0 {
            // SAFETY: nobody was in, and nobody comes in any more; a second call finds the mark.
            let forgotten = unsafe { self.take() };
            contain(|| drop(forgotten));
        }
    }

    /// Takes the origin out, by unique access.
    #[inline]
    pub fn take_mut(&mut self) -> Option<T> {
        // SAFETY: the access is unique.
        unsafe { self.take() }
    }

    /// # Safety
    /// Nobody may be reading it.
    #[inline]
    unsafe fn take(&self) -> Option<T> {
        // SAFETY: the caller says that nobody else looks at it.
        self.value.with_mut(|value| unsafe { (*value).take() })
    }
}

impl<T> Deref for Pinned<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this reader is counted, so that nobody takes it out.
        match unsafe { self.0.look() } {
            Some(value) => value,
            None => unreachable!("it was there when it was pinned"),
        }
    }
}

impl<T> Drop for Pinned<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // ORDERING: AcqRel, with itself and with `forget`: the last one drops the value after
        // everybody else's reading of it.
        if self.0.word.fetch_sub(READER, AcqRel) == READER | FORGOTTEN {
            // SAFETY: this was the last who was in, and nobody comes in any more.
            let value = unsafe { self.0.take() };
            contain(|| drop(value));
        }
    }
}
