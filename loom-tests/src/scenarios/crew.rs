//! Helpers: who enters, who comes too late, and who is waited for.

use crate::core::actor::crew::Crew;
use crate::core::panics::{catch, discard};
use crate::core::sync::{Arc, UnsafeCell, thread};
use crate::runner::saw;
use crate::threads::spawn;
use crate::toy::Bomb;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

/// Parts that are handed out: each is done once, by whoever takes it.
struct Parts {
    /// The number of the next part. It is outside of the model and orders nothing.
    next: AtomicUsize,
    done: Vec<Part>,
    workers: AtomicUsize,
    /// Whether the other thread is let in between two parts.
    slow: bool,
}

/// How often a part was done.
struct Part(UnsafeCell<u32>);

// SAFETY: a part is written by the one who took it; loom checks that it is read after.
unsafe impl Sync for Part {}

impl Parts {
    fn new(count: usize, slow: bool) -> Self {
        Self {
            next: AtomicUsize::new(0),
            done: (0..count).map(|_| Part(UnsafeCell::new(0))).collect(),
            workers: AtomicUsize::new(0),
            slow,
        }
    }

    /// Does parts until none is left.
    fn work(&self) {
        let mut any = false;
        while let Some(part) = self.done.get(self.next.fetch_add(1, SeqCst)) {
            any = true;
            // SAFETY: the number was taken once.
            part.0.with_mut(|part| unsafe { *part += 1 });
            if self.slow {
                thread::yield_now();
            }
        }
        self.workers.fetch_add(usize::from(any), SeqCst);
    }

    /// Checks that every part was done once.
    fn all_done(&self) {
        for part in &self.done {
            // SAFETY: nobody writes any more; loom checks it.
            part.0
                .with(|part| assert_eq!(unsafe { *part }, 1, "a part was not done once"));
        }
    }

    /// Checks that every part was done once, and notes whether one thread did all of them.
    fn check(&self) {
        self.all_done();
        saw(match self.workers.load(SeqCst) {
            0 | 1 => "one did all",
            _ => "shared",
        });
    }
}

fn crew() -> Crew {
    Crew::new(1, |_| "helper".into())
}

/// One work after another, with a helper that comes in time or not: every part is done once, and
/// seen. Then the crew ends.
pub fn share_twice() {
    let crew = crew();
    let over = AtomicUsize::new(0); // outside of the model
    let both = [(0, Parts::new(2, false)), (1, Parts::new(2, true))];
    let works = both.each_ref().map(|(before, parts)| {
        let over = &over;
        move || {
            assert_eq!(over.load(SeqCst), *before, "done after its end");
            parts.work();
        }
    });
    for (work, (_, parts)) in works.iter().zip(&both) {
        crew.share(1, true, work);
        over.fetch_add(1, SeqCst);
        parts.check();
    }
}

/// Helpers that sleep are left alone, and those that are still looking may come: every part is done once,
/// and the next who wakes them finds them.
pub fn share_without_waking() {
    let crew = crew();
    for wake in [false, true] {
        let parts = Parts::new(2, wake);
        let awake = crew.is_awake();
        crew.share(1, wake, &|| parts.work());
        parts.check();
        saw(match (awake, wake) {
            (true, false) => "looking",
            (false, false) => "asleep",
            _ => "woken",
        });
    }
}

/// Parts from a list: each is done once, by whoever takes it, and seen by the caller.
pub fn share_parts() {
    let crew = crew();
    let parts = Parts::new(2, false);
    let running = AtomicUsize::new(0); // outside of the model, as in `Parts`
    crew.share_parts(1, true, parts.done.iter(), |part| {
        if running.fetch_add(1, SeqCst) > 0 {
            saw("side by side");
        }
        // SAFETY: it is taken from the list once.
        part.0.with_mut(|part| unsafe { *part += 1 });
        thread::yield_now();
        running.fetch_sub(1, SeqCst);
    });
    parts.all_done();
}

/// Two threads share work with one crew: one of them has the crew and the other does its work alone, or
/// one has it after the other.
pub fn two_callers() {
    let crew = Arc::new(crew());
    let c = crew.clone();
    let other = spawn(move || {
        let parts = Parts::new(1, false);
        c.share(1, true, &|| parts.work());
        parts.check();
    });
    let parts = Parts::new(1, false);
    crew.share(1, true, &|| parts.work());
    parts.check();
    other.join().unwrap();
}

/// A panic of the helper or of the caller is the caller's, and the crew is there for the next.
pub fn shared_work_panics() {
    let crew = crew();
    let parts = Parts::new(2, false);
    let work = || {
        // whoever does the second part panics
        for part in
            std::iter::from_fn(|| Some(parts.next.fetch_add(1, SeqCst))).take_while(|&n| n < 2)
        {
            if part == 1 {
                resume_unwind(Box::new("boom"));
            }
            thread::yield_now();
        }
    };
    let shared = catch_unwind(AssertUnwindSafe(|| crew.share(1, true, &work)));
    assert!(shared.is_err(), "a panic was lost");
    let parts = Parts::new(1, false);
    crew.share(1, true, &|| parts.work());
    parts.check();
}

/// The caller and the helper both panic, with something whose destructor panics: one of the two is the
/// caller's, and the other is gone.
pub fn both_panic() {
    let crew = crew();
    let panics = AtomicUsize::new(0); // outside of the model
    let work = || {
        panics.fetch_add(1, SeqCst);
        thread::yield_now();
        resume_unwind(Box::new(Bomb(0)));
    };
    let shared = catch(|| crew.share(1, true, &work));
    discard(shared.expect_err("a panic was lost"));
    saw(match panics.load(SeqCst) {
        1 => "the caller",
        _ => "both",
    });
    let parts = Parts::new(1, false);
    crew.share(1, true, &|| parts.work());
    parts.check();
}
