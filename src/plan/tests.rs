//! What the passes make of small graphs. The text of the plan shows it whole.

use super::{Passes, Planner};
use crate::graph::LazyTensor;
use crate::graph::fragment::Fragment;
use candle_core::{D, DType, Device};
use std::convert::Infallible;

fn fragment(outputs: &[&LazyTensor]) -> Fragment<()> {
    let cut: Result<Fragment<()>, Infallible> =
        Fragment::cut(outputs.iter().copied(), |_| Ok(None));
    let Ok(fragment) = cut;
    fragment
}

/// The plan, without the line that sums up.
fn plan(outputs: &[&LazyTensor], passes: Passes) -> Vec<String> {
    let explanation = Planner::new(passes, 0).explain(&fragment(outputs));
    let mut lines: Vec<String> = explanation.to_string().lines().map(str::to_owned).collect();
    assert!(lines.pop().is_some_and(|line| line.starts_with("outputs ")));
    lines.retain(|line| !line.contains("= tensor "));
    lines
}

fn x(dims: &[usize]) -> LazyTensor {
    LazyTensor::zeros(dims, DType::F32, &Device::Cpu)
        .map(|x| leaf(&x))
        .unwrap()
}

/// A tensor that exists, of the same shape.
fn leaf(like: &LazyTensor) -> LazyTensor {
    let tensor = candle_core::Tensor::zeros(like.dims(), DType::F32, &Device::Cpu);
    LazyTensor::from(tensor.unwrap())
}

#[test]
fn equal_subexpressions_are_computed_once_also_across_outputs() {
    let a = x(&[4]);
    let (left, right) = (a.exp().unwrap(), a.exp().unwrap());
    let sum = (&left + &right).unwrap();
    let merged = plan(
        &[&sum, &right],
        Passes {
            merge: true,
            ..Passes::NONE
        },
    );
    assert_eq!(
        merged,
        [
            "%1 = [4] f32 candle exp(%0)",
            "%3 = [4] f32 candle add(%1, %1)"
        ]
    );
    assert_eq!(plan(&[&sum, &right], Passes::NONE).len(), 3);
}

#[test]
fn what_undoes_itself_is_left_out() {
    let a = x(&[2, 3]);
    let same = a.t().unwrap().t().unwrap().to_dtype(DType::F32).unwrap();
    let same = same
        .reshape((3, 2))
        .unwrap()
        .reshape((6,))
        .unwrap()
        .reshape((2, 3))
        .unwrap();
    let y = same
        .neg()
        .unwrap()
        .neg()
        .unwrap()
        .abs()
        .unwrap()
        .abs()
        .unwrap();
    let simplified = plan(
        &[&y],
        Passes {
            simplify: true,
            ..Passes::NONE
        },
    );
    assert_eq!(simplified, ["%8 = [2, 3] f32 candle abs(%0)"]);
}

#[test]
fn a_chain_is_one_step_and_takes_broadcasts_and_views_as_they_lie() {
    let (a, row, column) = (x(&[4, 8]), x(&[8]), x(&[4, 1]));
    let y = a
        .broadcast_add(&row)
        .unwrap()
        .broadcast_mul(&column)
        .unwrap();
    let y = (y.tanh().unwrap() + a.t().unwrap().contiguous().unwrap().t().unwrap()).unwrap();
    assert_eq!(
        plan(&[&y], Passes::ALL),
        [
            "%7 = [8, 4] f32 fused {contiguous}(%0 in strides [1, 8])",
            "%9 = [4, 8] f32 fused {broadcast_add, broadcast_mul, tanh, add}(%0, %1 in strides \
             [0, 1], %3 in strides [1, 0], %7 in strides [1, 4])"
        ]
        .map(|line| line.to_owned())
    );
}

