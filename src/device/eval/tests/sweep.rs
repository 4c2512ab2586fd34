//! The sweep: what Candle computes is accepted and comes out the same, bit for bit; what it
//! refuses or panics over is refused at the call.

use super::harness::{DTYPES, close, layouts, numbers, run, same};
use crate::graph::LazyTensor;
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{D, DType, Device, Module, Result, Tensor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// An operand of a case.
enum In {
    /// Of the dtype that is being swept.
    Any(&'static [usize]),
    /// Indices below a bound.
    Ids(&'static [usize], DType, u32),
    /// Of this dtype.
    Of(&'static [usize], DType),
}
use In::{Any, Ids, Of};

type Lazy = fn(&[LazyTensor]) -> crate::Result<LazyTensor>;
type Eager = fn(&[Tensor]) -> Result<Tensor>;

struct Case {
    name: &'static str,
    inputs: Vec<In>,
    lazy: Lazy,
    eager: Eager,
}

/// Methods that Candle has as functions.
trait Functions: Sized {
    fn softmax(&self, dim: impl candle_core::shape::Dim) -> Result<Self>;
    fn log_softmax(&self, dim: impl candle_core::shape::Dim) -> Result<Self>;
    fn sigmoid(&self) -> Result<Self>;
    fn rms_norm(&self, alpha: &Self, eps: f32) -> Result<Self>;
    fn layer_norm(&self, alpha: &Self, beta: &Self, eps: f32) -> Result<Self>;
    fn rope(&self, cos: &Self, sin: &Self) -> Result<Self>;
    fn rope_i(&self, cos: &Self, sin: &Self) -> Result<Self>;
    fn lora(&self, a: &Self, b: &Self, scale: f64) -> Result<Self>;
    fn qmatmul(&self, weight: &Arc<QTensor>) -> Result<Self>;
}

impl Functions for Tensor {
    fn softmax(&self, dim: impl candle_core::shape::Dim) -> Result<Self> {
        candle_nn::ops::softmax(self, dim)
    }
    fn log_softmax(&self, dim: impl candle_core::shape::Dim) -> Result<Self> {
        candle_nn::ops::log_softmax(self, dim)
    }
    fn sigmoid(&self) -> Result<Self> {
        candle_nn::ops::sigmoid(self)
    }
    fn rms_norm(&self, alpha: &Self, eps: f32) -> Result<Self> {
        candle_nn::ops::rms_norm(self, alpha, eps)
    }
    fn layer_norm(&self, alpha: &Self, beta: &Self, eps: f32) -> Result<Self> {
        candle_nn::ops::layer_norm(self, alpha, beta, eps)
    }
    fn rope(&self, cos: &Self, sin: &Self) -> Result<Self> {
        candle_nn::rotary_emb::rope(self, cos, sin)
    }
    fn rope_i(&self, cos: &Self, sin: &Self) -> Result<Self> {
        candle_nn::rotary_emb::rope_i(self, cos, sin)
    }
    fn lora(&self, a: &Self, b: &Self, scale: f64) -> Result<Self> {
        self.broadcast_matmul(a)?.broadcast_matmul(b)? * scale
    }
    fn qmatmul(&self, weight: &Arc<QTensor>) -> Result<Self> {
        QMatMul::from_arc(weight.clone())?.forward(self)
    }
}

fn weight(dtype: GgmlDType) -> Arc<QTensor> {
    let x = numbers(&[3, 32], DType::F32, 5);
    Arc::new(QTensor::quantize(&x, dtype).expect("32 columns are a block"))
}

macro_rules! cases {
    ($($name:literal [$($input:expr),*] |$($x:ident),*| $body:expr;)*) => {
        vec![$(Case {
            name: $name,
            inputs: vec![$($input),*],
            lazy: |v| { let [$($x),*] = v else { unreachable!() }; $body },
            eager: |v| { let [$($x),*] = v else { unreachable!() }; $body },
        }),*]
    };
}

const E: &[usize] = &[2, 3];

fn elementwise() -> Vec<Case> {
    cases! {
        "neg" [Any(E)] |x| x.neg();
        "recip" [Any(E)] |x| x.recip();
        "sqr" [Any(E)] |x| x.sqr();
        "sqrt" [Any(E)] |x| x.sqrt();
        "exp" [Any(E)] |x| x.exp();
        "log" [Any(E)] |x| x.log();
        "sin" [Any(E)] |x| x.sin();
        "cos" [Any(E)] |x| x.cos();
        "tanh" [Any(E)] |x| x.tanh();
        "erf" [Any(E)] |x| x.erf();
        "abs" [Any(E)] |x| x.abs();
        "floor" [Any(E)] |x| x.floor();
        "ceil" [Any(E)] |x| x.ceil();
        "round" [Any(E)] |x| x.round();
        "sign" [Any(E)] |x| x.sign();
        "relu" [Any(E)] |x| x.relu();
        "gelu" [Any(E)] |x| x.gelu();
        "gelu_erf" [Any(E)] |x| x.gelu_erf();
        "silu" [Any(E)] |x| x.silu();
        "sigmoid" [Any(E)] |x| x.sigmoid();
        "elu" [Any(E)] |x| x.elu(0.5);
        "powf" [Any(E)] |x| x.powf(2.5);
        "affine" [Any(E)] |x| x.affine(2.0, 1.0);
        "clamp" [Any(E)] |x| x.clamp(1f32, 2f32);
        "to u8" [Any(E)] |x| x.to_dtype(DType::U8);
        "to u32" [Any(E)] |x| x.to_dtype(DType::U32);
        "to i16" [Any(E)] |x| x.to_dtype(DType::I16);
        "to i32" [Any(E)] |x| x.to_dtype(DType::I32);
        "to i64" [Any(E)] |x| x.to_dtype(DType::I64);
        "to bf16" [Any(E)] |x| x.to_dtype(DType::BF16);
        "to f16" [Any(E)] |x| x.to_dtype(DType::F16);
        "to f32" [Any(E)] |x| x.to_dtype(DType::F32);
        "to f64" [Any(E)] |x| x.to_dtype(DType::F64);
        "to f8" [Any(E)] |x| x.to_dtype(DType::F8E4M3);
        "to f4" [Any(E)] |x| x.to_dtype(DType::F4);
        "zeros_like" [Any(E)] |x| x.zeros_like();
        "ones_like" [Any(E)] |x| x.ones_like();
        "add" [Any(E), Any(E)] |x, y| x.add(y);
        "sub" [Any(E), Any(E)] |x, y| x.add(y)?.sub(y);
        "mul" [Any(E), Any(E)] |x, y| x.mul(y);
        "div" [Any(E), Any(E)] |x, y| x.div(y);
        "maximum" [Any(E), Any(E)] |x, y| x.maximum(y);
        "minimum" [Any(E), Any(E)] |x, y| x.minimum(y);
        "maximum number" [Any(E)] |x| x.maximum(1.5f64);
        "minimum number" [Any(E)] |x| x.minimum(2u32);
        "pow" [Any(E), Any(E)] |x, y| x.pow(y);
        "eq" [Any(E), Any(E)] |x, y| x.eq(y);
        "ne" [Any(E), Any(E)] |x, y| x.ne(y);
        "lt" [Any(E), Any(E)] |x, y| x.lt(y);
        "le" [Any(E), Any(E)] |x, y| x.le(y);
        "gt" [Any(E), Any(E)] |x, y| x.gt(y);
        "ge" [Any(E), Any(E)] |x, y| x.ge(y);
        "ge number" [Any(E)] |x| x.ge(1i64);
        "mixed" [Any(E), Of(E, DType::F32)] |x, y| x.add(y);
        "where_cond" [Of(E, DType::U8), Any(E), Any(E)] |c, x, y| c.where_cond(x, y);
        "where_cond by" [Any(E), Of(E, DType::F32), Of(E, DType::F32)] |c, x, y| c.where_cond(x, y);
        "broadcast_add" [Any(&[2, 1]), Any(&[4, 1, 3])] |x, y| x.broadcast_add(y);
        "broadcast_sub" [Any(&[2, 3]), Any(&[1])] |x, y| x.broadcast_sub(y)?.broadcast_add(y);
        "broadcast_mul" [Any(&[2, 1]), Any(&[3])] |x, y| x.broadcast_mul(y);
        "broadcast_div" [Any(&[]), Any(&[3])] |x, y| x.broadcast_div(y);
        "broadcast_maximum" [Any(&[2, 1]), Any(&[3])] |x, y| x.broadcast_maximum(y);
        "broadcast_minimum" [Any(&[2, 1]), Any(&[3])] |x, y| x.broadcast_minimum(y);
        "broadcast_pow" [Any(&[2, 1]), Any(&[3])] |x, y| x.broadcast_pow(y);
        "broadcast_eq" [Any(&[2, 1]), Any(&[3])] |x, y| x.broadcast_eq(y);
        "broadcast_lt" [Any(&[2, 1]), Any(&[3])] |x, y| x.broadcast_lt(y);
        "broadcast bad" [Any(&[2, 2]), Any(&[3])] |x, y| x.broadcast_add(y);
        "operators" [Any(E), Any(E)] |x, y| ((x + y)? * 2.0)? + (x / y);
    }
}

fn reductions() -> Vec<Case> {
    cases! {
        "sum" [Any(&[2, 3, 4])] |x| x.sum(1);
        "sum last" [Any(&[2, 3, 4])] |x| x.sum(D::Minus1);
        "sum many" [Any(&[2, 3, 4])] |x| x.sum((2, 0));
        "sum none" [Any(&[2, 3])] |x| x.sum(());
        "sum_keepdim" [Any(&[2, 3, 4])] |x| x.sum_keepdim((0, 1));
        "sum_all" [Any(&[2, 3])] |x| x.sum_all();
        "sum twice" [Any(&[2, 3])] |x| x.sum((1, 1));
        "mean" [Any(&[2, 3, 4])] |x| x.mean((1, 2));
        "mean_keepdim" [Any(&[2, 3])] |x| x.mean_keepdim(0);
        "mean_all" [Any(&[2, 3])] |x| x.mean_all();
        "var" [Any(&[2, 3])] |x| x.var(1);
        "var_keepdim" [Any(&[3, 3])] |x| x.var_keepdim(0);
        "var of one" [Any(&[1, 3])] |x| x.var(0);
        "max" [Any(&[2, 3, 4])] |x| x.max(1);
        "max_keepdim" [Any(&[2, 3])] |x| x.max_keepdim(D::Minus1);
        "min" [Any(&[2, 3])] |x| x.min(0);
        "min_keepdim" [Any(&[1, 3])] |x| x.min_keepdim(0);
        "argmax" [Any(&[2, 3, 4])] |x| x.argmax(1);
        "argmax_keepdim" [Any(&[1, 3])] |x| x.argmax_keepdim(0);
        "argmin" [Any(&[2, 3])] |x| x.argmin(D::Minus2);
        "argmin_keepdim" [Any(&[2, 3])] |x| x.argmin_keepdim(1);
        "max_all" [Any(&[2, 3])] |x| x.max_all();
        "min_all" [Any(&[])] |x| x.min_all();
        "softmax" [Any(&[2, 3])] |x| x.softmax(D::Minus1);
        "softmax first" [Any(&[1, 3])] |x| x.softmax(0);
        "log_softmax" [Any(&[2, 3, 2])] |x| x.log_softmax(1);
        "rms_norm" [Any(&[2, 4]), Any(&[4])] |x, a| x.rms_norm(a, 1e-5);
        "layer_norm" [Any(&[2, 4]), Any(&[4]), Any(&[4])] |x, a, b| x.layer_norm(a, b, 1e-5);
        "argsort" [Any(&[2, 7])] |x| x.arg_sort_last_dim(true);
        "argsort down" [Any(&[2, 7])] |x| x.arg_sort_last_dim(false);
        "sort" [Any(&[2, 7])] |x| x.sort_last_dim(true).map(|s| s.0);
        "sort scalar" [Any(&[])] |x| x.sort_last_dim(true).map(|s| s.0);
    }
}

fn products() -> Vec<Case> {
    cases! {
        "matmul" [Any(&[2, 3]), Any(&[3, 4])] |x, y| x.matmul(y);
        "matmul t" [Any(&[2, 3]), Any(&[4, 3])] |x, y| x.matmul(&y.t()?);
        "matmul 3" [Any(&[2, 3, 2]), Any(&[2, 2, 3])] |x, y| x.matmul(y);
        "matmul 4" [Any(&[2, 2, 3, 2]), Any(&[2, 2, 2, 1])] |x, y| x.matmul(y);
        "matmul batches" [Any(&[2, 3, 1, 2]), Any(&[3, 2, 2, 1])] |x, y| x.matmul(y);
        "matmul bad" [Any(&[2, 3]), Any(&[2, 3])] |x, y| x.matmul(y);
        "matmul ranks" [Any(&[2, 2, 3]), Any(&[3, 2])] |x, y| x.matmul(y);
        "broadcast_matmul" [Any(&[2, 2, 3]), Any(&[3, 2])] |x, y| x.broadcast_matmul(y);
        "broadcast_matmul both" [Any(&[2, 1, 2, 3]), Any(&[3, 3, 2])] |x, y| x.broadcast_matmul(y);
        "broadcast_matmul left" [Any(&[2, 3]), Any(&[2, 3, 2])] |x, y| x.broadcast_matmul(y);
        "broadcast_matmul bad" [Any(&[2, 3]), Any(&[2, 2, 2])] |x, y| x.broadcast_matmul(y);
        "lora" [Any(&[2, 4]), Any(&[4, 2]), Any(&[2, 3])] |x, a, b| x.lora(a, b, 0.5);
        "lora 3" [Any(&[2, 2, 4]), Any(&[4, 2]), Any(&[2, 3])] |x, a, b| x.lora(a, b, 0.5);
        "qmatmul q8_0" [Any(&[2, 32])] |x| x.qmatmul(&weight(GgmlDType::Q8_0));
        "qmatmul q4_0" [Any(&[2, 2, 32])] |x| x.qmatmul(&weight(GgmlDType::Q4_0));
        "qmatmul f32" [Any(&[2, 32])] |x| x.qmatmul(&weight(GgmlDType::F32));
        "qmatmul f16" [Any(&[2, 2, 32])] |x| x.qmatmul(&weight(GgmlDType::F16));
        "qmatmul bad" [Any(&[2, 31])] |x| x.qmatmul(&weight(GgmlDType::Q8_0));
        "rope" [Any(&[2, 2, 3, 4]), Any(&[3, 2]), Any(&[5, 2])] |x, c, s| x.rope(c, s);
        "rope batched" [Any(&[2, 2, 3, 4]), Any(&[2, 3, 2]), Any(&[2, 3, 2])] |x, c, s| x.rope(c, s);
        "rope one" [Any(&[2, 2, 1, 4]), Any(&[1, 2]), Any(&[1, 2])] |x, c, s| x.rope(c, s);
        "rope_i" [Any(&[2, 2, 3, 4]), Any(&[3, 2]), Any(&[3, 2])] |x, c, s| x.rope_i(c, s);
        "rope bad" [Any(&[2, 2, 3, 4]), Any(&[3, 4]), Any(&[3, 2])] |x, c, s| x.rope(c, s);
        "conv1d" [Any(&[2, 3, 7]), Any(&[4, 3, 3])] |x, k| x.conv1d(k, 1, 2, 1, 1);
        "conv1d groups" [Any(&[2, 4, 7]), Any(&[4, 2, 3])] |x, k| x.conv1d(k, 1, 1, 2, 2);
        "conv1d bad" [Any(&[2, 3, 7]), Any(&[4, 2, 3])] |x, k| x.conv1d(k, 1, 1, 1, 1);
        "conv1d long" [Any(&[2, 3, 2]), Any(&[4, 3, 5])] |x, k| x.conv1d(k, 1, 1, 1, 1);
        "conv2d" [Any(&[2, 3, 5, 6]), Any(&[4, 3, 3, 2])] |x, k| x.conv2d(k, 1, 2, 1, 1);
        "conv2d 1x1" [Any(&[2, 3, 4, 4]), Any(&[4, 3, 1, 1])] |x, k| x.conv2d(k, 0, 1, 1, 1);
        "conv2d 1x1 stride" [Any(&[2, 3, 4, 4]), Any(&[4, 3, 1, 1])] |x, k| x.conv2d(k, 1, 2, 1, 1);
        "conv2d groups" [Any(&[1, 4, 4, 4]), Any(&[4, 1, 2, 2])] |x, k| x.conv2d(k, 0, 1, 1, 4);
        "conv2d dilation" [Any(&[1, 2, 6, 6]), Any(&[2, 2, 2, 2])] |x, k| x.conv2d(k, 0, 1, 2, 1);
        "max_pool2d" [Any(&[2, 2, 4, 5])] |x| x.max_pool2d(2);
        "max_pool2d stride" [Any(&[1, 2, 5, 5])] |x| x.max_pool2d_with_stride((3, 2), (1, 2));
        "avg_pool2d" [Any(&[2, 2, 4, 4])] |x| x.avg_pool2d((2, 2));
        "avg_pool2d stride" [Any(&[2, 2, 4, 4])] |x| x.avg_pool2d_with_stride(3, 1);
        "pool bad" [Any(&[2, 2, 2, 4])] |x| x.avg_pool2d(3);
        "upsample_nearest2d" [Any(&[2, 2, 2, 3])] |x| x.upsample_nearest2d(5, 2);
    }
}

fn shapes() -> Vec<Case> {
    cases! {
        "reshape" [Any(&[2, 6])] |x| x.reshape((3, (), 2));
        "reshape bad" [Any(&[2, 6])] |x| x.reshape((5, 2));
        "reshape hole" [Any(&[2, 6])] |x| x.reshape((5, ()));
        "flatten" [Any(&[2, 3, 4])] |x| x.flatten(1, 2);
        "flatten_to" [Any(&[2, 3, 4])] |x| x.flatten_to(1);
        "flatten_from" [Any(&[2, 3, 4])] |x| x.flatten_from(D::Minus2);
        "flatten_all" [Any(&[])] |x| x.flatten_all();
        "squeeze" [Any(&[2, 1, 3])] |x| x.squeeze(1);
        "squeeze other" [Any(&[2, 1, 3])] |x| x.squeeze(0);
        "unsqueeze" [Any(&[2, 3])] |x| x.unsqueeze(D::Minus1);
        "unsqueeze bad" [Any(&[2, 3])] |x| x.unsqueeze(3);
        "transpose" [Any(&[2, 3, 4])] |x| x.transpose(0, D::Minus1);
        "t" [Any(&[2, 3, 4])] |x| x.t();
        "t bad" [Any(&[2])] |x| x.t();
        "permute" [Any(&[2, 3, 4])] |x| x.permute((2, 0, 1));
        "permute bad" [Any(&[2, 3, 4])] |x| x.permute((2, 0));
        "narrow" [Any(&[2, 5])] |x| x.narrow(1, 2, 2);
        "narrow bad" [Any(&[2, 5])] |x| x.narrow(1, 4, 2);
        "get" [Any(&[3, 2])] |x| x.get(2);
        "get_on_dim" [Any(&[3, 2])] |x| x.get_on_dim(1, 1);
        "i" [Any(&[3, 4, 2])] |x| {
            use candle_core::IndexOp;
            x.i((1.., ..=2, 0))
        };
        "i bad" [Any(&[3, 4])] |x| {
            use candle_core::IndexOp;
            x.i((.., 1..6))
        };
        "i ids" [Any(&[3, 4])] |x| {
            use candle_core::IndexOp;
            x.i((vec![2u32, 0], 1))
        };
        "chunk" [Any(&[5, 2])] |x| Ok(x.chunk(3, 0)?.swap_remove(1));
        "broadcast_as" [Any(&[2, 1])] |x| x.broadcast_as((3, 2, 4));
        "broadcast_as bad" [Any(&[2, 2])] |x| x.broadcast_as((2, 4));
        "broadcast_left" [Any(&[2, 1])] |x| x.broadcast_left(3);
        "expand" [Any(&[2, 1])] |x| x.expand((2, 3));
        "contiguous" [Any(&[2, 3])] |x| x.t()?.contiguous();
        "repeat" [Any(&[2, 3])] |x| x.repeat((2, 1, 2));
        "repeat short" [Any(&[2, 3])] |x| x.repeat(2);
        "repeat none" [Any(&[2, 3])] |x| x.repeat((2, 0));
        "pad_with_zeros" [Any(&[2, 3])] |x| x.pad_with_zeros(1, 1, 2);
        "pad_with_zeros right" [Any(&[2, 3])] |x| x.pad_with_zeros(0, 0, 2);
        "cat" [Any(&[2, 3]), Any(&[2, 1])] |x, y| Concat::cat_of(&[x, y], 1);
        "cat 0" [Any(&[2, 3]), Any(&[1, 3])] |x, y| Concat::cat_of(&[x, y], 0);
        "cat bad" [Any(&[2, 3]), Any(&[1, 3])] |x, y| Concat::cat_of(&[x, y], 1);
        "cat mixed" [Any(&[2, 3]), Of(&[2, 3], DType::F32)] |x, y| Concat::cat_of(&[x, y], 1);
        "stack" [Any(&[2, 3]), Any(&[2, 3])] |x, y| Concat::stack_of(&[x, y], 1);
        "stack bad" [Any(&[2, 3]), Any(&[2, 1])] |x, y| Concat::stack_of(&[x, y], 1);
        "index_select" [Any(&[3, 4]), Ids(&[5], DType::U32, 4)] |x, i| x.index_select(i, 1);
        "index_select u8" [Any(&[3, 4]), Ids(&[2], DType::U8, 3)] |x, i| x.index_select(i, 0);
        "index_select by" [Of(&[30, 4], DType::F32), Any(&[2])] |x, i| x.index_select(i, 0);
        "embedding" [Any(&[3, 4]), Ids(&[5], DType::I64, 3)] |x, i| x.embedding(i);
        "gather" [Any(&[3, 4]), Ids(&[3, 2], DType::U32, 4)] |x, i| x.gather(i, 1);
        "gather by" [Of(&[30, 4], DType::F32), Any(&[2, 4])] |x, i| x.gather(i, 0);
        "gather bad" [Any(&[3, 4]), Ids(&[4, 2], DType::U32, 4)] |x, i| x.gather(i, 1);
        "scatter_add" [Any(&[3, 4]), Ids(&[3, 5], DType::U32, 4), Any(&[3, 5])]
            |x, i, s| x.scatter_add(i, s, 1);
        "scatter_add by" [Of(&[30, 4], DType::F32), Any(&[2, 4]), Of(&[2, 4], DType::F32)]
            |x, i, s| x.scatter_add(i, s, 0);
        "index_add" [Any(&[3, 4]), Ids(&[2], DType::U8, 3), Any(&[2, 4])]
            |x, i, s| x.index_add(i, s, 0);
        "index_add 1" [Any(&[3, 4]), Ids(&[2], DType::I64, 4), Any(&[3, 2])]
            |x, i, s| x.index_add(i, s, 1);
        "index_add by" [Of(&[30, 4], DType::F32), Any(&[2]), Of(&[2, 4], DType::F32)]
            |x, i, s| x.index_add(i, s, 0);
    }
}

/// `LazyTensor::cat` or `Tensor::cat`, as the operands are.
trait Concat: Sized {
    type Out;
    fn cat_of(xs: &[&Self], dim: usize) -> Self::Out;
    fn stack_of(xs: &[&Self], dim: usize) -> Self::Out;
}

impl Concat for Tensor {
    type Out = Result<Tensor>;
    fn cat_of(xs: &[&Self], dim: usize) -> Self::Out {
        Tensor::cat(xs, dim)
    }
    fn stack_of(xs: &[&Self], dim: usize) -> Self::Out {
        Tensor::stack(xs, dim)
    }
}

impl Concat for LazyTensor {
    type Out = crate::Result<LazyTensor>;
    fn cat_of(xs: &[&Self], dim: usize) -> Self::Out {
        LazyTensor::cat(xs, dim)
    }
    fn stack_of(xs: &[&Self], dim: usize) -> Self::Out {
        LazyTensor::stack(xs, dim)
    }
}

/// What became of a call.
enum Outcome {
    Value(Tensor),
    Refused(String),
    Panicked,
}

fn guard<E: std::fmt::Display>(f: impl FnOnce() -> std::result::Result<Tensor, E>) -> Outcome {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => Outcome::Value(value),
        Ok(Err(error)) => Outcome::Refused(error.to_string()),
        Err(_) => Outcome::Panicked,
    }
}

fn operands(case: &Case, dtype: DType) -> Vec<Tensor> {
    let ids = |shape: &[usize], max: u32| {
        let count = shape.iter().product::<usize>() as u32;
        Tensor::from_vec((0..count).map(|i| i * 3 % max).collect(), shape, &Device::Cpu)
    };
    (case.inputs.iter().enumerate())
        .map(|(salt, input)| match *input {
            Any(shape) => numbers(shape, dtype, salt),
            Of(shape, dtype) => numbers(shape, dtype, salt),
            Ids(shape, dtype, max) => {
                ids(shape, max).and_then(|x| x.to_dtype(dtype)).expect("integers")
            }
        })
        .collect()
}

/// Compares one case for one dtype and one set of operands. Says what is wrong.
fn compare(case: &Case, inputs: &[Tensor], plain: &[Tensor]) -> std::result::Result<(), String> {
    let lazy: Vec<LazyTensor> = inputs.iter().map(LazyTensor::from).collect();
    let built = catch_unwind(AssertUnwindSafe(|| (case.lazy)(&lazy))).map_err(|_| "the call panicked")?;
    let eager = guard(|| (case.eager)(inputs));
    let plain = guard(|| (case.eager)(plain));
    match (built, plain) {
        (Ok(lazy), Outcome::Value(plain)) => {
            let lazy = match guard(|| run(&lazy).map_err(|e| format!("{e:?}"))) {
                Outcome::Value(lazy) => lazy,
                Outcome::Refused(e) => return Err(format!("failed: {e}")),
                Outcome::Panicked => return Err("panicked while it ran".into()),
            };
            if !close(&lazy, &plain) {
                return Err(format!("lazy {lazy} is not {plain}"));
            }
            match eager {
                // where Candle is right in this layout, to the bit
                Outcome::Value(eager) if close(&eager, &plain) && !same(&lazy, &eager) => {
                    Err(format!("lazy {lazy} is not to the bit {eager}"))
                }
                Outcome::Value(eager) if !close(&eager, &plain) => {
                    eprintln!("candle is wrong: {}", case.name);
                    Ok(())
                }
                _ => Ok(()),
            }
        }
        (Ok(lazy), Outcome::Refused(e)) => Err(format!("accepted as {lazy:?}; candle: {e}")),
        (Ok(lazy), Outcome::Panicked) => Err(format!("accepted as {lazy:?}; candle panics")),
        (Err(e), Outcome::Value(_)) => Err(format!("refused: {e}")),
        (Err(_), _) => Ok(()),
    }
}

fn sweep(cases: &[Case]) {
    let mut wrong = Vec::new();
    let mut accepted = 0;
    for case in cases {
        for dtype in DTYPES {
            let plain = operands(case, dtype);
            let variants: Vec<Vec<_>> = plain.iter().map(layouts).collect();
            let most = variants.iter().map(Vec::len).max().unwrap_or(1);
            // every operand in the same layout, then one after the other
            let mut picks: Vec<Vec<usize>> = (0..most).map(|i| vec![i; plain.len()]).collect();
            for (k, variants) in variants.iter().enumerate() {
                picks.extend((1..variants.len()).map(|i| {
                    let mut pick = vec![0; plain.len()];
                    pick[k] = i;
                    pick
                }));
            }
            for pick in picks {
                let chosen: Vec<_> = (pick.iter().zip(&variants))
                    .map(|(&i, v)| v[i.min(v.len() - 1)].clone())
                    .collect();
                let inputs: Vec<Tensor> = chosen.iter().map(|c| c.1.clone()).collect();
                match compare(case, &inputs, &plain) {
                    Ok(()) => accepted += 1,
                    Err(why) => {
                        let layouts: Vec<_> = chosen.iter().map(|c| c.0).collect();
                        wrong.push(format!("{} {dtype:?} {layouts:?}: {why}", case.name));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), accepted + wrong.len(), wrong.join("\n"));
    assert!(accepted > 100);
}

#[test]
fn elementwise_operations() {
    sweep(&elementwise());
}

#[test]
fn reductions_and_sorting() {
    sweep(&reductions());
}

#[test]
fn products_and_images() {
    sweep(&products());
}

#[test]
fn shapes_and_indices() {
    sweep(&shapes());
}
