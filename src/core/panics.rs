//! Foreign code that panics, contained: operations, destructors and wakers are the user's, and so is
//! what they panic with.

use crate::core::sync;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

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
