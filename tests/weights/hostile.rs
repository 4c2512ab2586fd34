//! Files that are cut short, damaged, or written to do harm: an error or tensors as they say, no
//! panic, and no more memory than a small multiple of the file.

use crate::heap::most;
use crate::writing::{Folder, counted, gguf, npz, quantized, safetensors};
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;
use candlewick::{DType, Device, Error, Loader, ParamsError, Result};
use proptest::prelude::*;
use std::io::Write;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug)]
enum Format {
    Safetensors,
    Npz,
    Gguf,
}
use Format::{Gguf, Npz, Safetensors};

fn whole(format: Format) -> Vec<u8> {
    let tensors = [
        ("a", counted(&[2, 3], DType::F32)),
        ("b", counted(&[5], DType::F16)),
    ];
    let list = Value::Array((0..4).map(|i| Value::String(format!("t{i}"))).collect());
    let metadata = [
        ("general.alignment", Value::U32(32)),
        ("list", list),
        ("bytes", Value::Array(vec![Value::U8(1), Value::U8(2)])),
    ];
    let weights = [
        ("a", quantized(&[2, 32], GgmlDType::Q8_0)),
        ("b", quantized(&[3], GgmlDType::F32)),
    ];
    match format {
        Safetensors => safetensors(&tensors),
        Npz => npz(&tensors),
        Gguf => gguf(&metadata, &weights),
    }
}

/// Loads it, and touches every element of every tensor.
fn load(format: Format, file: PathBuf) -> Result<usize> {
    let loader = Loader::new(&Device::Cpu);
    let params = match format {
        Safetensors => loader.files(&[file])?,
        Npz => loader.npz(file)?,
        Gguf => {
            let weights = loader.gguf(file)?;
            for name in weights.names() {
                let floats = weights.tensor(name)?;
                assert_eq!(floats.shape(), weights.get(name)?.shape());
            }
            return Ok(weights.len());
        }
    };
    let snapshot = params.snapshot();
    for name in snapshot.names() {
        let tensor = snapshot.tensor(name)?;
        let copy = tensor.to_dtype(DType::F64).and_then(|t| t.flatten_all());
        let copy = copy.unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(copy.len(), tensor.elem_count());
    }
    Ok(snapshot.len())
}

/// So many bytes of memory for each byte of a file: a byte of GGUF's metadata becomes a value of
/// 32 bytes in a vector that doubles; the test's own f64 copy of a byte has eight.
const MULTIPLE: usize = 128;
/// And so many however short it is: paths, messages, parsers' buffers.
const FIXED: usize = 64 << 10;

fn harmless(format: Format, bytes: &[u8]) -> Result<usize> {
    let folder = Folder::new();
    let file = folder.file("damaged", bytes);
    let (result, most) = most(|| load(format, file));
    assert!(
        most <= FIXED + MULTIPLE * bytes.len(),
        "{format:?}: {most} bytes of memory for a file of {}",
        bytes.len()
    );
    result
}

#[test]
fn no_prefix_of_a_file_passes_for_it() {
    for format in [Safetensors, Npz, Gguf] {
        let whole = whole(format);
        assert_eq!(harmless(format, &whole).unwrap(), 2);
        for end in 0..whole.len() {
            let result = harmless(format, &whole[..end]);
            // What candle writes after the last GGUF tensor is padding.
            let padding = matches!(format, Gguf) && whole[end..].iter().all(|b| *b == 0);
            assert!(result.is_err() || padding, "{format:?}: {end} bytes");
        }
    }
}

#[test]
fn no_byte_of_a_file_does_harm() {
    for format in [Safetensors, Npz, Gguf] {
        let whole = whole(format);
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff, !whole[at]] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                if let Ok(tensors) = harmless(format, &bytes) {
                    assert!(tensors <= 2, "{format:?}");
                }
            }
        }
    }
}

