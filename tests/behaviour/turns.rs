//! Sessions, priorities and deadlines.

use crate::common::*;
use candlewick::{
    Batching, Device, Error, Executor, Handle, LazyTensor, Priority, Session, Submit,
};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The order in which work runs.
#[derive(Clone, Default)]
struct Order(Arc<Mutex<Vec<u32>>>);

impl Order {
    /// Work that writes down when it runs.
    fn work(&self, number: u32) -> LazyTensor {
        let list = self.0.clone();
        let note = move || list.lock().unwrap().push(number);
        Counted::new(Act::Call(Arc::new(note))).on(&tensor(number as f32))
    }
    fn get(&self) -> Vec<u32> {
        self.0.lock().unwrap().clone()
    }
}

fn finish(handles: Vec<Handle>) {
    for handle in handles {
        handle.wait().unwrap();
    }
}

#[test]
fn sessions_take_turns() {
    within_limit(|| {
        let (executor, script, busy) = held(1000);
        let (order, flood, single) = (Order::default(), Session::new(), Session::new());
        let mut handles = vec![busy];
        for i in 0..100 {
            let how = Submit::new().session(&flood);
            handles.push(executor.submit_with(&order.work(i), how).unwrap());
        }
        let how = Submit::new().session(&single.clone());
        handles.push(executor.submit_with(&order.work(1000), how).unwrap());
        script.resume();
        finish(handles);
        let order = order.get();
        let place = order.iter().position(|&i| i == 1000).unwrap();
        assert!(place <= 1, "{order:?}");
        let own: Vec<u32> = order.into_iter().filter(|&i| i < 1000).collect();
        assert_eq!(own, (0..100).collect::<Vec<_>>(), "in its order");
    });
}

/// Without a session threads take turns, and clones of one thread do not: a server that clones the executor
/// for each request would have no turns at all.
#[test]
fn threads_take_turns_and_clones_do_not() {
    within_limit(|| {
        let (executor, script, busy) = held(1000);
        let order = Order::default();
        let clone = executor.clone();
        let mut handles = vec![busy];
        for i in 0..50 {
            handles.push(executor.submit(&order.work(i)).unwrap());
        }
        handles.push(clone.submit(&order.work(1000)).unwrap());
        let other = std::thread::scope(|scope| {
            let submit = || executor.submit(&order.work(2000)).unwrap();
            scope.spawn(submit).join().unwrap()
        });
        handles.push(other);
        script.resume();
        finish(handles);
        let order = order.get();
        let place = |number| order.iter().position(|&i| i == number).unwrap();
        assert!(place(2000) <= 2, "{order:?}");
        assert_eq!(place(1000), 51, "{order:?}");
    });
}

#[test]
fn urgent_work_goes_first_and_the_rest_is_not_forgotten() {
    within_limit(|| {
        let (executor, script, busy) = held(1000);
        let order = Order::default();
        let mut handles = vec![busy];
        let mut submit = |number, priority| {
            let how = Submit::new().priority(priority);
            handles.push(executor.submit_with(&order.work(number), how).unwrap());
        };
        submit(1, Priority::Background);
        submit(2, Priority::Normal);
        for i in 100..200 {
            submit(i, Priority::Interactive);
        }
        script.resume();
        finish(handles);
        let order = order.get();
        assert_eq!(order[..10], (100..110).collect::<Vec<_>>());
        for number in [1, 2] {
            let place = order.iter().position(|&i| i == number).unwrap();
            assert!((10..20).contains(&place), "{order:?}");
        }
    });
}

/// What has not begun by its deadline does not run, and is as if it had never been submitted.
#[test]
fn late_work_is_not_done() {
    within_limit(|| {
        let (executor, script, busy) = held(10);
        let work = Counted::new(Act::AddOne);
        let y = work.on(&tensor(1.0));
        let handle = submit_late(&executor, &y);
        let other = executor.submit(&tensor(3.0).sqr().unwrap()).unwrap();
        script.resume();
        let error = handle.wait().unwrap_err();
        assert!(matches!(error, Error::DeadlineExceeded), "{error}");
        assert_eq!(error.to_string(), "it had not begun by its deadline");
        assert_eq!(value(&other.wait().unwrap()), 9.0);
        busy.wait().unwrap();
        assert_eq!((work.runs(), executor.stats().fragments_expired), (0, 1));
        // and again, with time enough
        let how = Submit::within(Duration::from_secs(60));
        let again = executor.submit_with(&y, how).unwrap();
        assert_eq!((value(&again.wait().unwrap()), work.runs()), (2.0, 1));
        assert!(
            matches!(handle.wait(), Err(Error::DeadlineExceeded)),
            "as it was"
        );
        drop((y, handle, again, other, busy));
        eventually("something is left", || executor.stats().live_nodes == 0);
        assert_eq!(executor.stats().queued, 0);
    });
}

