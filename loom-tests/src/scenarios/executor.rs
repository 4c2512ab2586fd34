//! The executor over the toy engine: admission, claim, queue, run, close.

use crate::core::actor::admission::Refused;
use crate::core::actor::launch::Start;
use crate::core::actor::park::block_on;
use crate::core::store::node_store::NodeStore;
use crate::core::store::slot::{Cancel, Lean, Outcome};
use crate::core::store::tag::Tag;
use crate::core::sync::thread;
use crate::runner::saw;
use crate::threads::{races_abort, races_close, saw_end, spawn};
use crate::toy::*;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Waker};

/// Submit, await, close, join.
pub fn submit_await_close() {
    let ex = start(1, ToyEngine::gpu());
    let s = submit(&ex, 1, 2, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(2));
    drop(s);
    shutdown(&ex);
    nothing_left(&ex, [1]);
}

/// Submitting races with closing: refused, or accepted and run. Never lost.
pub fn submit_vs_close() {
    races_close(ToyEngine::gpu(), |ex| submit(ex, 1, 2, &[]), wait_async);
}

/// Submitting races with aborting: run, closed or refused. Never lost.
pub fn submit_vs_abort() {
    races_abort(ToyEngine::gpu(), |ex| submit(ex, 1, 2, &[]), wait_async);
}

/// One place, two submitters: both get through.
pub fn back_pressure() {
    let ex = start(1, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, 2, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(2));
    });
    let s = submit(&ex, 2, 3, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(3));
    t.join().unwrap();
    drop(s);
    shutdown(&ex);
}

/// A refused submission claims nothing, whatever closes meanwhile, and no permit is missing.
pub fn full_vs_close() {
    let ex = start(1, ToyEngine::gpu());
    let first = submit(&ex, 1, 2, &[]).unwrap();
    let e = ex.clone();
    let t = spawn(move || match e.try_admit(0) {
        Ok(permit) => {
            let s = submit_with(&e, Ok(permit), 2, 3, &[]).unwrap();
            assert_eq!(wait_async(&s), Outcome::Ready(3));
            saw("accepted");
        }
        Err(Refused::Full) => saw("full"),
        Err(Refused::Closed) => saw("closed"),
    });
    shutdown(&ex);
    assert_eq!(end(&first), Outcome::Ready(2));
    t.join().unwrap();
    drop(first);
    nothing_left(&ex, [1, 2]);
}

/// A permit that is given back unused is not waited for by a closing owner.
pub fn unused_permit_vs_close() {
    let ex = start(1, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || match e.try_admit(0) {
        Ok(permit) => {
            drop(permit);
            saw("given back");
        }
        Err(refused) => {
            assert_eq!(refused, Refused::Closed);
            saw("refused");
        }
    });
    shutdown(&ex);
    t.join().unwrap();
}

/// An admission that was dropped while pending takes nothing with it.
pub fn dropped_admission() {
    let ex = start(1, ToyEngine::gpu());
    let held = ex.try_admit(0).expect("room");
    let e = ex.clone();
    let t = spawn(move || {
        let tag = Tag::default();
        let mut admit = pin!(e.admit(0, &tag));
        match admit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(_)) => saw("went in"),
            Poll::Ready(Err(_)) => saw("refused"),
            Poll::Pending => saw("dropped while pending"),
        }
    });
    drop(held);
    shutdown(&ex);
    t.join().unwrap();
}

/// Two threads submit the same node: it runs once, both get the result.
pub fn same_node() {
    let engine = ToyEngine::gpu();
    let runs = engine.runs();
    let ex = start(2, engine);
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, 2, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(2));
    });
    let s = submit(&ex, 1, 2, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(2));
    t.join().unwrap();
    assert_eq!(runs.load(SeqCst), 1, "computed twice");
    drop(s);
    shutdown(&ex);
    nothing_left(&ex, [1]);
}

/// Runs `f` on a thread of its own between the claims of a launch and its message.
fn beside(ask: Ask, f: impl FnOnce() + Send + 'static) -> (Ask, Beside) {
    let (first, thread) = (StdMutex::new(Some(f)), Beside::default());
    let place = thread.clone();
    let start = move |_: &mut Work| {
        let f = first.lock().unwrap().take().expect("sent once");
        *place.lock().unwrap() = Some(spawn(f));
    };
    (ask.before_send(start), thread)
}

/// The thread that a launch has started.
type Beside = std::sync::Arc<StdMutex<Option<thread::JoinHandle<()>>>>;

fn join(thread: &Beside) {
    let thread = thread.lock().unwrap().take();
    thread.expect("started").join().unwrap();
}

