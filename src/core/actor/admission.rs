//! Who may queue, and in which order: a bound on fragments and on bytes of host data, with one
//! line for threads and tasks alike, in which producers take turns and the more urgent goes first.
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

use super::line::Line;
use crate::core::panics::contain;
use crate::core::store::tag::Tag;
use crate::core::store::waiters::wake_one;
use crate::core::sync::Ordering::{Acquire, Relaxed, Release};
use crate::core::sync::{AtomicU64, Deadline, Mutex};
use rustc_hash::FxHashMap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

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

/// A task that was granted a permit and does not come for it within this time loses it to the next in
/// line, and lines up anew when it comes after all: its future may have been forgotten.
const GRANT: Duration = Duration::from_millis(100);

/// The bounded queue's counter and its line.
#[derive(Debug)]
pub struct Admission {
    word: AtomicU64,
    queue: Mutex<Queue>,
    fragments: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    /// The keys of `waiting`, and of some that have left: see `Queue::tidy`.
    line: Line<u64>,
    waiting: FxHashMap<u64, Waiting>,
    /// Those who were given their permit and have not come for it yet.
    granted: FxHashMap<u64, Granted>,
}

#[derive(Debug)]
struct Waiting {
    weight: Weight,
    waker: Waker,
}

#[derive(Debug)]
struct Granted {
    weight: Weight,
    /// Until then it is kept; for ever if the clock does not reach so far.
    until: Option<Deadline>,
}

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u64);

impl Queue {
    /// Whose turn it is, and how much room it needs.
    fn first(&mut self) -> Option<(u64, Weight)> {
        loop {
            let key = *self.line.front()?;
            match self.waiting.get(&key) {
                Some(waiting) => return Some((key, waiting.weight)),
                None => drop(self.line.pop()), // it has left
            }
        }
    }

