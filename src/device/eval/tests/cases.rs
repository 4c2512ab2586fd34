//! The calls that the sweep makes, written once for lazy tensors and for Candle's.

use super::harness::numbers;
use crate::graph::LazyTensor;
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{D, DType, IndexOp, Module, Result, Tensor};
use std::sync::Arc;

/// An operand of a case.
pub(super) enum In {
    /// Of the dtype that is being swept.
    Any(&'static [usize]),
    /// Indices below a bound.
    Ids(&'static [usize], DType, u32),
    /// Of this dtype.
    Of(&'static [usize], DType),
}
use In::{Any, Ids, Of};

pub(super) type Lazy = fn(&[LazyTensor]) -> crate::error::Result<LazyTensor>;
pub(super) type Eager = fn(&[Tensor]) -> Result<Tensor>;

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) inputs: Vec<In>,
    pub(super) lazy: Lazy,
    pub(super) eager: Eager,
}

/// Methods that Candle has as functions.
trait Functions: Sized {
    fn softmax(&self, dim: impl candle_core::shape::Dim) -> Result<Self>;
    fn softmax_last_dim(&self) -> Result<Self>;
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
    fn softmax_last_dim(&self) -> Result<Self> {
        candle_nn::ops::softmax_last_dim(self)
    }
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

pub(super) fn elementwise() -> Vec<Case> {
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
        "to f64" [Any(E)] |x| if x.dtype() == DType::F8E4M3 {
            x.to_dtype(DType::F32)?.to_dtype(DType::F64) // Candle never returns
        } else {
            x.to_dtype(DType::F64)
        };
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
        "broadcast_sub" [Any(&[2, 3]), Any(&[1])] |x, y| x.broadcast_add(y)?.broadcast_sub(y);
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

pub(super) fn reductions() -> Vec<Case> {
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
        "softmax_last_dim" [Any(&[2, 3])] |x| x.softmax_last_dim();
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

pub(super) fn products() -> Vec<Case> {
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

pub(super) fn shapes() -> Vec<Case> {
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
            x.i((1.., ..=2, 0))
        };
        "i bad" [Any(&[3, 4])] |x| {
            x.i((.., 1..6))
        };
        "i ids" [Any(&[3, 4])] |x| {
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

/// Operands without elements, some of them views to the end of their memory.
pub(super) fn empties() -> Vec<Case> {
    cases! {
        "empty exp" [Any(&[0, 3])] |x| x.exp();
        "empty to_dtype" [Any(&[0, 3])] |x| x.to_dtype(DType::U8);
        "empty add" [Any(&[2, 0]), Any(&[2, 0])] |x, y| x.add(y);
        "empty ge" [Any(&[2, 0]), Any(&[2, 0])] |x, y| x.ge(y);
        "empty ge number" [Any(&[2, 0])] |x| x.ge(1.0);
        "empty broadcast_add" [Any(&[2, 0]), Any(&[2, 1])] |x, y| x.broadcast_add(y);
        "empty broadcast_lt" [Any(&[1, 3]), Any(&[0, 1])] |x, y| x.broadcast_lt(y);
        "empty where_cond" [Of(&[0], DType::U8), Any(&[0]), Any(&[0])] |c, x, y| c.where_cond(x, y);
        "empty sum" [Any(&[2, 0])] |x| x.sum(1);
        "empty sum 0" [Any(&[0, 3])] |x| x.sum_keepdim(0);
        "empty sum all" [Any(&[0, 3])] |x| x.sum_all();
        "empty sum other" [Any(&[2, 0, 3])] |x| x.sum((0, 2));
        "empty mean" [Any(&[2, 0])] |x| x.mean(0);
        "empty var" [Any(&[2, 0])] |x| x.var(0);
        "empty rms_norm" [Any(&[2, 0]), Any(&[0])] |x, a| x.rms_norm(a, 1e-5);
        "empty layer_norm" [Any(&[0, 2]), Any(&[2]), Any(&[2])] |x, a, b| x.layer_norm(a, b, 1e-5);
        "empty sort" [Any(&[2, 0])] |x| x.sort_last_dim(true).map(|s| s.0);
        "empty argsort" [Any(&[0, 2])] |x| x.arg_sort_last_dim(false);
        "empty matmul" [Any(&[2, 0]), Any(&[0, 3])] |x, y| x.matmul(y);
        "empty matmul rows" [Any(&[2, 0, 2]), Any(&[2, 2, 3])] |x, y| x.matmul(y);
        "empty matmul 5" [Any(&[0, 1, 1, 2, 2]), Any(&[0, 1, 1, 2, 3])] |x, y| x.matmul(y);
        "empty broadcast_matmul" [Any(&[2, 2, 0]), Any(&[0, 3])] |x, y| x.broadcast_matmul(y);
        "empty qmatmul" [Any(&[0, 32])] |x| x.qmatmul(&weight(GgmlDType::Q8_0));
        "empty rope" [Any(&[0, 2, 3, 4]), Any(&[3, 2]), Any(&[3, 2])] |x, c, s| x.rope(c, s);
        "empty rope size" [Any(&[1, 2, 3, 0]), Any(&[3, 0]), Any(&[3, 0])] |x, c, s| x.rope_i(c, s);
        "empty conv1d" [Any(&[0, 3, 7]), Any(&[4, 3, 3])] |x, k| x.conv1d(k, 1, 2, 1, 1);
        "empty conv1d channels" [Any(&[2, 0, 7]), Any(&[4, 0, 3])] |x, k| x.conv1d(k, 0, 1, 1, 2);
        "empty conv2d" [Any(&[1, 3, 4, 4]), Any(&[0, 3, 2, 2])] |x, k| x.conv2d(k, 1, 2, 1, 1);
        "empty conv2d padded" [Any(&[1, 3, 0, 4]), Any(&[2, 3, 2, 2])] |x, k| x.conv2d(k, 1, 1, 1, 1);
        "empty max_pool2d" [Any(&[0, 2, 4, 4])] |x| x.max_pool2d(2);
        "empty avg_pool2d" [Any(&[1, 0, 4, 4])] |x| x.avg_pool2d(2);
        "empty upsample" [Any(&[1, 2, 3, 3])] |x| x.upsample_nearest2d(0, 4);
        "empty upsample 0" [Any(&[1, 2, 0, 3])] |x| x.upsample_nearest2d(0, 4);
        "empty reshape" [Any(&[0, 3])] |x| x.reshape((5, 0));
        "empty reshape hole" [Any(&[0, 3])] |x| x.reshape(((), 7));
        "empty permute" [Any(&[0, 3])] |x| x.permute((1, 0));
        "empty narrow" [Any(&[2, 3])] |x| x.narrow(0, 2, 0)?.narrow(1, 3, 0)?.t()?.contiguous();
        "empty narrow cat" [Any(&[2, 3])] |x| {
            let none = x.narrow(0, 2, 0)?.narrow(1, 3, 0)?;
            let none = none.broadcast_left(2)?;
            Concat::cat_of(&[&none, &none], 1)
        };
        "empty get" [Any(&[2, 0])] |x| x.get(1);
        "empty i" [Any(&[4, 3])] |x| {
            x.i((4.., 2))
        };
        "empty i back" [Any(&[4, 3])] |x| {
            #[allow(clippy::reversed_empty_ranges)]
            x.i(3..1)
        };
        "empty chunk" [Any(&[2, 3])] |x| Ok(x.narrow(0, 1, 0)?.chunk(2, 1)?.swap_remove(1));
        "empty broadcast_as" [Any(&[0, 1])] |x| x.broadcast_as((2, 0, 3));
        "empty broadcast 1" [Any(&[1, 3])] |x| x.broadcast_as((0, 3));
        "empty repeat" [Any(&[2, 0])] |x| x.repeat((2, 3, 4));
        "empty repeat 0" [Any(&[2, 3])] |x| x.repeat((3, 0));
        "empty pad" [Any(&[2, 0])] |x| x.pad_with_zeros(1, 1, 2);
        "empty pad other" [Any(&[2, 0])] |x| x.pad_with_zeros(0, 1, 0);
        "empty cat" [Any(&[2, 0]), Any(&[2, 3])] |x, y| Concat::cat_of(&[x, y, x], 1);
        "empty cat all" [Any(&[2, 0]), Any(&[2, 0])] |x, y| Concat::cat_of(&[x, y], 0);
        "empty stack" [Any(&[2, 0]), Any(&[2, 0])] |x, y| Concat::stack_of(&[x, y], 1);
        "empty index_select" [Any(&[3, 4]), Of(&[0], DType::U32)] |x, i| x.index_select(i, 1);
        "empty index_select rows" [Any(&[3, 0]), Ids(&[2], DType::U32, 3)] |x, i| x.index_select(i, 0);
        "empty gather" [Any(&[3, 4]), Of(&[3, 0], DType::U32)] |x, i| x.gather(i, 1);
        "empty gather from" [Any(&[3, 0]), Of(&[2, 0], DType::U32)] |x, i| x.gather(i, 0);
        "empty scatter_add" [Any(&[3, 4]), Of(&[3, 0], DType::U32), Any(&[3, 0])]
            |x, i, s| x.scatter_add(i, s, 1);
        "empty scatter_add to" [Any(&[3, 0]), Of(&[2, 0], DType::U32), Any(&[2, 0])]
            |x, i, s| x.scatter_add(i, s, 0);
        "empty index_add" [Any(&[3, 4]), Of(&[0], DType::U32), Any(&[0, 4])]
            |x, i, s| x.index_add(i, s, 0);
        "empty zeros_like" [Any(&[0, 4])] |x| x.zeros_like();
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
    type Out = crate::error::Result<LazyTensor>;
    fn cat_of(xs: &[&Self], dim: usize) -> Self::Out {
        LazyTensor::cat(xs, dim)
    }
    fn stack_of(xs: &[&Self], dim: usize) -> Self::Out {
        LazyTensor::stack(xs, dim)
    }
}
