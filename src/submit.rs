//! How work is submitted: for whom, how urgent, and until when.

use crate::core::store::tag::{Priority, Tag};
use crate::core::sync::{Deadline, now};
use crate::error::{Error, Result};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How a graph is submitted: see [`Executor::submit_with`](crate::Executor::submit_with).
///
/// ```
/// use candlewick::{Device, Error, Executor, LazyTensor, Priority, Session, Submit};
/// use std::time::{Duration, Instant};
/// let executor = Executor::new(&Device::Cpu)?;
/// let x = LazyTensor::new(&[1f32, 2.0], &Device::Cpu)?;
///
/// let client = Session::new(); // one for each client, whichever threads work for it
/// let soon = Submit::within(Duration::from_secs(30)).priority(Priority::Interactive);
/// let y = executor.run_with(&x.exp()?, soon.session(&client))?;
/// assert_eq!(y.dims(), [2]);
///
/// let late = Submit::deadline(Instant::now());
/// let error = executor.run_with(&x.sqr()?, late).unwrap_err();
/// assert!(matches!(error, Error::DeadlineExceeded));
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "it submits nothing by itself"]
pub struct Submit {
    deadline: Option<Instant>,
    priority: Priority,
    /// Who takes the turn, if not the thread that submits.
    producer: Option<u64>,
}

impl Submit {
    /// As [`Executor::submit`](crate::Executor::submit) does it: no deadline, normal priority, in
    /// the turn of the thread.
    pub fn new() -> Self {
        Self::default()
    }

    /// Work that has not begun by this moment is not done: its handles, or the call of
    /// [`Executor::run_with`](crate::Executor::run_with), get [`Error::DeadlineExceeded`]. For work that is
    /// queued this is found when its turn comes, not at the moment itself; a thread that waits for room in
    /// the queue waits no longer than until the moment.
    ///
    /// It is the deadline of the work as long as nobody else asks for the result: another
    /// submission of the same tensor, or a graph that uses it, holds it off for as long as it wants the
    /// result.
    pub fn deadline(moment: Instant) -> Self {
        Self {
            deadline: Some(moment),
            ..Self::default()
        }
    }

    /// A deadline `time` from now; none if that is later than an `Instant` can be.
    pub fn within(time: Duration) -> Self {
        Self {
            deadline: now().checked_add(time),
            ..Self::default()
        }
    }

    /// The priority of the work, [`Priority::Normal`] by default.
    pub fn priority(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    /// Takes the turns of `session` instead of those of the thread that submits.
    pub fn session(self, session: &Session) -> Self {
        Self {
            producer: Some(session.0),
            ..self
        }
    }

    /// The deadline, if it has not passed.
    pub(crate) fn checked_deadline(&self) -> Result<Option<Deadline>> {
        let deadline = self.deadline.map(Deadline::at);
        match deadline {
            Some(deadline) if deadline.has_passed() => Err(Error::DeadlineExceeded),
            deadline => Ok(deadline),
        }
    }

    /// In the turn of this thread, if it is in no session's: for a future that is polled elsewhere.
    pub(crate) fn by_this_thread(self) -> Self {
        let producer = Some(self.producer.unwrap_or_else(this_thread));
        Self { producer, ..self }
    }

    pub(crate) fn tag(&self) -> Tag {
        Tag {
            producer: self.producer.unwrap_or_else(this_thread),
            priority: self.priority,
            deadline: self.deadline.map(Deadline::at),
        }
    }
}

/// One who takes turns with others: a client, a user, a job.
///
/// Producers of one executor take turns, so that one who submits ten thousand graphs holds up
/// another's single one by no more than what is running and one batch more. Without a session, a
/// producer is a thread: the one that submits, whichever clone of the executor it uses. With one it is
/// whatever is submitted with it or its clones, from any thread or task and to any executor.
///
/// ```
/// use candlewick::{Session, Submit};
/// let client = Session::new();
/// let how = Submit::new().session(&client);
/// # drop(how);
/// ```
#[derive(Clone, Debug)]
pub struct Session(u64);

impl Session {
    /// A new one.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        // ORDERING: Relaxed; a count. After 2^32 of them two share their turns.
        Self(u64::from(NEXT.fetch_add(1, Ordering::Relaxed)) << 32)
    }
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

/// Without a session, threads take turns.
fn this_thread() -> u64 {
    thread_local! {
        static NUMBER: Cell<u32> = const { Cell::new(0) };
    }
    static THREADS: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.get();
    if number != 0 {
        return number.into();
    }
    // ORDERING: Relaxed; a count. After 2^32 threads two share their turns.
    let number = THREADS.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    NUMBER.set(number.max(1));
    number.max(1).into()
}