    /// Lets go of the places of those who have left, once they are most of the line.
    fn tidy(&mut self) {
        const FEW: usize = 64;
        if self.line.len() > 2 * self.waiting.len() + FEW {
            let waiting = &self.waiting;
            self.line.retain(|key| waiting.contains_key(key));
        }
    }
}

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
            queue: Mutex::new(Queue::default()),
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

    /// Waits in line for a permit, in the turn that the tag says. Not `Full`.
    pub fn poll_acquire(
        &self,
        weight: Weight,
        tag: &Tag,
        place: &mut Option<Place>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Refused>> {
        let waker = cx.waker().clone();
        let mut queue = self.queue.lock();
        let (poll, unused) = match place.take() {
            None => self.line_up(&mut queue, weight, tag, place, waker),
            Some(Place(key)) => self.ask_again(&mut queue, key, (weight, tag), place, waker),
        };
        drop(queue);
        drop(unused); // foreign code: not under the lock
        poll
    }

    /// Takes a permit or a place, as one step with respect to whoever gives back.
    fn line_up(
        &self,
        queue: &mut Queue,
        weight: Weight,
        tag: &Tag,
        place: &mut Option<Place>,
        waker: Waker,
    ) -> (Poll<Result<(), Refused>>, Option<Waker>) {
        let first = queue.waiting.is_empty();
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
                queue.tidy();
                queue.next += 1;
                let key = queue.next;
                queue.waiting.insert(key, Waiting { weight, waker });
                queue.line.push(tag.producer, tag.priority, key);
                *place = Some(Place(key));
                (Poll::Pending, None)
            }
        }
    }

    fn ask_again(
        &self,
        queue: &mut Queue,
        key: u64,
        (weight, tag): (Weight, &Tag),
        place: &mut Option<Place>,
        waker: Waker,
    ) -> (Poll<Result<(), Refused>>, Option<Waker>) {
        if queue.granted.remove(&key).is_some() {
            return (Poll::Ready(Ok(())), Some(waker));
        }
        match queue.waiting.get_mut(&key) {
            Some(waiting) => {
                *place = Some(Place(key));
                let old = std::mem::replace(&mut waiting.waker, waker);
                (Poll::Pending, Some(old))
            }
            // closed, or its grant has lapsed: then it is refused, or lines up anew
            None => self.line_up(queue, weight, tag, place, waker),
        }
    }

    /// Leaves the line: the wait was dropped. A permit that had been granted is passed on, and
    /// the result is as for [`Admission::release`].
    #[must_use]
    pub fn leave(&self, Place(key): Place) -> bool {
        let mut queue = self.queue.lock();
        let granted = queue.granted.remove(&key);
        let waiting = queue.waiting.remove(&key);
        // whoever stood behind may fit now
        let woken = self.serve(&mut queue);
        let behind = !woken.is_empty() && !queue.waiting.is_empty();
        drop(queue);
        woken.into_iter().for_each(wake_one);
        contain(|| drop(waiting)); // foreign code
        behind | granted.is_some_and(|granted| self.give(granted.weight.units()))
    }

    /// Gives a permit back. `true` if the owner is to be called: because admission is closed, and it
    /// may be waiting for just this; or because a waiter stands behind a grant, which the owner is to see
    /// lapse.
    #[must_use]
    pub fn release(&self, weight: Weight) -> bool {
        self.give(weight.units())
    }

    fn give(&self, units: u64) -> bool {
        // ORDERING: Release, with the Acquire of whoever takes it: what the giver took out of the
        // channel is out. LINE and CLOSED are read in the same step.
        let old = self.word.fetch_add(units, Release);
        let mut behind = false;
        if old & LINE != 0 {
            let mut queue = self.queue.lock();
            let woken = self.serve(&mut queue);
            behind = !woken.is_empty() && !queue.waiting.is_empty();
            drop(queue);
            woken.into_iter().for_each(wake_one);
        }
        old & CLOSED != 0 || behind
    }

    /// Grants permits to the first in line while they fit. The wakers are for after the lock.
    #[must_use]
    fn serve(&self, queue: &mut Queue) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some((key, weight)) = queue.first() {
            // ORDERING: Acquire, with the Release of `give`: the grantee gets it through the lock.
            // Not once closed: the owner may have seen every permit back, and left.
            let taken = self.word.fetch_update(Acquire, Relaxed, |w| {
                (w & CLOSED == 0 && weight.fits(w)).then(|| w - weight.units())
            });
            if taken.is_err() {
                return woken;
            }
            queue.line.pop();
            let until = Deadline::after(GRANT);
            queue.granted.insert(key, Granted { weight, until });
            woken.extend(queue.waiting.remove(&key).map(|waiting| waiting.waker));
        }
        // ORDERING: Relaxed; under the lock, and no data travels with it.
        self.word.fetch_and(!LINE, Relaxed);
        woken
    }

    /// Takes permits away that were granted long ago and not come for, and serves the line with them.
    /// Nothing if there were none; else whether the owner is to be called, as for [`Admission::release`].
    #[must_use]
    pub fn lapse(&self) -> Option<bool> {
        let mut queue = self.queue.lock();
        let mut units = 0;
        queue.granted.retain(|_, granted| {
            let lapsed = granted.until.as_ref().is_some_and(Deadline::has_passed);
            units += if lapsed { granted.weight.units() } else { 0 };
            !lapsed
        });
        drop(queue);
        (units > 0).then(|| self.give(units))
    }

    /// When the owner is to look for lapsed grants, if somebody waits behind one.
    pub fn next_lapse(&self) -> Option<Deadline> {
        // ORDERING: Relaxed; whoever lines up behind a grant calls the owner after it set LINE.
        if self.word.load(Relaxed) & LINE == 0 {
            return None;
        }
        let queue = self.queue.lock();
        let grants = queue.granted.values();
        grants.fold(None, |first, granted| {
            Deadline::earlier(first, granted.until.clone())
        })
    }

    /// Refuses everybody from now on: those in line too, and those who were granted a permit and have
    /// not come for it, whose permits are back. `false` if it was closed already.
    pub fn close(&self) -> bool {
        // ORDERING: Relaxed; no data travels with it, and the owner is called after it.
        let old = self.word.fetch_or(CLOSED, Relaxed);
        let mut queue = self.queue.lock();
        let refused = std::mem::take(&mut queue.waiting);
        let granted = std::mem::take(&mut queue.granted);
        drop(queue);
        let units: u64 = granted.values().map(|granted| granted.weight.units()).sum();
        // ORDERING: Relaxed; nothing was sent with them, and the owner is called after it.
        self.word.fetch_add(units, Relaxed);
        refused.into_values().for_each(|w| wake_one(w.waker));
        old & CLOSED == 0
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        // ORDERING: Relaxed; no data travels with it.
        self.word.load(Relaxed) & CLOSED != 0
    }

    /// Fragments that have a permit: the length of the queue.
    pub fn queued(&self) -> usize {
        // ORDERING: Relaxed; a statistic.
        let w = self.word.load(Relaxed);
        (self.fragments - (w % BYTE) / FRAGMENT) as usize
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

#[cfg(all(test, not(any(candlewick_loom, candlewick_shuttle))))]
#[path = "admission_tests.rs"]
mod tests;
