//! What a device makes of a tensor that exists, to use it again.

use std::any::Any;
use std::fmt;
use std::sync::OnceLock;

/// Tells the things that are kept with one tensor apart: the sizes and strides that each was made for.
pub(crate) type Key = [usize; 5];

/// The most different things that are kept with one tensor.
const MOST: usize = 4;

/// What is kept with a tensor. It goes when the last node and the last fragment that know the
/// tensor go.
#[derive(Default)]
pub(crate) struct Kept(OnceLock<Box<Entry>>);

/// A thing that is kept with a tensor, or a place for it.
pub(crate) struct Entry {
    key: Key,
    used: OnceLock<()>,
    made: OnceLock<Option<Box<dyn Any + Send + Sync>>>,
    next: Kept,
}

impl Kept {
    /// The entry for this key; `None` if there are too many others.
    pub(crate) fn entry(&self, key: Key) -> Option<&Entry> {
        let mut kept = self;
        for _ in 0..MOST {
            let entry = kept.0.get_or_init(|| Box::new(Entry::new(key)));
            if entry.key == key {
                return Some(entry);
            }
            kept = &entry.next;
        }
        None
    }
}

impl Entry {
    fn new(key: Key) -> Self {
        Self {
            key,
            used: OnceLock::new(),
            made: OnceLock::new(),
            next: Kept::default(),
        }
    }

    /// The thing, made at once or when it is asked for the second time; `None` if it could not be
    /// made.
    pub(crate) fn get_or_make<T: Any + Send + Sync>(
        &self,
        at_once: bool,
        make: impl FnOnce() -> Option<T>,
    ) -> Option<&T> {
        if self.used.set(()).is_ok() && !at_once {
            return None;
        }
        let made = self.made.get_or_init(|| Some(Box::new(make()?) as _));
        made.as_ref()?.downcast_ref()
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[test]
    fn a_thing_is_made_once_from_the_second_use_on() {
        let kept = Kept::default();
        let entry = |n| kept.entry([n; 5]);
        let get = |n, at_once, made: u8| {
            entry(n)
                .unwrap()
                .get_or_make(at_once, || Some(made))
                .copied()
        };
        assert_eq!(get(1, false, 1), None);
        assert_eq!(get(1, false, 2), Some(2));
        assert_eq!(get(1, true, 3), Some(2));
        assert_eq!(get(2, true, 4), Some(4));
        assert!((2..=MOST).all(|n| entry(n).is_some()));
        assert!(entry(MOST + 1).is_none());
        assert!(entry(1).is_some());
    }

    /// Two executors may meet the same weight at the same moment.
    #[test]
    fn threads_that_ask_at_once_share_what_one_of_them_makes() {
        for _ in 0..200 {
            let (kept, made) = (Kept::default(), AtomicUsize::new(0));
            let ask = || {
                let make = || Some(made.fetch_add(1, Relaxed)); // ORDERING: Relaxed; a count
                let entry = kept.entry([7; 5]).unwrap();
                entry.get_or_make(true, make).copied()
            };
            std::thread::scope(|scope| {
                let threads = [0; 4].map(|_| scope.spawn(ask));
                for thread in threads {
                    assert_eq!(thread.join().unwrap(), Some(0));
                }
            });
            // ORDERING: Relaxed; the threads have been joined.
            assert_eq!(made.load(Relaxed), 1);
        }
    }
}
