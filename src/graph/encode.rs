//! Operations as words: two operations are the same exactly if their words are.

use super::op::{Conv, Op, Window};
use candle_core::scalar::Scalar;
use candle_core::{DType, DeviceLocation};
use smallvec::SmallVec;

/// A sequence that can be told apart from every other by comparing words.
pub(crate) type Words = Vec<u64>;

/// The numbers of an operation on f32, where they change neither shape nor dtype nor how it is
/// computed.
pub(crate) type Scalars = SmallVec<[f32; 2]>;

impl Op {
    /// Whether it carries something that cannot be compared, and must not be kept for others:
    /// the user's own operations, quantized weights.
    pub(crate) fn is_opaque(&self) -> bool {
        matches!(
            self,
            Op::Custom1(_) | Op::Custom2(_) | Op::Custom3(_) | Op::Qmatmul(_)
        )
    }

    /// Whether it is code of the user's.
    pub(crate) fn is_custom(&self) -> bool {
        matches!(self, Op::Custom1(_) | Op::Custom2(_) | Op::Custom3(_))
    }

    /// The numbers in it that may be parameters of a plan, if it works on f32.
    pub(crate) fn scalars(&self) -> Scalars {
        match *self {
            Op::Affine { mul, add } => SmallVec::from_slice(&[mul as f32, add as f32]),
            Op::Elu(value) | Op::Powf(value) => SmallVec::from_slice(&[value as f32]),
            Op::BinaryScalar { value, .. } | Op::CompareScalar { value, .. } => {
                SmallVec::from_slice(&[value.to_f64() as f32])
            }
            _ => SmallVec::new(),
        }
    }

    /// Appends the operation without those numbers. Operands and dtypes are the caller's to tell.
    pub(crate) fn encode_kind(&self, words: &mut Words) {
        match self {
            Op::Affine { .. } => words.push(tag(1, 0)),
            Op::Elu(_) => words.push(tag(2, 0)),
            Op::Powf(_) => words.push(tag(3, 0)),
            Op::BinaryScalar { op, .. } => words.push(tag(4, *op as u64)),
            Op::CompareScalar { op, .. } => words.push(tag(5, *op as u64)),
            _ => self.encode(words),
        }
    }

    /// Appends the operation with everything that it says.
    pub(crate) fn encode(&self, words: &mut Words) {
        match self {
            Op::Affine { mul, add } => {
                words.extend_from_slice(&[tag(1, 1), mul.to_bits(), add.to_bits()]);
            }
            Op::Elu(value) => words.extend_from_slice(&[tag(2, 1), value.to_bits()]),
            Op::Powf(value) => words.extend_from_slice(&[tag(3, 1), value.to_bits()]),
            Op::BinaryScalar { op, value } => {
                words.extend_from_slice(&[tag(6, *op as u64), kind(*value), bits(*value)]);
            }
            Op::CompareScalar { op, value } => {
                words.extend_from_slice(&[tag(7, *op as u64), kind(*value), bits(*value)]);
            }
            Op::Fill { value, dims } => {
                words.extend_from_slice(&[tag(8, 0), kind(*value), bits(*value)]);
                list(words, dims.iter().copied());
            }
            Op::Unary(op) => words.push(tag(9, *op as u64)),
            Op::ToDType(dtype) => words.push(tag(10, dtype_word(*dtype))),
            Op::ToDevice(device) => {
                let (kind, ordinal) = location(device.location());
                words.extend_from_slice(&[tag(11, kind), ordinal]);
            }
            Op::Binary { op, broadcast } => {
                words.push(tag(12, (*op as u64) * 2 + u64::from(*broadcast)));
            }
            Op::Compare { op, broadcast } => {
                words.push(tag(13, (*op as u64) * 2 + u64::from(*broadcast)));
            }
            Op::WhereCond => words.push(tag(14, 0)),
            Op::Reduce { op, dims, keepdim } => {
                words.push(tag(15, (*op as u64) * 2 + u64::from(*keepdim)));
                list(words, dims.iter().copied());
            }
            Op::Softmax(dim) => words.push(tag(16, *dim as u64)),
            Op::LogSoftmax(dim) => words.push(tag(17, *dim as u64)),
            Op::SoftmaxLastDim => words.push(tag(18, 0)),
            Op::RmsNorm { eps } => words.push(tag(19, u64::from(eps.to_bits()))),
            Op::LayerNorm { eps } => words.push(tag(20, u64::from(eps.to_bits()))),
            Op::Matmul => words.push(tag(21, 0)),
            Op::BroadcastMatmul => words.push(tag(22, 0)),
            Op::Qmatmul(_) => words.push(tag(23, 0)),
            _ => self.encode_shape(words),
        }
    }

