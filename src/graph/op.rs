//! The operations that a node can compute.

use candle_core::quantized::QTensor;
use candle_core::scalar::Scalar;
use candle_core::{CustomOp1, CustomOp2, CustomOp3, DType, Device};
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// A few dimensions of a tensor, or a number for each.
pub(crate) type Axes = SmallVec<[usize; 2]>;

/// The sizes of a result that its operands do not tell.
pub(crate) type Sizes = Arc<[usize]>;

/// An operation with its parameters; the operands are the node's inputs.
///
/// One variant for each thing that the device side runs as one step.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Every element is this value. With an operand, on that operand's device; else on the host.
    Fill { value: Scalar, dims: Sizes },
    /// Element by element.
    Unary(UnaryOp),
    /// `x` where positive, else `alpha * (exp(x) - 1)`.
    Elu(f64),
    /// `x` to the power of a number.
    Powf(f64),
    /// `x * mul + add`.
    Affine { mul: f64, add: f64 },
    /// Another element type.
    ToDType(DType),
    /// Another device.
    ToDevice(Arc<Device>),
    /// Two operands element by element; the shapes are equal, or broadcast together.
    Binary { op: BinaryOp, broadcast: bool },
    /// The same with one number on the right.
    BinaryScalar { op: BinaryOp, value: Scalar },
    /// 1 where it holds, else 0, as `u8`.
    Compare { op: CompareOp, broadcast: bool },
    /// The same with one number on the right.
    CompareScalar { op: CompareOp, value: Scalar },
    /// Picks from the second or third operand by the first.
    WhereCond,
    /// One number for each slice along `dims`.
    Reduce {
        op: ReduceOp,
        dims: Axes,
        keepdim: bool,
    },
    /// Exponentials along a dimension that sum to one.
    Softmax(usize),
    /// Their logarithms.
    LogSoftmax(usize),
    /// Softmax over the last dimension, in one pass.
    SoftmaxLastDim,
    /// Divided by the root of the mean square over the last dimension; the second operand scales.
    RmsNorm { eps: f32 },
    /// Mean zero and variance one over the last dimension; then scaled and shifted.
    LayerNorm { eps: f32 },
    /// Matrix product of two operands with equally many leading matrices.
    Matmul,
    /// Matrix product of two operands whose leading dimensions broadcast together.
    BroadcastMatmul,
    /// Matrix product with the transpose of a quantized weight.
    Qmatmul(Weight),
    /// The elements in order under another shape.
    Reshape(Sizes),
    /// Without a dimension of size 1.
    Squeeze(usize),
    /// With one more dimension of size 1.
    Unsqueeze(usize),
    /// Two dimensions swapped.
    Transpose(usize, usize),
    /// The dimensions in another order.
    Permute(Axes),
    /// Part of a dimension.
    Narrow {
        dim: usize,
        start: usize,
        len: usize,
    },
    /// Dimensions of size 1 repeated, and new ones put in front.
    BroadcastAs(Sizes),
    /// Laid out in order.
    Contiguous,
    /// Copies side by side: how many along each dimension.
    Repeat(Axes),
    /// Zeros before and after.
    PadWithZeros {
        dim: usize,
        left: usize,
        right: usize,
    },
    /// Side by side along a dimension.
    Cat(usize),
    /// Side by side along a new dimension.
    Stack(usize),
    /// Slices along a dimension, by index.
    IndexSelect(usize),
    /// Elements along a dimension, by an index each.
    Gather(usize),
    /// Elements added along a dimension, by an index each.
    ScatterAdd(usize),
    /// Slices added along a dimension, by index.
    IndexAdd(usize),
    /// The indices that sort the last dimension.
    ArgSort { asc: bool },
    /// Rotary embedding of halves, or of neighbours.
    Rope { interleaved: bool },
    /// One-dimensional convolution.
    Conv1d(Conv),
    /// Two-dimensional convolution.
    Conv2d(Conv),
    /// The largest of each window.
    MaxPool2d(Window),
    /// The mean of each window.
    AvgPool2d(Window),
    /// Each pixel repeated to a new size.
    UpsampleNearest2d { height: usize, width: usize },
    /// An operation of the user's on one operand.
    Custom1(Custom<dyn CustomOp1 + Send + Sync>),
    /// On two.
    Custom2(Custom<dyn CustomOp2 + Send + Sync>),
    /// On three.
    Custom3(Custom<dyn CustomOp3 + Send + Sync>),
}

