//! Every format, read as Candle reads it.

use crate::writing::{Folder, counted, gguf, npz, quantized, safetensors};
use candle_core::Module;
use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QMatMul};
use candlewick::{DType, Device, Executor, LazyTensor, Loader, Params, QuantizedParams, Tensor};

#[track_caller]
fn same(got: &Tensor, expected: &Tensor) {
    assert_eq!(got.dims(), expected.dims());
    assert_eq!(got.dtype(), expected.dtype());
    let flat = |t: &Tensor| {
        let wide = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
        wide.to_vec1::<f64>().unwrap()
    };
    assert_eq!(flat(got), flat(expected));
}

/// Where a tensor starts in the file is up to who writes it.
#[test]
fn safetensors_at_any_address_are_read() {
    let folder = Folder::new();
    let x = counted(&[3, 5], DType::F64);
    for pad in 0..8 {
        let data = "x".repeat(pad);
        let header = format!(
            r#"{{"__metadata__":{{"p":"{data}"}},"x":{{"dtype":"F64","shape":[3,5],"data_offsets":[0,120]}}}}"#
        );
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend((0..15).flat_map(|i| f64::from(i).to_le_bytes()));
        let file = folder.file("x", &bytes);
        let params = Params::load(&[file], &Device::Cpu).unwrap();
        same(&params.snapshot().tensor("x").unwrap(), &x);
    }
}

#[test]
fn safetensors_of_many_pieces_are_whole() {
    // Longer than what is copied at a time, and not by whole pieces.
    let x = counted(&[5_000_001], DType::F32);
    let folder = Folder::new();
    let file = folder.file("x", &safetensors(&[("x", x.clone())]));
    let mut reports = 0;
    let params = Loader::new(&Device::Cpu)
        .on_progress(|_| reports += 1)
        .files(&[file])
        .unwrap();
    same(&params.snapshot().tensor("x").unwrap(), &x);
    assert_eq!(reports, 5); // after each 4 MiB of 19, and at the end of the file
}

#[test]
fn npz_arrays_of_every_dtype_are_read() {
    let dtypes = [
        ("f16", DType::F16),
        ("f32", DType::F32),
        ("f64", DType::F64),
        ("u8", DType::U8),
        ("u32", DType::U32),
        ("i16", DType::I16),
        ("i32", DType::I32),
        ("i64", DType::I64),
    ];
    let mut arrays: Vec<_> = dtypes
        .iter()
        .map(|(name, dtype)| (*name, counted(&[2, 3, 4], *dtype)))
        .collect();
    arrays.push(("scalar", Tensor::new(7f32, &Device::Cpu).unwrap()));
    arrays.push(("vector", counted(&[3], DType::F32)));
    arrays.push(("none", counted(&[0, 2], DType::F32)));
    let folder = Folder::new();
    let file = folder.file("all.npz", &npz(&arrays));
    let snapshot = Loader::new(&Device::Cpu).npz(&file).unwrap().snapshot();
    assert_eq!(snapshot.len(), arrays.len());
    for (name, tensor) in &arrays {
        same(&snapshot.tensor(name).unwrap(), tensor);
    }
    for (name, tensor) in Tensor::read_npz(&file).unwrap() {
        same(&snapshot.tensor(&name).unwrap(), &tensor);
    }
}

/// A header as NumPy writes it for what Candle cannot hold, in the place of one it can.
#[test]
fn npz_arrays_that_candle_cannot_hold_are_refused() {
    let whole = npz(&[("w", counted(&[2, 2], DType::F32))]);
    let put = |from: &str, to: &str| {
        let at = whole.windows(from.len()).position(|w| w == from.as_bytes());
        let mut bytes = whole.clone();
        bytes[at.unwrap()..][..to.len()].copy_from_slice(to.as_bytes());
        let folder = Folder::new();
        let file = folder.file("bad.npz", &bytes);
        let error = Loader::new(&Device::Cpu).npz(file).unwrap_err().to_string();
        assert!(
            error.contains("bad.npz") && error.contains("\"w\""),
            "{error}"
        );
        error
    };
    assert!(put("'<f4'", "'>f4'").contains(">f4"));
    assert!(put("'<f4'", "'<c4'").contains("<c4"));
    assert!(put("False", "True ").contains("Fortran"));
    assert!(put("(2,2,)", "(2,3,)").contains("does not fit"));
    assert!(put("(2,2,)", "(-2,2)").contains("invalid digit"));
    assert!(put("descr", "dascr").contains("lacks"));
}

/// The weights are Candle's, bit for bit, at either alignment that files have.
#[test]
fn gguf_weights_are_those_that_were_written() {
    let dtypes = [
        GgmlDType::F32,
        GgmlDType::F16,
        GgmlDType::BF16,
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q8_0,
        GgmlDType::Q2K,
        GgmlDType::Q3K,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ];
    let names: Vec<_> = dtypes.iter().map(|dtype| format!("{dtype:?}")).collect();
    let weights: Vec<_> = (names.iter().map(String::as_str))
        .zip(dtypes.map(|dtype| quantized(&[3, 256], dtype)))
        .collect();
    let list = Value::Array(vec![Value::String("a".into()), Value::String("b".into())]);
    let metadata = [("list", list), ("count", Value::U32(7))];
    let folder = Folder::new();
    let file = folder.file("w.gguf", &gguf(&metadata, &weights));

    let read = QuantizedParams::load_gguf(file, &Device::Cpu).unwrap();
    assert_eq!(read.len(), dtypes.len());
    for (name, weight) in &weights {
        let got = read.get(name).unwrap();
        assert_eq!((got.shape(), got.dtype()), (weight.shape(), weight.dtype()));
        assert_eq!(got.data().unwrap(), weight.data().unwrap(), "{name}");
        same(
            &read.tensor(name).unwrap(),
            &weight.dequantize(&Device::Cpu).unwrap(),
        );
    }
    assert_eq!(read.metadata("count").unwrap().to_u32().unwrap(), 7);
    assert_eq!(read.metadata("list").unwrap().to_vec().unwrap().len(), 2);
    assert!(read.metadata("other").is_none());
    assert!(read.get("other").unwrap_err().to_string().contains("other"));
}

#[test]
fn gguf_weights_multiply_as_in_candle() {
    let folder = Folder::new();
    let weights = [("w", quantized(&[5, 256], GgmlDType::Q4K))];
    let file = folder.file("w.gguf", &gguf(&[], &weights));
    let read = QuantizedParams::load_gguf(file, &Device::Cpu).unwrap();
    let x = (counted(&[2, 256], DType::F32) * 0.01).unwrap();
    let expected = QMatMul::from_arc(read.get("w").unwrap().clone()).unwrap();
    let expected = expected.forward(&x).unwrap();
    let y = LazyTensor::from(&x)
        .qmatmul(read.get("w").unwrap())
        .unwrap();
    let y = Executor::new(&Device::Cpu).unwrap().submit(&y).unwrap();
    same(&y.wait().unwrap(), &expected); // the same function on the same data
}
