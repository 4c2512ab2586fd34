//! Many producers, one device: requests per second and latency of the ways to share it.
//!
//! ```text
//! cargo bench --bench producers -- [--json] [--seconds 0.6] [--workload mlp] [--producers 8]
//! ```
//! Every producer has one request in flight (a closed loop). The contenders take turns, three
//! rounds each; the median round is reported. `p99` is of single requests: where a contender lets
//! the thread that holds the device go on for its whole time slice (a mutex), the cost of the
//! others' waiting shows only in the slowest requests. `actor_batched` is what one would write by hand
//! for throughput: an actor that joins what is queued, as many as its name says. `batch_aint_one64` is
//! the same with the crate of that name. `candlewick_apart` runs without batches.

#[path = "common/actor.rs"]
mod actor;
#[path = "producers/batch_aint_one.rs"]
mod batch_aint_one;
#[path = "common/closed_loop.rs"]
mod closed_loop;

use candlewick::{Batching, D, Device, Executor, LazyTensor, Tensor};
use closed_loop::{Contender, Options};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

const SIDE: usize = 512;
const HIDDEN: usize = 2048;

/// A network, eager and lazy: the same operations in the same order.
struct Network {
    name: &'static str,
    inputs: Vec<Tensor>,
    weights: Vec<Tensor>,
    lazy: Vec<LazyTensor>,
}

impl Network {
    fn new(name: &'static str, inputs: Vec<Tensor>, weights: Vec<Tensor>) -> Self {
        let lazy = weights.iter().map(LazyTensor::from).collect();
        Self {
            name,
            inputs,
            weights,
            lazy,
        }
    }

    /// `rms_norm(gelu(x @ a) @ b)`, softmax.
    fn mlp() -> candle_core::Result<Self> {
        let random = |shape: (usize, usize)| Tensor::randn(0f32, 0.05, shape, &Device::Cpu);
        let inputs = (0..64)
            .map(|_| random((1, SIDE)))
            .collect::<Result<_, _>>()?;
        let scale = Tensor::ones(SIDE, candlewick::DType::F32, &Device::Cpu)?;
        Ok(Self::new(
            "mlp",
            inputs,
            vec![random((SIDE, HIDDEN))?, random((HIDDEN, SIDE))?, scale],
        ))
    }

    /// A product with one large matrix, and no more.
    fn gemv() -> candle_core::Result<Self> {
        let random = |shape: (usize, usize)| Tensor::randn(0f32, 0.02, shape, &Device::Cpu);
        let inputs = (0..64)
            .map(|_| random((1, 4096)))
            .collect::<Result<_, _>>()?;
        Ok(Self::new("gemv", inputs, vec![random((4096, 4096))?]))
    }

    /// The network of `examples/digits`, on its images.
    fn digits() -> Result<Self, Box<dyn std::error::Error>> {
        let data = include_bytes!("../examples/digits/data/digits.safetensors");
        let images = candle_core::safetensors::load_buffer(data, &Device::Cpu)?;
        let images = images
            .get("images")
            .ok_or("no images")?
            .to_dtype(candlewick::DType::F32)?;
        let images = (images / 16.0)?;
        let data = include_bytes!("../examples/digits/data/weights.safetensors");
        let weights = candle_core::safetensors::load_buffer(data, &Device::Cpu)?;
        let mut names: Vec<&String> = weights.keys().collect();
        names.sort();
        let pick = |rank: usize| {
            names
                .iter()
                .map(|n| &weights[*n])
                .filter(move |w| w.rank() == rank)
        };
        let mut matrices: Vec<Tensor> = pick(2).cloned().collect();
        matrices.sort_by_key(|w| w.dims() != [64, 128] && w.dims() != [128, 64]);
        // as stored, or transposed: `x @ w`
        if matrices[0].dims() != [64, 128] {
            matrices = matrices
                .iter()
                .map(|w| w.t()?.contiguous())
                .collect::<Result<_, _>>()?;
        }
        let mut biases: Vec<Tensor> = pick(1).cloned().collect();
        biases.sort_by_key(|b| std::cmp::Reverse(b.elem_count()));
        let inputs = (0..16).map(|i| images.narrow(0, i, 1)?.contiguous());
        let inputs = inputs.collect::<candle_core::Result<_>>()?;
        Ok(Self::new("digits", inputs, [matrices, biases].concat()))
    }

