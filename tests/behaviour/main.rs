//! What the executor promises, seen from outside. One binary, one module for each promise.

mod admission;
mod beside;
mod busy;
mod closing;
mod common;
mod compiled;
mod constants;
mod deadlocks;
mod failure;
mod futures;
mod handles;
mod lending;
mod nothing_left;
mod once;
mod overlap;
mod params;
mod refusals;
mod stress;
mod tickets;
mod turns;
mod urgency;
mod vmap;
mod withdrawal;
