//! What this thread is driving: where waiting for an executor would be waiting for ever.
//!
//! A thread that has the turn of an executor is the only one that can end its work. Whatever runs on it
//! meanwhile (operations, destructors, wakers) must not sleep until that work has ended, nor until that
//! of another executor has whose driver is waiting for this one. Turns nest: an operation of one executor
//! may run another.

#![allow(clippy::missing_const_for_thread_local)] // the schedulers' macros have no such form

use super::gate::Gate;
use crate::core::sync::Arc;
use std::cell::RefCell;

/// One turn of this thread.
struct Frame {
    gate: Arc<Gate>,
    /// Whether an operation is running, not the owner's own code.
    operation: bool,
    /// What the operation has polled and not found ready counts as waited for: each executor once.
    polled: Vec<Waiting>,
}

crate::core::sync::thread_local! {
    /// The turns of this thread, the innermost last.
    static FRAMES: RefCell<Vec<Frame>> = RefCell::new(Vec::new());
}

/// Marks this thread as driving, until dropped.
pub(super) struct Driving(());

impl Driving {
    /// This thread has the turn of this executor from now on.
    pub(super) fn start(gate: &Arc<Gate>) -> Self {
        let frame = Frame {
            gate: gate.clone(),
            operation: false,
            polled: Vec::new(),
        };
        // while the thread ends there is no list, and nothing that could wait is run
        let _ = FRAMES.try_with(|frames| frames.borrow_mut().push(frame));
        Self(())
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        let frame = FRAMES.try_with(|frames| frames.borrow_mut().pop());
        drop(frame); // its gate outside of the borrow
    }
}

/// Marks that an operation is running, until dropped.
pub(super) struct Operating(());

impl Operating {
    /// The innermost turn's driver runs an operation from now on.
    pub(super) fn start() -> Self {
        drop(set_operation(true)); // nothing has been polled
        Self(())
    }
}

impl Drop for Operating {
    fn drop(&mut self) {
        // a future that was polled in the operation and given up does not hold it up any more
        drop(set_operation(false));
    }
}

/// Says of the innermost turn whether an operation is running. What the last one has polled comes back.
fn set_operation(operation: bool) -> Vec<Waiting> {
    let polled = FRAMES.try_with(|frames| {
        let mut frames = frames.borrow_mut();
        let innermost = frames.last_mut()?;
        innermost.operation = operation;
        Some(std::mem::take(&mut innermost.polled))
    });
    polled.ok().flatten().unwrap_or_default()
}

/// Whether this thread has the turn of this executor.
pub fn is_driving(gate: &Arc<Gate>) -> bool {
    let is = |frame: &Frame| Arc::ptr_eq(&frame.gate, gate);
    let any = FRAMES.try_with(|frames| frames.borrow().iter().any(is));
    any.unwrap_or(false)
}

/// The executors that this thread drives, the innermost turn's last.
fn driven(frames: &[Frame]) -> Vec<Arc<Gate>> {
    frames.iter().map(|frame| frame.gate.clone()).collect()
}

/// Before this thread gives up a future of `gate` as not ready: whether sleeping for it would be for
/// ever, because an operation that this thread runs does so. Outside of an operation a future is polled
/// by code that has other things to do, as by a waker.
///
/// Until the operation ends, all executors that this thread drives count as waiting.
pub fn would_sleep_for_ever(gate: &Arc<Gate>) -> bool {
    let operating = FRAMES.try_with(|frames| {
        let frames = frames.borrow();
        let innermost = frames.last().filter(|frame| frame.operation)?;
        let said = innermost.polled.iter().any(|wait| wait.is_for(gate));
        Some((driven(&frames), said))
    });
    let Some((driven, said)) = operating.ok().flatten() else {
        return false;
    };
    let waiting = (!said).then(|| Waiting::say(gate, &driven));
    let for_ever = leads_back(gate, &driven);
    if let (Some(waiting), false) = (waiting, for_ever) {
        let _ = FRAMES.try_with(|frames| {
            let mut frames = frames.borrow_mut();
            frames.last_mut().map(|frame| frame.polled.push(waiting))
        });
    }
    for_ever
}

/// Whether the executors that drivers wait for, from this one on, lead to one of these.
fn leads_back(from: &Arc<Gate>, to: &[Arc<Gate>]) -> bool {
    let mut next = vec![from.clone()];
    // a ring that these are not part of is another thread's to see
    let mut seen: Vec<Arc<Gate>> = Vec::new();
    while let Some(gate) = next.pop() {
        let is = |other: &Arc<Gate>| Arc::ptr_eq(other, &gate);
        if to.iter().any(is) {
            return true;
        }
        if !seen.iter().any(is) {
            next.extend(gate.waits_for.lock().iter().cloned());
            seen.push(gate);
        }
    }
    false
}

/// A wait that a driver of other executors is about to begin; ends when dropped.
#[derive(Debug)]
pub struct Waiting {
    /// The executor that is waited for.
    gate: Arc<Gate>,
    /// The executors that this thread drives.
    waiters: Vec<Arc<Gate>>,
}

impl Waiting {
    /// Before this thread sleeps until `gate`'s work has ended: `None` if that would be for ever,
    /// because it drives that executor, or because that one's driver waits for one that it drives.
    ///
    /// Each of two drivers says for whom it waits, under its executor's lock, and looks at the other's
    /// after that: one of them sees both.
    pub fn start(gate: &Arc<Gate>) -> Option<Self> {
        let driven = FRAMES.try_with(|frames| driven(&frames.borrow()));
        let driven = driven.unwrap_or_default();
        let waiting = Self::say(gate, &driven);
        let free = driven.is_empty() || !leads_back(gate, &driven);
        free.then_some(waiting)
    }

    /// Says of these executors' drivers that they wait for `gate`.
    fn say(gate: &Arc<Gate>, driven: &[Arc<Gate>]) -> Self {
        for waiter in driven {
            waiter.waits_for.lock().push(gate.clone());
        }
        Self {
            gate: gate.clone(),
            waiters: driven.to_vec(),
        }
    }

    fn is_for(&self, gate: &Arc<Gate>) -> bool {
        Arc::ptr_eq(&self.gate, gate)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        for waiter in &self.waiters {
            let mut waits_for = waiter.waits_for.lock();
            let place = waits_for.iter().position(|gate| self.is_for(gate));
            let one = place.map(|place| waits_for.swap_remove(place));
            drop(waits_for);
            drop(one);
        }
    }
}