fn launch(ex: &Ex, ask: Ask) -> Sub {
    let launched = submit_all(ex, ask, Tag::default(), Start::Post);
    launched.expect("a good graph").expect("open")
}

/// A fragment that depends on another thread's claim, whose message may still be on its way:
/// it runs after it.
pub fn dependency_order() {
    let ex = start(2, ToyEngine::gpu());
    let e = ex.clone();
    let dependent = move || {
        let s = submit(&e, 2, 10, &[1]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(15));
    };
    let (ask, t) = beside(Ask::new(&ex, &[&node(1, 5, &[])]), dependent);
    let first = launch(&ex, ask);
    join(&t);
    assert_eq!(wait_async(&first), Outcome::Ready(5));
    drop(first);
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// The same, but the launch panics before its message: its dependent and its sharer are told, and the
/// node may be submitted again.
pub fn dropped_claim() {
    let ex = start(3, ToyEngine::gpu());
    let e = ex.clone();
    let others = std::sync::Arc::new(StdMutex::new(None));
    let o = others.clone();
    let ask = Ask::new(&ex, &[&node(1, 5, &[])]).before_send(move |_| {
        let dependent = submit(&e, 2, 10, &[1]).unwrap();
        let sharer = submit(&e, 1, 5, &[]).unwrap();
        *o.lock().unwrap() = Some((dependent, sharer));
        resume_unwind(Box::new("boom"));
    });
    let panicked = catch_unwind(AssertUnwindSafe(|| launch(&ex, ask)));
    assert!(panicked.is_err());
    let (dependent, sharer) = others.lock().unwrap().take().expect("submitted");
    assert_eq!(wait_async(&dependent), Outcome::Failed(ToyError::Failed));
    assert_eq!(wait_async(&sharer), Outcome::Failed(ToyError::NeverSent));
    drop((dependent, sharer));
    let again = submit(&ex, 1, 5, &[]).unwrap();
    assert_eq!(wait_async(&again), Outcome::Ready(5));
    drop(again);
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// Of two outputs one is cancelled and a second thread shares the other: who comes for the first later
/// finds its slot, or what it is made of. Never neither.
pub fn given_up_beside() {
    let ex = start(2, ToyEngine::gpu());
    let tensors = [1, 2].map(|id| node(id, 5, &[]));
    let (store, other) = (ex.store().clone(), std::sync::Arc::new(StdMutex::new(None)));
    let o = other.clone();
    let ask = Ask::new(&ex, &tensors.each_ref()).before_send(move |_| {
        *o.lock().unwrap() = NodeStore::acquire(&store, 2, Lean::Any).held();
    });
    let both = launch(&ex, ask);
    let other = other.lock().unwrap().take().expect("claimed");
    let t = spawn(move || {
        let mut key = None;
        let ended = std::future::poll_fn(|cx| other.slot().poll(cx, &mut key));
        block_on(ended, None).expect("no deadline");
        if let Some(key) = key {
            other.slot().deregister(key);
        }
        assert_eq!(peek(other.slot()), Some(Outcome::Ready(5)));
    });
    let _ = both.cancel();
    for asked in 0.. {
        assert!(asked < 2, "neither an origin nor a slot");
        if NodeStore::acquire(ex.store(), 1, Lean::Any)
            .held()
            .is_some()
        {
            saw("ran");
            break;
        }
        if tensors[0].has_origin() {
            saw("given up");
            break;
        }
    }
    t.join().unwrap();
    drop(both);
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// Cancelling what somebody else's fragment depends on does not cancel it.
pub fn cancel_vs_dependent() {
    let ex = start(2, ToyEngine::gpu());
    let first = submit(&ex, 1, 5, &[]).unwrap();
    let e = ex.clone();
    let held = NodeStore::acquire(ex.store(), 1, Lean::Any).held();
    assert!(held.is_some());
    let t = spawn(move || {
        let s = submit(&e, 2, 10, &[1]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(15));
    });
    match first.cancel() {
        Cancel::Shared => saw("shared"),
        Cancel::Running => saw("running"),
        Cancel::Finished => saw("finished"),
        Cancel::Cancelled => panic!("somebody else wants it"),
    }
    t.join().unwrap();
    drop((first, held));
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// An operation that panics: its own fragment fails, the next one is well.
pub fn engine_panics() {
    let ex = start(2, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, PANICS, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Failed(ToyError::Panicked));
    });
    let s = submit(&ex, 2, 3, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(3));
    t.join().unwrap();
    drop(s);
    shutdown(&ex);
}

/// The owner's own code panics: whoever submitted finds out, whenever they did.
pub fn owner_panics() {
    let ex = start(2, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || match submit(&e, 1, 2, &[]) {
        Some(s) => match wait_async(&s) {
            Outcome::Ready(2) => saw("before"),
            Outcome::Failed(ToyError::OwnerLost) => saw("lost"),
            other => panic!("{other:?}"),
        },
        None => saw("refused"),
    });
    let s = submit(&ex, 2, KILLS, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Failed(ToyError::OwnerLost));
    t.join().unwrap();
    joined(&ex);
    assert_eq!(ex.lost(), Some(ToyError::OwnerLost));
    drop(s);
    nothing_left(&ex, [1, 2]);
}

/// The device reports an error late, for a batch: the culprit fails, the other does not.
pub fn late_error() {
    let ex = start(2, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, FAILS_LATE, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Failed(ToyError::Late));
    });
    let s = submit(&ex, 2, 3, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(3));
    t.join().unwrap();
    drop(s);
    shutdown(&ex);
    saw(if ex.counts().failed == 1 {
        "one failed"
    } else {
        "miscounted"
    });
}

