//! Mistakes are found at the call, and the message says which operation, which operands, why.

use super::LazyTensor;
use crate::error::{Error, Result};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{D, DType, Device, DeviceLocation, Tensor};
use std::sync::Arc;

fn of(shape: &[usize], dtype: DType) -> LazyTensor {
    LazyTensor::zeros(shape, dtype, &Device::Cpu).expect("a small shape")
}

fn f32s(shape: &[usize]) -> LazyTensor {
    of(shape, DType::F32)
}

/// On a device that is not there: nothing of it is needed to build a graph.
fn elsewhere(shape: &[usize]) -> LazyTensor {
    let location = DeviceLocation::Cuda { gpu_id: 0 };
    let x = f32s(shape);
    LazyTensor::from_op(
        super::Op::Affine { mul: 1.0, add: 0.0 },
        [x.clone()].into_iter().collect(),
        x.0.dims.clone(),
        DType::F32,
        location,
    )
}

#[track_caller]
fn says<T>(result: Result<T>, message: &str) {
    match result {
        Err(error @ Error::Invalid(_)) => assert_eq!(error.to_string(), message),
        Err(other) => panic!("another kind of error: {other:?}"),
        Ok(_) => panic!("accepted"),
    }
}

#[test]
fn shapes_that_do_not_agree() {
    let (x, y) = (f32s(&[2, 3]), f32s(&[2, 2]));
    says(
        x.add(&y),
        "add([2, 3] f32, [2, 2] f32): the shapes do not agree",
    );
    says(
        &x * &y,
        "mul([2, 3] f32, [2, 2] f32): the shapes do not agree",
    );
    says(
        x.eq(&y),
        "eq([2, 3] f32, [2, 2] f32): the shapes do not agree",
    );
    says(
        x.pow(&y),
        "pow([2, 3] f32, [2, 2] f32): the shapes do not agree",
    );
    says(
        x.broadcast_sub(&y),
        "broadcast_sub([2, 3] f32, [2, 2] f32): the shapes cannot be broadcast together",
    );
    says(
        x.matmul(&x),
        "matmul([2, 3] f32, [2, 3] f32): the shapes do not agree",
    );
    says(
        f32s(&[3]).matmul(&f32s(&[3])),
        "matmul([3] f32, [3] f32): the shapes do not agree",
    );
    says(
        f32s(&[2, 1, 3]).broadcast_matmul(&f32s(&[3, 3, 1])),
        "broadcast_matmul([2, 1, 3] f32, [3, 3, 1] f32): the shapes cannot be broadcast together",
    );
    says(
        x.broadcast_matmul(&y),
        "broadcast_matmul([2, 3] f32, [2, 2] f32): the shapes do not agree",
    );
}

#[test]
fn more_shapes_that_do_not_agree() {
    let (x, y) = (f32s(&[2, 3]), f32s(&[2, 2]));
    let ids = of(&[2], DType::U32);
    says(
        x.where_cond(&x, &y),
        "where_cond([2, 3] f32, [2, 3] f32, [2, 2] f32): the shapes do not agree",
    );
    says(
        x.rms_norm(&f32s(&[2]), 1e-5),
        "rms_norm([2, 3] f32, [2] f32): the shapes do not agree",
    );
    says(
        x.layer_norm(&f32s(&[3]), &f32s(&[2]), 1e-5),
        "layer_norm([2, 3] f32, [3] f32, [2] f32): the shapes do not agree",
    );
    says(
        x.lora(&y, &y, 1.0),
        "lora([2, 3] f32, [2, 2] f32, [2, 2] f32): the shapes do not agree",
    );
    says(
        LazyTensor::cat(&[&x, &y], 0),
        "cat([2, 3] f32, [2, 2] f32): the shapes do not agree",
    );
    says(
        LazyTensor::stack(&[&x, &y], 0),
        "stack([2, 3] f32, [2, 2] f32): the shapes do not agree",
    );
    says(
        x.index_select(&of(&[1, 2], DType::U32), 0),
        "index_select([2, 3] f32, [1, 2] u32): the shapes do not agree",
    );
    says(
        f32s(&[2]).embedding(&ids),
        "embedding([2] f32, [2] u32): the shapes do not agree",
    );
    says(
        x.gather(&of(&[3, 3], DType::U32), 1),
        "gather([2, 3] f32, [3, 3] u32): the shapes do not agree",
    );
    says(
        x.scatter_add(&of(&[2, 2], DType::U32), &x, 1),
        "scatter_add([2, 3] f32, [2, 2] u32, [2, 3] f32): the shapes do not agree",
    );
    says(
        x.index_add(&ids, &x, 1),
        "index_add([2, 3] f32, [2] u32, [2, 3] f32): the shapes do not agree",
    );
    says(
        x.broadcast_as((2, 4)),
        "broadcast_as([2, 3] f32): the shapes cannot be broadcast together",
    );
    let heads = f32s(&[2, 1, 3, 4]);
    says(
        heads.rope(&f32s(&[3, 2]), &f32s(&[2, 3, 2])),
        "rope([2, 1, 3, 4] f32, [3, 2] f32, [2, 3, 2] f32): the shapes do not agree",
    );
    says(
        heads.rope_i(&f32s(&[2, 2]), &f32s(&[2, 2])),
        "rope_i([2, 1, 3, 4] f32, [2, 2] f32, [2, 2] f32): the shapes do not agree",
    );
    says(
        f32s(&[1, 3, 8]).conv1d(&f32s(&[4, 2, 3]), 0, 1, 1, 1),
        "conv1d([1, 3, 8] f32, [4, 2, 3] f32): the shapes do not agree",
    );
}

