//! Attention.

use super::infer::{is_wide_float, refuse, same_dtype};
use super::node::LazyTensor;
use crate::error::{Reason, Result};
use candle_core::D;

/// # Attention
impl LazyTensor {
    /// Scaled dot-product attention: `softmax(self @ key^T * scale + mask) @ value`.
    ///
    /// `self` (the queries) is `[b, h, t, d]`, `key` is `[b, g, s, d]`, `value` is `[b, g, s, e]`;
    /// the result is `[b, h, t, e]`. `h` is a multiple of `g`: so many neighbouring heads of the
    /// queries share one of the keys. `mask` is added before the softmax and broadcasts to
    /// `[b, h, t, s]`; minus infinity leaves a place out. f32, f64, f16, bf16.
    ///
    /// On the CPU in f32 this is one step that never stores the `[t, s]` weights, as is the same
    /// written with [`matmul`](Self::matmul) and [`softmax`](Self::softmax). Attention as of
    /// [Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), shared heads as of
    /// [Ainslie et al. 2023](https://arxiv.org/abs/2305.13245).
    ///
    /// ```
    /// use candlewick::{DType, Device, Executor, LazyTensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let query = LazyTensor::ones((1, 4, 3, 8), DType::F32, &Device::Cpu)?;
    /// let key = LazyTensor::ones((1, 2, 5, 8), DType::F32, &Device::Cpu)?;
    /// let y = executor.run(&query.sdpa(&key, &key, None, 0.35)?)?;
    /// assert_eq!(y.dims(), [1, 4, 3, 8]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that do not agree, no query or no key (`b`, `h`, `t` or `s` is 0), a mask that does not broadcast, different dtypes or devices, other
    /// dtypes than these.
    pub fn sdpa(&self, key: &Self, value: &Self, mask: Option<&Self>, scale: f64) -> Result<Self> {
        let mut operands = vec![self, key, value];
        operands.extend(mask);
        let refused = |reason| Err(refuse("sdpa", &operands, reason));
        let (&[b, h, t, d], &[kb, g, s, kd], &[vb, vg, vs, e]) =
            (self.dims(), key.dims(), value.dims())
        else {
            return refused(Reason::Shapes);
        };
        let agree = (kb, vb, vg, vs, kd) == (b, b, g, s, d);
        if !agree || g == 0 || !h.is_multiple_of(g) {
            return refused(Reason::Shapes);
        }
        if [b, h, t, s].contains(&0) {
            return refused(Reason::Argument {
                name: "the scores",
                must: "non-empty",
            });
        }
        let dtype = same_dtype("sdpa", &operands)?;
        if !is_wide_float(dtype) {
            return refused(Reason::UnsupportedDType(dtype));
        }
        let shared = h / g;
        // the heads that share a key are rows of one product
        let query = self.reshape((b, g, shared * t, d))?;
        let scores = query.matmul(&key.t()?)?.reshape((b, g, shared, t, s))?;
        let scores = (scores * scale)?;
        let scores = match mask {
            Some(mask) => {
                let full = [b, h, t, s];
                let own = mask.dims();
                let fits = own.len() <= 4
                    && own
                        .iter()
                        .rev()
                        .zip(full.iter().rev())
                        .all(|(&m, &f)| m == f || m == 1);
                if !fits {
                    return refused(Reason::Broadcast);
                }
                let mut four = [1; 4];
                four[4 - own.len()..].copy_from_slice(own);
                let heads = if four[1] == 1 { [1, 1] } else { [g, shared] };
                let five = [four[0], heads[0], heads[1], four[2], four[3]];
                scores.broadcast_add(&mask.reshape(&five[..])?)?
            }
            None => scores,
        };
        let weights = scores.softmax(D::Minus1)?.reshape((b, g, shared * t, s))?;
        weights.matmul(value)?.reshape((b, h, t, e))
    }
}
