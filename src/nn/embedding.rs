//! The embedding layer.

use super::{Module, VarBuilder};
use crate::{LazyTensor, Result};

/// The rows of a table that ids name.
///
/// The table is `[size, hidden]`, of any dtype; ids are u8, u32 or i64 of any shape `[..]`, and give
/// `[.., hidden]`. An id out of range fails when it runs; a dtype's largest value gives zeros, as in
/// Candle.
///
/// ```
/// use candlewick::nn::{Embedding, Module};
/// use candlewick::{Device, Executor, LazyTensor};
/// let table = LazyTensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
/// let ids = LazyTensor::new(&[[1u32, 0, 1]], &Device::Cpu)?;
/// let y = Embedding::new(table, 2).forward(&ids)?;
/// assert_eq!(y.dims(), [1, 3, 2]);
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Embedding {
    embeddings: LazyTensor,
    hidden_size: usize,
}

impl Embedding {
    /// A layer of this table, whose rows have `hidden_size` elements.
    pub fn new(embeddings: LazyTensor, hidden_size: usize) -> Self {
        Self {
            embeddings,
            hidden_size,
        }
    }

    /// The table.
    pub fn embeddings(&self) -> &LazyTensor {
        &self.embeddings
    }

    /// The size of a row.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }
}

impl Module for Embedding {
    fn forward(&self, indexes: &LazyTensor) -> Result<LazyTensor> {
        let rows = self.embeddings.embedding(&indexes.flatten_all()?)?;
        let mut dims = indexes.dims().to_vec();
        dims.push(self.hidden_size);
        rows.reshape(dims)
    }
}

/// An embedding layer of the parameter `weight`.
///
/// # Errors
/// As [`VarBuilder::get`].
pub fn embedding(in_size: usize, out_size: usize, vb: VarBuilder) -> Result<Embedding> {
    let table = vb.get((in_size, out_size), "weight")?;
    Ok(Embedding::new(table, out_size))
}
