//! The most memory that a case takes at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);
static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which counts while it is asked to.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller keeps to what the trait asks for.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // ORDERING: Relaxed, here and below; statistics.
        if COUNTING.load(Ordering::Relaxed) {
            let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
            MOST.fetch_max(now, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller keeps to what the trait asks for.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if COUNTING.load(Ordering::Relaxed) {
            NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Bytes at most during some calls of `f`, beyond those that were there before. What `f` frees of
/// that does not count.
pub(crate) fn peak(f: &dyn Fn()) -> usize {
    const BEFORE: usize = 1 << 40;
    NOW.store(BEFORE, Ordering::Relaxed);
    MOST.store(BEFORE, Ordering::Relaxed);
    COUNTING.store(true, Ordering::Relaxed);
    (0..3).for_each(|_| f());
    COUNTING.store(false, Ordering::Relaxed);
    MOST.load(Ordering::Relaxed) - BEFORE
}
