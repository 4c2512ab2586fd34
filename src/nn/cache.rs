//! Keys and values of a sequence's earlier positions.

use crate::{LazyTensor, Reason, Result};

/// The keys and values that attention goes back to, as lazy tensors.
///
/// A value like any other: cloning it forks the sequence, and dropping it frees what nobody else
/// uses. Submit what it holds together with the step's result: from then on the tensors stand for
/// their results, which stay on the device, and the next step's graph begins there. A cache that is
/// never submitted holds an ever longer graph instead.
///
/// ```
/// use candlewick::nn::KvCache;
/// use candlewick::{DType, Device, Executor, LazyTensor};
/// let executor = Executor::new(&Device::Cpu)?;
/// let mut cache = KvCache::new(2);
/// for step in 1..4 {
///     let new = LazyTensor::ones((1, 2, 1, 8), DType::F32, &Device::Cpu)?;
///     let (k, v) = cache.append(&new, &new)?;
///     let y = new.sdpa(&k, &v, None, 0.35)?;
///     let (y, _, _) = executor.run((&y, &k, &v))?;
///     assert_eq!((y.dims(), cache.current_seq_len()), (&[1, 2, 1, 8][..], step));
/// }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct KvCache {
    dim: usize,
    held: Option<(LazyTensor, LazyTensor)>,
}

impl KvCache {
    /// Nothing yet. The sequence goes along dimension `dim`: 2 for `[batch, heads, length, size]`.
    pub fn new(dim: usize) -> Self {
        Self { dim, held: None }
    }

    /// The keys of all positions so far.
    pub fn k(&self) -> Option<&LazyTensor> {
        self.held.as_ref().map(|(k, _)| k)
    }

    /// The values of all positions so far.
    pub fn v(&self) -> Option<&LazyTensor> {
        self.held.as_ref().map(|(_, v)| v)
    }

    /// How many positions there are.
    pub fn current_seq_len(&self) -> usize {
        self.k().map_or(0, |k| k.dims()[self.dim])
    }

    /// Puts new positions behind the others, and returns all keys and all values.
    ///
    /// # Errors
    /// Shapes or dtypes that do not go with what is there, keys and values of different length, a
    /// rank that lacks the dimension. Then nothing changes.
    pub fn append(&mut self, k: &LazyTensor, v: &LazyTensor) -> Result<(LazyTensor, LazyTensor)> {
        if k.dim(self.dim)? != v.dim(self.dim)? {
            return Err(super::refuse("kv_cache", &[k, v], Reason::Shapes));
        }
        let all = match &self.held {
            None => (k.clone(), v.clone()),
            Some((old_k, old_v)) => (
                LazyTensor::cat(&[old_k, k], self.dim)?,
                LazyTensor::cat(&[old_v, v], self.dim)?,
            ),
        };
        self.held = Some(all.clone());
        Ok(all)
    }

    /// Keeps the first `length` positions only: what a rejected continuation goes back to.
    ///
    /// # Errors
    /// More positions than there are. Then nothing changes.
    pub fn truncate(&mut self, length: usize) -> Result<()> {
        let have = self.current_seq_len();
        if length > have {
            let (start, dim) = (0, self.dim);
            let reason = Reason::OutOfRange {
                dim,
                start,
                len: length,
                size: have,
            };
            return Err(super::refuse("kv_cache", &[], reason));
        }
        self.held = match self.held.take() {
            Some((k, v)) if length > 0 && length < have => Some((
                k.narrow(self.dim, 0, length)?,
                v.narrow(self.dim, 0, length)?,
            )),
            held => held.filter(|_| length > 0),
        };
        Ok(())
    }

    /// Forgets all positions.
    pub fn reset(&mut self) {
        self.held = None;
    }
}
