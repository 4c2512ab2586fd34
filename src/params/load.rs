//! Reading safetensors files that may be damaged or hostile.

use crate::error::{ParamsError, Result};
use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

/// The tensors of several files, by name.
pub(super) fn files<P: AsRef<Path>>(files: &[P], device: &Device) -> Result<Vec<(String, Tensor)>> {
    let mut tensors = Vec::new();
    let mut names = HashSet::new();
    for file in files {
        let file = file.as_ref();
        for (name, tensor) in read(file, device)? {
            if !names.insert(name.clone()) {
                let file = file.to_owned();
                return Err(ParamsError::Duplicate { name, file }.into());
            }
            tensors.push((name, tensor));
        }
    }
    Ok(tensors)
}

fn read(path: &Path, device: &Device) -> Result<Vec<(String, Tensor)>, ParamsError> {
    let io = |error| ParamsError::Io {
        file: path.to_owned(),
        error,
    };
    let file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() == 0 {
        return Err(format(path, None, "the file is empty")); // which cannot be mapped
    }
    // SAFETY: the mapping is read-only and ends with this function. That nobody changes or
    // truncates the file meanwhile is what `Params::load` asks for by its nature; no mapping of a
    // file can be protected against that.
    let data = unsafe { Mmap::map(&file) }.map_err(io)?;
    // Checks the header's length against the file's, every offset against its neighbours and the
    // end, and every size against shape and dtype, without allocating by what the header claims.
    let parsed = SafeTensors::deserialize(&data).map_err(|error| format(path, None, error))?;
    parsed
        .iter()
        .map(|(name, view)| {
            let known = dtype(view.dtype()).ok_or_else(|| ParamsError::DType {
                file: path.to_owned(),
                name: name.to_owned(),
                dtype: format!("{:?}", view.dtype()),
            })?;
            let tensor = match view.dtype() {
                Dtype::U16 => widened(view.data(), view.shape(), device),
                _ => Tensor::from_raw_buffer(view.data(), known, view.shape(), device),
            };
            let tensor = tensor.map_err(|error| format(path, Some(name), error))?;
            Ok((name.to_owned(), tensor))
        })
        .collect()
}

/// Candle has no u16.
fn widened(data: &[u8], shape: &[usize], device: &Device) -> candle_core::Result<Tensor> {
    let wide = data
        .chunks_exact(2)
        .map(|b| u32::from(u16::from_le_bytes([b[0], b[1]])));
    Tensor::from_vec(wide.collect::<Vec<u32>>(), shape, device)
}

fn dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::U8 => Some(DType::U8),
        Dtype::U16 | Dtype::U32 => Some(DType::U32),
        Dtype::I16 => Some(DType::I16),
        Dtype::I32 => Some(DType::I32),
        Dtype::I64 => Some(DType::I64),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F16 => Some(DType::F16),
        Dtype::F32 => Some(DType::F32),
        Dtype::F64 => Some(DType::F64),
        Dtype::F8_E4M3 => Some(DType::F8E4M3),
        _ => None,
    }
}

fn format(
    file: &Path,
    name: Option<&str>,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ParamsError {
    ParamsError::Format {
        file: file.to_owned(),
        name: name.map(str::to_owned),
        error: error.into(),
    }
}
