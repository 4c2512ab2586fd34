//! What a lazy graph costs beside eager Candle, one thread: build, submit and result.
//!
//! `eager` is Candle with `RAYON_NUM_THREADS` set, its best case; `lazy_wait` waits as a thread
//! does, `lazy_await` on a current-thread tokio runtime.

use candlewick::{D, Device, Executor, LazyTensor, Tensor};
use criterion::{Criterion, criterion_group};
use std::hint::black_box;

type Eager<'a> = &'a dyn Fn() -> candle_core::Result<Tensor>;
type Lazy<'a> = &'a dyn Fn() -> candlewick::Result<LazyTensor>;

fn group(c: &mut Criterion, name: &str, eager: Eager<'_>, lazy: Lazy<'_>) {
    let executor = Executor::new(&Device::Cpu).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let numbers = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let result = executor.run(&lazy().unwrap()).unwrap();
    for (got, expected) in numbers(result).iter().zip(numbers(eager().unwrap())) {
        let close = (got - expected).abs() <= 1e-5 * expected.abs().max(1.0);
        assert!(close, "{name}: {got} is not {expected}");
    }
    let mut group = c.benchmark_group(name);
    group.bench_function("eager", |b| b.iter(|| black_box(eager().unwrap())));
    group.bench_function("lazy_wait", |b| {
        b.iter(|| black_box(executor.run(&lazy().unwrap()).unwrap()))
    });
    group.bench_function("lazy_await", |b| {
        b.iter(|| {
            let result =
                runtime.block_on(async { executor.submit_async(&lazy().unwrap()).await?.await });
            black_box(result.unwrap())
        })
    });
    group.finish();
}

fn random(dims: &[usize]) -> (Tensor, LazyTensor) {
    let tensor = Tensor::randn(0f32, 0.5, dims, &Device::Cpu).unwrap();
    let lazy = LazyTensor::from(&tensor);
    (tensor, lazy)
}

fn all(c: &mut Criterion) {
    let ((a, la), (b, lb)) = (random(&[1024]), random(&[1024]));
    group(c, "add_1024", &|| a.add(&b), &|| la.add(&lb));
    group(
        c,
        "chain10_1024",
        &|| (0..5).try_fold(a.clone(), |x, _| x.mul(&b)?.add(&b)),
        &|| (0..5).try_fold(la.clone(), |x, _| x.mul(&lb)?.add(&lb)),
    );
    for n in [64, 128, 256] {
        let ((a, la), (b, lb)) = (random(&[n, n]), random(&[n, n]));
        group(c, &format!("matmul_{n}"), &|| a.matmul(&b), &|| {
            la.matmul(&lb)
        });
    }
    let (((x, lx), (a, la)), (b, lb)) = ((random(&[4, 512]), random(&[512, 8])), random(&[8, 512]));
    group(
        c,
        "lora_4x512_r8",
        &|| x.matmul(&a)?.matmul(&b)?.affine(0.5, 0.0),
        &|| lx.lora(&la, &lb, 0.5),
    );
    let ((x, lx), (w, lw)) = (random(&[64, 512]), random(&[512]));
    group(
        c,
        "softmax_64x512",
        &|| candle_nn::ops::softmax(&x, D::Minus1),
        &|| lx.softmax(D::Minus1),
    );
    group(
        c,
        "rms_norm_64x512",
        &|| candle_nn::ops::rms_norm(&x, &w, 1e-5),
        &|| lx.rms_norm(&lw, 1e-5),
    );
    let (((a, la), (b, lb)), (d, ld)) = ((random(&[64, 64]), random(&[64, 64])), random(&[64, 64]));
    group(
        c,
        "complex_graph_64",
        &|| candle_nn::ops::softmax(&((a.matmul(&b)? + &d)? * 2.0)?, D::Minus1),
        &|| ((la.matmul(&lb)? + &ld)? * 2.0)?.softmax(D::Minus1),
    );
    let (((x, lx), (a, la)), (b, lb)) = (
        (random(&[1, 512]), random(&[512, 2048])),
        random(&[2048, 512]),
    );
    let (w, lw) = random(&[512]);
    group(
        c,
        "mlp_1x512",
        &|| {
            let x = x.matmul(&a)?.gelu()?.matmul(&b)?;
            candle_nn::ops::softmax_last_dim(&candle_nn::ops::rms_norm(&x, &w, 1e-5)?)
        },
        &|| {
            lx.matmul(&la)?
                .gelu()?
                .matmul(&lb)?
                .rms_norm(&lw, 1e-5)?
                .softmax_last_dim()
        },
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_millis(1200));
    targets = all
}

fn main() {
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        // SAFETY: no other thread has been started yet.
        unsafe { std::env::set_var("RAYON_NUM_THREADS", "2") };
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
