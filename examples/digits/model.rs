//! The network, written twice: eagerly with Candle and lazily with candlewick.

use crate::Result;
use crate::data::{Digit, Named, PIXELS, named};
use candle_core::Tensor;
use candle_nn::ops::log_softmax;
use candlewick::{D, Device, LazyTensor, Snapshot};

/// The logarithm of the probability of each digit.
pub(crate) type Answer = [f32; 10];

/// How far from eager Candle's a logarithm may be. With the same kernels on the same data none is
/// off by a bit; this leaves room for sums taken in another order (values reach -40 or so).
pub(crate) const TOLERANCE: f32 = 1e-4;

/// The network on eager Candle.
#[derive(Clone)]
pub(crate) struct Eager {
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
}

impl Eager {
    pub(crate) fn new(weights: &Named) -> Result<Self> {
        Ok(Self {
            w1: named(weights, "w1")?,
            b1: named(weights, "b1")?,
            w2: named(weights, "w2")?,
            b2: named(weights, "b2")?,
        })
    }

    pub(crate) fn classify(&self, pixels: &[f32; PIXELS]) -> Result<Answer> {
        let x = Tensor::from_slice(pixels, (1, PIXELS), &Device::Cpu)?;
        let hidden = x.matmul(&self.w1)?.broadcast_add(&self.b1)?.gelu()?;
        let logits = hidden.matmul(&self.w2)?.broadcast_add(&self.b2)?;
        answer(&log_softmax(&logits, D::Minus1)?)
    }

    /// The answer to every image.
    pub(crate) fn classify_all(&self, digits: &[Digit]) -> Result<Vec<Answer>> {
        digits
            .iter()
            .map(|digit| self.classify(&digit.pixels))
            .collect()
    }
}

/// The network as a lazy graph over one version of the weights: the same text.
pub(crate) fn lazy(weights: &Snapshot, pixels: &[f32; PIXELS]) -> candlewick::Result<LazyTensor> {
    let x = LazyTensor::from_slice(pixels, (1, PIXELS), &Device::Cpu)?;
    let hidden = x
        .matmul(&weights.get("w1")?)?
        .broadcast_add(&weights.get("b1")?)?
        .gelu()?;
    let logits = hidden
        .matmul(&weights.get("w2")?)?
        .broadcast_add(&weights.get("b2")?)?;
    logits.log_softmax(D::Minus1)
}

/// Reads the ten numbers out of a `[1, 10]` tensor.
pub(crate) fn answer(out: &Tensor) -> Result<Answer> {
    let row = out.squeeze(0)?.to_vec1::<f32>()?;
    row.try_into()
        .map_err(|row: Vec<f32>| format!("an answer of {} numbers", row.len()).into())
}

/// The digit that an answer finds most likely.
pub(crate) fn best(answer: &Answer) -> u8 {
    let mut best = 0;
    for (digit, value) in answer.iter().enumerate() {
        if *value > answer[best] {
            best = digit;
        }
    }
    best as u8
}

/// The largest difference of two answers; NaN if there is one in either.
pub(crate) fn distance(a: &Answer, b: &Answer) -> f32 {
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0., |most, d| if d > most || d.is_nan() { d } else { most })
}
