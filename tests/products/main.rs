//! Matrix products of the CPU engine, with what is done to their rows, against f64 and eager
//! Candle.
//!
//! Tolerances. A sum of `k` rounded products is off by at most `k` units in the last place of the
//! sum of their sizes. What follows a product is compared with the same operations of eager Candle
//! on inputs of size 1: each side is off by some units in the last place for each operation, and
//! by what the product was off.

mod pairs;
mod types;

use candlewick::{D, DType, Device, Executor, LazyTensor, Passes, Tensor};
use proptest::prelude::*;

fn executor() -> Executor {
    Executor::new(&Device::Cpu).unwrap()
}

/// Numbers from -1 to 1.
fn random(dims: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let count = dims.iter().product();
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let data: Vec<f32> = (0..count).map(next).collect();
    Tensor::from_vec(data, dims, &Device::Cpu).unwrap()
}

/// How a matrix lies.
#[derive(Clone, Copy, Debug)]
enum Lies {
    InOrder,
    Transposed,
    Narrowed,
    Sparse,
}

fn lies() -> impl Strategy<Value = Lies> {
    prop::sample::select(vec![
        Lies::InOrder,
        Lies::Transposed,
        Lies::Narrowed,
        Lies::Sparse,
    ])
}

/// Random matrices of these dimensions that lie so, for both sides.
fn operand(dims: &[usize], lies: Lies, seed: u64) -> (LazyTensor, Tensor) {
    let (r, c) = (dims.len() - 2, dims.len() - 1);
    let mut full = dims.to_vec();
    let view = |x: &Tensor| match lies {
        Lies::InOrder => x.clone(),
        Lies::Transposed => x.transpose(r, c).unwrap(),
        Lies::Narrowed => x.narrow(c, 1, dims[c]).unwrap(),
        Lies::Sparse => x.narrow(c + 1, 1, 1).unwrap().squeeze(c + 1).unwrap(),
    };
    match lies {
        Lies::InOrder => {}
        Lies::Transposed => full.swap(r, c),
        Lies::Narrowed => full[c] += 2,
        Lies::Sparse => full.push(2),
    }
    let tensor = random(&full, seed);
    let lazy = LazyTensor::from(&tensor);
    // the same view of a lazy tensor, for the planner to look through
    let lazy = match lies {
        Lies::InOrder => lazy,
        Lies::Transposed => lazy.transpose(r, c).unwrap(),
        Lies::Narrowed => lazy.narrow(c, 1, dims[c]).unwrap(),
        Lies::Sparse => lazy.narrow(c + 1, 1, 1).unwrap().squeeze(c + 1).unwrap(),
    };
    (lazy, view(&tensor).contiguous().unwrap())
}

fn run(executor: &Executor, y: &LazyTensor) -> Tensor {
    executor.submit(y).unwrap().wait().unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    let x = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    x.to_vec1().unwrap()
}

fn bits(x: &Tensor) -> Vec<u32> {
    let x = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    x.into_iter().map(f32::to_bits).collect()
}

fn assert_close(got: &Tensor, eager: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), eager.dims());
    for (i, (got, eager)) in numbers(got).into_iter().zip(numbers(eager)).enumerate() {
        let off = (got - eager).abs();
        assert!(
            off <= tolerance * eager.abs().max(1.0),
            "at {i}: {got} is not {eager}"
        );
    }
}

