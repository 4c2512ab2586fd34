//! Operations on images and signals.

use super::infer::{computes, fits, is_wide_float, refuse, same_dtype};
use super::node::{Dims, LazyTensor};
use super::op::{Conv, Op, Window};
use crate::error::{Reason, Result};
use candle_core::{DType, ToUsize2};

/// How far a kernel reaches and how often it fits: the size of one output dimension.
fn conv_size(size: usize, kernel: usize, conv: &Conv) -> Result<usize, Reason> {
    let span = kernel
        .checked_sub(1)
        .ok_or(Reason::Argument {
            name: "the kernel",
            must: "non-empty",
        })?
        .checked_mul(conv.dilation)
        .and_then(|n| n.checked_add(1))
        .ok_or(Reason::Overflow)?;
    let padded = (conv.padding.checked_mul(2))
        .and_then(|p| size.checked_add(p))
        .filter(|&n| isize::try_from(n).is_ok())
        .ok_or(Reason::Overflow)?;
    let room = padded.checked_sub(span).ok_or(Reason::Argument {
        name: "the kernel",
        must: "no larger than the padded input",
    })?;
    // the last place that is looked at must have a number
    (room / conv.stride).checked_add(1).ok_or(Reason::Overflow)
}

/// # Convolution and pooling
impl LazyTensor {
    /// A convolution of `[batch, channels, length]` with a kernel
    /// `[out channels, channels / groups, size]`. f32, f64, f16, bf16; `Err` if shapes, dtypes,
    /// stride or groups do not work out.
    pub fn conv1d(
        &self,
        kernel: &Self,
        padding: usize,
        stride: usize,
        dilation: usize,
        groups: usize,
    ) -> Result<Self> {
        self.conv(
            "conv1d",
            kernel,
            Conv {
                padding,
                stride,
                dilation,
                groups,
            },
            3,
        )
    }

    /// A convolution of `[batch, channels, height, width]` with a kernel
    /// `[out channels, channels / groups, height, width]`. f32, f64, f16; `Err` if shapes,
    /// dtypes, stride or groups do not work out.
    ///
    /// ```
    /// use candlewick::{DType, Device, LazyTensor};
    /// let image = LazyTensor::zeros((1, 3, 8, 8), DType::F32, &Device::Cpu)?;
    /// let kernel = LazyTensor::zeros((16, 3, 3, 3), DType::F32, &Device::Cpu)?;
    /// assert_eq!(image.conv2d(&kernel, 1, 2, 1, 1)?.dims(), [1, 16, 4, 4]);
    /// let error = image.conv2d(&kernel, 1, 0, 1, 1).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "conv2d([1, 3, 8, 8] f32, [16, 3, 3, 3] f32): stride must be at least 1"
    /// );
    /// # Ok::<_, candlewick::Error>(())
    /// ```
    pub fn conv2d(
        &self,
        kernel: &Self,
        padding: usize,
        stride: usize,
        dilation: usize,
        groups: usize,
    ) -> Result<Self> {
        self.conv(
            "conv2d",
            kernel,
            Conv {
                padding,
                stride,
                dilation,
                groups,
            },
            4,
        )
    }

    fn conv(&self, name: &'static str, kernel: &Self, conv: Conv, rank: usize) -> Result<Self> {
        let err = |reason| refuse(name, &[self, kernel], reason);
        let (x, k) = (&self.0.dims, &kernel.0.dims);
        if x.len() != rank || k.len() != rank {
            let expected = if rank == 3 { "rank 3" } else { "rank 4" };
            let got = if x.len() == rank { k.len() } else { x.len() };
            return Err(err(Reason::Rank { expected, got }));
        }
        for (argument, name) in [(conv.stride, "stride"), (conv.groups, "groups")] {
            if argument == 0 {
                return Err(err(Reason::Argument {
                    name,
                    must: "at least 1",
                }));
            }
        }
        if Some(x[1]) != k[1].checked_mul(conv.groups) {
            return Err(err(Reason::Shapes));
        }
        if k[0] % conv.groups != 0 {
            let must = "a divisor of the number of output channels";
            return Err(err(Reason::Argument {
                name: "groups",
                must,
            }));
        }
        let dtype = same_dtype(name, &[self, kernel])?;
        let takes = if rank == 3 {
            is_wide_float
        } else {
            is_conv2d_float
        };
        if !takes(dtype) {
            return Err(err(Reason::UnsupportedDType(dtype)));
        }
        let mut dims: Dims = [x[0], k[0]].into_iter().collect();
        for i in 2..rank {
            dims.push(conv_size(x[i], k[i], &conv).map_err(err)?);
        }
        // Candle lays out every window, or the whole input, in memory
        let windows = [&dims[..1], &dims[2..], &k[1..]].concat();
        if !fits(&windows, dtype) || !fits(&dims, dtype) {
            return Err(err(Reason::Overflow));
        }
        let op = if rank == 3 {
            Op::Conv1d(conv)
        } else {
            Op::Conv2d(conv)
        };
        Self::build(op, &[self, kernel], dims, dtype)
    }

    /// The largest element of each window of an image `[batch, channels, height, width]`; the
    /// windows stand side by side. A size is one number or (height, width). Any dtype.
    pub fn max_pool2d<T: ToUsize2>(&self, size: T) -> Result<Self> {
        let size = size.to_usize2();
        self.pool("max_pool2d", size, size, Op::MaxPool2d)
    }

