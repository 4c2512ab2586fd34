//! A compiled function gives what its graph gives, and is traced once for each list of shapes.

use crate::common::*;
use candlewick::{
    Cancel, Compiled, D, DType, Device, Error, Executor, LazyTensor, Params, Passes, Result, Tensor,
};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

fn random(seed: u32, dims: &[usize]) -> Tensor {
    let count: usize = dims.iter().product();
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let data: Vec<f32> = (0..count).map(|_| number()).collect();
    Tensor::from_vec(data, dims, &Device::Cpu).unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let flat = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    flat.into_iter().map(f32::to_bits).collect()
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    // fused sums go in another order: a few roundings of numbers of about 1
    let distance = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    distance.max(0).unwrap().to_scalar::<f32>().unwrap() < 1e-5
}

/// Weights of a block with a norm, attention and a gated feed-forward part.
struct Block {
    tensors: Vec<Tensor>,
    lazy: Vec<LazyTensor>,
}

impl Block {
    fn new() -> Self {
        let shapes: [&[usize]; 5] = [&[16, 48], &[16, 16], &[16, 32], &[32, 16], &[16]];
        let tensors: Vec<Tensor> = (1..).zip(shapes).map(|(seed, s)| random(seed, s)).collect();
        let lazy = tensors.iter().map(LazyTensor::from).collect();
        Self { tensors, lazy }
    }

    /// `x` is `[rows, 16]`; the result, and the attention's weights.
    fn lazy(&self, x: &LazyTensor) -> Result<(LazyTensor, LazyTensor)> {
        let [qkv, out, up, down, gain] = &self.lazy[..] else {
            unreachable!()
        };
        let all = x.broadcast_mul(gain)?.matmul(qkv)?;
        let [q, k, v] = [0, 16, 32].map(|start| all.narrow(1, start, 16));
        let scores = (q?.matmul(&k?.t()?.contiguous()?)? * 0.25)?.softmax(D::Minus1)?;
        let x = (scores.matmul(&v?.contiguous()?)?.matmul(out)? + x)?;
        let y = (x.matmul(up)?.silu()?.matmul(down)? + &x)?;
        Ok((y, scores))
    }

    fn eager(&self, x: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
        let [qkv, out, up, down, gain] = &self.tensors[..] else {
            unreachable!()
        };
        let all = x.broadcast_mul(gain)?.matmul(qkv)?;
        let [q, k, v] = [0, 16, 32].map(|start| all.narrow(1, start, 16));
        let scores =
            candle_nn::ops::softmax(&(q?.matmul(&k?.t()?.contiguous()?)? * 0.25)?, D::Minus1)?;
        let x = (scores.matmul(&v?.contiguous()?)?.matmul(out)? + x)?;
        let y = (x.matmul(up)?.silu()?.matmul(down)? + &x)?;
        Ok((y, scores))
    }
}

#[test]
fn a_model_gives_what_it_gives_eagerly_for_every_shape() {
    within_limit(|| {
        let block = Block::new();
        let exact = Executor::builder(&Device::Cpu)
            .passes(Passes::NONE)
            .build()
            .unwrap();
        for (executor, is_exact) in [(cpu(), false), (exact, true)] {
            let traced = AtomicUsize::new(0);
            let forward = executor.compile(|x: &LazyTensor| {
                traced.fetch_add(1, SeqCst);
                block.lazy(x)
            });
            for (seed, rows) in [(7, 1), (8, 5), (9, 1), (10, 64), (11, 5)] {
                let x = random(seed, &[rows, 16]);
                let (y, scores) = forward.submit(&[&x]).unwrap().wait().unwrap();
                let eager = block.eager(&x).unwrap();
                assert!(close(&y, &eager.0) && close(&scores, &eager.1));
                if is_exact {
                    assert_eq!((bits(&y), bits(&scores)), (bits(&eager.0), bits(&eager.1)));
                }
                let (lazy, _) = block.lazy(&LazyTensor::from(&x)).unwrap();
                let submitted = executor.submit(&lazy).unwrap().wait().unwrap();
                assert!(close(&submitted, &y));
            }
            assert_eq!((traced.load(SeqCst), forward.traces()), (3, 3));
        }
    });
}

