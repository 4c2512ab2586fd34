//! Safetensors files.

use super::mapped::{Mapped, Meter};
use crate::error::ParamsError;
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeSet;

/// The tensors of a file, or those `wanted` that it has.
pub(super) fn read(
    file: &Mapped,
    wanted: Option<&BTreeSet<String>>,
    device: &Device,
    meter: &mut Meter<'_>,
) -> Result<Vec<(String, Tensor)>, ParamsError> {
    // Checks the header's length against the file's, every offset against its neighbours and the
    // end, and every size against shape and dtype, without allocating by what the header claims.
    let parsed =
        SafeTensors::deserialize(file.bytes()).map_err(|error| file.format(None, error))?;
    let mut views: Vec<_> = parsed
        .iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| wanted.contains(*name)))
        .collect();
    views.sort_by_key(|(_, view)| view.data().as_ptr()); // as the disk has them
    let tensor = |(name, view): (&str, TensorView<'_>)| {
        let tensor = one(file, name, &view, device, meter)?;
        Ok((name.to_owned(), tensor))
    };
    views.into_iter().map(tensor).collect()
}

fn one(
    file: &Mapped,
    name: &str,
    view: &TensorView<'_>,
    device: &Device,
    meter: &mut Meter<'_>,
) -> Result<Tensor, ParamsError> {
    let known = dtype(view.dtype()).ok_or_else(|| ParamsError::DType {
        file: file.path().to_owned(),
        name: name.to_owned(),
        dtype: format!("{:?}", view.dtype()),
    })?;
    let tensor = match view.dtype() {
        Dtype::U16 => {
            let tensor = widened(view.data(), view.shape(), device);
            file.copied(view.data().len(), meter);
            tensor
        }
        _ => file.tensor(view.data(), known, view.shape(), device, meter),
    };
    tensor.map_err(|error| file.format(Some(name), error))
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
