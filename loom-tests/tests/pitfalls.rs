//! What loom 0.7.3 sees and does not see. Each test states today's behaviour, so that a new
//! version which changes it is noticed, and what rests on it is looked at again: the shadow word
//! of `sync::model::atomic`, and the bounds stated in `docs/concurrency.md`.
//!
//! Not here, because a false deadlock aborts the process: `Mutex::try_lock` (tokio-rs/loom#376),
//! and `park` beside a condition variable (tokio-rs/loom#422). The core uses neither.
#![cfg(candlewick_loom)]

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering::*, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc as StdArc, Mutex as StdMutex};

/// All outcomes that `f` came to, and in how many executions.
fn outcomes<T>(f: impl Fn() -> T + Send + Sync + 'static) -> (usize, BTreeSet<T>)
where
    T: Ord + Send + Clone + 'static,
{
    let seen = StdArc::new(StdMutex::new((0, BTreeSet::new())));
    let all = seen.clone();
    loom::model(move || {
        let outcome = f();
        let mut seen = seen.lock().unwrap();
        seen.0 += 1;
        seen.1.insert(outcome);
    });
    let all = all.lock().unwrap();
    all.clone()
}

fn set<T: Ord>(outcomes: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    outcomes.into_iter().collect()
}

/// What loom objects to in `f`, if anything.
fn objection(f: impl Fn() + Send + Sync + 'static) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| loom::model(f))).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(
        text.or(panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_default(),
    )
}

/// One thread reads; the other one runs `write`.
fn reader_and(
    write: impl Fn(&AtomicUsize) + Send + Sync + Clone + 'static,
) -> (usize, BTreeSet<usize>) {
    outcomes(move || {
        let a = Arc::new(AtomicUsize::new(0));
        let (b, write) = (a.clone(), write.clone());
        let t = thread::spawn(move || write(&b));
        let seen = a.load(Acquire);
        t.join().unwrap();
        seen
    })
}

/// A thread's own load hides other threads' loads from its later store (tokio-rs/loom#392, #166).
#[test]
fn a_load_hides_other_loads_from_the_store_behind_it() {
    let (_, store) = reader_and(|a| a.store(1, Relaxed));
    assert_eq!(store, set([0, 1]));
    let (runs, load_store) = reader_and(|a| {
        a.load(Relaxed);
        a.store(1, Relaxed);
    });
    assert_eq!(
        (runs, load_store),
        (1, set([0])),
        "loom has learnt this: drop the shadow word"
    );
    let (_, exchange) = reader_and(|a| assert!(a.compare_exchange(0, 1, AcqRel, Relaxed).is_ok()));
    assert_eq!(exchange, set([0, 1]));
    let (runs, update) =
        reader_and(|a| assert!(a.fetch_update(AcqRel, Relaxed, |v| Some(v + 1)).is_ok()));
    assert_eq!(
        (runs, update),
        (1, set([0])),
        "loom has learnt this: drop the shadow word"
    );
}

/// The facade's atomics find what loom's own miss.
#[test]
fn the_shadow_word_brings_the_orders_back() {
    use candlewick_loom_tests::core::sync::AtomicUsize;
    let with = |write: fn(&AtomicUsize)| {
        let (_, seen) = outcomes(move || {
            let a = Arc::new(AtomicUsize::new(0));
            let b = a.clone();
            let t = thread::spawn(move || write(&b));
            let seen = a.load(Acquire);
            t.join().unwrap();
            seen
        });
        seen
    };
    let load_store = with(|a| {
        a.load(Relaxed);
        a.store(1, Relaxed);
    });
    assert_eq!(load_store, set([0, 1]));
    let update = with(|a| assert!(a.fetch_update(AcqRel, Relaxed, |v| Some(v + 1)).is_ok()));
    assert_eq!(update, set([0, 1]));
}

/// The facade's atomics synchronise nothing that was not synchronised.
#[test]
fn the_shadow_word_orders_nothing() {
    use candlewick_loom_tests::core::sync::AtomicUsize;
    let publish = |order| {
        objection(move || {
            struct Cell(UnsafeCell<u32>, AtomicUsize);
            // SAFETY: loom checks the accesses, which is what is tested.
            unsafe impl Sync for Cell {}
            // SAFETY: a number.
            unsafe impl Send for Cell {}
            let a = Arc::new(Cell(UnsafeCell::new(0), AtomicUsize::new(0)));
            let b = a.clone();
            let t = thread::spawn(move || {
                // SAFETY: before the flag is set nobody else looks.
                b.0.with_mut(|p| unsafe { *p = 1 });
                b.1.store(1, order);
            });
            if a.1.load(Acquire) == 1 {
                // SAFETY: as above.
                a.0.with(|p| assert_eq!(unsafe { *p }, 1));
            }
            t.join().unwrap();
        })
    };
    assert_eq!(publish(Release), None);
    let why = publish(Relaxed).expect("a race");
    assert!(why.contains("Causality violation"), "{why}");
}

/// SeqCst accesses count as AcqRel, which gives false alarms; SeqCst fences are right, and so is
/// a read-modify-write in the place of the load.
#[test]
fn seq_cst_needs_a_fence() {
    let dekker = |fences: bool, modify: bool| {
        let (_, seen) = outcomes(move || {
            let a = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
            let b = a.clone();
            let side = move |mine: &AtomicUsize, other: &AtomicUsize| {
                mine.store(1, SeqCst);
                if fences {
                    fence(SeqCst);
                }
                if modify {
                    other.fetch_add(0, SeqCst)
                } else {
                    other.load(SeqCst)
                }
            };
            let t = thread::spawn(move || side(&b.0, &b.1));
            let mine = side(&a.1, &a.0);
            (mine, t.join().unwrap())
        });
        seen
    };
    let right = set([(0, 1), (1, 0), (1, 1)]);
    assert_eq!(dekker(true, false), right);
    assert_eq!(dekker(false, true), right);
    let false_alarm = set([(0, 0), (0, 1), (1, 0), (1, 1)]);
    assert_eq!(
        dekker(false, false),
        false_alarm,
        "loom has learnt SeqCst accesses"
    );
}

/// Load buffering, `(1, 1)` here, is allowed by C11 and not explored.
#[test]
fn load_buffering_is_not_explored() {
    let (_, seen) = outcomes(|| {
        let a = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let b = a.clone();
        let t = thread::spawn(move || {
            let x = b.0.load(Relaxed);
            b.1.store(1, Relaxed);
            x
        });
        let y = a.1.load(Relaxed);
        a.0.store(1, Relaxed);
        (t.join().unwrap(), y)
    });
    assert!(
        !seen.contains(&(1, 1)),
        "loom has learnt load buffering: {seen:?}"
    );
}

/// Condition variables have no spurious wake-ups: an `if` in the place of a `while` passes.
#[test]
fn condition_variables_do_not_wake_for_no_reason() {
    let objection = objection(|| {
        let a = Arc::new((Mutex::new(false), Condvar::new()));
        let b = a.clone();
        let t = thread::spawn(move || {
            *b.0.lock().unwrap() = true;
            b.1.notify_one();
        });
        let mut woken = a.0.lock().unwrap();
        if !*woken {
            woken = a.1.wait(woken).unwrap();
        }
        assert!(*woken);
        drop(woken);
        t.join().unwrap();
    });
    assert_eq!(objection, None, "loom has learnt spurious wake-ups");
}

/// `compare_exchange_weak` never fails for no reason.
#[test]
fn a_weak_exchange_does_not_fail_for_no_reason() {
    let exchange = || {
        AtomicUsize::new(0)
            .compare_exchange_weak(0, 1, AcqRel, Relaxed)
            .is_ok()
    };
    assert_eq!(outcomes(exchange), (1, set([true])));
}

/// A mutex orders all that was before it: a missing Release goes unseen beside one. It is why the
/// stand-ins of the channel and the swap are not made of mutexes.
#[test]
fn a_mutex_hides_a_missing_release() {
    struct Shared {
        data: UnsafeCell<u32>,
        flag: AtomicUsize,
        queue: Mutex<()>,
    }
    // SAFETY: loom checks the accesses, which is what is tested.
    unsafe impl Sync for Shared {}
    // SAFETY: a number.
    unsafe impl Send for Shared {}
    let publish = |mutex: bool| {
        objection(move || {
            let shared = Shared {
                data: UnsafeCell::new(0),
                flag: AtomicUsize::new(0),
                queue: Mutex::new(()),
            };
            let a = Arc::new(shared);
            let b = a.clone();
            let touch = move |shared: &Shared| {
                if mutex {
                    drop(shared.queue.lock());
                }
            };
            let t = thread::spawn(move || {
                // SAFETY: before the flag is set nobody else looks.
                b.data.with_mut(|p| unsafe { *p = 1 });
                touch(&b);
                b.flag.store(1, Relaxed); // the mistake
                touch(&b);
            });
            touch(&a);
            if a.flag.load(Acquire) == 1 {
                touch(&a);
                // SAFETY: as above.
                a.data.with(|p| assert_eq!(unsafe { *p }, 1));
            }
            t.join().unwrap();
        })
    };
    let why = publish(false).expect("a race");
    assert!(why.contains("Causality violation"), "{why}");
    assert_eq!(
        publish(true),
        None,
        "loom has learnt to see through a mutex"
    );
}

/// Memory in which something is dropped while another thread may still use it. The memory itself stays.
struct Dropped<T>(std::cell::UnsafeCell<std::mem::ManuallyDrop<T>>);

// SAFETY: what is used after its end is what the tests are about; it is all of loom's, and stays in memory.
unsafe impl<T: Sync> Sync for Dropped<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Dropped<T> {}

/// What loom objects to if one thread uses a thing that another one drops meanwhile.
fn use_vs_drop<T: Send + Sync + 'static>(make: fn() -> T, uses: fn(&T)) -> Option<String> {
    objection(move || {
        let kept = std::mem::ManuallyDrop::new(make());
        let kept = Arc::new(Dropped(std::cell::UnsafeCell::new(kept)));
        let k = kept.clone();
        // SAFETY: see `Dropped`.
        let t = thread::spawn(move || uses(unsafe { &*k.0.get() }));
        // SAFETY: it is dropped once.
        unsafe { std::mem::ManuallyDrop::drop(&mut *kept.0.get()) };
        t.join().unwrap();
    })
}

/// Freeing an atomic is no access to loom's own, and one to the facade's.
#[test]
fn a_freed_atomic_is_in_use() {
    use candlewick_loom_tests::core::sync::AtomicUsize as Facade;
    let own = use_vs_drop(|| AtomicUsize::new(0), |a| _ = a.fetch_add(1, Relaxed));
    assert_eq!(own, None);
    let facade = use_vs_drop(|| Facade::new(0), |a| _ = a.fetch_add(1, Relaxed));
    assert!(facade.is_some_and(|said| said.contains("Causality violation")));
}

/// A race in contained code is no panic of that code.
#[test]
fn a_race_is_not_contained() {
    use candlewick_loom_tests::core::panics::contain;
    let said = objection(|| {
        let cell = Arc::new(UnsafeCell::new(0));
        let c = cell.clone();
        let write = |cell: &UnsafeCell<i32>| cell.with_mut(|_| ());
        let t = thread::spawn(move || contain(|| write(&c)));
        contain(|| write(&cell));
        t.join().unwrap();
    });
    assert!(said.is_some_and(|said| said.contains("Causality violation")));
}
