//! Embeds the lines of a text file with many threads, on one device.
//!
//! ```text
//! cargo run --release --example embed -- --model DIR FILE [--out FILE.npy] [--verify]
//! ```
//! DIR is a model of BERT's architecture in Hugging Face's layout (MiniLM, E5, BGE). The vectors go
//! to standard output as JSON lines, or to a file: `.npy` as one array `[lines, hidden]`, anything
//! else as JSON lines. `--verify` computes everything again with candle-transformers, eagerly, and
//! fails if a cosine is below 0.99999.

use candlewick::models::SentenceEncoder;
use candlewick::{DType, Device, Executor, Tensor};
use candlewick_models::{Reference, Result, Texts, cosine};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Embeds the lines of a text file with many threads, on one device.
#[derive(Parser)]
struct Options {
    /// A model's folder, with config.json, model.safetensors and tokenizer.json.
    #[arg(long)]
    model: PathBuf,
    /// One text a line; empty lines are left out.
    file: PathBuf,
    /// Where the vectors go: .npy, or JSON lines; standard output if not given.
    #[arg(long)]
    out: Option<PathBuf>,
    /// How many threads ask.
    #[arg(long, default_value_t = 16)]
    threads: usize,
    /// Compares every vector with candle-transformers'.
    #[arg(long)]
    verify: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let text = std::fs::read_to_string(&options.file)
        .map_err(|e| format!("{}: {e}", options.file.display()))?;
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();

    let encoder = SentenceEncoder::from_dir(&options.model, &Device::Cpu)?;
    let texts = Texts::from_dir(&options.model, encoder.model().max_length())?;
    let executor = Executor::new(&Device::Cpu)?;

    let begin = Instant::now();
    let vectors = embed_all(&lines, &encoder, &texts, &executor, options.threads)?;
    let seconds = begin.elapsed().as_secs_f64();
    let stats = executor.stats();
    eprintln!(
        "{} texts in {seconds:.2} s: {:.0}/s; {} ran in {} batches",
        lines.len(),
        lines.len() as f64 / seconds,
        stats.fragments_batched,
        stats.batches,
    );
    write(&lines, &vectors, options.out.as_deref())?;
    if options.verify {
        verify(&lines, &vectors, &options.model, &encoder, &texts)?;
    }
    Ok(())
}

/// One vector a line. Every thread asks for one text at a time, as if it were alone.
fn embed_all(
    lines: &[&str],
    encoder: &SentenceEncoder,
    texts: &Texts,
    executor: &Executor,
    threads: usize,
) -> Result<Vec<Vec<f32>>> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}")?;
    let bar = ProgressBar::new(lines.len() as u64).with_style(style);
    let next = AtomicUsize::new(0);
    let one_thread = || -> Result<Vec<(usize, Vec<f32>)>> {
        let mut done = Vec::new();
        // ORDERING: Relaxed; each number is given out once, no data travels with it.
        while let Some((at, line)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            lines.get(at).map(|line| (at, line))
        } {
            let embedding = encoder.embed(&texts.ids(line)?)?.to_dtype(DType::F32)?;
            done.push((at, executor.run(&embedding)?.to_vec1()?));
            bar.inc(1);
        }
        Ok(done)
    };
    let mut vectors = vec![Vec::new(); lines.len()];
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..threads.max(1))
            .map(|_| scope.spawn(one_thread))
            .collect();
        for thread in threads {
            let done = thread.join().map_err(|_| "a thread panicked")??;
            done.into_iter()
                .for_each(|(at, vector)| vectors[at] = vector);
        }
        Ok(())
    })?;
    bar.finish();
    Ok(vectors)
}

fn write(lines: &[&str], vectors: &[Vec<f32>], out: Option<&Path>) -> Result<()> {
    if let Some(file) = out.filter(|file| file.extension().is_some_and(|e| e == "npy")) {
        let hidden = vectors.first().map_or(0, Vec::len);
        let all = Tensor::from_vec(vectors.concat(), (vectors.len(), hidden), &Device::Cpu)?;
        return Ok(all.write_npy(file)?);
    }
    let to: Box<dyn Write> = match out {
        Some(file) => Box::new(std::fs::File::create(file)?),
        None => Box::new(std::io::stdout().lock()),
    };
    let mut to = BufWriter::new(to);
    for (text, embedding) in lines.iter().zip(vectors) {
        serde_json::to_writer(
            &mut to,
            &serde_json::json!({ "text": text, "embedding": embedding }),
        )?;
        writeln!(to)?;
    }
    Ok(to.flush()?)
}

/// Everything again, one by one, eagerly.
fn verify(
    lines: &[&str],
    vectors: &[Vec<f32>],
    model: &Path,
    encoder: &SentenceEncoder,
    texts: &Texts,
) -> Result<()> {
    let reference = Reference::from_dir(model, encoder)?;
    let mut least = 1f64;
    let begin = Instant::now();
    for (line, vector) in lines.iter().zip(vectors) {
        let expected = reference.embed(&[&texts.ids(line)?])?.squeeze(0)?;
        let cosine = cosine(vector, &expected.to_vec1()?);
        if cosine.is_nan() || cosine < 0.99999 {
            return Err(format!("cosine {cosine} to candle-transformers for {line:?}").into());
        }
        least = least.min(cosine);
    }
    eprintln!(
        "every vector agrees with candle-transformers: smallest cosine {least:.9} ({:.0}/s there, one by one)",
        lines.len() as f64 / begin.elapsed().as_secs_f64(),
    );
    Ok(())
}
