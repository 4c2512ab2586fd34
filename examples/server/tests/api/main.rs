//! The server over sockets.

mod clients;
mod common;
mod inference;
mod server;
mod signal;
