//! NumPy's `.npz`: an archive of `.npy` files, each a short header and then the elements.

use super::Wrong;
use super::file::{Meter, WeightFile};
use crate::error::ParamsError;
use candle_core::{DType, Device, Tensor};
use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use zip::{CompressionMethod, ZipArchive};

/// Bytes of the header of an `.npy` file before those that it counts, at most.
const BEFORE: u64 = 12;

/// An array within the file.
struct Array {
    dtype: DType,
    shape: Vec<usize>,
    data: Range<u64>,
}

pub(super) fn read(
    file: &WeightFile,
    device: &Device,
    meter: &mut Meter<'_>,
) -> Result<Vec<(String, Tensor)>, ParamsError> {
    let archive = || Ok(ZipArchive::new(file.reader()?)?);
    let mut archive = archive().map_err(|error: Wrong| file.error(None, error))?;
    // Entries may overlap, so that a short file could claim long arrays many times over.
    let mut left = file.len();
    let mut tensors = Vec::new();
    for index in 0..archive.len() {
        let entry = entry(&mut archive, index, file.len());
        let (name, part) = entry.map_err(|error| file.error(None, error))?;
        let wrong = |error: Wrong| file.error(Some(&name), error);
        left = left
            .checked_sub(part.end - part.start)
            .ok_or_else(|| wrong("the arrays overlap".into()))?;
        let array = array(file, part).map_err(|error| match error {
            Refused::DType(dtype) => ParamsError::DType {
                file: file.path().to_owned(),
                name: name.clone(),
                dtype,
            },
            Refused::Wrong(error) => wrong(error),
        })?;
        let to = (&array.shape[..], device);
        let tensor = file.tensor(array.data, array.dtype, to, meter);
        tensors.push((name.clone(), tensor.map_err(wrong)?));
    }
    Ok(tensors)
}

/// The name of a stored entry, and where in the file of `len` bytes it is.
fn entry(
    archive: &mut ZipArchive<BufReader<&File>>,
    index: usize,
    len: u64,
) -> Result<(String, Range<u64>), Wrong> {
    let entry = archive.by_index_raw(index)?;
    let name = entry.name()?;
    let name = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
    if entry.compression() != CompressionMethod::STORE || entry.encrypted() {
        return Err(format!("array {name:?} is compressed or encrypted").into());
    }
    let start = entry.data_start();
    let part = start.and_then(|start| Some(start..start.checked_add(entry.compressed_size())?));
    match part {
        Some(part) if part.end <= len => Ok((name, part)),
        _ => Err(format!("array {name:?} goes past the file's end").into()),
    }
}

enum Refused {
    DType(String),
    Wrong(Wrong),
}

impl<E: Into<Wrong>> From<E> for Refused {
    fn from(error: E) -> Self {
        Refused::Wrong(error.into())
    }
}

/// The array that a part of the file says that it is.
fn array(file: &WeightFile, part: Range<u64>) -> Result<Array, Refused> {
    let before = file.bytes(part.start..part.end.min(part.start + BEFORE))?;
    let rest = before
        .strip_prefix(b"\x93NUMPY")
        .ok_or("it is not an npy file")?;
    let (start, len) = match *rest {
        [1, _, a, b, ..] => (10, u64::from(u16::from_le_bytes([a, b]))),
        [2 | 3, _, a, b, c, d, ..] => (12, u64::from(u32::from_le_bytes([a, b, c, d]))),
        _ => return Err("its header is cut short or of an unknown version".into()),
    };
    let start = part.start + start;
    let data = match start.checked_add(len) {
        Some(end) if end <= part.end => end..part.end,
        _ => return Err("its header goes past its end".into()),
    };
    let header = file.bytes(start..data.start)?;
    let header = std::str::from_utf8(&header)?;
    if field(header, "fortran_order")? != "False" {
        return Err("it is in Fortran order".into());
    }
    let descr = field(header, "descr")?.trim_matches(['\'', '"']);
    let dtype = dtype(descr).ok_or_else(|| Refused::DType(descr.to_owned()))?;
    let shape = shape(field(header, "shape")?)?;
    let elements = shape
        .iter()
        .try_fold(1usize, |all, dim| all.checked_mul(*dim));
    let bytes = elements.and_then(|n| n.checked_mul(dtype.size_in_bytes()));
    let found = data.end - data.start;
    if bytes.is_none_or(|bytes| bytes as u64 != found) {
        return Err(format!("shape {shape:?} does not fit {found} bytes").into());
    }
    Ok(Array { dtype, shape, data })
}

/// A value of the header, which is a Python dictionary: `{'descr': '<f4', 'shape': (2, 3), }`.
fn field<'a>(header: &'a str, key: &str) -> Result<&'a str, Wrong> {
    let absent = || format!("its header lacks {key:?}");
    let (_, rest) = header.split_once(&format!("'{key}':")).ok_or_else(absent)?;
    let rest = rest.trim_start();
    let end = match rest.strip_prefix('(') {
        Some(tuple) => tuple.find(')').map(|at| at + 2),
        None => rest.find([',', '}']),
    };
    Ok(rest[..end.ok_or_else(absent)?].trim())
}

fn shape(tuple: &str) -> Result<Vec<usize>, Wrong> {
    let inside = tuple
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .ok_or("its shape is not a tuple")?;
    let inside = inside.trim();
    let dims = inside.strip_suffix(',').unwrap_or(inside);
    if dims.is_empty() {
        return Ok(Vec::new());
    }
    dims.split(',').map(|dim| Ok(dim.trim().parse()?)).collect()
}

fn dtype(descr: &str) -> Option<DType> {
    match descr {
        "<f2" => Some(DType::F16),
        "<f4" => Some(DType::F32),
        "<f8" => Some(DType::F64),
        "|u1" | "<u1" | "|b1" => Some(DType::U8),
        "<u4" => Some(DType::U32),
        "<i2" => Some(DType::I16),
        "<i4" => Some(DType::I32),
        "<i8" => Some(DType::I64),
        _ => None,
    }
}
