//! Threads that help whoever has the turn with one large piece of work.
//!
//! A caller opens its work, does it itself, and closes it; helpers that are there in time enter and
//! do it too. The work hands out its parts itself, as that of [`Crew::share_parts`] does: whoever
//! comes when none is left leaves at once. So the caller waits only for helpers that have entered,
//! never for one that is still to be woken: waking takes as long as a small step of a plan. For the
//! same reason helpers look for the next work for a while before they sleep.
//!
//! One word says how it stands:
//!
//! | bits | name | meaning |
//! |---|---|---|
//! | 0 | `HELD` | a caller has the crew |
//! | 1 | `OPEN` | its work may be entered |
//! | 2 | `ASLEEP` | there are helpers on the list of sleepers |
//! | 3 | `STOP` | helpers are to end |
//! | 4..24 | inside | helpers that have entered and not left |
//! | 24..64 | number | of the work, so that a helper enters each once |

use super::park::Parker;
use crate::core::panics::discard;
use crate::core::sync::Ordering::{Acquire, Relaxed, Release};
use crate::core::sync::{Arc, AtomicU64, Mutex, UnsafeCell, looks, thread};
use std::any::Any;
use std::fmt;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

const HELD: u64 = 1;
const OPEN: u64 = 1 << 1;
const ASLEEP: u64 = 1 << 2;
const STOP: u64 = 1 << 3;
const INSIDE: u64 = 1 << 4;
const NUMBER: u64 = 1 << 24;
/// As many as `inside` counts.
const MOST: usize = (1 << 20) - 1;

/// How often a helper looks for work before it sleeps: a few microseconds of spinning, then as
/// many rounds of giving way, together about what waking it would cost.
const SPINS: usize = looks(100, 0);
const YIELDS: usize = looks(300, 0);

/// How often a caller looks whether the last helpers have left before it sleeps: as long as a helper
/// looks for work. What is left of a piece of work is mostly shorter than waking the caller would be.
const LAST_SPINS: usize = looks(SPINS, 1);
const LAST_LOOKS: usize = LAST_SPINS + YIELDS;

fn inside(word: u64) -> u64 {
    word % NUMBER / INSIDE
}
fn number(word: u64) -> u64 {
    word / NUMBER
}

/// What a caller and its helpers do.
type Work<'a> = dyn Fn() + Sync + 'a;

