//! Many producers, one device: requests per second and latency of the ways to share it.
//!
//! ```text
//! cargo bench --bench producers -- [--json] [--seconds 0.6] [--workload mlp] [--producers 8]
//! ```
//! Every producer has one request in flight (a closed loop). The contenders take turns, three
//! rounds each; the median round is reported. `p99` is of single requests: where a contender lets
//! the thread that holds the device go on for its whole time slice (a mutex), the cost of the
//! others' waiting shows only in the slowest requests.

use candlewick::{D, Device, Executor, LazyTensor, Tensor};
use hdrhistogram::Histogram;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SIDE: usize = 512;
const HIDDEN: usize = 2048;
const PRODUCERS: [usize; 6] = [1, 2, 4, 8, 16, 64];
const ROUNDS: usize = 3;

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
        let inputs = (0..16)
            .map(|_| random((1, SIDE)))
            .collect::<Result<_, _>>()?;
        let scale = Tensor::ones(SIDE, candlewick::DType::F32, &Device::Cpu)?;
        Ok(Self::new(
            "mlp",
            inputs,
            vec![random((SIDE, HIDDEN))?, random((HIDDEN, SIDE))?, scale],
        ))
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
        if self.name == "mlp" {
            let x = x.matmul(&w[0])?.gelu()?.matmul(&w[1])?;
            return candle_nn::ops::softmax_last_dim(&candle_nn::ops::rms_norm(&x, &w[2], 1e-5)?);
        }
        let x = x.matmul(&w[0])?.broadcast_add(&w[2])?.gelu()?;
        candle_nn::ops::log_softmax(&x.matmul(&w[1])?.broadcast_add(&w[3])?, D::Minus1)
    }

    fn lazy(&self, x: &Tensor) -> candlewick::Result<LazyTensor> {
        let (w, x) = (&self.lazy, LazyTensor::from(x));
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

/// A way to share the device. `call` is one request, from start to answer.
struct Contender {
    name: &'static str,
    call: Arc<dyn Fn(&Tensor) -> Tensor + Send + Sync>,
}

fn contenders(network: &Arc<Network>) -> Vec<Contender> {
    let mut list: Vec<Contender> = Vec::new();
    let mut add = |name, call: Arc<dyn Fn(&Tensor) -> Tensor + Send + Sync>| {
        list.push(Contender { name, call });
    };
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
    add("actor_oneshot", actor(network));
    let (n, executor) = (network.clone(), Executor::new(&Device::Cpu).unwrap());
    add(
        "candlewick",
        Arc::new(move |x| {
            executor
                .submit(&n.lazy(x).unwrap())
                .unwrap()
                .wait()
                .unwrap()
        }),
    );
    list
}

/// What one would write by hand: a thread, a bounded channel, a oneshot for each answer.
fn actor(network: &Arc<Network>) -> Arc<dyn Fn(&Tensor) -> Tensor + Send + Sync> {
    type Message = (Tensor, tokio::sync::oneshot::Sender<Tensor>);
    let (sender, receiver) = crossbeam_channel::bounded::<Message>(1024);
    let network = network.clone();
    std::thread::spawn(move || {
        for (x, answer) in receiver {
            let _ = answer.send(network.eager(&x).unwrap());
        }
    });
    Arc::new(move |x| {
        let (answer, answered) = tokio::sync::oneshot::channel();
        sender.send((x.clone(), answer)).unwrap();
        answered.blocking_recv().unwrap()
    })
}

struct Round {
    per_second: f64,
    p50: u64,
    p99: u64,
}

/// All producers, for `time`; latencies in nanoseconds.
fn round(contender: &Contender, network: &Network, producers: usize, time: Duration) -> Round {
    let start = Instant::now();
    let histograms: Vec<Histogram<u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|i| {
                scope.spawn(move || {
                    let x = &network.inputs[i % network.inputs.len()];
                    let mut histogram = Histogram::new(3).unwrap();
                    while start.elapsed() < time {
                        let begin = Instant::now();
                        std::hint::black_box((contender.call)(x));
                        histogram.record(begin.elapsed().as_nanos() as u64).unwrap();
                    }
                    histogram
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let elapsed = start.elapsed().as_secs_f64();
    let mut all: Histogram<u64> = Histogram::new(3).unwrap();
    histograms.iter().for_each(|h| all.add(h).unwrap());
    Round {
        per_second: all.len() as f64 / elapsed,
        p50: all.value_at_quantile(0.5),
        p99: all.value_at_quantile(0.99),
    }
}

struct Options {
    json: bool,
    seconds: f64,
    workload: Option<String>,
    producers: Option<usize>,
}

fn options() -> Options {
    let mut options = Options {
        json: false,
        seconds: 0.6,
        workload: None,
        producers: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--json" => options.json = true,
            "--seconds" => options.seconds = value().parse().expect("seconds"),
            "--workload" => options.workload = Some(value()),
            "--producers" => options.producers = Some(value().parse().expect("a number")),
            "--bench" => {} // cargo's own
            other => panic!("unknown option {other}"),
        }
    }
    options
}

fn main() {
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        // SAFETY: no other thread has been started yet.
        unsafe { std::env::set_var("RAYON_NUM_THREADS", "2") };
    }
    let options = options();
    let networks = [
        Network::digits().expect("the data of the example"),
        Network::mlp().expect("a network"),
    ];
    for network in networks.map(Arc::new) {
        if options.workload.as_ref().is_some_and(|w| w != network.name) {
            continue;
        }
        let contenders = contenders(&network);
        check(&network, &contenders);
        for producers in PRODUCERS
            .into_iter()
            .filter(|p| options.producers.is_none_or(|o| o == *p))
        {
            let mut rounds: Vec<Vec<Round>> = contenders.iter().map(|_| Vec::new()).collect();
            for _ in 0..ROUNDS {
                for (contender, rounds) in contenders.iter().zip(&mut rounds) {
                    let time = Duration::from_secs_f64(options.seconds);
                    rounds.push(round(contender, &network, producers, time));
                }
            }
            for (contender, mut rounds) in contenders.iter().zip(rounds) {
                rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
                report(
                    &options,
                    network.name,
                    contender.name,
                    producers,
                    &rounds[ROUNDS / 2],
                );
            }
        }
    }
}

/// All contenders give the same answer, but for rounding.
fn check(network: &Network, contenders: &[Contender]) {
    let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let x = &network.inputs[0];
    let expected = numbers(&network.eager(x).unwrap());
    for contender in contenders {
        for (got, expected) in numbers(&(contender.call)(x)).iter().zip(&expected) {
            let close = (got - expected).abs() <= 1e-5 * expected.abs().max(1.0);
            assert!(close, "{}: {got} is not {expected}", contender.name);
        }
    }
}

fn report(options: &Options, workload: &str, contender: &str, producers: usize, round: &Round) {
    let (p50, p99) = (round.p50 as f64 / 1e3, round.p99 as f64 / 1e3);
    if options.json {
        let line = serde_json::json!({
            "workload": workload, "contender": contender, "producers": producers,
            "per_second": round.per_second.round(), "p50_us": p50, "p99_us": p99,
        });
        println!("{line}");
    } else {
        println!(
            "{workload:7} {producers:>3} {contender:15} {:>9.0}/s  p50 {p50:>9.1} µs  p99 {p99:>10.1} µs",
            round.per_second
        );
    }
}
