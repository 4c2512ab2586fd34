//! What the owner goes by when it chooses what runs next.

use crate::core::sync::Deadline;

/// How urgent work is, compared with other work of the same executor.
///
/// What is more urgent goes first. What is less urgent is not forgotten: after sixteen turns in
/// which it was passed over, it has one.
///
/// ```
/// use candlewick::{Device, Executor, LazyTensor, Priority, Submit};
/// let executor = Executor::new(&Device::Cpu)?;
/// let y = LazyTensor::new(&[1f32, 2.0], &Device::Cpu)?.sqr()?;
/// let background = Submit::new().priority(Priority::Background);
/// assert_eq!(executor.run_with(&y, background)?.to_vec1::<f32>()?, [1.0, 4.0]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A person waits for the result.
    Interactive,
    /// The priority of work that is submitted without one.
    #[default]
    Normal,
    /// Work that may wait for everything else.
    Background,
}

impl Priority {
    /// The priority of this number, counted from the most urgent.
    pub(in crate::core) fn of(number: usize) -> Self {
        match number {
            0 => Self::Interactive,
            1 => Self::Normal,
            _ => Self::Background,
        }
    }
}

/// Who submitted work, how urgent it is, and until when it is of use.
#[derive(Clone, Debug, Default)]
pub struct Tag {
    /// Producers take turns.
    pub producer: u64,
    /// What is more urgent goes first.
    pub priority: Priority,
    /// If it has not begun by then, it is not begun.
    pub deadline: Option<Deadline>,
}

impl Tag {
    /// Whether it is too late to begin.
    pub fn is_late(&self) -> bool {
        self.deadline.as_ref().is_some_and(Deadline::has_passed)
    }
}
