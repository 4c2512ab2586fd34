//! Convolution layers.

use super::{Module, VarBuilder, refuse};
use crate::{LazyTensor, Reason, Result};

macro_rules! conv {
    (
        $name:ident $config:ident $make:ident $make_no_bias:ident $op:literal $call:ident,
        $input:literal $kernel:literal $dtypes:literal,
        ($($size:ident)+) ($($one:literal)+)
    ) => {
        #[doc = concat!("How [`", stringify!($name), "`] goes over its input.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $config {
            /// Zeros before and behind each dimension.
            pub padding: usize,
            /// The step from one place to the next.
            pub stride: usize,
            /// The distance of neighbours under the kernel.
            pub dilation: usize,
            /// Into how many groups of their own the channels are divided.
            pub groups: usize,
        }

        impl Default for $config {
            fn default() -> Self {
                Self { padding: 0, stride: 1, dilation: 1, groups: 1 }
            }
        }

        #[doc = concat!("A convolution of `", $input, "` with a `weight` of `", $kernel, "`,")]
        #[doc = concat!("plus a `bias` of `[out]`. ", $dtypes, ", all of one dtype.")]
        #[derive(Clone, Debug)]
        pub struct $name {
            weight: LazyTensor,
            bias: Option<LazyTensor>,
            config: $config,
        }

        impl $name {
            /// A layer of these weights.
            pub fn new(weight: LazyTensor, bias: Option<LazyTensor>, config: $config) -> Self {
                Self { weight, bias, config }
            }

            /// How it goes over its input.
            pub fn config(&self) -> &$config {
                &self.config
            }

            #[doc = concat!("`", $kernel, "`.")]
            pub fn weight(&self) -> &LazyTensor {
                &self.weight
            }

            /// `[out]`.
            pub fn bias(&self) -> Option<&LazyTensor> {
                self.bias.as_ref()
            }
        }

        impl Module for $name {
            fn forward(&self, xs: &LazyTensor) -> Result<LazyTensor> {
                let $config { padding, stride, dilation, groups } = self.config;
                let ys = xs.$call(&self.weight, padding, stride, dilation, groups)?;
                let Some(bias) = &self.bias else {
                    return Ok(ys);
                };
                let out = self.weight.dims()[0];
                if bias.dims() != [out] {
                    return Err(refuse($op, &[xs, &self.weight, bias], Reason::Shapes));
                }
                ys.broadcast_add(&bias.reshape((1, out, $($one),+))?)
            }
        }

        #[doc = concat!("A [`", stringify!($name), "`] of the parameters `weight` and `bias`,")]
        /// with `kernel_size` elements in each dimension.
        ///
        /// # Errors
        /// As [`VarBuilder::get`]; no groups, or channels that they do not divide.
        pub fn $make(
            in_channels: usize,
            out_channels: usize,
            kernel_size: usize,
            config: $config,
            vb: VarBuilder,
        ) -> Result<$name> {
            let layer = $make_no_bias(in_channels, out_channels, kernel_size, config, vb.clone())?;
            let bias = Some(vb.get(out_channels, "bias")?);
            Ok($name { bias, ..layer })
        }

        #[doc = concat!("A [`", stringify!($name), "`] of the parameter `weight`,")]
        /// with `kernel_size` elements in each dimension.
        ///
        /// # Errors
        /// As [`VarBuilder::get`]; no groups, or channels that they do not divide.
        pub fn $make_no_bias(
            in_channels: usize,
            out_channels: usize,
            kernel_size: usize,
            config: $config,
            vb: VarBuilder,
        ) -> Result<$name> {
            let divided = config.groups != 0 && in_channels.is_multiple_of(config.groups);
            if !divided {
                let must = "at least 1, and a divisor of the channels";
                return Err(refuse($op, &[], Reason::Argument { name: "groups", must }));
            }
            $(let $size = kernel_size;)+
            let shape = (out_channels, in_channels / config.groups, $($size),+);
            Ok($name::new(vb.get(shape, "weight")?, None, config))
        }
    };
}

conv!(
    Conv1d Conv1dConfig conv1d conv1d_no_bias "conv1d" conv1d,
    "[batch, in, length]" "[out, in / groups, size]" "f32, f64, f16, bf16",
    (length) (1)
);
conv!(
    Conv2d Conv2dConfig conv2d conv2d_no_bias "conv2d" conv2d,
    "[batch, in, height, width]" "[out, in / groups, height, width]" "f32, f64, f16",
    (height width) (1 1)
);
