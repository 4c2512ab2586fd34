//! Shows that ThreadSanitizer is on: a value handed over with Release and Acquire passes in
//! silence, with Relaxed it is reported. Run with `ordered` or `relaxed`.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

struct Slot {
    ready: AtomicBool,
    value: UnsafeCell<u64>,
}

// SAFETY: not sound with `relaxed`, which is the point.
unsafe impl Sync for Slot {}

fn main() {
    let (publish, look) = match std::env::args().nth(1).as_deref() {
        Some("ordered") => (Ordering::Release, Ordering::Acquire),
        Some("relaxed") => (Ordering::Relaxed, Ordering::Relaxed),
        _ => panic!("usage: tsan-control ordered|relaxed"),
    };
    let mut sum = 0;
    for round in 0..1000 {
        let slot = Arc::new(Slot {
            ready: AtomicBool::new(false),
            value: UnsafeCell::new(0),
        });
        let writer = thread::spawn({
            let slot = slot.clone();
            move || {
                // SAFETY: nobody reads before `ready`.
                unsafe { *slot.value.get() = round };
                slot.ready.store(true, publish);
            }
        });
        while !slot.ready.load(look) {
            std::hint::spin_loop();
        }
        // SAFETY: the writer is done with it.
        sum += unsafe { *slot.value.get() };
        writer.join().expect("the writer does not panic");
    }
    println!("{sum}");
}