/// Threads that wait for work.
pub struct Crew {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

struct Shared {
    word: AtomicU64,
    /// Written by the caller that holds the crew while nobody is inside; read from inside.
    work: WorkCell,
    sleepers: Mutex<Vec<usize>>,
    beds: Vec<Parker>,
    /// Whoever holds the crew.
    caller: Parker,
    /// What a helper panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// The work of whoever holds the crew.
struct WorkCell(UnsafeCell<Option<*const Work<'static>>>);

// SAFETY: it is written only by the holder, of whom there is one at a time, before it opens and
// after everybody has left; helpers read it between entering and leaving, and what it points to is
// `Sync` and lives until then.
unsafe impl Sync for WorkCell {}
// SAFETY: as above; the pointer is of no thread in particular.
unsafe impl Send for WorkCell {}

impl Crew {
    /// A crew of `helpers` helpers, or of as many as could be started.
    pub fn new(helpers: usize, name: impl Fn(usize) -> String) -> Self {
        let helpers = helpers.min(MOST);
        let shared = Arc::new(Shared {
            word: AtomicU64::new(0),
            work: WorkCell(UnsafeCell::new(None)),
            sleepers: Mutex::new(Vec::new()),
            beds: (0..helpers).map(|_| Parker::new()).collect(),
            caller: Parker::new(),
            panic: Mutex::new(None),
        });
        let start = |id: usize| {
            let shared = shared.clone();
            thread::spawn(name(id), move || shared.help(id)).ok()
        };
        let threads = (0..helpers).map_while(start).collect();
        Self { shared, threads }
    }

    /// How many helpers there are.
    pub fn len(&self) -> usize {
        self.threads.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// Whether a helper is looking for work, so that one may come without being woken.
    pub fn is_awake(&self) -> bool {
        self.shared.sleepers.lock().len() < self.len()
    }

    /// Does `run` with each of the parts, here and on helpers as [`Crew::share`] has it. Whoever is done
    /// with a part takes the next: under a lock, so that making one must be short and no foreign code.
    pub fn share_parts<P>(
        &self,
        helpers: usize,
        wake: bool,
        parts: impl Iterator<Item = P> + Send,
        run: impl Fn(P) + Sync,
    ) {
        let parts = Mutex::new(parts.fuse());
        let next = || parts.lock().next(); // lets go of the lock before the part is run
        self.share(helpers, wake, &|| iter::from_fn(next).for_each(&run));
    }

    /// Does `work` here and, at the same time, on up to so many helpers; alone if somebody else has
    /// the crew. Those who sleep are woken if `wake` says so; else only those come who are looking
    /// for work. When it returns, nobody does it any more. A panic of one of them is the caller's,
    /// after all have ended.
    pub fn share(&self, helpers: usize, wake: bool, work: &Work<'_>) {
        let shared = &*self.shared;
        if helpers == 0 || self.is_empty() || !shared.take() {
            return work();
        }
        shared.open(if wake { helpers } else { 0 }, work);
        let own = catch_unwind(AssertUnwindSafe(work));
        shared.close();
        let theirs = shared.panic.lock().take();
        shared.give_back();
        match (own.err(), theirs) {
            (Some(panic), unused) => {
                unused.into_iter().for_each(discard);
                resume_unwind(panic);
            }
            (None, Some(panic)) => resume_unwind(panic),
            (None, None) => {}
        }
    }
}

impl Shared {
    /// The crew, if nobody has it.
    fn take(&self) -> bool {
        // ORDERING: Acquire, with the Release of the last `open`, which `leave` and `give_back` have
        // passed on: what was done with the cell comes before.
        let taken = self
            .word
            .fetch_update(Acquire, Relaxed, |w| (w & HELD == 0).then_some(w | HELD));
        taken.is_ok()
    }

    fn give_back(&self) {
        // ORDERING: Relaxed; from `open` on the word was only modified, so whoever takes it next
        // comes after all of that.
        self.word.fetch_and(!HELD, Relaxed);
    }

    /// Lets helpers in, and wakes `wake` of them.
    fn open(&self, wake: usize, work: &Work<'_>) {
        // SAFETY: only the lifetime changes. `close` returns when nobody is inside any more, and
        // comes before the caller's borrow ends, whatever happens in between.
        let work: *const Work<'static> = unsafe { std::mem::transmute(work) };
        // SAFETY: we hold the crew and nobody is inside.
        self.work.0.with_mut(|cell| unsafe { *cell = Some(work) });
        // ORDERING: Release, with the Acquire of `enter`: the work is in the cell.
        let old = self
            .word
            .fetch_update(Release, Relaxed, |w| Some(w.wrapping_add(NUMBER) | OPEN));
        if wake > 0 && old.is_ok_and(|w| w & ASLEEP != 0) {
            self.wake(wake);
        }
    }

    fn wake(&self, most: usize) {
        let mut sleepers = self.sleepers.lock();
        let stay = sleepers.len().saturating_sub(most);
        let woken = sleepers.split_off(stay);
        if sleepers.is_empty() {
            // ORDERING: Relaxed; under the lock under which it is set.
            self.word.fetch_and(!ASLEEP, Relaxed);
        }
        drop(sleepers);
        woken.into_iter().for_each(|id| self.beds[id].unpark());
    }

    /// Lets nobody in any more, and waits until everybody has left.
    fn close(&self) {
        // ORDERING: Acquire, with the Release of `leave`: what helpers did is done, and seen.
        let mut word = self.word.fetch_and(!OPEN, Acquire);
        let mut looks = 0;
        while inside(word) != 0 {
            looks += 1;
            if looks <= LAST_SPINS {
                thread::spin_loop();
            } else if looks <= LAST_LOOKS {
                thread::yield_now();
            } else {
                self.caller.park();
            }
            // ORDERING: Acquire; the same. The parker alone would not do: it may have been woken
            // by who left the last work.
            word = self.word.load(Acquire);
        }
    }

    // ---- a helper ----------------------------------------------------------------------------

    /// A helper's life.
    fn help(&self, id: usize) {
        let (mut last, mut looks) = (0, 0);
        loop {
            // ORDERING: Relaxed; a request. What was written before does not matter.
            if self.word.load(Relaxed) & STOP != 0 {
                return;
            }
            match self.enter(last) {
                Some(number) => {
                    (last, looks) = (number, 0);
                    self.work();
                    self.leave();
                }
                None if looks < SPINS => {
                    looks += 1;
                    thread::spin_loop();
                }
                None if looks < SPINS + YIELDS => {
                    looks += 1;
                    thread::yield_now();
                }
                None => {
                    looks = 0;
                    self.sleep(id, last);
                }
            }
        }
    }

    /// Enters work that is open, unless it is the last one again.
    fn enter(&self, last: u64) -> Option<u64> {
        // ORDERING: Acquire, with the Release of `open`: the work is in the cell.
        let entered = self.word.fetch_update(Acquire, Relaxed, |w| {
            (w & OPEN != 0 && number(w) != last).then_some(w + INSIDE)
        });
        entered.ok().map(number)
    }

    fn work(&self) {
        let work = self.work.0.with(|cell| {
            // SAFETY: we are inside, so the cell is not written, and what it points to lives until
            // we have left.
            unsafe { (*cell).map(|work| &*work) }
        });
        if let Some(Err(panic)) = work.map(|work| catch_unwind(AssertUnwindSafe(work))) {
            let unused = self.panic.lock().replace(panic);
            unused.into_iter().for_each(discard);
        }
    }

    fn leave(&self) {
        // ORDERING: Release, with the Acquire of `close`: what we did comes before.
        let old = self.word.fetch_sub(INSIDE, Release);
        if old & OPEN == 0 && inside(old) == 1 {
            self.caller.unpark();
        }
    }

    /// Sleeps, unless there is something to do.
    fn sleep(&self, id: usize, last: u64) {
        let mut sleepers = self.sleepers.lock();
        // ORDERING: Relaxed; it is one word: `open` and `stop` come before and are seen, or come
        // after and see that somebody sleeps, or take the lock after us.
        let idle = self.word.fetch_update(Relaxed, Relaxed, |w| {
            let work = w & OPEN != 0 && number(w) != last;
            (w & STOP == 0 && !work).then_some(w | ASLEEP)
        });
        if idle.is_err() {
            return;
        }
        if !sleepers.contains(&id) {
            sleepers.push(id);
        }
        drop(sleepers);
        self.beds[id].park();
    }

    fn stop(&self) {
        // ORDERING: Relaxed; see `sleep`.
        self.word.fetch_or(STOP, Relaxed);
        self.wake(MOST);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // it has only to return; panics of the work were caught
        }
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew")
            .field("helpers", &self.len())
            .finish()
    }
}
