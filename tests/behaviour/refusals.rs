//! What is refused, with the words.

use crate::common::*;
use candlewick::{D, DType, Device, Error, Executor, LazyTensor};

fn text<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn bad_operands_are_refused_at_the_call() {
    let f = LazyTensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    let g = LazyTensor::zeros((2, 4), DType::F32, &Device::Cpu).unwrap();
    let u = LazyTensor::zeros((2, 3), DType::U32, &Device::Cpu).unwrap();
    assert_eq!(
        text(f.add(&g)),
        "add([2, 3] f32, [2, 4] f32): the shapes do not agree"
    );
    assert_eq!(
        text(f.matmul(&g)),
        "matmul([2, 3] f32, [2, 4] f32): the shapes do not agree"
    );
    assert_eq!(
        text(f.add(&u)),
        "add([2, 3] f32, [2, 3] u32): the dtypes differ"
    );
    assert_eq!(text(u.exp()), "exp([2, 3] u32): not supported for u32");
    assert!(
        text(f.reshape((2, 4))).contains("6 elements"),
        "{}",
        text(f.reshape((2, 4)))
    );
    assert!(text(LazyTensor::cat::<LazyTensor, _>(&[], 0)).contains("at least one tensor"));
    assert!(text(f.narrow(1, 2, 5)).contains("5 elements from 2"));
    assert!(text(f.sum(7)).contains("dimension 7"), "{}", text(f.sum(7)));
    assert!(text(f.broadcast_as((usize::MAX, 2, 3))).contains("overflow"));
    assert!(f.softmax(D::Minus1).is_ok());
}

#[test]
fn an_index_out_of_range_fails_its_fragment() {
    within_limit(|| {
        let executor = cpu();
        let table = LazyTensor::zeros((4, 2), DType::F32, &Device::Cpu).unwrap();
        let ids = LazyTensor::new(&[1u32, 4], &Device::Cpu).unwrap();
        for graph in [
            table.index_select(&ids, 0).unwrap(),
            table.embedding(&ids).unwrap(),
        ] {
            let error = text(executor.submit(&graph).unwrap().wait());
            assert!(
                error.contains("index 4 is out of range for a dimension of size 4"),
                "{error}"
            );
        }
    });
}

#[test]
fn bounds_that_make_no_sense_are_refused() {
    let builder = || Executor::builder(&Device::Cpu);
    let error = text(builder().queue_capacity(0).build());
    assert_eq!(
        error,
        "a queue of 0 fragments: the capacity must be between 1 and 1048575"
    );
    assert!(text(builder().queue_capacity(1 << 20).build()).contains("between 1 and 1048575"));
    assert!(text(builder().queue_bytes(0).build()).contains("a queue of 0 bytes"));
    assert!(builder().queue_capacity((1 << 20) - 1).build().is_ok());
    let error = text(builder().queue_bytes(1 << 42).build());
    assert_eq!(
        error,
        "a queue of 4398046511104 bytes: the bound must be between 1 and 4398046511103"
    );
}

/// The smallest and the largest queue that can be had are queues.
#[test]
fn bounds_that_are_just_right_are_kept() {
    within_limit(|| {
        let most = ((1 << 20) - 1, (1 << 42) - 1);
        for (fragments, bytes) in [(1, 4), most] {
            let builder = Executor::builder(&Device::Cpu).queue_capacity(fragments);
            let executor = builder.queue_bytes(bytes).build().unwrap();
            for _ in 0..3 {
                let y = tensor(3.0).sqr().unwrap();
                assert_eq!(value(&executor.submit(&y).unwrap().wait().unwrap()), 9.0);
            }
            assert_eq!(executor.stats().queued, 0);
            assert_eq!(executor.stats().queued_bytes, 0);
        }
    });
}

#[test]
fn errors_keep_their_source() {
    within_limit(|| {
        let executor = cpu();
        let bad = Counted::new(Act::Fail("deep down"));
        let error = executor
            .submit(&bad.on(&tensor(1.0)))
            .unwrap()
            .wait()
            .unwrap_err();
        let source = std::error::Error::source(&error).expect("Candle's error");
        assert!(source.to_string().contains("deep down"));
        let candle: candle_core::Error = error.into();
        assert!(candle.to_string().contains("deep down"));
    });
}
