//! A hundred tokio tasks share one executor and one intermediate result:
//! `cargo run --example async_tokio`

use candlewick::{Device, Executor, LazyTensor};
use tokio::task::JoinSet;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// One request: the squares of `table`, scaled by the request's own number.
async fn request(executor: Executor, squares: LazyTensor, scale: f64) -> Result<Vec<f32>, Error> {
    let y = squares.affine(scale, 1.0)?;
    let y = executor.run_async(&y).await?; // awaits room in the queue too, if it is full
    Ok(y.to_vec1()?)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let executor = Executor::builder(&Device::Cpu).queue_capacity(8).build()?;
    let squares = LazyTensor::arange(0f32, 4.0, &Device::Cpu)?.sqr()?;
    // What has been submitted is computed once. The tasks may use it at once, ready or not.
    let shared = executor.submit_async(&squares).await?;

    let mut tasks = JoinSet::new();
    for n in 0..100 {
        let (executor, squares) = (executor.clone(), squares.clone());
        tasks.spawn(async move {
            let answer = request(executor, squares, f64::from(n)).await?;
            Ok::<_, Error>((n as f32, answer))
        });
    }
    let mut answered = 0;
    while let Some(finished) = tasks.join_next().await {
        let (n, answer) = finished??;
        assert_eq!(answer, [1.0, n + 1.0, 4.0 * n + 1.0, 9.0 * n + 1.0]);
        answered += 1;
    }
    assert_eq!(answered, 100);
    assert_eq!(shared.await?.to_vec1::<f32>()?, [0.0, 1.0, 4.0, 9.0]);

    executor.shutdown().await;
    assert_eq!(executor.stats().fragments_run, 101);
    println!("{answered} tasks answered");
    Ok(())
}
