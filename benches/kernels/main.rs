//! What the CPU engine makes of single operations and chains, beside eager Candle and beside the
//! memory's limit: `cargo bench --bench kernels`, with `-- --json` for one line each.
//!
//! Medians of rounds that take turns, with `RAYON_NUM_THREADS` set, Candle's best case. Both
//! sides hand out their result, so both pay for its memory. `limit` is what bounds a row on this machine:
//! one read and one write of as many bytes, or the multiply-adds of a product, on all threads.

mod blocks;
mod limits;
mod memory;

use candlewick::{D, DType, Device, Executor, LazyTensor, Tensor};
use limits::Limit;
use std::hint::black_box;
use std::time::{Duration, Instant};

type Eager = Box<dyn Fn() -> candle_core::Result<Tensor>>;
type Lazy = Box<dyn Fn() -> candlewick::Result<LazyTensor>>;

struct Case {
    what: String,
    eager: Eager,
    lazy: Lazy,
    limit: Option<Limit>,
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Microseconds of one call, over enough calls to measure.
fn time(calls: u32, f: &dyn Fn()) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(|_| f());
    start.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
}

/// How many calls make up some milliseconds.
fn calls(f: &dyn Fn()) -> u32 {
    let (start, mut calls) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(20) {
        f();
        calls += 1;
    }
    calls
}

fn close(what: &str, got: &Tensor, expected: &Tensor) {
    let difference = (got - expected).unwrap().abs().unwrap();
    let scale = (expected.abs().unwrap() + 1.0).unwrap();
    let worst = (difference / scale).unwrap().max_all().unwrap();
    let worst: f32 = worst.to_dtype(DType::F32).unwrap().to_scalar().unwrap();
    // eager Candle rounds halves after each operation
    let allowed = match got.dtype() {
        DType::BF16 => 6e-2,
        DType::F16 => 1e-2,
        _ => 1e-3,
    };
    assert!(worst <= allowed, "{what}: another answer, by {worst}");
}

fn random(dims: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap()
}

/// Ten operations, four of them functions.
macro_rules! mix {
    ($x:expr, $y:expr) => {{
        let x = ($x * 0.5)?.tanh()?;
        let x = (x + &$y)?.exp()?;
        let x = (x * 0.25)?.sigmoid()?;
        let x = ((x - &$y)? * &$y)?.relu()?;
        x + 1.0
    }};
}

trait Sigmoid: Sized {
    fn sigmoid(&self) -> candle_core::Result<Self>;
}

impl Sigmoid for Tensor {
    fn sigmoid(&self) -> candle_core::Result<Self> {
        candle_nn::ops::sigmoid(self)
    }
}

/// Rows, inner size, columns; with the weight as it is, and transposed.
const PRODUCTS: [(usize, usize, usize); 17] = [
    (1, 512, 512),
    (4, 512, 512),
    (8, 512, 512),
    (16, 512, 512),
    (32, 512, 512),
    (64, 512, 512),
    (1, 512, 2048),
    (1, 2048, 512),
    (32, 512, 2048),
    (1, 4096, 4096),
    (2, 4096, 4096),
    (4, 4096, 4096),
    (8, 4096, 4096),
    (32, 4096, 4096),
    (64, 64, 64),
    (256, 256, 256),
    (1024, 1024, 1024),
];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (size, dims) in [("medium", [64, 512]), ("large", [4096, 4096])] {
        let (x, y, row) = (random(&dims), random(&dims), random(&dims[1..]));
        let (lx, ly, lrow) = (
            LazyTensor::from(&x),
            LazyTensor::from(&y),
            LazyTensor::from(&row),
        );
        let limit = (size == "large").then_some(Limit::Stream(dims[0] * dims[1]));
        macro_rules! case {
            ($name:literal, |$x:ident, $y:ident, $row:ident| $eager:expr, $lazy:expr) => {{
                let eager = {
                    let ($x, $y, $row) = (x.clone(), y.clone(), row.clone());
                    Box::new(move || { let _ = (&$x, &$y, &$row); $eager })
                };
                let lazy = {
                    let ($x, $y, $row) = (lx.clone(), ly.clone(), lrow.clone());
                    Box::new(move || { let _ = (&$x, &$y, &$row); $lazy })
                };
                cases.push(Case { what: format!("{}_{size}", $name), eager, lazy, limit });
            }};
        }
        case!("add", |x, y, row| x.add(&y), x.add(&y));
        case!("mul", |x, y, row| x.mul(&y), x.mul(&y));
        case!(
            "broadcast_add",
            |x, y, row| x.broadcast_add(&row),
            x.broadcast_add(&row)
        );
        case!("exp", |x, y, row| x.exp(), x.exp());
        case!("tanh", |x, y, row| x.tanh(), x.tanh());
        case!("silu", |x, y, row| x.silu(), x.silu());
        case!("gelu", |x, y, row| x.gelu(), x.gelu());
        case!("gelu_erf", |x, y, row| x.gelu_erf(), x.gelu_erf());
        case!(
            "softmax",
            |x, y, row| candle_nn::ops::softmax_last_dim(&x),
            x.softmax(D::Minus1)
        );
        case!(
            "rms_norm",
            |x, y, row| candle_nn::ops::rms_norm(&x, &row, 1e-5),
            x.rms_norm(&row, 1e-5)
        );
        case!(
            "layer_norm",
            |x, y, row| candle_nn::ops::layer_norm(&x, &row, &row, 1e-5),
            x.layer_norm(&row, &row, 1e-5)
        );
        case!(
            "chain10",
            |x, y, row| (0..5).try_fold(x.clone(), |x, _| x.mul(&y)?.add(&y)),
            (0..5).try_fold(x.clone(), |x, _| x.mul(&y)?.add(&y))
        );
        case!("chain10_mix", |x, y, row| mix!(&x, y), mix!(&x, y));
        for dtype in [DType::F16, DType::BF16, DType::F64] {
            cases.extend(other_dtype(size, dtype, &x, &y));
        }
    }
    for (m, k, n) in PRODUCTS {
        let (x, w, t) = (
            random(&[m, k]),
            random(&[k, n]),
            random(&[n, k]).t().unwrap(),
        );
        for (name, w) in [("matmul", w), ("matmul_t", t)] {
            let (x, lazy) = (x.clone(), [&x, &w].map(LazyTensor::from));
            cases.push(Case {
                what: format!("{name}_{m}x{k}x{n}"),
                eager: Box::new(move || x.matmul(&w)),
                lazy: Box::new(move || lazy[0].matmul(&lazy[1])),
                limit: Limit::products(m, k * n),
            });
        }
    }
    for (dtype, m, k, n) in [
        (DType::BF16, 1, 4096, 4096),
        (DType::BF16, 32, 4096, 4096),
        (DType::F16, 1, 4096, 4096),
        (DType::F16, 32, 512, 512),
        (DType::F64, 64, 512, 512),
    ] {
        cases.push(typed_product(dtype, m, k, n));
    }
    cases.extend(blocks::cases());
    cases
}

