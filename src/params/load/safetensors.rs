//! Safetensors files.

use super::Wrong;
use super::file::{Meter, WeightFile};
use crate::error::ParamsError;
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::BTreeSet;

/// The longest header, in bytes, as the format has it.
const LONGEST_HEADER: u64 = 100_000_000;
/// Bytes before the header, which say how long it is.
const BEFORE: u64 = 8;

/// The tensors of a file, or those `wanted` that it has.
pub(super) fn read(
    file: &WeightFile,
    wanted: Option<&BTreeSet<String>>,
    device: &Device,
    meter: &mut Meter<'_>,
) -> Result<Vec<(String, Tensor)>, ParamsError> {
    let (header, start) = header(file).map_err(|error| file.error(None, error))?;
    let names = header.offset_keys(); // as the disk has them
    let infos = names
        .iter()
        .filter(|name| wanted.is_none_or(|wanted| wanted.contains(*name)))
        .filter_map(|name| Some((name, header.info(name)?)));
    let tensor = |(name, info): (&String, &TensorInfo)| {
        let tensor = one(file, name, info, start, device, meter)?;
        Ok((name.clone(), tensor))
    };
    infos.map(tensor).collect()
}

/// The header, and where the tensors begin. Every offset has been checked against its neighbours and the file's
/// end, and every size against shape and dtype.
fn header(file: &WeightFile) -> Result<(Metadata, u64), Wrong> {
    let len = file.bytes(0..BEFORE.min(file.len()))?;
    let len = len.first_chunk().copied().map(u64::from_le_bytes);
    let len = len.ok_or("the header is cut short")?;
    if len > LONGEST_HEADER {
        return Err(format!("a header of {len} bytes is too long").into());
    }
    let start = BEFORE + len;
    let header: Metadata = serde_json::from_slice(&file.bytes(BEFORE..start)?)?;
    let end = u64::try_from(header.data_len())?.checked_add(start);
    if end != Some(file.len()) {
        return Err("the tensors do not end where the file does".into());
    }
    Ok((header, start))
}

fn one(
    file: &WeightFile,
    name: &str,
    info: &TensorInfo,
    start: u64,
    device: &Device,
    meter: &mut Meter<'_>,
) -> Result<Tensor, ParamsError> {
    let known = dtype(info.dtype).ok_or_else(|| ParamsError::DType {
        file: file.path().to_owned(),
        name: name.to_owned(),
        dtype: format!("{:?}", info.dtype),
    })?;
    let (first, end) = info.data_offsets;
    let part = start + first as u64..start + end as u64;
    let to = (&info.shape[..], device);
    let tensor = match info.dtype {
        // Candle has no u16
        Dtype::U16 => file.numbers(part, to, meter, |bytes| {
            u32::from(u16::from_le_bytes(bytes))
        }),
        _ => file.tensor(part, known, to, meter),
    };
    tensor.map_err(|error| file.error(Some(name), error))
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
