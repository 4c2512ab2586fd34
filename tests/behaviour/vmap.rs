//! A function of one item for all items.

use crate::common::*;
use candlewick::{D, DType, Device, Error, Executor, LazyTensor, Passes, Tensor};

fn random(dims: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap()
}

fn bits(x: &Tensor) -> Vec<u32> {
    let all = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    all.into_iter().map(f32::to_bits).collect()
}

/// Along each dimension: bit for bit what each item gets by itself.
#[test]
fn items_are_each_alone() {
    let executor = cpu();
    let w = LazyTensor::from(random(&[6, 6]));
    let attend = |x: &LazyTensor| {
        let scores = x.matmul(&w)?.matmul(&x.t()?)?.softmax(D::Minus1)?;
        scores.matmul(x)?.gelu()?.sum(0)
    };
    for axis in 0..3 {
        let mut dims = vec![4, 6];
        dims.insert(axis, 9);
        let all = random(&dims);
        let got = executor
            .vmap(attend, axis)
            .submit(&[&all])
            .unwrap()
            .wait()
            .unwrap();
        assert_eq!(got.dims(), [9, 6]);
        for item in 0..9 {
            let x = all.narrow(axis, item, 1).unwrap().squeeze(axis).unwrap();
            let alone = attend(&LazyTensor::from(x)).unwrap();
            let alone = executor.submit(&alone).unwrap().wait().unwrap();
            assert_eq!(
                bits(&got.get(item).unwrap()),
                bits(&alone),
                "{axis}, {item}"
            );
        }
    }
    assert!(executor.stats().fragments_batched > 0);
    eventually("something is left", || executor.stats().live_nodes == 0);
}

/// Several arguments and several results, a graph as an argument, and a queue that is too small
/// for all items.
#[test]
fn arguments_and_results() {
    let executor = Executor::builder(&Device::Cpu)
        .queue_capacity(3)
        .build()
        .unwrap();
    let (a, b) = (random(&[20, 3]), random(&[20, 3]));
    let lazy = (&LazyTensor::from(&a) * 2.0).unwrap();
    let both = executor.vmap(
        |x: &LazyTensor, y: &LazyTensor| Ok(((x + y)?, (x * y)?.sum_all()?)),
        0,
    );
    let (sum, dot) = both
        .submit(&[lazy, LazyTensor::from(&b)])
        .unwrap()
        .wait()
        .unwrap();
    let twice = (&a * 2.0).unwrap();
    assert_eq!(bits(&sum), bits(&(&twice + &b).unwrap()));
    assert_eq!(dot.dims(), [20]);
    let expected = (twice * b).unwrap().sum(1).unwrap();
    let difference = (dot - expected).unwrap().abs().unwrap().max_all().unwrap();
    assert!(difference.to_scalar::<f32>().unwrap() < 1e-5);
}

#[test]
fn what_it_does_not_take() {
    let executor = Executor::builder(&Device::Cpu)
        .passes(Passes::ALL)
        .build()
        .unwrap();
    let id = executor.vmap(|x: &LazyTensor| x.exp(), 1);
    let error = id.submit(&[random(&[3])]).unwrap_err().to_string();
    assert!(error.starts_with("vmap([3] f32)"), "{error}");
    assert!(id.submit(&[random(&[3, 0])]).is_err());
    let none: [Tensor; 0] = [];
    assert!(id.submit(&none).is_err());
    let error = id.submit(&[random(&[3, 2]), random(&[3, 2])]).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Arguments {
                expected: 1,
                got: 2
            }
        ),
        "{error}"
    );
    let two = executor.vmap(|x: &LazyTensor, y: &LazyTensor| x + y, 0);
    assert!(two.submit(&[random(&[3, 2]), random(&[4, 2])]).is_err());
    let wrong = executor.vmap(|x: &LazyTensor| x.matmul(x), 0);
    assert!(wrong.submit(&[random(&[3, 2])]).is_err());
    // another number of results for the second item
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let varies = executor.vmap(
        |x: &LazyTensor| {
            let call = calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(vec![x.clone(); 1 + (call + 1) % 2])
        },
        0,
    );
    let error = varies.submit(&[random(&[3, 2])]).unwrap_err().to_string();
    assert!(error.contains("the number of results"), "{error}");
    // one item that fails: its error
    let rows = LazyTensor::ones((4, 2), DType::F32, &Device::Cpu).unwrap();
    let pick = executor.vmap(|i: &LazyTensor| rows.index_select(&i.unsqueeze(0)?, 0), 0);
    let ids = Tensor::new(&[0u32, 9, 1], &Device::Cpu).unwrap();
    let error = pick.submit(&[ids]).unwrap().wait().unwrap_err().to_string();
    assert!(
        error.contains("index_select") && error.contains('9'),
        "{error}"
    );
    eventually("something is left", || executor.stats().live_nodes == 0);
}
