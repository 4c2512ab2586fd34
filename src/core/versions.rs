//! A value that is replaced while others read it.

use crate::core::sync::{Arc, Swap};

/// One version of a value. Whoever holds it sees this one, whole, for as long as it likes.
#[derive(Debug)]
pub struct Version<P> {
    /// Rises by one with every change.
    pub number: u64,
    /// The value.
    pub value: P,
}

/// The current version of a value.
pub struct Versions<P>(Swap<Version<P>>);

impl<P> Versions<P> {
    /// Starts with `value` as version 0.
    pub fn new(value: P) -> Self {
        Self(Swap::new(Arc::new(Version { number: 0, value })))
    }

    /// The current version. Takes no lock.
    pub fn snapshot(&self) -> Arc<Version<P>> {
        self.0.load_full()
    }

    /// What `f` makes of the current version. Takes no lock.
    pub fn with<R>(&self, f: impl FnOnce(&Version<P>) -> R) -> R {
        self.0.with(f)
    }

    /// Installs what `f` makes of the current value, and returns its number; or keeps everything
    /// as it is if `f` fails. `f` runs again if somebody else was faster: no change is lost.
    pub fn update<E>(&self, mut f: impl FnMut(&P) -> Result<P, E>) -> Result<u64, E> {
        let mut failed = None;
        let mut number = 0;
        self.0.rcu(|old| match f(&old.value) {
            Ok(value) => {
                failed = None;
                number = old.number + 1;
                Arc::new(Version { number, value })
            }
            Err(error) => {
                failed = Some(error);
                old.clone()
            }
        });
        failed.map_or(Ok(number), Err)
    }
}
