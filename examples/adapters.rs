//! Several adapters of one base, replaced while requests run: `cargo run --release --example adapters`

use candlewick::nn::{Linear, Module, VarBuilder, lora_linear};
use candlewick::{Adapters, Device, Executor, LazyTensor, Params, Tensor};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

type Error = Box<dyn std::error::Error + Send + Sync>;

const SIDE: usize = 512;
const RANK: usize = 8;
const USERS: usize = 16;
const SWAPS: usize = 1000;

fn random(rows: usize, columns: usize) -> candle_core::Result<Tensor> {
    Tensor::randn(0f32, 0.05, (rows, columns), &Device::Cpu)
}

/// The two thin matrices of an update.
fn adapter() -> candle_core::Result<[(&'static str, Tensor); 2]> {
    Ok([
        ("lora_A.weight", random(RANK, SIDE)?),
        ("lora_B.weight", random(SIDE, RANK)?),
    ])
}

fn main() -> Result<(), Error> {
    let executor = Executor::new(&Device::Cpu)?;
    let base = Linear::new(LazyTensor::from(random(SIDE, SIDE)?), None);
    let adapters = Adapters::new();
    for name in ["formal", "casual", "brief", "verbose"] {
        adapters.insert(name, Params::from_map(adapter()?)?);
    }
    let names = adapters.names();
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));

    // Every request chooses an adapter, and has one version of it, whole.
    let serve = |user: usize| -> Result<(), Error> {
        // ORDERING: Relaxed; a request to end, and a count.
        while !stop.load(Ordering::Relaxed) {
            let chosen = adapters.get(&names[user % names.len()])?;
            let vb = VarBuilder::from_params(&chosen);
            let layer = lora_linear(base.clone(), (SIDE, SIDE), RANK, 16.0, vb)?;
            let y = layer.forward(&LazyTensor::from(random(1, SIDE)?))?;
            assert_eq!(executor.run(&y)?.dims(), [1, SIDE]);
            answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let (mut took, begin) = (Vec::new(), Instant::now());
    std::thread::scope(|scope| -> Result<(), Error> {
        let users: Vec<_> = (0..USERS)
            .map(|user| scope.spawn(move || serve(user)))
            .collect();
        for swap in 0..SWAPS {
            let new = adapter()?;
            let start = Instant::now();
            adapters.get(&names[swap % names.len()])?.replace(new)?;
            took.push(start.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        for user in users {
            user.join().map_err(|_| "an assertion failed")??;
        }
        Ok(())
    })?;
    took.sort();
    println!(
        "{SWAPS} swaps under load: median {:?}, slowest {:?}; {:.0} requests/s by {USERS} users, {} of {} in batches, none failed",
        took[SWAPS / 2],
        took[SWAPS - 1],
        answered.into_inner() as f64 / begin.elapsed().as_secs_f64(),
        executor.stats().fragments_batched,
        executor.stats().fragments_run,
    );
    assert_eq!(executor.stats().fragments_failed, 0);
    Ok(())
}
