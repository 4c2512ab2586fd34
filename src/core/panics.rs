//! Foreign code that panics, contained: operations, destructors and wakers are the user's, and so is
//! what they panic with.

use crate::core::sync;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs foreign code. A panic in it is an `Err` with the panic's payload, to be handed to [`discard`].
pub fn catch<R>(run: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(run)).map_err(sync::caught)
}

/// Runs foreign code whose panic is of no interest; `None` if there was one.
pub fn contain<R>(run: impl FnOnce() -> R) -> Option<R> {
    catch(run).map_err(discard).ok()
}

/// Drops a panic's payload. Its destructor is foreign code as well: what that panics with is leaked,
/// because its destructor may panic in turn.
pub fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch(|| drop(payload)) {
        std::mem::forget(again);
    }
}

/// Drops all of these, also when the destructor of one panics: then it goes on with the first panic.
pub fn drop_all<T>(all: impl IntoIterator<Item = T>) {
    let panics = all.into_iter().filter_map(|one| catch(|| drop(one)).err());
    let first = panics.reduce(|first, next| {
        discard(next);
        first
    });
    if let Some(panic) = first {
        resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Its destructor counts, and panics with something whose destructor panics.
    struct Bomb<'a>(&'a Cell<u32>);
    struct Payload;

    impl Drop for Bomb<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            resume_unwind(Box::new(Payload));
        }
    }

    impl Drop for Payload {
        fn drop(&mut self) {
            resume_unwind(Box::new("a payload"));
        }
    }

    #[test]
    fn all_are_dropped_although_each_panics() {
        let dropped = Cell::new(0);
        let all = [(); 3].map(|()| Bomb(&dropped));
        let panic = catch(|| drop_all(all)).unwrap_err();
        assert_eq!(dropped.get(), 3);
        assert!(panic.is::<Payload>(), "not the panic of a destructor");
        discard(panic);
    }
}
