//! Drivers of several executors: which one must not wait for which.

use crate::core::actor::driving::{Waiting, is_driving, would_sleep_for_ever};
use crate::core::actor::event::Event;
use crate::core::actor::gate::Gate;
use crate::core::actor::launch::Start;
use crate::core::actor::park::block_on;
use crate::core::store::NodeId;
use crate::core::store::slot::Outcome;
use crate::core::store::tag::Tag;
use crate::core::sync::Arc;
use crate::runner::saw;
use crate::threads::{spawn, spawn_deep};
use crate::toy::*;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Runs an operation on this thread, as the driver of an executor: that of node `id`.
fn operate(ex: &Ex, id: NodeId, operation: impl FnMut() + Send + 'static) {
    let ask = Ask::new(ex, &[&node(id, FOREIGN, &[])]).hook(operation);
    let submission = ask_all(ex, ask, Tag::default(), Start::Run);
    assert_eq!(end(&submission), Outcome::Ready(3));
    assert!(!is_driving(ex.gate()));
}

/// How an operation is about to wait for an executor: nothing if it must not.
type Begin = fn(&Arc<Gate>) -> Option<Option<Waiting>>;

/// Waits in an operation for the other executor's driver to have looked, if that is no circle: whether it
/// waited.
fn wait_for(own: &Ex, other: &Ex, begin: Begin, looked: [&Arc<Event>; 2]) -> bool {
    let (gate, other) = (own.gate().clone(), other.gate().clone());
    let [mine, theirs] = looked.map(Arc::clone);
    let waited = std::sync::Arc::new(AtomicBool::new(false));
    let result = waited.clone();
    operate(own, 1, move || {
        assert!(is_driving(&gate) && !is_driving(&other));
        let waiting = begin(&other);
        mine.set();
        if waiting.is_some() {
            let mut key = None;
            block_on(poll_fn(|cx| theirs.poll(cx, &mut key)), None).expect("no deadline");
            waited.store(true, SeqCst);
        }
    });
    result.load(SeqCst)
}

/// Two drivers are each about to wait for the other's executor: one of them at least is told not to.
pub fn drivers_in_a_circle() {
    in_a_circle(|gate| Waiting::start(gate).map(Some));
}

/// The same with futures that each polls in an operation and that are not ready.
pub fn polls_in_a_circle() {
    in_a_circle(|gate| (!would_sleep_for_ever(gate)).then_some(None));
}

fn in_a_circle(begin: Begin) {
    let (one, two) = (idle(1, ToyEngine::cpu()), idle(1, ToyEngine::cpu()));
    let looked = [Arc::new(Event::default()), Arc::new(Event::default())];
    let (a, b, [c, d]) = (one.clone(), two.clone(), looked.clone());
    let t = spawn(move || wait_for(&b, &a, begin, [&d, &c]));
    let mine = wait_for(&one, &two, begin, [&looked[0], &looked[1]]);
    let other = t.join().unwrap();
    match (mine, other) {
        (true, false) => saw("mine waits"),
        (false, true) => saw("the other waits"),
        (false, false) => saw("neither waits"),
        (true, true) => panic!("they wait for each other"),
    }
    step_down(&one);
    step_down(&two);
}

