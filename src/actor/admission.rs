//! Who may queue, and in which order: a bound on fragments and on bytes of host data, with one
//! line for threads and tasks alike.
//!
//! A submitter gets a permit *before* it claims anything, so a full queue leaves nothing claimed,
//! and the channel behind it, which has a place for every permit, is never full. Permits come
//! back when the owner has taken the work up, so once admission is closed, "every permit is back"
//! means that no message is on its way any more: this is what an orderly shutdown waits for.
//!
//! One word, so that taking, giving back, closing and lining up are each one step:
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | `CLOSED` |
//! | 1 | `LINE`: somebody waits; whoever gives back must look, whoever comes must line up |
//! | 2..22 | fragments that still fit |
//! | 22..64 | bytes that still fit |

use crate::store::waiters::wake_one;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU64, Mutex};
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

const CLOSED: u64 = 1;
const LINE: u64 = 2;
const FRAGMENT: u64 = 1 << 2;
const BYTE: u64 = 1 << 22;

/// The most fragments that a queue can be bounded to.
pub const MAX_FRAGMENTS: usize = (1 << 20) - 1;
/// The most bytes that a queue can be bounded to.
pub const MAX_BYTES: u64 = (1 << 42) - 1;

/// What one fragment takes up in the queue: one place, and this many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(pub u64);

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No room now, or others were first.
    Full,
    /// Closed for good.
    Closed,
}

/// The bounded queue's counter and its line.
#[derive(Debug)]
pub struct Admission {
    word: AtomicU64,
    line: Mutex<Line>,
    fragments: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    waiting: VecDeque<Waiting>,
    /// Those who were given their permit and have not come for it yet.
    granted: Vec<(u64, Weight)>,
}

#[derive(Debug)]
struct Waiting {
    key: u64,
    weight: Weight,
    waker: Waker,
}

/// A place in the line.
#[derive(Debug)]
pub struct Place(u64);

impl Weight {
    fn units(self) -> u64 {
        FRAGMENT + self.0 * BYTE
    }

    fn fits(self, word: u64) -> bool {
        (word % BYTE) / FRAGMENT >= 1 && word / BYTE >= self.0
    }
}

impl Admission {
    /// A bound of `fragments` (1 to [`MAX_FRAGMENTS`]) and `bytes` (at most [`MAX_BYTES`]).
    pub fn new(fragments: usize, bytes: u64) -> Self {
        let fragments = fragments as u64;
        Self {
            word: AtomicU64::new(fragments * FRAGMENT + bytes * BYTE),
            line: Mutex::new(Line::default()),
            fragments,
            bytes,
        }
    }

    /// A permit, if there is room and nobody waits for it.
    pub fn try_acquire(&self, weight: Weight) -> Result<(), Refused> {
        // ORDERING: Acquire, with the Release of `give`: the place in the channel that the permit
        // stands for is free. Relaxed on failure: nothing is read.
        let taken = self.word.fetch_update(Acquire, Relaxed, |w| {
            (w & (CLOSED | LINE) == 0 && weight.fits(w)).then(|| w - weight.units())
        });
        match taken {
            Ok(_) => Ok(()),
            Err(w) if w & CLOSED != 0 => Err(Refused::Closed),
            Err(_) => Err(Refused::Full),
        }
    }