fn formats() -> impl Strategy<Value = Format> {
    prop_oneof![Just(Safetensors), Just(Npz), Just(Gguf)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    /// Lengths and counts are 2, 4 or 8 bytes long: whole ones are replaced, by what overflows.
    #[test]
    fn no_damage_does_harm(
        format in formats(),
        hits in prop::collection::vec((any::<prop::sample::Index>(), 1usize..9, any::<u64>(), 0u32..64), 1..5),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = whole(format);
        for (at, len, value, shift) in hits {
            let at = at.index(bytes.len());
            let end = (at + len).min(bytes.len());
            let value = (value >> shift).to_le_bytes();
            bytes[at..end].copy_from_slice(&value[..end - at]);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = harmless(format, &bytes); // an error or not; what matters is checked within
    }

    #[test]
    fn no_noise_does_harm(format in formats(), noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let start: &[u8] = match format {
            Safetensors => b"\x40\0\0\0\0\0\0\0{\"",
            Npz => b"PK\x03\x04",
            Gguf => b"GGUF\x03\0\0\0",
        };
        prop_assert!(harmless(format, &[start, &noise].concat()).is_err());
    }
}

/// Each made by hand: `n` tensors at the same bytes.
#[test]
fn overlapping_gguf_tensors_are_refused() {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(100u64.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    for i in 0..100u64 {
        bytes.extend(3u64.to_le_bytes());
        bytes.extend(format!("{i:03}").as_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(1000u64.to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32) + 4000, 0);
    let error = harmless(Gguf, &bytes).unwrap_err().to_string();
    assert!(error.contains("overlap"), "{error}");
}

/// Products of dimensions that wrap around to what the file has; alignments that divide by zero.
#[test]
fn gguf_numbers_that_overflow_are_refused() {
    let one = |alignment: u32, dims: [u64; 4], offset: u64| {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend([1u64, 1, 17].map(u64::to_le_bytes).concat());
        bytes.extend(b"general.alignment");
        bytes.extend([4, alignment].map(u32::to_le_bytes).concat());
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(b"w");
        bytes.extend(4u32.to_le_bytes());
        bytes.extend(dims.map(u64::to_le_bytes).concat());
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(32) + 64, 0);
        harmless(Gguf, &bytes)
    };
    assert_eq!(one(32, [2, 2, 2, 2], 0).unwrap(), 1);
    for (alignment, dims, offset, word) in [
        (0, [2, 2, 2, 2], 0, "alignment"),
        (48, [2, 2, 2, 2], 0, "alignment"),
        (1 << 31, [2, 2, 2, 2], 0, "past the file's end"),
        (32, [1 << 32, 1 << 32, 1, 1], 0, "usize"),
        (32, [1 << 62, 1, 1, 1], 0, "usize"),
        (32, [1 << 60, 1, 1, 1], 0, "past the file's end"),
        (32, [2, 2, 2, 2], u64::MAX, "past the file's end"),
        (32, [2, 2, 2, 2], 4, "past the file's end"),
    ] {
        let error = one(alignment, dims, offset).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

/// The sizes multiply to 0, and what Candle makes strides of does not fit.
#[test]
fn empty_shapes_beyond_an_address_are_refused() {
    let header = r#"{"x":{"dtype":"F32","shape":[0,2305843009213693953],"data_offsets":[0,0]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let error = harmless(Safetensors, &bytes).unwrap_err().to_string();
    assert!(error.contains("beyond what can be addressed"), "{error}");

    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 2305843009213693953), }\n";
    let len = (header.len() as u16).to_le_bytes();
    let npy = [b"\x93NUMPY\x01\x00", &len[..], header.as_bytes()].concat();
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    let options = options.compression_method(zip::CompressionMethod::Stored);
    archive.start_file("x.npy", options).unwrap();
    archive.write_all(&npy).unwrap();
    let bytes = archive.finish().unwrap().into_inner();
    let error = harmless(Npz, &bytes).unwrap_err().to_string();
    assert!(error.contains("beyond what can be addressed"), "{error}");
}

/// A file that somebody writes anew while it is read. Mapped, it would end the process.
#[test]
fn a_file_that_is_cut_short_while_it_is_read_is_an_error() {
    let numbers = counted(&[1 << 20, 8], DType::F32); // 32 MiB
    let tensors = [("a", numbers.clone()), ("b", numbers)];
    let weights = ["a", "b", "c"].map(|name| (name, quantized(&[1 << 13, 256], GgmlDType::F32)));
    for format in [Safetensors, Npz, Gguf] {
        let whole = match format {
            Safetensors => safetensors(&tensors),
            Npz => npz(&tensors),
            Gguf => gguf(&[], &weights),
        };
        let folder = Folder::new();
        let file = folder.file("shrinks", &whole);
        let path = file.clone();
        let loader = Loader::new(&Device::Cpu).on_progress(move |_| {
            let file = std::fs::OpenOptions::new().write(true).open(&path);
            file.unwrap().set_len(1000).unwrap();
        });
        let error = match format {
            Safetensors => loader.files(&[file]).map(drop),
            Npz => loader.npz(file).map(drop),
            Gguf => loader.gguf(file).map(drop),
        };
        match error.unwrap_err() {
            Error::Params(error) if matches!(*error, ParamsError::Io { .. }) => {
                assert!(error.to_string().contains("shorter"), "{error}");
            }
            other => panic!("{format:?}: {other}"),
        }
    }
}
