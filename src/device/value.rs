//! Values while a plan runs, and results that are kept.

use super::meter::Meter;
use super::runner::Tensors;
use crate::core::store::Kind;
use crate::core::store::slot::Outcome;
use crate::error::Error;
use candle_core::Tensor;
use std::sync::{Arc, OnceLock};

/// A result that is kept.
pub(crate) struct Stored {
    value: Value,
    bytes: u64,
    meter: Arc<Meter>,
}

/// A value while a plan runs.
#[derive(Clone)]
pub(super) enum Value {
    /// Made by a fused step; nobody has seen it but such steps.
    Own(Tensor),
    Here(Tensor),
    /// A copy to the host that is made with all others of the batch, before anything of it is
    /// published.
    Reading(Reading),
}

impl Value {
    /// The tensor.
    pub(super) fn whole(&self) -> Result<&Tensor, Error> {
        match self {
            Value::Own(tensor) | Value::Here(tensor) => Ok(tensor),
            Value::Reading(cell) => match cell.get() {
                Some(read) => read.as_ref().map_err(Error::clone),
                None => Err(Tensors::abandoned()),
            },
        }
    }

    /// The value as others see it, who do not write over it.
    fn shown(&self) -> Self {
        let mut shown = self.clone();
        shown.show();
        shown
    }

    /// From now on others may know the value's memory.
    pub(super) fn show(&mut self) {
        if let Value::Own(tensor) = self {
            *self = Value::Here(tensor.clone());
        }
    }
}

/// A copy to the host, once it is made.
pub(super) type Reading = Arc<OnceLock<Result<Tensor, Error>>>;

impl Stored {
    pub(super) fn new(value: Value, bytes: u64, meter: &Arc<Meter>) -> Self {
        meter.keep(bytes);
        Self {
            value,
            bytes,
            meter: meter.clone(),
        }
    }

    /// The tensor.
    pub(crate) fn tensor(&self) -> Result<Tensor, Error> {
        self.value.whole().cloned()
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.meter.free(self.bytes);
    }
}

/// The result of another fragment, as an operand.
pub(super) fn read(outcome: Outcome<&Stored, &Error>) -> Result<Value, Error> {
    match outcome {
        Outcome::Ready(stored) => Ok(stored.value.shown()),
        Outcome::Failed(error) => Err(error.clone()),
        Outcome::Cancelled => Err(Error::Cancelled),
        Outcome::Expired => Err(Error::DeadlineExceeded),
        Outcome::Closed => Err(Error::Closed),
    }
}
