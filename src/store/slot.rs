//! One result's life: claimed once, written once, awaited by any number of tasks and threads.
//!
//! ```text
//!            begin (owner)             finish (owner)
//! PENDING -------------------> RUNNING ---------------> READY | FAILED
//!    |  cancel, release of the last reference
//!    +-----------------------------------------> CANCELLED
//!    |  its deadline has passed, and nobody else wants it
//!    +-----------------------------------------> EXPIRED
//!    |  the executor closes
//!    +-----------------------------------------> CLOSED
//! ```
//!
//! All of it is one atomic word:
//!
//! | bits | name | meaning |
//! |---|---|---|
//! | 0..3 | phase | the states above |
//! | 3 | `WAITERS` | somebody is, or was, on the list of waiters |
//! | 4 | `ASKED` | cancelling was asked for after the work had begun |
//! | 5 | `DUE` | it has a deadline, and only the submission that brought it has wanted it so far |
//! | 8..36 | interest | submissions and fragments that want the result |
//! | 36..64 | references | interest, and one for the node while a tensor names it |
//!
//! The result cell belongs to the owner while the phase is RUNNING (there is one `begin` for a
//! slot, ever) and to everybody, for reading, from READY or FAILED on.

use super::task::Task;
use super::waiters::{Key, Waiters};
use super::{Kind, NodeId};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::{Arc, AtomicU64, Mutex, UnsafeCell};
use std::task::{Context, Poll};

const PHASE: u64 = 0b111;
const PENDING: u64 = 0;
const RUNNING: u64 = 1;
const READY: u64 = 2;
const FAILED: u64 = 3;
const CANCELLED: u64 = 4;
const CLOSED: u64 = 5;
const EXPIRED: u64 = 6;
const WAITERS: u64 = 1 << 3;
const ASKED: u64 = 1 << 4;
const DUE: u64 = 1 << 5;
const INTEREST: u64 = 1 << 8;
const REFERENCE: u64 = 1 << 36;
const INTEREST_MASK: u64 = REFERENCE - INTEREST;