#[test]
fn dtypes_strides_and_numbers_of_arguments_are_traced_apart() {
    within_limit(|| {
        let executor = cpu();
        let sum = executor.compile(|xs: &[LazyTensor]| {
            let xs: Vec<_> = xs
                .iter()
                .map(|x| x.to_dtype(DType::F32))
                .collect::<Result<_>>()?;
            LazyTensor::stack(&xs, 0)?.sum(0)?.tanh()
        });
        let x = random(1, &[4, 4]);
        let eager = |n: f64| (&x * n).unwrap().tanh().unwrap();
        let check = |xs: &[Tensor], expected: Tensor| {
            let y = sum.submit(xs).unwrap().wait().unwrap();
            assert!(close(&y, &expected));
        };
        check(std::slice::from_ref(&x), eager(1.0));
        check(&[x.clone(), x.clone()], eager(2.0));
        check(&[x.to_dtype(DType::F64).unwrap()], eager(1.0));
        check(&[x.t().unwrap()], eager(1.0).t().unwrap());
        assert_eq!(sum.traces(), 4);
        check(&[(&x * 3.0).unwrap()], eager(3.0));
        check(&[(&x * 3.0).unwrap().t().unwrap()], eager(3.0).t().unwrap());
        assert_eq!(sum.traces(), 4);
    });
}

/// The numbers of an argument's graph change from call to call, also to one that the function
/// uses itself and back.
#[test]
fn an_argument_that_was_not_submitted_is_part_of_the_call() {
    within_limit(|| {
        let executor = cpu();
        let f = executor.compile(|x: &LazyTensor, y: &LazyTensor| ((x * 2.0)? + 2.0)?.mul(y));
        let x = LazyTensor::from(random(1, &[3]));
        let op = Counted::new(Act::AddOne);
        for n in [2.0, 5.0, 2.0, -1.0] {
            let (a, b) = ((&x * n).unwrap(), op.on(&x));
            let graph = ((&a * 2.0).unwrap() + 2.0).unwrap().mul(&b).unwrap();
            let y = f.submit(&[&a, &b]).unwrap().wait().unwrap();
            let expected = executor.submit(&graph).unwrap().wait().unwrap();
            assert!(close(&y, &expected), "{n}");
        }
        assert_eq!((f.traces(), op.runs()), (1, 8));
        assert_eq!(executor.stats().live_nodes, 0);
    });
}

#[test]
fn what_was_submitted_is_used_before_it_is_there_and_not_computed_again() {
    within_limit(|| {
        let (executor, script, _busy) = held(8);
        let (op, captured) = (Counted::new(Act::AddOne), Counted::new(Act::AddOne));
        let (x, w) = (op.on(&tensor(1.0)), captured.on(&tensor(4.0)));
        let handles = executor.submit((&x, &w)).unwrap();
        let f = executor.compile(|x: &LazyTensor| x.mul(&w));
        let calls: Vec<_> = (0..3).map(|_| f.submit(&[&x]).unwrap()).collect();
        assert!(calls.iter().all(|call| !call.is_finished()));
        script.resume();
        for call in &calls {
            assert_eq!(value(&call.wait().unwrap()), 10.0);
        }
        drop(handles);
        assert_eq!((op.runs(), captured.runs(), f.traces()), (1, 1, 1));
    });
}

#[test]
fn a_captured_result_can_be_cancelled_and_is_traced_again() {
    within_limit(|| {
        let (executor, script, _busy) = held(8);
        let w = tensor(4.0).sqr().unwrap();
        let handle = executor.submit(&w).unwrap();
        let f = executor.compile(|x: &LazyTensor| x.mul(&w));
        assert!(f.submit(&[tensor(0.0)]).unwrap().cancel() == Cancel::Cancelled);
        assert_eq!(
            handle.cancel(),
            Cancel::Cancelled,
            "a trace takes no interest in it"
        );
        let call = f.submit(&[tensor(2.0)]).unwrap();
        script.resume();
        assert_eq!(value(&call.wait().unwrap()), 32.0);
        assert_eq!(f.traces(), 2);
    });
}

