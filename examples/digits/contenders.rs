//! Three ways for many threads to share one network on one CPU.

use crate::Result;
use crate::data::PIXELS;
use crate::model::{Answer, Eager, answer, lazy};
use candlewick::{Executor, Params};
use std::sync::{Mutex, PoisonError};

/// Classifies one image at a time, on the caller's thread's behalf.
pub(crate) trait Contender: Sync {
    fn name(&self) -> &'static str;
    fn classify(&self, pixels: &[f32; PIXELS]) -> Result<Answer>;
}

/// One executor; each request takes the newest weights, builds its graph and runs it.
pub(crate) struct Candlewick {
    pub(crate) executor: Executor,
    pub(crate) params: Params,
}

impl Contender for Candlewick {
    fn name(&self) -> &'static str {
        "candlewick"
    }

    fn classify(&self, pixels: &[f32; PIXELS]) -> Result<Answer> {
        let out = lazy(&self.params.snapshot(), pixels)?;
        answer(&self.executor.run(&out)?)
    }
}

/// Eager Candle, one caller at a time.
pub(crate) struct BehindMutex(pub(crate) Mutex<Eager>);

impl Contender for BehindMutex {
    fn name(&self) -> &'static str {
        "eager, mutex"
    }

    fn classify(&self, pixels: &[f32; PIXELS]) -> Result<Answer> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .classify(pixels)
    }
}

/// Eager Candle on every thread at once.
pub(crate) struct EachThread(pub(crate) Eager);

impl Contender for EachThread {
    fn name(&self) -> &'static str {
        "eager, each thread"
    }

    fn classify(&self, pixels: &[f32; PIXELS]) -> Result<Answer> {
        self.0.classify(pixels)
    }
}
