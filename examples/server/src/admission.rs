//! How much is taken on at once: what waits too long had better be refused at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much of a new measurement the mean takes over.
const WEIGHT: f64 = 0.1;

/// So many tokens may be under way. The time that a request takes grows with their number, so this
/// bounds it; the number of requests or texts would not.
pub struct Admission {
    free: Arc<Semaphore>,
    most: u32,
    /// The mean of the seconds that a request took for each token that was under way when it ended
    /// up there, its own included.
    pace: Arc<Mutex<Option<f64>>>,
}

/// A request that was let in.
pub struct Admitted {
    ahead: u32,
    since: Instant,
    pace: Arc<Mutex<Option<f64>>>,
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    /// No more than so many tokens.
    pub fn new(tokens: usize) -> Self {
        let most = tokens.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize)) as u32;
        Self {
            free: Arc::new(Semaphore::new(most as usize)),
            most,
            pace: Arc::default(),
        }
    }

    /// The tokens under way.
    pub fn under_way(&self) -> u32 {
        self.most - self.free.available_permits() as u32
    }

    /// Another handle to the same tokens, for whoever only watches.
    pub fn watch(&self) -> impl Fn() -> u32 + Send + Sync + 'static {
        let (free, most) = (self.free.clone(), self.most);
        move || most - free.available_permits() as u32
    }

    /// Whether there is no room for anything: known before the texts of a request are looked at.
    pub fn is_full(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Lets a request of so many tokens in, if there is room for it now. One that is larger than
    /// all the room there is has it to itself.
    pub fn admit(&self, tokens: usize) -> Option<Admitted> {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let permit = self
            .free
            .clone()
            .try_acquire_many_owned(tokens.min(self.most));
        Some(Admitted {
            _permit: permit.ok()?,
            ahead: self.under_way(),
            since: Instant::now(),
            pace: self.pace.clone(),
        })
    }

    /// When to come again: when what is under way will have ended, going by those that did.
    pub fn retry_after(&self) -> Duration {
        let pace = *self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = pace.unwrap_or(0.0) * f64::from(self.under_way());
        Duration::from_secs(seconds.ceil().clamp(1.0, 60.0) as u64)
    }
}

impl Admitted {
    /// It was answered.
    pub fn done(self) {
        let pace = self.since.elapsed().as_secs_f64() / f64::from(self.ahead.max(1));
        let mut mean = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        *mean = Some(mean.map_or(pace, |mean| mean + WEIGHT * (pace - mean)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_tokens() {
        let admission = Admission::new(10);
        let first = admission.admit(6).unwrap();
        assert!(admission.admit(5).is_none());
        let second = admission.admit(4).unwrap();
        assert!(admission.is_full());
        drop(first);
        assert_eq!(admission.under_way(), 4);
        assert!(admission.admit(100).is_none(), "not alone");
        second.done();
        assert!(admission.admit(100).is_some(), "alone");
        assert_eq!(admission.under_way(), 0);
    }

    #[test]
    fn it_says_when_to_come_again() {
        let admission = Admission::new(1000);
        assert_eq!(admission.retry_after(), Duration::from_secs(1));
        let mut long_ago = admission.admit(100).unwrap();
        long_ago.since = Instant::now() - Duration::from_secs(1);
        long_ago.done();
        let _under_way = admission.admit(1000).unwrap();
        // 100 tokens took a second
        let after = admission.retry_after().as_secs();
        assert!((10..=12).contains(&after), "{after} s");
    }
}
