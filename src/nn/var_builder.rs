//! Weights by path.

use crate::{DType, Device, LazyTensor, Params, ParamsError, Result, Shape, Snapshot};
use std::fmt;

/// One version of a set of parameters, seen from a path.
///
/// As `candle_nn::VarBuilder` for weights that exist: it makes no new ones. Cloning, and stepping
/// down with [`pp`](Self::pp), copies no tensor.
///
/// ```
/// use candlewick::nn::VarBuilder;
/// use candlewick::{DType, Device, Params, Tensor};
/// let weight = Tensor::zeros((3, 2), DType::F16, &Device::Cpu)?;
/// let params = Params::from_map([("encoder.layer.0.weight", weight)])?;
/// let vb = VarBuilder::from_snapshot(params.snapshot()).pp("encoder").pp("layer.0");
/// assert_eq!(vb.get((3, 2), "weight")?.dtype(), DType::F16);
/// assert_eq!(vb.with_dtype(DType::F32).get((3, 2), "weight")?.dtype(), DType::F32);
/// assert!(!vb.contains_tensor("bias"));
/// let error = vb.get((2, 3), "weight").unwrap_err();
/// assert_eq!(error.to_string(), "parameter \"encoder.layer.0.weight\" is [3, 2], not [2, 3]");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct VarBuilder {
    snapshot: Snapshot,
    path: String,
    dtype: Option<DType>,
}

impl VarBuilder {
    /// The parameters of one version, from the root. They keep their dtypes.
    pub fn from_snapshot(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            path: String::new(),
            dtype: None,
        }
    }

    /// The parameters of the current version, from the root.
    pub fn from_params(params: &Params) -> Self {
        Self::from_snapshot(params.snapshot())
    }

    /// A step down: names are looked up behind `name` and a dot. `name` may have dots itself.
    pub fn push_prefix(&self, name: impl fmt::Display) -> Self {
        Self {
            path: self.full(name),
            ..self.clone()
        }
    }

    /// [`push_prefix`](Self::push_prefix), for short.
    pub fn pp(&self, name: impl fmt::Display) -> Self {
        self.push_prefix(name)
    }

    /// The same parameters, from the root.
    pub fn root(&self) -> Self {
        Self {
            path: String::new(),
            ..self.clone()
        }
    }

    /// Where names are looked up: `encoder.layer.0`; empty at the root.
    pub fn prefix(&self) -> &str {
        &self.path
    }

    /// The same parameters, converted to `dtype` when they are got. Each `get` of one that has
    /// another dtype converts it anew: to share it, clone the lazy tensor.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        Self {
            dtype: Some(dtype),
            ..self.clone()
        }
    }

    /// What parameters are converted to, if they are.
    pub fn dtype(&self) -> Option<DType> {
        self.dtype
    }

    /// The device of the first parameter in the order of names, which is that of all for a set
    /// loaded from files; the CPU for an empty set.
    pub fn device(&self) -> Device {
        let first = self.snapshot.names().next();
        let tensor = first.and_then(|name| self.snapshot.tensor(name).ok());
        tensor.map_or(Device::Cpu, |tensor| tensor.device().clone())
    }

    /// The version that this looks at.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether there is a parameter of this name below the path.
    pub fn contains_tensor(&self, name: &str) -> bool {
        self.snapshot.contains(&self.full(name))
    }

    /// The parameter of this name below the path. Every graph of one version uses the same leaf
    /// for it, unless it was converted.
    ///
    /// # Errors
    /// [`ParamsError::Unknown`] and [`ParamsError::Shape`], with the full path; a conversion that
    /// Candle has not.
    pub fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<LazyTensor> {
        let (tensor, shape) = (self.get_unchecked(name)?, shape.into());
        if tensor.dims() != shape.dims() {
            let (name, got) = (self.full(name), tensor.shape());
            return Err(ParamsError::Shape {
                name,
                expected: shape,
                got,
            }
            .into());
        }
        Ok(tensor)
    }

    /// [`get`](Self::get), whatever the shape.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_unchecked(&self, name: &str) -> Result<LazyTensor> {
        let name = self.full(name);
        let lazy = self.snapshot.get(&name)?;
        match self.dtype {
            Some(dtype) if dtype != lazy.dtype() => {
                let converted = self.snapshot.tensor(&name)?.to_dtype(dtype);
                let converted = converted.map_err(|error| ParamsError::Convert {
                    name,
                    from: lazy.dtype(),
                    to: dtype,
                    error,
                })?;
                Ok(LazyTensor::from(converted))
            }
            _ => Ok(lazy),
        }
    }

    fn full(&self, name: impl fmt::Display) -> String {
        if self.path.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

impl fmt::Debug for VarBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VarBuilder")
            .field("prefix", &self.path)
            .field("version", &self.snapshot.version())
            .field("dtype", &self.dtype)
            .finish()
    }
}
