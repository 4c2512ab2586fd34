//! Whole models with many producers, beside candle-transformers.
//!
//! ```text
//! cargo bench --bench models -- [--json] [--seconds 4] [--workload minilm] [--producers 8]
//! ```
//! - `minilm`: sentences of 3 to 71 words, one a request, through the model in the folder that
//!   `CANDLEWICK_MINILM` names, or one of its size with random weights. candle-transformers on as
//!   many threads as there are producers; with a lock; and in a hand-written actor that takes what
//!   is queued and pads it, 8 or 32 at once, or sorts it by length first.
//! - `decoder`: 16 layers, 512 wide, random weights; a request is the next token of a user's text,
//!   and the users' texts have different lengths.
//! - `load`: MiniLM's weights from their file, in a process of its own each time, with the memory that
//!   it took at most.

#[path = "common/actor.rs"]
mod actor;
#[path = "common/closed_loop.rs"]
mod closed_loop;
#[path = "models/load.rs"]
mod load;

use candle_transformers::models::llama as theirs;
use candlewick::models::llama::{self, LlamaModel};
use candlewick::models::{Generation, Pooling, Sampling, SentenceEncoder, bert};
use candlewick::nn::VarBuilder;
use candlewick::{DType, Device, Executor, Params, Tensor};
use candlewick_models::{Reference, Texts, cosine};
use closed_loop::{Contender, Options};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const SENTENCES: &str = include_str!("../examples/models/tests/sentences.txt");

fn main() {
    if load::is_child() {
        return;
    }
    let options = Options::read(4.0);
    if options.wants("minilm") {
        minilm(&options);
    }
    if options.wants("decoder") {
        decoder(&options);
    }
    if options.wants("load") {
        load::run(&options);
    }
}

fn random(dims: &[usize], spread: f32) -> Tensor {
    Tensor::randn(0f32, spread, dims, &Device::Cpu).unwrap()
}

// ---- sentences ----------------------------------------------------------------------------

/// Weights of MiniLM's shapes.
fn minilm_weights() -> HashMap<String, Tensor> {
    let mut weights = HashMap::new();
    let mut add = |name: String, dims: &[usize]| {
        let spread = if dims.len() == 2 { 0.05 } else { 0.5 };
        weights.insert(name, random(dims, spread));
    };
    for (name, rows) in [("word", 30_522), ("position", 512), ("token_type", 2)] {
        add(format!("embeddings.{name}_embeddings.weight"), &[rows, 384]);
    }
    let mut layers = vec![("embeddings.LayerNorm".to_owned(), vec![384])];
    for i in 0..6 {
        let layer = format!("encoder.layer.{i}");
        for (name, dims) in [
            ("attention.self.query", vec![384, 384]),
            ("attention.self.key", vec![384, 384]),
            ("attention.self.value", vec![384, 384]),
            ("attention.output.dense", vec![384, 384]),
            ("attention.output.LayerNorm", vec![384]),
            ("intermediate.dense", vec![1536, 384]),
            ("output.dense", vec![384, 1536]),
            ("output.LayerNorm", vec![384]),
        ] {
            layers.push((format!("{layer}.{name}"), dims));
        }
    }
    for (name, dims) in layers {
        add(format!("{name}.weight"), &dims);
        add(format!("{name}.bias"), &dims[..1]);
    }
    weights
}

/// The model twice, and sentences as ids.
struct Sentences {
    encoder: SentenceEncoder,
    reference: Reference,
    ids: Vec<Vec<u32>>,
}

impl Sentences {
    fn new() -> Self {
        match std::env::var_os("CANDLEWICK_MINILM").map(PathBuf::from) {
            Some(dir) => {
                let encoder = SentenceEncoder::from_dir(&dir, &Device::Cpu).unwrap();
                let texts = Texts::from_dir(&dir, encoder.model().max_length()).unwrap();
                let ids = SENTENCES.lines().map(|line| texts.ids(line).unwrap());
                Self {
                    ids: ids.collect(),
                    reference: Reference::from_dir(&dir, &encoder).unwrap(),
                    encoder,
                }
            }
            None => Self::of_random_weights(),
        }
    }