    /// Waits in line for a permit. Not `Full`.
    pub fn poll_acquire(
        &self,
        weight: Weight,
        place: &mut Option<Place>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Refused>> {
        let waker = cx.waker().clone();
        let mut line = self.line.lock();
        let (poll, unused) = match place.take() {
            None => self.line_up(&mut line, weight, place, waker),
            Some(Place(key)) => Self::ask_again(&mut line, key, place, waker),
        };
        drop(line);
        drop(unused); // foreign code: not under the lock
        poll
    }

    /// Takes a permit or a place, as one step with respect to whoever gives back.
    fn line_up(
        &self,
        line: &mut Line,
        weight: Weight,
        place: &mut Option<Place>,
        waker: Waker,
    ) -> (Poll<Result<(), Refused>>, Option<Waker>) {
        let first = line.waiting.is_empty();
        let take = |w: u64| match first && weight.fits(w) {
            true => w - weight.units(),
            false => w | LINE,
        };
        // ORDERING: Acquire, with the Release of `give`, as in `try_acquire`. Setting LINE in the
        // same word is the re-check: a `give` came before and is seen, or sees LINE.
        let old = self
            .word
            .fetch_update(Acquire, Relaxed, |w| (w & CLOSED == 0).then(|| take(w)));
        match old {
            Err(_) => (Poll::Ready(Err(Refused::Closed)), Some(waker)),
            Ok(w) if first && weight.fits(w) => (Poll::Ready(Ok(())), Some(waker)),
            Ok(_) => {
                line.next += 1;
                let key = line.next;
                line.waiting.push_back(Waiting { key, weight, waker });
                *place = Some(Place(key));
                (Poll::Pending, None)
            }
        }
    }

    fn ask_again(
        line: &mut Line,
        key: u64,
        place: &mut Option<Place>,
        waker: Waker,
    ) -> (Poll<Result<(), Refused>>, Option<Waker>) {
        if let Some(i) = line.granted.iter().position(|g| g.0 == key) {
            line.granted.swap_remove(i);
            return (Poll::Ready(Ok(())), Some(waker));
        }
        match line.waiting.iter_mut().find(|w| w.key == key) {
            None => (Poll::Ready(Err(Refused::Closed)), Some(waker)),
            Some(waiting) => {
                *place = Some(Place(key));
                (
                    Poll::Pending,
                    Some(std::mem::replace(&mut waiting.waker, waker)),
                )
            }
        }
    }

    /// Leaves the line: the wait was dropped. A permit that had been granted is passed on, and
    /// the result is as for [`Admission::release`].
    #[must_use]
    pub fn leave(&self, Place(key): Place) -> bool {
        let mut line = self.line.lock();
        let granted = line.granted.iter().position(|g| g.0 == key);
        let granted = granted.map(|i| line.granted.swap_remove(i).1);
        let waiting = line.waiting.iter().position(|w| w.key == key);
        let waker = waiting.and_then(|i| line.waiting.remove(i));
        // whoever stood behind may fit now
        let woken = self.serve(&mut line);
        drop(line);
        drop(waker);
        woken.into_iter().for_each(wake_one);
        granted.is_some_and(|weight| self.give(weight.units()))
    }

    /// Gives a permit back. `true` if admission is closed: then the owner is to be called, who
    /// may be waiting for just this.
    #[must_use]
    pub fn release(&self, weight: Weight) -> bool {
        self.give(weight.units())
    }

    fn give(&self, units: u64) -> bool {
        // ORDERING: Release, with the Acquire of whoever takes it: what the giver took out of the
        // channel is out. LINE and CLOSED are read in the same step.
        let old = self.word.fetch_add(units, Release);
        if old & LINE != 0 {
            let mut line = self.line.lock();
            let woken = self.serve(&mut line);
            drop(line);
            woken.into_iter().for_each(wake_one);
        }
        old & CLOSED != 0
    }

    /// Grants permits to the first in line while they fit. The wakers are for after the lock.
    #[must_use]
    fn serve(&self, line: &mut Line) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some(first) = line.waiting.front() {
            let weight = first.weight;
            // ORDERING: Acquire, with the Release of `give`: the grantee gets it through the lock.
            // Not once closed: the owner may have seen every permit back, and left.
            let taken = self.word.fetch_update(Acquire, Relaxed, |w| {
                (w & CLOSED == 0 && weight.fits(w)).then(|| w - weight.units())
            });
            if taken.is_err() {
                return woken;
            }
            if let Some(first) = line.waiting.pop_front() {
                line.granted.push((first.key, weight));
                woken.push(first.waker);
            }
        }
        // ORDERING: Relaxed; under the lock, and no data travels with it.
        self.word.fetch_and(!LINE, Relaxed);
        woken
    }

    /// Refuses everybody from now on, those in line too. `false` if it was closed already.
    pub fn close(&self) -> bool {
        // ORDERING: Relaxed; no data travels with it, and the owner is called after it.
        let old = self.word.fetch_or(CLOSED, Relaxed);
        let refused = std::mem::take(&mut self.line.lock().waiting);
        refused.into_iter().for_each(|w| wake_one(w.waker));
        old & CLOSED == 0
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        // ORDERING: Relaxed; no data travels with it.
        self.word.load(Relaxed) & CLOSED != 0
    }

    /// Fragments that have a permit: the length of the queue.
    pub fn queued(&self) -> usize {
        // ORDERING: Relaxed; a count. `Core::send` says why it is not too low there.
        let w = self.word.load(Relaxed);
        (self.fragments - (w % BYTE) / FRAGMENT) as usize
    }

    /// Whether somebody waits in line. To be asked after a SeqCst fence: see `Core::send`.
    pub fn has_line(&self) -> bool {
        // ORDERING: Relaxed, behind the fence in `Core::send`; its partner is the fence in
        // `Core::nudge`, which one who lines up passes after it set the flag.
        self.word.load(Relaxed) & LINE != 0
    }

    /// Bytes of host data that have a permit.
    pub fn queued_bytes(&self) -> u64 {
        // ORDERING: Relaxed; a statistic.
        self.bytes - self.word.load(Relaxed) / BYTE
    }

    /// Closed, and every permit is back: nothing will be queued any more.
    pub fn is_drained(&self) -> bool {
        // ORDERING: Relaxed; whoever gives the last permit back after closing calls the owner, and
        // the call makes it visible.
        let w = self.word.load(Relaxed);
        w & CLOSED != 0 && (w % BYTE) / FRAGMENT == self.fragments
    }

    /// The bound in fragments.
    pub fn fragments(&self) -> usize {
        self.fragments as usize
    }

    /// The bound in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
