//! Decoders: token by token as candle-transformers' models, alone and among others.

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_transformers::models::{llama as theirs, quantized_llama, qwen2};
use candlewick::models::llama::{Cache, Config, LlamaModel};
use candlewick::models::{Generation, Sampling};
use candlewick::nn::VarBuilder;
use candlewick::{Device, Error, Executor, LazyTensor, Params, QuantizedParams, Submit, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

fn model(name: &str) -> Arc<LlamaModel> {
    Arc::new(LlamaModel::from_dir(dir(name), &Device::Cpu).unwrap())
}

fn weights(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(dir(name).join("model.safetensors"), &Device::Cpu).unwrap()
}

fn config_json(name: &str) -> String {
    std::fs::read_to_string(dir(name).join("config.json")).unwrap()
}

fn their_weights(name: &str) -> candle_nn::VarBuilder<'static> {
    candle_nn::VarBuilder::from_tensors(weights(name), candle_core::DType::F32, &Device::Cpu)
}

/// The next ids by candle-transformers, greedily: `step` is given ids and where they begin.
fn theirs(
    prompt: &[u32],
    count: usize,
    mut step: impl FnMut(&Tensor, usize) -> candle_core::Result<Tensor>,
) -> Vec<u32> {
    let (mut ids, mut start, mut next) = (Vec::new(), 0, prompt.to_vec());
    for _ in 0..count {
        let x = Tensor::new(&next[..], &Device::Cpu)
            .unwrap()
            .unsqueeze(0)
            .unwrap();
        let scores = step(&x, start)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        // else the two could differ by rounding alone
        assert!(
            scores[order[0]] - scores[order[1]] > 1e-4,
            "a tie, or almost"
        );
        start += next.len();
        next = vec![order[0] as u32];
        ids.push(order[0] as u32);
    }
    ids
}

fn their_llama(prompt: &[u32], count: usize) -> Vec<u32> {
    let config: theirs::LlamaConfig = serde_json::from_str(&config_json("tiny-llama")).unwrap();
    let config = config.into_config(false);
    let model = theirs::Llama::load(their_weights("tiny-llama"), &config).unwrap();
    let dtype = candle_core::DType::F32;
    let mut cache = theirs::Cache::new(true, dtype, &config, &Device::Cpu).unwrap();
    theirs(prompt, count, |x, start| {
        model.forward(x, start, &mut cache)
    })
}

fn their_qwen(prompt: &[u32], count: usize) -> Vec<u32> {
    let config: qwen2::Config = serde_json::from_str(&config_json("tiny-qwen2")).unwrap();
    let mut model = qwen2::ModelForCausalLM::new(&config, their_weights("tiny-qwen2")).unwrap();
    theirs(prompt, count, |x, start| model.forward(x, start))
}

fn generate(
    executor: &Executor,
    model: &Arc<LlamaModel>,
    prompt: &[u32],
    count: usize,
) -> Vec<u32> {
    let all = Generation::new(executor, model, prompt, Sampling::greedy()).unwrap();
    let all = all.stop_at(&[]).max_new(count);
    all.collect::<candlewick::Result<_>>().unwrap()
}

const PROMPTS: &[&[u32]] = &[
    &[1],
    &[1, 20, 33, 47],
    &[1, 5, 5, 5, 90, 12, 7, 44, 31, 2, 150, 99],
];

#[test]
fn greedy_is_candle_transformers() {
    let executor = Executor::new(&Device::Cpu).unwrap();
    let (llama, qwen) = (model("tiny-llama"), model("tiny-qwen2"));
    for prompt in PROMPTS {
        let got = generate(&executor, &llama, prompt, 60);
        assert_eq!(got, their_llama(prompt, 60), "llama after {prompt:?}");
        let got = generate(&executor, &qwen, prompt, 60);
        assert_eq!(got, their_qwen(prompt, 60), "qwen2 after {prompt:?}");
        let different: std::collections::HashSet<u32> = got.into_iter().collect();
        assert!(different.len() > 3, "it says something");
    }
}