/// What may follow a product of `n` columns.
fn follow(
    ops: &[u8],
    x: LazyTensor,
    t: Tensor,
    bias: &Tensor,
    like: &Tensor,
) -> (LazyTensor, Tensor) {
    let (lazy_bias, lazy_like) = (LazyTensor::from(bias), LazyTensor::from(like));
    let norm = |t: &Tensor| candle_nn::ops::rms_norm(&t.contiguous()?, bias, 1e-3);
    ops.iter().fold((x, t), |(x, t), op| {
        let (x, t) = match op {
            0 => (x.broadcast_add(&lazy_bias), t.broadcast_add(bias)),
            1 => (x.gelu(), t.gelu()),
            2 => (x.relu(), t.relu()),
            3 => (x.affine(0.5, 0.25), t.affine(0.5, 0.25)),
            4 => (x.add(&lazy_like), t.add(like)),
            5 => (x.softmax(D::Minus1), candle_nn::ops::softmax(&t, D::Minus1)),
            6 => (x.rms_norm(&lazy_bias, 1e-3), norm(&t)),
            _ => (x.mul(&x), t.mul(&t)),
        };
        (x.unwrap(), t.unwrap())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whole batches, shared and own right sides, and the same right side again and again, which is
    /// packed then.
    #[test]
    fn products_are_right_and_the_same_each_time(
        batch in prop::collection::vec(1usize..4, 0..3),
        shared in any::<bool>(),
        (m, k, n) in (1usize..40, 1usize..70, 1usize..70),
        (a, b) in (lies(), lies()),
        seed in any::<u64>(),
    ) {
        let of = |rows: usize, cols: usize| -> Vec<usize> {
            batch.iter().copied().chain([rows, cols]).collect()
        };
        let (x, tx) = operand(&of(m, k), a, seed);
        let right = if shared { vec![k, n] } else { of(k, n) };
        let (w, tw) = operand(&right, b, seed ^ 1);
        let executor = executor();
        let y = || run(&executor, &x.broadcast_matmul(&w).unwrap());
        let first = y();
        let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        let truth = wide(&tx).broadcast_matmul(&wide(&tw)).unwrap();
        let size = wide(&tx).abs().unwrap().broadcast_matmul(&wide(&tw).abs().unwrap()).unwrap();
        prop_assert_eq!(first.dims(), truth.dims());
        let terms = numbers(&truth).into_iter().zip(numbers(&size));
        for (got, (truth, size)) in numbers(&first).into_iter().zip(terms) {
            let bound = k as f64 * f64::from(f32::EPSILON) * size;
            prop_assert!((got - truth).abs() <= bound, "{} is not {}", got, truth);
        }
        for _ in 0..2 {
            prop_assert_eq!(bits(&y()), bits(&first));
        }
    }

    #[test]
    fn what_follows_a_product_agrees_with_eager(
        batch in 1usize..4,
        (m, k, n) in (1usize..40, 1usize..40, 1usize..90),
        ops in prop::collection::vec(0u8..8, 1..6),
        own in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let (x, tx) = operand(&[batch, m, k], Lies::InOrder, seed);
        let right = if own { vec![batch, k, n] } else { vec![k, n] };
        let (w, tw) = operand(&right, Lies::Transposed, seed ^ 1);
        let (bias, like) = (random(&[n], seed ^ 2), random(&[batch, m, n], seed ^ 3));
        let executor = executor();
        for _ in 0..2 {
            let product = ((x.broadcast_matmul(&w).unwrap() * 0.1).unwrap(), (tx.broadcast_matmul(&tw).unwrap() * 0.1).unwrap());
            let (y, eager) = follow(&ops, product.0, product.1, &bias, &like);
            assert_close(&run(&executor, &y), &eager, 1e-4);
        }
    }

    #[test]
    fn attention_agrees_with_eager(
        (batch, heads) in (1usize..4, 1usize..4),
        (t, s, d, e) in (1usize..50, 1usize..70, 1usize..40, 1usize..40),
        masked in any::<bool>(),
        scale_first in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let dims = |rows: usize, cols: usize| [batch, heads, rows, cols];
        let (q, tq) = operand(&dims(t, d), Lies::InOrder, seed);
        let (k, tk) = operand(&dims(d, s), Lies::Transposed, seed ^ 1);
        let (v, tv) = operand(&dims(s, e), Lies::Narrowed, seed ^ 2);
        // every row keeps its first place
        let hidden = |i: usize| masked && !i.is_multiple_of(s) && (i * 7 + seed as usize % 5).is_multiple_of(3);
        let mask: Vec<f32> = (0..t * s).map(|i| if hidden(i) { f32::NEG_INFINITY } else { 0.0 }).collect();
        let mask = Tensor::from_vec(mask, (1, 1, t, s), &Device::Cpu).unwrap();
        let scores = match scale_first {
            true => (q.clone() * 0.3).unwrap().matmul(&k).unwrap(),
            false => (q.matmul(&k).unwrap() * 0.3).unwrap(),
        };
        let y = scores.broadcast_add(&LazyTensor::from(&mask)).unwrap().softmax(D::Minus1).unwrap().matmul(&v).unwrap();
        let scores = (tq.matmul(&tk).unwrap() * 0.3).unwrap().broadcast_add(&mask).unwrap();
        let eager = candle_nn::ops::softmax(&scores, D::Minus1).unwrap().matmul(&tv).unwrap();
        assert_close(&run(&executor(), &y), &eager, 1e-5);
    }
}

/// Also across what threads share, and with a right side that is packed and one that is not.
#[test]
#[cfg_attr(
    any(feature = "mkl", feature = "accelerate"),
    ignore = "a library has products of many rows"
)]
fn a_row_depends_neither_on_the_others_nor_on_how_often_it_was_computed() {
    let executor = executor();
    for (k, n) in [(5, 3), (300, 47), (1100, 300)] {
        let x = random(&[200, k], 1);
        for w in [random(&[k, n], 2), random(&[n, k], 2).t().unwrap()] {
            let lazy = LazyTensor::from(&w);
            let rows = |start: usize, len: usize| {
                let x = LazyTensor::from(x.narrow(0, start, len).unwrap());
                bits(&run(&executor, &x.matmul(&lazy).unwrap()))
            };
            let all = rows(0, 200);
            for (start, len) in [
                (0, 1),
                (3, 2),
                (10, 7),
                (20, 8),
                (30, 9),
                (0, 200),
                (100, 64),
            ] {
                let want = &all[start * n..(start + len) * n];
                assert_eq!(
                    rows(start, len),
                    want,
                    "{len} rows from {start} of {k} x {n}"
                );
            }
        }
    }
}

