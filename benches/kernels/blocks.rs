//! Parts of networks: perceptrons, attention, a low-rank update, a layer of a text encoder.

use crate::limits::Limit;
use crate::{Case, random};
use candle_nn::{LayerNorm, Linear, Module};
use candlewick::{D, LazyTensor, Tensor};

/// All blocks.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [1, 8, 32, 64].map(mlp).into();
    cases.extend([
        Layer::new().case("minilm_layer", 8, 128),
        Layer::new().case("minilm_layer_b1", 1, 32),
        attention("attention_prefill", [8, 12, 128, 128, 32]),
        attention("attention_long", [1, 8, 2048, 2048, 64]),
        attention("attention_decode", [1, 32, 1, 1024, 128]),
        lora(1),
        lora(32),
        ensemble(16),
        gated_mlp(1),
        gated_mlp(32),
    ]);
    cases
}

/// 512 to 2048 to 512, by so many rows.
fn mlp(rows: usize) -> Case {
    let (x, up, down) = (
        random(&[rows, 512]),
        random(&[512, 2048]),
        random(&[2048, 512]),
    );
    let [lx, lup, ldown] = [&x, &up, &down].map(LazyTensor::from);
    Case {
        what: format!("mlp_b{rows}"),
        eager: Box::new(move || {
            candle_nn::ops::softmax_last_dim(&x.matmul(&up)?.gelu()?.matmul(&down)?)
        }),
        lazy: Box::new(move || lx.matmul(&lup)?.gelu()?.matmul(&ldown)?.softmax(D::Minus1)),
        limit: Limit::products(rows, 2 * 512 * 2048),
    }
}

/// Scaled, masked dot products, softmax, and what they weigh.
fn attention(what: &str, [batch, heads, t, s, d]: [usize; 5]) -> Case {
    let dims = |rows| [batch, heads, rows, d];
    let (q, k, v) = (random(&dims(t)), random(&dims(s)), random(&dims(s)));
    let mask = random(&[batch, 1, 1, s]);
    let [lq, lk, lv, lm] = [&q, &k, &v, &mask].map(LazyTensor::from);
    let scale = 1.0 / (d as f64).sqrt();
    Case {
        what: what.to_owned(),
        eager: Box::new(move || {
            let scores = (q.matmul(&k.t()?)? * scale)?.broadcast_add(&mask)?;
            candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)
        }),
        lazy: Box::new(move || {
            let scores = (lq.matmul(&lk.t()?)? * scale)?.broadcast_add(&lm)?;
            scores.softmax(D::Minus1)?.matmul(&lv)
        }),
        limit: None,
    }
}

/// A linear layer of 512 with an update of rank 8.
fn lora(rows: usize) -> Case {
    let (x, w, a, b) = (
        random(&[rows, 512]),
        random(&[512, 512]),
        random(&[512, 8]),
        random(&[8, 512]),
    );
    let [lx, lw, la, lb] = [&x, &w, &a, &b].map(LazyTensor::from);
    Case {
        what: format!("lora_b{rows}"),
        eager: Box::new(move || {
            let update = x.matmul(&a)?.matmul(&b)?.affine(0.5, 0.0)?;
            x.matmul(&w)? + update
        }),
        lazy: Box::new(move || lx.matmul(&lw)? + lx.lora(&la, &lb, 0.5)?),
        limit: None,
    }
}

/// The mean of so many small perceptrons, which have nothing to do with each other.
fn ensemble(members: usize) -> Case {
    let x = random(&[64, 64]);
    let weights: Vec<[Tensor; 2]> = (0..members)
        .map(|_| [random(&[64, 64]), random(&[64, 64])])
        .collect();
    let lx = LazyTensor::from(&x);
    let pair = |w: &[Tensor; 2]| w.each_ref().map(LazyTensor::from);
    let lazy: Vec<[LazyTensor; 2]> = weights.iter().map(pair).collect();
    let by = 1.0 / members as f64;
    Case {
        what: format!("ensemble{members}_64"),
        eager: Box::new(move || {
            let one = |[up, down]: &[Tensor; 2]| {
                candle_nn::ops::softmax_last_dim(&x.matmul(up)?.gelu()?.matmul(down)?)
            };
            let all = weights.iter().map(one).collect::<Result<Vec<_>, _>>()?;
            let (first, others) = all.split_first().expect("members");
            others.iter().try_fold(first.clone(), |sum, y| sum + y)? * by
        }),
        lazy: Box::new(move || {
            let one = |[up, down]: &[LazyTensor; 2]| {
                lx.matmul(up)?.gelu()?.matmul(down)?.softmax(D::Minus1)
            };
            let all = lazy.iter().map(one).collect::<Result<Vec<_>, _>>()?;
            let (first, others) = all.split_first().expect("members");
            others.iter().try_fold(first.clone(), |sum, y| sum + y)? * by
        }),
        limit: None,
    }
}

/// 512 to 1536 and, gated by as many, to 512, as in Llama.
fn gated_mlp(rows: usize) -> Case {
    let x = random(&[rows, 512]);
    let weight = |from: usize, to: usize| random(&[to, from]).t().unwrap();
    let (gate, up) = (weight(512, 1536), weight(512, 1536));
    let down = (weight(1536, 512) * 0.05).unwrap();
    let [lx, lgate, lup, ldown] = [&x, &gate, &up, &down].map(LazyTensor::from);
    Case {
        what: format!("gated_mlp_b{rows}"),
        eager: Box::new(move || {
            let gated = (x.matmul(&gate)?.silu()? * x.matmul(&up)?)?;
            gated.matmul(&down)
        }),
        lazy: Box::new(move || {
            let gated = (lx.matmul(&lgate)?.silu()? * lx.matmul(&lup)?)?;
            gated.matmul(&ldown)
        }),
        limit: None,
    }
}