/// Many at once, of different length and different models: each as if it were alone.
#[test]
fn many_at_once_are_each_alone() {
    let executor = Executor::new(&Device::Cpu).unwrap();
    let models = [model("tiny-llama"), model("tiny-qwen2")];
    let prompt = |i: usize| -> Vec<u32> {
        (0..1 + i * 3)
            .map(|j| ((i * 31 + j * 7) % 160) as u32)
            .collect()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..12)
            .map(|i| {
                let (executor, model) = (&executor, &models[i % 2]);
                scope.spawn(move || generate(executor, model, &prompt(i), 40))
            })
            .collect();
        for (i, thread) in threads.into_iter().enumerate() {
            let alone = Executor::new(&Device::Cpu).unwrap();
            assert_eq!(
                thread.join().unwrap(),
                generate(&alone, &models[i % 2], &prompt(i), 40)
            );
        }
    });
    assert!(
        executor.stats().fragments_batched > 0,
        "{:?}",
        executor.stats()
    );
}

/// Old caches go: what lives does not grow with the text but by the text.
#[test]
fn memory_is_that_of_the_text() {
    let executor = Executor::new(&Device::Cpu).unwrap();
    let model = model("tiny-llama");
    let mut text = Generation::new(&executor, &model, &[1], Sampling::greedy())
        .unwrap()
        .stop_at(&[]);
    let mut nodes = Vec::new();
    for _ in 0..200 {
        text.next().unwrap().unwrap();
        nodes.push(executor.stats().live_nodes);
    }
    // keys and values of each layer, and for a moment the step's
    assert!(nodes.iter().all(|&n| n <= 4 + 5), "{nodes:?}");
    let bytes = 200 * 4 * 2 * 12 * 4;
    assert!(
        executor.stats().live_bytes <= 2 * bytes,
        "{}",
        executor.stats().live_bytes
    );
    drop(text);
    assert_eq!(
        (executor.stats().live_nodes, executor.stats().live_bytes),
        (0, 0)
    );
}

#[test]
fn it_ends_where_it_should() {
    let executor = Executor::new(&Device::Cpu).unwrap();
    let model = model("tiny-llama");
    let all = generate(&executor, &model, &[1, 20], 30);
    let start = || Generation::new(&executor, &model, &[1, 20], Sampling::greedy()).unwrap();
    // at an id, which is not returned
    let stop = all[7];
    let before = all.iter().position(|&id| id == stop).unwrap();
    let got: Vec<u32> = start().stop_at(&[stop]).map(Result::unwrap).collect();
    assert_eq!(got, all[..before]);
    // at the last position
    let got = start().stop_at(&[]).count();
    assert_eq!(got, model.max_length() - 2 + 1);
    assert_eq!(start().max_new(0).count(), 0);
    // when it is cancelled, from another thread, and then for good
    let mut text = start().stop_at(&[]);
    let canceller = text.canceller();
    assert_eq!(text.next().unwrap().unwrap(), all[0]);
    std::thread::spawn(move || canceller.cancel())
        .join()
        .unwrap();
    assert!(text.next().is_none() && text.next().is_none());
    // when the executor closes: an error, and the end
    let mut text = start().stop_at(&[]);
    text.next().unwrap().unwrap();
    let closing = Executor::new(&Device::Cpu).unwrap();
    let mut other = Generation::new(&closing, &model, &[1], Sampling::greedy())
        .unwrap()
        .stop_at(&[]);
    other.next().unwrap().unwrap();
    drop(closing.shutdown());
    assert!(matches!(other.next(), Some(Err(Error::Closed))));
    assert!(other.next().is_none());
    // a deadline of the steps
    let mut late = start().submit_with(Submit::deadline(std::time::Instant::now()));
    assert!(matches!(late.next(), Some(Err(Error::DeadlineExceeded))));
    assert!(late.next().is_none());
}

#[test]
fn a_stream_is_the_iterator() {
    let executor = Executor::new(&Device::Cpu).unwrap();
    let model = model("tiny-qwen2");
    let expected = generate(&executor, &model, &[1, 9], 25);
    let mut text = Generation::new(&executor, &model, &[1, 9], Sampling::greedy())
        .unwrap()
        .stop_at(&[])
        .max_new(25);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let got = runtime.block_on(async {
        let mut got = Vec::new();
        use futures_core::Stream;
        while let Some(id) =
            std::future::poll_fn(|cx| std::pin::Pin::new(&mut text).poll_next(cx)).await
        {
            got.push(id.unwrap());
        }
        got
    });
    assert_eq!(got, expected);
}

