//! Files of weights: what they hold is read, and nothing that they claim does harm.

mod formats;
mod heap;
mod hostile;
mod memory;
mod shards;
mod writing;