/// Somebody else who wants the result has it, also if it is late for the first.
#[test]
fn a_deadline_is_lifted_by_whoever_asks_too() {
    within_limit(|| {
        for by_a_graph in [false, true] {
            let (executor, script, busy) = held(10);
            let y = tensor(1.0).exp().unwrap();
            let first = submit_late(&executor, &y);
            let z = (&y * 0.0).unwrap();
            let second = executor.submit(if by_a_graph { &z } else { &y }).unwrap();
            script.resume();
            let expected = if by_a_graph { 0.0 } else { 1f32.exp() };
            assert_eq!(value(&second.wait().unwrap()), expected);
            assert_eq!(value(&first.wait().unwrap()), 1f32.exp());
            busy.wait().unwrap();
            assert_eq!(executor.stats().fragments_expired, 0);
        }
    });
}

/// To look at it is not to want it: a cut, an explanation, a refused submission leave the deadline as it is.
#[test]
fn a_deadline_is_not_lifted_by_a_look() {
    within_limit(|| {
        let (executor, script, busy) = held(1);
        let y = tensor(1.0).sqr().unwrap();
        let first = submit_late(&executor, &y);
        let z = (&y * 0.5).unwrap();
        drop(executor.explain(&z).unwrap());
        assert!(matches!(
            executor.try_submit(&z),
            Err(Error::QueueFull { .. })
        ));
        drop(executor.submit_async(&z)); // not polled
        drop(executor.submit(&y).unwrap()); // wanted, and not any more
        script.resume();
        let error = first.wait().unwrap_err();
        assert!(matches!(error, Error::DeadlineExceeded), "{error:?}");
        busy.wait().unwrap();
    });
}

/// Of a fragment with several outputs, those that others want are computed.
#[test]
fn several_outputs_expire_each_by_itself() {
    within_limit(|| {
        let (executor, script, busy) = held(10);
        let (a, b) = (Counted::new(Act::AddOne), Counted::new(Act::AddOne));
        let (x, y) = (a.on(&tensor(1.0)), b.on(&tensor(2.0)));
        let both = submit_late(&executor, (&x, &y));
        let one = executor.submit(&y).unwrap();
        script.resume();
        assert_eq!(value(&one.wait().unwrap()), 3.0);
        assert!(matches!(both.wait(), Err(Error::DeadlineExceeded)));
        busy.wait().unwrap();
        assert_eq!(b.runs(), 1);
    });
}

#[test]
fn a_deadline_that_has_passed_is_refused() {
    let executor = cpu();
    let past = Submit::deadline(Instant::now());
    let y = tensor(1.0).exp().unwrap();
    let error = executor.submit_with(&y, past.clone()).unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded));
    let error = executor.try_submit_with(&y, past.clone()).unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded));
    let exp = executor.compile(|x: &LazyTensor| x.exp());
    assert!(exp.submit_with(&[tensor(1.0)], past.clone()).is_err());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let error = runtime.block_on(executor.submit_async_with(&y, past.clone()));
    assert!(matches!(error, Err(Error::DeadlineExceeded)));
    assert_eq!(executor.stats().live_nodes, 0);
    // a result that is there is there
    let there = executor.submit(&y).unwrap();
    there.wait().unwrap();
    assert!(executor.submit_with(&y, past).unwrap().wait().is_ok());
}

/// A full queue is waited for until the deadline and no longer.
#[test]
fn the_wait_for_room_ends_at_the_deadline() {
    within_limit(|| {
        let (executor, script, busy) = held(1);
        let queued = executor.submit(&tensor(1.0).exp().unwrap()).unwrap();
        let begin = Instant::now();
        let how = Submit::within(Duration::from_millis(20));
        let error = executor
            .submit_with(&tensor(2.0).exp().unwrap(), how)
            .unwrap_err();
        assert!(matches!(error, Error::DeadlineExceeded), "{error}");
        assert!(begin.elapsed() >= Duration::from_millis(20));
        script.resume();
        finish(vec![busy, queued]);
        assert_eq!(
            value(
                &executor
                    .submit(&tensor(0.0).exp().unwrap())
                    .unwrap()
                    .wait()
                    .unwrap()
            ),
            1.0
        );
    });
}

