//! One result's life: claimed once, written once, awaited by any number of tasks and threads.
//!
//! ```text
//!            begin (owner)            issue (owner)           confirm (owner)
//! PENDING -------------------> RUNNING ------------> ISSUED ------------------> READY | FAILED
//!    |                            |                    finish (owner)
//!    |                            +-------------------------------------------> READY | FAILED
//!    |  cancel, release of the last reference
//!    +-----------------------------------------> CANCELLED
//!    |  its deadline has passed, and no other submission wants it
//!    +-----------------------------------------> EXPIRED
//!    |  the launch that claimed it failed before it sent the work
//!    +-----------------------------------------> REFUSED
//!    |  the executor closes
//!    +-----------------------------------------> CLOSED
//! ```
//!
//! All of it is one atomic word: see `word.rs`.
//!
//! The result cell belongs to the owner while the phase is RUNNING or ISSUED (there is one `begin` for
//! a slot, ever) and to everybody, for reading, from READY, FAILED or REFUSED on. In ISSUED, the device
//! has been given the work and has not said that it is done: later fragments may read the value, since
//! the device orders them behind, and waiters may not.

use super::begun::Begun;
use super::task::Task;
use super::waiters::{Key, Waiters, Woken};
use super::word::*;
use super::{Kind, NodeId};
use crate::core::sync::Ordering::{AcqRel, Acquire, Relaxed};
use crate::core::sync::{Arc, AtomicU64, Mutex, UnsafeCell};
use std::task::{Context, Poll};

/// Which claims a cut may lean on: make its fragment wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lean {
    /// All of them: nothing has been claimed for the fragment yet.
    Any,
    /// Those with a smaller number than the fragment's own claims have, and those whose work has begun.
    Older(u64),
}

/// How a slot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<V, E> {
    /// With a result.
    Ready(V),
    /// With an error.
    Failed(E),
    /// It was withdrawn before it began.
    Cancelled,
    /// Its deadline passed before it began.
    Expired,
    /// The executor closed before it began.
    Closed,
}

/// What [`Slot::cancel`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Cancel {
    /// Nobody else wanted it: it will not run, and every waiter gets `Cancelled`.
    Cancelled,
    /// Somebody else wants it: it goes on.
    Shared,
    /// It had begun; it goes on.
    Running,
    /// It had ended.
    Finished,
}

/// What [`Slot::release`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Released {
    /// Somebody still refers to the slot.
    Held,
    /// That was the last reference, and the slot had ended: see [`Slot::take_result`].
    Ended,
    /// That was the last reference, and the work is running: what comes of it goes with the slot.
    Running,
    /// That was the last reference, and the work, which had not begun, is withdrawn.
    Withdrawn,
}

/// What refers to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// The node, while a tensor names it.
    Node,
    /// A submission or a fragment that wants the result.
    Interest,
    /// The submission that claimed it, whose deadline is that of the result.
    Claim,
}

/// The place of one result.
pub struct Slot<K: Kind> {
    id: NodeId,
    /// Of the claim: a later one has a greater number.
    number: u64,
    pub(super) word: AtomicU64,
    pub(super) result: ResultCell<K>,
    waiters: Mutex<Waiters>,
    task: Arc<Task<K>>,
}

/// What a slot ends with.
pub(super) struct ResultCell<K: Kind>(pub(super) UnsafeCell<Option<Result<K::Value, K::Error>>>);

// SAFETY: it is written by the one thread that holds the right given out by `begin` or `begin_own`, before that
// publishes an end with Release, and by others only read, by shared reference, after an end was loaded
// with Acquire. Values and errors are `Send` and `Sync` by `Kind`'s bounds.
unsafe impl<K: Kind> Sync for ResultCell<K> {}
// SAFETY: as above.
unsafe impl<K: Kind> Send for ResultCell<K> {}

impl<K: Kind> Slot<K> {
    /// A slot that is referred to by its node and wanted by the submission that claimed it.
    pub fn new(id: NodeId, number: u64, task: Arc<Task<K>>) -> Self {
        let due = match &task.tag().deadline {
            Some(_) => DUE,
            None => 0,
        };
        Self {
            id,
            number,
            word: AtomicU64::new(PENDING + due + INTEREST + 2 * REFERENCE),
            result: ResultCell(UnsafeCell::new(None)),
            waiters: Mutex::new(Waiters::default()),
            task,
        }
    }

    /// The node whose result this is.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Tells claims apart: a later one has a greater number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The task that computes it.
    pub fn task(&self) -> &Arc<Task<K>> {
        &self.task
    }

    /// One more submission or fragment that wants the result. `false` if it was given up, or nothing
    /// refers to it any more (then it is gone for good), or `lean` forbids it.
    pub fn share(&self, lean: Lean) -> bool {
        let may = |w: u64| match lean {
            Lean::Any => true,
            Lean::Older(than) => self.number < than || begun(w),
        };
        // ORDERING: Relaxed; this hands nothing over. The result is read after `peek`, and the
        // caller found the slot under the map's lock. `begun` seen late costs one more look: see
        // `Cut::enter`.
        let old = self.word.fetch_update(Relaxed, Relaxed, |w| {
            let deadline = if interest(w) == 0 { DUE } else { 0 }; // of one who has let go: it is lifted
            (references(w) > 0 && !given_up(w) && may(w))
                .then_some((w & !deadline) + INTEREST + REFERENCE)
        });
        old.is_ok_and(check)
    }

