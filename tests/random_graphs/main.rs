//! Random graphs against eager Candle: shared subgraphs, several outputs, submitted at once or in
//! parts, from one thread or several.
//!
//! Tolerances. With fusion off each step runs through the same Candle operation on the same data,
//! so the results agree bit for bit (NaNs included). With fusion on, so do graphs of operations
//! that round at most once per element, however they are fused, but for f16 and bf16: steps of
//! those round once, eager Candle after each operation. The others sum in another order and have
//! functions of their own: there the distance to the same graph in f64 may be so many times that
//! of eager Candle. A graph in f64 has eager Candle for its truth, and the error of the same graph
//! in f32 says how errors grow in it.

mod together;

use candlewick::{D, DType, Device, Executor, LazyTensor, Passes, Tensor};
use proptest::prelude::*;

/// Merging and simplifying, without fusion.
const UNFUSED: Passes = Passes {
    fuse: false,
    ..Passes::ALL
};
/// Every choice of passes that must not change a bit.
const EXACT: [Passes; 4] = [
    Passes::NONE,
    UNFUSED,
    Passes {
        merge: true,
        ..Passes::NONE
    },
    Passes {
        simplify: true,
        ..Passes::NONE
    },
];
/// Every choice with fusion.
const FUSED: [Passes; 2] = [
    Passes::ALL,
    Passes {
        fuse: true,
        ..Passes::NONE
    },
];
/// Operations that sum, or whose function is not exact.
const INEXACT: [u8; 8] = [1, 2, 3, 4, 13, 16, 18, 19];
/// Those that turn a difference in the last place into a large one.
const JUMPS: [u8; 2] = [24, 26];
/// Those that integers do not have: in eager Candle they would panic.
const OF_FLOATS: [u8; 8] = [0, 1, 2, 3, 4, 6, 13, 19];

/// The halves come last.
const ALL: [DType; 9] = [
    DType::F32,
    DType::F64,
    DType::I64,
    DType::U32,
    DType::U8,
    DType::I32,
    DType::I16,
    DType::F16,
    DType::BF16,
];
/// Those whose steps round as eager Candle.
const PLAIN: &[DType] = ALL.split_at(7).0;
const FLOATS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];

fn executor(passes: Passes) -> Executor {
    let builder = Executor::builder(&Device::Cpu);
    builder.passes(passes).build().unwrap()
}

/// One node of a random graph: which operation, on which earlier nodes.
#[derive(Clone, Debug)]
struct Pick {
    op: u8,
    a: usize,
    b: usize,
    c: usize,
    number: f64,
}

