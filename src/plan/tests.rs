//! What the passes make of small graphs. The text of the plan shows it whole.

use super::{Passes, Planner};
use crate::graph::LazyTensor;
use crate::graph::fragment::Fragment;
use candle_core::{D, DType, Device};

fn fragment(outputs: &[&LazyTensor]) -> Fragment<()> {
    Fragment::cut(outputs.iter().copied(), |_| Ok(None)).unwrap()
}

/// The plan, without the estimates and the lines that sum up.
fn plan(outputs: &[&LazyTensor], passes: Passes) -> Vec<String> {
    let explanation = Planner::new(passes, 0).explain(&fragment(outputs));
    let mut lines: Vec<String> = explanation.to_string().lines().map(str::to_owned).collect();
    assert!(lines.pop().is_some_and(|line| line.starts_with("in ")));
    assert!(lines.pop().is_some_and(|line| line.starts_with("outputs ")));
    lines.retain(|line| !line.contains("= tensor ") && !line.starts_with(' '));
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

/// Candle's products and sums round otherwise for elements that lie otherwise.
#[test]
fn what_puts_a_view_in_order_stays() {
    let view = x(&[2, 3]).t().unwrap();
    let simplify = Passes {
        simplify: true,
        ..Passes::NONE
    };
    let negated = view.neg().unwrap().neg().unwrap();
    assert_eq!(plan(&[&negated], simplify).len(), 3);
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
            "%4 = [16, 16] f32 product matmul(%1, %2) of 16 x 16 x 16, then {add}(%3, %1)"
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
fn products_take_their_operands_as_they_lie_and_join_rows() {
    let (a, w) = (x(&[2, 3, 80]), x(&[5, 80]));
    let y = a.broadcast_matmul(&w.t().unwrap()).unwrap();
    assert_eq!(
        plan(&[&y], Passes::ALL),
        ["%3 = [2, 3, 5] f32 product broadcast_matmul(%0, %1) of 6 x 80 x 5"]
    );
    let own = x(&[2, 80, 5]);
    assert_eq!(
        plan(&[&a.matmul(&own).unwrap()], Passes::ALL),
        ["%2 = [2, 3, 5] f32 product matmul(%0, %1) of 2 times 3 x 80 x 5"]
    );
    let none = a.matmul(&x(&[2, 80, 0])).unwrap();
    assert!(plan(&[&none], Passes::ALL)[0].contains("candle matmul"));
}

#[test]
fn what_follows_a_product_is_done_to_its_rows() {
    let (a, w, bias) = (x(&[4, 8]), x(&[8, 16]), x(&[16]));
    let hidden = a.matmul(&w).unwrap().broadcast_add(&bias).unwrap();
    let y = (hidden.gelu().unwrap() + x(&[4, 16])).unwrap();
    assert_eq!(
        plan(&[&y], Passes::ALL),
        [
            "%7 = [4, 16] f32 product matmul(%0, %1) of 4 x 8 x 16, then {broadcast_add, gelu, \
             add}(%2, %3 in strides [0, 1], %6)"
        ]
    );
    let normed = y.softmax(D::Minus1).unwrap();
    assert_eq!(plan(&[&normed], Passes::ALL).len(), 1);
    // asked for itself, or needed twice: made once, by itself
    assert_eq!(plan(&[&y, &hidden], Passes::ALL).len(), 2);
    // a row of the product against all rows of another
    let row = x(&[1, 8]).matmul(&w).unwrap();
    assert_eq!(
        plan(&[&row.broadcast_add(&x(&[4, 16])).unwrap()], Passes::ALL).len(),
        2
    );
}

#[test]
fn two_products_of_the_same_shape_are_one_step() {
    let (a, w) = (x(&[4, 8]), x(&[8, 16]));
    let gate = a.matmul(&w).unwrap().silu().unwrap();
    let both = (gate * a.matmul(&x(&[8, 16])).unwrap()).unwrap();
    assert_eq!(
        plan(&[&both], Passes::ALL),
        [
            "%6 = [4, 16] f32 product matmul(%0, %4) of 4 x 8 x 16, beside matmul(%0, %1) over 8, \
             then {silu, mul}(%2, %5)"
        ]
    );
    // only the thin product of an update is stored
    let update = a.lora(&x(&[8, 2]), &x(&[2, 16]), 0.5).unwrap();
    let y = (a.matmul(&w).unwrap() + update).unwrap();
    assert_eq!(
        plan(&[&y], Passes::ALL),
        [
            "%4 = [4, 2] f32 product broadcast_matmul(%0, %3) of 4 x 8 x 2",
            "%8 = [4, 16] f32 product matmul(%0, %1) of 4 x 8 x 16, beside broadcast_matmul(%4, \
             %5) over 2, then {affine, add}(%6, %2)"
        ]
    );
    // three: the first of them is made before
    let more = (&both + a.matmul(&w).unwrap()).unwrap();
    assert_eq!(plan(&[&more], Passes::NONE).len(), 6);
    let more = (both + a.matmul(&x(&[8, 16])).unwrap()).unwrap();
    assert_eq!(plan(&[&more], Passes::ALL).len(), 2);
}

#[test]
fn attention_is_one_step() {
    let (q, k, v) = (x(&[2, 4, 6, 8]), x(&[2, 4, 7, 8]), x(&[2, 4, 7, 8]));
    let mask = x(&[2, 1, 1, 7]);
    let scores = q.matmul(&k.t().unwrap()).unwrap();
    let scores = (scores * 0.5).unwrap().broadcast_add(&mask).unwrap();
    let y = scores.softmax(D::Minus1).unwrap().matmul(&v).unwrap();
    assert_eq!(
        plan(&[&y], Passes::ALL),
        [
            "%9 = [2, 4, 6, 8] f32 product matmul(%0, %1) of 8 times 6 x 8 x 7, then {affine, \
             broadcast_add, softmax}(%3, %5 in strides [7, 0, 1]) over 48 rows of 7, times %8 of 7 \
             x 8"
        ]
    );
    // the weights of the attention are wanted too
    let weights = scores.softmax(D::Minus1).unwrap();
    let y = weights.matmul(&v).unwrap();
    assert_eq!(plan(&[&y, &weights], Passes::ALL).len(), 2);
}

/// The whole text: what people see of a small block.
#[test]
fn an_explanation_tells_costs_and_what_becomes_of_buffers() {
    let (a, w, ids) = (x(&[64, 128]), x(&[128, 32]), [3u32, 1, 2]);
    let ids = LazyTensor::new(&ids, &Device::Cpu).unwrap();
    let rows = a.index_select(&ids, 0).unwrap();
    let scaled = rows.tanh().unwrap();
    let scores = (scaled.matmul(&w).unwrap() * 0.5).unwrap();
    let sorted = scores.softmax(D::Minus1).unwrap().t().unwrap();
    let order = sorted
        .contiguous()
        .unwrap()
        .arg_sort_last_dim(true)
        .unwrap();
    let explanation = Planner::new(Passes::ALL, 0).explain(&fragment(&[&order, &scaled]));
    let expected = "\
%0 = tensor [64, 128] f32
%1 = tensor [3] u32
%4 = tensor [128, 32] f32
%2 = [3, 128] f32 candle index_select(%0, %1)
    reads 1.5 KiB, writes 1.5 KiB, 0 flop [3 rows of all]
%3 = [3, 128] f32 fused {tanh}(%2)
    reads 1.5 KiB, writes 1.5 KiB, 384 flop [384 rows of all]; then %2 freed
%7 = [3, 32] f32 product matmul(%3, %4) of 3 x 128 x 32, then {affine, softmax}(%5) over 3 rows of 32
    reads 17.5 KiB, writes 384 B, 25.2 kflop [3 rows of all]
%9 = [32, 3] f32 fused {contiguous}(%7 in strides [1, 32])
    reads 384 B, writes 384 B, 0 flop [1 row of all]; then %7 to the pool
%10 = [32, 3] u32 candle arg_sort_last_dim(%9)
    reads 384 B, writes 384 B, 96 flop [each apart]; then %9 freed
outputs %10, %3; 5 steps for 8 operations, 2 through Candle; reads 21.3 KiB, writes 4.1 KiB, \
25.7 kflop; at most 3.0 KiB of results at once; buffers to the pool: 1
in a batch: 4 of 5 steps run as one; of each fragment 12 B are brought together and 1.5 KiB taken out
";
    assert_eq!(explanation.to_string(), expected, "\n{explanation}");
}

#[test]
fn estimates_count_what_is_read_written_and_done() {
    let totals = |y: &LazyTensor, passes| {
        let explanation = Planner::new(passes, 0).explain(&fragment(&[y]));
        let (read, written) = (explanation.bytes_read(), explanation.bytes_written());
        (read, written, explanation.flops())
    };
    let (a, b) = (x(&[4, 8]), x(&[8, 2]));
    for passes in [Passes::NONE, Passes::ALL] {
        let product = a.matmul(&b).unwrap();
        assert_eq!(totals(&product, passes), ((32 + 16) * 4, 8 * 4, 2 * 64));
        let row = a.broadcast_add(&x(&[8])).unwrap();
        assert_eq!(totals(&row, passes), ((32 + 8) * 4, 32 * 4, 32));
        let sums = a.sum(1).unwrap();
        assert_eq!(totals(&sums, passes), (32 * 4, 4 * 4, 32));
    }
    // two operations as one step: what lies between is neither written nor read
    let y = a.exp().unwrap().neg().unwrap();
    assert_eq!(totals(&y, Passes::NONE), (256, 256, 64));
    assert_eq!(totals(&y, Passes::ALL), (128, 128, 64));
    // a view costs nothing; of a table only the rows that are asked for are read
    assert_eq!(totals(&a.t().unwrap(), Passes::NONE), (0, 0, 0));
    let ids = LazyTensor::new(&[0u32, 1], &Device::Cpu).unwrap();
    let rows = x(&[1000, 8]).index_select(&ids, 0).unwrap();
    assert_eq!(totals(&rows, Passes::NONE), (64 + 8, 64, 0));
}

#[test]
fn constants_are_folded_where_that_is_exact() {
    let full = |value: f32, dims: &[usize]| LazyTensor::full(value, dims, &Device::Cpu).unwrap();
    let simplify = Passes {
        simplify: true,
        ..Passes::NONE
    };
    let (two, three) = (full(2.0, &[2, 3]), full(3.0, &[3, 2]));
    let five = (&two + three.t().unwrap()).unwrap();
    let y = five.sqr().unwrap().to_dtype(DType::F64).unwrap();
    assert_eq!(plan(&[&y], simplify), ["%5 = [2, 3] f64 candle fill()"]);
    // not what an implementation decides, what is a parameter, and NaN
    assert_eq!(plan(&[&two.exp().unwrap()], simplify).len(), 2);
    assert_eq!(plan(&[&(&two * 2.0).unwrap()], simplify).len(), 2);
    assert_eq!(
        plan(&[&full(-1.0, &[2]).sqrt().unwrap()], simplify).len(),
        2
    );
    // not a large one in the place of small ones
    let wide = |x: &LazyTensor| x.broadcast_as((1000, 3)).unwrap();
    let (a, b) = (full(1.0, &[3]), full(2.0, &[3]));
    assert_eq!(plan(&[&(wide(&a) + wide(&b)).unwrap()], simplify).len(), 5);
    // data that exists is another fragment's to change
    let weight = x(&[2, 3]);
    assert_eq!(plan(&[&(&weight + &weight).unwrap()], simplify).len(), 1);
    assert_eq!(plan(&[&y], Passes::NONE).len(), 6);
}

#[test]
fn numbers_that_change_nothing_are_left_out_but_not_where_they_are_parameters() {
    let simplify = Passes {
        simplify: true,
        ..Passes::NONE
    };
    let ids = LazyTensor::new(&[1i64, 2], &Device::Cpu).unwrap();
    let same = ((&ids * 1.0).unwrap() + 0.0).unwrap().add(0i64).unwrap();
    let y = same.sub(1i64).unwrap();
    assert_eq!(plan(&[&y], simplify).len(), 1);
    let float = |x: LazyTensor| x.to_dtype(DType::F64).unwrap();
    let made = float(x(&[2])).exp().unwrap();
    let same = made.mul(1.0f64).unwrap().powf(1.0).unwrap();
    assert_eq!(plan(&[&same.sub(0.0f64).unwrap()], simplify).len(), 2);
    // -0 + 0 is 0
    let other = (float(x(&[2])) + 0.0).unwrap().add(0.0f64).unwrap();
    assert_eq!(plan(&[&other], simplify).len(), 3);
    // one plan for every number
    let planner = Planner::new(Passes::ALL, 16);
    for n in [1.0, 2.0] {
        let y = x(&[4]).powf(n).unwrap();
        drop(planner.prepare(fragment(&[&y])));
    }
    assert_eq!(planner.counts(), (1, 1));
}
