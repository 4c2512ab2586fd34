//! Whole models, from the files that they are published in.
//!
//! A model's folder, as Hugging Face lays it out, has a `config.json` and weights with the names of
//! the model's own library. What turns text into ids is no part of this: bring the ids.
//!
//! - [`bert`]: sentence embeddings with models of BERT's architecture (MiniLM, E5, BGE and others).
//! - [`llama`]: decoders of Llama's and Qwen2's architecture, and [`Generation`] of text with them.

pub mod bert;
mod config;
mod generate;
pub mod llama;
mod sampling;
mod sentences;

pub use self::generate::{Canceller, Generation};
pub use self::sampling::Sampling;
pub use self::sentences::{Pooling, SentenceEncoder};

use config::Fields;
