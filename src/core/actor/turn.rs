//! Whose turn it is to drive the device.
//!
//! The turn is a token: the owner's thread takes it when it is woken, and where the device
//! allows it (the CPU), a caller that wants a result may borrow it and run the queue itself,
//! which saves two thread switches. One word says who has it and what there is to do:
//!
//! | bit | meaning |
//! |---|---|
//! | `HELD` | a thread drives |
//! | `PENDING` | messages have been queued since the driver last looked |
//! | `CALLED` | there is something for the owner's thread in particular |
//!
//! The rules that make it sound:
//!
//! 1. A message is sent, then `PENDING` is set. A driver clears `PENDING`, then receives. So a
//!    message that a driver did not receive has left `PENDING` set behind the driver's back. To borrow
//!    the turn clears it too.
//! 2. While a thread drives, nobody is woken. Who gives the turn back with a flag set, or with work left
//!    that it received, wakes the owner's thread; who sets the first flag while nobody drives does too.
//! 3. So whenever nobody drives and a flag is set, the owner's thread has been woken for it, and takes
//!    the turn unless a borrower is faster, who then answers for the flag by rule 2.

use super::park::Parker;
use crate::core::sync::Ordering::{Acquire, Relaxed, Release};
use crate::core::sync::{AtomicUsize, Deadline, looks, thread};

const HELD: usize = 1;
const PENDING: usize = 2;
const CALLED: usize = 4;

/// How long the owner looks for work before it parks: a few microseconds of spinning, then as
/// many of giving way. Parking and being woken costs 60 µs.
const SPINS: usize = looks(60, 0);
const YIELDS: usize = looks(20, 0);

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

    /// A message was queued: a driver will see it, or the owner's thread is woken.
    pub fn posted(&self) {
        self.set(PENDING);
    }

    /// Has the owner's thread take the turn: there is something that only the owner does.
    pub fn call(&self) {
        self.set(CALLED);
    }

    fn set(&self, flag: usize) {
        // ORDERING: Release, with the Acquire of `start_round` and of who borrows: who clears the flag finds the
        // message, and the owner sees why it was called.
        let old = self.word.fetch_or(flag, Release);
        if old == 0 {
            self.owner.unpark();
        }
    }

    /// Takes the turn for a thread that is not the owner's, if no thread has it, and starts a round. With
    /// `queued`, only if a message lies there.
    pub fn try_borrow(&self, queued: bool) -> bool {
        let need = if queued { PENDING } else { 0 };
        // ORDERING: Acquire, as in `start_round`, of which this is the first one of the borrower.
        self.word
            .fetch_update(Acquire, Relaxed, |w| {
                (w & (HELD | need) == need).then_some((w | HELD) & !PENDING)
            })
            .is_ok()
    }

    /// Takes the turn for a thread that is not the owner's, if there is nothing to do, and starts a round.
    pub fn try_borrow_idle(&self) -> bool {
        // ORDERING: Acquire, as in `try_borrow`. Nothing is pending.
        let idle = self.word.compare_exchange(0, HELD, Acquire, Relaxed);
        idle.is_ok()
    }

    /// Before a driver touches the owner's state or receives: what is queued from here on sets
    /// `PENDING` again.
    pub fn start_round(&self) {
        // ORDERING: Acquire, with the Release of `hand_back` and `try_rest`: the owner's state as
        // the last driver left it; and with that of `set`: the messages that set the flag are
        // there to be received, and the reason for the call is there to be seen.
        self.word.fetch_and(!PENDING, Acquire);
    }

    /// A borrower gives the turn back. `left` says that received work is waiting in the owner's
    /// state; then, or if anything came in, the owner's thread is woken to go on.
    pub fn hand_back(&self, left: bool) {
        let next = |w: usize| (w & !HELD) | if left { CALLED } else { 0 };
        // ORDERING: Release, with the Acquire of `start_round` and of who borrows: the owner's state.
        let old = self.word.fetch_update(Release, Relaxed, |w| Some(next(w)));
        let Ok(old) = old else {
            unreachable!("the closure never declines")
        };
        if next(old) != 0 {
            self.owner.unpark();
        }
    }

    /// The owner's thread takes the turn if there is something to do.
    pub(super) fn try_take(&self) -> bool {
        // ORDERING: Relaxed; the owner's thread passes `start_round` before anything else.
        self.word
            .fetch_update(Relaxed, Relaxed, |w| {
                (w != 0 && w & HELD == 0).then_some(HELD | (w & PENDING))
            })
            .is_ok()
    }

    /// The owner's thread takes the turn although there is nothing to do: the time it gave itself is up.
    fn take_anyway(&self) -> bool {
        // ORDERING: Relaxed; the owner's thread passes `start_round` before anything else.
        let taken = self.word.fetch_update(Relaxed, Relaxed, |w| {
            (w & HELD == 0).then_some(HELD | (w & PENDING))
        });
        taken.is_ok()
    }

    /// The owner's thread waits until there is something to do and no borrower has the turn, and takes
    /// it; at `limit`, if there is one, also if there is nothing to do.
    pub fn take(&self, limit: Option<&Deadline>) {
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
        let mut limit = limit;
        while !self.try_take() {
            match limit {
                Some(deadline) if !self.owner.park_until(deadline) => {
                    if self.take_anyway() {
                        return;
                    }
                    limit = None; // a borrower has it, and wakes us when it gives it back
                    self.call();
                }
                Some(_) => {}
                None => self.owner.park(),
            }
        }
    }

    /// The owner's thread gives the turn back, unless something came in: then `false`, and it
    /// goes on with another round.
    #[must_use]
    pub fn try_rest(&self) -> bool {
        // ORDERING: Release, with the Acquire of `start_round` and of who borrows: the owner's state. Relaxed on
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
