//! What can go wrong, as values.

mod config;
mod display;

pub use config::ConfigError;

use candle_core::{DType, DeviceLocation, Shape};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The result of candlewick's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything candlewick reports. Cloning is a reference count, so that one failure can reach
/// every handle that waits for it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// An operation was given operands that it cannot take. Found when the method is called:
    /// nothing has been submitted.
    Invalid(Arc<Invalid>),
    /// An operation failed or panicked while its fragment ran. The same value reaches every
    /// output that depends on it, and every later fragment that uses such an output.
    Failed(Arc<Failure>),
    /// [`cancel`](crate::Handle::cancel) withdrew the work before it began.
    Cancelled,
    /// The work had not begun by the deadline that it was [submitted](crate::Submit::deadline) with, and was
    /// not done. Work that is queued is found to be late when its turn comes.
    DeadlineExceeded,
    /// The executor refuses new work, or closed before this work began.
    Closed,
    /// The queue has no room now.
    QueueFull {
        /// Fragments in the queue's bound.
        capacity: usize,
        /// Bytes of host data in the queue's bound.
        capacity_bytes: u64,
        /// Bytes of host data this fragment brings.
        bytes: u64,
    },
    /// The fragment brings more host data than the queue may ever hold.
    TooLarge {
        /// Bytes of host data this fragment brings.
        bytes: u64,
        /// Bytes of host data in the queue's bound.
        capacity_bytes: u64,
    },
    /// A wait's time ran out. The work goes on and the handle stays good.
    Timeout(Duration),
    /// A tensor that was submitted to one executor was used with another.
    ForeignExecutor {
        /// Shape of the tensor.
        shape: Shape,
        /// Its dtype.
        dtype: DType,
    },
    /// A tensor lives on a device that is not the executor's.
    ForeignDevice {
        /// Where the tensor is.
        tensor: DeviceLocation,
        /// The executor's device.
        executor: DeviceLocation,
    },
    /// What a function was traced with by [`compile`](crate::Executor::compile) was used outside
    /// of that trace: submitted, or kept for another one. It has no value.
    Placeholder {
        /// Its shape.
        shape: Shape,
        /// Its dtype.
        dtype: DType,
    },
    /// A compiled function was called with another number of arguments than it takes.
    Arguments {
        /// How many it takes.
        expected: usize,
        /// How many it was given.
        got: usize,
    },
    /// The call would wait for ever: it waits for an executor on the thread that is driving it (from inside
    /// of an operation, a destructor or a waker that it runs), or for one whose driver waits, through any
    /// number of others, for one that this thread drives.
    WouldDeadlock {
        /// The method.
        call: &'static str,
    },
    /// The owner panicked outside of any operation, or its device is lost.
    OwnerLost(Arc<Failure>),
    /// An executor could not be built.
    Build(Arc<BuildError>),
    /// Parameters could not be loaded, found or replaced.
    Params(Arc<ParamsError>),
    /// A model's configuration could not be read, or is of a model that is not known.
    Config(Arc<ConfigError>),
}

/// Operands that an operation cannot take: which operation, what it was given, and why not.
#[derive(Debug)]
#[non_exhaustive]
pub struct Invalid {
    /// The operation.
    pub op: &'static str,
    /// Shape and dtype of each operand, in order.
    pub operands: Vec<(Shape, DType)>,
    /// Why they do not fit.
    pub reason: Reason,
}

/// Why operands do not fit an operation.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The shapes do not agree.
    Shapes,
    /// The shapes cannot be broadcast together.
    Broadcast,
    /// The dtypes differ.
    DTypes,
    /// The operation does not exist for this dtype.
    UnsupportedDType(DType),
    /// A dimension that the tensor does not have.
    Dim {
        /// The dimension asked for; negative counts from the end.
        dim: i64,
        /// The tensor's rank.
        rank: usize,
    },
    /// The same dimension was named twice.
    DuplicateDim(usize),
    /// The operation takes another rank.
    Rank {
        /// What it takes.
        expected: &'static str,
        /// What it got.
        got: usize,
    },
    /// A range or index that goes past the end.
    OutOfRange {
        /// The dimension.
        dim: usize,
        /// First element asked for.
        start: usize,
        /// Number of elements asked for.
        len: usize,
        /// Size of the dimension.
        size: usize,
    },
    /// An element count that does not match the shape.
    ElementCount {
        /// Elements in the source.
        from: usize,
        /// Elements in the target.
        to: usize,
    },
    /// The number of elements does not fit in a `usize`.
    Overflow,
    /// A list of tensors that must not be empty is.
    Empty,
    /// The operands live on different devices.
    Devices(DeviceLocation, DeviceLocation),
    /// An argument outside of its range.
    Argument {
        /// Which argument.
        name: &'static str,
        /// What it must be.
        must: &'static str,
    },
    /// Candle refused it when the data was made.
    Candle(candle_core::Error),
}

/// The first cause of a failure at run time.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The operation that failed; empty if it was outside of any.
    pub op: &'static str,
    /// Shape and dtype of each operand, in order.
    pub operands: Vec<(Shape, DType)>,
    /// What happened.
    pub cause: Cause,
}

