//! Serves sentence embeddings over HTTP, from one executor.
//!
//! ```text
//! cargo run --release --example server -- --model DIR [--name NAME] [--listen 127.0.0.1:8080]
//! ```
//! DIR is a model of BERT's architecture in Hugging Face's layout (MiniLM, E5, BGE).
//!
//! - `POST /v1/embeddings`, `GET /v1/models`: as OpenAI's.
//! - `/v2/...`: the Open Inference Protocol, with binary tensors.
//! - `GET /health`: 200 while it takes requests, else 503. `GET /metrics`: for Prometheus.
//!
//! What does not fit in is answered with 429 and `Retry-After`; what a client no longer waits for is
//! withdrawn. On SIGTERM or Ctrl-C it says that it is not ready, answers what it has, and ends.

use candlewick::models::SentenceEncoder;
use candlewick::{Device, Executor};
use candlewick_models::{Result, Texts};
use candlewick_server::{Limits, Server, serve, until_told};
use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;

/// Serves sentence embeddings over HTTP.
#[derive(Parser)]
struct Options {
    /// A model's folder, with config.json, model.safetensors and tokenizer.json.
    #[arg(long)]
    model: PathBuf,
    /// The name that clients ask for the model by; its folder's, if not given.
    #[arg(long)]
    name: Option<String>,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// Bytes of a request's body at most.
    #[arg(long, default_value_t = Limits::default().body)]
    body: usize,
    /// Texts of a request at most.
    #[arg(long, default_value_t = Limits::default().texts)]
    texts: usize,
    /// Tokens of all requests under way at most: more is refused with 429.
    #[arg(long, default_value_t = Limits::default().tokens)]
    tokens: usize,
    /// Seconds after which what has not begun is not done.
    #[arg(long, default_value_t = Limits::default().time.as_secs())]
    seconds: u64,
    /// Cuts texts that are too long, instead of refusing them.
    #[arg(long)]
    cut: bool,
    /// Seconds between saying that it is not ready and taking no more connections.
    #[arg(long, default_value_t = 0)]
    grace: u64,
    /// Seconds that the last requests have on the way out.
    #[arg(long, default_value_t = 30)]
    drain: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let limits = Limits {
        body: options.body,
        texts: options.texts,
        tokens: options.tokens,
        time: Duration::from_secs(options.seconds),
        cut: options.cut,
    };
    let folder = options.model.file_name();
    let name = options
        .name
        .or_else(|| Some(folder?.to_string_lossy().into_owned()))
        .ok_or("the model's folder has no name: give --name")?;
    let encoder = SentenceEncoder::from_dir(&options.model, &Device::Cpu)?;
    let texts = Texts::from_dir(&options.model, encoder.model().max_length())?;
    // Every text has a token, so what is let in has room.
    let executor = Executor::builder(&Device::Cpu).queue_capacity(limits.tokens.max(1));
    let server = Server::new(name, executor.build()?, encoder, texts, limits);

    let told = until_told()?;
    let listener = TcpListener::bind(&options.listen).await?;
    println!("listening on {}", listener.local_addr()?);
    let grace = Duration::from_secs(options.grace);
    let drain = Duration::from_secs(options.drain);
    let in_time = serve(listener, server.clone(), told, grace, drain).await?;
    if !in_time {
        eprintln!("some requests were not answered in time");
    }
    let stats = server.executor().stats();
    println!(
        "ended: {} texts run, {} of them in {} batches; left: {} nodes, {} bytes",
        stats.fragments_run,
        stats.fragments_batched,
        stats.batches,
        stats.live_nodes,
        stats.live_bytes,
    );
    Ok(())
}