/// Closing tells everybody, whoever they are and however urgent.
#[test]
fn an_abort_finds_every_lane() {
    within_limit(|| {
        let (executor, script, busy) = held(100);
        let mut handles = Vec::new();
        for i in 0..30u8 {
            let priority = [
                Priority::Interactive,
                Priority::Normal,
                Priority::Background,
            ];
            let how =
                Submit::within(Duration::from_secs(60)).priority(priority[usize::from(i) % 3]);
            let how = how.session(&Session::new());
            let y = tensor(f32::from(i)).exp().unwrap();
            handles.push(executor.submit_with(&y, how).unwrap());
        }
        let closing = executor.abort();
        script.resume();
        let _ = busy.wait();
        for handle in handles {
            assert!(matches!(handle.wait(), Err(Error::Closed)));
        }
        drop(closing);
    });
}

/// Work begins until the moment of its deadline, and not at it.
#[test]
fn a_deadline_is_kept_to_the_nanosecond() {
    const LEFT: Duration = Duration::from_millis(20);
    let nanosecond = Duration::from_nanos(1);
    for (waited, begins) in [
        (LEFT - nanosecond, true),
        (LEFT, false),
        (LEFT + nanosecond, false),
    ] {
        let device = Stepped::new(|builder| builder);
        let y = tensor(3.0).sqr().unwrap();
        let how = Submit::within(LEFT);
        let handle = device.executor.submit_with(&y, how).unwrap();
        device.pass(waited);
        match handle.try_result().unwrap() {
            Ok(result) => assert!(begins && value(&result) == 9.0),
            Err(error) => {
                assert!(
                    !begins && matches!(error, Error::DeadlineExceeded),
                    "{error:?}"
                );
            }
        }
    }
}

fn patient(max_delay: Duration) -> Executor {
    let patient = Batching {
        max_delay,
        fragments: 2,
        ..Batching::default()
    };
    let builder = Executor::builder(&Device::Cpu).batching(patient);
    builder.lending(false).build().unwrap()
}

/// A row that goes well with others of its kind.
fn row(i: usize, w: &LazyTensor) -> LazyTensor {
    let x = LazyTensor::full(i as f32, (1, 256), &Device::Cpu).unwrap();
    x.exp().unwrap().matmul(w).unwrap()
}

fn weight() -> LazyTensor {
    LazyTensor::ones((256, 256), candlewick::DType::F32, &Device::Cpu).unwrap()
}

/// A batch is looked for among so many of those that wait; one behind them runs by itself.
#[test]
fn a_batch_is_looked_for_among_two_hundred_and_fifty_six() {
    for (between, batched) in [(0, 2), (1, 2), (255, 2), (256, 0), (257, 0)] {
        let executor = without_a_thread(|builder| builder);
        let (order, w) = (Order::default(), weight());
        let mut handles = vec![executor.submit(&row(1, &w)).unwrap()];
        for i in 0..between {
            handles.push(executor.submit(&order.work(i)).unwrap());
        }
        handles.push(executor.submit(&row(2, &w)).unwrap());
        assert!(executor.step());
        assert_eq!(executor.stats().fragments_batched, batched, "{between}");
        assert_eq!(order.get(), (0..between).collect::<Vec<_>>());
        finish(handles);
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// A batch that is not full waits for others, and not when it is full.
#[test]
fn a_batch_waits_for_others() {
    within_limit(|| {
        let (executor, w) = (patient(HOUR), weight());
        let first = executor.submit(&row(1, &w)).unwrap();
        eventually("begun", || executor.stats().queued == 0);
        assert!(!first.is_finished());
        let second = executor.submit(&row(2, &w)).unwrap();
        finish(vec![first, second]);
        assert_eq!(executor.stats().fragments_batched, 2);
    });
}

/// Alone it waits for as long as it was told.
#[test]
fn a_batch_waits_no_longer_than_it_was_told() {
    within_limit(|| {
        let delay = Duration::from_millis(50);
        let (executor, w) = (patient(delay), weight());
        let begin = Instant::now();
        executor.submit(&row(3, &w)).unwrap().wait().unwrap();
        assert!(begin.elapsed() >= delay);
        assert_eq!(executor.stats().fragments_batched, 0);
    });
}

/// Nor when the executor closes meanwhile, which nobody tells it: it looks.
#[test]
fn a_batch_does_not_wait_while_the_executor_closes() {
    within_limit(|| {
        for aborts in [false, true] {
            let (executor, w) = (patient(HOUR), weight());
            let first = executor.submit(&row(1, &w)).unwrap();
            eventually("begun", || executor.stats().queued == 0);
            // many times as long as it takes between two looks
            let waited = first.wait_timeout(Duration::from_millis(20));
            assert!(matches!(waited, Err(Error::Timeout(_))), "{waited:?}");
            let limit = Some(Duration::from_secs(20));
            match aborts {
                true => executor.abort_blocking(limit).unwrap(),
                false => executor.shutdown_blocking(limit).unwrap(),
            }
            assert!(first.wait().is_ok(), "it had begun");
        }
    });
}
