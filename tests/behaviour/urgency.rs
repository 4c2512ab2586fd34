//! Who asks urgently: what came in is looked at before each choice, and a result that somebody wants at once
//! is made at once, whoever submitted it.

use crate::common::*;
use candlewick::{Device, Executor, LazyTensor, Priority, Session, Submit};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Order = Arc<Mutex<Vec<u32>>>;

/// Work on `x` that writes down when it runs.
fn noting(order: &Order, number: u32, x: &LazyTensor) -> LazyTensor {
    let list = order.clone();
    let note = move || list.lock().unwrap().push(number);
    Counted::new(Act::Call(Arc::new(note))).on(x)
}

fn how(priority: Priority) -> Submit {
    Submit::new().priority(priority)
}

/// An executor whose owner is in the middle of an operation until the gate opens.
fn busy(executor: &Executor) -> (Arc<Mutex<()>>, impl Fn() -> candlewick::Handle) {
    let gate = Arc::new(Mutex::new(()));
    let executor = executor.clone();
    let inner = gate.clone();
    let start = move || {
        let inner = inner.clone();
        let work = Counted::new(Act::Call(Arc::new(move || drop(inner.lock().unwrap()))));
        executor.submit(&work.on(&tensor(0.0))).unwrap()
    };
    (gate, start)
}

fn owned() -> Executor {
    let builder = Executor::builder(&Device::Cpu).lending(false);
    builder.build().unwrap()
}

/// Background work of one producer and then urgent work of another come while the owner is busy with the
/// only task that it knows of.
#[test]
fn what_came_in_is_looked_at_before_every_choice() {
    within_limit(|| {
        let executor = owned();
        let order = Order::default();
        let (gate, start) = busy(&executor);
        let guard = gate.lock().unwrap();
        let first = start();
        let mut handles = vec![first];
        let background = noting(&order, 1, &tensor(1.0));
        handles.push(
            executor
                .submit_with(&background, how(Priority::Background))
                .unwrap(),
        );
        let urgent = noting(&order, 2, &tensor(2.0));
        handles.push(
            executor
                .submit_with(&urgent, how(Priority::Interactive))
                .unwrap(),
        );
        drop(guard);
        for handle in handles {
            handle.wait().unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [2, 1]);
    });
}

/// A chain that was submitted as Background, and somebody who wants its end at once.
#[test]
fn who_asks_urgently_lifts_what_it_depends_on() {
    within_limit(|| {
        for by_a_graph in [false, true] {
            let executor = owned();
            let order = Order::default();
            let (gate, start) = busy(&executor);
            let guard = gate.lock().unwrap();
            let mut handles = vec![start()];
            let a = noting(&order, 1, &tensor(1.0));
            let b = noting(&order, 2, &a);
            for i in 0..20 {
                let other = noting(&order, 100 + i, &tensor(0.0));
                let submit = executor.submit_with(&other, how(Priority::Normal));
                handles.push(submit.unwrap());
            }
            for node in [&a, &b] {
                let submit = executor.submit_with(node, how(Priority::Background));
                handles.push(submit.unwrap());
            }
            let c = noting(&order, 3, &b);
            let asked = if by_a_graph { &c } else { &b };
            let urgent = executor.submit_with(asked, how(Priority::Interactive));
            drop(guard);
            urgent.unwrap().wait().unwrap();
            for handle in handles {
                handle.wait().unwrap();
            }
            let expected: &[u32] = if by_a_graph { &[1, 2, 3] } else { &[1, 2] };
            let order = order.lock().unwrap();
            assert_eq!(order[..expected.len()], *expected, "{order:?}");
        }
    });
}

/// The queue is full of one session's Background work, and more of it waits for room: urgent work of another
/// session has the next place.
#[test]
fn urgent_work_overtakes_at_the_door() {
    within_limit(|| {
        let builder = Executor::builder(&Device::Cpu).queue_capacity(2);
        let executor = builder.lending(false).build().unwrap();
        let order = Order::default();
        let (gate, start) = busy(&executor);
        let guard = gate.lock().unwrap();
        let first = start();
        eventually("begun", || executor.stats().queued == 0);
        let flood = Session::new();
        std::thread::scope(|scope| {
            let background = |number: u32| {
                let (executor, order, flood) = (&executor, &order, &flood);
                move || {
                    let how = how(Priority::Background).session(flood);
                    let y = noting(order, number, &tensor(1.0));
                    executor.submit_with(&y, how).unwrap().wait().unwrap();
                }
            };
            for number in 0..12 {
                scope.spawn(background(number));
            }
            eventually("full", || executor.stats().queued == 2);
            std::thread::sleep(Duration::from_millis(50)); // the others come to the line
            let urgent = scope.spawn(|| {
                let y = noting(&order, 100, &tensor(1.0));
                let how = how(Priority::Interactive).session(&Session::new());
                executor.submit_with(&y, how).unwrap().wait().unwrap();
            });
            std::thread::sleep(Duration::from_millis(50)); // and so does this one
            drop(guard);
            urgent.join().unwrap();
        });
        first.wait().unwrap();
        let order = order.lock().unwrap();
        let place = order.iter().position(|&n| n == 100).unwrap();
        assert!(place <= 2, "{order:?}");
    });
}

/// A place in a full queue is free as soon as what took it is cancelled.
#[test]
fn cancelling_frees_the_place_at_once() {
    within_limit(|| {
        let (executor, script, _busy) = held(1);
        for _ in 0..100 {
            let queued = executor.try_submit(&tensor(1.0).sqr().unwrap()).unwrap();
            assert!(executor.try_submit(&tensor(2.0).sqr().unwrap()).is_err());
            assert_eq!(queued.cancel(), candlewick::Cancel::Cancelled);
            assert_eq!(executor.stats().queued, 0);
        }
        script.resume();
    });
}