#[test]
fn casts_join_the_step_that_they_border_on() {
    let half = x(&[4, 8]).to_dtype(DType::F16).unwrap();
    let tensor = candle_core::Tensor::zeros((4, 8), DType::F16, &Device::Cpu).unwrap();
    let half_leaf = LazyTensor::from(tensor);
    let wide = half_leaf.to_dtype(DType::F32).unwrap();
    let y = wide.softmax(D::Minus1).unwrap();
    let y = (y * 0.5).unwrap().to_dtype(DType::F16).unwrap();
    assert_eq!(
        plan(&[&y], Passes::ALL),
        ["%4 = [4, 8] f16 fused {to_dtype, softmax, affine, to_dtype}(%0) over 4 rows of 8"]
    );
    // f64 is computed in f64, and stored as f32
    let double = half.to_dtype(DType::F64).unwrap().exp().unwrap();
    let back = double.to_dtype(DType::F32).unwrap().neg().unwrap();
    assert_eq!(
        plan(&[&back], Passes::ALL),
        [
            "%1 = [4, 8] f16 fused {to_dtype}(%0)",
            "%3 = [4, 8] f64 fused {to_dtype, exp}(%1)",
            "%5 = [4, 8] f32 fused {to_dtype, neg}(%3)"
        ]
    );
}

#[test]
fn a_value_that_two_steps_need_is_made_once() {
    let (a, square) = (x(&[16, 16]), x(&[16, 16]));
    let e = a.exp().unwrap();
    let y = (e.matmul(&square).unwrap() + &e).unwrap();
    assert_eq!(
        plan(&[&y], Passes::ALL),
        [
            "%1 = [16, 16] f32 fused {exp}(%0)",
            "%3 = [16, 16] f32 candle matmul(%1, %2)",
            "%4 = [16, 16] f32 fused {add}(%3, %1)"
        ]
    );
}

#[test]
fn what_lies_in_order_is_not_put_in_order_again() {
    let a = x(&[4, 8]);
    let y = (a.exp().unwrap().contiguous().unwrap() + 1.0).unwrap();
    let y = (y + a.contiguous().unwrap()).unwrap();
    assert_eq!(
        plan(&[&y], Passes::ALL),
        ["%5 = [4, 8] f32 fused {exp, affine, add}(%0)"]
    );
}

#[test]
fn a_very_long_chain_of_views_is_looked_through_in_parts() {
    let mut y = x(&[2, 3]);
    for _ in 0..1000 {
        y = y.t().unwrap();
    }
    let passes = Passes {
        fuse: true,
        ..Passes::NONE
    };
    let steps = plan(&[&y.relu().unwrap()], passes);
    assert_eq!(steps.len(), 1000 - 64 + 1);
}

#[test]
fn rows_take_along_what_is_before_and_after_them() {
    let a = x(&[4, 8]);
    let y = ((&a * 2.0).unwrap().softmax(D::Minus1).unwrap() + 1.0).unwrap();
    assert_eq!(
        plan(&[&y], Passes::ALL),
        ["%3 = [4, 8] f32 fused {affine, softmax, affine}(%0) over 4 rows of 8"]
    );
}

#[test]
fn a_norm_written_out_is_one_step() {
    let a = x(&[4, 8]);
    let centered = a.broadcast_sub(&a.mean_keepdim(1).unwrap()).unwrap();
    let variance = centered.sqr().unwrap().mean_keepdim(1).unwrap();
    let y = centered
        .broadcast_div(&(variance + 1e-5).unwrap().sqrt().unwrap())
        .unwrap();
    let plan = plan(&[&y], Passes::ALL);
    assert_eq!(plan.len(), 1, "{plan:#?}");
    assert!(plan[0].ends_with("over 4 rows of 8"), "{plan:#?}");
}