// A node is one allocation that holds its operation: a large variant would cost every node.
const _: () = assert!(size_of::<Op>() <= 40);

/// What is done to one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnaryOp {
    Neg,
    Recip,
    Sqr,
    Sqrt,
    Exp,
    Log,
    Sin,
    Cos,
    Tanh,
    Erf,
    Abs,
    Floor,
    Ceil,
    Round,
    Sign,
    Relu,
    Gelu,
    GeluErf,
    Silu,
    Sigmoid,
}

/// What is done to two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Maximum,
    Minimum,
}

/// What is asked about two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// How a slice becomes one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReduceOp {
    Sum,
    Max,
    Min,
    ArgMax,
    ArgMin,
}

/// Parameters of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conv {
    pub(crate) padding: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) groups: usize,
}

/// Parameters of a pooling: height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) kernel: (usize, usize),
    pub(crate) stride: (usize, usize),
}

/// A quantized weight.
#[derive(Clone)]
pub(crate) struct Weight(pub(crate) Arc<QTensor>);

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.0.shape(), self.0.dtype())
    }
}

/// An operation of the user's.
pub(crate) struct Custom<T: ?Sized>(pub(crate) Arc<Box<T>>);

impl<T: ?Sized> Clone for Custom<T> {
    fn clone(&self) -> Self {
        Custom(self.0.clone())
    }
}

impl<T: ?Sized> fmt::Debug for Custom<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("custom")
    }
}

impl Op {
    /// The name, as the method is called; of a custom operation, its own.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Op::Fill { .. } => "fill",
            Op::Unary(op) => op.name(),
            Op::Elu(_) => "elu",
            Op::Powf(_) => "powf",
            Op::Affine { .. } => "affine",
            Op::ToDType(_) => "to_dtype",
            Op::ToDevice(_) => "to_device",
            Op::Binary { op, broadcast } => op.name(*broadcast),
            Op::BinaryScalar { op, .. } => op.name(false),
            Op::Compare { op, broadcast } => op.name(*broadcast),
            Op::CompareScalar { op, .. } => op.name(false),
            Op::WhereCond => "where_cond",
            Op::Reduce { op, keepdim, .. } => op.name(*keepdim),
            Op::Softmax(_) => "softmax",
            Op::LogSoftmax(_) => "log_softmax",
            Op::SoftmaxLastDim => "softmax_last_dim",
            Op::RmsNorm { .. } => "rms_norm",
            Op::LayerNorm { .. } => "layer_norm",
            Op::Matmul => "matmul",
            Op::BroadcastMatmul => "broadcast_matmul",
            Op::Qmatmul(_) => "qmatmul",
            Op::Reshape(_) => "reshape",
            Op::Squeeze(_) => "squeeze",
            Op::Unsqueeze(_) => "unsqueeze",
            Op::Transpose(..) => "transpose",
            Op::Permute(_) => "permute",
            Op::Narrow { .. } => "narrow",
            Op::BroadcastAs(_) => "broadcast_as",
            Op::Contiguous => "contiguous",
            Op::Repeat(_) => "repeat",
            Op::PadWithZeros { .. } => "pad_with_zeros",
            Op::Cat(_) => "cat",
            Op::Stack(_) => "stack",
            Op::IndexSelect(_) => "index_select",
            Op::Gather(_) => "gather",
            Op::ScatterAdd(_) => "scatter_add",
            Op::IndexAdd(_) => "index_add",
            Op::ArgSort { .. } => "arg_sort_last_dim",
            Op::Rope { interleaved: false } => "rope",
            Op::Rope { interleaved: true } => "rope_i",
            Op::Conv1d(_) => "conv1d",
            Op::Conv2d(_) => "conv2d",
            Op::MaxPool2d(_) => "max_pool2d",
            Op::AvgPool2d(_) => "avg_pool2d",
            Op::UpsampleNearest2d { .. } => "upsample_nearest2d",
            Op::Custom1(op) => op.0.name(),
            Op::Custom2(op) => op.0.name(),
            Op::Custom3(op) => op.0.name(),
        }
    }
}