/// A product of another dtype.
fn typed_product(dtype: DType, m: usize, k: usize, n: usize) -> Case {
    let of = |dims: &[usize]| random(dims).to_dtype(dtype).unwrap();
    // as large as the numbers that come in, so that halves' errors are
    let scale = 1.0 / (k as f64).sqrt();
    let (x, w) = (of(&[m, k]), (of(&[n, k]) * scale).unwrap().t().unwrap());
    let lazy = [&x, &w].map(LazyTensor::from);
    Case {
        what: format!("matmul_{}_{m}x{k}x{n}", dtype.as_str()),
        eager: Box::new(move || x.matmul(&w)),
        lazy: Box::new(move || lazy[0].matmul(&lazy[1])),
        limit: None,
    }
}

/// A chain and a softmax of another dtype.
fn other_dtype(size: &str, dtype: DType, x: &Tensor, y: &Tensor) -> [Case; 2] {
    let (x, y) = (x.to_dtype(dtype).unwrap(), y.to_dtype(dtype).unwrap());
    let (lx, ly) = (LazyTensor::from(&x), LazyTensor::from(&y));
    let (sx, slx) = (x.clone(), lx.clone());
    let name = dtype.as_str();
    [
        Case {
            what: format!("chain10_mix_{name}_{size}"),
            eager: Box::new(move || mix!(&x, y)),
            lazy: Box::new(move || mix!(&lx, ly)),
            limit: None,
        },
        Case {
            what: format!("softmax_{name}_{size}"),
            eager: Box::new(move || candle_nn::ops::softmax(&sx, D::Minus1)),
            lazy: Box::new(move || slx.softmax(D::Minus1)),
            limit: None,
        },
    ]
}

fn main() {
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let json = args.iter().any(|arg| arg == "--json");
    let only: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let executor = Executor::new(&Device::Cpu).unwrap();
    let print = |what: &str, contender: &str, us: f64| match json {
        true => println!(r#"{{"what":"{what}","contender":"{contender}","us":{us:.2}}}"#),
        false => println!("{what:24} {contender:12} {us:12.2} µs"),
    };
    for case in cases() {
        if !only.is_empty() && !only.iter().any(|part| case.what.contains(*part)) {
            continue;
        }
        let eager = || drop(black_box((case.eager)().unwrap()));
        let run = || executor.run(&(case.lazy)().unwrap()).unwrap();
        let lazy = || drop(black_box(run()));
        if case.what == "minilm_layer" {
            // a fresh executor: what it keeps for later counts too
            let (eager_peak, lazy_peak) = (memory::peak(&eager), memory::peak(&lazy));
            for (contender, bytes) in [("eager", eager_peak), ("candlewick", lazy_peak)] {
                let what = "minilm_layer_peak";
                match json {
                    true => {
                        println!(r#"{{"what":"{what}","contender":"{contender}","bytes":{bytes}}}"#)
                    }
                    false => println!("{what:24} {contender:12} {bytes:12} bytes"),
                }
            }
        }
        close(&case.what, &run(), &(case.eager)().unwrap());
        let (n, m) = (calls(&eager), calls(&lazy));
        let rounds = (0..9).map(|_| (time(n, &eager), time(m, &lazy)));
        let (eager, lazy): (Vec<f64>, Vec<f64>) = rounds.unzip();
        let (eager, lazy) = (median(eager), median(lazy));
        print(&case.what, "eager", eager);
        print(&case.what, "candlewick", lazy);
        if let Some(limit) = case.limit {
            print(&case.what, "limit", limit.measure(9));
        }
        if !json {
            println!("{:24} {:12} {:12.2} times as fast", "", "", eager / lazy);
        }
    }
}