#[test]
fn sampling_is_reproducible_and_what_it_says() {
    let executor = Executor::new(&Device::Cpu).unwrap();
    let model = model("tiny-llama");
    let sample = |sampling: Sampling| -> Vec<u32> {
        let text = Generation::new(&executor, &model, &[1, 7], sampling).unwrap();
        text.stop_at(&[]).max_new(40).map(Result::unwrap).collect()
    };
    let bold = Sampling {
        temperature: 1.5,
        top_k: None,
        top_p: None,
        seed: 1,
    };
    assert_eq!(sample(bold), sample(bold));
    assert_ne!(sample(bold), sample(Sampling { seed: 2, ..bold }));
    let greedy = sample(Sampling::greedy());
    assert_ne!(sample(bold), greedy);
    // one to choose from
    assert_eq!(
        sample(Sampling {
            top_k: Some(1),
            ..bold
        }),
        greedy
    );
    assert_eq!(
        sample(Sampling {
            top_p: Some(1e-9),
            ..bold
        }),
        greedy
    );

    // the first id of many texts, against the probabilities of the scores
    let ids = LazyTensor::new(&[[1u32, 7]], &Device::Cpu).unwrap();
    let scores = model.forward(&ids, &mut Cache::new(&model)).unwrap();
    let scores = executor
        .submit(&scores)
        .unwrap()
        .wait()
        .unwrap()
        .to_vec2::<f32>()
        .unwrap()
        .remove(0);
    let (temperature, top_k) = (5.0, 10);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let weight = |i: usize| (f64::from(scores[i]) / temperature).exp();
    let all: f64 = order[..top_k].iter().map(|&i| weight(i)).sum();
    let (mut seen, draws) = (HashMap::new(), 2000u64);
    for seed in 0..draws {
        let how = Sampling {
            temperature,
            top_k: Some(top_k),
            top_p: None,
            seed: seed * 77,
        };
        let first = Generation::new(&executor, &model, &[1, 7], how)
            .unwrap()
            .stop_at(&[])
            .next();
        *seen.entry(first.unwrap().unwrap() as usize).or_insert(0u64) += 1;
    }
    for (&id, &count) in &seen {
        assert!(
            order[..top_k].contains(&id),
            "{id} is not among the highest"
        );
        let p = weight(id) / all;
        // five standard deviations
        let spread = 5.0 * (p * (1.0 - p) / draws as f64).sqrt();
        assert!(
            (count as f64 / draws as f64 - p).abs() < spread,
            "{id}: {count} of {draws}, {p}"
        );
    }
    for sampling in [
        Sampling {
            temperature: f64::NAN,
            ..bold
        },
        Sampling {
            temperature: -1.0,
            ..bold
        },
        Sampling {
            top_k: Some(0),
            ..bold
        },
        Sampling {
            top_p: Some(0.0),
            ..bold
        },
        Sampling {
            top_p: Some(1.5),
            ..bold
        },
    ] {
        assert!(
            Generation::new(&executor, &model, &[1], sampling).is_err(),
            "{sampling:?}"
        );
    }
}

/// A clone of the cache, or one that went back, goes on as if the text had been read anew.
#[test]
fn caches_fork_and_go_back() {
    let executor = Executor::new(&Device::Cpu).unwrap();
    let model = model("tiny-llama");
    let run = |ids: &[u32], cache: &mut Cache| -> Vec<f32> {
        let ids = LazyTensor::from_slice(ids, (1, ids.len()), &Device::Cpu).unwrap();
        let scores = model.forward(&ids, cache).unwrap();
        let mut outputs = vec![&scores];
        outputs.extend(cache.tensors());
        let results = executor.run(&outputs[..]).unwrap();
        results[0].flatten_all().unwrap().to_vec1().unwrap()
    };
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
    let mut cache = Cache::new(&model);
    run(&[1, 2, 3, 4], &mut cache);
    let mut fork = cache.clone();
    let ten = run(&[10], &mut cache);
    let twenty = run(&[20], &mut fork);
    assert!(close(
        &ten,
        &run(&[1, 2, 3, 4, 10], &mut Cache::new(&model))
    ));
    assert!(close(
        &twenty,
        &run(&[1, 2, 3, 4, 20], &mut Cache::new(&model))
    ));
    fork.truncate(4).unwrap();
    assert!(close(&ten, &run(&[10], &mut fork)));
    assert!(fork.truncate(6).is_err());
    assert!(!close(&ten, &twenty));
}