/// What happened at run time.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// Candle returned an error.
    Candle(candle_core::Error),
    /// The code panicked, with this message.
    Panic(String),
    /// An index was outside of the indexed dimension.
    IndexOutOfRange {
        /// The index; negative ones are as they were stored.
        index: i64,
        /// Size of the indexed dimension.
        size: usize,
    },
    /// The device has no memory left.
    OutOfMemory {
        /// Bytes asked for, where the device tells.
        asked: u64,
        /// Bytes that were left, where the device tells.
        left: u64,
    },
    /// The device is lost: nothing will run on it again in this process.
    DeviceLost(String),
    /// A tensor names more elements than its memory has: what an operation of the user's own returned, or an
    /// operand that somebody has changed in place.
    ShortStorage {
        /// Elements that the memory has.
        held: usize,
        /// Elements up to the last that shape and strides name.
        needed: usize,
    },
    /// The result of an operation did not have the shape or dtype that was announced.
    Announced {
        /// What was announced.
        expected: (Shape, DType),
        /// What came.
        got: (Shape, DType),
    },
}

/// Why an executor could not be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The queue's capacity is zero or larger than `max`.
    Capacity {
        /// The capacity asked for.
        asked: usize,
        /// The largest there is.
        max: usize,
    },
    /// The queue's bound in bytes is zero or larger than `max`.
    CapacityBytes {
        /// The bound asked for.
        asked: u64,
        /// The largest there is.
        max: u64,
    },
    /// The owner's thread could not be started.
    Thread(std::io::Error),
    /// A CUDA device that enqueues on a stream of its own for every thread: work of different
    /// threads would not be ordered. Make it with `Device::new_cuda_with_stream`.
    PerThreadStream,
    /// The device could not be prepared.
    Device(candle_core::Error),
    /// A device that this build has no feature for.
    UnknownDevice(DeviceLocation),
}

/// What is wrong with parameters, and where.
#[derive(Debug)]
#[non_exhaustive]
pub enum ParamsError {
    /// There is no parameter of this name.
    Unknown {
        /// The name.
        name: String,
    },
    /// A replacement of the whole set lacks this name.
    Missing {
        /// The name.
        name: String,
    },
    /// A name is given twice.
    Repeated {
        /// The name.
        name: String,
    },
    /// A replacement has another shape or dtype than what it replaces.
    Mismatch {
        /// The name.
        name: String,
        /// What is there.
        expected: (Shape, DType),
        /// What was to replace it.
        got: (Shape, DType),
    },
    /// A parameter has another shape than a layer needs.
    Shape {
        /// The name, with its whole path.
        name: String,
        /// What the layer needs.
        expected: Shape,
        /// What there is.
        got: Shape,
    },
    /// A parameter could not be converted to another dtype.
    Convert {
        /// The name, with its whole path.
        name: String,
        /// Its dtype.
        from: DType,
        /// The dtype asked for.
        to: DType,
        /// What Candle said.
        error: candle_core::Error,
    },
    /// Two files define the same name.
    Duplicate {
        /// The name.
        name: String,
        /// The second file.
        file: PathBuf,
    },
    /// A file could not be read.
    Io {
        /// The file.
        file: PathBuf,
        /// The operating system's word.
        error: std::io::Error,
    },
    /// A file is not what it should be: cut short, damaged or hostile.
    Format {
        /// The file.
        file: PathBuf,
        /// The parameter, once its name is known.
        name: Option<String>,
        /// What the parser said.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A parameter's dtype is one that Candle cannot hold.
    DType {
        /// The file.
        file: PathBuf,
        /// The parameter.
        name: String,
        /// The dtype as the file spells it.
        dtype: String,
    },
}

impl Error {
    /// An operation that cannot take `operands`.
    pub(crate) fn invalid<'a>(
        op: &'static str,
        operands: impl IntoIterator<Item = (&'a [usize], DType)>,
        reason: Reason,
    ) -> Self {
        Error::Invalid(Arc::new(Invalid {
            op,
            operands: operands
                .into_iter()
                .map(|(d, t)| (Shape::from(d), t))
                .collect(),
            reason,
        }))
    }

    /// The first cause, if this came from an operation that failed while it ran.
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let table = LazyTensor::zeros((4, 2), candlewick::DType::F32, &Device::Cpu)?;
    /// let ids = LazyTensor::new(&[9u32], &Device::Cpu)?;
    /// let error = executor.run(&table.index_select(&ids, 0)?).unwrap_err();
    /// assert_eq!(error.failure().expect("it ran").op, "index_select");
    /// # Ok::<_, candlewick::Error>(())
    /// ```
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Error::Failed(f) | Error::OwnerLost(f) => Some(f),
            _ => None,
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Invalid(e) => match &e.reason {
                Reason::Candle(e) => Some(e),
                _ => None,
            },
            Error::Failed(e) | Error::OwnerLost(e) => match &e.cause {
                Cause::Candle(e) => Some(e),
                _ => None,
            },
            Error::Build(e) => match &**e {
                BuildError::Thread(e) => Some(e),
                BuildError::Device(e) => Some(e),
                _ => None,
            },
            Error::Params(e) => match &**e {
                ParamsError::Io { error, .. } => Some(error),
                ParamsError::Format { error, .. } => Some(&**error),
                ParamsError::Convert { error, .. } => Some(error),
                _ => None,
            },
            Error::Config(e) => e.source(),
            _ => None,
        }
    }
}

/// So that `?` works in code that mixes candlewick and Candle.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        candle_core::Error::wrap(error)
    }
}

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        Error::Build(Arc::new(error))
    }
}

impl From<ParamsError> for Error {
    fn from(error: ParamsError) -> Self {
        Error::Params(Arc::new(error))
    }
}