/// The weights of a layer of MiniLM, as a pair for each: right side and bias.
struct Layer {
    weights: [(Tensor, Tensor); 6],
    norms: [(Tensor, Tensor); 2],
}

const HIDDEN: usize = 384;
const HEADS: usize = 12;
const INNER: usize = 1536;
const EPS: f64 = 1e-12;

impl Layer {
    fn new() -> Self {
        let linear = |from: usize, to: usize| {
            let weight = (random(&[to, from]) * 0.05).unwrap();
            (weight, (random(&[to]) * 0.1).unwrap())
        };
        let own = || linear(HIDDEN, HIDDEN);
        let norm = || (random(&[HIDDEN]), random(&[HIDDEN]));
        Self {
            weights: [
                own(),
                own(),
                own(),
                own(),
                linear(HIDDEN, INNER),
                linear(INNER, HIDDEN),
            ],
            norms: [norm(), norm()],
        }
    }

    fn case(self, what: &str, batch: usize, length: usize) -> Case {
        let x = random(&[batch, length, HIDDEN]);
        let mask = random(&[batch, 1, 1, length]);
        let [lx, lmask] = [&x, &mask].map(LazyTensor::from);
        let (rows, weights) = (batch * length, 4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER);
        // each row with the keys and the values of its sentence
        let adds = rows * (weights + 2 * length * HIDDEN);
        let eager = self.eager();
        let lazy = self.lazy();
        Case {
            what: what.to_owned(),
            eager: Box::new(move || eager(&x, &mask)),
            lazy: Box::new(move || lazy(&lx, &lmask)),
            limit: Some(Limit::Products { adds, weights }),
        }
    }

    /// As candle-transformers computes it.
    fn eager(&self) -> impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> + use<> {
        let linear = |(w, b): &(Tensor, Tensor)| Linear::new(w.clone(), Some(b.clone()));
        let [q, k, v, out, up, down] = self.weights.each_ref().map(linear);
        let norm = |(w, b): &(Tensor, Tensor)| LayerNorm::new(w.clone(), b.clone(), EPS);
        let [after_attention, after_all] = self.norms.each_ref().map(norm);
        let heads = |x: &Tensor| {
            let (batch, length, _) = x.dims3()?;
            let x = x.reshape((batch, length, HEADS, HIDDEN / HEADS))?;
            x.transpose(1, 2)?.contiguous()
        };
        move |x, mask| {
            let (q, k, v) = (
                heads(&q.forward(x)?)?,
                heads(&k.forward(x)?)?,
                heads(&v.forward(x)?)?,
            );
            let scores = (q.matmul(&k.t()?)? / ((HIDDEN / HEADS) as f64).sqrt())?;
            let scores = scores.broadcast_add(mask)?;
            let weights = candle_nn::ops::softmax(&scores, D::Minus1)?;
            let context = weights.matmul(&v)?.transpose(1, 2)?.contiguous()?;
            let context = context.flatten_from(D::Minus2)?;
            let x = after_attention.forward(&(out.forward(&context)? + x)?)?;
            let inner = up.forward(&x)?.gelu_erf()?;
            after_all.forward(&(down.forward(&inner)? + &x)?)
        }
    }

    fn lazy(&self) -> impl Fn(&LazyTensor, &LazyTensor) -> candlewick::Result<LazyTensor> + use<> {
        let pair = |(w, b): &(Tensor, Tensor)| (LazyTensor::from(w), LazyTensor::from(b));
        let [q, k, v, out, up, down] = self.weights.each_ref().map(pair);
        let [after_attention, after_all] = self.norms.each_ref().map(pair);
        let linear = |x: &LazyTensor, (w, b): &(LazyTensor, LazyTensor)| {
            x.broadcast_matmul(&w.t()?)?.broadcast_add(b)
        };
        let norm =
            |x: LazyTensor, (w, b): &(LazyTensor, LazyTensor)| x.layer_norm(w, b, EPS as f32);
        let heads = |x: LazyTensor| {
            let (batch, length) = (x.dims()[0], x.dims()[1]);
            let x = x.reshape((batch, length, HEADS, HIDDEN / HEADS))?;
            x.transpose(1, 2)
        };
        move |x, mask| {
            let (q, k, v) = (
                heads(linear(x, &q)?)?,
                heads(linear(x, &k)?)?,
                heads(linear(x, &v)?)?,
            );
            let scores = (q.matmul(&k.t()?)? / ((HIDDEN / HEADS) as f64).sqrt())?;
            let weights = scores.broadcast_add(mask)?.softmax(D::Minus1)?;
            let context = weights
                .matmul(&v)?
                .transpose(1, 2)?
                .flatten_from(D::Minus2)?;
            let x = norm((linear(&context, &out)? + x)?, &after_attention)?;
            let inner = linear(&x, &up)?.gelu_erf()?;
            norm((linear(&inner, &down)? + &x)?, &after_all)
        }
    }
}