/// Whatever is divided among threads: products by rows and by columns, batches, attention,
/// perceptrons, elements, rows.
#[test]
fn no_bit_depends_on_the_number_of_threads() {
    let of = |dims: &[usize]| LazyTensor::from(random(dims, dims.len() as u64 + dims[0] as u64));
    let attention = |q: &LazyTensor, k: &LazyTensor| {
        let scores = q.matmul(&k.t().unwrap()).unwrap();
        scores.softmax(D::Minus1).unwrap().matmul(k).unwrap()
    };
    let gated = |x: &LazyTensor, w: &LazyTensor| {
        let gate = x.matmul(w).unwrap().silu().unwrap();
        (gate * x.lora(w, &w.t().unwrap().matmul(w).unwrap(), 0.01).unwrap()).unwrap()
    };
    let (wide, tall) = (of(&[3, 2000]), of(&[2000, 700]));
    let (rows, weight) = (of(&[512, 300]), of(&[300, 80]));
    let deep = rows.matmul(&weight).unwrap().gelu().unwrap();
    let elements = of(&[1600, 1100]);
    let results = |threads: usize| -> Vec<Vec<u32>> {
        let builder = Executor::builder(&Device::Cpu).threads(threads);
        let executor = builder.build().unwrap();
        // new nodes for each executor, over the same tensors
        let graphs = [
            wide.matmul(&tall).unwrap(),
            rows.matmul(&weight).unwrap().sqr().unwrap(),
            deep.matmul(&weight.t().unwrap()).unwrap(),
            attention(&of(&[7, 90, 64]), &of(&[7, 130, 64])),
            attention(&of(&[1, 400, 64]), &of(&[1, 300, 64])),
            attention(&of(&[1, 2, 4096]), &of(&[1, 900, 4096])),
            gated(&of(&[1, 600]), &of(&[600, 900])),
            gated(&of(&[300, 200]), &of(&[200, 180])),
            gated(&of(&[9, 512]), &of(&[512, 900]))
                .softmax(D::Minus1)
                .unwrap(),
            elements.tanh().unwrap().exp().unwrap().gelu_erf().unwrap(),
            elements.softmax(D::Minus1).unwrap().sum_keepdim(1).unwrap(),
        ];
        graphs
            .iter()
            .map(|y| bits(&run(&executor, &(y + 0.0).unwrap())))
            .collect()
    };
    let one = results(1);
    for threads in [2, 3, 8] {
        for (graph, (got, one)) in results(threads).iter().zip(&one).enumerate() {
            assert!(got == one, "graph {graph} with {threads} threads");
        }
    }
}

/// Attention over heads, and one long head whose rows threads share.
#[test]
#[cfg_attr(
    any(feature = "mkl", feature = "accelerate"),
    ignore = "a library has products of many rows"
)]
fn large_attention_agrees_with_eager() {
    for (heads, t, s, d) in [(12, 128, 128, 32), (1, 700, 1500, 64), (3, 1, 900, 64)] {
        let dims = |rows: usize| [heads, rows, d];
        let (q, k, v) = (
            random(&dims(t), 1),
            random(&dims(s), 2),
            random(&dims(s), 3),
        );
        let [lq, lk, lv] = [&q, &k, &v].map(LazyTensor::from);
        let scores = (lq.matmul(&lk.t().unwrap()).unwrap() * 0.125).unwrap();
        let y = scores.softmax(D::Minus1).unwrap().matmul(&lv).unwrap();
        let scores = (q.matmul(&k.t().unwrap()).unwrap() * 0.125).unwrap();
        let scores = candle_nn::ops::softmax(&scores, D::Minus1).unwrap();
        let executor = executor();
        assert!(
            executor
                .explain(&y)
                .unwrap()
                .to_string()
                .contains(", times ")
        );
        assert_close(&run(&executor, &y), &scores.matmul(&v).unwrap(), 1e-5);
    }
}

