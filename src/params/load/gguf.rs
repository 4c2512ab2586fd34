//! GGUF files: the tensors that a header describes.

mod header;

use super::Wrong;
use super::file::{Meter, WeightFile, addressable};
use crate::error::ParamsError;
use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QTensor, ggml_file};
use candle_core::{DType, Device};
use header::Header;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) type Metadata = BTreeMap<String, Value>;
pub(super) type Weights = BTreeMap<String, Arc<QTensor>>;

/// Candle's blocks are aligned to at most this.
const ALIGN: usize = 8;

pub(super) fn read(
    file: &WeightFile,
    device: &Device,
    meter: &mut Meter<'_>,
) -> Result<(Metadata, Weights), ParamsError> {
    let header = file
        .reader()
        .and_then(|reader| Header::parse(reader, file.len()));
    let header = header.map_err(|error| file.error(None, error))?;
    // Tensors may overlap, so that a short file could claim long ones many times over.
    let mut left = file.len().saturating_sub(header.data);
    let mut weights = Weights::new();
    for tensor in header.tensors {
        let name = tensor.name;
        let dtype = dtype(tensor.dtype).ok_or_else(|| ParamsError::DType {
            file: file.path().to_owned(),
            name: name.clone(),
            dtype: format!("GGML {}", tensor.dtype),
        })?;
        let wrong = |error: Wrong| file.error(Some(&name), error);
        let len = bytes(&tensor.dims, dtype).map_err(wrong)?;
        addressable(&tensor.dims, DType::F32).map_err(wrong)?; // what it is made into
        let start = header.data.checked_add(tensor.offset);
        let part = start.and_then(|start| Some(start..start.checked_add(len)?));
        let part = part.filter(|part| part.end <= file.len() || len == 0);
        let part = part.ok_or_else(|| wrong("it goes past the file's end".into()))?;
        left = left
            .checked_sub(len)
            .ok_or_else(|| wrong("the tensors overlap".into()))?;
        let dims = tensor.dims;
        let make = |blocks: &[u8]| ggml_file::qtensor_from_ggml(dtype, blocks, dims, device);
        let blocks = match len {
            0 => Vec::new(),
            _ => file.bytes(part).map_err(wrong)?,
        };
        let weight = with_aligned(&blocks, make).map_err(|error| wrong(error.into()))?;
        meter.advance(blocks.len());
        if weights.insert(name.clone(), Arc::new(weight)).is_some() {
            let file = file.path().to_owned();
            return Err(ParamsError::Duplicate { name, file });
        }
    }
    Ok((header.metadata, weights))
}

/// The number of bytes of a tensor. Candle takes what shape and dtype say, and does not check that the bytes are
/// as many.
fn bytes(dims: &[usize], dtype: GgmlDType) -> Result<u64, Wrong> {
    let elements = dims
        .iter()
        .try_fold(1usize, |all, dim| all.checked_mul(*dim));
    let elements = elements.ok_or("its number of elements does not fit in a usize")?;
    let last = dims.last().ok_or("it has no dimensions")?;
    if !last.is_multiple_of(dtype.block_size()) {
        let block = dtype.block_size();
        return Err(format!("rows of {last} are not whole blocks of {block}").into());
    }
    let bytes = (elements / dtype.block_size()).checked_mul(dtype.type_size());
    Ok(bytes.ok_or("its number of bytes does not fit in a usize")? as u64)
}

/// Calls `f` with the bytes where Candle can read blocks from: a copy only if the allocator has put them
/// elsewhere, which it does not do with more than a few.
fn with_aligned<R>(bytes: &[u8], f: impl FnOnce(&[u8]) -> R) -> R {
    if (bytes.as_ptr() as usize).is_multiple_of(ALIGN) {
        return f(bytes);
    }
    let mut copy = Vec::<u8>::with_capacity(bytes.len() + ALIGN);
    let before = copy.as_ptr() as usize % ALIGN;
    copy.resize((ALIGN - before) % ALIGN, 0);
    let start = copy.len();
    copy.extend_from_slice(bytes); // stays in the place that was reserved
    f(&copy[start..])
}

/// The dtypes that Candle reads, by GGML's numbers.
fn dtype(number: u32) -> Option<GgmlDType> {
    match number {
        0 => Some(GgmlDType::F32),
        1 => Some(GgmlDType::F16),
        2 => Some(GgmlDType::Q4_0),
        3 => Some(GgmlDType::Q4_1),
        6 => Some(GgmlDType::Q5_0),
        7 => Some(GgmlDType::Q5_1),
        8 => Some(GgmlDType::Q8_0),
        10 => Some(GgmlDType::Q2K),
        11 => Some(GgmlDType::Q3K),
        12 => Some(GgmlDType::Q4K),
        13 => Some(GgmlDType::Q5K),
        14 => Some(GgmlDType::Q6K),
        30 => Some(GgmlDType::BF16),
        _ => None,
    }
}
