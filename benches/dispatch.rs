//! What the machinery costs around a trivial operation, beside the floor: an empty job through a
//! bounded crossbeam channel, answered by a oneshot.
//!
//! A plain harness: medians of rounds that take turns, and allocations counted by the allocator.
//! `cargo bench --bench dispatch -- planning` measures what comes before anything runs, alone, with
//! `--json` as one line each.

#[path = "dispatch/planning.rs"]
mod planning;

use candlewick::{Device, Executor, LazyTensor};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Counts allocations.
struct Counting;
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: the system's allocator does the work; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller's promises are the system allocator's.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // ORDERING: Relaxed; a count.
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as for the caller.
        unsafe { System.alloc(layout) }
    }
    // SAFETY: the caller's promises are the system allocator's.
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as for the caller.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 7;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds a call, once.
fn time(calls: usize, mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(|_| f());
    start.elapsed().as_nanos() as f64 / calls as f64
}

fn allocations(calls: u64, mut f: impl FnMut()) -> f64 {
    let before = ALLOCATIONS.load(Relaxed);
    (0..calls).for_each(|_| f());
    (ALLOCATIONS.load(Relaxed) - before) as f64 / calls as f64
}

fn x() -> LazyTensor {
    LazyTensor::new(&[1f32; 8], &Device::Cpu).unwrap()
}

fn run(executor: &Executor, x: &LazyTensor) {
    let y = x.add(x).unwrap();
    std::hint::black_box(executor.run(&y).unwrap());
}

/// Ten operations, each on the result of the one before.
fn ten<T>(x: T, next: impl Fn(&T, usize) -> T) -> T {
    (0..10).fold(x, |y, i| next(&y, i))
}

fn submit_wait(executor: &Executor, x: &LazyTensor) {
    let y = x.add(x).unwrap();
    std::hint::black_box(executor.submit(&y).unwrap().wait().unwrap());
}

type Job = tokio::sync::oneshot::Sender<()>;

/// The floor: a thread that answers empty jobs.
fn floor() -> crossbeam_channel::Sender<Job> {
    let (sender, receiver) = crossbeam_channel::bounded::<Job>(1024);
    std::thread::spawn(move || {
        for job in receiver {
            let _ = job.send(());
        }
    });
    sender
}

/// `producers` threads with `flight` jobs each in flight; jobs per second.
fn rate(producers: usize, flight: usize, rounds: usize, batch: impl Fn(usize) + Sync) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..producers {
            scope.spawn(|| (0..rounds).for_each(|_| batch(flight)));
        }
    });
    (producers * flight * rounds) as f64 / start.elapsed().as_secs_f64()
}

/// Nanoseconds of a round trip by await, the median of many.
fn await_p50(runtime: &tokio::runtime::Runtime, calls: usize, f: impl AsyncFn()) -> f64 {
    let round_trips = runtime.block_on(async {
        let mut times = Vec::with_capacity(calls);
        for _ in 0..calls {
            let start = Instant::now();
            f().await;
            times.push(start.elapsed().as_nanos() as f64);
        }
        times
    });
    median(round_trips)
}

fn line(what: &str, value: f64, unit: &str, target: &str) {
    println!("{what:58} {value:>10.2} {unit:12} {target}");
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    planning::planning(has("--json"));
    if !has("planning") {
        machinery();
    }
}

