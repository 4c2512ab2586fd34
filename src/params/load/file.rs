//! A file of weights, read piece by piece at the places that its header names. Not mapped: a mapped file that
//! somebody cuts short ends the process that reads it.

use super::{Progress, Wrong};
use crate::error::{ParamsError, Result};
use crate::graph::fits;
use candle_core::{DType, Device, Tensor, WithDType};
use half::{bf16, f16};
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use zip::result::ZipError;

/// Bytes read at once: few calls, and a piece is still in the second cache when its numbers are copied.
const PIECE: usize = 256 << 10;
/// Bytes of tensors between two reports.
const REPORT: u64 = 4 << 20;

/// A file that is read.
pub(super) struct WeightFile {
    path: PathBuf,
    file: File,
    /// Bytes, when it was opened.
    len: u64,
}

impl WeightFile {
    pub(super) fn open(path: &Path) -> Result<Self, ParamsError> {
        let io = |error| ParamsError::Io {
            file: path.to_owned(),
            error,
        };
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            len,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The file from its start.
    pub(super) fn reader(&self) -> Result<BufReader<&File>, Wrong> {
        let mut file = &self.file;
        file.rewind()?;
        Ok(BufReader::new(file))
    }

    /// This file is not what it should be; or it could not be read, if the error is one of input.
    pub(super) fn error(&self, name: Option<&str>, error: impl Into<Wrong>) -> ParamsError {
        let (file, error) = (self.path.clone(), error.into());
        let error = match error.downcast::<ZipError>() {
            Ok(error) => match *error {
                ZipError::Io(error) => error.into(),
                other => other.into(),
            },
            Err(error) => error,
        };
        match error.downcast::<io::Error>() {
            // a damaged header sends a reader past the end as well
            Ok(error) if error.kind() != ErrorKind::UnexpectedEof || self.has_shrunk() => {
                ParamsError::Io {
                    file,
                    error: *error,
                }
            }
            Ok(_) => self.wrong(name, "it is cut short"),
            Err(error) => self.wrong(name, error),
        }
    }

    fn wrong(&self, name: Option<&str>, error: impl Into<Wrong>) -> ParamsError {
        ParamsError::Format {
            file: self.path.clone(),
            name: name.map(str::to_owned),
            error: error.into(),
        }
    }

    /// Whether the file is shorter than it was.
    fn has_shrunk(&self) -> bool {
        let now = self.file.metadata();
        now.is_ok_and(|now| now.len() < self.len)
    }

    /// Refuses what is not in this file, before memory is taken for it.
    fn within(&self, part: &Range<u64>) -> Result<usize, Wrong> {
        if part.start > part.end || part.end > self.len {
            return Err("it goes past the file's end".into());
        }
        Ok(usize::try_from(part.end - part.start)?)
    }

    /// A part of the file.
    pub(super) fn bytes(&self, part: Range<u64>) -> Result<Vec<u8>, Wrong> {
        let len = self.within(&part)?;
        let mut data = Vec::new();
        data.try_reserve_exact(len)?;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(part.start))?;
        match file.take(len as u64).read_to_end(&mut data)? {
            read if read == len => Ok(data),
            _ => Err(cut_short(ErrorKind::UnexpectedEof.into()).into()),
        }
    }

