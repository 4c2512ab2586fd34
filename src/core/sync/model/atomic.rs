//! loom's atomics, preceded at every operation by a relaxed read-modify-write of a shadow word.
//!
//! loom 0.7.3 remembers one last access for each atomic, so a thread's own load hides other
//! threads' earlier loads from its later store: `load; store` and `fetch_update` are explored in
//! one order (tokio-rs/loom#392, #166). Read-modify-writes of the shadow are all mutually
//! dependent, which brings the missing orders back, and being Relaxed they synchronise nothing.
//! `CANDLEWICK_SHADOW=0` switches it off, to see what loom then misses.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{self, Relaxed};

fn shadowed() -> bool {
    static SHADOW: OnceLock<bool> = OnceLock::new();
    *SHADOW.get_or_init(|| std::env::var("CANDLEWICK_SHADOW").map_or(true, |v| v != "0"))
}

macro_rules! atomic {
    ($name:ident, $int:ty) => {
        /// An integer that threads share.
        #[derive(Debug)]
        pub struct $name {
            word: loom::sync::atomic::$name,
            shadow: Option<loom::sync::atomic::AtomicUsize>,
        }

        #[allow(missing_docs)]
        impl $name {
            pub fn new(value: $int) -> Self {
                let shadow = shadowed().then(|| loom::sync::atomic::AtomicUsize::new(0));
                Self {
                    word: loom::sync::atomic::$name::new(value),
                    shadow,
                }
            }
            fn word(&self) -> &loom::sync::atomic::$name {
                if let Some(shadow) = &self.shadow {
                    // ORDERING: Relaxed; it must not synchronise anything.
                    shadow.fetch_add(1, Relaxed);
                }
                &self.word
            }
            pub fn load(&self, order: Ordering) -> $int {
                self.word().load(order)
            }
            pub fn store(&self, value: $int, order: Ordering) {
                self.word().store(value, order)
            }
            pub fn swap(&self, value: $int, order: Ordering) -> $int {
                self.word().swap(value, order)
            }
            pub fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                self.word().fetch_add(value, order)
            }
            pub fn fetch_sub(&self, value: $int, order: Ordering) -> $int {
                self.word().fetch_sub(value, order)
            }
            pub fn fetch_or(&self, value: $int, order: Ordering) -> $int {
                self.word().fetch_or(value, order)
            }
            pub fn fetch_and(&self, value: $int, order: Ordering) -> $int {
                self.word().fetch_and(value, order)
            }
            pub fn compare_exchange(
                &self,
                old: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                self.word().compare_exchange(old, new, success, failure)
            }
            pub fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                mut f: impl FnMut($int) -> Option<$int>,
            ) -> Result<$int, $int> {
                let mut old = self.load(failure);
                while let Some(new) = f(old) {
                    match self.compare_exchange(old, new, success, failure) {
                        Ok(_) => return Ok(old),
                        Err(now) => old = now,
                    }
                }
                Err(old)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }

        impl Drop for $name {
            /// Its memory is freed: an operation that does not come before this is a race.
            fn drop(&mut self) {
                if !std::thread::panicking() {
                    self.word.with_mut(|_| ());
                }
            }
        }
    };
}

atomic!(AtomicU64, u64);
atomic!(AtomicUsize, usize);
