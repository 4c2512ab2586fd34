//! Panics of operations, as errors.

use crate::core::panics::{catch, discard};
use crate::error::Cause;
use std::any::Any;

/// What `run` returns; a panic in it is its error.
pub(super) fn caught<T>(run: impl FnOnce() -> Result<T, Cause>) -> Result<T, Cause> {
    catch(run).unwrap_or_else(|panic| Err(Cause::Panic(message(panic))))
}

/// What a panic said. The payload is dropped with care: that is foreign code too.
pub(super) fn message(panic: Box<dyn Any + Send>) -> String {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without a message".to_owned(),
    };
    discard(panic);
    text
}
