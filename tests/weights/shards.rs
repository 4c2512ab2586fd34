//! Models in several files.

use crate::writing::{Folder, counted, safetensors};
use candlewick::{DType, Device, Error, Loader, Params, ParamsError};

const INDEX: &str = "model.safetensors.index.json";

/// Two shards, `a` in the first, `b` and `unlisted` in the second, with this index.
fn model(weight_map: &str) -> Folder {
    let folder = Folder::new();
    let a = counted(&[2, 3], DType::F32);
    let b = counted(&[4], DType::BF16);
    folder.file("one.safetensors", &safetensors(&[("a", a)]));
    let second = [("b", b.clone()), ("unlisted", b)];
    folder.file("two.safetensors", &safetensors(&second));
    let index = format!(r#"{{"metadata": {{"total_size": 32}}, "weight_map": {weight_map}}}"#);
    folder.file(INDEX, index.as_bytes());
    folder
}

fn refusal(weight_map: &str) -> Error {
    Params::load_dir(&model(weight_map).0, &Device::Cpu).expect_err("a bad index")
}

#[test]
fn an_index_names_what_is_read_from_each_shard() {
    let folder = model(r#"{"a": "one.safetensors", "b": "two.safetensors"}"#);
    let loader = Loader::new(&Device::Cpu);
    for params in [
        Params::load_dir(&folder.0, &Device::Cpu).unwrap(),
        loader.index(folder.path(INDEX)).unwrap(),
    ] {
        let snapshot = params.snapshot();
        assert_eq!(snapshot.names().collect::<Vec<_>>(), ["a", "b"]);
        let (a, b) = (snapshot.tensor("a").unwrap(), snapshot.tensor("b").unwrap());
        assert_eq!(
            a.to_vec2::<f32>().unwrap(),
            [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        );
        assert_eq!((b.dims(), b.dtype()), (&[4][..], DType::BF16));
    }
}

#[test]
fn a_whole_file_goes_before_an_index() {
    let folder = model("{}");
    let whole = safetensors(&[("whole", counted(&[1], DType::F32))]);
    folder.file("model.safetensors", &whole);
    let snapshot = Params::load_dir(&folder.0, &Device::Cpu)
        .unwrap()
        .snapshot();
    assert_eq!(snapshot.names().collect::<Vec<_>>(), ["whole"]);
}

#[test]
fn a_folder_without_a_model_names_the_file_it_lacks() {
    let error = Params::load_dir(&Folder::new().0, &Device::Cpu).unwrap_err();
    assert!(matches!(&error, Error::Params(e) if matches!(**e, ParamsError::Io { .. })));
    assert!(error.to_string().contains("model.safetensors"), "{error}");
}

#[test]
fn an_absent_shard_is_named() {
    let error = refusal(r#"{"a": "one.safetensors", "b": "three.safetensors"}"#);
    assert!(matches!(&error, Error::Params(e) if matches!(**e, ParamsError::Io { .. })));
    assert!(error.to_string().contains("three.safetensors"), "{error}");
}

#[test]
fn a_name_that_its_shard_lacks_is_named_with_the_shard() {
    let error = refusal(r#"{"a": "one.safetensors", "b": "one.safetensors"}"#).to_string();
    assert!(
        error.contains("one.safetensors") && error.contains("\"b\""),
        "{error}"
    );
}

/// Even to a file that exists and would do.
#[test]
fn no_path_leaves_the_folder() {
    let outside = Folder::new();
    let bytes = safetensors(&[("a", counted(&[1], DType::F32))]);
    let absolute = outside.file("s", &bytes);
    let sibling = outside.0.file_name().unwrap().to_str().unwrap();
    for shard in [
        absolute.to_str().unwrap(),
        &format!("../{sibling}/s"),
        &format!("./../{sibling}/s"),
        "one.safetensors/../../x",
        "..",
        "",
        "a\\b",
        "nul\0",
    ] {
        let quoted = serde_json::to_string(shard).unwrap();
        let error = refusal(&format!(r#"{{"a": {quoted}}}"#)).to_string();
        assert!(error.contains("outside of the index's folder"), "{error}");
        assert!(error.contains("\"a\""), "{error}");
    }
}

#[test]
fn an_index_that_is_none_is_refused() {
    for bad in ["[]", "3", "\"a\"", "{\"a\": 3}", "{\"a\": null}", "{"] {
        let error = refusal(bad).to_string();
        assert!(error.contains(INDEX), "{error}");
    }
    let folder = Folder::new();
    for text in ["", "{}", "[[[[", "\u{feff}{}"] {
        let index = folder.file("index", text.as_bytes());
        let error = Loader::new(&Device::Cpu).index(index).unwrap_err();
        assert!(error.to_string().contains("index"), "{error}");
    }
    let deep = folder.file("index", "[".repeat(1 << 20).as_bytes());
    assert!(Loader::new(&Device::Cpu).index(deep).is_err());
}

#[test]
fn progress_rises_to_the_length_of_all_files() {
    let folder = model(r#"{"a": "one.safetensors", "b": "two.safetensors"}"#);
    let length = |name| folder.path(name).metadata().unwrap().len();
    let total = length("one.safetensors") + length("two.safetensors");
    let mut seen = Vec::new();
    Loader::new(&Device::Cpu)
        .on_progress(|progress| seen.push(progress))
        .dir(&folder.0)
        .unwrap();
    assert!(seen.iter().all(|p| p.total == total));
    assert!(seen.is_sorted_by_key(|p| p.done));
    assert_eq!(seen.last().unwrap().done, total);
    assert!(seen.len() >= 2, "{seen:?}"); // once for each file
}
