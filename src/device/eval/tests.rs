//! Every operation against eager Candle, for every dtype and memory layout; and what only the
//! data or the layout brings out.

mod cases;
mod data;
mod harness;
mod sweep;
