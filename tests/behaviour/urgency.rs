//! Who asks urgently: what came in is looked at before each choice, and a result that somebody wants at once
//! is made at once, whoever submitted it.

use crate::common::*;
use candlewick::{Device, Executor, LazyTensor, Priority, Session, Submit};
use std::pin::Pin;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

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

/// What keeps the owner in the middle of an operation, once it is started, until the gate opens.
fn busy(executor: &Executor) -> (Arc<Mutex<()>>, impl Fn() -> candlewick::Handle) {
    let gate = Arc::new(Mutex::new(()));
    let executor = executor.clone();
    let inner = gate.clone();
    let start = move || {
        let inner = inner.clone();
        let work = Counted::new(Act::Call(Arc::new(move || drop(inner.lock().unwrap()))));
        let handle = executor.submit(&work.on(&tensor(0.0))).unwrap();
        eventually("begun", || executor.stats().queued == 0);
        handle
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
/// session has the next place, and the next turn. Each operation runs when the test lets it.
#[test]
fn urgent_work_overtakes_at_the_door() {
    const FLOOD: usize = 12;
    within_limit(|| {
        let builder = Executor::builder(&Device::Cpu).queue_capacity(2);
        let executor = builder.lending(false).build().unwrap();
        let order = Order::default();
        let (go, may_go) = mpsc::channel::<()>();
        let may_go = Arc::new(Mutex::new(may_go));
        let work = |number: u32| {
            let (order, may_go) = (order.clone(), may_go.clone());
            let run = move || {
                let _ = may_go.lock().unwrap().recv(); // or nobody says any more when
                order.lock().unwrap().push(number);
            };
            Counted::new(Act::Call(Arc::new(run))).on(&tensor(1.0))
        };
        let first = executor.submit(&work(1000)).unwrap();
        eventually("begun", || executor.stats().queued == 0);
        let flood = Session::new();
        let ask = |number, priority, session: &Session| {
            let how = how(priority).session(session);
            executor.submit_async_with(&work(number), how)
        };
        let mut cx = Context::from_waker(Waker::noop());
        let mut poll = |submit: &mut _| Future::poll(Pin::new(submit), &mut cx);
        let (mut handles, mut line) = (vec![first], Vec::new());
        for number in 0..FLOOD {
            let mut submit = ask(number as u32, Priority::Background, &flood);
            match poll(&mut submit) {
                Poll::Ready(handle) => handles.push(handle.unwrap()),
                Poll::Pending => line.push(submit),
            }
        }
        assert_eq!((line.len(), executor.stats().queued), (FLOOD - 2, 2));
        let mut urgent = ask(100, Priority::Interactive, &Session::new());
        assert!(poll(&mut urgent).is_pending());
        go.send(()).unwrap();
        // the first has ended, another has begun, and its place is the urgent one's
        eventually("let in", || match poll(&mut urgent) {
            Poll::Ready(handle) => {
                handles.push(handle.unwrap());
                true
            }
            Poll::Pending => false,
        });
        assert!(line.iter_mut().all(|submit| poll(submit).is_pending()));
        drop(go);
        for mut submit in line {
            eventually("let in", || match poll(&mut submit) {
                Poll::Ready(handle) => {
                    handles.push(handle.unwrap());
                    true
                }
                Poll::Pending => false,
            });
        }
        for handle in handles {
            handle.wait().unwrap();
        }
        let order = order.lock().unwrap();
        assert_eq!(order[..3], [1000, 0, 100], "{order:?}");
        assert_eq!(order.len(), FLOOD + 2);
    });
}

/// A place in a full queue is free as soon as what took it is cancelled. What is cancelled stays in the channel
/// until the owner comes to it, which is bounded: a small queue has room for this many, and a large one for as
/// many as it has places. Whatever is cancelled beyond that gives its place back when the owner has seen it.
#[test]
fn cancelling_frees_the_place_at_once() {
    within_limit(|| {
        for (capacity, husks) in [(1, 1024), (1023, 1024), (1024, 1024), (1025, 1025)] {
            let (executor, script, busy) = held(capacity);
            for cancelled in 0..husks + 3 {
                let before = executor.stats().queued;
                if before == capacity {
                    assert!(executor.try_submit(&tensor(1.0).sqr().unwrap()).is_err());
                    break;
                }
                let queued = executor.try_submit(&tensor(1.0).sqr().unwrap()).unwrap();
                assert_eq!(queued.cancel(), candlewick::Cancel::Cancelled);
                let kept = usize::from(cancelled >= husks);
                assert_eq!(executor.stats().queued, before + kept, "{cancelled}");
            }
            assert_eq!(executor.stats().queued, capacity.min(3));
            script.resume();
            busy.wait().unwrap();
            eventually("seen", || executor.stats().queued == 0);
            let after = executor.submit(&tensor(3.0).sqr().unwrap()).unwrap();
            assert_eq!(value(&after.wait().unwrap()), 9.0);
        }
    });
}