#[test]
fn threads_call_one_function_with_changing_shapes() {
    within_limit(|| {
        let executor = Executor::builder(&Device::Cpu)
            .queue_capacity(4)
            .build()
            .unwrap();
        let w = LazyTensor::from(random(1, &[16, 16]));
        let tensor = random(1, &[16, 16]);
        let f = executor.compile(|x: &LazyTensor| x.matmul(&w)?.tanh());
        std::thread::scope(|scope| {
            for thread in 0..8u32 {
                let (f, tensor) = (f.clone(), &tensor);
                scope.spawn(move || {
                    for i in 0..100 {
                        let x = random(thread * 1000 + i, &[1 + ((thread + i) % 5) as usize, 16]);
                        let y = f.submit(&[&x]).unwrap().wait().unwrap();
                        assert!(close(&y, &x.matmul(tensor).unwrap().tanh().unwrap()));
                        if i % 30 == 0 {
                            f.retrace();
                        }
                    }
                });
            }
        });
        let stats = executor.stats();
        assert_eq!(
            (stats.live_nodes, stats.live_bytes, stats.queued),
            (0, 0, 0)
        );
    });
}

#[test]
fn two_calls_share_nothing() {
    within_limit(|| {
        let (executor, op) = (cpu(), Counted::new(Act::AddOne));
        let f = executor.compile(|x: &LazyTensor| Ok(op.on(x)));
        let x = tensor(1.0);
        let (a, b) = (f.submit(&[&x]).unwrap(), f.submit(&[&x]).unwrap());
        assert_eq!(
            (value(&a.wait().unwrap()), value(&b.wait().unwrap())),
            (2.0, 2.0)
        );
        assert_eq!((op.runs(), executor.stats().live_nodes), (2, 2));
        drop((a, b));
        assert_eq!(
            (executor.stats().live_nodes, executor.stats().live_bytes),
            (0, 0)
        );
    });
}

#[test]
fn outputs_may_be_arguments_captured_or_the_same_twice_and_arguments_unused() {
    within_limit(|| {
        let executor = cpu();
        let w = tensor(7.0);
        let submitted = tensor(2.0).exp().unwrap();
        let handle = executor.submit(&submitted).unwrap();
        let f = executor.compile(|x: &LazyTensor, _: &LazyTensor| {
            let y = (x + 1.0)?;
            Ok([x.clone(), y.clone(), w.clone(), submitted.clone(), y])
        });
        let unused = Counted::new(Act::Fail("nobody needs it"));
        for n in [3.0, 4.0] {
            for x in [tensor(n), (tensor(n - 1.0) + 1.0).unwrap()] {
                let all = f
                    .submit(&[x, unused.on(&tensor(0.0))])
                    .unwrap()
                    .wait()
                    .unwrap();
                let all = all.map(|tensor| value(&tensor));
                assert_eq!(all, [n, n + 1.0, 7.0, 2f32.exp(), n + 1.0]);
            }
        }
        assert_eq!((unused.runs(), f.traces()), (0, 2));
        drop(handle);
        drop(f);
        drop(submitted);
        assert_eq!(executor.stats().live_nodes, 0);
    });
}

/// What is captured stays what it is, also if it was an argument, or a part of one, when the
/// function was traced.
#[test]
fn an_argument_may_be_what_was_captured() {
    within_limit(|| {
        let executor = cpu();
        let (leaf, result) = (tensor(2.0), tensor(3.0).sqr().unwrap());
        let graph = (&leaf * 2.0).unwrap();
        let handle = executor.submit(&result).unwrap();
        let f = executor.compile(|x: &LazyTensor, y: &LazyTensor| {
            ((x + y)? + &leaf)?.add(&result)?.add(&graph)
        });
        let call =
            |x: &LazyTensor, y: &LazyTensor| value(&f.submit(&[x, y]).unwrap().wait().unwrap());
        let (other, other_result) = (tensor(20.0), tensor(30.0).sqr().unwrap());
        let other_graph = (&other * 3.0).unwrap();
        let other_handle = executor.submit(&other_result).unwrap();
        for (x, y, expected) in [
            (&leaf, &leaf, 4.0),
            (&other, &other, 40.0),
            (&leaf, &result, 11.0),
            (&other, &other_result, 920.0),
            (&graph, &leaf, 6.0),
            (&other_graph, &other, 80.0),
            (&graph, &graph, 8.0),
            (&other_graph, &other_graph, 120.0),
        ] {
            assert_eq!(call(x, y), expected + 2.0 + 9.0 + 4.0);
        }
        assert_eq!(f.traces(), 4);
        drop((handle, other_handle));
    });
}

