//! The bounded queue.

use crate::common::*;
use candlewick::{Device, Error, Executor, LazyTensor};
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[test]
fn full_is_a_value_with_a_reason_and_nothing_stays_claimed() {
    within_limit(|| {
        let (executor, script, busy) = held(2);
        let graphs: Vec<_> = (0..3).map(|i| tensor(i as f32).exp().unwrap()).collect();
        let accepted: Vec<_> = graphs[..2]
            .iter()
            .map(|g| executor.try_submit(g).unwrap())
            .collect();
        let error = executor.try_submit(&graphs[2]).unwrap_err();
        assert!(
            matches!(error, Error::QueueFull { capacity: 2, .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("at most 2 fragments"), "{error}");
        assert_eq!(executor.stats().queued, 2);
        assert_eq!(
            executor.stats().live_nodes,
            3,
            "the refused one was claimed"
        );
        script.resume();
        busy.wait().unwrap();
        accepted.iter().for_each(|h| {
            h.wait().unwrap();
        });
        assert_eq!(
            value(&executor.submit(&graphs[2]).unwrap().wait().unwrap()),
            2f32.exp()
        );
    });
}

#[test]
fn bytes_of_host_data_are_bounded() {
    within_limit(|| {
        let script = candlewick::device::Script::new();
        let builder = Executor::builder(&Device::Cpu)
            .queue_bytes(4000)
            .simulated(&script);
        let executor = builder.build().unwrap();
        script.hold();
        let busy = executor.submit(&tensor(0.0).exp().unwrap()).unwrap();
        script.wait_until_held();
        let host = |n: usize| {
            LazyTensor::from_vec(vec![1f32; n], n, &Device::Cpu)
                .unwrap()
                .exp()
                .unwrap()
        };
        let first = executor.try_submit(&host(600)).unwrap();
        assert_eq!(executor.stats().queued_bytes, 2400);
        assert!(matches!(
            executor.try_submit(&host(500)),
            Err(Error::QueueFull { bytes: 2000, .. })
        ));
        let error = executor.submit(&host(1001)).unwrap_err();
        assert!(
            matches!(
                error,
                Error::TooLarge {
                    bytes: 4004,
                    capacity_bytes: 4000
                }
            ),
            "{error:?}"
        );
        // what fills it to the last byte is not too large
        let rest = executor.try_submit(&host(400)).unwrap();
        assert_eq!(executor.stats().queued_bytes, 4000);
        assert!(executor.try_submit(&host(1)).is_err());
        // a tensor that exists does not count
        let wrapped = LazyTensor::from(
            candlewick::Tensor::ones(5000, candlewick::DType::F32, &Device::Cpu).unwrap(),
        );
        let second = executor.try_submit(&wrapped.exp().unwrap()).unwrap();
        script.resume();
        for handle in [&busy, &first, &rest, &second] {
            handle.wait().unwrap();
        }
        assert_eq!(executor.stats().queued_bytes, 0);
        let whole = executor.try_submit(&host(1000)).unwrap();
        assert_eq!(whole.wait().unwrap().dims(), [1000]);
    });
}

/// One line, for tasks and (by the same future) for threads: let in as they came, but for the turn of the
/// thread, which is another producer.
#[test]
fn first_come_first_served() {
    within_limit(|| {
        let device = Stepped::new(|builder| builder.queue_capacity(1));
        device.pass(Duration::from_secs(3600)); // so that no grant lapses by the thread's clock
        let executor = &device.executor;
        let square = |x: f32| tensor(x).sqr().unwrap();
        let queued = executor.submit(&square(8.0)).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut poll = |submit: &mut _| Future::poll(Pin::new(submit), &mut cx);
        let mut line: Vec<_> = (0..6)
            .map(|i| executor.submit_async(&square(i as f32)))
            .collect();
        assert!(line.iter_mut().all(|submit| poll(submit).is_pending()));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| executor.submit(&square(9.0))?.wait());
            for i in 0..6 {
                let mut handle = None;
                eventually("let in", || {
                    device.step();
                    let later = &mut line[i + 1..];
                    assert!(later.iter_mut().all(|submit| poll(submit).is_pending()));
                    if let Poll::Ready(submitted) = poll(&mut line[i]) {
                        handle = Some(submitted.unwrap());
                    }
                    handle.is_some()
                });
                device.step();
                let result = handle.unwrap().try_result().unwrap();
                assert_eq!(value(&result.unwrap()), (i * i) as f32);
            }
            eventually("the thread's", || {
                device.step();
                thread.is_finished()
            });
            assert_eq!(value(&thread.join().unwrap().unwrap()), 81.0);
        });
        assert!(queued.is_finished());
        assert_eq!(executor.stats().fragments_run, 8);
    });
}

