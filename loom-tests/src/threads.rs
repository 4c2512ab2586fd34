//! Threads of a scenario, and races that several scenarios have with different submissions.

use crate::core::store::slot::Outcome;
use crate::core::sync::thread;
use crate::runner::saw;
use crate::toy::*;

/// Another thread of a scenario.
pub fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn("t".into(), f).expect("a thread")
}

/// Notes how a submission ended where an abort may have been faster.
pub fn saw_end(end: &End, value: u32) {
    match end {
        Outcome::Ready(found) if *found == value => saw("ran"),
        Outcome::Closed => saw("closed"),
        other => panic!("{other:?}"),
    }
}

/// Node 1 is submitted while the executor closes: refused, or accepted and run. Never lost.
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

/// Node 1 is submitted while the executor is aborted: run, closed or refused. Never lost.
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
