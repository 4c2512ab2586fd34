//! Sizes that no memory has, and tensors that have less memory than they name: errors, from safe code.

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, CustomOp1, InplaceOp1, Layout, Shape, Storage};
use candlewick::{
    Cause, DType, Device, Error, Executor, LazyTensor, Passes, Reason, Result, Tensor,
};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const CPU: Device = Device::Cpu;
const FLOATS: [DType; 4] = [DType::F32, DType::F64, DType::BF16, DType::F16];

fn executors() -> [Executor; 2] {
    let none = Executor::builder(&CPU).passes(Passes::NONE);
    [Executor::new(&CPU).unwrap(), none.build().unwrap()]
}

/// One element, named as often as the shape says.
fn one(shape: impl Into<Shape>, dtype: DType) -> Result<LazyTensor> {
    let shape = shape.into();
    LazyTensor::ones(vec![1; shape.rank()], dtype, &CPU)?.broadcast_as(shape)
}

/// There is no memory for it when it runs; or it is beyond what can be addressed, which is known when it is built.
#[track_caller]
fn is_refused(executor: &Executor, build: impl FnOnce() -> Result<LazyTensor>) -> bool {
    let built = build();
    let builds = built.is_ok();
    let error = built.and_then(|y| executor.run(&y)).unwrap_err();
    let refused = match &error {
        Error::Invalid(invalid) => !builds && matches!(invalid.reason, Reason::Overflow),
        Error::Failed(failure) => matches!(failure.cause, Cause::OutOfMemory { .. }),
        _ => false,
    };
    assert!(refused, "{error}");
    builds
}

/// The first two are one more than what wraps to a tiny size when it is multiplied by the width of a panel and
/// the size of a number; the third wraps nowhere.
const LONG: [usize; 3] = [(1 << 59) + 1, (1 << 58) + 3, 1 << 45];

#[test]
fn a_product_over_more_than_memory_is_refused() {
    for executor in executors() {
        for (dtype, k) in FLOATS.into_iter().flat_map(|d| LONG.map(|k| (d, k))) {
            let product = |m, n| one((m, k), dtype)?.matmul(&one((k, n), dtype)?);
            assert!(is_refused(&executor, || product(1, 1)));
            is_refused(&executor, || product(1, 33));
            is_refused(&executor, || product(9, 5)?.relu()? + 1.0);
            is_refused(&executor, || {
                one((3, 2, k), dtype)?.matmul(&one((3, k, 4), dtype)?)
            });
        }
    }
}

/// There is no memory for what a product makes, or for what comes between two.
#[test]
fn a_product_of_more_columns_than_memory_is_refused() {
    for executor in executors() {
        for (dtype, n) in FLOATS.into_iter().flat_map(|d| LONG.map(|n| (d, n))) {
            let product = || one((1, 2), dtype)?.matmul(&one((2, n), dtype)?);
            is_refused(&executor, product);
            is_refused(&executor, || {
                product()?.softmax(1)?.matmul(&one((n, 3), dtype)?)
            });
        }
    }
}

#[test]
fn attention_over_more_keys_than_memory_is_refused() {
    for executor in executors() {
        for (dtype, n) in FLOATS.into_iter().flat_map(|d| LONG.map(|n| (d, n))) {
            is_refused(&executor, || {
                let (q, kv) = (one((1, 2, 3, 8), dtype)?, one((1, 2, n, 8), dtype)?);
                q.sdpa(&kv, &kv, None, 0.5)
            });
        }
    }
}

/// As the operation of somebody who counts wrong.
struct Short(usize);

impl CustomOp1 for Short {
    fn name(&self) -> &'static str {
        "short"
    }
    fn cpu_fwd(&self, _: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![7.0; self.0]), layout.shape().clone()))
    }
}

impl InplaceOp1 for Short {
    fn name(&self) -> &'static str {
        "short"
    }
    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        *storage = CpuStorage::F32(vec![7.0; self.0]);
        Ok(())
    }
}

