//! What a load takes besides the weights.

use crate::heap::most;
use crate::writing::{Folder, counted, gguf, npz, quantized, safetensors};
use candle_core::quantized::GgmlDType;
use candlewick::{DType, Device, Loader};

/// 4 MiB in all; the second tensor is where f32 may not be, because of the first one's length.
fn tensors() -> Vec<(&'static str, candlewick::Tensor)> {
    vec![
        ("a", counted(&[3], DType::U8)),
        ("b", counted(&[512, 1024], DType::F32)),
        ("c", counted(&[512, 1024], DType::F32)),
    ]
}

const BYTES: usize = 4 << 20;

/// At most a tenth more than the weights, and than what is read at once.
#[track_caller]
fn little_more(most: usize, at_once: usize) {
    assert!(most >= BYTES, "{most} bytes do not hold the weights");
    assert!(
        most <= BYTES * 11 / 10 + at_once,
        "{most} bytes for {BYTES}"
    );
}

/// What is read of a file at once.
const PIECE: usize = 256 << 10;

#[test]
fn tensors_are_copied_once() {
    let folder = Folder::new();
    let file = folder.file("s", &safetensors(&tensors()));
    let (params, bytes) = most(|| Loader::new(&Device::Cpu).files(&[file]).unwrap());
    assert_eq!(params.snapshot().len(), 3);
    little_more(bytes, PIECE);
    let file = folder.file("n", &npz(&tensors()));
    let (params, bytes) = most(|| Loader::new(&Device::Cpu).npz(file).unwrap());
    assert_eq!(params.snapshot().len(), 3);
    little_more(bytes, PIECE);
}

/// Candle makes them of the bytes of a whole tensor.
#[test]
fn quantized_weights_are_copied_one_at_a_time() {
    let folder = Folder::new();
    let weights = ["a", "b", "c", "d"].map(|name| (name, quantized(&[256, 1024], GgmlDType::F32)));
    let file = folder.file("g", &gguf(&[], &weights));
    let (params, bytes) = most(|| Loader::new(&Device::Cpu).gguf(file).unwrap());
    assert_eq!(params.len(), 4);
    little_more(bytes, BYTES / 4);
}