    /// What moves elements, and the user's own.
    fn encode_shape(&self, words: &mut Words) {
        match self {
            Op::Reshape(dims) => {
                words.push(tag(32, 0));
                list(words, dims.iter().copied());
            }
            Op::Squeeze(dim) => words.push(tag(33, *dim as u64)),
            Op::Unsqueeze(dim) => words.push(tag(34, *dim as u64)),
            Op::Transpose(a, b) => words.extend_from_slice(&[tag(35, *a as u64), *b as u64]),
            Op::Permute(axes) => {
                words.push(tag(36, 0));
                list(words, axes.iter().copied());
            }
            Op::Narrow { dim, start, len } => {
                words.extend_from_slice(&[tag(37, *dim as u64), *start as u64, *len as u64]);
            }
            Op::BroadcastAs(dims) => {
                words.push(tag(38, 0));
                list(words, dims.iter().copied());
            }
            Op::Contiguous => words.push(tag(39, 0)),
            Op::Repeat(times) => {
                words.push(tag(40, 0));
                list(words, times.iter().copied());
            }
            Op::PadWithZeros { dim, left, right } => {
                words.extend_from_slice(&[tag(41, *dim as u64), *left as u64, *right as u64]);
            }
            Op::Cat(dim) => words.push(tag(42, *dim as u64)),
            Op::Stack(dim) => words.push(tag(43, *dim as u64)),
            Op::IndexSelect(dim) => words.push(tag(44, *dim as u64)),
            Op::Gather(dim) => words.push(tag(45, *dim as u64)),
            Op::ScatterAdd(dim) => words.push(tag(46, *dim as u64)),
            Op::IndexAdd(dim) => words.push(tag(47, *dim as u64)),
            Op::ArgSort { asc } => words.push(tag(48, u64::from(*asc))),
            Op::Rope { interleaved } => words.push(tag(49, u64::from(*interleaved))),
            Op::Conv1d(conv) => convolution(words, 50, conv),
            Op::Conv2d(conv) => convolution(words, 51, conv),
            Op::MaxPool2d(pool) => window(words, 52, pool),
            Op::AvgPool2d(pool) => window(words, 53, pool),
            Op::UpsampleNearest2d { height, width } => {
                words.extend_from_slice(&[tag(54, *height as u64), *width as u64]);
            }
            Op::Custom1(_) => words.push(tag(60, 0)),
            Op::Custom2(_) => words.push(tag(61, 0)),
            Op::Custom3(_) => words.push(tag(62, 0)),
            _ => unreachable!("encoded by the caller"),
        }
    }
}

/// Which operation, and a small number with it.
fn tag(op: u64, with: u64) -> u64 {
    op << 56 | (with & ((1 << 56) - 1))
}

/// A list that says how long it is.
pub(crate) fn list(words: &mut Words, items: impl ExactSizeIterator<Item = usize>) {
    words.push(items.len() as u64);
    words.extend(items.map(|item| item as u64));
}

/// A dtype.
pub(crate) fn dtype_word(dtype: DType) -> u64 {
    dtype as u64
}

/// A place.
pub(crate) fn location_word(at: DeviceLocation) -> u64 {
    let (kind, ordinal) = location(at);
    tag(kind, ordinal)
}

fn location(location: DeviceLocation) -> (u64, u64) {
    match location {
        DeviceLocation::Cpu => (0, 0),
        DeviceLocation::Cuda { gpu_id } => (1, gpu_id as u64),
        DeviceLocation::Metal { gpu_id } => (2, gpu_id as u64),
    }
}

fn convolution(words: &mut Words, op: u64, conv: &Conv) {
    let Conv {
        padding,
        stride,
        dilation,
        groups,
    } = *conv;
    words.push(tag(op, 0));
    words.extend([padding, stride, dilation, groups].map(|n| n as u64));
}

fn window(words: &mut Words, op: u64, window: &Window) {
    let ((kh, kw), (sh, sw)) = (window.kernel, window.stride);
    words.push(tag(op, 0));
    words.extend([kh, kw, sh, sw].map(|n| n as u64));
}

fn kind(value: Scalar) -> u64 {
    dtype_word(value.dtype())
}

fn bits(value: Scalar) -> u64 {
    match value {
        Scalar::U8(v) => v.into(),
        Scalar::U32(v) => v.into(),
        Scalar::I16(v) => v as u64,
        Scalar::I32(v) => v as u64,
        Scalar::I64(v) => v as u64,
        Scalar::BF16(v) => v.to_bits().into(),
        Scalar::F16(v) => v.to_bits().into(),
        Scalar::F32(v) => v.to_bits().into(),
        Scalar::F64(v) => v.to_bits(),
        Scalar::F8E4M3(v) => v.to_bits().into(),
    }
}
