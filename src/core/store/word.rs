//! The one word of a slot.
//!
//! Where its life stands and what refers to it, so that every transition is one step:
//!
//! | bits | name | meaning |
//! |---|---|---|
//! | 0..4 | phase | the states above |
//! | 4 | `WAITERS` | a waker is, or was, on the list of waiters |
//! | 5 | `DUE` | the submission that claimed it has a deadline, and wants it, or nothing has wanted it since |
//! | 8..36 | interest | submissions and fragments that want the result |
//! | 36..64 | references | interest, and one for the node while a tensor names it |

use crate::core::sync::{looks, overflow};

pub(super) const PHASE: u64 = 0b1111;
pub(super) const PENDING: u64 = 0;
pub(super) const RUNNING: u64 = 1;
pub(super) const ISSUED: u64 = 2;
pub(super) const READY: u64 = 3;
pub(super) const FAILED: u64 = 4;
pub(super) const REFUSED: u64 = 5;
pub(super) const CANCELLED: u64 = 6;
pub(super) const CLOSED: u64 = 7;
pub(super) const EXPIRED: u64 = 8;
pub(super) const WAITERS: u64 = 1 << 4;
pub(super) const DUE: u64 = 1 << 5;
pub(super) const INTEREST: u64 = 1 << 8;
pub(super) const REFERENCE: u64 = 1 << 36;
pub(super) const INTEREST_MASK: u64 = REFERENCE - INTEREST;

/// The process ends before more submissions than this refer to one slot, as it does for an `Arc`:
/// half of what the word counts, so that racing threads cannot take it over the edge.
pub(super) const MOST_REFERENCES: u64 = looks(1 << 27, 24) as u64;

pub(super) fn phase(word: u64) -> u64 {
    word & PHASE
}
pub(super) fn ended(word: u64) -> bool {
    phase(word) >= READY
}
/// Whether it was given up before it began: a later submission has it computed anew.
pub(super) fn given_up(word: u64) -> bool {
    matches!(phase(word), CANCELLED | EXPIRED | REFUSED)
}
/// Whether its work has begun, and so waits for nothing any more.
pub(super) fn begun(word: u64) -> bool {
    matches!(phase(word), RUNNING | ISSUED | READY | FAILED)
}
pub(super) fn interest(word: u64) -> u64 {
    (word & INTEREST_MASK) / INTEREST
}
pub(super) fn references(word: u64) -> u64 {
    word / REFERENCE
}

/// Ends the process before a count can wrap: a caller that leaks handles by the hundred million would
/// otherwise free what others read.
pub(super) fn check(before: u64) -> bool {
    if interest(before) > MOST_REFERENCES {
        overflow("references to one result");
    }
    true
}
