//! Fragments of several producers that run as one.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape};
use candlewick::{Batching, D, DType, Device, Executor, Handle, LazyTensor, Tensor};
use std::sync::{Arc, Condvar, Mutex};

/// An operation that waits until it is told to go on.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

impl CustomOp1 for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }
    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
        Ok((storage.clone(), layout.shape().clone()))
    }
}

/// An executor that is busy until the gate is opened: what is submitted piles up.
fn busy(executor: &Executor) -> (Gate, Handle) {
    let gate = Gate::default();
    let x = LazyTensor::new(&[0f32], &Device::Cpu).unwrap();
    let held = executor
        .submit(&x.apply_op1(gate.clone(), 1, DType::F32).unwrap())
        .unwrap();
    while executor.stats().queued > 0 {
        held.is_finished(); // looks for it
        std::thread::yield_now();
    }
    (gate, held)
}

/// The results of all, from one batch if they go together, and how many ran in batches.
fn at_once(executor: &Executor, outputs: &[LazyTensor]) -> (Vec<candlewick::Result<Tensor>>, u64) {
    let before = executor.stats().fragments_batched;
    let (gate, held) = busy(executor);
    let handles: Vec<Handle> = outputs
        .iter()
        .map(|y| executor.submit(y).unwrap())
        .collect();
    gate.open();
    held.wait().unwrap();
    let results = handles.into_iter().map(|handle| handle.wait()).collect();
    (results, executor.stats().fragments_batched - before)
}

fn apart() -> Executor {
    let builder = Executor::builder(&Device::Cpu).batching(Batching::OFF);
    builder.build().unwrap()
}

fn random(dims: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap()
}

fn bits(tensor: &Tensor) -> (Vec<usize>, Vec<u32>) {
    let flat = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
    let bits = flat.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits);
    (tensor.dims().to_vec(), bits.collect())
}

/// All together, and each by itself: the same bits. `make` builds a fragment anew, for a node
/// belongs to the executor that it was submitted to.
fn same_bits(count: usize, expected: u64, make: impl Fn(usize) -> LazyTensor) {
    let executor = Executor::new(&Device::Cpu).unwrap();
    let outputs: Vec<LazyTensor> = (0..count).map(&make).collect();
    let (results, batched) = at_once(&executor, &outputs);
    let alone = apart();
    for (i, result) in results.iter().enumerate() {
        let expected = alone.submit(&make(i)).unwrap().wait().unwrap();
        assert_eq!(
            bits(result.as_ref().unwrap()),
            bits(&expected),
            "fragment {i}"
        );
    }
    assert_eq!(batched, expected);
    assert_eq!(alone.stats().fragments_batched, 0);
    drop(outputs);
    assert_eq!(
        (executor.stats().live_nodes, executor.stats().live_bytes),
        (0, 0)
    );
}

#[test]
fn a_perceptron_at_batch_one() {
    let w = [random(&[32, 64]), random(&[64, 16])].map(LazyTensor::from);
    let (bias, scale) = (
        LazyTensor::from(random(&[64])),
        LazyTensor::from(random(&[16])),
    );
    let inputs: Vec<Tensor> = (0..9).map(|_| random(&[1, 32])).collect();
    same_bits(9, 9, |i| {
        let x = LazyTensor::from(&inputs[i]);
        let x = x
            .matmul(&w[0])
            .unwrap()
            .broadcast_add(&bias)
            .unwrap()
            .gelu()
            .unwrap();
        let x = x.matmul(&w[1]).unwrap().rms_norm(&scale, 1e-5).unwrap();
        x.softmax(D::Minus1).unwrap()
    });
}

/// Two products in one step, with rows of different number.
#[test]
fn gates_and_updates() {
    let w =
        [[8, 24], [8, 24], [24, 8], [24, 3], [3, 8]].map(|dims| LazyTensor::from(random(&dims)));
    let inputs: Vec<Tensor> = (0..7).map(|i| random(&[1 + i % 5, 8])).collect();
    same_bits(7, 7, |i| {
        let x = LazyTensor::from(&inputs[i]);
        let gate = x.matmul(&w[0]).unwrap().silu().unwrap();
        let x = (gate * x.matmul(&w[1]).unwrap()).unwrap();
        (x.matmul(&w[2]).unwrap() + x.lora(&w[3], &w[4], 0.5).unwrap()).unwrap()
    });
    // the same in bf16
    let w = w.map(|w| w.to_dtype(DType::BF16).unwrap());
    let executor = Executor::new(&Device::Cpu).unwrap();
    let w = w.map(|w| LazyTensor::from(executor.submit(&w).unwrap().wait().unwrap()));
    same_bits(7, 7, |i| {
        let x = LazyTensor::from(inputs[i].to_dtype(DType::BF16).unwrap());
        let gate = x.matmul(&w[0]).unwrap().silu().unwrap();
        let x = (gate * x.matmul(&w[1]).unwrap()).unwrap();
        (x.matmul(&w[2]).unwrap() + x.lora(&w[3], &w[4], 0.5).unwrap()).unwrap()
    });
    // each of its own keys: products beside one another
    let keys: Vec<Tensor> = (0..4).map(|_| random(&[2, 5, 6])).collect();
    same_bits(4, 4, |i| {
        let (q, k) = (
            LazyTensor::from(&keys[i]),
            LazyTensor::from(&keys[(i + 1) % 4]),
        );
        let scores = q.matmul(&k.t().unwrap()).unwrap() + k.matmul(&q.t().unwrap()).unwrap();
        scores
            .unwrap()
            .softmax(D::Minus1)
            .unwrap()
            .matmul(&k)
            .unwrap()
    });
}

