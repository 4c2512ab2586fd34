//! Waits that would be for ever: code that runs while its thread drives, and executors that wait for each
//! other.

use crate::core::actor::driving::{Waiting, is_driving};
use crate::core::actor::launch::Start;
use crate::core::actor::submission::Wait;
use crate::core::store::slot::Outcome;
use crate::core::store::tag::Tag;
use crate::runner::saw;
use crate::threads::spawn;
use crate::toy::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Context;

/// What foreign code found, outside of the model.
type Found = Arc<AtomicUsize>;

/// Waits for a submission as a handle does: not, if that would be for ever.
fn wait_or_refuse(ex: &Ex, sub: &Sub) -> Option<End> {
    let _waiting = Waiting::start(ex.gate())?;
    Some(wait(sub))
}

/// Looks whether a wait for this executor would be for ever here, as it must.
fn looker(ex: &Ex, found: &Found) -> impl Fn() + Send + Sync + 'static {
    let (gate, found) = (ex.gate().clone(), found.clone());
    move || {
        let refused = is_driving(&gate) && Waiting::start(&gate).is_none();
        found.fetch_add(if refused { 1 } else { 100 }, SeqCst); // a panic would be contained
    }
}

/// An operation, the destructor of its work, and a waker that it wakes all run on the thread that has the
/// turn, the owner's or a caller's: none of them may wait for the executor.
///
/// ```text
///   T1                           owner
///   run a: borrow the turn       or: take the turn, run a
///     operation: wait? No
///     destructor: wait? No
///     waker: wait? No
/// ```
///
/// The work has been counted and has gone when somebody is told: the waker comes after the destructor.
fn driven(engine: ToyEngine) {
    let ex = start(1, engine);
    let found = Found::default();
    let a = node(1, 1, &[]);
    let operation = looker(&ex, &found);
    let (look, counted, e) = (looker(&ex, &found), found.clone(), ex.clone());
    let destructor = OnDrop(move || {
        look();
        counted.fetch_add(if e.counts().run == 1 { 0 } else { 100 }, SeqCst);
    });
    let ask = Ask::new(&ex, &[&a]).hook(move || {
        let _with_it = &destructor;
        operation();
    });
    let sub = post_ask(&ex, ask);
    let (look, gone) = (looker(&ex, &found), found.clone());
    let waker = OnWake::waker(move || {
        let early = gone.load(SeqCst) != 2;
        gone.fetch_add(if early { 100 } else { 0 }, SeqCst);
        look();
    });
    let mut waits = Wait::default();
    let woken = sub.poll(&Context::from_waker(&waker), &mut waits);
    assert_eq!(wait(&sub), Outcome::Ready(1));
    sub.deregister(&mut waits);
    drop(sub);
    shutdown(&ex);
    assert!(!is_driving(ex.gate()), "no more");
    nothing_left(&ex, [1]);
    saw(match (found.load(SeqCst), woken.is_pending()) {
        (2, false) => "had ended",
        (2, true) => "looked again",
        (3, true) => "woken",
        other => panic!("{other:?}"),
    });
}

/// On a device that is done when it returns.
pub fn driven_code() {
    driven(ToyEngine::cpu());
}

/// On a device with tickets.
pub fn driven_code_gpu() {
    driven(ToyEngine::gpu());
}

/// A thread that does not drive may wait, also while another one drives.
///
/// ```text
///   owner                        T1
///   take the turn, run a
///                                driving? No. Wait
/// ```
pub fn bystander() {
    let ex = start(1, ToyEngine::gpu());
    let sub = submit(&ex, 1, 1, &[]).expect("it is open");
    assert!(!is_driving(ex.gate()));
    assert_eq!(wait_or_refuse(&ex, &sub), Some(Outcome::Ready(1)));
    drop(sub);
    shutdown(&ex);
    nothing_left(&ex, [1]);
}