impl UnaryOp {
    pub(crate) fn name(self) -> &'static str {
        match self {
            UnaryOp::Neg => "neg",
            UnaryOp::Recip => "recip",
            UnaryOp::Sqr => "sqr",
            UnaryOp::Sqrt => "sqrt",
            UnaryOp::Exp => "exp",
            UnaryOp::Log => "log",
            UnaryOp::Sin => "sin",
            UnaryOp::Cos => "cos",
            UnaryOp::Tanh => "tanh",
            UnaryOp::Erf => "erf",
            UnaryOp::Abs => "abs",
            UnaryOp::Floor => "floor",
            UnaryOp::Ceil => "ceil",
            UnaryOp::Round => "round",
            UnaryOp::Sign => "sign",
            UnaryOp::Relu => "relu",
            UnaryOp::Gelu => "gelu",
            UnaryOp::GeluErf => "gelu_erf",
            UnaryOp::Silu => "silu",
            UnaryOp::Sigmoid => "sigmoid",
        }
    }
}

impl BinaryOp {
    pub(crate) fn name(self, broadcast: bool) -> &'static str {
        match (self, broadcast) {
            (BinaryOp::Add, false) => "add",
            (BinaryOp::Sub, false) => "sub",
            (BinaryOp::Mul, false) => "mul",
            (BinaryOp::Div, false) => "div",
            (BinaryOp::Maximum, false) => "maximum",
            (BinaryOp::Minimum, false) => "minimum",
            (BinaryOp::Add, true) => "broadcast_add",
            (BinaryOp::Sub, true) => "broadcast_sub",
            (BinaryOp::Mul, true) => "broadcast_mul",
            (BinaryOp::Div, true) => "broadcast_div",
            (BinaryOp::Maximum, true) => "broadcast_maximum",
            (BinaryOp::Minimum, true) => "broadcast_minimum",
        }
    }
}

impl CompareOp {
    pub(crate) fn name(self, broadcast: bool) -> &'static str {
        match (self, broadcast) {
            (CompareOp::Eq, false) => "eq",
            (CompareOp::Ne, false) => "ne",
            (CompareOp::Lt, false) => "lt",
            (CompareOp::Le, false) => "le",
            (CompareOp::Gt, false) => "gt",
            (CompareOp::Ge, false) => "ge",
            (CompareOp::Eq, true) => "broadcast_eq",
            (CompareOp::Ne, true) => "broadcast_ne",
            (CompareOp::Lt, true) => "broadcast_lt",
            (CompareOp::Le, true) => "broadcast_le",
            (CompareOp::Gt, true) => "broadcast_gt",
            (CompareOp::Ge, true) => "broadcast_ge",
        }
    }
}

impl ReduceOp {
    pub(crate) fn name(self, keepdim: bool) -> &'static str {
        match (self, keepdim) {
            (ReduceOp::Sum, false) => "sum",
            (ReduceOp::Max, false) => "max",
            (ReduceOp::Min, false) => "min",
            (ReduceOp::ArgMax, false) => "argmax",
            (ReduceOp::ArgMin, false) => "argmin",
            (ReduceOp::Sum, true) => "sum_keepdim",
            (ReduceOp::Max, true) => "max_keepdim",
            (ReduceOp::Min, true) => "min_keepdim",
            (ReduceOp::ArgMax, true) => "argmax_keepdim",
            (ReduceOp::ArgMin, true) => "argmin_keepdim",
        }
    }
}
