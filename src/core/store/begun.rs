//! The right to end a slot: what the owner holds between beginning a result and publishing it.

use super::Kind;
use super::slot::Slot;
use super::word::*;
use crate::core::sync::Arc;
use crate::core::sync::Ordering::Release;

/// The right to end a slot that has begun; there is one for a slot, ever.
///
/// Dropped unused (the owner panicked), it ends the slot with [`Kind::abandoned`], so that no
/// waiter is left.
pub struct Begun<K: Kind> {
    /// Until it has ended.
    slot: Option<Arc<Slot<K>>>,
    /// Whether the phase is ISSUED, not RUNNING.
    issued: bool,
}

impl<K: Kind> Begun<K> {
    pub(super) fn new(slot: Arc<Slot<K>>) -> Self {
        Self {
            slot: Some(slot),
            issued: false,
        }
    }

    /// RUNNING -> REFUSED: the launch that claimed it failed.
    pub(super) fn refuse(mut self, error: K::Error) {
        self.end(Some(Err(error)), |_| REFUSED);
    }

    /// RUNNING -> READY or FAILED, and wakes everyone; also from ISSUED, with another result than the
    /// one that was issued.
    pub fn finish(mut self, result: Result<K::Value, K::Error>) {
        self.end(Some(result), if_ok);
    }

    /// RUNNING -> ISSUED: later fragments may read the result, waiters may not. Again from ISSUED, with
    /// another result.
    pub fn issue(&mut self, result: Result<K::Value, K::Error>) {
        let Some(slot) = &self.slot else { return };
        Self::write(slot, result);
        if !std::mem::replace(&mut self.issued, true) {
            // ORDERING: Release, as in `end`. An addition, to keep the counts and flags of the word.
            slot.word.fetch_add(ISSUED - RUNNING, Release);
        }
    }

    /// ISSUED -> READY or FAILED with what was issued, and wakes everyone.
    pub fn confirm(mut self) {
        debug_assert!(self.issued);
        self.end(None, if_ok);
    }

    /// The slot that has begun.
    pub fn slot(&self) -> &Arc<Slot<K>> {
        match &self.slot {
            Some(slot) => slot,
            None => unreachable!("present until it has ended"),
        }
    }

    /// Ends the slot with a result, or with the one that was issued, in the phase that `phase` says.
    fn end(
        &mut self,
        result: Option<Result<K::Value, K::Error>>,
        end: impl FnOnce(&Result<K::Value, K::Error>) -> u64,
    ) {
        let Some(slot) = self.slot.take() else { return };
        if let Some(result) = result {
            Self::write(&slot, result);
        }
        let to = slot.result.0.with(|cell| {
            // SAFETY: there is one `Begun` for a slot, so this thread is the only one who would write.
            unsafe { (*cell).as_ref() }.map_or(FAILED, end)
        });
        let from = if self.issued { ISSUED } else { RUNNING };
        // ORDERING: Release, with the Acquire of `peek`: the result was written before. An addition, to
        // keep the counts and flags of the same word.
        let old = slot.word.fetch_add(to - from, Release);
        slot.wake(old);
    }

    fn write(slot: &Slot<K>, result: Result<K::Value, K::Error>) {
        let old = slot.result.0.with_mut(|cell| {
            // SAFETY: there is one `Begun` for a slot. Before READY, FAILED or REFUSED only the holder of the
            // turn reads, and only what has been issued: of that it is the one that calls this; a launch that
            // refuses its claims has not sent them.
            unsafe { (*cell).replace(result) }
        });
        drop(old); // foreign code: not while the cell is borrowed
    }
}

impl<K: Kind> Drop for Begun<K> {
    fn drop(&mut self) {
        if self.slot.is_some() {
            self.end(Some(Err(K::abandoned())), if_ok);
        }
    }
}

fn if_ok<V, E>(result: &Result<V, E>) -> u64 {
    match result {
        Ok(_) => READY,
        Err(_) => FAILED,
    }
}
