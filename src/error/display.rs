//! What each error says.

use super::{BuildError, Cause, Error, Failure, ParamsError, Reason};
use candle_core::{DType, Shape};
use std::fmt;

/// `[2, 3] f32, [4] f32`
struct Operands<'a>(&'a [(Shape, DType)]);

impl fmt::Display for Operands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (shape, dtype)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{:?} {}", shape.dims(), dtype.as_str())?;
        }
        Ok(())
    }
}

fn describe((shape, dtype): &(Shape, DType)) -> String {
    format!("{:?} {}", shape.dims(), dtype.as_str())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid(e) => write!(f, "{}({}): {}", e.op, Operands(&e.operands), e.reason),
            Error::Failed(e) => e.fmt(f),
            Error::Cancelled => f.write_str("cancelled before it began"),
            Error::DeadlineExceeded => f.write_str("it had not begun by its deadline"),
            Error::Closed => f.write_str("the executor is closed"),
            Error::QueueFull {
                capacity,
                capacity_bytes,
                bytes,
            } => write!(
                f,
                "the queue is full: it holds at most {capacity} fragments and \
                 {capacity_bytes} bytes of host data, and this one brings {bytes}"
            ),
            Error::TooLarge {
                bytes,
                capacity_bytes,
            } => write!(
                f,
                "the fragment brings {bytes} bytes of host data and the queue holds at most \
                 {capacity_bytes}"
            ),
            Error::Timeout(limit) => write!(f, "not finished within {limit:?}"),
            Error::ForeignExecutor { shape, dtype } => write!(
                f,
                "a tensor ({:?} {}) that was submitted to another executor",
                shape.dims(),
                dtype.as_str()
            ),
            Error::ForeignDevice { tensor, executor } => write!(
                f,
                "a tensor on {tensor:?} was submitted to an executor on {executor:?}; \
                 move it with to_device first"
            ),
            Error::Placeholder { shape, dtype } => write!(
                f,
                "a placeholder ({:?} {}), which a compiled function is traced with, has no value \
                 outside of the trace",
                shape.dims(),
                dtype.as_str()
            ),
            Error::Arguments { expected, got } => write!(
                f,
                "a compiled function of {expected} arguments was given {got}"
            ),
            Error::WouldDeadlock { call } => write!(
                f,
                "{call} would wait for ever: this thread drives the executor that it waits for, or one that \
                 the driver of that executor waits for"
            ),
            Error::OwnerLost(e) => write!(f, "the executor's owner is lost: {e}"),
            Error::Build(e) => e.fmt(f),
            Error::Params(e) => e.fmt(f),
            Error::Config(e) => e.fmt(f),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Shapes => f.write_str("the shapes do not agree"),
            Reason::Broadcast => f.write_str("the shapes cannot be broadcast together"),
            Reason::DTypes => f.write_str("the dtypes differ"),
            Reason::UnsupportedDType(d) => write!(f, "not supported for {}", d.as_str()),
            Reason::Dim { dim, rank } => write!(f, "no dimension {dim} in rank {rank}"),
            Reason::DuplicateDim(d) => write!(f, "dimension {d} is named twice"),
            Reason::Rank { expected, got } => write!(f, "takes {expected}, got rank {got}"),
            Reason::OutOfRange {
                dim,
                start,
                len,
                size,
            } => write!(
                f,
                "{len} elements from {start} do not fit in dimension {dim} of size {size}"
            ),
            Reason::ElementCount { from, to } => {
                write!(f, "{from} elements cannot fill a shape of {to}")
            }
            Reason::Overflow => f.write_str("the number of elements overflows"),
            Reason::Empty => f.write_str("needs at least one tensor"),
            Reason::Devices(a, b) => write!(f, "the operands are on {a:?} and {b:?}"),
            Reason::Argument { name, must } => write!(f, "{name} must be {must}"),
            Reason::Candle(e) => e.fmt(f),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.op.is_empty() {
            write!(f, "{}({}): ", self.op, Operands(&self.operands))?;
        }
        match &self.cause {
            Cause::Candle(e) => e.fmt(f),
            Cause::Panic(message) => write!(f, "panicked: {message}"),
            Cause::IndexOutOfRange { index, size } => {
                write!(
                    f,
                    "index {index} is out of range for a dimension of size {size}"
                )
            }
            Cause::OutOfMemory { asked, left } => {
                write!(
                    f,
                    "out of device memory: asked for {asked} bytes, {left} left"
                )
            }
            Cause::DeviceLost(message) => write!(f, "the device is lost: {message}"),
            Cause::ShortStorage { held, needed } => write!(
                f,
                "a tensor names {needed} elements and has memory for {held}"
            ),
            Cause::Announced { expected, got } => write!(
                f,
                "announced {} and returned {}",
                describe(expected),
                describe(got)
            ),
        }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Capacity { asked, max } => write!(
                f,
                "a queue of {asked} fragments: the capacity must be between 1 and {max}"
            ),
            BuildError::CapacityBytes { asked, max } => write!(
                f,
                "a queue of {asked} bytes: the bound must be between 1 and {max}"
            ),
            BuildError::Thread(e) => write!(f, "the owner's thread could not be started: {e}"),
            BuildError::PerThreadStream => f.write_str(
                "this CUDA device has a stream for each thread, so that work of different \
                 threads is not ordered; make it with Device::new_cuda_with_stream",
            ),
            BuildError::Device(e) => write!(f, "the device could not be prepared: {e}"),
            BuildError::UnknownDevice(device) => {
                write!(f, "this build has no feature for {device:?}")
            }
        }
    }
}

impl fmt::Display for ParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParamsError::Unknown { name } => write!(f, "no parameter is named {name:?}"),
            ParamsError::Missing { name } => {
                write!(f, "the replacement lacks parameter {name:?}")
            }
            ParamsError::Repeated { name } => write!(f, "parameter {name:?} is given twice"),
            ParamsError::Shape {
                name,
                expected,
                got,
            } => write!(
                f,
                "parameter {name:?} is {:?}, not {:?}",
                got.dims(),
                expected.dims()
            ),
            ParamsError::Convert {
                name,
                from,
                to,
                error,
            } => write!(
                f,
                "parameter {name:?} cannot be converted from {} to {}: {error}",
                from.as_str(),
                to.as_str()
            ),
            ParamsError::Mismatch {
                name,
                expected,
                got,
            } => write!(
                f,
                "parameter {name:?} is {} and cannot be replaced by {}",
                describe(expected),
                describe(got)
            ),
            ParamsError::Duplicate { name, file } => {
                write!(f, "{}: parameter {name:?} is defined twice", file.display())
            }
            ParamsError::Io { file, error } => write!(f, "{}: {error}", file.display()),
            ParamsError::Format { file, name, error } => match name {
                Some(name) => write!(f, "{}: parameter {name:?}: {error}", file.display()),
                None => write!(f, "{}: {error}", file.display()),
            },
            ParamsError::DType { file, name, dtype } => write!(
                f,
                "{}: parameter {name:?} has dtype {dtype}, which Candle cannot hold",
                file.display()
            ),
        }
    }
}