/// A wait that is over, and a future that was polled in an operation that is over, hold no other driver up.
pub fn waiting_ends() {
    let (one, two) = (idle(1, ToyEngine::cpu()), idle(2, ToyEngine::cpu()));
    let look = |own: &Ex, other: &Ex| {
        let (own, other) = (own.gate().clone(), other.gate().clone());
        move || {
            let waiting = Waiting::start(&other);
            saw(match &waiting {
                Some(_) => "may wait",
                None => "must not wait",
            });
            drop(waiting);
            assert!(would_sleep_for_ever(&own), "it would wait for itself");
            assert!(Waiting::start(&own).is_none(), "it would wait for itself");
            saw(match would_sleep_for_ever(&other) {
                true => "would sleep for ever",
                false => "would be woken",
            });
        }
    };
    let (e, other) = (two.clone(), look(&two, &one));
    let t = spawn(move || operate(&e, 1, other));
    operate(&one, 1, look(&one, &two));
    t.join().unwrap();
    let gate = two.gate().clone();
    operate(&one, 2, move || {
        assert!(Waiting::start(&gate).is_some(), "its driver waits no more");
        assert!(!would_sleep_for_ever(&gate), "its driver waits no more");
    });
    let (gate, one_gate, e) = (two.gate().clone(), one.gate().clone(), two.clone());
    operate(&one, 3, move || {
        drop(Waiting::start(&gate));
        let (one, e) = (one_gate.clone(), e.clone());
        let other = move || {
            operate(&e, 2, move || {
                assert!(Waiting::start(&one).is_some(), "its driver waits no more");
            });
        };
        let other = spawn(other);
        other.join().unwrap(); // it does not run the other's operation itself
    });
    let free = one.gate().clone();
    assert!(
        Waiting::start(&free).is_some(),
        "this thread drives nothing"
    );
    assert!(!would_sleep_for_ever(&free), "this thread drives nothing");
    step_down(&one);
    step_down(&two);
}

/// An operation of executor 1 runs one of executor 2 that polls for executor 3, whose driver waits for 1.
pub fn polls_in_a_nested_circle() {
    let [one, two, three] = [(); 3].map(|()| idle(1, ToyEngine::cpu()));
    let looked = [Arc::new(Event::default()), Arc::new(Event::default())];
    let (a, c, [m, o]) = (one.clone(), three.clone(), looked.clone());
    let t = spawn(move || wait_for(&c, &a, |gate| Waiting::start(gate).map(Some), [&o, &m]));
    let mine = std::sync::Arc::new(AtomicBool::new(false));
    let (a, b, c, waited) = (one.clone(), two.clone(), three.clone(), mine.clone());
    let nested = move || {
        operate(&a, 2, move || {
            let polls: Begin = |gate| (!would_sleep_for_ever(gate)).then_some(None);
            waited.store(wait_for(&b, &c, polls, [&looked[0], &looked[1]]), SeqCst);
        });
    };
    spawn_deep(nested).join().unwrap();
    match (mine.load(SeqCst), t.join().unwrap()) {
        (true, false) => saw("mine waits"),
        (false, true) => saw("the other waits"),
        (false, false) => saw("neither waits"),
        (true, true) => panic!("they wait for each other"),
    }
    [&one, &two, &three].into_iter().for_each(step_down);
}

/// An operation of executor 1 has polled for executor 3, and then runs one of executor 2 that polls for executor 4:
/// the driver of 3 must not wait for 1 meanwhile, and may when both have ended. The driver of 4 waits for another.
pub fn outer_polls_count() {
    let [one, two, three, four, five] = [(); 5].map(|()| idle(2, ToyEngine::cpu()));
    let gates = [&one, &two, &three, &four].map(|ex| ex.gate().clone());
    let (b, c) = (two.clone(), three.clone());
    let waits = move |id, may| {
        let (c, one) = (c.clone(), gates[0].clone());
        let waits = move || {
            let one = one.clone();
            operate(&c, id, move || {
                let waiting = Waiting::start(&one);
                assert_eq!(waiting.is_some(), may, "it would close a circle");
            });
        };
        spawn(waits).join().unwrap(); // its own turn, of executor 3
    };
    let gates = [&three, &four].map(|ex| ex.gate().clone());
    let during = waits.clone();
    let (e, free) = (four.clone(), five.gate().clone());
    let t = spawn(move || {
        operate(&e, 1, move || {
            let _waiting = Waiting::start(&free).expect("nobody waits for executor 4");
        });
    });
    let a = one.clone();
    let nested = move || {
        operate(&a, 1, move || {
            assert!(!would_sleep_for_ever(&gates[0]));
            let (during, four) = (during.clone(), gates[1].clone());
            operate(&b, 1, move || {
                assert!(!would_sleep_for_ever(&four));
                assert!(!would_sleep_for_ever(&four), "again");
                during(1, false);
            });
        });
    };
    spawn_deep(nested).join().unwrap();
    waits(2, true);
    t.join().unwrap();
    let all = [&one, &two, &three, &four, &five];
    all.into_iter().for_each(step_down);
}
