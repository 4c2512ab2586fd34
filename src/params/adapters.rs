//! Named sets of parameters that come and go.

use super::Params;
use crate::core::versions::Versions;
use crate::error::{ParamsError, Result};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

/// Sets of parameters by name, one chosen for each request: adapters of one base.
///
/// Sets are added, replaced and removed while requests run, and no reader waits for it. A request
/// keeps the set that it has got, whole, until it ends. To change an adapter's values and keep its
/// shapes, [`Params::replace`] does; to give a name another set, [`insert`](Self::insert).
///
/// ```
/// use candlewick::nn::{Linear, Module, VarBuilder, lora_linear};
/// use candlewick::{Adapters, DType, Device, Executor, LazyTensor, Params, Tensor};
/// let base = Linear::new(LazyTensor::ones((3, 4), DType::F32, &Device::Cpu)?, None);
/// let update = |value: f32| -> Result<Params, Box<dyn std::error::Error>> {
///     let a = Tensor::full(value, (2, 4), &Device::Cpu)?;
///     let b = Tensor::full(value, (3, 2), &Device::Cpu)?;
///     Ok(Params::from_map([("lora_A.weight", a), ("lora_B.weight", b)])?)
/// };
/// let adapters = Adapters::new();
/// adapters.insert("polite", update(1.0)?);
/// adapters.insert("terse", update(2.0)?);
///
/// let executor = Executor::new(&Device::Cpu)?;
/// let x = LazyTensor::ones((1, 4), DType::F32, &Device::Cpu)?;
/// let vb = VarBuilder::from_params(&adapters.get("terse")?);
/// let y = lora_linear(base.clone(), (4, 3), 2, 2.0, vb)?.forward(&x)?;
/// assert_eq!(executor.run(&y)?.to_vec2::<f32>()?, [[36.0; 3]]); // 4 + 4 * 2 * 2 * 2
/// assert!(adapters.remove("terse").is_some());
/// assert!(adapters.get("terse").is_err());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Adapters(Arc<Versions<BTreeMap<String, Params>>>);

impl Adapters {
    /// None yet.
    pub fn new() -> Self {
        Self(Arc::new(Versions::new(BTreeMap::new())))
    }

    /// Adds a set, or puts it in the place of the one of this name, which is returned.
    pub fn insert(&self, name: impl Into<String>, params: Params) -> Option<Params> {
        let name = name.into();
        self.change(|sets| sets.insert(name.clone(), params.clone()))
    }

    /// Removes a set: requests that have it keep it.
    pub fn remove(&self, name: &str) -> Option<Params> {
        self.change(|sets| sets.remove(name))
    }

    /// What `change` returned for the sets that it was applied to.
    fn change<R>(
        &self,
        mut change: impl FnMut(&mut BTreeMap<String, Params>) -> Option<R>,
    ) -> Option<R> {
        let mut changed = None;
        let update = |sets: &BTreeMap<String, Params>| {
            let mut sets = sets.clone();
            changed = change(&mut sets);
            Ok::<_, Infallible>(sets)
        };
        match self.0.update(update) {
            Ok(_) => changed,
            Err(never) => match never {},
        }
    }

    /// The set of this name.
    ///
    /// # Errors
    /// [`ParamsError::Unknown`].
    pub fn get(&self, name: &str) -> Result<Params> {
        let sets = self.0.snapshot();
        sets.value.get(name).cloned().ok_or_else(|| {
            let name = name.to_owned();
            ParamsError::Unknown { name }.into()
        })
    }

    /// The names, in order.
    pub fn names(&self) -> Vec<String> {
        self.0.snapshot().value.keys().cloned().collect()
    }
}

impl Default for Adapters {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Adapters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Adapters").field(&self.names()).finish()
    }
}
