//! What a submission costs before anything runs: building the graph, cutting it, its signature,
//! the look-up of its plan. The owner is kept busy meanwhile by an operation that waits, so that
//! nothing runs; what is submitted is withdrawn by dropping its handle.

use super::{ROUNDS, allocations, line, median, time};
use candle_core::{CpuStorage, CustomOp1, Layout, Shape};
use candlewick::{D, DType, Device, Executor, Handle, LazyTensor, Result, Tensor};
use std::hint::black_box;
use std::sync::{Mutex, mpsc};

const CALLS: usize = 500;

/// Waits until its other end is dropped.
struct Gate {
    begun: mpsc::Sender<()>,
    open: Mutex<mpsc::Receiver<()>>,
}

impl CustomOp1 for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let _ = self.begun.send(());
        let _ = self.open.lock().unwrap().recv();
        Ok((s.clone(), l.shape().clone()))
    }
}

/// An executor whose owner is busy until the sender is dropped.
fn busy() -> (Executor, mpsc::Sender<()>, Handle) {
    let builder = Executor::builder(&Device::Cpu).lending(false);
    let executor = builder.queue_capacity(1 << 18).build().unwrap();
    let ((begun, has_begun), (opener, open)) = (mpsc::channel(), mpsc::channel());
    let gate = Gate {
        begun,
        open: Mutex::new(open),
    };
    let x = LazyTensor::new(&[1f32], &Device::Cpu).unwrap();
    let gate = x.apply_op1(gate, x.shape(), DType::F32).unwrap();
    let handle = executor.submit(&gate).unwrap();
    has_begun.recv().unwrap();
    (executor, opener, handle)
}

/// Ten layers of twenty operations each, with eight weights each.
struct Model(Vec<[LazyTensor; 8]>);

impl Model {
    fn new() -> Self {
        let w = |dims: &[usize]| {
            LazyTensor::from(Tensor::ones(dims, DType::F32, &Device::Cpu).unwrap())
        };
        let layer = |_| {
            let (square, row) = (|| w(&[16, 16]), || w(&[16]));
            [
                row(),
                row(),
                square(),
                square(),
                square(),
                square(),
                row(),
                row(),
            ]
        };
        Self((0..10).map(layer).collect())
    }

    fn forward(&self, x: &LazyTensor) -> Result<LazyTensor> {
        let mut x = x.clone();
        for [gain, bias, q, k, v, out, left, right] in &self.0 {
            let h = x.layer_norm(gain, bias, 1e-5)?;
            let (q, k, v) = (h.matmul(q)?, h.matmul(k)?, h.matmul(v)?);
            let scores = (q.matmul(&k.t()?)? * 0.25)?.softmax(D::Minus1)?;
            let h = scores.matmul(&v)?.matmul(out)?;
            x = (&h + &x)?.broadcast_mul(left)?;
            let h = x.silu()?.broadcast_add(right)?.tanh()?;
            x = ((h.sqr()? + 1.0)?.sqrt()? * &x)?.relu()?;
        }
        Ok(x)
    }
}

/// Prints the costs, in microseconds.
pub(super) fn planning(json: bool) {
    let (executor, opener, gate) = busy();
    let model = Model::new();
    let x = LazyTensor::from(Tensor::ones((4, 16), DType::F32, &Device::Cpu).unwrap());
    let forward = executor.compile(|x: &LazyTensor| model.forward(x));
    let build = || drop(black_box(model.forward(&x).unwrap()));
    let submit = || drop(executor.submit(&model.forward(&x).unwrap()).unwrap());
    let one = || drop(executor.submit(&x.relu().unwrap()).unwrap());
    let call = || drop(forward.submit(&[&x]).unwrap());
    let once = model.forward(&x).unwrap();
    let again = || drop(executor.submit((&once.relu().unwrap(),)).unwrap());
    let parts: [&dyn Fn(); 5] = [&build, &submit, &one, &call, &again];
    parts.iter().for_each(|f| f()); // plans are made here
    let mut times: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        for (times, f) in times
            .iter_mut()
            .zip([&build as &dyn Fn(), &submit, &one, &call, &again])
        {
            times.push(time(CALLS, f) / 1e3);
        }
    }
    let counted = parts.map(|f| allocations(100, f));
    let [build, submit, one, call, again] = times.map(median);
    let print = |what: &str, us: f64, target: &str| match json {
        true => println!(
            "{}",
            serde_json::json!({"group": "planning", "what": what.trim(), "us": us})
        ),
        false => line(what, us, "us", target),
    };
    print("200 nodes: build and drop", build, "");
    print("  cut, sign and look up, what is built", again - one, "");
    print(
        "  planning: build, cut, sign, look up",
        submit - one,
        "target <= 15",
    );
    print("200 nodes: build and submit, not run", submit, "");
    print("1 node: build and submit, not run", one, "");
    print("200 nodes compiled: submit, not run", call, "");
    if !json {
        println!("  allocations: {counted:?} (build, submit, one, compiled, built before)");
    }
    drop(opener);
    gate.wait().unwrap();
}
