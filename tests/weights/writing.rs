//! Files to read.

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candlewick::{DType, Device, Tensor};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder that goes with this value.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed); // ORDERING: Relaxed; only distinct
        let name = format!("candlewick-weights-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `0, 1, 2, ..` of a dtype that holds them.
pub(crate) fn counted(shape: &[usize], dtype: DType) -> Tensor {
    let n = shape.iter().product::<usize>() as u32;
    let flat = Tensor::arange(0u32, n, &Device::Cpu).unwrap();
    flat.to_dtype(dtype).unwrap().reshape(shape).unwrap()
}

pub(crate) fn safetensors(tensors: &[(&str, Tensor)]) -> Vec<u8> {
    safetensors::serialize(tensors.iter().map(|(n, t)| (*n, t)), None).unwrap()
}

pub(crate) fn npz(tensors: &[(&str, Tensor)]) -> Vec<u8> {
    let folder = Folder::new();
    Tensor::write_npz(tensors, folder.path("npz")).unwrap();
    fs::read(folder.path("npz")).unwrap()
}

pub(crate) fn gguf(metadata: &[(&str, Value)], tensors: &[(&str, QTensor)]) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, t)| (*name, t)).collect();
    gguf_file::write(&mut bytes, &metadata, &tensors).unwrap();
    bytes.into_inner()
}

pub(crate) fn quantized(shape: &[usize], dtype: GgmlDType) -> QTensor {
    let x = (counted(shape, DType::F32) * 0.01).unwrap();
    QTensor::quantize(&x, dtype).unwrap()
}