    /// Calls `each` with a part of the file, some bytes at a time: as many as divide by `unit`.
    fn pieces(
        &self,
        part: Range<u64>,
        unit: usize,
        meter: &mut Meter<'_>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Wrong> {
        let mut left = self.within(&part)?;
        let mut buffer = vec![0; left.min(PIECE / unit * unit)];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(part.start))?;
        while left > 0 {
            let piece = &mut buffer[..left.min(PIECE / unit * unit)];
            file.read_exact(piece).map_err(cut_short)?;
            each(piece);
            left -= piece.len();
            meter.advance(piece.len());
        }
        Ok(())
    }

    /// A tensor of the numbers in a part of the file, of `N` bytes each.
    pub(super) fn numbers<const N: usize, T: WithDType>(
        &self,
        part: Range<u64>,
        (shape, device): (&[usize], &Device),
        meter: &mut Meter<'_>,
        number: impl Fn([u8; N]) -> T,
    ) -> Result<Tensor, Wrong> {
        addressable(shape, T::DTYPE)?;
        let mut data = Vec::<T>::new();
        data.try_reserve_exact(self.within(&part)? / N)?;
        self.pieces(part, N, meter, |piece| {
            let (numbers, _) = piece.as_chunks::<N>();
            data.extend(numbers.iter().map(|&bytes| number(bytes)));
        })?;
        let tensor = Tensor::from_vec(data, shape, &Device::Cpu)?;
        Ok(tensor.to_device(device)?)
    }

    /// A tensor of a part of the file.
    pub(super) fn tensor(
        &self,
        part: Range<u64>,
        dtype: DType,
        to: (&[usize], &Device),
        meter: &mut Meter<'_>,
    ) -> Result<Tensor, Wrong> {
        match dtype {
            DType::U8 => self.numbers(part, to, meter, u8::from_le_bytes),
            DType::U32 => self.numbers(part, to, meter, u32::from_le_bytes),
            DType::I16 => self.numbers(part, to, meter, i16::from_le_bytes),
            DType::I32 => self.numbers(part, to, meter, i32::from_le_bytes),
            DType::I64 => self.numbers(part, to, meter, i64::from_le_bytes),
            DType::BF16 => self.numbers(part, to, meter, bf16::from_le_bytes),
            DType::F16 => self.numbers(part, to, meter, f16::from_le_bytes),
            DType::F32 => self.numbers(part, to, meter, f32::from_le_bytes),
            DType::F64 => self.numbers(part, to, meter, f64::from_le_bytes),
            other => {
                addressable(to.0, other)?;
                let bytes = self.bytes(part)?;
                meter.advance(bytes.len());
                Ok(Tensor::from_raw_buffer(&bytes, other, to.0, to.1)?)
            }
        }
    }
}

/// Refuses a shape whose elements could not be addressed if its empty dimensions were not empty.
pub(super) fn addressable(shape: &[usize], dtype: DType) -> Result<(), Wrong> {
    match fits(shape, dtype) {
        true => Ok(()),
        false => Err(format!("its shape {shape:?} is beyond what can be addressed").into()),
    }
}

/// The error of a read of what the file had when it was opened.
fn cut_short(error: io::Error) -> io::Error {
    match error.kind() {
        kind @ ErrorKind::UnexpectedEof => {
            io::Error::new(kind, "the file has become shorter while it was read")
        }
        _ => error,
    }
}

type Report<'p> = Box<dyn FnMut(Progress) + 'p>;

/// Counts bytes, and tells the user.
#[derive(Default)]
pub(super) struct Meter<'p> {
    report: Option<Report<'p>>,
    done: u64,
    /// What was told last.
    told: u64,
    total: u64,
    /// Bytes of the files that are finished.
    finished: u64,
    /// How many files are to be finished.
    expected: usize,
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
        self.expected += 1;
        Ok(())
    }

    /// So many bytes more of the tensors have been read.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.done = self.done.saturating_add(bytes as u64);
        if self.done - self.told >= REPORT {
            self.tell();
        }
    }

    /// A file has been read, headers and all.
    pub(super) fn finish(&mut self, file: &WeightFile) {
        self.finished = self.finished.saturating_add(file.len());
        self.expected -= 1;
        if self.expected == 0 {
            self.finished = self.finished.max(self.total); // a file may have become shorter
        }
        self.done = self.done.max(self.finished);
        self.tell();
    }

    fn tell(&mut self) {
        self.told = self.done;
        if let Some(report) = &mut self.report {
            report(Progress {
                done: self.done.min(self.total),
                total: self.total,
            });
        }
    }
}
