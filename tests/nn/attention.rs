//! Attention, its positions and its cache, beside Candle's operations one by one.

use super::{CPU, EXECUTOR, FLOATS, close, random, run, weights};
use candle_core::{D, Tensor};
use candle_nn::Module as _;
use candlewick::nn::{self, KvCache, LoraLinear, Module, MultiHeadAttention, RotaryEmbedding};
use candlewick::{DType, LazyTensor, Result};

const HIDDEN: usize = 24;
const HEADS: usize = 4;
const SIZE: usize = HIDDEN / HEADS;

fn parts(kv_heads: usize) -> [(&'static str, usize); 4] {
    let kv = kv_heads * SIZE;
    [("q", HIDDEN), ("k", kv), ("v", kv), ("o", HIDDEN)]
}

type Layers = (MultiHeadAttention, [candle_nn::Linear; 4]);

fn layers(kv_heads: usize, dtype: DType) -> Result<Layers> {
    let shapes = parts(kv_heads).map(|(name, out)| (format!("{name}.weight"), [out, HIDDEN]));
    let biases = parts(kv_heads).map(|(name, out)| (format!("{name}.bias"), [out]));
    let named: Vec<(&str, &[usize])> = shapes
        .iter()
        .map(|(name, dims)| (&name[..], &dims[..]))
        .chain(biases.iter().map(|(name, dims)| (&name[..], &dims[..])))
        .collect();
    let (ours, theirs) = weights(dtype, &named);
    let [q, k, v, o] = parts(kv_heads).map(|(name, out)| nn::linear(HIDDEN, out, ours.pp(name)));
    let attention = MultiHeadAttention::new(q?, k?, v?, HEADS, kv_heads).with_output(o?);
    let same = parts(kv_heads)
        .map(|(name, out)| candle_nn::linear(HIDDEN, out, theirs.pp(name)).expect("exists"));
    Ok((attention, same))
}

/// Attention as Candle's models write it.
fn reference(
    [q, k, v, o]: &[candle_nn::Linear; 4],
    xs: &Tensor,
    context: &Tensor,
    mask: Option<&Tensor>,
    turn: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    let split = |xs: Tensor| {
        let (b, t, width) = xs.dims3()?;
        xs.reshape((b, t, width / SIZE, SIZE))?
            .transpose(1, 2)?
            .contiguous()
    };
    let shared = |xs: Tensor| {
        let (b, kv, t, size) = xs.dims4()?;
        let n = HEADS / kv;
        xs.unsqueeze(2)?
            .expand((b, kv, n, t, size))?
            .reshape((b, kv * n, t, size))
    };
    let query = turn(&split(q.forward(xs)?)?)?;
    let key = shared(turn(&split(k.forward(context)?)?)?)?;
    let value = shared(split(v.forward(context)?)?)?;
    let scores = (query.matmul(&key.t()?)? / (SIZE as f64).sqrt())?;
    let scores = match mask {
        Some(mask) => scores.broadcast_add(mask)?,
        None => scores,
    };
    let found = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&value)?;
    let (b, h, t, size) = found.dims4()?;
    let found = found
        .transpose(1, 2)?
        .contiguous()?
        .reshape((b, t, h * size))?;
    o.forward(&found)
}

