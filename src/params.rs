//! Named parameters that are replaced while requests run.

mod adapters;
mod load;
mod quantized;

use crate::core::versions::{Version, Versions};
use crate::error::{ParamsError, Result};
use crate::graph::LazyTensor;
use candle_core::{DType, Device, Shape, Tensor};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use adapters::Adapters;
pub use load::{Loader, Progress};
pub use quantized::QuantizedParams;

/// A set of named tensors (weights, adapters) that can be replaced under load.
///
/// Cloning is a reference count: all clones see the same set. A request takes one
/// [`snapshot`](Params::snapshot) and sees that version, whole, however long it runs; readers take
/// no lock. The memory of an old version goes when the last snapshot and the last graph that uses
/// it are gone.
///
/// ```
/// use candlewick::{Device, Executor, LazyTensor, Params, Tensor};
/// let params = Params::from_map([("w", Tensor::new(&[2f32], &Device::Cpu)?)])?;
/// let executor = Executor::new(&Device::Cpu)?;
/// let x = LazyTensor::new(&[10f32], &Device::Cpu)?;
///
/// let snapshot = params.snapshot();
/// params.update([("w", Tensor::new(&[3f32], &Device::Cpu)?)])?;
/// let old = executor.run(&(&x * &snapshot.get("w")?)?)?;
/// let new = executor.run(&(&x * &params.snapshot().get("w")?)?)?;
/// assert_eq!(old.to_vec1::<f32>()?, [20.0]);
/// assert_eq!(new.to_vec1::<f32>()?, [30.0]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Params(Arc<Versions<Set>>);

/// One version of a set of parameters.
#[derive(Clone)]
pub struct Snapshot(Arc<Version<Set>>);

/// Shared entries, so that an update of some names copies none of the others.
type Set = BTreeMap<Arc<str>, Arc<Entry>>;

/// A parameter. Every graph of one version uses the same node for it.
struct Entry {
    tensor: Tensor,
    lazy: LazyTensor,
}

impl Entry {
    fn new(tensor: Tensor) -> Arc<Self> {
        let tensor = tensor.detach();
        let lazy = LazyTensor::from(&tensor);
        Arc::new(Self { tensor, lazy })
    }
}

fn describe(tensor: &Tensor) -> (Shape, DType) {
    (tensor.shape().clone(), tensor.dtype())
}

impl Params {
    /// A set of the given tensors, without a copy.
    ///
    /// # Errors
    /// [`ParamsError::Repeated`] if a name is given twice.
    pub fn from_map<N: Into<String>>(
        tensors: impl IntoIterator<Item = (N, Tensor)>,
    ) -> Result<Self> {
        Ok(Self(Arc::new(Versions::new(collect(tensors)?))))
    }

    /// A set of the tensors of one or more safetensors files (the shards of one model), on
    /// `device`. The files are read piece by piece, each tensor into memory of its own.
    ///
    /// f32, f64, f16, bf16, u8, u32, i16, i32, i64 and f8e4m3 are taken as they are, u16 becomes
    /// u32.
    ///
    /// # Errors
    /// [`ParamsError`], naming the file and, where it is known, the parameter: a file that cannot
    /// be read, is cut short, damaged or hostile; a dtype that Candle cannot hold; a name that two
    /// files define.
    ///
    /// ```no_run
    /// use candlewick::{Device, Params};
    /// let params = Params::load(&["model-1.safetensors", "model-2.safetensors"], &Device::Cpu)?;
    /// println!("{} parameters", params.snapshot().len());
    /// # Ok::<_, candlewick::Error>(())
    /// ```
    pub fn load<P: AsRef<Path>>(files: &[P], device: &Device) -> Result<Self> {
        Loader::new(device).files(files)
    }

    /// A set of the tensors of a model's folder, as Hugging Face lays it out, on `device`:
    /// `model.safetensors`, or the shards of `model.safetensors.index.json`. [`Loader`] loads
    /// other formats, and reports progress.
    ///
    /// # Errors
    /// As [`load`](Self::load) and [`Loader::index`].
    pub fn load_dir(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Loader::new(device).dir(dir)
    }

    /// The current version, for one request.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.0.snapshot())
    }

    /// Replaces the whole set at once, and returns the new version's number. The new set has the
    /// same names, shapes and dtypes.
    ///
    /// # Errors
    /// [`ParamsError::Unknown`], [`ParamsError::Missing`], [`ParamsError::Mismatch`],
    /// [`ParamsError::Repeated`]; then nothing changes.
    pub fn replace<N: Into<String>>(
        &self,
        tensors: impl IntoIterator<Item = (N, Tensor)>,
    ) -> Result<u64> {
        let new = collect(tensors)?;
        self.0.update(|old| {
            if let Some(name) = old.keys().find(|name| !new.contains_key(*name)) {
                let name = name.to_string();
                return Err(ParamsError::Missing { name }.into());
            }
            merged(old, &new)
        })
    }

    /// Replaces some parameters, and returns the new version's number. Of two concurrent updates
    /// both are applied.
    ///
    /// # Errors
    /// [`ParamsError::Unknown`], [`ParamsError::Mismatch`], [`ParamsError::Repeated`]; then
    /// nothing changes.
    pub fn update<N: Into<String>>(
        &self,
        tensors: impl IntoIterator<Item = (N, Tensor)>,
    ) -> Result<u64> {
        let new = collect(tensors)?;
        self.0.update(|old| merged(old, &new))
    }
}

fn collect<N: Into<String>>(tensors: impl IntoIterator<Item = (N, Tensor)>) -> Result<Set> {
    let mut set = Set::new();
    for (name, tensor) in tensors {
        let name: String = name.into();
        if set
            .insert(name.as_str().into(), Entry::new(tensor))
            .is_some()
        {
            return Err(ParamsError::Repeated { name }.into());
        }
    }
    Ok(set)
}

/// `old` with the entries of `new` in the place of its own.
fn merged(old: &Set, new: &Set) -> Result<Set> {
    let mut set = old.clone();
    for (name, entry) in new {
        let Some(place) = set.get_mut(name) else {
            let name = name.to_string();
            return Err(ParamsError::Unknown { name }.into());
        };
        let (expected, got) = (describe(&place.tensor), describe(&entry.tensor));
        if expected != got {
            let name = name.to_string();
            return Err(ParamsError::Mismatch {
                name,
                expected,
                got,
            }
            .into());
        }
        *place = entry.clone();
    }
    Ok(set)
}

impl Snapshot {
    fn entry(&self, name: &str) -> Result<&Entry> {
        let entry = self.0.value.get(name).map(|entry| &**entry);
        entry.ok_or_else(|| {
            ParamsError::Unknown {
                name: name.to_owned(),
            }
            .into()
        })
    }

    /// The parameter of this name, to build graphs with.
    ///
    /// # Errors
    /// [`ParamsError::Unknown`].
    pub fn get(&self, name: &str) -> Result<LazyTensor> {
        Ok(self.entry(name)?.lazy.clone())
    }

    /// The parameter of this name, as a tensor.
    ///
    /// # Errors
    /// [`ParamsError::Unknown`].
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        Ok(self.entry(name)?.tensor.clone())
    }

    /// Whether there is a parameter of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.value.contains_key(name)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.value.keys().map(|name| &**name)
    }

    /// The number of parameters.
    pub fn len(&self) -> usize {
        self.0.value.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.value.is_empty()
    }

    /// The number of this version; it rises by one with every change.
    pub fn version(&self) -> u64 {
        self.0.number
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Params")
            .field("version", &self.version())
            .field("names", &self.names().collect::<Vec<_>>())
            .finish()
    }
}