#[test]
fn dtypes() {
    let (x, half) = (f32s(&[2, 2]), of(&[2, 2], DType::F16));
    let ids = of(&[2, 2], DType::U32);
    says(
        x.add(&half),
        "add([2, 2] f32, [2, 2] f16): the dtypes differ",
    );
    says(
        x.broadcast_lt(&half),
        "broadcast_lt([2, 2] f32, [2, 2] f16): the dtypes differ",
    );
    says(
        x.matmul(&half),
        "matmul([2, 2] f32, [2, 2] f16): the dtypes differ",
    );
    says(
        LazyTensor::cat(&[&x, &half], 0),
        "cat([2, 2] f32, [2, 2] f16): the dtypes differ",
    );
    says(ids.exp(), "exp([2, 2] u32): not supported for u32");
    says(ids.neg(), "neg([2, 2] u32): not supported for u32");
    says(
        of(&[2], DType::I64).neg(),
        "neg([2] i64): not supported for i64",
    );
    says(ids.sqrt(), "sqrt([2, 2] u32): not supported for u32");
    says(ids.powf(2.0), "powf([2, 2] u32): not supported for u32");
    says(ids.softmax(0), "softmax([2, 2] u32): not supported for u32");
    says(ids.var(0), "var([2, 2] u32): not supported for u32");
    says(
        ids.matmul(&ids),
        "matmul([2, 2] u32, [2, 2] u32): not supported for u32",
    );
    says(
        of(&[2], DType::F8E4M3).sigmoid(),
        "sigmoid([2] f8e4m3): not supported for f8e4m3",
    );
    let double = of(&[2, 2], DType::F64);
    says(
        double.rms_norm(&of(&[2], DType::F64), 1e-5),
        "rms_norm([2, 2] f64, [2] f64): not supported for f64",
    );
    says(
        x.where_cond(&x, &x),
        "where_cond([2, 2] f32, [2, 2] f32, [2, 2] f32): not supported for f32",
    );
    says(
        x.gather(&x, 0),
        "gather([2, 2] f32, [2, 2] f32): not supported for f32",
    );
    says(
        x.to_dtype(DType::F4),
        "to_dtype([2, 2] f32): not supported for f4",
    );
    says(
        LazyTensor::zeros(2, DType::F8E8M0, &Device::Cpu),
        "zeros([2] f8e8m0): not supported for f8e8m0",
    );
    let weight = Tensor::zeros((2, 32), DType::F32, &Device::Cpu).expect("small");
    let weight = Arc::new(QTensor::quantize(&weight, GgmlDType::Q8_0).expect("one block"));
    says(
        of(&[1, 32], DType::F64).qmatmul(&weight),
        "qmatmul([1, 32] f64, [2, 32] f32): not supported for f64",
    );
    says(
        x.qmatmul(&weight),
        "qmatmul([2, 2] f32, [2, 32] f32): the shapes do not agree",
    );
}

