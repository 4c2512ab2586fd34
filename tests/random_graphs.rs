//! Random graphs against eager Candle: shared subgraphs, several outputs, submitted at once or in
//! parts, from one thread or several.
//!
//! Tolerance: none. Each step runs through the same Candle operation on the same data, so the
//! results agree bit for bit (NaNs included).

use candlewick::{D, DType, Device, Executor, LazyTensor, Tensor};
use proptest::prelude::*;

/// One node of a random graph: which operation, on which earlier nodes.
#[derive(Clone, Debug)]
struct Pick {
    op: u8,
    a: usize,
    b: usize,
    c: usize,
    number: f64,
}

fn pick() -> impl Strategy<Value = Pick> {
    (
        0u8..26,
        any::<usize>(),
        any::<usize>(),
        any::<usize>(),
        -2.0f64..2.0,
    )
        .prop_map(|(op, a, b, c, number)| Pick {
            op,
            a,
            b,
            c,
            number,
        })
}

type Pair = (LazyTensor, Tensor);
type Attempt = (candlewick::Result<LazyTensor>, candle_core::Result<Tensor>);

/// The same operation on both sides.
fn apply(pick: &Pick, nodes: &[Pair]) -> Attempt {
    let at = |i: usize| &nodes[i % nodes.len()];
    let (((x, tx), (y, ty)), (z, tz)) = ((at(pick.a), at(pick.b)), at(pick.c));
    let dim = pick.c % tx.rank().max(1);
    let n = pick.number;
    match pick.op {
        0 => (x.neg(), tx.neg()),
        1 => (x.exp(), tx.exp()),
        2 => (x.tanh(), tx.tanh()),
        3 => (x.gelu(), tx.gelu()),
        4 => (x.silu(), tx.silu()),
        5 => (x.abs(), tx.abs()),
        6 => (x.sqr(), tx.sqr()),
        7 => (x.relu(), tx.relu()),
        8 => (x.affine(n, 0.5), tx.affine(n, 0.5)),
        9 => (x.broadcast_add(y), tx.broadcast_add(ty)),
        10 => (x.broadcast_mul(y), tx.broadcast_mul(ty)),
        11 => (x.broadcast_sub(y), tx.broadcast_sub(ty)),
        12 => (x.broadcast_maximum(y), tx.broadcast_maximum(ty)),
        13 => (x.broadcast_matmul(y), tx.broadcast_matmul(ty)),
        14 => (x.t(), tx.t()),
        15 => (x.transpose(0, dim), tx.transpose(0, dim)),
        16 => (x.sum_keepdim(dim), tx.sum_keepdim(dim)),
        17 => (x.max_keepdim(dim), tx.max_keepdim(dim)),
        18 => (x.mean_keepdim(dim), tx.mean_keepdim(dim)),
        19 => (x.softmax(D::Minus1), candle_nn::ops::softmax(tx, D::Minus1)),
        20 => (x.flatten_all(), tx.flatten_all()),
        21 => (x.unsqueeze(dim), tx.unsqueeze(dim)),
        22 => (LazyTensor::cat(&[x, y], dim), Tensor::cat(&[tx, ty], dim)),
        23 => {
            let (start, len) = (pick.b % 2, 1);
            (x.narrow(dim, start, len), tx.narrow(dim, start, len))
        }
        24 => {
            let mask = (x.broadcast_gt(y), tx.broadcast_gt(ty));
            match mask {
                (Ok(m), Ok(tm)) => (m.where_cond(z, z), tm.where_cond(tz, tz)),
                (m, tm) => (m, tm),
            }
        }
        _ => {
            let cast = |d| (x.to_dtype(d), tx.to_dtype(d));
            match cast(DType::F64) {
                (Ok(l), Ok(t)) => (l.to_dtype(DType::F32), t.to_dtype(DType::F32)),
                both => both,
            }
        }
    }
}

/// Bits, so that NaN equals NaN.
fn bits(tensor: &Tensor) -> (Vec<usize>, Vec<u32>) {
    let data = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    (
        tensor.dims().to_vec(),
        data.into_iter().map(f32::to_bits).collect(),
    )
}

/// Grows a graph; both sides must accept and refuse the same.
fn grow(picks: &[Pick]) -> Vec<Pair> {
    let leaf = |dims: &[usize], seed: usize| {
        let count: usize = dims.iter().product();
        let data: Vec<f32> = (0..count)
            .map(|i| ((i * 37 + seed * 11) % 17) as f32 / 4.0 - 2.0)
            .collect();
        let tensor = Tensor::from_vec(data, dims, &Device::Cpu).unwrap();
        (LazyTensor::from(&tensor), tensor)
    };
    let mut nodes = vec![
        leaf(&[2, 3], 1),
        leaf(&[3, 2], 2),
        leaf(&[3], 3),
        leaf(&[1, 3], 4),
        leaf(&[2, 2, 3], 5),
    ];
    for pick in picks {
        match apply(pick, &nodes) {
            (Ok(lazy), Ok(tensor)) => {
                assert_eq!(lazy.dims(), tensor.dims(), "{pick:?}");
                assert_eq!(lazy.dtype(), tensor.dtype(), "{pick:?}");
                if tensor.dtype() == DType::F32 && tensor.elem_count() <= 4096 {
                    nodes.push((lazy, tensor));
                }
            }
            (Err(_), Err(_)) => {}
            (lazy, eager) => panic!("{pick:?}: lazy {lazy:?}, eager {eager:?}"),
        }
    }
    nodes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_submission_of_several_outputs(picks in prop::collection::vec(pick(), 1..60), outputs in prop::collection::vec(any::<usize>(), 1..5)) {
        let executor = Executor::new(&Device::Cpu).unwrap();
        let nodes = grow(&picks);
        let chosen: Vec<&Pair> = outputs.iter().map(|&i| &nodes[i % nodes.len()]).collect();
        let lazy: Vec<&LazyTensor> = chosen.iter().map(|pair| &pair.0).collect();
        let results = executor.submit(&lazy).unwrap().wait().unwrap();
        for (result, (_, eager)) in results.iter().zip(chosen) {
            prop_assert_eq!(bits(result), bits(eager));
        }
    }

    #[test]
    fn submitted_in_parts_from_two_threads(picks in prop::collection::vec(pick(), 1..60), cuts in prop::collection::vec(any::<usize>(), 0..8)) {
        let executor = Executor::new(&Device::Cpu).unwrap();
        let nodes = grow(&picks);
        let last = nodes.last().unwrap();
        std::thread::scope(|scope| {
            let parts: Vec<_> = [0, 1].into_iter().map(|thread| {
                let (executor, nodes, cuts) = (&executor, &nodes, &cuts);
                scope.spawn(move || {
                    for &cut in cuts.iter().skip(thread) {
                        let (lazy, eager) = &nodes[cut % nodes.len()];
                        let result = executor.submit(lazy).unwrap().wait().unwrap();
                        assert_eq!(bits(&result), bits(eager));
                    }
                })
            }).collect();
            parts.into_iter().for_each(|part| part.join().unwrap());
        });
        let result = executor.submit(&last.0).unwrap().wait().unwrap();
        prop_assert_eq!(bits(&result), bits(&last.1));
        drop(nodes);
        prop_assert_eq!(executor.stats().live_nodes, 0);
        prop_assert_eq!(executor.stats().live_bytes, 0);
    }
}
