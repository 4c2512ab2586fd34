//! Code of the user's as the core meets it: hooks, destructors and wakers.

use std::panic::resume_unwind;
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize as StdAtomic, Ordering::SeqCst};
use std::task::{RawWaker, RawWakerVTable, Wake, Waker};

/// Code that runs whenever the work is issued, and is dropped with it.
#[derive(Default)]
pub struct Hook(pub(super) Option<Box<dyn FnMut() + Send>>);

impl Hook {
    /// A hook that runs this.
    pub fn new(f: impl FnMut() + Send + 'static) -> Self {
        Self(Some(Box::new(f)))
    }

    /// A hook that does nothing, and with which this is dropped.
    pub fn holding(guard: impl Send + 'static) -> Self {
        Self::new(move || {
            let _with_it = &guard;
        })
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hook").field(&self.0.is_some()).finish()
    }
}

/// A guard that counts how many of its kind exist. It is outside of the model and orders nothing.
#[derive(Debug, Default)]
pub struct Alive(Option<StdArc<StdAtomic>>);

impl Alive {
    /// A guard and its counter.
    pub fn counted() -> (Self, StdArc<StdAtomic>) {
        let count = StdArc::new(StdAtomic::new(1));
        (Self(Some(count.clone())), count)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_sub(1, SeqCst);
        }
    }
}

/// Something whose destructor panics. The panic's payload is another bomb, with one less to come, and
/// a text once none is to come.
#[derive(Debug)]
pub struct Bomb(pub u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        match self.0 {
            0 => resume_unwind(Box::new("a destructor")),
            more => resume_unwind(Box::new(Self(more - 1))),
        }
    }
}

/// Something that runs its closure when it is dropped.
pub struct OnDrop<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A waker that runs its closure.
pub struct OnWake<F: Fn()>(F);

impl<F: Fn() + Send + Sync + 'static> OnWake<F> {
    /// The waker of this closure.
    pub fn waker(f: F) -> Waker {
        Waker::from(StdArc::new(Self(f)))
    }
}

impl<F: Fn() + Send + Sync> Wake for OnWake<F> {
    fn wake(self: StdArc<Self>) {
        (self.0)();
    }
}

/// A waker that runs its closure when it is woken and when it is dropped, and so does each of its clones.
pub fn prying<F: Fn() + Clone + Send + Sync + 'static>(look: F) -> Waker {
    // SAFETY: the functions of the table take what `pry` makes, which may go to any thread.
    unsafe { Waker::from_raw(pry(look)) }
}

fn pry<F: Fn() + Clone + Send + Sync + 'static>(look: F) -> RawWaker {
    // SAFETY: called for what `pry` has made.
    unsafe fn again<F: Fn() + Clone + Send + Sync + 'static>(look: *const ()) -> RawWaker {
        // SAFETY: made by `pry`.
        pry(unsafe { (*look.cast::<F>()).clone() })
    }
    // SAFETY: called for what `pry` has made, which the caller gives up.
    unsafe fn woken<F: Fn()>(look: *const ()) {
        // SAFETY: as above.
        unsafe {
            by_reference::<F>(look);
            dropped::<F>(look);
        }
    }
    // SAFETY: called for what `pry` has made.
    unsafe fn by_reference<F: Fn()>(look: *const ()) {
        // SAFETY: as above.
        unsafe { (*look.cast::<F>())() }
    }
    // SAFETY: called for what `pry` has made, which the caller gives up.
    unsafe fn dropped<F: Fn()>(look: *const ()) {
        // SAFETY: as above.
        let look = unsafe { Box::from_raw(look.cast_mut().cast::<F>()) };
        look();
    }
    let table = &RawWakerVTable::new(again::<F>, woken::<F>, by_reference::<F>, dropped::<F>);
    RawWaker::new(Box::into_raw(Box::new(look)).cast(), table)
}

/// Counts how often its wakers wake. It is outside of the model and orders nothing.
#[derive(Debug, Default)]
pub struct Count(StdAtomic);

impl Count {
    /// A counter, and a waker that counts on it.
    pub fn counting() -> (StdArc<Self>, Waker) {
        let count = StdArc::new(Self::default());
        (count.clone(), Waker::from(count))
    }

    /// How often a waker of it has woken.
    pub fn woken(&self) -> usize {
        self.0.load(SeqCst)
    }

    /// Whether a waker of it exists beside this reference.
    pub fn has_wakers(self: &StdArc<Self>) -> bool {
        StdArc::strong_count(self) > 1
    }
}

impl Wake for Count {
    fn wake(self: StdArc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}