#[test]
fn heads_masks_and_groups() -> Result<()> {
    for dtype in FLOATS {
        for kv_heads in [4, 2, 1] {
            let (attention, same) = layers(kv_heads, dtype)?;
            for (b, t) in [(1, 1), (1, 7), (3, 5)] {
                // scores of a few units: Candle rounds them to halves, and their functions grow
                let x = (random(&[b, t, HIDDEN], dtype) * 0.2).expect("a float");
                let masks = [
                    None,
                    Some(random(&[t, t], dtype)),
                    Some(random(&[b, 1, 1, t], dtype)),
                    Some(random(&[b, HEADS, t, t], dtype)),
                ];
                for mask in masks {
                    let expected = reference(&same, &x, &x, mask.as_ref(), |x| Ok(x.clone()));
                    let mask = mask.map(LazyTensor::from);
                    let y = attention.forward(&LazyTensor::from(&x), mask.as_ref())?;
                    close(&run(&y), &expected.expect("Candle takes it"));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn attention_to_another_sequence() -> Result<()> {
    let (attention, same) = layers(2, DType::F32)?;
    let (x, other) = (
        random(&[2, 3, HIDDEN], DType::F32),
        random(&[2, 8, HIDDEN], DType::F32),
    );
    let expected = reference(&same, &x, &other, None, |x| Ok(x.clone()));
    let y = attention.forward_cross(&LazyTensor::from(x), &LazyTensor::from(other), None)?;
    close(&run(&y), &expected.expect("Candle takes it"));
    Ok(())
}

/// Candle's tables, as its models make them.
fn tables(size: usize, positions: usize, dtype: DType) -> candle_core::Result<(Tensor, Tensor)> {
    let frequencies: Vec<f32> = (0..size)
        .step_by(2)
        .map(|i| 1f32 / 10_000f32.powf(i as f32 / size as f32))
        .collect();
    let frequencies = Tensor::new(frequencies, &CPU)?.reshape((1, size / 2))?;
    let positions = Tensor::arange(0u32, positions as u32, &CPU)?.to_dtype(DType::F32)?;
    let angles = positions.unsqueeze(1)?.matmul(&frequencies)?;
    Ok((
        angles.cos()?.to_dtype(dtype)?,
        angles.sin()?.to_dtype(dtype)?,
    ))
}

#[test]
fn rotary_positions() -> Result<()> {
    for dtype in FLOATS {
        let rotary = RotaryEmbedding::new(8, 32, 10_000.0, dtype, &CPU)?;
        let (cos, sin) = tables(8, 32, dtype).expect("floats");
        close(&run(rotary.cos()), &cos);
        close(&run(rotary.sin()), &sin);
        let x = random(&[2, 3, 5, 8], dtype);
        let lazy = LazyTensor::from(&x);
        for start in [0, 4, 27] {
            let part = |t: &Tensor| t.narrow(0, start, 5).expect("in range");
            let halves = candle_nn::rotary_emb::rope(&x, &part(&cos), &part(&sin));
            close(&run(&rotary.rotate(&lazy, start)?), &halves.expect("fits"));
            let positions: Vec<u32> = (start as u32..start as u32 + 5).collect();
            let positions = LazyTensor::new(&positions[..], &CPU)?;
            let pairs = rotary.clone().interleaved(true);
            let expected = candle_nn::rotary_emb::rope_i(&x, &part(&cos), &part(&sin));
            close(
                &run(&pairs.rotate_at(&lazy, &positions)?),
                &expected.expect("fits"),
            );
        }
        // each of a batch at a place of its own
        let positions = LazyTensor::new(&[[0u32, 1, 2, 3, 4], [9, 10, 11, 12, 13]], &CPU)?;
        let y = run(&rotary.rotate_at(&lazy, &positions)?);
        for (i, start) in [(0, 0), (1, 9)] {
            let one = rotary.rotate(&lazy.narrow(0, i, 1)?, start)?;
            close(&y.narrow(0, i, 1).expect("in range"), &run(&one));
        }
        assert!(rotary.rotate(&lazy, 28).is_err(), "behind the last");
    }
    Ok(())
}

#[test]
fn a_cache_continues_a_sequence() -> Result<()> {
    let (attention, same) = layers(2, DType::F32)?;
    let rotary = RotaryEmbedding::new(SIZE, 32, 10_000.0, DType::F32, &CPU)?;
    let attention = attention.with_rotary(rotary);
    let (cos, sin) = tables(SIZE, 32, DType::F32).expect("floats");
    let x = random(&[1, 9, HIDDEN], DType::F32);
    // the whole sequence at once, each place seeing what stands before it
    let mask = nn::causal_mask(9, 0, DType::F32, &CPU)?;
    let expected = reference(&same, &x, &x, Some(&run(&mask)), |x| {
        let t = x.dims4()?.2;
        candle_nn::rotary_emb::rope(x, &cos.narrow(0, 0, t)?, &sin.narrow(0, 0, t)?)
    })
    .expect("Candle takes it");
    let lazy = LazyTensor::from(&x);
    close(&run(&attention.forward(&lazy, Some(&mask))?), &expected);

    // the same in pieces of 4, 1, 1 and 3, each submitted with its cache
    let mut cache = KvCache::new(2);
    for (start, length) in [(0, 4), (4, 1), (5, 1), (6, 3)] {
        let piece = lazy.narrow(1, start, length)?;
        let mask = nn::causal_mask(length, start, DType::F32, &CPU)?;
        let y = attention.forward_cached(&piece, Some(&mask), &mut cache)?;
        let (k, v) = (cache.k().expect("filled"), cache.v().expect("filled"));
        let (y, k, _) = EXECUTOR.submit((&y, k, v))?.wait()?;
        assert_eq!(k.dims(), [1, 2, start + length, SIZE]);
        assert_eq!(cache.current_seq_len(), start + length);
        close(&y, &expected.narrow(1, start, length).expect("in range"));
    }

    // back to a place before, on a fork: the same continuation, and the other keeps its own
    let mut fork = cache.clone();
    fork.truncate(4)?;
    let again = attention.forward_cached(&lazy.narrow(1, 4, 1)?, None, &mut fork)?;
    close(&run(&again), &expected.narrow(1, 4, 1).expect("in range"));
    assert_eq!((fork.current_seq_len(), cache.current_seq_len()), (5, 9));
    assert!(fork.truncate(6).is_err());
    fork.reset();
    assert!(fork.k().is_none() && fork.current_seq_len() == 0);
    let (k, v) = (
        lazy.reshape((1, 1, 9, HIDDEN))?,
        lazy.reshape((1, 1, 3, 72))?,
    );
    assert!(
        fork.append(&k, &v).is_err() && fork.k().is_none(),
        "lengths differ"
    );
    Ok(())
}

#[test]
fn low_rank_updates() -> Result<()> {
    for dtype in FLOATS {
        let (ours, theirs) = weights(
            dtype,
            &[
                ("weight", &[7, 5]),
                ("bias", &[7]),
                ("up.lora_A.weight", &[2, 5]),
                ("up.lora_B.weight", &[7, 2]),
            ],
        );
        let layer = nn::linear(5, 7, ours.clone())?;
        let layer = nn::lora_linear(layer, (5, 7), 2, 3.0, ours.pp("up"))?;
        assert_eq!(layer.scale(), 1.5);
        let base = candle_nn::linear(5, 7, theirs.clone()).expect("exists");
        let a = theirs
            .pp("up")
            .get((2, 5), "lora_A.weight")
            .expect("exists");
        let b = theirs
            .pp("up")
            .get((7, 2), "lora_B.weight")
            .expect("exists");
        let same = |x: &Tensor| -> candle_core::Result<Tensor> {
            let update = x.broadcast_matmul(&a.t()?)?.broadcast_matmul(&b.t()?)?;
            base.forward(x)? + (update * 1.5)?
        };
        super::same(
            &layer,
            &candle_nn::func(same),
            dtype,
            &[&[1, 5], &[2, 3, 5]],
        );
        let row = LazyTensor::from(random(&[1, 5], dtype));
        let expected = run(&layer.forward(&row)?.squeeze(0)?);
        close(&run(&layer.forward(&row.squeeze(0)?)?), &expected);
        // updates of updates
        let (a, b) = (layer.a().clone(), layer.b().clone());
        let twice = LoraLinear::new(layer, a, b, -1.5);
        let plain = run(&twice.base().base().forward(&row)?);
        close(&run(&twice.forward(&row)?), &plain);
    }
    let (ours, _) = weights(DType::F32, &[("weight", &[7, 5])]);
    let base = nn::linear_no_bias(5, 7, ours.clone())?;
    assert!(
        nn::lora_linear(base, (5, 7), 0, 1.0, ours).is_err(),
        "no rank"
    );
    Ok(())
}

#[test]
fn what_attention_cannot_take_is_refused_at_the_call() -> Result<()> {
    let (attention, _) = layers(2, DType::F32)?;
    let x = |dims: &[usize]| LazyTensor::zeros(dims, DType::F32, &CPU);
    assert!(
        attention.forward(&x(&[2, HIDDEN])?, None).is_err(),
        "no batch"
    );
    assert!(
        attention.forward(&x(&[1, 0, HIDDEN])?, None).is_err(),
        "no place"
    );
    let mask = x(&[3, 4])?;
    assert!(
        attention
            .forward(&x(&[1, 4, HIDDEN])?, Some(&mask))
            .is_err()
    );
    let error = nn::split_heads(&x(&[1, 4, HIDDEN])?, 5).unwrap_err();
    assert_eq!(
        error.to_string(),
        "split_heads([1, 4, 24] f32): heads must be a divisor of the last dimension"
    );
    assert!(nn::causal_mask(usize::MAX, 1, DType::F32, &CPU).is_err());
    assert!(nn::causal_mask(1 << 31, 1 << 31, DType::F32, &CPU).is_err());
    Ok(())
}