#[test]
fn rows_of_different_number() {
    let w = [random(&[8, 24]), random(&[24, 8])].map(LazyTensor::from);
    let norm = LazyTensor::from(random(&[8]));
    let inputs: Vec<Tensor> = (0..7).map(|i| random(&[1 + i % 5, 8])).collect();
    same_bits(7, 7, |i| {
        let x = LazyTensor::from(&inputs[i]);
        let y = x
            .matmul(&w[0])
            .unwrap()
            .silu()
            .unwrap()
            .matmul(&w[1])
            .unwrap();
        (&x + &y).unwrap().layer_norm(&norm, &norm, 1e-5).unwrap()
    });
}

/// Self-attention: heads split, rows mixed only within a sequence.
fn layer(
    x: &LazyTensor,
    w: &[LazyTensor],
    norm: &LazyTensor,
    heads: usize,
) -> candlewick::Result<LazyTensor> {
    let (len, width) = x.dims2()?;
    let split = |x: LazyTensor| x.reshape((len, heads, width / heads))?.transpose(0, 1);
    let (q, k, v) = (
        split(x.matmul(&w[0])?)?,
        split(x.matmul(&w[1])?)?,
        split(x.matmul(&w[2])?)?,
    );
    let scores = (q.matmul(&k.t()?)? * 0.35)?.softmax(D::Minus1)?;
    let mixed = scores.matmul(&v)?.transpose(0, 1)?.reshape((len, width))?;
    let x = (x + &mixed.matmul(&w[3])?)?.layer_norm(norm, norm, 1e-5)?;
    let hidden = x.matmul(&w[4])?.gelu()?.matmul(&w[5])?;
    (&x + &hidden)?.layer_norm(norm, norm, 1e-5)
}

#[test]
fn sequences_of_different_length() {
    let shapes = [[16, 16]; 4].into_iter().chain([[16, 40], [40, 16]]);
    let w: Vec<LazyTensor> = shapes.map(|s| LazyTensor::from(random(&s))).collect();
    let norm = LazyTensor::from(random(&[16]));
    let table = LazyTensor::from(random(&[50, 16]));
    let ids: Vec<Vec<u32>> = (0..8)
        .map(|i| {
            (0..2 + i * 3 % 7)
                .map(|j| (i * 7 + j) as u32 % 50)
                .collect()
        })
        .collect();
    same_bits(8, 8, |i| {
        let ids = LazyTensor::new(&ids[i][..], &Device::Cpu).unwrap();
        let x = table.embedding(&ids).unwrap();
        let x = layer(&x, &w, &norm, 4).unwrap();
        layer(&x, &w, &norm, 2).unwrap().mean(0).unwrap()
    });
}

#[test]
fn fragments_that_agree_in_part() {
    let w: Vec<LazyTensor> = (0..6)
        .map(|_| LazyTensor::from(random(&[12, 12])))
        .collect();
    let inputs: Vec<Tensor> = (0..6).map(|_| random(&[2, 12])).collect();
    same_bits(6, 6, |i| {
        let mut x = LazyTensor::from(&inputs[i]);
        for w in &w[..3 + i % 3] {
            x = x.matmul(w).unwrap().tanh().unwrap();
        }
        if i == 4 { x.sum_all().unwrap() } else { x }
    });
}

