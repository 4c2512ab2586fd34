//! Rotary position embedding.

use crate::{DType, Device, LazyTensor, Result, Tensor};

/// The cosines and sines by which queries and keys are turned with their position.
///
/// Rotary position embedding as of [Su et al. 2021](https://arxiv.org/abs/2104.09864).
///
/// ```
/// use candlewick::nn::RotaryEmbedding;
/// use candlewick::{DType, Device, LazyTensor};
/// let rotary = RotaryEmbedding::new(8, 512, 10_000.0, DType::F32, &Device::Cpu)?;
/// let q = LazyTensor::ones((1, 4, 3, 8), DType::F32, &Device::Cpu)?;
/// let turned = rotary.rotate(&q, 20)?; // positions 20, 21 and 22
/// assert_eq!(turned.dims(), [1, 4, 3, 8]);
/// assert!(rotary.rotate(&q, 510).is_err());
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RotaryEmbedding {
    cos: LazyTensor,
    sin: LazyTensor,
    interleaved: bool,
}

impl RotaryEmbedding {
    /// For heads of `size` elements at positions below `positions`: pair `i` turns by
    /// `theta^(-2i / size)` from one position to the next.
    ///
    /// # Errors
    /// As [`from_frequencies`](Self::from_frequencies).
    pub fn new(
        size: usize,
        positions: usize,
        theta: f32,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let frequency = |i: usize| 1.0 / theta.powf(i as f32 / size as f32);
        let frequencies: Vec<f32> = (0..size).step_by(2).map(frequency).collect();
        Self::from_frequencies(&frequencies, positions, dtype, device)
    }

    /// With the given angle from one position to the next for each pair, in radians, for models
    /// that scale them. The table is computed in f32, and then has `dtype`.
    ///
    /// # Errors
    /// A table that does not fit into the memory's addresses, or cannot be made on the device.
    pub fn from_frequencies(
        frequencies: &[f32],
        positions: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let table = |f: fn(f32) -> f32| {
            let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |w| p as f32 * w));
            let table: Vec<f32> = angles.map(f).collect();
            Tensor::from_vec(table, (positions, frequencies.len()), &Device::Cpu)
                .and_then(|table| table.to_dtype(dtype)?.to_device(device))
                .map(LazyTensor::from)
                .map_err(|error| {
                    super::refuse("rotary_embedding", &[], crate::Reason::Candle(error))
                })
        };
        Ok(Self {
            cos: table(f32::cos)?,
            sin: table(f32::sin)?,
            interleaved: false,
        })
    }

    /// Turns neighbours against each other, instead of the two halves of a head.
    pub fn interleaved(self, interleaved: bool) -> Self {
        Self {
            interleaved,
            ..self
        }
    }

    /// `[positions, size / 2]`.
    pub fn cos(&self) -> &LazyTensor {
        &self.cos
    }

    /// `[positions, size / 2]`.
    pub fn sin(&self) -> &LazyTensor {
        &self.sin
    }

    /// `[batch, heads, length, size]`, queries or keys, turned for the positions from `start` on.
    ///
    /// # Errors
    /// Positions behind the last, another size or rank, another dtype than the table's.
    pub fn rotate(&self, xs: &LazyTensor, start: usize) -> Result<LazyTensor> {
        let (_, _, length, _) = xs.dims4()?;
        let cos = self.cos.narrow(0, start, length)?;
        let sin = self.sin.narrow(0, start, length)?;
        self.turn(xs, &cos, &sin)
    }

    /// The same for the `positions` that a tensor names, u32 or i64: `[length]` for all of the
    /// batch, or `[batch, length]`. A graph of the same shape is planned once, wherever it stands.
    ///
    /// # Errors
    /// As [`rotate`](Self::rotate); a position behind the last fails when it runs.
    pub fn rotate_at(&self, xs: &LazyTensor, positions: &LazyTensor) -> Result<LazyTensor> {
        let flat = positions.flatten_all()?;
        let mut dims = positions.dims().to_vec();
        dims.push(self.cos.dims()[1]);
        let pick = |table: &LazyTensor| table.embedding(&flat)?.reshape(&dims[..]);
        self.turn(xs, &pick(&self.cos)?, &pick(&self.sin)?)
    }

    fn turn(&self, xs: &LazyTensor, cos: &LazyTensor, sin: &LazyTensor) -> Result<LazyTensor> {
        if self.interleaved {
            xs.rope_i(cos, sin)
        } else {
            xs.rope(cos, sin)
        }
    }
}
