//! The images, their labels and the two sets of weights, compiled into the binary.

use crate::Result;
use candle_core::{DType, Device, Tensor, safetensors};
use std::collections::HashMap;

/// Pixels of one image.
pub(crate) const PIXELS: usize = 64;

/// A set of named weights.
pub(crate) type Named = HashMap<String, Tensor>;

/// One image: the ink of each pixel from 0 to 1, and the digit it shows.
pub(crate) struct Digit {
    pub(crate) pixels: [f32; PIXELS],
    pub(crate) label: u8,
    /// Whether the networks were trained without it.
    pub(crate) held_out: bool,
}

/// All images, in the order of the file.
pub(crate) fn digits() -> Result<Vec<Digit>> {
    let file = load(include_bytes!("data/digits.safetensors"))?;
    let images = named(&file, "images")?.to_dtype(DType::F32)?;
    let images = (images / 16.)?.to_vec2::<f32>()?;
    let labels = named(&file, "labels")?.to_vec1::<u8>()?;
    if images.len() != labels.len() {
        return Err(format!("{} images and {} labels", images.len(), labels.len()).into());
    }
    let digit = |(index, (pixels, label)): (usize, (Vec<f32>, u8))| {
        let pixels = pixels.try_into();
        let pixels = pixels.map_err(|p: Vec<f32>| format!("an image of {} pixels", p.len()))?;
        Ok(Digit {
            pixels,
            label,
            held_out: index % 5 == 0,
        })
    };
    images
        .into_iter()
        .zip(labels)
        .enumerate()
        .map(digit)
        .collect()
}

/// The two sets of weights, of one network trained from two seeds.
pub(crate) fn weights() -> Result<(Named, Named)> {
    let first = load(include_bytes!("data/weights.safetensors"))?;
    let second = load(include_bytes!("data/weights_b.safetensors"))?;
    Ok((first, second))
}

/// The tensor of that name.
pub(crate) fn named(file: &Named, name: &str) -> Result<Tensor> {
    Ok(file
        .get(name)
        .ok_or_else(|| format!("the file has no tensor {name:?}"))?
        .clone())
}

fn load(bytes: &[u8]) -> Result<Named> {
    Ok(safetensors::load_buffer(bytes, &Device::Cpu)?)
}
