//! A signature that is written while cutting is that of the fragment.

use super::{Passes, Planner, Prepared};
use crate::error::{Error, Result};
use crate::graph::fragment::{Fragment, Left};
use crate::graph::{LazyTensor, Node};
use candle_core::{CpuStorage, CustomOp1, D, DType, Device, Layout, Shape, Tensor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn nothing(_: &Node) -> Result<Option<()>> {
    Ok(None)
}

fn find(planner: &Planner, outputs: &[&LazyTensor]) -> Option<Prepared<()>> {
    let found = planner.find(outputs.iter().copied(), nothing);
    found.unwrap().map(|(prepared, _)| prepared)
}

fn x(dims: &[usize]) -> LazyTensor {
    LazyTensor::from(Tensor::ones(dims, DType::F32, &Device::Cpu).unwrap())
}

struct Same;

impl CustomOp1 for Same {
    fn name(&self) -> &'static str {
        "same"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((s.clone(), l.shape().clone()))
    }
}

/// Graphs with all that a signature says, and how many of their operations a plan leaves to them.
fn graphs() -> Result<Vec<(Vec<LazyTensor>, usize)>> {
    let (a, w) = (x(&[4, 8]), x(&[8, 8]));
    let view = Tensor::ones((8, 4), DType::F32, &Device::Cpu).unwrap();
    let view = LazyTensor::from(view.t().unwrap());
    let shared = a.matmul(&w)?.relu()?;
    let twice = ((&shared + &shared)? * 0.5)?.softmax(D::Minus1)?;
    let whole = a.to_dtype(DType::I64)?.add(3i64)?;
    let custom = shared.apply_op1(Same, (4, 8), DType::F32)?.elu(0.5)?;
    let data = LazyTensor::new(&[[1f32; 8]; 4], &Device::Cpu)?;
    let zeros = LazyTensor::zeros((4, 8), DType::F32, &Device::Cpu)?;
    let many = LazyTensor::cat(&[&a, &view, &data, &zeros, &a], 0)?;
    let deep = (0..300).try_fold(a.clone(), |x, _| x.relu()?.add(&a))?;
    Ok(vec![
        (vec![a.clone()], 0),
        (vec![zeros.clone()], 0),
        (vec![view.exp()?, (&view + &a)?], 0),
        (vec![twice.clone(), shared.clone()], 0),
        (vec![custom, twice, whole], 1),
        (vec![many.powf(2.0)?.affine(2.0, 3.0)?], 0),
        (vec![deep], 0),
    ])
}

#[test]
fn a_plan_that_is_known_is_found_without_a_fragment() {
    let planner = Planner::new(Passes::ALL, 64);
    for (outputs, attached) in graphs().unwrap() {
        let outputs: Vec<&LazyTensor> = outputs.iter().collect();
        assert!(find(&planner, &outputs).is_none());
        let fragment = Fragment::cut(outputs.iter().copied(), nothing).unwrap();
        let (bytes, prepared) = (fragment.host_bytes, planner.prepare(fragment));
        let (found, host_bytes) = planner.find(outputs, nothing).unwrap().unwrap();
        assert!(Arc::ptr_eq(&found.plan, &prepared.plan));
        assert_eq!(host_bytes, bytes);
        assert_eq!(found.scalars, prepared.scalars);
        assert_eq!(
            (found.attached.len(), prepared.attached.len()),
            (attached, attached)
        );
        let values = |prepared: &Prepared<()>| -> Vec<u32> {
            prepared.sources.iter().map(|source| source.0).collect()
        };
        assert_eq!(values(&found), values(&prepared));
    }
    assert_eq!(planner.counts().0, graphs().unwrap().len() as u64);
}

#[test]
fn one_node_twice_is_not_two_nodes() {
    let planner = Planner::new(Passes::ALL, 64);
    let a = x(&[4]);
    let (one, other) = (a.exp().unwrap(), a.exp().unwrap());
    let (same, equal) = ((&one + &one).unwrap(), (&one + &other).unwrap());
    drop(planner.prepare(Fragment::<()>::cut([&same], nothing).unwrap()));
    assert!(find(&planner, &[&same]).is_some());
    assert!(find(&planner, &[&equal]).is_none());
    assert!(find(&planner, &[&same, &one]).is_none());
    // nor are two tensors one that is met twice
    let sum = |a: &LazyTensor, b: &LazyTensor| (a + b).unwrap();
    drop(planner.prepare(Fragment::<()>::cut([&sum(&a, &a)], nothing).unwrap()));
    assert!(find(&planner, &[&sum(&x(&[4]), &x(&[4]))]).is_none());
}

#[test]
fn what_another_fragment_has_is_not_planned_without_one() {
    let planner = Planner::new(Passes::ALL, 64);
    let (a, submitted) = (x(&[4]), x(&[4]).exp().unwrap());
    let id = submitted.0.id;
    let known = |node: &Node| Ok((node.id == id).then_some(()));
    let y = (&a + &submitted).unwrap();
    drop(planner.prepare(Fragment::cut([&y], known).unwrap()));
    assert!(planner.find([&y], known).unwrap().is_some());
    let both = Fragment::cut([&y, &submitted], known).unwrap();
    drop(planner.prepare(both));
    assert!(planner.find([&y, &submitted], known).unwrap().is_none());
}

/// Whoever is cutting when a node forgets what it is made from goes on with it, or finds that the node
/// was submitted.
#[test]
fn a_cut_goes_on_while_a_node_forgets() {
    let planner = Planner::new(Passes::ALL, 64);
    for _ in 0..200 {
        let inner = (0..50).try_fold(x(&[4]), |x, _| x.relu()).unwrap();
        let y = (&inner + &inner).unwrap().exp().unwrap();
        let (begun, id) = (AtomicBool::new(false), inner.0.id);
        let submitted = |node: &Node| {
            // ORDERING: Acquire, with the Release below: what is forgotten was begun before.
            Ok((node.id == id && begun.load(Ordering::Acquire)).then_some(()))
        };
        std::thread::scope(|scope| {
            let cutter = scope.spawn(|| Fragment::cut([&y], submitted).unwrap());
            // ORDERING: Release, with the Acquire above.
            begun.store(true, Ordering::Release);
            inner.0.forget_origin();
            let fragment = cutter.join().unwrap();
            assert!(matches!(fragment.computed.len(), 2 | 52));
            assert_eq!(fragment.sources.len(), 1);
            drop(planner.prepare(fragment));
        });
        assert!(!inner.0.is_computed());
    }
    assert!(planner.counts().1 <= 2);
}

/// A cut that fails drops none of the results that it found, nor what it has pinned: that is the caller's to do.
#[test]
fn a_cut_that_fails_leaves_what_it_found() {
    let (found, refused) = (x(&[4]).relu().unwrap(), x(&[4]).relu().unwrap());
    let y = (&found + &refused).unwrap();
    let result = Arc::new(());
    let submitted = |node: &Node| match node.id {
        id if id == found.0.id => Ok(Some(result.clone())),
        id if id == refused.0.id => Err(Error::Closed),
        _ => Ok(None),
    };
    let mut left = Left::default();
    let cut = Fragment::cut_leaving([&y], submitted, &mut left);
    assert!(matches!(cut, Err(Error::Closed)));
    assert_eq!(Arc::strong_count(&result), 2, "the result was dropped");
    y.0.forget_origin();
    assert_eq!(
        Arc::strong_count(&found.0),
        2,
        "what was pinned was dropped"
    );
    drop(left);
    assert_eq!(Arc::strong_count(&result), 1);
    assert_eq!(Arc::strong_count(&found.0), 1);
}