    /// [`max_pool2d`](Self::max_pool2d) with windows that start at every multiple of `stride`.
    pub fn max_pool2d_with_stride<T: ToUsize2>(&self, size: T, stride: T) -> Result<Self> {
        let (size, stride) = (size.to_usize2(), stride.to_usize2());
        self.pool("max_pool2d_with_stride", size, stride, Op::MaxPool2d)
    }

    /// The mean of each window, otherwise as [`max_pool2d`](Self::max_pool2d). Integers become 0
    /// in windows of more than one element, as in Candle.
    pub fn avg_pool2d<T: ToUsize2>(&self, size: T) -> Result<Self> {
        let size = size.to_usize2();
        self.pool("avg_pool2d", size, size, Op::AvgPool2d)
    }

    /// [`avg_pool2d`](Self::avg_pool2d) with windows that start at every multiple of `stride`.
    pub fn avg_pool2d_with_stride<T: ToUsize2>(&self, size: T, stride: T) -> Result<Self> {
        let (size, stride) = (size.to_usize2(), stride.to_usize2());
        self.pool("avg_pool2d_with_stride", size, stride, Op::AvgPool2d)
    }

    fn pool(
        &self,
        name: &'static str,
        kernel: (usize, usize),
        stride: (usize, usize),
        op: fn(Window) -> Op,
    ) -> Result<Self> {
        let (b, c, h, w) = self.image(name)?;
        for (n, argument) in [
            (kernel.0.min(kernel.1), "size"),
            (stride.0.min(stride.1), "stride"),
        ] {
            if n == 0 {
                let reason = Reason::Argument {
                    name: argument,
                    must: "at least 1",
                };
                return Err(self.refuse(name, reason));
            }
        }
        if kernel.0 > h || kernel.1 > w {
            let reason = Reason::Argument {
                name: "size",
                must: "no larger than the image",
            };
            return Err(self.refuse(name, reason));
        }
        let out = |size: usize, kernel: usize, stride: usize| (size - kernel) / stride + 1;
        let (h, w) = (out(h, kernel.0, stride.0), out(w, kernel.1, stride.1));
        let dims = [b, c, h, w].into_iter().collect();
        self.build_shape(op(Window { kernel, stride }), dims)
    }

    /// An image `[batch, channels, height, width]` at another height and width; each pixel is the
    /// nearest of the old ones. Any dtype; `Err` if there is no pixel to repeat.
    pub fn upsample_nearest2d(&self, height: usize, width: usize) -> Result<Self> {
        let (b, c, h, w) = self.image("upsample_nearest2d")?;
        if (h == 0 && height > 0) || (w == 0 && width > 0) {
            let reason = Reason::Argument {
                name: "the image",
                must: "non-empty",
            };
            return Err(self.refuse("upsample_nearest2d", reason));
        }
        let dims = [b, c, height, width].into_iter().collect();
        self.build_shape(Op::UpsampleNearest2d { height, width }, dims)
    }

    fn image(&self, op: &'static str) -> Result<(usize, usize, usize, usize)> {
        self.need_dtype(op, computes)?;
        match *self.dims() {
            [b, c, h, w] => Ok((b, c, h, w)),
            _ => Err(self.refuse(
                op,
                Reason::Rank {
                    expected: "rank 4",
                    got: self.rank(),
                },
            )),
        }
    }

    /// Rotary position embedding of `[batch, heads, length, size]`: the first half of the last
    /// dimension is rotated against the second. `cos` and `sin` are
    /// `[at least length, size / 2]`, or with the batch in front. f32, f64, f16, bf16.
    pub fn rope(&self, cos: &Self, sin: &Self) -> Result<Self> {
        self.rotate(false, cos, sin)
    }

    /// [`rope`](Self::rope) that rotates neighbours in the last dimension against each other.
    pub fn rope_i(&self, cos: &Self, sin: &Self) -> Result<Self> {
        self.rotate(true, cos, sin)
    }

    fn rotate(&self, interleaved: bool, cos: &Self, sin: &Self) -> Result<Self> {
        let op = Op::Rope { interleaved };
        let operands = [self, cos, sin];
        let &[batch, _, length, size] = self.dims() else {
            let reason = Reason::Rank {
                expected: "rank 4",
                got: self.rank(),
            };
            return Err(refuse(op.name(), &operands, reason));
        };
        let fits = |angles: &Self| match *angles.dims() {
            [l, half] => l >= length && half.checked_mul(2) == Some(size),
            [b, l, half] => b == batch && l >= length && half.checked_mul(2) == Some(size),
            _ => false,
        };
        // of different ranks, Candle would use the first batch's angles for all
        if !fits(cos) || !fits(sin) || cos.rank() != sin.rank() {
            return Err(refuse(op.name(), &operands, Reason::Shapes));
        }
        let dtype = same_dtype(op.name(), &operands)?;
        if !is_wide_float(dtype) {
            return Err(refuse(
                op.name(),
                &operands,
                Reason::UnsupportedDType(dtype),
            ));
        }
        Self::build(op, &operands, self.0.dims.clone(), dtype)
    }
}

/// The dtypes of Candle's two-dimensional convolution, which has no bf16.
fn is_conv2d_float(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::F32 | DType::F64)
}
