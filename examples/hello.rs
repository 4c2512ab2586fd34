//! Build a graph and run it: `cargo run --example hello`

use candlewick::{D, Device, Executor, LazyTensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let executor = Executor::new(&Device::Cpu)?;
    let weights = LazyTensor::new(&[[1f32, 0.0], [0.0, 2.0]], &Device::Cpu)?;
    let x = LazyTensor::new(&[[1f32, 2.0]], &Device::Cpu)?;

    let y = x.matmul(&weights)?.gelu()?.softmax(D::Minus1)?; // computes nothing yet
    let y = executor.run(&y)?;

    println!("{y}");
    let row = y.squeeze(0)?.to_vec1::<f32>()?;
    assert!((row[0] + row[1] - 1.0).abs() < 1e-6 && row[0] < row[1]);
    Ok(())
}
