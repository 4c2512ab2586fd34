//! Sets of parameters: one version for one request, replaced under load, read from bad files.

use crate::common::*;
use candlewick::{DType, Device, Error, LazyTensor, Params, Tensor};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

fn full(value: f32) -> Tensor {
    Tensor::full(value, 4, &Device::Cpu).unwrap()
}

fn pair(value: f32) -> [(&'static str, Tensor); 2] {
    [("a", full(value)), ("b", full(value))]
}

fn text<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_request_sees_one_version_whole_while_it_is_replaced() {
    within_limit(|| {
        let (executor, params) = (cpu(), Params::from_map(pair(0.0)).unwrap());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let requests: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let mut seen = 0;
                        loop {
                            let snapshot = params.snapshot();
                            let (a, b) = (snapshot.get("a").unwrap(), snapshot.get("b").unwrap());
                            let sums = executor
                                .submit((&(&a + &b).unwrap(), &(&a - &b).unwrap()))
                                .unwrap();
                            let (sum, difference) = sums.wait().unwrap();
                            assert_eq!(value(&difference), 0.0, "two versions in one request");
                            assert_eq!(value(&sum), 2.0 * snapshot.version() as f32);
                            seen += 1;
                            if done.load(SeqCst) {
                                return seen;
                            }
                        }
                    })
                })
                .collect();
            for version in 1..=300u64 {
                assert_eq!(params.replace(pair(version as f32)).unwrap(), version);
            }
            done.store(true, SeqCst);
            assert!(requests.into_iter().map(|r| r.join().unwrap()).sum::<i32>() > 0);
        });
        assert_eq!(params.snapshot().version(), 300);
    });
}

#[test]
fn concurrent_updates_are_all_applied() {
    let params = Params::from_map((0..8).map(|i| (format!("p{i}"), full(0.0)))).unwrap();
    std::thread::scope(|scope| {
        for i in 0..8 {
            let params = params.clone();
            scope.spawn(move || params.update([(format!("p{i}"), full(1.0))]).unwrap());
        }
    });
    let snapshot = params.snapshot();
    assert_eq!(snapshot.version(), 8);
    for name in snapshot.names() {
        assert_eq!(value(&snapshot.tensor(name).unwrap()), 1.0, "{name}");
    }
}

#[test]
fn wrong_names_shapes_and_dtypes_change_nothing() {
    let params = Params::from_map(pair(1.0)).unwrap();
    let shaped = Tensor::zeros(5, DType::F32, &Device::Cpu).unwrap();
    let typed = Tensor::zeros(4, DType::F64, &Device::Cpu).unwrap();
    assert_eq!(
        text(params.snapshot().get("c")),
        "no parameter is named \"c\""
    );
    assert_eq!(
        text(params.update([("c", full(2.0))])),
        "no parameter is named \"c\""
    );
    assert_eq!(
        text(params.update([("a", shaped)])),
        "parameter \"a\" is [4] f32 and cannot be replaced by [5] f32"
    );
    assert_eq!(
        text(params.update([("a", typed)])),
        "parameter \"a\" is [4] f32 and cannot be replaced by [4] f64"
    );
    assert_eq!(
        text(params.replace([("a", full(2.0))])),
        "the replacement lacks parameter \"b\""
    );
    assert!(text(params.update([("a", full(2.0)), ("a", full(3.0))])).contains("given twice"));
    assert!(text(Params::from_map([("a", full(2.0)), ("a", full(3.0))])).contains("given twice"));
    assert_eq!(params.snapshot().version(), 0);
    assert_eq!(value(&params.snapshot().tensor("a").unwrap()), 1.0);
}

#[test]
fn the_old_version_goes_with_its_last_user() {
    let params = Params::from_map(pair(1.0)).unwrap();
    let old = params.snapshot();
    let graph = old.get("a").unwrap().exp().unwrap();
    params.replace(pair(2.0)).unwrap();
    drop(old);
    let result = cpu().submit(&graph).unwrap().wait().unwrap();
    assert_eq!(value(&result), 1f32.exp());
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn safetensors(tensors: &[(&str, Tensor)]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("whole-{}", tensors.len()));
    let map: HashMap<String, Tensor> = tensors
        .iter()
        .map(|(n, t)| (n.to_string(), t.clone()))
        .collect();
    candle_core::safetensors::save(&map, &path).unwrap();
    std::fs::read(&path).unwrap()
}

fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        data,
    ]
    .concat()
}

