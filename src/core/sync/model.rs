//! Stand-ins for the three crates that a model checker cannot see into: crossbeam-channel,
//! DashMap and arc-swap. `docs/concurrency.md` states what is assumed of the real ones.
//!
//! Two strengths, chosen by `CANDLEWICK_SHIM`:
//!
//! - `weak` (the default under loom): exactly the contract. Operations are linearizable, and the
//!   only happens-before edges are send to receive of that message, and store to load of that
//!   value. A mutex would order every operation after every earlier one, which the real crates
//!   do not promise, and so would hide missing orderings.
//! - `strong` (shuttle, whose memory is sequentially consistent anyway): a mutex.

#[cfg(candlewick_loom)]
pub mod atomic;
#[cfg(candlewick_loom)]
pub mod cell;
pub mod channel;
pub mod map;
pub mod swap;

use std::cell::Cell;
use std::sync::OnceLock;

/// Whether the stand-ins promise no more than the contract.
fn weak() -> bool {
    static WEAK: OnceLock<bool> = OnceLock::new();
    let asked = || std::env::var("CANDLEWICK_SHIM").map_or(true, |v| v != "strong");
    cfg!(candlewick_loom) && *WEAK.get_or_init(asked)
}

thread_local! {
    /// Of the thread that explores: the model's threads run on it.
    static STALE: Cell<bool> = const { Cell::new(false) };
}

/// Lets the weak channel answer "full" and "empty" from a stale look, as a plain load would. Many
/// times the executions: for scenarios that depend on it.
pub fn set_stale(on: bool) {
    STALE.set(on);
}

fn stale() -> bool {
    STALE.get()
}