/// Executor 1 runs an operation that runs one on executor 2 that would wait for executor 1.
///
/// ```text
///   T1
///   run a on 1
///     operation: run b on 2, here or by 2's owner; wait
///       operation: wait for c on 1? No: 1's driver waits for 2
/// ```
pub fn nested_executors() {
    let (one, two) = (idle(2, ToyEngine::cpu()), start(1, ToyEngine::cpu()));
    let (a, b, c) = (node(1, 1, &[]), node(2, 2, &[]), node(3, 4, &[]));
    let refused = Found::default();
    let inner = {
        let (one, c, refused) = (one.clone(), c.clone(), refused.clone());
        move || {
            let sub = submit_node(&one, &c).expect("it is open");
            match wait_or_refuse(&one, &sub) {
                None => drop(refused.fetch_add(1, SeqCst)),
                Some(end) => panic!("{end:?}"),
            }
        }
    };
    let outer = {
        let (two, b) = (two.clone(), b.clone());
        let mut inner = Some(inner);
        move || {
            let ask = Ask::new(&two, &[&b]).hook(inner.take().expect("once"));
            let sub = ask_all(&two, ask, Tag::default(), Start::Run);
            assert_eq!(wait_or_refuse(&two, &sub), Some(Outcome::Ready(2)));
        }
    };
    let ask = Ask::new(&one, &[&a]).hook(outer);
    let sub = ask_all(&one, ask, Tag::default(), Start::Run);
    one.step();
    assert_eq!(peek(&sub.outputs()[0]), Some(Outcome::Ready(1)));
    assert_eq!(refused.load(SeqCst), 1);
    drop(sub);
    shutdown(&two);
    step_down(&one);
    nothing_left(&two, [2]);
    nothing_left(&one, [1, 3]);
}

/// Two executors, an operation of each of which would wait for the other: one of them is told not to, or
/// both are, and both operations end.
///
/// ```text
///   T1: drives 1                 T2: drives 2
///   operation: post d to 2;
///   I wait for 2
///                                operation: post c to 1;
///                                I wait for 1? No: its driver waits for 2. End
///                                run d
///   d has ended: end
///   run c
/// ```
pub fn ring_of_executors() {
    let (one, two) = (idle(2, ToyEngine::gpu()), idle(2, ToyEngine::gpu()));
    let (a, b) = (node(1, 1, &[]), node(2, 2, &[]));
    let (c, d) = (node(3, 4, &[]), node(4, 8, &[]));
    let refused = Found::default();
    // what each waits for is behind the other's operation
    let operation = |other: &Ex, awaited: &Tensor| {
        let (other, awaited, refused) = (other.clone(), awaited.clone(), refused.clone());
        move || {
            let sub = submit_node(&other, &awaited).expect("it is open");
            match wait_or_refuse(&other, &sub) {
                None => drop(refused.fetch_add(1, SeqCst)),
                Some(end) => assert!(matches!(end, Outcome::Ready(4 | 8))),
            }
            drop(sub);
        }
    };
    let first = post_ask(&one, Ask::new(&one, &[&a]).hook(operation(&two, &d)));
    let second = post_ask(&two, Ask::new(&two, &[&b]).hook(operation(&one, &c)));
    let driven = two.clone();
    let t = spawn(move || driven.step());
    one.step();
    // what is left for each is run here, if T2's turn came first
    t.join().unwrap();
    two.step();
    one.step();
    assert_eq!(peek(&first.outputs()[0]), Some(Outcome::Ready(1)));
    assert_eq!(peek(&second.outputs()[0]), Some(Outcome::Ready(2)));
    saw(match refused.load(SeqCst) {
        1 => "one refused",
        2 => "both refused",
        other => panic!("{other} refused"),
    });
    drop((first, second));
    step_down(&one);
    step_down(&two);
    nothing_left(&one, [1, 3]);
    nothing_left(&two, [2, 4]);
}
