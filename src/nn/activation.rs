//! Activation functions.

use super::Module;
use crate::{D, LazyTensor, Result};
use std::fmt;
use std::str::FromStr;

/// An activation function, as configuration files name them.
///
/// Keeps shape and dtype (but for [`Swiglu`](Self::Swiglu)), and takes the dtypes of the operations
/// it consists of: f32, f64, f16 and bf16 at least.
///
/// ```
/// use candlewick::nn::Activation;
/// assert_eq!("gelu_new".parse(), Ok(Activation::NewGelu));
/// assert_eq!(Activation::GeluPytorchTanh.to_string(), "gelupytorchtanh");
/// assert_eq!("leakyrelu(0.2)".parse(), Ok(Activation::LeakyRelu(0.2)));
/// assert!("gulp".parse::<Activation>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// [`gelu_erf`](LazyTensor::gelu_erf): exactly.
    #[default]
    Gelu,
    /// [`gelu`](LazyTensor::gelu): by its tanh approximation.
    NewGelu,
    /// `x` where positive, else 0.
    Relu,
    /// The square of [`Relu`](Self::Relu).
    Relu2,
    /// `x` between 0 and 6.
    Relu6,
    /// `x * sigmoid(x)`.
    Silu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `(x + 3) / 6` between 0 and 1.
    HardSigmoid,
    /// The [`Silu`](Self::Silu) of the first half of the last dimension times the second half.
    Swiglu,
    /// `x * sigmoid(x)`.
    Swish,
    /// `x * tanh(log(1 + exp(x)))`.
    Mish,
    /// `x` times its [`HardSigmoid`](Self::HardSigmoid).
    HardSwish,
    /// `x` where positive, else this number times `exp(x) - 1`.
    Elu(f64),
    /// `x` where positive, else this number times `x`.
    LeakyRelu(f64),
    /// As [`NewGelu`](Self::NewGelu).
    GeluPytorchTanh,
}

impl Module for Activation {
    fn forward(&self, xs: &LazyTensor) -> Result<LazyTensor> {
        match *self {
            Self::Gelu => xs.gelu_erf(),
            Self::NewGelu | Self::GeluPytorchTanh => xs.gelu(),
            Self::Relu => xs.relu(),
            Self::Relu2 => xs.relu()?.sqr(),
            Self::Relu6 => xs.clamp(0f32, 6f32),
            Self::Silu => xs.silu(),
            Self::Sigmoid => xs.sigmoid(),
            Self::HardSigmoid => hard_sigmoid(xs),
            Self::Swiglu => swiglu(xs),
            Self::Swish => xs * xs.sigmoid()?,
            Self::HardSwish => xs * hard_sigmoid(xs)?,
            Self::Mish => xs * (xs.exp()? + 1.0)?.log()?.tanh()?,
            Self::Elu(alpha) => xs.elu(alpha),
            Self::LeakyRelu(slope) => xs.maximum(0f32)? + (xs.minimum(0f32)? * slope)?,
        }
    }
}

fn hard_sigmoid(xs: &LazyTensor) -> Result<LazyTensor> {
    ((xs + 3.0)? / 6.0)?.clamp(0f32, 1f32)
}

fn swiglu(xs: &LazyTensor) -> Result<LazyTensor> {
    let size = xs.dim(D::Minus1)?;
    let half = size.div_ceil(2); // where Candle divides, too
    let gate = xs.narrow(D::Minus1, 0, half)?.silu()?;
    gate.mul(&xs.narrow(D::Minus1, half, size - half)?)
}

/// The names of Candle's configuration files.
const NAMES: &[(&str, Activation)] = &[
    ("gelu", Activation::Gelu),
    ("newgelu", Activation::NewGelu),
    ("gelu_new", Activation::NewGelu),
    ("relu", Activation::Relu),
    ("relu2", Activation::Relu2),
    ("relu6", Activation::Relu6),
    ("silu", Activation::Silu),
    ("sigmoid", Activation::Sigmoid),
    ("hardsigmoid", Activation::HardSigmoid),
    ("swiglu", Activation::Swiglu),
    ("swish", Activation::Swish),
    ("mish", Activation::Mish),
    ("hardswish", Activation::HardSwish),
    ("gelupytorchtanh", Activation::GeluPytorchTanh),
    ("gelu_pytorch_tanh", Activation::GeluPytorchTanh),
];

/// A string that names no activation function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownActivation(String);

impl fmt::Display for UnknownActivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no activation function that is known", self.0)
    }
}

impl std::error::Error for UnknownActivation {}

/// Candle's names (`gelu`, `gelu_new`, `relu`, `silu`, ...); `elu(1.5)` and `leakyrelu(0.2)` with
/// their number.
impl FromStr for Activation {
    type Err = UnknownActivation;

    fn from_str(name: &str) -> Result<Self, UnknownActivation> {
        let number = |function: &str| {
            let inner = name.strip_prefix(function)?.strip_prefix('(')?;
            inner.strip_suffix(')')?.parse::<f64>().ok()
        };
        let known = NAMES.iter().find(|(known, _)| *known == name);
        known
            .map(|(_, activation)| *activation)
            .or_else(|| number("elu").map(Self::Elu))
            .or_else(|| number("leakyrelu").map(Self::LeakyRelu))
            .ok_or_else(|| UnknownActivation(name.to_owned()))
    }
}

/// Candle's name.
impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elu(alpha) => write!(f, "elu({alpha})"),
            Self::LeakyRelu(slope) => write!(f, "leakyrelu({slope})"),
            plain => {
                let name = NAMES.iter().find(|(_, activation)| activation == plain);
                f.write_str(name.map_or("", |(name, _)| name))
            }
        }
    }
}