    /// Whether it was refused to a look-up with `lean` because its claim is younger and has not begun.
    pub fn is_passed_over(&self, lean: Lean) -> bool {
        // ORDERING: Relaxed; for a statistic.
        matches!(lean, Lean::Older(than) if self.number > than)
            && phase(self.word.load(Relaxed)) == PENDING
    }

    /// The same by a holder of interest, so that it cannot be gone.
    pub fn share_again(&self) {
        // ORDERING: Relaxed; as for an `Arc`, a new reference is made from one that is held.
        check(self.word.fetch_add(INTEREST + REFERENCE, Relaxed));
    }

    /// One reference less.
    pub fn release(&self, share: Share) -> Released {
        let less = match share {
            Share::Node => REFERENCE,
            Share::Interest | Share::Claim => REFERENCE + INTEREST,
        };
        // the deadline goes with the claim if something else wants it; while nothing does it stays
        let lifted = |w: u64| match share {
            Share::Claim if interest(w) > 0 => DUE,
            _ => 0,
        };
        // ORDERING: AcqRel, with itself, as in an `Arc`: the last one may take the result, and so must
        // come after every other's reading of it; and with the Release of `publish`, after its writing.
        let old = self.word.fetch_update(AcqRel, Relaxed, |w| {
            let w = (w - less) & !lifted(w - less);
            Some(if references(w) == 0 && phase(w) == PENDING {
                w + CANCELLED
            } else {
                w
            })
        });
        let Ok(old) = old else {
            unreachable!("the closure never declines")
        };
        match (references(old - less), phase(old)) {
            (1.., _) => Released::Held,
            (0, PENDING) => Released::Withdrawn,
            (0, RUNNING | ISSUED) => Released::Running,
            (0, _) => Released::Ended,
        }
    }

    /// Takes the result out, after [`Slot::release`] has returned [`Released::Ended`]: the owner
    /// may hold on to the slot for a moment longer, but the result's memory is to go now.
    ///
    /// # Safety
    /// To be called once, by the caller who was told so, and not after anything else was returned: a
    /// slot that ends later is still being written.
    pub unsafe fn take_result(&self) -> Option<Result<K::Value, K::Error>> {
        // SAFETY: the slot had ended when the last reference went, so the writing came before, and
        // nothing refers to it nor ever will again, so all reading did too: `release` orders both.
        self.result.0.with_mut(|result| unsafe { (*result).take() })
    }

    /// PENDING -> CANCELLED if only the caller wants it. Either way the caller wants it no more.
    /// `claimed` says that the caller is the submission that claimed it.
    pub fn cancel(&self, claimed: bool) -> Cancel {
        let (cancel, woken) = self.withdraw(claimed);
        woken.wake();
        cancel
    }

    /// As [`Slot::cancel`], and the wakers are the caller's to wake.
    pub fn withdraw(&self, claimed: bool) -> (Cancel, Woken) {
        let clear = if claimed { DUE } else { 0 };
        let next = |w: u64| {
            let w = (w - INTEREST) & !clear;
            match phase(w) {
                PENDING if interest(w) == 0 => w + CANCELLED,
                _ => w,
            }
        };
        // ORDERING: Relaxed; no data travels with a cancellation.
        let old = self.word.fetch_update(Relaxed, Relaxed, |w| Some(next(w)));
        let Ok(old) = old else {
            unreachable!("the closure never declines")
        };
        let cancel = match phase(old) {
            PENDING if interest(old) == 1 => return (Cancel::Cancelled, self.take_waiters(old)),
            PENDING => Cancel::Shared,
            RUNNING | ISSUED => Cancel::Running,
            _ => Cancel::Finished,
        };
        (cancel, Woken::default())
    }

    /// PENDING -> EXPIRED, after its deadline. `false` if nothing was done: a submission or a fragment that
    /// did not claim it wants it, or it was over before.
    pub fn expire(&self) -> bool {
        // ORDERING: Relaxed; no data travels with it. The interest is in the same word: `share` comes
        // before, and it does not expire, or after, and finds it given up.
        let old = self.word.fetch_update(Relaxed, Relaxed, |w| {
            (phase(w) == PENDING && w & DUE != 0 && interest(w) <= 1).then_some(w + EXPIRED)
        });
        if let Ok(late) = old {
            self.wake(late);
        }
        old.is_ok()
    }

    /// PENDING -> RUNNING; `None` if it was given up or closed first.
    pub fn begin(this: &Arc<Self>) -> Option<Begun<K>> {
        this.run().then(|| Begun::new(this.clone()))
    }

    /// The same for a reference that the caller gives up.
    pub(super) fn begin_own(this: Arc<Self>) -> Option<Begun<K>> {
        this.run().then(|| Begun::new(this))
    }