/// Who was let in has this long to come for it; then it is the next one's, and he stands in line anew.
#[test]
fn a_grant_lapses_after_a_tenth_of_a_second() {
    const GRANT: Duration = Duration::from_millis(100);
    let nanosecond = Duration::from_nanos(1);
    for comes_in_time in [true, false] {
        let device = Stepped::new(|builder| builder.queue_capacity(1));
        let square = |x: f32| tensor(x).sqr().unwrap();
        let _queued = device.executor.submit(&square(1.0)).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut poll = |submit: &mut _| Future::poll(Pin::new(submit), &mut cx);
        let mut slow = device.executor.submit_async(&square(2.0));
        let mut behind = device.executor.submit_async(&square(3.0));
        assert!(poll(&mut slow).is_pending() && poll(&mut behind).is_pending());
        device.step();
        device.pass(GRANT - nanosecond);
        assert!(poll(&mut behind).is_pending());
        if comes_in_time {
            assert!(poll(&mut slow).is_ready());
            continue;
        }
        device.pass(nanosecond);
        assert!(poll(&mut slow).is_pending());
        assert!(poll(&mut behind).is_ready());
        device.step();
        assert!(poll(&mut slow).is_ready());
    }
}

#[test]
fn each_producer_is_served_in_its_order() {
    within_limit(|| {
        let executor = cpu();
        let seen = Mutex::new(Vec::new());
        let seen: &'static Mutex<Vec<usize>> = Box::leak(Box::new(seen));
        let handles: Vec<_> = (0..200)
            .map(|i| {
                let note = move || seen.lock().unwrap().push(i);
                let op = Counted::new(Act::Call(std::sync::Arc::new(note)));
                executor.submit(&op.on(&tensor(0.0))).unwrap()
            })
            .collect();
        handles.iter().for_each(|h| {
            h.wait().unwrap();
        });
        assert_eq!(*seen.lock().unwrap(), (0..200).collect::<Vec<_>>());
    });
}

/// Futures that were polled and then forgotten: one that stands in line, and one that was let in. Others go on,
/// and the executor closes.
#[test]
fn forgotten_futures_hold_up_nobody() {
    within_limit(|| {
        let (executor, script, busy) = held(1);
        let queued = executor.submit(&tensor(1.0).sqr().unwrap()).unwrap();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for i in 0..3 {
            let mut submit = Box::pin(executor.submit_async(&tensor(i as f32).sqr().unwrap()));
            assert!(submit.as_mut().poll(&mut cx).is_pending());
            std::mem::forget(submit);
        }
        script.resume();
        busy.wait().unwrap();
        queued.wait().unwrap();
        // each of the three is granted the one place, and loses it after a while
        let after = executor.submit(&tensor(5.0).sqr().unwrap()).unwrap();
        assert_eq!(value(&after.wait().unwrap()), 25.0);
        let awaited = smol::block_on(executor.run_async(&tensor(6.0).sqr().unwrap()));
        assert_eq!(value(&awaited.unwrap()), 36.0);
        // and one that holds the place when the executor closes
        let (again, script, busy) = held(1);
        let queued = again.submit(&tensor(1.0).sqr().unwrap()).unwrap();
        let mut submit = Box::pin(again.submit_async(&tensor(2.0).sqr().unwrap()));
        assert!(submit.as_mut().poll(&mut cx).is_pending());
        std::mem::forget(submit);
        script.resume();
        busy.wait().unwrap();
        queued.wait().unwrap();
        let limit = Some(std::time::Duration::from_secs(20));
        again.shutdown_blocking(limit).expect("closes");
        executor.shutdown_blocking(limit).expect("closes");
    });
}

/// A grant that was forgotten lapses while a ticket is in flight, whose limit is much later.
#[test]
fn a_forgotten_grant_lapses_beside_a_ticket() {
    within_limit(|| {
        let (executor, script, busy) = held(1);
        script.latency(Duration::ZERO, Duration::from_secs(3));
        let square = |x: f32| executor.submit_async(&tensor(x).sqr().unwrap());
        let queued = executor.submit(&tensor(1.0).sqr().unwrap()).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut forgotten = Box::pin(square(2.0));
        assert!(forgotten.as_mut().poll(&mut cx).is_pending());
        std::mem::forget(forgotten);
        let mut after = Box::pin(square(3.0));
        assert!(after.as_mut().poll(&mut cx).is_pending());
        script.resume();
        eventually("the first is issued", || script.tickets() >= 1);
        script.latency(Duration::ZERO, Duration::ZERO);
        let after = smol::block_on(after).unwrap(); // granted after 100 ms
        assert!(!busy.is_finished(), "the grant lapsed with the ticket");
        assert_eq!(value(&after.wait().unwrap()), 9.0);
        busy.wait().unwrap();
        queued.wait().unwrap();
        drop((busy, queued, after));
        assert_eq!(executor.stats().live_nodes, 0);
    });
}

/// The time of a submission is in proportion to its outputs.
#[test]
fn many_outputs_are_submitted_quickly() {
    within_limit(|| {
        let x = tensor(1.0);
        // each on an executor of its own: a plan that is known would not be made again
        let time = |count: usize| {
            let executor = cpu();
            let outputs: Vec<_> = (0..count).map(|i| (&x + i as f64).unwrap()).collect();
            let start = std::time::Instant::now();
            let handle = executor.submit(&outputs).unwrap();
            let time = start.elapsed();
            let results = handle.wait().unwrap();
            assert_eq!(value(&results[count - 1]), count as f32);
            time
        };
        let small = (0..3).map(|_| time(4_000)).min().unwrap();
        let large = (0..3).map(|_| time(64_000)).min().unwrap();
        println!("4000 outputs {small:?}, 64000 outputs {large:?}");
        assert!(
            large < small * 16 * 6,
            "{small:?} and {large:?}: more than in proportion"
        );
    });
}