fn machinery() {
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        // SAFETY: no other thread has been started yet.
        unsafe { std::env::set_var("RAYON_NUM_THREADS", "2") };
    }
    let lending = Executor::new(&Device::Cpu).unwrap();
    let plain = Executor::builder(&Device::Cpu)
        .lending(false)
        .build()
        .unwrap();
    let (x, jobs) = (x(), floor());
    let tensor = candlewick::Tensor::ones(8, candlewick::DType::F32, &Device::Cpu).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let wide = candlewick::Tensor::ones(1024, candlewick::DType::F32, &Device::Cpu).unwrap();
    let wide_x = LazyTensor::from(&wide);
    let mut r: [Vec<f64>; 15] = Default::default();
    for _ in 0..ROUNDS {
        r[0].push(time(100_000, || {
            std::hint::black_box(x.add(&x).unwrap());
        }));
        r[1].push(time(100_000, || {
            std::hint::black_box(tensor.add(&tensor).unwrap());
        }));
        r[2].push(time(50_000, || submit_wait(&lending, &x)));
        r[3].push(time(2_000, || submit_wait(&plain, &x)));
        r[4].push(time(2_000, || {
            let (answer, answered) = tokio::sync::oneshot::channel();
            jobs.send(answer).unwrap();
            answered.blocking_recv().unwrap();
        }));
        r[5].push(await_p50(&runtime, 2_000, async || {
            let y = x.add(&x).unwrap();
            lending.submit_async(&y).await.unwrap().await.unwrap();
        }));
        r[6].push(await_p50(&runtime, 2_000, async || {
            let (answer, answered) = tokio::sync::oneshot::channel();
            jobs.send(answer).unwrap();
            answered.await.unwrap();
        }));
        r[7].push(rate(8, 8, 1_000, |flight| {
            let handles: Vec<_> = (0..flight)
                .map(|_| lending.submit(&x.add(&x).unwrap()).unwrap())
                .collect();
            handles.iter().for_each(|h| {
                h.wait().unwrap();
            });
        }));
        r[8].push(rate(8, 8, 1_000, |flight| {
            let answers: Vec<_> = (0..flight)
                .map(|_| {
                    let (answer, answered) = tokio::sync::oneshot::channel();
                    jobs.send(answer).unwrap();
                    answered
                })
                .collect();
            answers.into_iter().for_each(|a| a.blocking_recv().unwrap());
        }));
        r[9].push(time(50_000, || run(&lending, &x)));
        r[10].push(time(50_000, || {
            std::hint::black_box(wide.add(&wide).unwrap());
        }));
        r[11].push(time(50_000, || run(&lending, &wide_x)));
        r[12].push(time(50_000, || {
            let y = lending.run_async(&wide_x.add(&wide_x).unwrap());
            std::hint::black_box(runtime.block_on(y).unwrap());
        }));
        r[13].push(time(10_000, || {
            let y = ten(wide.clone(), |y, i| match i % 2 {
                0 => (y * 1.01).unwrap(),
                _ => (y + 0.5).unwrap(),
            });
            std::hint::black_box(y);
        }));
        r[14].push(time(10_000, || {
            let y = ten(wide_x.clone(), |y, i| match i % 2 {
                0 => (y * 1.01).unwrap(),
                _ => (y + 0.5).unwrap(),
            });
            std::hint::black_box(lending.run(&y).unwrap());
        }));
    }
    let [
        node,
        eager,
        lent,
        switched,
        floor_wait,
        awaited,
        floor_await,
        flight,
        floor_flight,
        ran,
        eager_wide,
        ran_wide,
        ran_async,
        eager_ten,
        ran_ten,
    ] = r.map(median);
    line("build a node (add)", node, "ns", "target <= 150");
    line(
        "  allocations",
        allocations(10_000, || drop(x.add(&x).unwrap())),
        "",
        "target 1",
    );
    line("eager add of 8 elements", eager, "ns", "");
    line("build + run", ran, "ns", "target <= 2000");
    line(
        "  allocations",
        allocations(10_000, || run(&lending, &x)),
        "",
        "target <= 6 beyond Candle's",
    );
    line(
        "  of which Candle's, for the same operation",
        allocations(10_000, || drop(tensor.add(&tensor).unwrap())),
        "",
        "",
    );
    line("eager add of 1024 elements", eager_wide, "ns", "");
    line("build + run", ran_wide, "ns", "");
    line(
        "  beyond eager",
        ran_wide - eager_wide,
        "ns",
        "target <= 1000",
    );
    line("build + run_async, await", ran_async, "ns", "");
    line("  beyond run", ran_async - ran_wide, "ns", "target <= 1000");
    line(
        "eager, ten operations of 1024 elements",
        eager_ten,
        "ns",
        "",
    );
    line("build + run, the same", ran_ten, "ns", "");
    line("  ratio", ran_ten / eager_ten, "", "target <= 1");
    line("build + submit + wait, lending", lent, "ns", "");
    line("build + submit + wait, without lending", switched, "ns", "");
    line("floor: empty job, blocking", floor_wait, "ns", "");
    line("build + submit + await, p50", awaited, "ns", "");
    line("floor: empty job, await, p50", floor_await, "ns", "");
    line("  ratio", awaited / floor_await, "", "target <= 1.5");
    line("8 producers x 8 in flight", flight / 1e6, "M/s", "");
    line(
        "floor: 8 producers x 8 in flight",
        floor_flight / 1e6,
        "M/s",
        "",
    );
    line("  ratio", flight / floor_flight, "", "target >= 0.2");
}