    /// PENDING -> RUNNING, if it was not given up or closed first.
    fn run(&self) -> bool {
        // ORDERING: Relaxed; what the owner needs came with the message.
        let pending = self.word.fetch_update(Relaxed, Relaxed, |w| {
            (phase(w) == PENDING).then_some(w + RUNNING)
        });
        pending.is_ok()
    }

    /// PENDING -> CLOSED; nothing happens in any other phase.
    pub fn close(&self) {
        // ORDERING: Relaxed; no data travels with it.
        let old = self.word.fetch_update(Relaxed, Relaxed, |w| {
            (phase(w) == PENDING).then_some(w + CLOSED)
        });
        if let Ok(old) = old {
            self.wake(old);
        }
    }

    /// PENDING -> REFUSED with the error of the launch that claimed it; nothing happens in any other
    /// phase.
    pub fn refuse(this: &Arc<Self>, error: K::Error) {
        if let Some(begun) = Self::begin(this) {
            begun.refuse(error);
        }
    }

    /// Whether it has ended, one way or the other.
    pub fn is_finished(&self) -> bool {
        // ORDERING: Relaxed; the result is read through `peek`.
        ended(self.word.load(Relaxed))
    }

    /// Whether its work has begun, also if it has ended.
    pub fn has_begun(&self) -> bool {
        // ORDERING: Relaxed; for an answer to the user.
        begun(self.word.load(Relaxed))
    }

    /// For the owner: whether a fragment that reads the result may begin.
    pub fn is_issued(&self) -> bool {
        // ORDERING: Relaxed; the result is read through `peek` or, by the owner, through `look`.
        phase(self.word.load(Relaxed)) >= ISSUED
    }

    /// What `f` makes of the outcome, if there is one already.
    pub fn peek<R>(&self, f: impl FnOnce(Outcome<&K::Value, &K::Error>) -> R) -> Option<R> {
        // ORDERING: Acquire, with the Release of `publish`: the result was written before it.
        let word = self.word.load(Acquire);
        ended(word).then(|| {
            // SAFETY: an end was loaded with Acquire, so the cell is not written any more.
            unsafe { self.outcome(word, f) }
        })
    }

    /// As [`Slot::peek`], and also of what has been issued.
    ///
    /// # Safety
    /// For the holder of the turn, while it neither ends nor issues this slot.
    pub unsafe fn look<R>(&self, f: impl FnOnce(Outcome<&K::Value, &K::Error>) -> R) -> Option<R> {
        // ORDERING: Acquire, as in `peek`. What has been issued was written by this holder of the turn,
        // or by an earlier one, whose accesses the turn orders before.
        let word = self.word.load(Acquire);
        (phase(word) >= ISSUED).then(|| {
            // SAFETY: as in `peek`; or the caller is the only one who would write.
            unsafe { self.outcome(word, f) }
        })
    }

    /// # Safety
    /// The phase in `word` says that there is an outcome, and the cell is not written meanwhile.
    unsafe fn outcome<R>(
        &self,
        word: u64,
        f: impl FnOnce(Outcome<&K::Value, &K::Error>) -> R,
    ) -> R {
        match phase(word) {
            CANCELLED => f(Outcome::Cancelled),
            EXPIRED => f(Outcome::Expired),
            CLOSED => f(Outcome::Closed),
            _ => self.result.0.with(|result| {
                // SAFETY: the caller says that it is not written meanwhile.
                match unsafe { &*result } {
                    Some(Ok(value)) => f(Outcome::Ready(value)),
                    Some(Err(error)) => f(Outcome::Failed(error)),
                    None => unreachable!("published without a result"),
                }
            }),
        }
    }

    /// Ready when the slot has ended; until then the waker is on the list.
    pub fn poll(&self, cx: &Context<'_>, key: &mut Option<Key>) -> Poll<()> {
        if self.is_finished() {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let mut waiters = self.waiters.lock();
        let unused = waiters.register(waker, key);
        // Look again, by a read-modify-write of the word that `publish` modifies: one of the two
        // comes first. Either this sees the end or that sees the flag.
        // ORDERING: Relaxed; it is one word, and the result is read through `peek`.
        let word = self.word.fetch_or(WAITERS, Relaxed);
        drop(waiters);
        drop(unused);
        if !ended(word) {
            return Poll::Pending;
        }
        if let Some(key) = key.take() {
            self.deregister(key);
        }
        Poll::Ready(())
    }

    /// Takes a wait back: its future was dropped.
    pub fn deregister(&self, key: Key) {
        let waker = self.waiters.lock().deregister(key);
        drop(waker); // foreign code: not under the lock
    }

    /// The number of waits on the list.
    pub fn waiting(&self) -> usize {
        self.waiters.lock().len()
    }

    /// Wakes everyone who had registered when the word was this.
    pub(super) fn wake(&self, old: u64) {
        self.take_waiters(old).wake();
    }

    fn take_waiters(&self, old: u64) -> Woken {
        match old & WAITERS {
            0 => Woken::default(),
            _ => self.waiters.lock().take(),
        }
    }
}

#[cfg(all(test, not(any(candlewick_loom, candlewick_shuttle))))]
#[path = "slot_tests.rs"]
mod tests;
