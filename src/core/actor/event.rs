//! Something that happens once, and those who wait for it.

use crate::core::store::waiters::{Key, Waiters};
use crate::core::sync::Mutex;
use std::task::{Context, Poll};

/// An event that has happened or not.
#[derive(Debug, Default)]
pub struct Event(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    happened: bool,
    waiters: Waiters,
}

impl Event {
    /// It has happened: wakes everyone.
    pub fn set(&self) {
        let mut state = self.0.lock();
        state.happened = true;
        let woken = state.waiters.take();
        drop(state);
        woken.wake();
    }

    /// Whether it has happened.
    pub fn is_set(&self) -> bool {
        self.0.lock().happened
    }

    /// Ready once it has happened.
    pub fn poll(&self, cx: &Context<'_>, key: &mut Option<Key>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut state = self.0.lock();
        if state.happened {
            drop(state);
            drop(waker);
            return Poll::Ready(());
        }
        let unused = state.waiters.register(waker, key);
        drop(state);
        drop(unused);
        Poll::Pending
    }

    /// Takes a wait back: its future was dropped.
    pub fn deregister(&self, key: Key) {
        let waker = self.0.lock().waiters.deregister(key);
        drop(waker);
    }
}