#[test]
fn dimensions_and_ranges() {
    let x = f32s(&[2, 3]);
    says(x.sum(2), "sum([2, 3] f32): no dimension 2 in rank 2");
    says(x.sum((0, 0)), "sum([2, 3] f32): dimension 0 is named twice");
    says(
        x.max(D::Minus(3)),
        "max([2, 3] f32): no dimension -3 in rank 2",
    );
    says(
        x.softmax(5),
        "softmax([2, 3] f32): no dimension 5 in rank 2",
    );
    says(
        x.transpose(0, 2),
        "transpose([2, 3] f32): no dimension 2 in rank 2",
    );
    says(
        x.unsqueeze(3),
        "unsqueeze([2, 3] f32): no dimension 3 in rank 2",
    );
    says(
        x.permute(0),
        "permute([2, 3] f32): dims must be a permutation of all dimensions",
    );
    says(
        f32s(&[2]).t(),
        "t([2] f32): takes at least rank 2, got rank 1",
    );
    says(x.dims3(), "dims3([2, 3] f32): takes rank 3, got rank 2");
    says(
        x.narrow(1, 2, 2),
        "narrow([2, 3] f32): 2 elements from 2 do not fit in dimension 1 of size 3",
    );
    says(
        x.narrow(0, 1, usize::MAX),
        "narrow([2, 3] f32): 18446744073709551615 elements from 1 do not fit in dimension 0 of size 2",
    );
    says(
        x.get(2),
        "get([2, 3] f32): 1 elements from 2 do not fit in dimension 0 of size 2",
    );
    says(x.i((0, 1, 0)), "i([] f32): no dimension 0 in rank 0");
    says(
        x.i((.., ..=3)),
        "i([2, 3] f32): 4 elements from 0 do not fit in dimension 1 of size 3",
    );
    says(
        x.reshape((4, 2)),
        "reshape([2, 3] f32): 6 elements cannot fill a shape of 8",
    );
    says(
        x.reshape((4, ())),
        "reshape([2, 3] f32): 6 elements cannot fill a shape of 4",
    );
    says(
        x.reshape((0, ())),
        "reshape([2, 3] f32): 6 elements cannot fill a shape of 0",
    );
    says(
        LazyTensor::from_vec(vec![1u8], 2, &Device::Cpu),
        "from_vec(): 1 elements cannot fill a shape of 2",
    );
}

#[test]
fn nothing_to_work_with() {
    let none: [LazyTensor; 0] = [];
    says(
        LazyTensor::cat(&none, 0),
        "cat(): needs at least one tensor",
    );
    says(
        LazyTensor::stack(&none, 0),
        "stack(): needs at least one tensor",
    );
    let empty = f32s(&[2, 0]);
    says(
        empty.max(1),
        "max([2, 0] f32): the tensor must be non-empty",
    );
    says(
        empty.argmin_keepdim(0),
        "argmin_keepdim([2, 0] f32): the tensor must be non-empty",
    );
    says(
        empty.max_all(),
        "max_all([2, 0] f32): the tensor must be non-empty",
    );
    says(
        empty.log_softmax(0),
        "log_softmax([2, 0] f32): the tensor must be non-empty",
    );
    says(
        empty.var(1),
        "var([2, 0] f32): the dimension must be non-empty",
    );
    says(
        f32s(&[]).sort_last_dim(true),
        "sort_last_dim([] f32): takes at least one dimension, got rank 0",
    );
    says(
        f32s(&[1, 1, 0, 2]).upsample_nearest2d(2, 2),
        "upsample_nearest2d([1, 1, 0, 2] f32): the image must be non-empty",
    );
}

#[test]
fn arguments() {
    let x = f32s(&[1, 4, 6, 6]);
    let kernel = f32s(&[4, 4, 3, 3]);
    let conv = |p, s, d, g| x.conv2d(&kernel, p, s, d, g);
    let both = "conv2d([1, 4, 6, 6] f32, [4, 4, 3, 3] f32)";
    says(
        conv(0, 0, 1, 1),
        &format!("{both}: stride must be at least 1"),
    );
    says(
        conv(0, 1, 1, 0),
        &format!("{both}: groups must be at least 1"),
    );
    says(
        conv(0, 1, 1, 2),
        &format!("{both}: the shapes do not agree"),
    );
    says(
        conv(0, 1, 3, 1),
        &format!("{both}: the kernel must be no larger than the padded input"),
    );
    says(
        conv(usize::MAX / 2, 1, 1, 1),
        &format!("{both}: the number of elements overflows"),
    );
    says(
        conv(0, 1, usize::MAX, 1),
        &format!("{both}: the number of elements overflows"),
    );
    says(
        conv(1 << 40, 1, 1, 1),
        &format!("{both}: the number of elements overflows"),
    );
    says(
        x.conv2d(&f32s(&[3, 2, 1, 1]), 0, 1, 1, 2),
        "conv2d([1, 4, 6, 6] f32, [3, 2, 1, 1] f32): groups must be a divisor of the number of output channels",
    );
    says(
        x.conv2d(&f32s(&[3, 4, 0, 1]), 0, 1, 1, 1),
        "conv2d([1, 4, 6, 6] f32, [3, 4, 0, 1] f32): the kernel must be non-empty",
    );
    says(
        x.conv1d(&kernel, 0, 1, 1, 1),
        "conv1d([1, 4, 6, 6] f32, [4, 4, 3, 3] f32): takes rank 3, got rank 4",
    );
    says(
        x.max_pool2d(0),
        "max_pool2d([1, 4, 6, 6] f32): size must be at least 1",
    );
    says(
        x.avg_pool2d(7),
        "avg_pool2d([1, 4, 6, 6] f32): size must be no larger than the image",
    );
    says(
        x.avg_pool2d_with_stride(2, 0),
        "avg_pool2d_with_stride([1, 4, 6, 6] f32): stride must be at least 1",
    );
    says(
        x.chunk(0, 1),
        "chunk([1, 4, 6, 6] f32): chunks must be at least 1",
    );
    let cpu = &Device::Cpu;
    says(
        LazyTensor::arange_step(0f32, 1.0, 0.0, cpu),
        "arange_step(): step must be a number other than 0",
    );
    says(
        LazyTensor::arange_step(0f32, 1.0, f32::NAN, cpu),
        "arange_step(): step must be a number other than 0",
    );
    says(
        LazyTensor::arange(0f32, 3e7, cpu),
        "arange(): step must be large enough to reach the end",
    );
    says(
        LazyTensor::arange(0f64, f64::INFINITY, cpu),
        "arange(): the number of elements overflows",
    );
    says(
        LazyTensor::arange(0i64, i64::MAX, cpu),
        "arange(): the number of elements overflows",
    );
    assert!(LazyTensor::new(vec![vec![1u8], vec![]], cpu).is_err());
}