/// Keys that are parameters are not packed for few queries: that would sum in another order.
#[test]
fn attention_to_the_same_keys_is_the_same_each_time() {
    let executor = executor();
    let (k, v) = (random(&[90, 70], 2), random(&[90, 40], 3));
    let [k, v] = [&k, &v].map(LazyTensor::from);
    for queries in [1, 4, 5, 80] {
        let q = LazyTensor::from(random(&[queries, 70], 1));
        let attend = || {
            let weights = q
                .matmul(&k.t().unwrap())
                .unwrap()
                .softmax(D::Minus1)
                .unwrap();
            bits(&run(&executor, &weights.matmul(&v).unwrap()))
        };
        let first = attend();
        for _ in 0..3 {
            assert!(attend() == first, "{queries} queries");
        }
    }
}

/// Heads that share keys, with every kind of mask, against the same with repeated keys.
#[test]
fn sdpa_agrees_with_eager() {
    let executor = executor();
    let (b, t, s, d, e) = (2, 5, 9, 16, 12);
    for (h, g) in [(4, 4), (6, 2), (3, 1)] {
        let (q, k) = (random(&[b, h, t, d], 1), random(&[b, g, s, d], 2));
        let v = random(&[b, g, s, e], 3);
        let repeat = |x: &Tensor| {
            let x = x.unsqueeze(2).unwrap();
            let dims = [b, g, h / g, s, x.dims()[4]];
            let x = x.broadcast_as(&dims).unwrap().contiguous().unwrap();
            x.reshape((b, h, s, dims[4])).unwrap()
        };
        let (rk, rv) = (repeat(&k), repeat(&v));
        let masks = [
            vec![b, h, t, s],
            vec![b, 1, 1, s],
            vec![1, h, t, 1],
            vec![t, s],
            vec![s],
        ];
        let masks = masks.iter().map(|dims| Some(random(dims, 4))).chain([None]);
        for mask in masks {
            let lazy = mask.as_ref().map(LazyTensor::from);
            let [lq, lk, lv] = [&q, &k, &v].map(LazyTensor::from);
            let y = lq.sdpa(&lk, &lv, lazy.as_ref(), 0.25).unwrap();
            let plan = executor.explain(&y).unwrap();
            assert_eq!(plan.engine_steps(), 1, "{plan}");
            let scores = (q.matmul(&rk.t().unwrap()).unwrap() * 0.25).unwrap();
            let scores = match &mask {
                Some(mask) => scores.broadcast_add(mask).unwrap(),
                None => scores,
            };
            let weights = candle_nn::ops::softmax(&scores, D::Minus1).unwrap();
            assert_close(&run(&executor, &y), &weights.matmul(&rv).unwrap(), 1e-5);
        }
    }
}

#[test]
fn sdpa_refuses_what_does_not_agree() {
    let of = |dims: &[usize]| LazyTensor::from(random(dims, 1));
    let (q, k) = (of(&[1, 4, 3, 8]), of(&[1, 2, 5, 8]));
    let fails = |k: &LazyTensor, v: &LazyTensor, mask: Option<&LazyTensor>| {
        q.sdpa(k, v, mask, 1.0).unwrap_err().to_string()
    };
    assert!(fails(&of(&[1, 3, 5, 8]), &of(&[1, 3, 5, 8]), None).contains("shapes"));
    assert!(fails(&k, &of(&[1, 2, 6, 8]), None).contains("shapes"));
    assert!(fails(&of(&[2, 5, 8]), &k, None).contains("shapes"));
    assert!(fails(&k, &k, Some(&of(&[2, 5]))).contains("sdpa"));
    let bytes = k.to_dtype(DType::U8).unwrap();
    assert!(fails(&bytes, &bytes, None).contains("u8"));
    let none = of(&[1, 2, 0, 8]);
    assert!(fails(&none, &none, None).starts_with("sdpa("));
    let error = of(&[1, 2, 0, 8]).sdpa(&k, &k, None, 1.0).unwrap_err();
    assert!(error.to_string().starts_with("sdpa("), "{error}");
    // keys without elements score alike, values without elements make none
    let (q, k) = (of(&[1, 4, 3, 0]), of(&[1, 2, 5, 0]));
    let ones = LazyTensor::from(Tensor::ones((1, 2, 5, 6), DType::F32, &Device::Cpu).unwrap());
    let y = run(&executor(), &q.sdpa(&k, &ones, None, 1.0).unwrap());
    assert!(numbers(&y).iter().all(|y| (y - 1.0).abs() < 1e-6), "{y}");
    let y = run(&executor(), &q.sdpa(&k, &k, None, 1.0).unwrap());
    assert_eq!(y.dims(), [1, 4, 3, 0]);
}