/// A generation goes on from what another has read, as if it had read it itself.
#[test]
fn a_generation_goes_on_from_another() {
    let executor = Executor::new(&Device::Cpu).unwrap();
    let model = model("tiny-qwen2");
    let start = |prompt: &[u32]| {
        let text = Generation::new(&executor, &model, prompt, Sampling::greedy()).unwrap();
        text.stop_at(&[])
    };
    let mut first = start(&[1, 9, 30]);
    let ids: Vec<u32> = first.by_ref().take(10).map(Result::unwrap).collect();
    let rest: Vec<u32> = first.by_ref().take(10).map(Result::unwrap).collect();
    assert_eq!(first.cache().len(), 3 + 19, "the last id is not in there");
    let mut cache = first.cache().clone();
    cache.truncate(3 + 9).unwrap();
    let forked = start(&ids[9..]).with_cache(cache.clone()).unwrap();
    let forked: Vec<u32> = forked.take(10).map(Result::unwrap).collect();
    assert_eq!(forked, rest);
    let forked = start(&[1, 2]).with_cache(cache.clone()).unwrap();
    assert_eq!(forked.count(), model.max_length() - 12 - 2 + 1);
    let all = vec![1; model.max_length() - 11];
    assert!(start(&all).with_cache(cache).is_err());
}

/// A prompt of several pieces: what candle-transformers makes of it at once.
#[test]
fn a_long_prompt_is_read_in_pieces() {
    let executor = Executor::new(&Device::Cpu).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&config_json("tiny-qwen2")).unwrap();
    json["max_position_embeddings"] = 2048.into();
    // candle-transformers has the window slide although the configuration says that it does not
    json["sliding_window"] = 2048.into();
    let config = Config::from_json(&json.to_string()).unwrap();
    let params = Params::load_dir(dir("tiny-qwen2"), &Device::Cpu).unwrap();
    let model = LlamaModel::load(VarBuilder::from_params(&params), &config).unwrap();
    let model = Arc::new(model);
    let config: qwen2::Config = serde_json::from_value(json).unwrap();
    for length in [511u64, 512, 513, 1300] {
        let prompt: Vec<u32> = (0..length).map(|i| (i * i % 151) as u32).collect();
        let mut reference =
            qwen2::ModelForCausalLM::new(&config, their_weights("tiny-qwen2")).unwrap();
        let expected = theirs(&prompt, 8, |x, start| reference.forward(x, start));
        let before = executor.stats().fragments_run;
        let got = generate(&executor, &model, &prompt, 8);
        assert_eq!(got, expected, "{length}");
        let pieces = executor.stats().fragments_run - before - 7;
        assert_eq!(pieces, length.div_ceil(512));
    }
}

/// Llama's biases, which candle-transformers does not read: those of zero change nothing, another
/// does, and none may be missing.
#[test]
fn biases_of_llama_are_read() {
    let mut json: serde_json::Value = serde_json::from_str(&config_json("tiny-llama")).unwrap();
    json["attention_bias"] = true.into();
    let config = Config::from_json(&json.to_string()).unwrap();
    assert!(config.attention_bias && config.attention_output_bias);
    let zeros = |size: usize| Tensor::zeros(size, candle_core::DType::F32, &Device::Cpu).unwrap();
    let mut weights = weights("tiny-llama");
    for layer in 0..2 {
        for (part, size) in [("q", 48), ("k", 24), ("v", 24), ("o", 48)] {
            let name = format!("model.layers.{layer}.self_attn.{part}_proj.bias");
            weights.insert(name, zeros(size));
        }
    }
    let load = |weights: &HashMap<String, Tensor>| {
        let params = Params::from_map(weights.clone()).unwrap();
        LlamaModel::load(VarBuilder::from_params(&params), &config).map(Arc::new)
    };
    let executor = Executor::new(&Device::Cpu).unwrap();
    let expected = their_llama(&[1, 7], 20);
    let got = generate(&executor, &load(&weights).unwrap(), &[1, 7], 20);
    assert_eq!(got, expected);
    for part in ["q", "k", "v", "o"] {
        let name = format!("model.layers.1.self_attn.{part}_proj.bias");
        let was = weights[&name].clone();
        let ramp: Vec<f32> = (0..was.elem_count())
            .map(|i| (i as f32 * 1.7).sin() * 9.0)
            .collect();
        weights.insert(name.clone(), Tensor::new(&ramp[..], &Device::Cpu).unwrap());
        let got = generate(&executor, &load(&weights).unwrap(), &[1, 7], 20);
        assert_ne!(got, expected, "{part}");
        weights.remove(&name);
        let error = load(&weights).unwrap_err().to_string();
        assert!(error.contains(&name), "{error}");
        weights.insert(name, was);
    }
}