#[test]
fn products_that_overflow() {
    let x = f32s(&[2, 3]);
    let overflows = |op: &str| format!("{op}([2, 3] f32): the number of elements overflows");
    says(x.reshape((usize::MAX, 2)), &overflows("reshape"));
    says(x.reshape((usize::MAX, 2, ())), &overflows("reshape"));
    says(
        x.broadcast_as((usize::MAX, 2, 3)),
        &overflows("broadcast_as"),
    );
    says(
        x.broadcast_left((usize::MAX, 0)),
        &overflows("broadcast_as"),
    );
    says(x.repeat((usize::MAX, 1)), &overflows("repeat"));
    says(x.repeat((1 << 40, 1 << 40)), &overflows("repeat"));
    says(
        x.pad_with_zeros(0, usize::MAX, 0),
        &overflows("pad_with_zeros"),
    );
    says(
        x.pad_with_zeros(0, usize::MAX / 2, usize::MAX / 2),
        &overflows("pad_with_zeros"),
    );
    says(
        f32s(&[1, 1, 2, 3]).upsample_nearest2d(usize::MAX, 2),
        "upsample_nearest2d([1, 1, 2, 3] f32): the number of elements overflows",
    );
    let long = f32s(&[1, 1]).broadcast_as((1 << 40, 1)).expect("a view");
    let wide = long.t().expect("a view");
    let shapes = "([1099511627776, 1] f32, [1, 1099511627776] f32)";
    says(
        long.matmul(&wide),
        &format!("matmul{shapes}: the number of elements overflows"),
    );
    says(
        long.broadcast_add(&wide),
        &format!("broadcast_add{shapes}: the number of elements overflows"),
    );
    says(
        LazyTensor::zeros((usize::MAX, 2), DType::U8, &Device::Cpu),
        "zeros([18446744073709551615, 2] u8): the number of elements overflows",
    );
    says(
        LazyTensor::full(1f64, usize::MAX / 8, &Device::Cpu),
        "full([2305843009213693951] f64): the number of elements overflows",
    );
    says(
        LazyTensor::from_vec(vec![0u8; 2], (usize::MAX, 2), &Device::Cpu),
        "from_vec(): the number of elements overflows",
    );
    let half = f32s(&[1]).broadcast_as(1usize << 60).expect("a view");
    says(
        LazyTensor::cat(&[&half, &half], 0),
        "cat([1152921504606846976] f32, [1152921504606846976] f32): the number of elements overflows",
    );
}

#[test]
fn different_devices() {
    let (x, y) = (f32s(&[2, 2]), elsewhere(&[2, 2]));
    let on = "the operands are on Cpu and Cuda { gpu_id: 0 }";
    let both = "[2, 2] f32, [2, 2] f32";
    says(x.add(&y), &format!("add({both}): {on}"));
    says(x.broadcast_mul(&y), &format!("broadcast_mul({both}): {on}"));
    says(x.matmul(&y), &format!("matmul({both}): {on}"));
    says(LazyTensor::cat(&[&x, &y], 0), &format!("cat({both}): {on}"));
    says(
        x.layer_norm(&elsewhere(&[2]), &f32s(&[2]), 1e-5),
        &format!("layer_norm([2, 2] f32, [2] f32, [2] f32): {on}"),
    );
    // and moving it makes them one
    assert!(x.add(&y.to_device(&Device::Cpu).expect("a copy")).is_ok());
}
