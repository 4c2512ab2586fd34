//! Give up waiting, or withdraw the work: `cargo run --example cancel_and_timeout`

use candlewick::device::Script;
use candlewick::{Cancel, Device, Error, Executor, LazyTensor};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // a device that can be held up, so that something is under way when we want it to be
    let device = Script::new();
    let executor = Executor::builder(&Device::Cpu).simulated(&device).build()?;
    let x = LazyTensor::new(&[1f32, 2.0], &Device::Cpu)?;

    device.hold();
    let slow = executor.submit(&x.sqr()?)?;
    device.wait_until_held();
    let queued = executor.submit(&x.neg()?)?;

    // A timeout ends the wait, not the work.
    let late = slow.wait_timeout(Duration::from_millis(20));
    assert!(matches!(late, Err(Error::Timeout(_))), "{late:?}");
    println!("slow:   {}", late.unwrap_err());

    // Work that has not begun can be withdrawn; its waiters are told.
    assert_eq!(queued.cancel(), Cancel::Cancelled);
    let gone = queued.wait();
    assert!(matches!(gone, Err(Error::Cancelled)), "{gone:?}");
    println!("queued: {}", gone.unwrap_err());

    // Work that has begun goes on.
    assert_eq!(slow.clone().cancel(), Cancel::Running);
    device.resume();
    let done = slow.wait()?.to_vec1::<f32>()?;
    assert_eq!(done, [1.0, 4.0]);
    println!("slow:   {done:?}");

    executor.shutdown_blocking(None)?;
    let stats = executor.stats();
    assert_eq!((stats.fragments_run, stats.fragments_cancelled), (1, 1));
    Ok(())
}
