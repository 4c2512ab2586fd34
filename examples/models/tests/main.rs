//! Whole models against candle-transformers.

mod bert;
