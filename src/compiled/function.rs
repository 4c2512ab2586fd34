//! What can be compiled, and what it can be called with.

use crate::error::Result;
use crate::graph::{Dims, LazyTensor};
use crate::outputs::Outputs;
use candle_core::{DeviceLocation, Tensor};

mod sealed {
    pub trait Sealed {}
}

/// A function that [`compile`](crate::Executor::compile) takes: from one to eight `&LazyTensor`,
/// or from one `&[LazyTensor]` of any length, to a [`Result`] of [`Outputs`] that it owns. A
/// closure is one if the types of its arguments are written out. `A` tells the forms apart and is
/// always inferred.
///
/// ```
/// use candlewick::{D, Device, Executor, LazyTensor, Result};
/// struct Model { scale: LazyTensor }
/// impl Model {
///     fn forward(&self, x: &LazyTensor) -> Result<LazyTensor> {
///         x.broadcast_mul(&self.scale)
///     }
/// }
/// fn sum(xs: &[LazyTensor]) -> Result<LazyTensor> {
///     LazyTensor::stack(xs, 0)?.sum(0)
/// }
/// let executor = Executor::new(&Device::Cpu)?;
/// let model = Model { scale: LazyTensor::new(2f32, &Device::Cpu)? };
/// let x = LazyTensor::new(&[1f32, 2.0], &Device::Cpu)?;
/// let forward = executor.compile(|x: &LazyTensor| model.forward(x));
/// assert_eq!(forward.run(&[&x])?.to_vec1::<f32>()?, [2.0, 4.0]);
/// let sum = executor.compile(sum);
/// assert_eq!(sum.run(&[&x, &x, &x])?.to_vec1::<f32>()?, [3.0, 6.0]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function that can be compiled",
    label = "takes `&LazyTensor`s, or one `&[LazyTensor]`, and returns a `candlewick::Result`",
    note = "write out the types of a closure's arguments: `|x: &LazyTensor| ..`"
)]
pub trait Function<A>: Send + Sync {
    /// What it returns.
    type Outputs: Outputs;
    /// How many arguments it takes; `None` if any number.
    #[doc(hidden)]
    const ARGUMENTS: Option<usize>;
    /// Runs the function with these arguments, as many as it takes.
    #[doc(hidden)]
    fn call(&self, arguments: &[LazyTensor]) -> Result<Self::Outputs>;
}

impl<F, O: Outputs> Function<fn(&[LazyTensor])> for F
where
    F: Fn(&[LazyTensor]) -> Result<O> + Send + Sync,
{
    type Outputs = O;
    const ARGUMENTS: Option<usize> = None;
    fn call(&self, arguments: &[LazyTensor]) -> Result<O> {
        self(arguments)
    }
}

macro_rules! functions {
    ($count:literal: $($name:ident)+) => {
        impl<F, O: Outputs> Function<fn($(functions!(@argument $name)),+)> for F
        where
            F: Fn($(functions!(@argument $name)),+) -> Result<O> + Send + Sync,
        {
            type Outputs = O;
            const ARGUMENTS: Option<usize> = Some($count);
            fn call(&self, arguments: &[LazyTensor]) -> Result<O> {
                match arguments {
                    [$($name),+] => self($($name),+),
                    _ => unreachable!("the caller has counted"),
                }
            }
        }
    };
    (@argument $name:ident) => { &LazyTensor };
}
functions!(1: a);
functions!(2: a b);
functions!(3: a b c);
functions!(4: a b c d);
functions!(5: a b c d e);
functions!(6: a b c d e f);
functions!(7: a b c d e f g);
functions!(8: a b c d e f g h);

/// What a compiled function can be given: a [`Tensor`] or a [`LazyTensor`], or a reference to one.
pub trait Argument: sealed::Sealed {
    /// Which of the two.
    #[doc(hidden)]
    fn given(&self) -> Given<'_>;
}

/// An argument.
pub enum Given<'a> {
    /// A tensor that exists.
    Tensor(&'a Tensor),
    /// A leaf, what was submitted, or a graph.
    Lazy(&'a LazyTensor),
}

impl sealed::Sealed for Tensor {}
impl Argument for Tensor {
    fn given(&self) -> Given<'_> {
        Given::Tensor(self)
    }
}
impl sealed::Sealed for LazyTensor {}
impl Argument for LazyTensor {
    fn given(&self) -> Given<'_> {
        Given::Lazy(self)
    }
}
impl<T: Argument> sealed::Sealed for &T {}
impl<T: Argument> Argument for &T {
    fn given(&self) -> Given<'_> {
        (**self).given()
    }
}

impl Given<'_> {
    /// Where it is.
    pub(super) fn location(&self) -> DeviceLocation {
        match self {
            Given::Tensor(tensor) => tensor.device().location(),
            Given::Lazy(tensor) => tensor.location(),
        }
    }

    /// What stands for it while the function is traced.
    pub(super) fn placeholder(&self) -> LazyTensor {
        let (dims, dtype) = match self {
            Given::Tensor(tensor) => (tensor.dims(), tensor.dtype()),
            Given::Lazy(tensor) => (tensor.dims(), tensor.dtype()),
        };
        LazyTensor::placeholder(Dims::from_slice(dims), dtype, self.location())
    }
}
