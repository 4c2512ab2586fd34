//! Close with work in the queue: `cargo run --example shutdown`

use candlewick::device::Script;
use candlewick::{Device, Error, Executor, Handle, Health, LazyTensor};
use std::time::Duration;

/// An executor whose device is held up, with one fragment under way and nine in the queue.
fn busy() -> Result<(Executor, Script, Vec<Handle>), Error> {
    let device = Script::new();
    let executor = Executor::builder(&Device::Cpu).simulated(&device).build()?;
    device.hold();
    let x = LazyTensor::new(3f32, &Device::Cpu)?;
    let first = executor.submit(&x.sqr()?)?;
    device.wait_until_held();
    let rest = (1..10).map(|_| executor.submit(&x.sqr()?));
    let handles = [Ok(first)]
        .into_iter()
        .chain(rest)
        .collect::<Result<_, _>>()?;
    Ok((executor, device, handles))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Shutdown finishes what is queued and refuses what is new.
    let (executor, device, handles) = busy()?;
    let limit = Duration::from_millis(20);
    let late = executor.shutdown_blocking(Some(limit));
    assert!(matches!(late, Err(Error::Timeout(_))), "{late:?}");
    assert!(matches!(executor.health(), Health::Closing));
    let refused = executor.submit(&LazyTensor::new(1f32, &Device::Cpu)?.exp()?);
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    device.resume();
    executor.shutdown_blocking(None)?;
    assert!(matches!(executor.health(), Health::Closed));
    for handle in &handles {
        assert_eq!(handle.wait()?.to_scalar::<f32>()?, 9.0);
    }
    println!("shutdown: {} of {} answered", handles.len(), handles.len());

    // Abort finishes what has begun; every other handle is told.
    let (executor, device, handles) = busy()?;
    let closed = executor.abort_blocking(Some(limit));
    assert!(
        matches!(closed, Err(Error::Timeout(_))),
        "one is under way: {closed:?}"
    );
    device.resume();
    executor.abort_blocking(None)?;
    assert_eq!(handles[0].wait()?.to_scalar::<f32>()?, 9.0);
    for handle in &handles[1..] {
        assert!(matches!(handle.wait(), Err(Error::Closed)));
    }
    println!("abort: 1 of {} answered, the others closed", handles.len());

    // Nothing is left once nobody refers to the results.
    drop(handles);
    assert_eq!(
        (executor.stats().live_nodes, executor.stats().live_bytes),
        (0, 0)
    );
    Ok(())
}