    fn eager(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let w = &self.weights;
        if self.name == "gemv" {
            return x.matmul(&w[0]);
        }
        if self.name == "mlp" {
            let x = x.matmul(&w[0])?.gelu()?.matmul(&w[1])?;
            return candle_nn::ops::softmax_last_dim(&candle_nn::ops::rms_norm(&x, &w[2], 1e-5)?);
        }
        let x = x.matmul(&w[0])?.broadcast_add(&w[2])?.gelu()?;
        candle_nn::ops::log_softmax(&x.matmul(&w[1])?.broadcast_add(&w[3])?, D::Minus1)
    }

    fn lazy(&self, x: &Tensor) -> candlewick::Result<LazyTensor> {
        self.on(LazyTensor::from(x))
    }

    fn on(&self, x: LazyTensor) -> candlewick::Result<LazyTensor> {
        let w = &self.lazy;
        if self.name == "gemv" {
            return x.matmul(&w[0]);
        }
        if self.name == "mlp" {
            let x = x.matmul(&w[0])?.gelu()?.matmul(&w[1])?;
            return x.rms_norm(&w[2], 1e-5)?.softmax_last_dim();
        }
        let x = x.matmul(&w[0])?.broadcast_add(&w[2])?.gelu()?;
        x.matmul(&w[1])?
            .broadcast_add(&w[3])?
            .log_softmax(D::Minus1)
    }
}

/// A way to share the device: one request, from start to answer.
type Call = Arc<dyn Fn(&Tensor) -> Tensor + Send + Sync>;

/// What one would write by hand to answer several requests.
fn together(network: &Arc<Network>) -> impl Fn(&[Tensor]) -> Vec<Tensor> + Send + Sync + 'static {
    let network = network.clone();
    move |xs| {
        let all = network.eager(&Tensor::cat(xs, 0).unwrap()).unwrap();
        let row = |i| all.narrow(0, i, 1).unwrap();
        (0..xs.len()).map(row).collect()
    }
}

