//! Lending: a caller runs the queue in the owner's place.

use crate::core::actor::launch::Start;
use crate::core::store::slot::Outcome;
use crate::core::store::tag::{Priority, Tag};
use crate::core::sync::Deadline;
use crate::runner::saw;
use crate::threads::{
    Beside, check_drivers, races_abort, races_close, saw_batches, saw_end, saw_loss, spawn,
};
use crate::toy::*;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Notes whether a caller drove, or the owner did everything.
fn saw_lent(ex: &Ex) {
    saw(match ex.counts().lent {
        0 => "owner",
        _ => "lent",
    });
}

/// With no other thread at work, `run` runs it here and wakes no thread: when it returns the result is
/// there.
pub fn run_alone() {
    let ex = start(1, ToyEngine::cpu());
    let s = run(&ex, 1, 2, &[]).unwrap();
    assert_eq!(end(&s), Outcome::Ready(2));
    assert_eq!(ex.counts().lent, 1);
    drop(s);
    shutdown(&ex);
    nothing_left(&ex, [1]);
}

/// The owner was called for other work when one runs its own: one drives, and both are done.
pub fn run_vs_owner() {
    let ex = start(2, ToyEngine::cpu());
    let first = submit(&ex, 1, 2, &[]).unwrap();
    let second = run(&ex, 2, 3, &[1]).unwrap();
    assert_eq!(wait(&second), Outcome::Ready(5));
    assert_eq!(wait_async(&first), Outcome::Ready(2));
    saw_lent(&ex);
    drop((first, second));
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// Two run their own: one drives, the other too, or posts and is served.
pub fn two_runs() {
    let ex = start(2, ToyEngine::cpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = run(&e, 1, 2, &[]).unwrap();
        assert_eq!(wait(&s), Outcome::Ready(2));
    });
    let s = run(&ex, 2, 3, &[]).unwrap();
    assert_eq!(wait(&s), Outcome::Ready(3));
    t.join().unwrap();
    assert_eq!(ex.counts().run, 2);
    saw(match ex.counts().lent {
        1 => "one drove",
        _ => "both drove",
    });
    drop(s);
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// A task runs its own inside of its poll while another thread submits: if a thread drives or a message
/// lies there, the owner does it. The task runs nothing but its own.
pub fn poll_vs_submit() {
    let engine = ToyEngine::cpu();
    let drivers = engine.drivers();
    let ex = start(2, engine);
    let e = ex.clone();
    i_am("the caller");
    let t = spawn(move || {
        let s = submit(&e, 1, 2, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(2));
    });
    let s = run_if_idle(&ex, 2, 3).unwrap();
    assert_eq!(wait_async(&s), Outcome::Ready(3));
    t.join().unwrap();
    let drivers = drivers.lock().unwrap().clone();
    assert!(
        !drivers.contains(&(2, "the caller")),
        "it ran another's work"
    );
    assert_eq!(drivers.len(), 2);
    saw_lent(&ex);
    drop(s);
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// A task runs its own inside of its poll while the executor closes: run, or refused.
pub fn poll_vs_close() {
    races_close(ToyEngine::cpu(), |ex| run_if_idle(ex, 1, 2), wait_async);
}

/// The owner was called, and a waiter comes at the same time.
pub fn lend_vs_owner() {
    let ex = start(1, ToyEngine::cpu());
    let s = submit(&ex, 1, 2, &[]).unwrap();
    assert_eq!(wait(&s), Outcome::Ready(2));
    saw_lent(&ex);
    drop(s);
    shutdown(&ex);
}

/// Two blocking waiters, one turn.
pub fn two_lenders() {
    let ex = start(2, ToyEngine::cpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = submit(&e, 1, 2, &[]).unwrap();
        assert_eq!(wait(&s), Outcome::Ready(2));
    });
    let s = submit(&ex, 2, 3, &[]).unwrap();
    assert_eq!(wait(&s), Outcome::Ready(3));
    t.join().unwrap();
    assert_eq!(ex.counts().run, 2);
    drop(s);
    shutdown(&ex);
}

/// A wait with a time limit drives too; what it does not get in time it gets later.
pub fn timed_wait_lends() {
    let ex = start(1, ToyEngine::cpu());
    let s = submit(&ex, 1, 2, &[]).unwrap();
    let until = Deadline::after(Duration::from_millis(1)).expect("in range");
    until.left(); // a model's clock runs out at the second look
    saw(match s.wait(Some(&until)) {
        true => "in time",
        false => "too late",
    });
    assert_eq!(wait(&s), Outcome::Ready(2));
    saw_lent(&ex);
    drop(s);
    shutdown(&ex);
}

/// The owner has driven and rests, then a caller borrows: it finds the state as the owner left it.
pub fn lend_after_owner() {
    let ex = start(2, ToyEngine::cpu());
    let first = submit(&ex, 1, 2, &[]).unwrap();
    assert_eq!(wait_async(&first), Outcome::Ready(2));
    let second = run(&ex, 2, 3, &[1]).unwrap();
    assert_eq!(wait(&second), Outcome::Ready(5));
    saw_lent(&ex);
    drop((first, second));
    shutdown(&ex);
}

/// Closing while the turn is lent: the owner leaves when the borrower is done.
pub fn lend_vs_close() {
    races_close(ToyEngine::cpu(), |ex| submit(ex, 1, 2, &[]), wait);
}

/// Closing while a caller runs its own.
pub fn run_vs_close() {
    races_close(ToyEngine::cpu(), |ex| run(ex, 1, 2, &[]), wait);
}

/// Aborting while a caller runs its own.
pub fn run_vs_abort() {
    races_abort(ToyEngine::cpu(), |ex| run(ex, 1, 2, &[]), wait);
}

/// Aborting while the turn is lent.
pub fn lend_vs_abort() {
    races_abort(ToyEngine::cpu(), |ex| submit(ex, 1, 2, &[]), wait);
}

/// Work that panics in a lent run fails by itself; the turn comes back.
pub fn lent_panics() {
    let ex = start(2, ToyEngine::cpu());
    let e = ex.clone();
    let t = spawn(move || {
        let s = run(&e, 1, PANICS, &[]).unwrap();
        assert_eq!(wait(&s), Outcome::Failed(ToyError::Panicked));
    });
    let s = run(&ex, 2, 3, &[]).unwrap();
    assert_eq!(wait(&s), Outcome::Ready(3));
    t.join().unwrap();
    drop(s);
    shutdown(&ex);
}

/// The owner's own code panics in a lent run: the turn comes back, and all that is left is told.
pub fn lent_owner_panics() {
    let ex = start(2, ToyEngine::cpu());
    let e = ex.clone();
    let t = spawn(move || saw_loss(submit(&e, 1, 2, &[]).as_ref(), wait));
    if let Some(s) = run(&ex, 2, KILLS, &[]) {
        assert_eq!(wait(&s), Outcome::Ready(0));
    }
    t.join().unwrap();
    joined(&ex);
    assert_eq!(ex.lost(), Some(ToyError::OwnerLost));
}

/// Another caller's foreign work is queued before one's own: a lender leaves it, and its own behind it, to
/// the owner.
pub fn lend_behind_foreign() {
    let engine = ToyEngine::cpu();
    let drivers = engine.drivers();
    let ex = start(2, engine);
    let e = ex.clone();
    let t = spawn(move || {
        i_am("the other");
        let s = submit(&e, 1, FOREIGN, &[]).unwrap();
        assert_eq!(wait_async(&s), Outcome::Ready(3));
    });
    i_am("the caller");
    let s = submit(&ex, 2, 5, &[]).unwrap();
    assert_eq!(wait(&s), Outcome::Ready(5));
    t.join().unwrap();
    drop(s);
    shutdown(&ex);
    check_drivers(&drivers, 5, None);
}

/// Another caller's foreign work would go together with one's own: a lender runs its own without it.
pub fn foreign_stays_apart() {
    let engine = ToyEngine::cpu();
    let (drivers, batches) = (engine.drivers(), engine.batches());
    let ex = idle(2, engine);
    let foreign = node(2, TOGETHER, &[&node(1, FOREIGN, &[])]);
    let e = ex.clone();
    let t = spawn(move || {
        i_am("the other");
        submit_node(&e, &foreign).unwrap()
    });
    i_am("the caller");
    let s = run(&ex, 3, TOGETHER, &[]).unwrap();
    let other = t.join().unwrap();
    i_am("owner");
    ex.step();
    assert_eq!(end(&s), Outcome::Ready(2));
    assert_eq!(end(&other), Outcome::Ready(5));
    check_drivers(&drivers, TOGETHER, None);
    saw_batches(&batches);
    drop((s, other));
    step_down(&ex);
    nothing_left(&ex, [2, 3]);
}

/// What runs at once gathers others of its class that are queued: one batch or two, the same answers.
pub fn run_gathers() {
    saw_batches(&run_beside(Priority::Normal));
}

/// What runs at once does not gather what is more urgent: a batch is of one class.
pub fn run_one_class() {
    let batches = run_beside(Priority::Interactive).load(SeqCst);
    assert_eq!(batches, 0, "two classes in one batch");
}

/// Runs one while another thread submits one that goes together with it: the number of batches.
fn run_beside(priority: Priority) -> Arc<AtomicUsize> {
    let engine = ToyEngine::cpu();
    let batches = engine.batches();
    let ex = idle(2, engine);
    let e = ex.clone();
    let t = spawn(move || submit_tagged(&e, 1, TOGETHER, &[], urgent(priority)).unwrap());
    let s = run(&ex, 2, TOGETHER, &[]).unwrap();
    let other = t.join().unwrap();
    assert!(s.wait(None));
    assert_eq!(
        ex.counts().lent,
        1,
        "borrowed although its result was there"
    );
    ex.step();
    assert_eq!(end(&s), Outcome::Ready(2));
    assert_eq!(end(&other), Outcome::Ready(2));
    drop((s, other));
    step_down(&ex);
    nothing_left(&ex, [1, 2]);
    batches
}

/// One's own foreign work runs here, or the owner runs it, and not another caller that drives.
pub fn run_foreign() {
    let engine = ToyEngine::cpu();
    let drivers = engine.drivers();
    let ex = start(2, engine);
    let e = ex.clone();
    let t = spawn(move || {
        i_am("the other");
        let s = submit(&e, 1, 5, &[]).unwrap();
        assert_eq!(wait(&s), Outcome::Ready(5));
    });
    i_am("the caller");
    let s = run(&ex, 2, FOREIGN, &[]).unwrap();
    assert_eq!(wait(&s), Outcome::Ready(3));
    t.join().unwrap();
    drop(s);
    shutdown(&ex);
    check_drivers(&drivers, FOREIGN, Some("the caller"));
}

/// A claim of another launch that has not been sent is what one's own work needs: a lender does not wait
/// with the turn, and the owner goes on when the message comes.
pub fn run_blocked() {
    let ex = start(2, ToyEngine::cpu());
    let e = ex.clone();
    let dependent = move || {
        let s = run(&e, 2, 3, &[1]).unwrap();
        assert_eq!(wait(&s), Outcome::Ready(5));
    };
    let (ask, t) = Beside::start(Ask::new(&ex, &[&node(1, 2, &[])]), dependent);
    let first = ask_all(&ex, ask, Tag::default(), Start::Run);
    t.join();
    assert_eq!(wait_async(&first), Outcome::Ready(2));
    saw_lent(&ex);
    drop(first);
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// Work is queued and no thread has taken it up when one runs its own: what was queued goes first, and is not
/// forgotten.
pub fn run_behind_queued() {
    let engine = ToyEngine::cpu();
    let order = engine.order();
    let ex = start(2, engine);
    let first = submit(&ex, 1, 2, &[]).unwrap();
    let second = run(&ex, 2, 3, &[]).unwrap();
    assert_eq!(wait(&second), Outcome::Ready(3));
    assert_eq!(wait_async(&first), Outcome::Ready(2));
    assert_eq!(*order.lock().unwrap(), [2, 3], "overtaken");
    saw_lent(&ex);
    drop((first, second));
    shutdown(&ex);
    nothing_left(&ex, [1, 2]);
}

/// Another caller's foreign work comes, more urgent than one's own, while a lender chooses: it is left to the
/// owner.
///
/// ```text
///   T1                           T2
///   wait: borrow the turn
///   is the next for me? Yes
///                                submit foreign work, interactive
///   take the next
/// ```
pub fn lend_vs_urgent() {
    let engine = ToyEngine::cpu();
    let drivers = engine.drivers();
    let ex = idle(2, engine);
    let e = ex.clone();
    let t = spawn(move || {
        i_am("the other");
        submit_tagged(&e, 1, FOREIGN, &[], urgent(Priority::Interactive)).unwrap()
    });
    i_am("the caller");
    let s = submit(&ex, 2, 5, &[]).unwrap();
    let until = Deadline::after(Duration::from_millis(1)).expect("in range");
    s.wait(Some(&until)); // nobody else drives
    let other = t.join().unwrap();
    i_am("owner");
    ex.step();
    assert_eq!(end(&s), Outcome::Ready(5));
    assert_eq!(end(&other), Outcome::Ready(3));
    check_drivers(&drivers, 5, None);
    drop((s, other));
    step_down(&ex);
    nothing_left(&ex, [1, 2]);
}

/// The executor is aborted while work of another caller's own is queued. A lender does not drop that work: its
/// destructor may want a lock that the lender holds.
///
/// ```text
///   T1                           T2
///   submit a, whose destructor
///   is foreign code
///                                abort
///   submit b; wait: borrow the
///   turn, leave both to the owner
/// ```
pub fn lend_vs_abort_foreign() {
    let ex = start(2, ToyEngine::cpu());
    let by = Arc::new(Mutex::new(Vec::new())); // outside of the model
    let dropped = by.clone();
    let ask = Ask::new(&ex, &[&node(1, FOREIGN, &[])]);
    let ask = ask.holding(OnDrop(move || dropped.lock().unwrap().push(me())));
    let first = post_ask(&ex, ask);
    let second = submit(&ex, 2, 3, &[]).unwrap();
    let e = ex.clone();
    let t = spawn(move || {
        i_am("the other");
        e.abort();
    });
    i_am("the caller");
    saw_end(&wait(&second), 3);
    i_am("owner");
    t.join().unwrap();
    drop((first, second));
    joined(&ex);
    assert_eq!(*by.lock().unwrap(), ["owner"], "dropped another's work");
    nothing_left(&ex, [1, 2]);
}

/// The device is lost with what a caller runs: the owner is called, and leaves, although nobody closes.
pub fn lent_device_lost() {
    let ex = start(1, ToyEngine::cpu());
    let s = run(&ex, 1, LOSES, &[]).expect("it is open");
    assert_eq!(end(&s), Outcome::Ready(0), "it was done");
    assert_eq!(ex.counts().lent, 1);
    drop(s);
    joined(&ex);
    assert_eq!(ex.lost(), Some(ToyError::DeviceLost));
    nothing_left(&ex, [1]);
}

/// Less urgent work is queued when one runs its own: one's own goes first, and the other is left to the owner.
pub fn run_before_less_urgent() {
    let engine = ToyEngine::cpu();
    let order = engine.order();
    let ex = idle(2, engine);
    let e = ex.clone();
    let t = spawn(move || submit_tagged(&e, 1, 5, &[], urgent(Priority::Background)).unwrap());
    let s = run(&ex, 2, 3, &[]).unwrap();
    assert_eq!(end(&s), Outcome::Ready(3));
    assert_eq!(*order.lock().unwrap(), [3], "it ran what is less urgent");
    saw(match ex.gate().admission.queued() {
        0 => "alone",
        _ => "passed over",
    });
    let other = t.join().unwrap();
    ex.step();
    assert_eq!(end(&other), Outcome::Ready(5));
    drop((s, other));
    step_down(&ex);
    nothing_left(&ex, [1, 2]);
}