/// A perceptron with many rows is one step, whose inner rows are never stored.
#[test]
#[cfg_attr(
    any(feature = "mkl", feature = "accelerate"),
    ignore = "a library has products of many rows"
)]
fn a_perceptron_of_many_rows_agrees_with_eager() {
    let executor = executor();
    for (rows, inner) in [(256, 40), (300, 1100)] {
        let x = random(&[2, rows / 2, 24], 1);
        let (up, down) = (random(&[inner, 24], 2), random(&[24, inner], 3));
        let (bias, last) = (random(&[inner], 4), random(&[24], 5));
        let [lx, lup, ldown, lbias, llast] = [&x, &up, &down, &bias, &last].map(LazyTensor::from);
        let hidden = lx.broadcast_matmul(&lup.t().unwrap()).unwrap();
        let hidden = hidden.broadcast_add(&lbias).unwrap().gelu().unwrap();
        let y = hidden.broadcast_matmul(&ldown.t().unwrap()).unwrap();
        let y = (y.broadcast_add(&llast).unwrap() + &lx).unwrap();
        let y = || y.layer_norm(&llast, &llast, 1e-3).unwrap();
        let plan = executor.explain(y()).unwrap();
        assert_eq!((plan.steps(), plan.engine_steps()), (1, 1), "{plan}");

        let hidden = x.broadcast_matmul(&up.t().unwrap()).unwrap();
        let hidden = hidden.broadcast_add(&bias).unwrap().gelu().unwrap();
        let eager = hidden.broadcast_matmul(&down.t().unwrap()).unwrap();
        let eager = (eager.broadcast_add(&last).unwrap() + &x).unwrap();
        let eager = candle_nn::ops::layer_norm(&eager, &last, &last, 1e-3).unwrap();
        // the third has both weights packed
        for _ in 0..3 {
            assert_close(&run(&executor, &y()), &eager, 1e-4);
        }
    }
}

#[test]
fn weights_need_not_be_packed() {
    let (x, w) = (random(&[5, 70], 1), random(&[90, 70], 2));
    let [x, w] = [&x, &w].map(LazyTensor::from);
    let y = || x.matmul(&w.t().unwrap()).unwrap();
    let packing = executor();
    let plain = Executor::builder(&Device::Cpu)
        .pack_weights(false)
        .build()
        .unwrap();
    let first = bits(&run(&plain, &y()));
    for executor in [&plain, &packing, &packing, &packing, &plain] {
        assert_eq!(bits(&run(executor, &y())), first);
    }
}

/// Without the engine the same graphs go through Candle, bit for bit.
#[test]
fn without_fusion_products_are_eager_candle() {
    let builder = Executor::builder(&Device::Cpu).passes(Passes::NONE);
    let executor = builder.build().unwrap();
    let (x, w) = (random(&[9, 33], 1), random(&[33, 17], 2));
    let y = LazyTensor::from(&x).matmul(&LazyTensor::from(&w)).unwrap();
    assert_eq!(bits(&run(&executor, &y)), bits(&x.matmul(&w).unwrap()));
}