#[test]
fn nothing_in_and_nothing_out_are_functions_too() {
    within_limit(|| {
        let executor = cpu();
        let none = executor.compile(|_: &[LazyTensor]| Ok(Vec::<LazyTensor>::new()));
        let seven = executor.compile(|_: &[LazyTensor]| (tensor(3.0) * 2.0)? + 1.0);
        for _ in 0..2 {
            let nothing: Vec<Tensor> = none.submit(&[tensor(1.0)]).unwrap().wait().unwrap();
            assert!(nothing.is_empty());
            let y = seven.submit::<Tensor>(&[]).unwrap().wait().unwrap();
            assert_eq!(value(&y), 7.0);
        }
        executor.shutdown_blocking(None).unwrap();
        assert_eq!(executor.stats().queued, 0);
    });
}

#[test]
fn no_call_waits_for_an_argument_that_it_does_not_use() {
    within_limit(|| {
        let (executor, script, busy) = held(8);
        let f = executor.compile(|x: &LazyTensor, _: &LazyTensor| x.sqr());
        let late = tensor(1.0).exp().unwrap();
        let handle = executor.submit(&late).unwrap();
        let first = f.submit(&[&tensor(2.0), &late]).unwrap();
        let second = f.submit(&[&tensor(3.0), &late]).unwrap();
        assert_eq!(handle.cancel(), Cancel::Cancelled, "no call refers to it");
        script.resume();
        assert_eq!(value(&first.wait().unwrap()), 4.0);
        assert_eq!(value(&second.wait().unwrap()), 9.0);
        busy.wait().unwrap();
    });
}

#[test]
fn one_function_takes_the_results_of_another() {
    within_limit(|| {
        let executor = cpu();
        let double = executor.compile(|x: &LazyTensor| x * 2.0);
        let (outer, inner) = (executor.compile(|x: &LazyTensor| x + 1.0), double.clone());
        let y = inner.submit(&[tensor(1.0)]).unwrap().wait().unwrap();
        let y = outer.submit(&[y]).unwrap().wait().unwrap();
        assert_eq!(value(&y), 3.0);
        // inside of a trace there is nothing to call it with
        let nested = executor.compile(move |x: &LazyTensor| {
            let y = inner.submit(&[x])?.wait()?;
            Ok(LazyTensor::from(y))
        });
        let error = nested.submit(&[tensor(1.0)]).unwrap_err();
        assert!(matches!(error, Error::Placeholder { .. }), "{error}");
    });
}

#[test]
fn a_placeholder_is_of_no_use_outside_of_its_trace() {
    within_limit(|| {
        let (executor, kept) = (cpu(), Mutex::new(None));
        let f = executor.compile(|x: &LazyTensor| {
            let before = kept.lock().unwrap().replace(x.clone());
            before.map_or_else(|| x.sqr(), |before| before.sqr())
        });
        assert_eq!(
            value(&f.submit(&[tensor(3.0)]).unwrap().wait().unwrap()),
            9.0
        );
        let stray = kept.lock().unwrap().clone().unwrap();
        let message = "a placeholder ([1] f32), which a compiled function is traced with, has no \
                       value outside of the trace";
        let error = executor.submit(&(&stray + 1.0).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(f.submit(&[&stray]).unwrap_err().to_string(), message);
        f.retrace();
        let error = f.submit(&[tensor(3.0)]).unwrap_err();
        assert_eq!(error.to_string(), message, "it belongs to another trace");
        assert!(format!("{stray:?}").contains("placeholder"));
        let stats = executor.stats();
        assert_eq!((stats.live_nodes, stats.queued), (0, 0));
    });
}

#[test]
fn wrong_arguments_and_errors_of_the_function_are_told() {
    within_limit(|| {
        let executor = cpu();
        let f = executor.compile(|x: &LazyTensor, y: &LazyTensor| x + y);
        let x = tensor(1.0);
        let error = f.submit(&[&x]).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Arguments {
                    expected: 2,
                    got: 1
                }
            ),
            "{error}"
        );
        assert_eq!(
            error.to_string(),
            "a compiled function of 2 arguments was given 1"
        );
        let two = LazyTensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let error = f.submit(&[&x, &two]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "add([1] f32, [2] f32): the shapes do not agree"
        );
        assert_eq!(f.traces(), 0, "nothing was kept");
        let other = cpu();
        let foreign = x.exp().unwrap();
        let handle = other.submit(&foreign).unwrap();
        let error = f.submit(&[&foreign, &x]).unwrap_err();
        assert!(matches!(error, Error::ForeignExecutor { .. }), "{error}");
        drop(handle);
        let small = Executor::builder(&Device::Cpu)
            .queue_bytes(8)
            .build()
            .unwrap();
        let f = small.compile(|x: &LazyTensor| x.sqr());
        let three = LazyTensor::new(&[0f32; 3], &Device::Cpu).unwrap();
        assert!(matches!(
            f.submit(&[three]),
            Err(Error::TooLarge { bytes: 12, .. })
        ));
        assert_eq!(value(&f.submit(&[x]).unwrap().wait().unwrap()), 1.0);
    });
}