/// What newer files say in one field is what older ones say in two.
#[test]
fn positions_by_either_field() {
    let mut json: serde_json::Value = serde_json::from_str(&config_json("tiny-llama")).unwrap();
    let old = Config::from_json(&json.to_string()).unwrap();
    assert!(old.rope_scaling.is_some());
    let yarn = serde_json::json!({"rope_type": "yarn", "factor": 2.0});
    let mut rope = std::mem::replace(&mut json["rope_scaling"], yarn.clone());
    let refused = |json: &serde_json::Value| {
        let error = Config::from_json(&json.to_string()).unwrap_err();
        assert!(error.to_string().contains("rope_type"), "{error}");
    };
    refused(&json);
    json["rope_scaling"] = serde_json::Value::Null;
    rope["rope_theta"] = json["rope_theta"].take();
    json["rope_parameters"] = rope;
    assert_eq!(Config::from_json(&json.to_string()).unwrap(), old);
    json["rope_parameters"] = yarn;
    refused(&json);
}

/// What a GGUF file asks for and is not done is refused, by its key.
#[test]
fn gguf_that_is_not_understood() {
    let text = |text: &str| gguf_file::Value::String(text.to_owned());
    for (place, (key, value)) in [
        ("llama.rope.scaling.type", text("yarn")),
        ("llama.rope.dimension_count", gguf_file::Value::U32(8)),
        ("llama.context_length", gguf_file::Value::U32(1 << 27)),
        ("llama.attention.head_count_kv", gguf_file::Value::U32(3)),
        ("llama.embedding_length", text("wide")),
    ]
    .into_iter()
    .enumerate()
    {
        let more = [(key, value)];
        let bytes = gguf_with("llama", "tiny-llama", GgmlDType::F32, &more);
        let file = written(&format!("refused-{place}"), &bytes);
        let error = LlamaModel::from_gguf_file(&file.0, &Device::Cpu).unwrap_err();
        let key = key.strip_prefix("llama.").unwrap();
        assert!(error.to_string().contains(key), "{key}: {error}");
    }
    let more = [("llama.rope.scaling.type", text("none"))];
    let file = written(
        "scaling-none",
        &gguf_with("llama", "tiny-llama", GgmlDType::F32, &more),
    );
    assert!(LlamaModel::from_gguf_file(&file.0, &Device::Cpu).is_ok());
}

/// What GGUF files have: names of their own, metadata, quantized weights. Written here by Candle,
/// read by both.
fn gguf(architecture: &str, name: &str, kind: GgmlDType) -> Vec<u8> {
    gguf_with(architecture, name, kind, &[])
}

/// The same with other metadata, or more.
fn gguf_with(
    architecture: &str,
    name: &str,
    kind: GgmlDType,
    more: &[(&str, gguf_file::Value)],
) -> Vec<u8> {
    let config: serde_json::Value = serde_json::from_str(&config_json(name)).unwrap();
    let number = |field: &str| gguf_file::Value::U32(config[field].as_u64().unwrap() as u32);
    let float = |field: &str| gguf_file::Value::F32(config[field].as_f64().unwrap() as f32);
    let key = |key: &str| format!("{architecture}.{key}");
    let metadata = [
        (
            "general.architecture".to_owned(),
            gguf_file::Value::String(architecture.to_owned()),
        ),
        (key("attention.head_count"), number("num_attention_heads")),
        (
            key("attention.head_count_kv"),
            number("num_key_value_heads"),
        ),
        (key("block_count"), number("num_hidden_layers")),
        (key("context_length"), number("max_position_embeddings")),
        (key("embedding_length"), number("hidden_size")),
        (key("feed_forward_length"), number("intermediate_size")),
        (key("rope.dimension_count"), gguf_file::Value::U32(12)),
        (key("rope.freq_base"), float("rope_theta")),
        (
            key("attention.layer_norm_rms_epsilon"),
            float("rms_norm_eps"),
        ),
        (
            "tokenizer.ggml.eos_token_id".to_owned(),
            gguf_file::Value::U32(2),
        ),
    ];
    let names = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers.", "blk."),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ];
    let tensors: Vec<(String, QTensor)> = weights(name)
        .iter()
        .map(|(name, tensor)| {
            let name = names
                .iter()
                .fold(name.clone(), |n, (from, to)| n.replace(from, to));
            let fits = tensor.rank() == 2 && tensor.dims()[1] % kind.block_size() == 0;
            let kind = if fits { kind } else { GgmlDType::F32 };
            (name, QTensor::quantize(tensor, kind).unwrap())
        })
        .collect();
    let own = metadata.iter().map(|(k, v)| (&k[..], v));
    let own = own.filter(|(k, _)| more.iter().all(|(other, _)| other != k));
    let metadata: Vec<(&str, &gguf_file::Value)> =
        own.chain(more.iter().map(|(k, v)| (*k, v))).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, t)| (&k[..], t)).collect();
    let mut file = std::io::Cursor::new(Vec::new());
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    file.into_inner()
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn written(name: &str, bytes: &[u8]) -> Removed {
    let file = std::env::temp_dir().join(format!("candlewick-{}-{name}.gguf", std::process::id()));
    std::fs::write(&file, bytes).unwrap();
    Removed(file)
}