fn ways(network: &Arc<Network>) -> Vec<(&'static str, Call)> {
    let mut list: Vec<(&'static str, Call)> = Vec::new();
    let mut add = |name, call: Call| list.push((name, call));
    let n = network.clone();
    add("eager_threads", Arc::new(move |x| n.eager(x).unwrap()));
    let (n, lock) = (network.clone(), Mutex::new(()));
    add(
        "eager_mutex",
        Arc::new(move |x| {
            let _held = lock.lock().unwrap();
            n.eager(x).unwrap()
        }),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .build()
        .unwrap();
    let n = network.clone();
    add(
        "spawn_blocking",
        Arc::new(move |x| {
            let (n, x) = (n.clone(), x.clone());
            let task = runtime.spawn_blocking(move || n.eager(&x).unwrap());
            runtime.block_on(task).unwrap()
        }),
    );
    let n = network.clone();
    let one = actor::batched(1, move |xs: &[Tensor]| vec![n.eager(&xs[0]).unwrap()]);
    add("actor_oneshot", Arc::new(move |x| one(x.clone())));
    for (name, most) in [("actor_batched8", 8), ("actor_batched64", 64)] {
        let ask = actor::batched(most, together(network));
        add(name, Arc::new(move |x| ask(x.clone())));
    }
    let ask = batch_aint_one::ask(64, together(network));
    add("batch_aint_one64", Arc::new(move |x| ask(x.clone())));
    for (name, batching) in [
        ("candlewick_apart", Batching::OFF),
        ("candlewick", Batching::default()),
    ] {
        let executor = Executor::builder(&Device::Cpu).batching(batching);
        let (n, executor) = (network.clone(), executor.build().unwrap());
        let run = move |x: &Tensor| executor.run(&n.lazy(x)?);
        add(name, Arc::new(move |x| run(x).unwrap()));
    }
    let (n, executor) = (network.clone(), Executor::new(&Device::Cpu).unwrap());
    let compiled = executor.compile(move |x: &LazyTensor| n.on(x.clone()));
    add(
        "candlewick_compiled",
        Arc::new(move |x| compiled.run(std::slice::from_ref(x)).unwrap()),
    );
    list
}

fn main() {
    let options = Options::read(0.6);
    let networks = [
        Network::digits().expect("the data of the example"),
        Network::mlp().expect("a network"),
        Network::gemv().expect("a network"),
    ];
    for network in networks.map(Arc::new) {
        if !options.wants(network.name) {
            continue;
        }
        let ways = ways(&network);
        check(&network, &ways);
        let contenders = ways.into_iter().map(|(name, call)| {
            let network = network.clone();
            Contender::new(name, move |producer, _| {
                let x = &network.inputs[producer % network.inputs.len()];
                std::hint::black_box(call(x));
            })
        });
        let contenders: Vec<Contender> = contenders.collect();
        for producers in options.producers(&[1, 2, 4, 8, 16, 64, 256]) {
            closed_loop::run(&options, network.name, &contenders, producers);
        }
    }
    if options.wants("flood") {
        flood(&options);
    }
}

/// One producer has ten thousand requests queued all the time; another asks for one at a time, of
/// another kind, so that none of the others' batches takes it along.
fn flood(options: &Options) {
    let mlp = Arc::new(Network::mlp().expect("a network"));
    let digits = Arc::new(Network::digits().expect("the data of the example"));
    let builder = Executor::builder(&Device::Cpu).queue_capacity(16_384);
    let executor = builder.build().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (e, s) = (executor.clone(), stop.clone());
    let flooding = std::thread::spawn(move || {
        let (mut queued, mut next) = (VecDeque::new(), 0);
        while !s.load(Ordering::Relaxed) {
            while queued.len() < 10_000 {
                let x = &mlp.inputs[next % mlp.inputs.len()];
                next += 1;
                queued.push_back(e.submit(&mlp.lazy(x).unwrap()).unwrap());
            }
            queued.pop_front().map(|handle| handle.wait().unwrap());
        }
    });
    while executor.stats().queued < 9000 {
        std::thread::yield_now();
    }
    let before = executor.stats();
    let begin = std::time::Instant::now();
    let e = executor.clone();
    let single = Contender::new("candlewick", move |producer, _| {
        let x = &digits.inputs[producer % digits.inputs.len()];
        std::hint::black_box(e.run(&digits.lazy(x).unwrap()).unwrap());
    });
    closed_loop::run(options, "flood", &[single], 1);
    let elapsed = begin.elapsed().as_secs_f64() * 1e6;
    let after = executor.stats();
    let batches = (after.batches - before.batches) as f64;
    let fragments = (after.fragments_batched - before.fragments_batched) as f64;
    println!(
        "# flood: a batch of the others' takes {:.0} µs on average, with {:.1} fragments",
        elapsed / batches,
        fragments / batches,
    );
    stop.store(true, Ordering::Relaxed);
    flooding.join().unwrap();
}

/// All contenders give the same answer, but for rounding.
fn check(network: &Network, ways: &[(&'static str, Call)]) {
    let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let x = &network.inputs[0];
    let expected = numbers(&network.eager(x).unwrap());
    for (name, call) in ways {
        for (got, expected) in numbers(&call(x)).iter().zip(&expected) {
            let close = (got - expected).abs() <= 1e-5 * expected.abs().max(1.0);
            assert!(close, "{name}: {got} is not {expected}");
        }
    }
}
