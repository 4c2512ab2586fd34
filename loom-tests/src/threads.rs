//! Threads of a scenario, and what several scenarios do with them and note of them.

use crate::core::store::slot::Outcome;
use crate::core::sync::thread::{self, JoinHandle};
use crate::runner::saw;
use crate::toy::*;
use std::sync::atomic::{AtomicUsize as StdAtomic, Ordering::SeqCst};
use std::sync::{Arc as StdArc, Mutex as StdMutex};

/// Starts another thread of a scenario.
pub fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn("t".into(), f).expect("a thread")
}

/// Starts a thread that runs operations within operations: loom's stacks of 32 KiB are too small for the frames
/// that an unoptimised build makes of them.
pub fn spawn_deep<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    #[cfg(candlewick_loom)]
    {
        const WORDS: usize = 16 << 10;
        let builder = loom::thread::Builder::new().stack_size(WORDS);
        builder.spawn(f).expect("a thread")
    }
    #[cfg(not(candlewick_loom))]
    spawn(f)
}

/// Starts a thread that submits these nodes, for the owner to run.
pub fn post_beside(ex: &Ex, tensors: &[&Tensor]) -> JoinHandle<Sub> {
    let ex = ex.clone();
    let tensors: Vec<Tensor> = tensors.iter().copied().cloned().collect();
    spawn(move || post(&ex, &tensors.iter().collect::<Vec<_>>()))
}

/// A thread that a launch starts between its claims and its message.
pub struct Beside(StdArc<StdMutex<Option<JoinHandle<()>>>>);

impl Beside {
    /// The same request, whose launch starts a thread that runs `f`.
    pub fn start(ask: Ask, f: impl FnOnce() + Send + 'static) -> (Ask, Self) {
        let thread = StdArc::new(StdMutex::new(None));
        let place = thread.clone();
        let start = move |_: &mut Work| *place.lock().unwrap() = Some(spawn(f));
        (ask.before_send(start), Self(thread))
    }

    /// Waits for the thread, which the launch has started.
    pub fn join(&self) {
        let thread = self.0.lock().unwrap().take();
        thread.expect("started").join().unwrap();
    }
}

/// Notes how a submission ended where an abort may have been faster.
pub fn saw_end(end: &End, value: u32) {
    match end {
        Outcome::Ready(found) if *found == value => saw("ran"),
        Outcome::Closed => saw("closed"),
        other => panic!("{other:?}"),
    }
}

/// Notes how node 1 ended, which was submitted while the owner was lost: with its value, or with the
/// loss.
pub fn saw_loss(submission: Option<&Sub>, wait: fn(&Sub) -> End) {
    saw(match submission.map(wait) {
        Some(Outcome::Ready(2)) => "before",
        Some(Outcome::Failed(ToyError::OwnerLost)) => "lost",
        None => "refused",
        Some(other) => panic!("{other:?}"),
    });
}

/// Notes whether a submission that may lose an output to another one has won both of its own, or one.
pub fn saw_winner(submission: &Sub) {
    let [one, other] = submission.outputs() else {
        panic!("two were asked for")
    };
    saw(match one.number() == other.number() {
        true => "one has both",
        false => "each has one",
    });
}

/// Notes whether fragments ran as one.
pub fn saw_batches(batches: &StdAtomic) {
    saw(match batches.load(SeqCst) {
        0 => "apart",
        _ => "together",
    });
}

/// Notes whether this work ran on the caller's thread, and checks that foreign work ran on the owner's,
/// or on that of its submitter if that one is named here.
pub fn check_drivers(drivers: &Drivers, work: u32, submitter: Option<&str>) {
    for &(what, driver) in drivers.lock().unwrap().iter() {
        let may = what != FOREIGN || driver == "owner" || Some(driver) == submitter;
        assert!(may, "{driver} ran another's foreign work");
        if what == work {
            saw(match driver {
                "the caller" => "here",
                _ => "there",
            });
        }
    }
}

/// Submits node 1 while the executor closes: it is refused, or it is accepted and run. It is never lost.
pub fn races_close(engine: ToyEngine, submit: fn(&Ex) -> Option<Sub>, wait: fn(&Sub) -> End) {
    let ex = start(1, engine);
    let e = ex.clone();
    let t = spawn(move || match submit(&e) {
        Some(s) => {
            assert_eq!(wait(&s), Outcome::Ready(2));
            saw("ran");
        }
        None => saw("refused"),
    });
    shutdown(&ex);
    t.join().unwrap();
    nothing_left(&ex, [1]);
}

/// Submits node 1 while the executor is aborted: it is run, closed or refused. It is never lost.
pub fn races_abort(engine: ToyEngine, submit: fn(&Ex) -> Option<Sub>, wait: fn(&Sub) -> End) {
    let ex = start(1, engine);
    let e = ex.clone();
    let t = spawn(move || match submit(&e) {
        Some(s) => saw_end(&wait(&s), 2),
        None => saw("refused"),
    });
    ex.abort();
    joined(&ex);
    t.join().unwrap();
    nothing_left(&ex, [1]);
}