#[test]
fn gguf_is_candle_transformers() {
    let executor = Executor::new(&Device::Cpu).unwrap();
    for kind in [GgmlDType::F32, GgmlDType::F16, GgmlDType::Q8_0] {
        let bytes = gguf("llama", "tiny-llama", kind);
        let file = written(&format!("llama-{kind:?}"), &bytes);
        let model = Arc::new(LlamaModel::from_gguf_file(&file.0, &Device::Cpu).unwrap());
        assert_eq!(model.config().eos_token_id, [2]);
        for prompt in PROMPTS {
            let mut reader = std::io::Cursor::new(&bytes);
            let content = gguf_file::Content::read(&mut reader).unwrap();
            let mut reference =
                quantized_llama::ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)
                    .unwrap();
            let expected = theirs(prompt, 40, |x, start| reference.forward(x, start));
            assert_eq!(
                generate(&executor, &model, prompt, 40),
                expected,
                "{kind:?} after {prompt:?}"
            );
        }
    }
    // Qwen2's halves are turned as in its own format, so the weights as floats say the same
    let file = written("qwen2", &gguf("qwen2", "tiny-qwen2", GgmlDType::F32));
    let model = Arc::new(LlamaModel::from_gguf_file(&file.0, &Device::Cpu).unwrap());
    assert!(model.config().tie_word_embeddings && model.config().attention_bias);
    for prompt in PROMPTS {
        assert_eq!(
            generate(&executor, &model, prompt, 40),
            their_qwen(prompt, 40)
        );
    }
}

#[test]
fn what_it_does_not_take() {
    let model = model("tiny-llama");
    let executor = Executor::new(&Device::Cpu).unwrap();
    let ids = |dims: (usize, usize)| {
        LazyTensor::ones(dims, candlewick::DType::U32, &Device::Cpu).unwrap()
    };
    let mut cache = Cache::new(&model);
    let error = model
        .forward(&ids((1, 257)), &mut cache)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("llama([1, 257] u32)") && error.contains("positions"),
        "{error}"
    );
    assert!(model.forward(&ids((1, 0)), &mut cache).is_err());
    assert!(cache.is_empty());
    assert!(Generation::new(&executor, &model, &[], Sampling::greedy()).is_err());
    assert!(Generation::new(&executor, &model, &[1; 257], Sampling::greedy()).is_err());
    // an id that there is not: an error through the stream, and then the end
    let mut text = Generation::new(&executor, &model, &[1, 100_000], Sampling::greedy()).unwrap();
    assert!(
        text.next()
            .unwrap()
            .unwrap_err()
            .to_string()
            .contains("100000")
    );
    assert!(text.next().is_none());

    let whole: serde_json::Value = serde_json::from_str(&config_json("tiny-llama")).unwrap();
    for (field, value) in [
        ("model_type", "mamba".into()),
        ("hidden_act", "gelu".into()),
        ("num_key_value_heads", 3.into()),
        ("head_dim", 7.into()),
        ("hidden_size", 0.into()),
        ("rope_theta", (-1.0).into()),
        ("max_position_embeddings", (1 << 27).into()),
        ("eos_token_id", "two".into()),
        ("mlp_bias", true.into()),
        ("use_sliding_window", true.into()),
    ] {
        let mut changed = whole.clone();
        changed[field] = value;
        let error = Config::from_json(&changed.to_string())
            .unwrap_err()
            .to_string();
        assert!(error.contains(field), "{field}: {error}");
    }
    let none = QuantizedParams::from_map(Vec::<(String, QTensor)>::new()).unwrap();
    let error = LlamaModel::from_gguf(&none).unwrap_err().to_string();
    assert!(error.contains("general.architecture"), "{error}");
}