fn phase(word: u64) -> u64 {
    word & PHASE
}
fn ended(word: u64) -> bool {
    phase(word) >= READY
}
/// Whether it was given up before it began: whoever wants it has it computed anew.
fn given_up(word: u64) -> bool {
    matches!(phase(word), CANCELLED | EXPIRED)
}
fn interest(word: u64) -> u64 {
    (word & INTEREST_MASK) / INTEREST
}
fn references(word: u64) -> u64 {
    word / REFERENCE
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

/// The place of one result.
pub struct Slot<K: Kind> {
    id: NodeId,
    word: AtomicU64,
    result: UnsafeCell<Option<Result<K::Value, K::Error>>>,
    waiters: Mutex<Waiters>,
    task: Arc<Task<K>>,
}

// SAFETY: `result` is written by the one thread that holds the right given out by `begin`, before
// it publishes READY or FAILED with Release, and only read by shared reference after one of those
// was loaded with Acquire. Everything else is `Sync` by itself.
unsafe impl<K: Kind> Sync for Slot<K> {}
// SAFETY: values, errors and the task's payload are `Send` by `Kind`'s bounds.
unsafe impl<K: Kind> Send for Slot<K> {}

/// The right to end a slot that has begun; there is one for a slot, ever.
///
/// Dropped unused (the owner panicked), it ends the slot with [`Kind::abandoned`], so that no
/// waiter is left.
pub struct Begun<K: Kind>(Option<Arc<Slot<K>>>);

impl<K: Kind> Slot<K> {
    /// A slot that is referred to by its node and wanted by one submission.
    pub fn new(id: NodeId, task: Arc<Task<K>>) -> Self {
        let due = match &task.tag().deadline {
            Some(_) => DUE,
            None => 0,
        };
        Self {
            id,
            word: AtomicU64::new(PENDING + due + INTEREST + 2 * REFERENCE),
            result: UnsafeCell::new(None),
            waiters: Mutex::new(Waiters::default()),
            task,
        }
    }

    /// The node whose result this is.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The task that computes it.
    pub fn task(&self) -> &Task<K> {
        &self.task
    }

    /// One more submission or fragment that wants the result: a deadline does not hold any more.
    /// `false` if it was given up, or nobody refers to it any more: then it is gone for good.
    pub fn share(&self) -> bool {
        // ORDERING: Relaxed; this hands nothing over. The result is read after `peek`, and the
        // caller found the slot under the map's lock.
        self.word
            .fetch_update(Relaxed, Relaxed, |w| {
                (references(w) > 0 && !given_up(w)).then_some((w & !DUE) + INTEREST + REFERENCE)
            })
            .is_ok()
    }

    /// The same by somebody who has interest already, so that it cannot be gone.
    pub fn share_again(&self) {
        // ORDERING: Relaxed; as for an `Arc`, a new reference is made from one that is held.
        self.word.fetch_add(INTEREST + REFERENCE, Relaxed);
    }

    /// One reference less, and with `interested` one less that wants the result.
    pub fn release(&self, interested: bool) -> Released {
        let less = REFERENCE + if interested { INTEREST } else { 0 };
        // ORDERING: AcqRel, with itself, as in an `Arc`: whoever is last may take the result, and
        // so must come after everybody else's reading of it; and with the Release of `finish`,
        // after its writing.
        let old = self.word.fetch_update(AcqRel, Relaxed, |w| {
            let w = w - less;
            Some(if references(w) == 0 && phase(w) == PENDING {
                w | CANCELLED
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
            (0, RUNNING) => Released::Running,
            (0, _) => Released::Ended,
        }
    }

    /// Takes the result out, after [`Slot::release`] has returned [`Released::Ended`]: the owner
    /// may hold on to the slot for a moment longer, but the result's memory is to go now.
    ///
    /// # Safety
    /// To be called once, by the one who was told so, and not after anything else was returned: a
    /// slot that ends later is still being written.
    pub unsafe fn take_result(&self) -> Option<Result<K::Value, K::Error>> {
        // SAFETY: the slot had ended when the last reference went, so the writing came before, and
        // nobody refers to it nor ever will again, so all reading did too: `release` orders both.
        self.result.with_mut(|result| unsafe { (*result).take() })
    }

    /// PENDING -> CANCELLED if only the caller wants it. Either way the caller wants it no more.
    pub fn cancel(&self) -> Cancel {
        let next = |w: u64| {
            let w = w - INTEREST;
            match phase(w) {
                PENDING if interest(w) == 0 => w | CANCELLED,
                RUNNING => w | ASKED,
                _ => w,
            }
        };
        // ORDERING: Relaxed; no data travels with a cancellation.
        let old = self.word.fetch_update(Relaxed, Relaxed, |w| Some(next(w)));
        let Ok(old) = old else {
            unreachable!("the closure never declines")
        };
        match phase(old) {
            PENDING if interest(old) == 1 => {
                self.wake(old);
                Cancel::Cancelled
            }
            PENDING => Cancel::Shared,
            RUNNING => Cancel::Running,
            _ => Cancel::Finished,
        }
    }

    /// PENDING -> EXPIRED, after its deadline. `false` if nothing was done: somebody else wants it,
    /// or it was over before.
    pub fn expire(&self) -> bool {
        // ORDERING: Relaxed; no data travels with it. DUE is in the same word: `share` comes
        // before, and it is not due any more, or after, and finds it given up.
        let old = self.word.fetch_update(Relaxed, Relaxed, |w| {
            (phase(w) == PENDING && w & DUE != 0).then_some(w + EXPIRED)
        });
        if let Ok(late) = old {
            self.wake(late);
        }
        old.is_ok()
    }

    /// Whether cancelling was asked for after the work had begun.
    pub fn cancel_asked(&self) -> bool {
        // ORDERING: Relaxed; a hint.
        self.word.load(Relaxed) & ASKED != 0
    }

    /// PENDING -> RUNNING; `None` if it was cancelled or closed first.
    pub fn begin(this: &Arc<Self>) -> Option<Begun<K>> {
        // ORDERING: Relaxed; what the owner needs came with the message.
        this.word
            .fetch_update(Relaxed, Relaxed, |w| {
                (phase(w) == PENDING).then_some(w + RUNNING)
            })
            .ok()
            .map(|_| Begun(Some(this.clone())))
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

    /// Whether it has ended, one way or the other.
    pub fn is_finished(&self) -> bool {
        // ORDERING: Relaxed; the result is read through `peek`.
        ended(self.word.load(Relaxed))
    }

    /// What `f` makes of the outcome, if there is one already.
    pub fn peek<R>(&self, f: impl FnOnce(Outcome<&K::Value, &K::Error>) -> R) -> Option<R> {
        // ORDERING: Acquire, with the Release of `finish`: the result was written before it.
        let word = self.word.load(Acquire);
        ended(word).then(|| match phase(word) {
            CANCELLED => f(Outcome::Cancelled),
            EXPIRED => f(Outcome::Expired),
            CLOSED => f(Outcome::Closed),
            _ => self.result.with(|result| {
                // SAFETY: READY or FAILED was loaded with Acquire; nobody writes any more.
                match unsafe { &*result } {
                    Some(Ok(value)) => f(Outcome::Ready(value)),
                    Some(Err(error)) => f(Outcome::Failed(error)),
                    None => unreachable!("published without a result"),
                }
            }),
        })
    }

    /// Ready when the slot has ended; until then the waker is on the list.
    pub fn poll(&self, cx: &Context<'_>, key: &mut Option<Key>) -> Poll<()> {
        if self.is_finished() {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let mut waiters = self.waiters.lock();
        let unused = waiters.register(waker, key);
        // Look again, by a read-modify-write of the word that `finish` modifies: one of the two
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

    /// Whether somebody waits, or has. To be asked after a SeqCst fence: see `Core::send`.
    pub fn has_waiters(&self) -> bool {
        // ORDERING: Relaxed, behind the fence in `Core::send`; its partner is the fence in
        // `Core::nudge`, which a waiter passes after it set the flag.
        self.word.load(Relaxed) & WAITERS != 0
    }

    /// The number of waits on the list.
    pub fn waiting(&self) -> usize {
        self.waiters.lock().len()
    }

    fn wake(&self, old: u64) {
        if old & WAITERS != 0 {
            let woken = self.waiters.lock().take();
            woken.wake();
        }
    }
}

impl<K: Kind> Begun<K> {
    /// RUNNING -> READY or FAILED, and wakes everyone.
    pub fn finish(mut self, result: Result<K::Value, K::Error>) {
        if let Some(slot) = self.0.take() {
            Self::publish(&slot, result);
        }
    }

    /// The slot that has begun.
    pub fn id(&self) -> NodeId {
        match &self.0 {
            Some(slot) => slot.id,
            None => unreachable!("present until finished"),
        }
    }

    fn publish(slot: &Slot<K>, result: Result<K::Value, K::Error>) {
        let step = if result.is_ok() {
            READY - RUNNING
        } else {
            FAILED - RUNNING
        };
        // SAFETY: there is one `Begun` for a slot, and nobody reads before READY or FAILED.
        slot.result.with_mut(|cell| unsafe { *cell = Some(result) });
        // ORDERING: Release, with the Acquire of `peek`: the result was
        // written before. An addition, to keep the counts and flags of the same word.
        let old = slot.word.fetch_add(step, Release);
        slot.wake(old);
    }
}

impl<K: Kind> Drop for Begun<K> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            Self::publish(&slot, Err(K::abandoned()));
        }
    }
}
