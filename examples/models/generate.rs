//! Continues a text with a decoder, and prints it as it comes.
//!
//! ```text
//! cargo run --release --example generate -- --model DIR --prompt "Once upon a time"
//! ```
//! DIR is a model of Llama's or Qwen2's architecture in Hugging Face's layout. With a GGUF file,
//! `--tokenizer DIR` says where its `tokenizer.json` is. `--users 16` continues the text that many
//! times at once, each with a seed of its own, and prints the first.

use candlewick::models::llama::LlamaModel;
use candlewick::models::{Generation, Sampling};
use candlewick::{Device, Executor};
use candlewick_models::Result;
use clap::Parser;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokenizers::Tokenizer;

/// Continues a text with a decoder.
#[derive(Parser)]
struct Options {
    /// A model's folder, or a GGUF file.
    #[arg(long)]
    model: PathBuf,
    /// The folder of tokenizer.json, if it is not the model's.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// The text to continue.
    #[arg(long)]
    prompt: String,
    /// At most so many tokens.
    #[arg(long, default_value_t = 100)]
    tokens: usize,
    /// 0 takes the most probable token.
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// So many users at once.
    #[arg(long, default_value_t = 1)]
    users: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let folder = options.tokenizer.as_ref().unwrap_or(&options.model);
    let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json"))?;
    let model = match options.model.is_dir() {
        true => LlamaModel::from_dir(&options.model, &Device::Cpu)?,
        false => LlamaModel::from_gguf_file(&options.model, &Device::Cpu)?,
    };
    let (model, executor) = (Arc::new(model), Executor::new(&Device::Cpu)?);
    let prompt = tokenizer
        .encode(&options.prompt[..], true)?
        .get_ids()
        .to_vec();

    let begin = Instant::now();
    let one = |seed: u64| -> Result<usize> {
        let sampling = Sampling {
            temperature: options.temperature,
            seed,
            ..Sampling::greedy()
        };
        let text = Generation::new(&executor, &model, &prompt, sampling)?;
        let (mut ids, mut shown) = (prompt.clone(), 0);
        for id in text.max_new(options.tokens) {
            ids.push(id?);
            if seed == 0 {
                // the whole text again: one token may be a part of a letter
                let text = tokenizer.decode(&ids, true)?;
                if !text.ends_with('\u{FFFD}') {
                    print!("{}", text.get(shown..).unwrap_or_default());
                    std::io::stdout().flush()?;
                    shown = text.len();
                }
            }
        }
        Ok(ids.len() - prompt.len())
    };
    let tokens = std::thread::scope(|scope| {
        let users: Vec<_> = (0..options.users)
            .map(|seed| scope.spawn(move || one(seed)))
            .collect();
        let mut tokens = 0;
        for user in users {
            tokens += user.join().map_err(|_| "a thread panicked")??;
        }
        Result::Ok(tokens)
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    println!();
    eprintln!(
        "{tokens} tokens in {seconds:.2} s: {:.1}/s",
        tokens as f64 / seconds
    );
    Ok(())
}
