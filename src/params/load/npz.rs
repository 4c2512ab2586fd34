//! NumPy's `.npz`: an archive of `.npy` files, each a short header and then the elements.

use super::Wrong;
use super::mapped::{Mapped, Meter};
use crate::error::ParamsError;
use candle_core::{DType, Device, Tensor};
use std::io::Cursor;
use zip::{CompressionMethod, ZipArchive};

/// An array within the file.
struct Array<'a> {
    dtype: DType,
    shape: Vec<usize>,
    data: &'a [u8],
}

pub(super) fn read(
    file: &Mapped,
    device: &Device,
    meter: &mut Meter<'_>,
) -> Result<Vec<(String, Tensor)>, ParamsError> {
    let mut archive =
        ZipArchive::new(Cursor::new(file.bytes())).map_err(|error| file.format(None, error))?;
    // Entries may overlap, so that a short file could claim long arrays many times over.
    let mut left = file.bytes().len();
    let mut tensors = Vec::new();
    for index in 0..archive.len() {
        let (name, bytes) =
            entry(file.bytes(), &mut archive, index).map_err(|error| file.format(None, error))?;
        let wrong = |error: Wrong| file.format(Some(&name), error);
        left = left
            .checked_sub(bytes.len())
            .ok_or_else(|| wrong("the arrays overlap".into()))?;
        let array = array(bytes).map_err(|error| match error {
            Refused::DType(dtype) => ParamsError::DType {
                file: file.path().to_owned(),
                name: name.clone(),
                dtype,
            },
            Refused::Wrong(error) => wrong(error),
        })?;
        let tensor = file
            .tensor(array.data, array.dtype, &array.shape, device, meter)
            .map_err(|error| wrong(error.into()))?;
        tensors.push((name, tensor));
    }
    Ok(tensors)
}

/// The name and the bytes of a stored entry.
fn entry<'a>(
    file: &'a [u8],
    archive: &mut ZipArchive<Cursor<&'a [u8]>>,
    index: usize,
) -> Result<(String, &'a [u8]), Wrong> {
    let entry = archive.by_index_raw(index)?;
    let name = entry.name()?;
    let name = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
    if entry.compression() != CompressionMethod::STORE || entry.encrypted() {
        return Err(format!("array {name:?} is compressed or encrypted").into());
    }
    let start = entry.data_start().and_then(|at| usize::try_from(at).ok());
    let len = usize::try_from(entry.compressed_size()).ok();
    let bytes = start.zip(len).and_then(|(start, len)| {
        let end = start.checked_add(len)?;
        file.get(start..end)
    });
    bytes
        .map(|bytes| (name.clone(), bytes))
        .ok_or_else(|| format!("array {name:?} goes past the file's end").into())
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

fn array(npy: &[u8]) -> Result<Array<'_>, Refused> {
    let rest = npy
        .strip_prefix(b"\x93NUMPY")
        .ok_or("it is not an npy file")?;
    let (len, rest) = match rest {
        [1, _, a, b, rest @ ..] => (u32::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]), rest),
        _ => return Err("its header is cut short or of an unknown version".into()),
    };
    let len = usize::try_from(len)?;
    let (header, data) = rest
        .split_at_checked(len)
        .ok_or("its header goes past its end")?;
    let header = std::str::from_utf8(header)?;
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
    if bytes != Some(data.len()) {
        let error = format!("shape {shape:?} does not fit {} bytes", data.len());
        return Err(error.into());
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