    fn of_random_weights() -> Self {
        let json = r#"{"model_type": "bert", "hidden_size": 384, "num_attention_heads": 12,
            "num_hidden_layers": 6, "intermediate_size": 1536, "vocab_size": 30522,
            "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
            "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "initializer_range": 0.02,
            "pad_token_id": 0}"#;
        let weights = minilm_weights();
        let config = bert::Config::from_json(json).unwrap();
        let params = Params::from_map(weights.clone()).unwrap();
        let model = bert::BertModel::load(VarBuilder::from_params(&params), &config).unwrap();
        let encoder = SentenceEncoder::new(model, Pooling::Mean, true, &Device::Cpu);
        let words = SENTENCES.lines().map(|line| line.split(' ').count() + 4);
        let ids = words.map(|n| {
            (0..n as u32)
                .map(|i| (i * 997 + n as u32) % 30_000)
                .collect()
        });
        Self {
            reference: Reference::from_tensors(weights, json, &encoder).unwrap(),
            ids: ids.collect(),
            encoder,
        }
    }

    /// Another sentence for each request, every producer in an order of its own.
    fn pick(&self, producer: usize, request: usize) -> &[u32] {
        &self.ids[(producer * 29 + request * 13) % self.ids.len()]
    }

    /// What is queued, sorted by length first and then padded eight by eight.
    fn sorted(&self, texts: &[Vec<u32>]) -> Vec<Tensor> {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&i| texts[i].len());
        let mut answers = vec![None; texts.len()];
        for places in order.chunks(8) {
            let chunk: Vec<&[u32]> = places.iter().map(|&i| &texts[i][..]).collect();
            let all = self.reference.embed(&chunk).unwrap();
            for (row, &place) in places.iter().enumerate() {
                answers[place] = Some(all.get(row).unwrap());
            }
        }
        answers.into_iter().flatten().collect()
    }

    fn padded(&self, texts: &[Vec<u32>]) -> Vec<Tensor> {
        let texts: Vec<&[u32]> = texts.iter().map(|ids| &ids[..]).collect();
        let all = self.reference.embed(&texts).unwrap();
        (0..texts.len()).map(|i| all.get(i).unwrap()).collect()
    }
}

type Embed = Box<dyn Fn(&[u32]) -> Tensor + Send + Sync>;

fn minilm(options: &Options) {
    let all = Arc::new(Sentences::new());
    let executor = Executor::new(&Device::Cpu).unwrap();
    let (ours, eager, held) = (all.clone(), all.clone(), all.clone());
    let lock = Mutex::new(());
    let actor = |most: usize, how: fn(&Sentences, &[Vec<u32>]) -> Vec<Tensor>| -> Embed {
        let all = all.clone();
        let ask = actor::batched(most, move |texts: &[Vec<u32>]| how(&all, texts));
        Box::new(move |ids| ask(ids.to_vec()))
    };
    let ways: Vec<(&str, Embed)> = vec![
        (
            "candle_transformers_threads",
            Box::new(move |ids| eager.reference.embed(&[ids]).unwrap()),
        ),
        (
            "candle_transformers",
            Box::new(move |ids| {
                let _held = lock.lock().unwrap();
                held.reference.embed(&[ids]).unwrap()
            }),
        ),
        ("candle_transformers_padded8", actor(8, Sentences::padded)),
        ("candle_transformers_padded32", actor(32, Sentences::padded)),
        ("candle_transformers_sorted8", actor(64, Sentences::sorted)),
        (
            "candlewick",
            Box::new(move |ids| {
                let embedding = ours.encoder.embed(ids).unwrap();
                executor.run(&embedding).unwrap()
            }),
        ),
    ];
    check(&all, &ways);
    let contenders: Vec<Contender> = ways
        .into_iter()
        .map(|(name, embed)| {
            let all = all.clone();
            Contender::new(name, move |producer, request| {
                std::hint::black_box(embed(all.pick(producer, request)));
            })
        })
        .collect();
    for producers in options.producers(&[1, 8, 64]) {
        closed_loop::run(options, "minilm", &contenders, producers);
    }
}

/// All give the same answer.
fn check(all: &Sentences, ways: &[(&str, Embed)]) {
    let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for ids in &all.ids[..8] {
        let expected = numbers(&all.reference.embed(&[ids]).unwrap());
        for (name, embed) in ways {
            let cosine = cosine(&numbers(&embed(ids)), &expected);
            assert!(cosine >= 0.99999, "{name}: {cosine}");
        }
    }
}

// ---- a decoder ------------------------------------------------------------------------------

const LAYERS: usize = 16;
const HIDDEN: usize = 512;
const WIDE: usize = 1408;
const VOCABULARY: usize = 8192;
/// A text ends here and begins anew.
const LONGEST: usize = 192;

const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 512, "num_attention_heads": 8,
    "num_key_value_heads": 4, "num_hidden_layers": 16, "intermediate_size": 1408,
    "vocab_size": 8192, "max_position_embeddings": 256, "rms_norm_eps": 1e-5}"#;

