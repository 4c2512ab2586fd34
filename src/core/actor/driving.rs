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
        drop(set_operation(true));
        Self(())
    }
}

impl Drop for Operating {
    fn drop(&mut self) {
        // a future that was polled in the operation and given up does not hold it up any more
        let polled = set_operation(false).and_then(|gate| gate.waits_for.lock().take());
        drop(polled);
    }
}

/// The innermost turn's executor.
fn set_operation(operation: bool) -> Option<Arc<Gate>> {
    let gate = FRAMES.try_with(|frames| {
        let mut frames = frames.borrow_mut();
        frames.last_mut().map(|frame| {
            frame.operation = operation;
            frame.gate.clone()
        })
    });
    gate.ok().flatten()
}

/// Whether this thread has the turn of this executor.
pub fn is_driving(gate: &Arc<Gate>) -> bool {
    any(|frame| Arc::ptr_eq(&frame.gate, gate))
}

fn any(frame: impl Fn(&Frame) -> bool) -> bool {
    let any = FRAMES.try_with(|frames| frames.borrow().iter().any(frame));
    any.unwrap_or(false)
}

/// Before this thread gives up a future of `gate` as not ready: whether sleeping for it would be for
/// ever, because an operation that this thread runs does so. Outside of an operation a future is polled
/// by code that has other things to do, as by a waker.
///
/// Until the operation ends, its executor counts as waiting.
pub fn would_sleep_for_ever(gate: &Arc<Gate>) -> bool {
    let operating = FRAMES.try_with(|frames| {
        let frames = frames.borrow();
        let innermost = frames.last().filter(|frame| frame.operation)?;
        Some(innermost.gate.clone())
    });
    let Some(waiter) = operating.ok().flatten() else {
        return false;
    };
    drop(waiter.waits_for.lock().replace(gate.clone()));
    let driven = any(|frame| Arc::ptr_eq(&frame.gate, gate));
    driven || leads_back(gate, std::slice::from_ref(&waiter))
}

/// Whether the executors that drivers wait for, one after another from this one on, lead to one of these.
fn leads_back(from: &Arc<Gate>, to: &[Arc<Gate>]) -> bool {
    let mut next = Some(from.clone());
    // a ring that these are not part of is another thread's to see
    let mut seen: Vec<Arc<Gate>> = Vec::new();
    while let Some(gate) = next {
        let is = |other: &Arc<Gate>| Arc::ptr_eq(other, &gate);
        if to.iter().any(is) {
            return true;
        }
        if seen.iter().any(is) {
            return false;
        }
        next = gate.waits_for.lock().clone();
        seen.push(gate);
    }
    false
}

/// A wait that a driver of other executors is about to begin; ends when dropped.
#[derive(Debug)]
pub struct Waiting {
    /// The executors that this thread drives, and what each waited for before.
    waiters: Vec<(Arc<Gate>, Option<Arc<Gate>>)>,
}

impl Waiting {
    /// Before this thread sleeps until `gate`'s work has ended: `None` if that would be for ever,
    /// because it drives that executor, or because that one's driver waits for one that it drives.
    ///
    /// Each of two drivers says for whom it waits, under its executor's lock, and looks at the other's
    /// after that: one of them sees both.
    pub fn start(gate: &Arc<Gate>) -> Option<Self> {
        let driven = FRAMES.try_with(|frames| {
            let frames = frames.borrow();
            frames.iter().map(|frame| frame.gate.clone()).collect()
        });
        let driven: Vec<Arc<Gate>> = driven.unwrap_or_default();
        let say = |waiter: &Arc<Gate>| {
            let before = waiter.waits_for.lock().replace(gate.clone());
            (waiter.clone(), before)
        };
        let waiting = Self {
            waiters: driven.iter().map(say).collect(),
        };
        let free = driven.is_empty() || !leads_back(gate, &driven);
        free.then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        for (waiter, before) in self.waiters.drain(..).rev() {
            let last = std::mem::replace(&mut *waiter.waits_for.lock(), before);
            drop(last);
        }
    }
}