#[track_caller]
fn is_short(result: Result<Tensor>, held: usize, needed: usize) {
    let error = result.unwrap_err();
    let cause = error.failure().map(|failure| &failure.cause);
    let expected = match cause {
        Some(&Cause::ShortStorage { held: h, needed: n }) => (h, n) == (held, needed),
        _ => false,
    };
    assert!(expected, "{error}");
}

/// What its memory lacks would be elements of somebody else's, or past the end of the heap.
#[test]
fn a_result_with_less_memory_than_it_names_is_an_error() -> Result<()> {
    for executor in executors() {
        let x = LazyTensor::zeros((256, 256), DType::F32, &CPU)?;
        for held in [0, 256, 65_535] {
            let short = x.apply_op1(Short(held), (256, 256), DType::F32)?;
            is_short(executor.run(&short), held, 65_536);
            is_short(executor.run(&short.t()?.affine(1.0, 0.0)?), held, 65_536);
            is_short(executor.run(&short.matmul(&short)?), held, 65_536);
            is_short(executor.run(&short.sum_all()?), held, 65_536);
        }
        for held in [65_536, 65_537] {
            let enough = x.apply_op1(Short(held), (256, 256), DType::F32)?;
            let sum = executor.run(&enough.sum_all()?)?;
            assert_eq!(sum.to_scalar::<f32>().unwrap(), 7.0 * 65_536.0);
        }
    }
    Ok(())
}

fn short_tensor() -> Tensor {
    let data = Storage::Cpu(CpuStorage::F32(vec![1.0; 5]));
    Tensor::from_storage(data, (2, 3), BackpropOp::none(), false)
}

/// More elements than an address has bits for.
fn endless_tensor() -> Tensor {
    let one = Tensor::ones((3, 1), DType::F32, &CPU).unwrap();
    one.broadcast_as((3, 6_148_914_691_236_517_206)).unwrap()
}

#[test]
fn a_tensor_that_is_not_what_it_says_is_refused_where_it_is_submitted() -> Result<()> {
    for executor in executors() {
        for (tensor, says) in [
            (
                short_tensor(),
                "tensor([2, 3] f32): 5 elements cannot fill a shape of 6",
            ),
            (endless_tensor(), "the number of elements overflows"),
        ] {
            let refused = |result: Result<()>| match result.unwrap_err() {
                error @ Error::Invalid(_) => assert!(error.to_string().contains(says), "{error}"),
                other => panic!("{other:?}"),
            };
            let leaf = LazyTensor::from(&tensor);
            refused(executor.submit(&leaf).map(drop));
            let sum = leaf.sum_all()?;
            refused(executor.submit(&sum).map(drop));
            refused(executor.run(&sum).map(drop));
            refused(executor.explain(&sum).map(drop));
            let compiled = executor.compile(|x: &LazyTensor| x.sum_all());
            refused(compiled.run(&[&leaf]).map(drop));
            refused(compiled.run(&[&tensor]).map(drop));
        }
    }
    Ok(())
}

/// Whoever handed a tensor in may change it later, through the same memory.
#[test]
fn a_tensor_that_is_cut_short_in_place_is_an_error() -> Result<()> {
    for executor in executors() {
        let tensor = Tensor::ones((16, 16), DType::F32, &CPU).unwrap();
        let x = LazyTensor::from(&tensor);
        let last = x.narrow(0, 15, 1)?;
        let before = executor.run(&x.exp()?.sum_all()?)?;
        assert!(before.to_scalar::<f32>().unwrap() > 256.0);
        tensor.inplace_op1(&Short(255)).unwrap();
        let transposed = x.t()?.contiguous()?;
        for y in [
            x.exp()?,
            x.matmul(&x)?,
            x.softmax(0)?,
            last.exp()?,
            transposed,
        ] {
            is_short(executor.run(&y), 255, 256);
        }
    }
    Ok(())
}