/// `[4]` beside `[4, 4]` is a row, although the sums of the rows have the same shape.
#[test]
fn sums_that_are_used_as_a_row_stay_apart() {
    let a = x(&[4, 4]);
    let y = a.broadcast_add(&a.sum(1).unwrap()).unwrap();
    assert_eq!(plan(&[&y], Passes::ALL).len(), 2);
    let y = a.broadcast_add(&a.sum_keepdim(1).unwrap()).unwrap();
    assert_eq!(plan(&[&y], Passes::ALL).len(), 1);
}

#[test]
fn an_output_in_the_middle_is_a_step_of_its_own() {
    let a = x(&[4]);
    let middle = a.exp().unwrap();
    let y = middle.neg().unwrap();
    assert_eq!(plan(&[&y, &middle], Passes::ALL).len(), 2);
}

#[test]
fn numbers_are_parameters_but_equal_ones_stay_equal() {
    let planner = Planner::new(Passes::ALL, 16);
    let a = x(&[4]);
    let prepare = |first: f64, second: f64| {
        let y = ((&a * first).unwrap() * second).unwrap();
        planner.prepare(fragment(&[&y]))
    };
    let (one, other) = (prepare(2.0, 3.0), prepare(5.0, 7.0));
    assert!(std::sync::Arc::ptr_eq(&one.plan, &other.plan));
    assert_eq!(
        (&one.scalars[..], &other.scalars[..]),
        (&[2.0, 0.0, 3.0][..], &[5.0, 0.0, 7.0][..])
    );
    let same = prepare(2.0, 2.0);
    assert!(!std::sync::Arc::ptr_eq(&one.plan, &same.plan));
    assert_eq!(planner.counts(), (2, 2));
}

#[test]
fn shapes_dtypes_and_strides_make_another_plan() {
    let planner = Planner::new(Passes::ALL, 16);
    let tensor = candle_core::Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
    let transposed = LazyTensor::from(tensor.t().unwrap());
    for a in [
        x(&[2, 2]),
        x(&[4]),
        transposed,
        x(&[2, 2]).to_dtype(DType::F64).unwrap(),
    ] {
        drop(planner.prepare(fragment(&[&a.sqr().unwrap()])));
    }
    assert_eq!(planner.counts(), (4, 4));
}

#[test]
fn what_was_used_longest_ago_goes() {
    let planner = Planner::new(Passes::ALL, 4);
    let use_shape = |n: usize| drop(planner.prepare(fragment(&[&x(&[n]).sqr().unwrap()])));
    for n in 1..=4 {
        use_shape(n);
        use_shape(1);
    }
    assert_eq!(planner.counts(), (4, 4));
    use_shape(5);
    assert_eq!(planner.counts(), (5, 3), "half of them went");
    use_shape(1);
    assert_eq!(planner.counts(), (5, 3), "the first is still there");
}

#[test]
fn a_very_long_plan_is_not_kept() {
    let planner = Planner::new(Passes::ALL, 4);
    let mut y = x(&[4]);
    for _ in 0..20_000 {
        y = y.sqr().unwrap();
    }
    let prepared = planner.prepare(fragment(&[&y]));
    assert_eq!(prepared.plan.steps.len(), 20_000usize.div_ceil(64));
    assert_eq!(planner.counts(), (1, 0));
}

#[test]
fn a_product_with_few_rows_takes_a_transposed_weight_as_it_lies() {
    let (a, w) = (x(&[3, 80]), x(&[5, 80]));
    let y = a.matmul(&w.t().unwrap()).unwrap();
    assert_eq!(
        plan(&[&y], Passes::ALL),
        ["%3 = [3, 5] f32 product matmul(%0, columns of %1) of 3 x 80 x 5"]
    );
    let many = x(&[64, 80]).matmul(&w.t().unwrap()).unwrap();
    assert!(plan(&[&many], Passes::ALL)[1].contains("candle matmul"));
    let short = x(&[3, 80]).matmul(&x(&[80, 8])).unwrap();
    assert!(plan(&[&short], Passes::ALL)[0].contains("candle matmul"));
}