fn decoder_weights() -> HashMap<String, Tensor> {
    let mut weights = HashMap::new();
    let mut matrix = |name: String, rows: usize, columns: usize| {
        weights.insert(
            name,
            random(&[rows, columns], 1.0 / (columns as f32).sqrt()),
        );
    };
    matrix("model.embed_tokens.weight".to_owned(), VOCABULARY, HIDDEN);
    matrix("lm_head.weight".to_owned(), VOCABULARY, HIDDEN);
    for i in 0..LAYERS {
        let layer = format!("model.layers.{i}");
        for (name, rows) in [
            ("q", HIDDEN),
            ("k", HIDDEN / 2),
            ("v", HIDDEN / 2),
            ("o", HIDDEN),
        ] {
            matrix(
                format!("{layer}.self_attn.{name}_proj.weight"),
                rows,
                HIDDEN,
            );
        }
        matrix(format!("{layer}.mlp.gate_proj.weight"), WIDE, HIDDEN);
        matrix(format!("{layer}.mlp.up_proj.weight"), WIDE, HIDDEN);
        matrix(format!("{layer}.mlp.down_proj.weight"), HIDDEN, WIDE);
    }
    let norms = (0..LAYERS).flat_map(|i| {
        let layer = format!("model.layers.{i}");
        ["input_layernorm", "post_attention_layernorm"].map(|n| format!("{layer}.{n}.weight"))
    });
    let ones = Tensor::ones(HIDDEN, DType::F32, &Device::Cpu).unwrap();
    for name in norms.chain(["model.norm.weight".to_owned()]) {
        weights.insert(name, ones.clone());
    }
    weights
}

/// A user's text with candle-transformers.
struct Eager {
    cache: theirs::Cache,
    start: usize,
    next: Vec<u32>,
}

fn decoder(options: &Options) {
    let weights = decoder_weights();
    let config = llama::Config::from_json(CONFIG).unwrap();
    let params = Params::from_map(weights.clone()).unwrap();
    let ours = LlamaModel::load(VarBuilder::from_params(&params), &config).unwrap();
    let ours = Arc::new(ours);
    let config: theirs::LlamaConfig = serde_json::from_str(CONFIG).unwrap();
    let config = config.into_config(false);
    let weights =
        candle_nn::VarBuilder::from_tensors(weights, candle_core::DType::F32, &Device::Cpu);
    let model = theirs::Llama::load(weights, &config).unwrap();

    // users whose texts have different lengths
    let prompt = |user: usize| -> Vec<u32> {
        (0..1 + user * 5 % 64)
            .map(|i| (i * 97 + user) as u32)
            .collect()
    };
    let new_cache =
        move || theirs::Cache::new(true, candle_core::DType::F32, &config, &Device::Cpu);
    let eager_next = move |text: &mut Option<Eager>, user: usize| -> u32 {
        let fresh = || Eager {
            cache: new_cache().unwrap(),
            start: 0,
            next: prompt(user),
        };
        let text = match text {
            Some(at) if at.start + at.next.len() < LONGEST => text.as_mut().unwrap(),
            _ => text.insert(fresh()),
        };
        let ids = Tensor::new(&text.next[..], &Device::Cpu)
            .unwrap()
            .unsqueeze(0)
            .unwrap();
        let scores = model.forward(&ids, text.start, &mut text.cache).unwrap();
        let scores = scores.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        text.start += text.next.len();
        text.next = vec![best.unwrap() as u32];
        best.unwrap() as u32
    };
    let executor = Executor::new(&Device::Cpu).unwrap();
    let our_next = move |text: &mut Option<Generation>, user: usize| -> u32 {
        if let Some(id) = text.as_mut().and_then(Iterator::next) {
            return id.unwrap();
        }
        let prompt = prompt(user);
        let fresh = Generation::new(&executor, &ours, &prompt, Sampling::greedy()).unwrap();
        let fresh = fresh.stop_at(&[]).max_new(LONGEST - prompt.len());
        text.insert(fresh).next().unwrap().unwrap()
    };
    let (mut a, mut b) = (None, None);
    for step in 0..20 {
        assert_eq!(our_next(&mut a, 3), eager_next(&mut b, 3), "token {step}");
    }
    let contenders = [
        Contender::new("candle_transformers_threads", users(eager_next)),
        Contender::new("candlewick", users(our_next)),
    ];
    for producers in options.producers(&[1, 16]) {
        closed_loop::run(options, "decoder", &contenders, producers);
    }
}

/// A text for each user.
fn users<T: Send + 'static>(
    next: impl Fn(&mut Option<T>, usize) -> u32 + Send + Sync + 'static,
) -> impl Fn(usize, usize) + Send + Sync + 'static {
    let texts: Vec<Mutex<Option<T>>> = (0..64).map(|_| Mutex::new(None)).collect();
    move |user, _| {
        std::hint::black_box(next(&mut texts[user].lock().unwrap(), user));
    }
}
