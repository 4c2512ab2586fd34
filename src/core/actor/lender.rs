//! A caller that drives the device for the sake of its own result, and what it may run.

use crate::core::store::Kind;
use crate::core::store::task::Task;
use crate::core::sync::Deadline;
use std::time::Duration;

/// A caller that drives for the sake of its own result.
pub struct Lender<'a, K: Kind> {
    /// Whether its result is there.
    pub done: &'a dyn Fn() -> bool,
    /// Whether a task is its own.
    pub own: &'a dyn Fn(&Task<K>) -> bool,
    /// Work that would last beyond this is not for it.
    pub until: Option<&'a Deadline>,
    /// Whether it runs nothing but its own.
    pub alone: bool,
}

impl<K: Kind> Lender<'_, K> {
    /// How much time it has; `None` if it has no limit.
    pub(super) fn left(&self) -> Option<Duration> {
        let until = self.until?;
        Some(until.left().unwrap_or(Duration::ZERO))
    }

    /// Whether it may run a task that takes so long: it does not run operations of another user's own,
    /// which may want a lock that it holds.
    pub(super) fn may_run(
        &self,
        task: &Task<K>,
        foreign: bool,
        takes: Duration,
        left: Option<Duration>,
    ) -> bool {
        let own = || (self.own)(task);
        (!foreign && !self.alone || own()) && left.is_none_or(|left| takes <= left)
    }
}
