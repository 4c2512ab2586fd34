//! Adapters of one base that come and go under load.

use candle_core::Tensor;
use candlewick::nn::{Linear, Module, VarBuilder, lora_linear};
use candlewick::{Adapters, Device, Executor, LazyTensor, Params};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

const SIDE: usize = 64;
const RANK: usize = 4;

/// The update of every output is `value` times the sum of the inputs.
fn adapter(value: f32) -> [(&'static str, Tensor); 2] {
    let full = |value: f32, dims: (usize, usize)| Tensor::full(value, dims, &Device::Cpu).unwrap();
    let each = 1.0 / RANK as f32;
    [
        ("lora_A.weight", full(each, (RANK, SIDE))),
        ("lora_B.weight", full(value, (SIDE, RANK))),
    ]
}

/// Requests choose an adapter each; meanwhile adapters are replaced, given other sets, added and
/// removed. Every answer is that of one version of the chosen adapter, and none fails.
#[test]
fn adapters_come_and_go_under_load() {
    let executor = Executor::new(&Device::Cpu).unwrap();
    let weight = Tensor::eye(SIDE, candle_core::DType::F32, &Device::Cpu).unwrap();
    let base = Linear::new(LazyTensor::from(weight), None);
    let adapters = Adapters::new();
    // adapter `i` has the values `100 i` to `100 i + 99`, a version each
    for i in 0..4 {
        let params = Params::from_map(adapter(100.0 * i as f32)).unwrap();
        assert!(adapters.insert(i.to_string(), params).is_none());
    }
    let (stop, requests, gone) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let request = |i: usize, seed: usize| -> candlewick::Result<()> {
        let Ok(params) = adapters.get(&i.to_string()) else {
            gone.fetch_add(1, SeqCst);
            return Ok(());
        };
        let layer = lora_linear(
            base.clone(),
            (SIDE, SIDE),
            RANK,
            RANK as f64,
            VarBuilder::from_params(&params),
        )?;
        // whole numbers, so that every sum is exact
        let x: Vec<f32> = (0..SIDE).map(|j| ((j * 7 + seed) % 5) as f32).collect();
        let sum: f32 = x.iter().sum();
        let y = layer.forward(&LazyTensor::from_slice(&x, (1, SIDE), &Device::Cpu)?)?;
        let y: Vec<f32> = executor
            .submit(&y)?
            .wait()?
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let value = (y[0] - x[0]) / sum;
        assert!(
            (100 * i..100 * i + 100).contains(&(value as usize)) && value.fract() == 0.0,
            "{i}: {value}"
        );
        for (y, x) in y.iter().zip(&x) {
            assert_eq!(*y, x + value * sum, "of one version, whole");
        }
        requests.fetch_add(1, SeqCst);
        Ok(())
    };
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (stop, request) = (&stop, &request);
            scope.spawn(move || {
                let mut seed = thread;
                while !stop.load(SeqCst) {
                    request(seed % 5, seed).unwrap();
                    seed += 3;
                }
            });
        }
        let end = Instant::now() + Duration::from_millis(1500);
        let mut version = 1;
        while Instant::now() < end {
            let value = |i: usize| 100.0 * i as f32 + (version % 100) as f32;
            adapters
                .get("0")
                .unwrap()
                .replace(adapter(value(0)))
                .unwrap();
            adapters
                .insert("1", Params::from_map(adapter(value(1))).unwrap())
                .unwrap();
            match version % 2 {
                0 => drop(adapters.insert("4", Params::from_map(adapter(value(4))).unwrap())),
                _ => drop(adapters.remove("4")),
            }
            version += 1;
            std::thread::sleep(Duration::from_micros(300));
        }
        stop.store(true, SeqCst);
        assert!(version > 50, "{version}");
    });
    assert!(requests.load(SeqCst) > 500 && gone.load(SeqCst) > 0);
    assert!(
        executor.stats().fragments_batched > 0,
        "{:?}",
        executor.stats()
    );
    assert_eq!(executor.stats().fragments_failed, 0);
    assert!(
        ["0", "1", "2", "3"]
            .iter()
            .all(|name| adapters.names().iter().any(|n| n == name))
    );
    assert!(
        adapters
            .get("nobody")
            .unwrap_err()
            .to_string()
            .contains("nobody")
    );
}
