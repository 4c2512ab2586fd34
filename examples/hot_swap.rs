//! Replace the weights while requests are served: `cargo run --example hot_swap`

use candlewick::{Device, Executor, LazyTensor, Params, Tensor};
use std::thread;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Both parameters have the value of the version that they belong to.
fn version(value: f32) -> Result<[(&'static str, Tensor); 2], Error> {
    let tensor = Tensor::full(value, 4, &Device::Cpu)?;
    Ok([("scale", tensor.clone()), ("shift", tensor)])
}

/// Every request takes a snapshot and so sees one version, whole.
fn request(executor: &Executor, params: &Params) -> Result<f32, Error> {
    let now = params.snapshot();
    let x = LazyTensor::ones(4, candlewick::DType::F32, &Device::Cpu)?;
    let y = x.mul(&now.get("scale")?)?.add(&now.get("shift")?)?;
    let y = executor.run(&y)?.to_vec1::<f32>()?;
    assert!(
        y.iter().all(|v| *v == y[0]) && [2.0, 20.0].contains(&y[0]),
        "{y:?}"
    );
    Ok(y[0])
}

fn main() -> Result<(), Error> {
    let executor = Executor::new(&Device::Cpu)?;
    let params = Params::from_map(version(1.0)?)?;
    let before = params.snapshot();

    thread::scope(|scope| {
        let serve = || {
            (0..2000)
                .map(|_| request(&executor, &params))
                .collect::<Result<_, _>>()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(serve)).collect();
        params.replace(version(10.0)?)?;
        assert_eq!(
            request(&executor, &params)?,
            20.0,
            "from here on everybody gets the new"
        );
        for thread in threads {
            let answers: Vec<f32> = thread.join().expect("an assertion failed")?;
            assert!(answers.is_sorted(), "no thread went back to the old");
            let old = answers.iter().filter(|answer| **answer == 2.0).count();
            println!(
                "{old} answers by the old weights, {} by the new",
                answers.len() - old
            );
        }
        Ok::<_, Error>(())
    })?;

    // A snapshot stays what it was.
    let old = executor.run(&before.get("scale")?.sqr()?)?;
    assert_eq!(old.to_vec1::<f32>()?, [1.0; 4]);

    // Some names only; the shapes and dtypes must be the same.
    params.update([(
        "shift",
        Tensor::zeros(4, candlewick::DType::F32, &Device::Cpu)?,
    )])?;
    let wrong = params.update([("shift", Tensor::new(0f32, &Device::Cpu)?)]);
    println!("{}", wrong.expect_err("a scalar in the place of a vector"));
    let shift = executor.run(&params.snapshot().get("shift")?)?;
    assert_eq!(shift.to_vec1::<f32>()?, [0.0; 4]);
    Ok(())
}
