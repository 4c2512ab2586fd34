//! GGUF files: the tensors that a header describes.

mod header;

use super::Wrong;
use super::mapped::{Mapped, Meter};
use crate::error::ParamsError;
use candle_core::Device;
use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QTensor, ggml_file};
use header::Header;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) type Metadata = BTreeMap<String, Value>;
pub(super) type Weights = BTreeMap<String, Arc<QTensor>>;

/// Candle's blocks are aligned to at most this.
const ALIGN: usize = 8;

pub(super) fn read(
    file: &Mapped,
    device: &Device,
    meter: &mut Meter<'_>,
) -> Result<(Metadata, Weights), ParamsError> {
    let header = Header::parse(file.bytes()).map_err(|error| file.format(None, error))?;
    // Tensors may overlap, so that a short file could claim long ones many times over.
    let mut left = header.data.len();
    let mut weights = Weights::new();
    for tensor in header.tensors {
        let name = tensor.name;
        let dtype = dtype(tensor.dtype).ok_or_else(|| ParamsError::DType {
            file: file.path().to_owned(),
            name: name.clone(),
            dtype: format!("GGML {}", tensor.dtype),
        })?;
        let wrong = |error: Wrong| file.format(Some(&name), error);
        let bytes = part(header.data, tensor.offset, &tensor.dims, dtype).map_err(wrong)?;
        left = left
            .checked_sub(bytes.len())
            .ok_or_else(|| wrong("the tensors overlap".into()))?;
        let dims = tensor.dims;
        let make = |blocks: &[u8]| ggml_file::qtensor_from_ggml(dtype, blocks, dims, device);
        let weight = with_aligned(bytes, make).map_err(|error| wrong(error.into()))?;
        file.copied(bytes.len(), meter);
        if weights.insert(name.clone(), Arc::new(weight)).is_some() {
            let file = file.path().to_owned();
            return Err(ParamsError::Duplicate { name, file });
        }
    }
    Ok((header.metadata, weights))
}

/// The bytes of a tensor. Candle takes what shape and dtype say, and does not check that the
/// bytes are as many.
fn part<'a>(
    data: &'a [u8],
    offset: u64,
    dims: &[usize],
    dtype: GgmlDType,
) -> Result<&'a [u8], Wrong> {
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
    let start = usize::try_from(offset)?;
    bytes
        .and_then(|bytes| start.checked_add(bytes))
        .and_then(|end| data.get(start..end))
        .ok_or_else(|| "it goes past the file's end".into())
}

/// Calls `f` with the bytes where Candle can read blocks from: a copy only if the file has them
/// elsewhere, which files written by the usual tools have not.
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
