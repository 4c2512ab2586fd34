//! Modules made of closures and of other modules.

use super::Module;
use crate::{LazyTensor, Result};
use std::fmt;
use std::sync::Arc;

type Layer = Box<dyn Module + Send + Sync>;
type Forward<'a> = dyn Fn(&LazyTensor) -> Result<LazyTensor> + Send + Sync + 'a;

/// A closure as a module that can be cloned and shared among threads.
#[derive(Clone)]
pub struct Func<'a>(Arc<Forward<'a>>);

impl<'a> Func<'a> {
    /// A module of this closure.
    pub fn new(f: impl Fn(&LazyTensor) -> Result<LazyTensor> + Send + Sync + 'a) -> Self {
        Self(Arc::new(f))
    }
}

/// A module of a closure.
pub fn func<'a>(f: impl Fn(&LazyTensor) -> Result<LazyTensor> + Send + Sync + 'a) -> Func<'a> {
    Func::new(f)
}

impl Module for Func<'_> {
    fn forward(&self, xs: &LazyTensor) -> Result<LazyTensor> {
        (self.0)(xs)
    }
}

impl fmt::Debug for Func<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Func")
    }
}

/// Modules one after another.
///
/// ```
/// use candlewick::nn::{Activation, Module, seq};
/// use candlewick::{Device, LazyTensor};
/// let layers = seq().add(Activation::Relu).add_fn(|x| x.sqr());
/// let x = LazyTensor::new(&[-1f32, 2.0], &Device::Cpu)?;
/// assert_eq!(layers.forward_all(&x)?.len(), 2);
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Default)]
pub struct Sequential {
    layers: Vec<Layer>,
}

/// No modules yet.
pub fn seq() -> Sequential {
    Sequential::default()
}

impl Sequential {
    /// How many modules there are.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// A module more, behind the others.
    #[allow(clippy::should_implement_trait)] // Candle's name
    pub fn add<M: Module + Send + Sync + 'static>(mut self, layer: M) -> Self {
        self.layers.push(Box::new(layer));
        self
    }

    /// A closure more, behind the others.
    pub fn add_fn<F>(self, f: F) -> Self
    where
        F: Fn(&LazyTensor) -> Result<LazyTensor> + Send + Sync + 'static,
    {
        self.add(f)
    }

    /// What each module makes of the one before it, the first of `xs`.
    ///
    /// # Errors
    /// Those of the modules.
    pub fn forward_all(&self, xs: &LazyTensor) -> Result<Vec<LazyTensor>> {
        let mut all = Vec::with_capacity(self.len());
        for layer in &self.layers {
            let y = layer.forward(all.last().unwrap_or(xs))?;
            all.push(y);
        }
        Ok(all)
    }
}

impl Module for Sequential {
    fn forward(&self, xs: &LazyTensor) -> Result<LazyTensor> {
        let mut xs = xs.clone();
        for layer in &self.layers {
            xs = layer.forward(&xs)?;
        }
        Ok(xs)
    }
}

impl fmt::Debug for Sequential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequential")
            .field("len", &self.len())
            .finish()
    }
}