#[test]
fn shards_of_every_dtype_are_read() {
    let dtypes = [
        DType::F32,
        DType::F64,
        DType::F16,
        DType::BF16,
        DType::U8,
        DType::U32,
        DType::I64,
    ];
    let one: Vec<(String, Tensor)> = dtypes
        .iter()
        .map(|d| (format!("{d:?}"), full(3.0).to_dtype(*d).unwrap()))
        .collect();
    let refs: Vec<(&str, Tensor)> = one.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let shards = [
        file("s1", &safetensors(&refs)),
        file(
            "s2",
            &safetensors(&[
                ("more", full(4.0)),
                (
                    "none",
                    Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap(),
                ),
            ]),
        ),
    ];
    let snapshot = Params::load(&shards, &Device::Cpu).unwrap().snapshot();
    assert_eq!(snapshot.len(), 9);
    for (name, tensor) in &one {
        let read = snapshot.tensor(name).unwrap();
        assert_eq!(read.dtype(), tensor.dtype());
        assert_eq!(value(&read.to_dtype(DType::F32).unwrap()), 3.0);
    }
    assert_eq!(snapshot.tensor("none").unwrap().dims(), [0, 3]);
    let twice = text(Params::load(&[&shards[1], &shards[1]], &Device::Cpu));
    assert!(
        twice.contains("s2") && twice.contains("defined twice"),
        "{twice}"
    );
}

/// Each names the file.
#[test]
fn bad_files_are_errors_that_name_them() {
    let whole = safetensors(&[("w", full(1.0))]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("short-length", vec![1, 2, 3]),
        ("cut-in-header", whole[..20].to_vec()),
        ("cut-in-data", whole[..whole.len() - 1].to_vec()),
        ("longer-than-itself", u64::MAX.to_le_bytes().to_vec()),
        ("not-json", raw("{not json}", b"")),
        ("not-utf8", [&8u64.to_le_bytes()[..], &[0xff; 8]].concat()),
        (
            "overlap",
            raw(
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#,
                &[0; 8],
            ),
        ),
        (
            "outside",
            raw(
                r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
                &[0; 4],
            ),
        ),
        (
            "backwards",
            raw(
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
                &[0; 4],
            ),
        ),
        (
            "wrong-size",
            raw(
                r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}"#,
                &[0; 4],
            ),
        ),
        (
            "overflow",
            raw(
                r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,4]}}"#,
                &[0; 4],
            ),
        ),
        (
            "odd-dtype",
            raw(
                r#"{"a":{"dtype":"F8_E5M2","shape":[4],"data_offsets":[0,4]}}"#,
                &[0; 4],
            ),
        ),
        (
            "bool",
            raw(
                r#"{"a":{"dtype":"BOOL","shape":[4],"data_offsets":[0,4]}}"#,
                &[0; 4],
            ),
        ),
    ];
    for (name, bytes) in cases {
        let path = file(name, &bytes);
        let error = text(Params::load(&[path], &Device::Cpu));
        assert!(error.contains(name), "{error}");
    }
    assert!(text(Params::load(&["no/such/file"], &Device::Cpu)).starts_with("no/such/file"));
}

/// Damage anywhere is an error or another valid file, never a panic.
#[test]
fn damaged_files_do_not_panic() {
    let whole = safetensors(&[
        ("first", full(1.0)),
        ("second", full(2.0)),
        ("third", full(3.0)),
    ]);
    for end in 0..whole.len() {
        let path = file("prefix", &whole[..end]);
        assert!(
            Params::load(&[path], &Device::Cpu).is_err(),
            "a prefix of {end} bytes was read"
        );
    }
    let mut seed = 0x9E37_79B9u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut refused = 0;
    for _ in 0..2000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + next() % 4 {
            let at = next() as usize % bytes.len();
            bytes[at] = next() as u8;
        }
        refused += usize::from(Params::load(&[file("damaged", &bytes)], &Device::Cpu).is_err());
    }
    assert!(
        refused > 500,
        "only {refused} of 2000 damaged files were refused"
    );
}

#[test]
fn one_node_serves_every_request_of_a_version() {
    let (executor, params) = (cpu(), Params::from_map(pair(1.0)).unwrap());
    let x = LazyTensor::new(&[1f32; 4], &Device::Cpu).unwrap();
    for _ in 0..3 {
        let y = (&x + &params.snapshot().get("a").unwrap()).unwrap();
        assert_eq!(value(&executor.submit(&y).unwrap().wait().unwrap()), 2.0);
    }
}