/// Without elements, a size is whatever somebody wrote into a file.
#[test]
fn tensors_without_elements_may_have_any_other_size() -> Result<()> {
    for executor in executors() {
        for long in [(1 << 60) + 1, 1 << 40, 7] {
            let x =
                LazyTensor::from(&Tensor::from_vec(Vec::<f32>::new(), (0, long), &CPU).unwrap());
            let dims = |y: &LazyTensor| executor.run(y).map(|y| y.dims().to_vec());
            assert_eq!(dims(&x.exp()?)?, [0, long]);
            assert_eq!(dims(&x.t()?.contiguous()?)?, [long, 0]);
            assert_eq!(dims(&x.sum(1)?)?, [0]);
            assert_eq!(dims(&x.matmul(&one((long, 1), DType::F32)?)?)?, [0, 1]);
        }
    }
    Ok(())
}

/// A result may be written over an operand that nobody else needs: the others are looked at all the same.
#[test]
fn a_short_operand_beside_one_that_is_written_over_is_an_error() -> Result<()> {
    for executor in executors() {
        let tensor = Tensor::ones((300, 700), DType::F32, &CPU).unwrap();
        let x = LazyTensor::from(&tensor);
        let w = LazyTensor::full(0.5f32, (300, 300), &CPU)?;
        let y = || {
            (w.matmul(&LazyTensor::ones((300, 700), DType::F32, &CPU)?)?
                .exp()?
                * &x)?
                .sum_all()
        };
        executor.run(&y()?)?;
        tensor.inplace_op1(&Short(209_999)).unwrap();
        is_short(executor.run(&y()?), 209_999, 210_000);
    }
    Ok(())
}

/// A submitted view of one element is put in order where it is read.
#[test]
fn a_submitted_broadcast_beyond_memory_is_refused_where_it_is_read() -> Result<()> {
    for executor in executors() {
        let long = 1 << 45;
        let row = one((1, long), DType::F32)?;
        let submitted = executor.submit(&row)?;
        is_refused(&executor, || row.matmul(&one((long, 1), DType::F32)?));
        is_refused(&executor, || {
            let ids = LazyTensor::new(&[0u32], &CPU)?;
            one((long, 1), DType::F32)?.index_select(&ids, 0)
        });
        is_refused(&executor, || {
            let kernel = one((1 << 23, 1 << 22, 1), DType::F32)?;
            one((1, 1 << 22, 1), DType::F32)?.conv1d(&kernel, 0, 1, 1, 1)
        });
        is_refused(&executor, || {
            one((1, long), DType::I64)?.div(&one((1, long), DType::I64)?)
        });
        assert_eq!(submitted.wait()?.dims(), [1, long]);
    }
    Ok(())
}

/// A matrix that is named often is multiplied by where it lies: a copy would be 32 GiB.
#[test]
fn a_matrix_that_is_named_often_is_not_copied() -> Result<()> {
    const BATCH: usize = 1 << 17;
    for executor in executors() {
        let w = LazyTensor::full(0.5f32, (256, 256), &CPU)?.broadcast_as((BATCH, 256, 256))?;
        let x = LazyTensor::ones((BATCH, 1, 256), DType::F32, &CPU)?;
        let y = executor.run(&x.matmul(&w)?.narrow(0, BATCH - 1, 1)?)?;
        let last = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(last, [128.0; 256]);
    }
    Ok(())
}

/// The same memory read twice by one step, while another thread changes it again and again.
#[test]
fn a_writer_between_two_reads_of_one_memory_holds_nobody_up() -> Result<()> {
    struct Again;
    impl InplaceOp1 for Again {
        fn name(&self) -> &'static str {
            "again"
        }
        fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
            *storage = CpuStorage::F32(vec![1.0; 64 * 64]);
            Ok(())
        }
    }
    let executor = Executor::new(&CPU)?;
    let tensor = Tensor::ones((64, 64), DType::F32, &CPU).unwrap();
    let (x, end) = (LazyTensor::from(&tensor), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Relaxed) {
                tensor.inplace_op1(&Again).unwrap();
            }
        });
        let run = || {
            for _ in 0..2000 {
                let y = executor.run(&x.matmul(&x.t()?)?.sum_all()?)?;
                assert_eq!(y.to_scalar::<f32>().unwrap(), 64.0 * 64.0 * 64.0);
            }
            Ok(())
        };
        let result = run();
        end.store(true, Relaxed);
        result
    })
}
