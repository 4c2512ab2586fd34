//! Whose turn it is to drive the device.
//!
//! The turn is a token: the owner's thread takes it when it is called, and where the device
//! allows it (the CPU), a thread that blocks on a result may borrow it and run the queue itself,
//! which saves two thread switches. One word says who has it and what there is to do:
//!
//! | bit | meaning |
//! |---|---|
//! | `HELD` | somebody drives |
//! | `PENDING` | messages have been queued since the driver last looked |
//! | `CALLED` | the owner's thread is to take the turn |
//!
//! The rules that make it sound:
//!
//! 1. A message is sent, then `PENDING` is set. A driver clears `PENDING`, then receives. So a
//!    message that a driver did not receive has left `PENDING` set behind the driver's back.
//! 2. Nobody gives the turn back while `PENDING` or `CALLED` is set without calling the owner.
//! 3. A sender may leave `PENDING` set without calling, if it can count on somebody to look
//!    again (see `Core::send` and `Core::nudge`): this is what makes lending cheap.

use super::park::Parker;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicUsize, thread};

const HELD: usize = 1;
const PENDING: usize = 2;
const CALLED: usize = 4;

/// How long the owner looks for work before it parks: a few microseconds of spinning, then as
/// many of giving way. Parking and being woken costs 60 µs.
const SPINS: usize = if cfg!(any(candlewick_loom, candlewick_shuttle)) {
    0
} else {
    60
};
const YIELDS: usize = if cfg!(any(candlewick_loom, candlewick_shuttle)) {
    0
} else {
    20
};

/// The turn to drive the device.
#[derive(Debug)]
pub struct Turn {
    word: AtomicUsize,
    owner: Parker,
}

impl Turn {
    /// Nobody has the turn.
    pub fn new() -> Self {
        Self {
            word: AtomicUsize::new(0),
            owner: Parker::new(),
        }
    }

    /// A message was queued. With `call` the owner is called unless somebody drives; without, it
    /// is called only if an earlier message lies there already.
    pub fn posted(&self, call: bool) {
        let set = if call { PENDING | CALLED } else { PENDING };
        // ORDERING: Release, with the Acquire of `start_round`: who clears the flag finds the
        // message.
        let old = self.word.fetch_or(set, Release);
        if old & (HELD | CALLED) != 0 {
            return; // whoever drives will see it, or the owner is on its way
        }
        if call {
            self.owner.unpark();
        } else if old & PENDING != 0 {
            self.call();
        }
    }

    /// Calls the owner, if nobody drives, and lets a driver know that it is to hand over.
    pub fn call(&self) {
        // ORDERING: Release, with the Acquire of `start_round`: the owner sees why it was called.
        let old = self.word.fetch_or(CALLED, Release);
        if old & (HELD | CALLED) == 0 {
            self.owner.unpark();
        }
    }

    /// Calls the owner if messages lie there and nobody is going to look. To be asked after a
    /// SeqCst fence: see `Core::nudge`.
    pub fn call_if_unattended(&self) {
        // ORDERING: Relaxed, behind the fence in `Core::nudge`; its partner is the fence in
        // `Core::send`, which the sender passes after it set the flag.
        if self.word.load(Relaxed) & (HELD | PENDING | CALLED) == PENDING {
            self.call();
        }
    }

    /// Takes the turn for a thread that is not the owner's, if there is something to do and
    /// nobody does it.
    pub fn try_borrow(&self) -> bool {
        // ORDERING: Relaxed; whoever takes the turn passes `start_round` before anything else.
        self.word
            .fetch_update(Relaxed, Relaxed, |w| {
                (w & (HELD | PENDING) == PENDING).then_some(w | HELD)
            })
            .is_ok()
    }

    /// Before a driver touches the owner's state or receives: what is queued from here on sets
    /// `PENDING` again.
    pub fn start_round(&self) {
        // ORDERING: Acquire, with the Release of `hand_back` and `try_rest`: the owner's state as
        // the last driver left it; and with that of `posted` and `call`: the messages that set
        // the flag are there to be received, and the reason for the call is there to be seen.
        self.word.fetch_and(!PENDING, Acquire);
    }

    /// A borrower gives the turn back. `left` says that received work is waiting in the owner's
    /// state; then, or if anything came in, the owner is called to go on.
    pub fn hand_back(&self, left: bool) {
        let next = |w: usize| {
            let busy = left || w & (PENDING | CALLED) != 0;
            (w & !HELD) | if busy { CALLED } else { 0 }
        };
        // ORDERING: Release, with the Acquire of `start_round`: the owner's state.
        let old = self.word.fetch_update(Release, Relaxed, |w| Some(next(w)));
        let Ok(old) = old else {
            unreachable!("the closure never declines")
        };
        if next(old) & CALLED != 0 {
            self.owner.unpark();
        }
    }

    /// The owner's thread takes the turn if it was called.
    fn try_take(&self) -> bool {
        // ORDERING: Relaxed, as in `try_borrow`.
        self.word
            .fetch_update(Relaxed, Relaxed, |w| {
                (w & (HELD | CALLED) == CALLED).then_some(HELD)
            })
            .is_ok()
    }

    /// The owner's thread waits until it is called and the turn is free, and takes it.
    pub fn take(&self) {
        for i in 0..SPINS + YIELDS {
            if self.try_take() {
                return;
            }
            if i < SPINS {
                thread::spin_loop()
            } else {
                thread::yield_now()
            }
        }
        while !self.try_take() {
            self.owner.park();
        }
    }

    /// The owner's thread gives the turn back, unless something came in: then `false`, and it
    /// goes on with another round.
    #[must_use]
    pub fn try_rest(&self) -> bool {
        // ORDERING: Release, with the Acquire of `start_round`: the owner's state. Relaxed on
        // failure: the next round begins with `start_round`.
        let rest = self.word.compare_exchange(HELD, 0, Release, Relaxed);
        if rest.is_err() {
            // ORDERING: Relaxed; as above, and the next round looks at all there is.
            self.word.fetch_and(!CALLED, Relaxed);
        }
        rest.is_ok()
    }
}

impl Default for Turn {
    fn default() -> Self {
        Self::new()
    }
}