fn pick(without: &'static [u8]) -> impl Strategy<Value = Pick> {
    let ops: Vec<u8> = (0..27).filter(|op| !without.contains(op)).collect();
    (
        prop::sample::select(ops),
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
    let op = match tx.dtype().is_int() && OF_FLOATS.contains(&pick.op) {
        true => 5,
        false => pick.op,
    };
    let cast = |to: DType| match (x.to_dtype(to), tx.to_dtype(to)) {
        (Ok(l), Ok(t)) => (l.to_dtype(x.dtype()), t.to_dtype(tx.dtype())),
        both => both,
    };
    match op {
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
        25 => cast(DType::F64),
        _ => cast(ALL[pick.b % ALL.len()]),
    }
}

/// The same graph in f64.
fn wide(picks: &[Pick]) -> Vec<Tensor> {
    let mut nodes: Vec<Pair> = grow(&[], DType::F32);
    for node in &mut nodes {
        node.1 = node.1.to_dtype(DType::F64).unwrap();
        node.0 = LazyTensor::from(&node.1);
    }
    for pick in picks {
        if let (Ok(lazy), Ok(tensor)) = apply(pick, &nodes) {
            let float = matches!(tensor.dtype(), DType::F32 | DType::F64);
            if float && tensor.elem_count() <= 4096 {
                let tensor = tensor.to_dtype(DType::F64).unwrap();
                let lazy = lazy.to_dtype(DType::F64).unwrap();
                nodes.push((lazy, tensor));
            }
        }
    }
    nodes.into_iter().map(|node| node.1).collect()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_dtype(DType::F64).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The same without the sign of zeros: of two zeros a maximum may be either.
fn bits_but_zeros(tensor: &Tensor) -> (Vec<usize>, Vec<u64>) {
    let (dims, mut bits) = bits(tensor);
    if !tensor.dtype().is_int() {
        let zeros = numbers(tensor).into_iter().map(|x| x == 0.0);
        let zeros = bits.iter_mut().zip(zeros).filter(|(_, zero)| *zero);
        zeros.for_each(|(bits, _)| *bits = 0);
    }
    (dims, bits)
}

/// Whether `got` is about as far from the truth as eager Candle is. Rounding errors grow on their
/// way through a graph, and by chance one element may have none: so the largest error of the
/// tensor counts, and some units in the last place of its largest element. Halves are rounded at
/// other places than by eager Candle, whose errors may cancel where one value is taken from
/// another that was rounded alike: there the largest element of the whole graph counts.
fn about_as_good(got: &Tensor, eager: &Tensor, graph: &[Tensor]) -> Result<(), TestCaseError> {
    let dtype = got.dtype();
    let (got, eager, truth) = (
        numbers(got),
        numbers(eager),
        numbers(&graph[graph.len() - 1]),
    );
    // on the edge of overflow one side may be infinite
    let largest = if dtype == DType::F16 { 1e4 } else { 1e18 };
    let tame = |values: &[f64]| values.iter().all(|x| x.abs() < largest);
    if !tame(&truth) || !tame(&eager) {
        return Ok(());
    }
    let distance = |a: &[f64]| {
        a.iter()
            .zip(&truth)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max)
    };
    // as many times eager Candle's error, which is that of f32 for f64; so many last places
    let (times, places, last) = match dtype {
        DType::F16 => (16.0, 8.0, 2f64.powi(-10)),
        DType::BF16 => (16.0, 8.0, 2f64.powi(-7)),
        DType::F64 => (64.0 * 2f64.powi(-29), 256.0, f64::EPSILON),
        _ => (64.0, 256.0, f64::from(f32::EPSILON)),
    };
    let most = |values: &[f64]| values.iter().fold(0f64, |most, x| most.max(x.abs()));
    // larger numbers may have cancelled on the way, in eager Candle exactly
    let sizes = graph.iter().map(|node| most(&numbers(node)));
    let on_the_way = sizes.filter(|size| size.is_finite()).fold(0.0, f64::max);
    let size = (8.0 * on_the_way).max(places * most(&truth));
    let allowed = times * distance(&eager) + last * size.max(1e-30);
    prop_assert!(
        got.iter().all(|x| x.is_finite()) && distance(&got) <= allowed,
        "{dtype:?}: {got:?} is not {truth:?}, off by {} where eager is by {}",
        distance(&got),
        distance(&eager)
    );
    Ok(())
}

/// Bits, so that NaN equals NaN.
fn bits(tensor: &Tensor) -> (Vec<usize>, Vec<u64>) {
    let flat = tensor.flatten_all().unwrap();
    macro_rules! bits {
        ($($dtype:ident $type:ty, $bits:expr;)*) => {
            match tensor.dtype() {
                $(DType::$dtype => {
                    flat.to_vec1::<$type>().unwrap().into_iter().map($bits).collect()
                })*
                other => panic!("no test makes {other:?}"),
            }
        };
    }
    let bits = bits! {
        F32 f32, |x| u64::from(x.to_bits());
        F64 f64, f64::to_bits;
        F16 half::f16, |x| u64::from(x.to_bits());
        BF16 half::bf16, |x| u64::from(x.to_bits());
        U8 u8, u64::from;
        U32 u32, u64::from;
        I16 i16, |x| x as u64;
        I32 i32, |x| x as u64;
        I64 i64, |x| x as u64;
    };
    (tensor.dims().to_vec(), bits)
}

/// Grows a graph; both sides must accept and refuse the same.
fn grow(picks: &[Pick], dtype: DType) -> Vec<Pair> {
    let leaf = |dims: &[usize], seed: usize| {
        let count: usize = dims.iter().product();
        let data: Vec<f32> = (0..count)
            .map(|i| ((i * 37 + seed * 11) % 17) as f32 / 4.0 - 2.0)
            .collect();
        let tensor = Tensor::from_vec(data, dims, &Device::Cpu).unwrap();
        let tensor = tensor.to_dtype(dtype).unwrap();
        (LazyTensor::from(&tensor), tensor)
    };
    let leaves = vec![
        leaf(&[2, 3], 1),
        leaf(&[3, 2], 2),
        leaf(&[3], 3),
        leaf(&[1, 3], 4),
        leaf(&[2, 2, 3], 5),
    ];
    grow_on(leaves, picks)
}

/// Grows it further.
fn grow_on(mut nodes: Vec<Pair>, picks: &[Pick]) -> Vec<Pair> {
    let dtype = nodes[0].1.dtype();
    for pick in picks {
        match apply(pick, &nodes) {
            (Ok(lazy), Ok(tensor)) => {
                assert_eq!(lazy.dims(), tensor.dims(), "{pick:?}");
                assert_eq!(lazy.dtype(), tensor.dtype(), "{pick:?}");
                if tensor.dtype() == dtype && tensor.elem_count() <= 4096 {
                    nodes.push((lazy, tensor));
                }
            }
            (Err(_), Err(_)) => {}
            // eager Candle refuses to multiply some views
            (Ok(_), Err(refused)) if refused.to_string().contains("non-contiguous") => {}
            (lazy, eager) => panic!("{pick:?}: lazy {lazy:?}, eager {eager:?}"),
        }
    }
    nodes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_submission_of_several_outputs(picks in prop::collection::vec(pick(&[]), 1..60), outputs in prop::collection::vec(any::<usize>(), 1..5), dtype in prop::sample::select(&ALL)) {
        let nodes = grow(&picks, dtype);
        let chosen: Vec<&Pair> = outputs.iter().map(|&i| &nodes[i % nodes.len()]).collect();
        let lazy: Vec<&LazyTensor> = chosen.iter().map(|pair| &pair.0).collect();
        // an executor of its own for each choice: a node belongs to the first that it is given to
        let passes = EXACT[picks.len() % EXACT.len()];
        let results = executor(passes).submit(&lazy).unwrap().wait().unwrap();
        for (result, (_, eager)) in results.iter().zip(chosen) {
            prop_assert_eq!(bits(result), bits(eager), "{:?}", passes);
        }
    }

    #[test]
    fn fusion_changes_no_bit_of_what_is_exact(picks in prop::collection::vec(pick(&INEXACT), 1..60), outputs in prop::collection::vec(any::<usize>(), 1..5), dtype in prop::sample::select(PLAIN)) {
        let nodes = grow(&picks, dtype);
        let chosen: Vec<&Pair> = outputs.iter().map(|&i| &nodes[i % nodes.len()]).collect();
        let lazy: Vec<&LazyTensor> = chosen.iter().map(|pair| &pair.0).collect();
        let passes = FUSED[picks.len() % FUSED.len()];
        let results = executor(passes).submit(&lazy).unwrap().wait().unwrap();
        for (result, (_, eager)) in results.iter().zip(chosen) {
            prop_assert_eq!(bits_but_zeros(result), bits_but_zeros(eager), "{:?}", passes);
        }
    }

    #[test]
    fn fusion_is_as_good_as_eager(picks in prop::collection::vec(pick(&JUMPS), 1..30), outputs in prop::collection::vec(any::<usize>(), 1..5), dtype in prop::sample::select(&FLOATS)) {
        let nodes = grow(&picks, dtype);
        let truth = wide(&picks);
        prop_assert_eq!(nodes.len(), truth.len());
        // eager Candle, or in its place what has larger errors than f64
        let eager = grow(&picks, if dtype == DType::F64 { DType::F32 } else { dtype });
        prop_assert_eq!(nodes.len(), eager.len());
        let chosen: Vec<usize> = outputs.iter().map(|&i| i % nodes.len()).collect();
        let lazy: Vec<&LazyTensor> = chosen.iter().map(|&i| &nodes[i].0).collect();
        let results = executor(Passes::ALL).submit(&lazy).unwrap().wait().unwrap();
        for (result, &i) in results.iter().zip(&chosen) {
            about_as_good(result, &eager[i].1, &truth[..=i])?;
        }
    }

    /// The plan of the first is used for the others, with other data and other numbers.
    #[test]
    fn one_plan_serves_many(picks in prop::collection::vec(pick(&INEXACT), 1..40), numbers in prop::collection::vec(-2.0f64..2.0, 1..4), dtype in prop::sample::select(PLAIN)) {
        let executor = executor(Passes::ALL);
        let first = grow(&picks, dtype);
        let outputs = |nodes: &[Pair]| -> Vec<LazyTensor> {
            nodes.iter().skip(5).map(|pair| pair.0.clone()).collect()
        };
        prop_assume!(first.len() > 5);
        drop(executor.submit(&outputs(&first)).unwrap().wait().unwrap());
        for (round, number) in numbers.iter().enumerate() {
            let picks: Vec<Pick> = picks.iter().map(|p| Pick { number: p.number * number, ..p.clone() }).collect();
            let nodes = grow(&picks, dtype);
            let results = executor.submit(&outputs(&nodes)).unwrap().wait().unwrap();
            for (result, (_, eager)) in results.iter().zip(&nodes[5..]) {
                prop_assert_eq!(bits_but_zeros(result), bits_but_zeros(eager), "round {}", round);
            }
        }
    }

    /// The first part of a graph makes the arguments, with other numbers in each call; the rest is
    /// a compiled function.
    #[test]
    fn a_part_that_is_compiled(picks in prop::collection::vec(pick(&INEXACT), 1..40), at in any::<usize>(), numbers in prop::collection::vec(-2.0f64..2.0, 1..4)) {
        let passes = [&EXACT[..], &FUSED[..]].concat()[picks.len() % 6];
        let executor = executor(passes);
        let (before, after) = picks.split_at(at % (picks.len() + 1));
        let eager: Vec<Tensor> = grow(before, DType::F32).into_iter().map(|pair| pair.1).collect();
        let function = executor.compile(|xs: &[LazyTensor]| {
            let nodes = xs.iter().cloned().zip(eager.clone()).collect();
            Ok(grow_on(nodes, after).into_iter().map(|pair| pair.0).collect::<Vec<_>>())
        });
        for number in numbers {
            let before: Vec<Pick> = before.iter().map(|p| Pick { number: p.number * number, ..p.clone() }).collect();
            let nodes = grow(&before, DType::F32);
            let all = grow_on(nodes.clone(), after);
            let arguments: Vec<LazyTensor> = nodes.into_iter().map(|pair| pair.0).collect();
            let results = function.submit(&arguments).unwrap().wait().unwrap();
            prop_assert_eq!(results.len(), all.len());
            for (result, (_, eager)) in results.iter().zip(&all) {
                prop_assert_eq!(bits_but_zeros(result), bits_but_zeros(eager), "{:?}", passes);
            }
        }
        if passes.fuse {
            prop_assert_eq!(function.traces(), 1);
        }
        prop_assert_eq!((executor.stats().live_nodes, executor.stats().live_bytes), (0, 0));
    }

    #[test]
    fn submitted_in_parts_from_two_threads(picks in prop::collection::vec(pick(&[]), 1..60), cuts in prop::collection::vec(any::<usize>(), 0..8)) {
        let executor = executor(UNFUSED);
        let nodes = grow(&picks, DType::F32);
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

/// A tensor without elements may begin beyond its memory.
#[test]
fn a_view_without_elements_may_begin_anywhere() {
    let tensor = Tensor::ones((3, 4), DType::F32, &Device::Cpu).unwrap();
    let empty = tensor.narrow(1, 4, 0).unwrap().narrow(0, 3, 0).unwrap();
    let y = LazyTensor::from(&empty).neg().unwrap();
    let y = executor(Passes::ALL).submit(&y).unwrap().wait().unwrap();
    assert_eq!(y.dims(), [0, 0]);
    // nor may what is repeated have elements
    let of = |dims: &[usize]| LazyTensor::ones(dims, DType::F32, &Device::Cpu).unwrap();
    for (x, y) in [
        (of(&[3, 0]), of(&[0])),
        (of(&[0, 3]), of(&[3])),
        (of(&[2, 0]), of(&[1])),
    ] {
        let z = x.broadcast_add(&y).unwrap().broadcast_mul(&y).unwrap();
        let z = executor(Passes::ALL).submit(&z).unwrap().wait().unwrap();
        assert_eq!(z.dims(), x.dims());
    }
}