#[test]
fn one_that_fails_costs_the_others_nothing() {
    let executor = Executor::new(&Device::Cpu).unwrap();
    let table = LazyTensor::from(random(&[10, 4]));
    let w = LazyTensor::from(random(&[4, 4]));
    let make = |i: u32| {
        let ids = LazyTensor::new(&[i, 1], &Device::Cpu).unwrap();
        table.embedding(&ids).unwrap().matmul(&w).unwrap()
    };
    let outputs: Vec<LazyTensor> = [3, 4, 99, 5].map(make).into();
    let (results, _) = at_once(&executor, &outputs);
    for (i, result) in results.into_iter().enumerate() {
        match i {
            2 => assert!(
                result.unwrap_err().to_string().contains("index"),
                "of the bad one"
            ),
            _ => assert_eq!(result.unwrap().dims(), [2, 4]),
        }
    }
}

/// What is made of weights alone is made once, but only for those that make the same of them.
#[test]
fn what_is_made_of_weights_alone() {
    let w = LazyTensor::from(random(&[6, 6]));
    let inputs: Vec<Tensor> = (0..8).map(|_| random(&[1, 6])).collect();
    same_bits(8, 8, |i| {
        let scale = 1.0 + (i % 2) as f64;
        let made = (&w * scale).unwrap().sqr().unwrap();
        let made = made.narrow(0, i % 3 / 2, 4).unwrap().t().unwrap();
        let x = LazyTensor::from(&inputs[i]).matmul(&made).unwrap();
        let number = LazyTensor::full(i as f32, (1, 4), &Device::Cpu).unwrap();
        (&x.relu().unwrap() + &number).unwrap()
    });
}

/// What `explain` says of a batch is what a batch does.
#[test]
fn explanations_are_right() {
    let shapes = [[16, 16]; 4].into_iter().chain([[16, 40], [40, 16]]);
    let w: Vec<_> = shapes.map(|d| LazyTensor::from(random(&d))).collect();
    let norm = LazyTensor::from(random(&[16]));
    let host = |len: usize, width: usize| {
        let numbers = vec![0.25f32; len * width];
        LazyTensor::from_vec(numbers, (len, width), &Device::Cpu).unwrap()
    };
    let table = LazyTensor::from(random(&[50, 16]));
    type Make<'a> = Box<dyn Fn(usize) -> LazyTensor + 'a>;
    let attention = |_| layer(&host(5, 16), &w, &norm, 2).unwrap();
    let looked_up = |i: usize| {
        let ids = LazyTensor::new(&[i as u32, 7, 3], &Device::Cpu).unwrap();
        let rows = table.index_select(&ids, 0).unwrap();
        rows.matmul(&w[0]).unwrap().gelu().unwrap()
    };
    // too large to be brought together
    let large = |_| host(64, 128).exp().unwrap().tanh().unwrap();
    let sorted = |_| {
        let x = host(2, 16).matmul(&w[0]).unwrap();
        let (sorted, _) = x.sort_last_dim(true).unwrap();
        (sorted.exp().unwrap() + 1.0).unwrap()
    };
    let all: [(Make<'_>, usize); 4] = [
        (Box::new(attention), 7),
        (Box::new(looked_up), 2),
        (Box::new(large), 0),
        (Box::new(sorted), 2),
    ];
    for (make, as_one) in all {
        let executor = Executor::new(&Device::Cpu).unwrap();
        let outputs: Vec<LazyTensor> = (0..6).map(&make).collect();
        let plan = executor.explain(&outputs[0]).unwrap();
        assert_eq!(plan.steps_in_batch(), Some(as_one), "{plan}");
        let before = executor.stats().batch_bytes_moved;
        let (results, batched) = at_once(&executor, &outputs);
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(batched, 6, "{plan}");
        let moved = executor.stats().batch_bytes_moved - before;
        assert_eq!(
            moved,
            6 * plan.batch_bytes_moved().unwrap() as u64,
            "{plan}"
        );
    }
}

#[test]
fn explanations_tell_why_not() {
    let executor = Executor::new(&Device::Cpu).unwrap();
    let w = LazyTensor::from(random(&[8, 8]));
    let zeros = |dims: &[usize]| LazyTensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
    let many = match cfg!(any(feature = "mkl", feature = "accelerate")) {
        true => "in no batch: all goes through Candle\n",
        false => "in no batch: a product has 300 rows\n",
    };
    for (y, why) in [
        (zeros(&[300, 8]).matmul(&w).unwrap(), many),
        (
            zeros(&[2048, 1024]).exp().unwrap(),
            "in no batch: a value has 8.0 MiB\n",
        ),
        (
            zeros(&[3, 8]).arg_sort_last_dim(true).unwrap(),
            "in no batch: all goes through Candle\n",
        ),
    ] {
        let plan = executor.explain(&y).unwrap();
        assert_eq!(
            (plan.steps_in_batch(), plan.batch_bytes_moved()),
            (None, None)
        );
        assert!(plan.to_string().ends_with(why), "{plan}");
    }
}