#[test]
fn captured_host_data_is_no_call_s_burden() {
    within_limit(|| {
        let executor = Executor::builder(&Device::Cpu)
            .queue_bytes(16)
            .build()
            .unwrap();
        let w = LazyTensor::new(&[2f32; 100], &Device::Cpu).unwrap();
        let f = executor.compile(|x: &LazyTensor| x.broadcast_mul(&w)?.sum(0)?.unsqueeze(0));
        for _ in 0..2 {
            assert_eq!(
                value(&f.submit(&[tensor(1.0)]).unwrap().wait().unwrap()),
                200.0
            );
        }
    });
}

#[test]
fn a_panic_of_the_function_reaches_the_caller_and_nobody_else() {
    within_limit(|| {
        let (executor, tries) = (cpu(), AtomicUsize::new(0));
        let f = executor.compile(|x: &LazyTensor| match tries.fetch_add(1, SeqCst) {
            0 => std::panic::resume_unwind(Box::new("at the first trace")),
            _ => x.sqr(),
        });
        let x = tensor(3.0);
        let call = std::panic::AssertUnwindSafe(|| f.submit(&[&x]));
        let panic = std::panic::catch_unwind(call).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"at the first trace"));
        assert_eq!(value(&f.submit(&[&x]).unwrap().wait().unwrap()), 9.0);
        assert_eq!(executor.stats().fragments_run, 1);
    });
}

#[test]
fn failures_and_panics_of_operations_stay_with_their_call() {
    within_limit(|| {
        let executor = cpu();
        let act = Arc::new(Mutex::new(vec![
            Act::AddOne,
            Act::Panic("boom"),
            Act::Fail("no"),
        ]));
        let f = executor.compile(|x: &LazyTensor| {
            let act = act.lock().unwrap().pop().unwrap();
            Ok((Counted::new(act).on(x), x.sqr()?))
        });
        for expected in ["no", "boom"] {
            let error = f.submit(&[tensor(2.0)]).unwrap().wait().unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            f.retrace();
        }
        let (a, b) = f.submit(&[tensor(2.0)]).unwrap().wait().unwrap();
        assert_eq!((value(&a), value(&b)), (3.0, 4.0));
    });
}

#[test]
fn calls_are_queued_refused_cancelled_and_withdrawn_like_submissions() {
    within_limit(|| {
        let (executor, script, busy) = held(3);
        let op = Counted::new(Act::AddOne);
        let f = executor.compile(|x: &LazyTensor| Ok(op.on(x)));
        let first = f.submit(&[tensor(1.0)]).unwrap();
        let second = f.try_submit(&[tensor(2.0)]).unwrap();
        let third = f.try_submit(&[tensor(3.0)]).unwrap();
        let refused = f.try_submit(&[tensor(4.0)]).unwrap_err();
        assert!(matches!(refused, Error::QueueFull { .. }), "{refused}");
        assert_eq!(first.cancel(), Cancel::Cancelled);
        assert!(matches!(first.wait(), Err(Error::Cancelled)));
        drop(second);
        let fourth = f.submit_async(&[tensor(4.0)]);
        script.resume();
        busy.wait().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let fourth = runtime.block_on(async { fourth.await.unwrap().await.unwrap() });
        assert_eq!(value(&fourth), 5.0);
        assert_eq!(value(&third.wait().unwrap()), 4.0);
        assert_eq!(op.runs(), 2);
        drop((first, third, busy));
        executor.shutdown_blocking(None).unwrap();
        assert!(matches!(f.submit(&[tensor(1.0)]), Err(Error::Closed)));
        assert_eq!(executor.stats().live_nodes, 0);
    });
}