/// A failed fragment fails what depends on it, also what was submitted before it failed.
pub fn failure_spreads() {
    let ex = start(2, ToyEngine::gpu());
    let first = submit(&ex, 1, FAILS, &[]).unwrap();
    let e = ex.clone();
    let held = NodeStore::acquire(ex.store(), 1, Lean::Any).held();
    let t = spawn(move || {
        let s = submit(&e, 2, 10, &[1]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Failed(ToyError::Failed));
    });
    assert_eq!(wait_async(&first), Outcome::Failed(ToyError::Failed));
    t.join().unwrap();
    drop((first, held));
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// A result that nobody refers to any more is freed while the owner closes.
pub fn release_vs_close() {
    let ex = start(1, ToyEngine::gpu());
    let s = submit(&ex, 1, 2, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(2));
    drop(s);
    let e = ex.clone();
    let t = spawn(move || e.store().release_node(1));
    shutdown(&ex);
    t.join().unwrap();
    assert_eq!(ex.store().nodes(), 0);
    assert!(
        ex.store().take_doomed().is_empty(),
        "a result was left on its way home"
    );
}

/// Two close, one of them for good: both waits end, and so does what was queued.
pub fn two_closers() {
    let ex = start(1, ToyEngine::gpu());
    let s = submit(&ex, 1, 2, &[]).unwrap();
    let e = ex.clone();
    let t = spawn(move || {
        e.abort();
        block_on(e.closed(), None).expect("no deadline");
    });
    shutdown(&ex);
    t.join().unwrap();
    saw_end(&end(&s), 2);
}

/// An operation panics with something whose destructor panics: its own fragment fails, and those that
/// wait for later ones are told.
pub fn panics_twice() {
    let ex = start(2, ToyEngine::gpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, PANICS_TWICE, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Failed(ToyError::Panicked));
    });
    let s = submit(&ex, 2, 3, &[]).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(3));
    t.join().unwrap();
    assert_eq!(ex.lost(), None, "the owner was lost");
    drop(s);
    shutdown(&ex);
}

/// The work of a fragment panics when it is dropped: its result is there, and the owner goes on.
pub fn dropped_work_panics() {
    let ex = start(2, ToyEngine::gpu());
    let bomb = StdMutex::new(Some(Bomb(1)));
    let ask = Ask::new(&ex, &[&node(1, 2, &[])]).before_send(move |work| {
        let bomb = bomb.lock().unwrap().take();
        work.hook = Hook::new(move || assert!(bomb.is_some()));
    });
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 2, 3, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(3));
    });
    let first = launch(&ex, ask);
    assert_eq!(wait_async(&first), Outcome::Ready(2));
    t.join().unwrap();
    assert_eq!(ex.lost(), None, "the owner was lost");
    drop(first);
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// The same, of work that is not run any more because the executor ends.
pub fn refused_work_panics() {
    let ex = start(2, ToyEngine::gpu());
    let bomb = StdMutex::new(Some(Bomb(1)));
    let ask = Ask::new(&ex, &[&node(1, 2, &[])]).before_send(move |work| {
        let bomb = bomb.lock().unwrap().take();
        work.hook = Hook::new(move || assert!(bomb.is_some()));
    });
    let first = launch(&ex, ask);
    let e = ex.clone();
    let t = spawn(move || e.abort());
    saw_end(&wait_async(&first), 2);
    t.join().unwrap();
    joined(&ex);
    assert_eq!(ex.lost(), None, "the owner was lost");
    drop(first);
    nothing_left(&ex, [1]);
}
