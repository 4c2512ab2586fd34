//! A mapped file, copied out piece by piece.

use super::{Progress, Wrong};
use crate::error::{ParamsError, Result};
use candle_core::{DType, Device, Tensor, WithDType};
use half::{bf16, f16};
use memmap2::Mmap;
use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Bytes copied between two reports, and between two times that pages are given back: long enough
/// that neither costs anything, short beside the weights of a model.
const PIECE: usize = 4 << 20;

/// A file that is read.
pub(super) struct Mapped {
    path: PathBuf,
    map: Mmap,
    /// Bytes copied since pages were given back.
    touched: Cell<usize>,
}

impl Mapped {
    pub(super) fn open(path: &Path) -> Result<Self, ParamsError> {
        let io = |error| ParamsError::Io {
            file: path.to_owned(),
            error,
        };
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return Err(format(path, None, "the file is empty")); // which cannot be mapped
        }
        // SAFETY: the mapping is read-only and ends with the load. That nobody changes or
        // truncates the file meanwhile is what `Loader` asks for; no mapping of a file can be
        // protected against that.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            map,
            touched: Cell::new(0),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// This file is not what it should be.
    pub(super) fn format(&self, name: Option<&str>, error: impl Into<Wrong>) -> ParamsError {
        format(&self.path, name, error)
    }

    /// Counts that `bytes` more of the file have been copied.
    pub(super) fn copied(&self, bytes: usize, meter: &mut Meter<'_>) {
        self.touched.set(self.touched.get().saturating_add(bytes));
        if self.touched.get() >= PIECE {
            self.touched.set(0);
            self.give_pages_back();
        }
        meter.advance(bytes);
    }

    /// Takes the pages out of this process's memory; the system keeps them as it sees fit.
    fn give_pages_back(&self) {
        #[cfg(target_os = "linux")]
        {
            use memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the mapping is of a file and is never written to, so that a page that is
            // read again has the same bytes.
            let advised = unsafe { self.map.unchecked_advise(DontNeed) };
            let _ = advised; // only advice: without it, the pages go with the mapping
        }
    }

    /// A tensor of `bytes`, which are part of this file and as many as shape and dtype need.
    pub(super) fn tensor(
        &self,
        bytes: &[u8],
        dtype: DType,
        shape: &[usize],
        device: &Device,
        meter: &mut Meter<'_>,
    ) -> candle_core::Result<Tensor> {
        if !device.is_cpu() {
            let tensor = Tensor::from_raw_buffer(bytes, dtype, shape, device)?;
            self.copied(bytes.len(), meter);
            return Ok(tensor);
        }
        match dtype {
            DType::U8 => self.typed::<u8>(bytes, shape, meter),
            DType::U32 => self.typed::<u32>(bytes, shape, meter),
            DType::I16 => self.typed::<i16>(bytes, shape, meter),
            DType::I32 => self.typed::<i32>(bytes, shape, meter),
            DType::I64 => self.typed::<i64>(bytes, shape, meter),
            DType::BF16 => self.typed::<bf16>(bytes, shape, meter),
            DType::F16 => self.typed::<f16>(bytes, shape, meter),
            DType::F32 => self.typed::<f32>(bytes, shape, meter),
            DType::F64 => self.typed::<f64>(bytes, shape, meter),
            other => {
                let tensor = Tensor::from_raw_buffer(bytes, other, shape, device)?;
                self.copied(bytes.len(), meter);
                Ok(tensor)
            }
        }
    }

    fn typed<T: Plain>(
        &self,
        bytes: &[u8],
        shape: &[usize],
        meter: &mut Meter<'_>,
    ) -> candle_core::Result<Tensor> {
        let len = bytes.len() / size_of::<T>();
        let mut data = Vec::<T>::new();
        data.try_reserve_exact(len)
            .map_err(candle_core::Error::wrap)?;
        let start = data.as_mut_ptr().cast::<u8>();
        let whole = &bytes[..len * size_of::<T>()];
        let mut at = 0;
        for piece in whole.chunks(PIECE) {
            // SAFETY: `at + piece.len()` is at most `len * size_of::<T>()`, which was reserved;
            // memory that was just reserved does not overlap the mapping.
            unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), start.add(at), piece.len()) };
            at += piece.len();
            self.copied(piece.len(), meter);
        }
        // SAFETY: all `len` elements were written above, and any bytes are a `Plain`.
        unsafe { data.set_len(len) };
        Tensor::from_vec(data, shape, &Device::Cpu)
    }
}

/// # Safety
/// Any bytes are a value.
unsafe trait Plain: WithDType {}

macro_rules! plain {
    ($($t:ty)*) => {
        // SAFETY: these are numbers without unused bits.
        $(unsafe impl Plain for $t {})*
    };
}
plain!(u8 u32 i16 i32 i64 bf16 f16 f32 f64);

fn format(file: &Path, name: Option<&str>, error: impl Into<Wrong>) -> ParamsError {
    ParamsError::Format {
        file: file.to_owned(),
        name: name.map(str::to_owned),
        error: error.into(),
    }
}

type Report<'p> = Box<dyn FnMut(Progress) + 'p>;

/// Counts bytes, and tells the user.
#[derive(Default)]
pub(super) struct Meter<'p> {
    report: Option<Report<'p>>,
    done: u64,
    total: u64,
    /// Bytes of the files that are finished.
    finished: u64,
}

impl<'p> Meter<'p> {
    pub(super) fn report_to(&mut self, report: Report<'p>) {
        self.report = Some(report);
    }

    /// A file that will be read.
    pub(super) fn expect(&mut self, path: &Path) -> Result<(), ParamsError> {
        let found = std::fs::metadata(path).map_err(|error| ParamsError::Io {
            file: path.to_owned(),
            error,
        })?;
        self.total = self.total.saturating_add(found.len());
        Ok(())
    }

    fn advance(&mut self, bytes: usize) {
        self.tell(self.done.saturating_add(bytes as u64));
    }

    /// A file has been read, headers and all.
    pub(super) fn finish(&mut self, file: &Mapped) {
        self.finished = self.finished.saturating_add(file.map.len() as u64);
        self.tell(self.finished);
    }

    fn tell(&mut self, done: u64) {
        self.done = done.min(self.total);
        if let Some(report) = &mut self.report {
            report(Progress {
                done: self.done,
                total: self.total,
            });
        }
    }
}
