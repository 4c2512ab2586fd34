//! Whole models against candle-transformers.

mod bert;
mod llama;