#[test]
fn a_call_inside_an_operation_does_not_wait_for_itself() {
    within_limit(|| {
        let (executor, script) = simulated(1);
        let f = executor.compile(|x: &LazyTensor| x.sqr());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (inside, results) = (f.clone(), seen.clone());
        let act = Act::Call(Arc::new(move || {
            let first = inside.submit(&[tensor(1.0)]);
            let full = inside.submit(&[tensor(2.0)]);
            let waited = first.as_ref().map(|handle| handle.wait().map(drop));
            results
                .lock()
                .unwrap()
                .push((full.map(drop), waited.unwrap()));
        }));
        let y = Counted::new(act).on(&tensor(1.0));
        assert_eq!(value(&executor.submit(&y).unwrap().wait().unwrap()), 2.0);
        let seen = seen.lock().unwrap();
        let deadlock = |r: &Result<()>| matches!(r, Err(Error::WouldDeadlock { .. }));
        assert!(
            seen.iter()
                .all(|(full, waited)| deadlock(full) && deadlock(waited))
        );
        assert_eq!(seen.len(), 1);
        drop(script);
    });
}

/// A trace that was begun before the weights were replaced must not be kept after it.
#[test]
fn a_trace_with_old_weights_is_not_kept() {
    within_limit(|| {
        let executor = cpu();
        let params =
            Params::from_map([("w", Tensor::new(&[2f32], &Device::Cpu).unwrap())]).unwrap();
        let this: Arc<Mutex<Option<Compiled<'static>>>> = Arc::default();
        let f = executor.compile({
            let (params, this, first) = (params.clone(), this.clone(), AtomicUsize::new(0));
            move |x: &LazyTensor| {
                let w = params.snapshot().get("w")?;
                if first.fetch_add(1, SeqCst) == 0 {
                    // in the middle of the first trace
                    let three = Tensor::new(&[3f32], &Device::Cpu).unwrap();
                    params.replace([("w", three)])?;
                    this.lock().unwrap().as_ref().unwrap().retrace();
                }
                x.mul(&w)
            }
        });
        *this.lock().unwrap() = Some(f.clone());
        let call = || value(&f.submit(&[tensor(10.0)]).unwrap().wait().unwrap());
        assert_eq!(call(), 20.0, "begun before");
        assert_eq!((call(), call()), (30.0, 30.0));
        assert_eq!(f.traces(), 2);
        *this.lock().unwrap() = None;
    });
}

#[test]
fn the_number_of_traces_is_bounded() {
    within_limit(|| {
        let executor = cpu();
        let f = executor.compile(|x: &LazyTensor| x.sqr());
        for n in 1..=200 {
            let x = Tensor::ones(n, DType::F32, &Device::Cpu).unwrap();
            assert_eq!(f.submit(&[x]).unwrap().wait().unwrap().dims(), [n]);
        }
        let text = format!("{f:?}");
        let kept: usize = text
            .split("kept: ")
            .nth(1)
            .unwrap()
            .trim_end_matches(" }")
            .parse()
            .unwrap();
        assert!((1..=64).contains(&kept), "{text}");
        assert_eq!(f.traces(), 200);
    });
}

#[test]
fn compiled_functions_cross_threads_and_keep_the_executor_open() {
    fn crosses<T: Send + Sync>(_: &T) {}
    within_limit(|| {
        let f: Compiled<'static> = cpu().compile(|x: &LazyTensor| x.sqr());
        crosses(&f);
        let y = std::thread::spawn(move || f.submit(&[tensor(2.0)]).unwrap().wait().unwrap());
        assert_eq!(value(&y.join().unwrap()), 4.0);
    });
}

#[test]
fn the_plan_of_a_call_is_explained() {
    let executor = cpu();
    let f = executor.compile(|x: &LazyTensor| (x * 2.0)?.exp()?.sum(0));
    let explanation = f.explain(&[tensor(1.0)]).unwrap();
    let graph = tensor(1.0);
    let graph = (&graph * 2.0).unwrap().exp().unwrap().sum(0).unwrap();
    assert_eq!(
        explanation.to_string(),
        executor.explain(&graph).unwrap().to_string()
    );
    assert_eq!(f.traces(), 0);
}