/// Rotations round as Candle's do, so their bits are the same; with what stands around them.
#[test]
fn rope_is_part_of_a_fused_step_and_changes_no_bit() {
    let (b, t, h, d) = (2, 5, 3, 8);
    let x = random(&[b, t, h, d], 1);
    let executor = executor();
    for dims in [vec![7, d / 2], vec![5, d / 2], vec![b, 6, d / 2]] {
        let (cos, sin) = (random(&dims, 2), random(&dims, 3));
        // Candle steps through the batches of angles by the length of `x`
        let of = |angles: &Tensor| {
            angles
                .narrow(D::Minus2, 0, t)
                .unwrap()
                .contiguous()
                .unwrap()
        };
        let [lx, lcos, lsin] = [&x, &cos, &sin].map(LazyTensor::from);
        let turned = lx.transpose(1, 2).unwrap();
        let eager = x.transpose(1, 2).unwrap().contiguous().unwrap();
        let half = turned.rope(&lcos, &lsin).unwrap();
        let eager_half = candle_nn::rotary_emb::rope(&eager, &of(&cos), &of(&sin)).unwrap();
        let pairs = turned.rope_i(&lcos, &lsin).unwrap();
        let eager_pairs = candle_nn::rotary_emb::rope_i(&eager, &of(&cos), &of(&sin)).unwrap();
        for (lazy, eager) in [(half, eager_half), (pairs, eager_pairs)] {
            let y = (lazy * 0.5).unwrap();
            let plan = executor.explain(&y).unwrap();
            assert_eq!((plan.steps(), plan.engine_steps()), (1, 1), "{plan}");
            assert_eq!(
                bits(&run(&executor, &y)),
                bits(&(eager * 0.5).unwrap()),
                "{dims:?}"
            );
        }
    }
}

/// A value that two steps read ends with the second, whose result is written over it.
#[test]
fn a_result_may_be_written_over_its_last_operand() {
    for dims in [[300, 700], [3, 9]] {
        let x = random(&dims, 1);
        let e = LazyTensor::from(&x).exp().unwrap();
        let turned = e.t().unwrap().contiguous().unwrap().sum_keepdim(1).unwrap();
        let y = e
            .broadcast_mul(&turned.t().unwrap())
            .unwrap()
            .sqr()
            .unwrap();
        let executor = executor();
        let plan = executor.explain(&y).unwrap().to_string();
        assert!(plan.contains("written over %1"), "{plan}");
        let e = x.exp().unwrap();
        let sums = e.sum_keepdim(0).unwrap();
        let eager = e.broadcast_mul(&sums).unwrap().sqr().unwrap();
        for _ in 0..2 {
            let y = (&y + 0.0).unwrap();
            let first = run(&executor, &y);
            let largest = eager.max_all().unwrap().to_scalar::<f32>().unwrap();
            let scale = |t: &Tensor| (t / f64::from(largest)).unwrap();
            assert_close(&scale(&first), &scale(&eager), 1e-5);
        }
        // a part of it has not enough room
        let lazy = LazyTensor::from(&x).exp().unwrap();
        let turned = lazy.t().unwrap().contiguous().unwrap();
        let part = lazy.narrow(0, 0, 2).unwrap();
        let sums = turned.sum_keepdim(1).unwrap().t().unwrap();
        let y = part.broadcast_mul(&sums).unwrap();
        let expected = e.narrow(0, 0, 2).unwrap();
        let expected = expected.broadcast_mul(&e.sum_keepdim(0).unwrap()).unwrap();
        assert_close(&run(&executor, &y), &expected, 1e-4);
        // asked for as well, it must stay
        let lazy = LazyTensor::from(&x).exp().unwrap();
        let sums = lazy.sum_keepdim(0).unwrap();
        let y = lazy.broadcast_mul(&sums).unwrap().sqr().unwrap();
        let (kept, _) = executor.submit((&lazy, &y)).unwrap().wait().unwrap();
        assert_close(&kept, &e, 1e-5);
    }
}

/// Fewer rows than keep the threads busy: they share the columns, and what looks at whole rows
/// follows.
#[test]
fn few_rows_are_the_same_on_any_number_of_threads() {
    let w = LazyTensor::from(random(&[512, 1024], 1));
    let scale = LazyTensor::from(random(&[1024], 2));
    let with = |threads: usize, x: &Tensor| {
        let executor = Executor::builder(&Device::Cpu).threads(threads);
        let y = LazyTensor::from(x).matmul(&w).unwrap();
        let y = y.rms_norm(&scale, 1e-5).unwrap().softmax(D::Minus1);
        let y = executor.build().unwrap().submit(&y.unwrap()).unwrap();
        y.wait().unwrap().to_vec2::<f32>().unwrap()
    };
    for rows in [8, 9, 11, 15, 16, 31] {
        let x = random(&[rows, 512], rows as u64);
        let one = with(1, &x);
        for threads in [2, 3, 4] {
            assert_eq!(with(threads, &x), one, "{rows} rows, {threads} threads");
        }
        let sums = one.iter().map(|row| row.iter().sum::<f32>());
        assert!(sums.into_iter().all(|sum| (sum - 1.0).abs() < 1e-4));
    }
}
