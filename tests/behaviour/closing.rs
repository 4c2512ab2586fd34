//! Shutdown, abort, and the drop of the last executor, with whatever races with them.

use crate::common::*;
use candlewick::{Error, Health};
use std::time::Duration;

#[test]
fn shutdown_finishes_what_is_queued() {
    within_limit(|| {
        let (executor, script, busy) = held(8);
        let handles: Vec<_> = (0..5)
            .map(|i| executor.submit(&tensor(i as f32).exp().unwrap()).unwrap())
            .collect();
        let late = executor.shutdown_blocking(Some(Duration::from_millis(20)));
        assert!(matches!(late, Err(Error::Timeout(_))), "{late:?}");
        assert!(matches!(executor.health(), Health::Closing));
        let refused = executor.submit(&tensor(1.0).exp().unwrap());
        assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
        assert_eq!(refused.unwrap_err().to_string(), "the executor is closed");
        script.resume();
        smol::block_on(executor.shutdown());
        assert!(matches!(executor.health(), Health::Closed));
        busy.wait().unwrap();
        for (i, handle) in handles.iter().enumerate() {
            assert_exp(&handle.wait().unwrap(), i as f32);
        }
        executor.shutdown_blocking(None).unwrap(); // again
    });
}

#[test]
fn abort_closes_what_has_not_begun() {
    within_limit(|| {
        let (executor, script, busy) = held(8);
        let op = Counted::new(Act::AddOne);
        let y = op.on(&tensor(1.0));
        let handles = [
            executor.submit(&y).unwrap(),
            executor.submit(&(&y + 1.0).unwrap()).unwrap(),
        ];
        let aborted = executor.abort();
        script.resume();
        smol::block_on(aborted);
        assert_eq!(value(&busy.wait().unwrap()), 1.0, "it had begun");
        for handle in &handles {
            assert!(matches!(handle.wait(), Err(Error::Closed)));
        }
        assert_eq!(op.runs(), 0);
        executor.abort_blocking(None).unwrap();
    });
}

#[test]
fn dropping_the_last_executor_is_a_shutdown_without_waiting() {
    within_limit(|| {
        let (executor, script, busy) = held(8);
        let twin = executor.clone();
        let handle = executor.submit(&tensor(1.0).exp().unwrap()).unwrap();
        drop(executor);
        let other = twin.submit(&tensor(2.0).exp().unwrap()).unwrap();
        drop(twin);
        script.resume();
        busy.wait().unwrap();
        assert_eq!(value(&handle.wait().unwrap()), 1f32.exp());
        assert_eq!(value(&other.wait().unwrap()), 2f32.exp());
    });
}

#[test]
fn results_outlive_the_executor() {
    within_limit(|| {
        let executor = cpu();
        let y = tensor(1.0).exp().unwrap();
        let handle = executor.submit(&y).unwrap();
        executor.shutdown_blocking(None).unwrap();
        assert_eq!(value(&handle.wait().unwrap()), 1f32.exp());
        assert_eq!(
            value(&executor.submit(&y).unwrap().wait().unwrap()),
            1f32.exp()
        );
        drop((handle, y));
        assert_eq!(executor.stats().live_nodes, 0);
        assert_eq!(executor.stats().live_bytes, 0);
    });
}

#[test]
fn waiters_in_line_are_refused_by_closing() {
    within_limit(|| {
        let (executor, script, busy) = held(1);
        let queued = executor.submit(&tensor(1.0).exp().unwrap()).unwrap();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| executor.submit(&tensor(2.0).exp().unwrap())?.wait()))
                .collect();
            let closing = executor.shutdown();
            script.resume();
            for thread in waiting {
                match thread.join().unwrap() {
                    Ok(result) => assert_eq!(value(&result), 2f32.exp()), // it came before
                    Err(error) => assert!(matches!(error, Error::Closed), "{error:?}"),
                }
            }
            smol::block_on(closing);
        });
        busy.wait().unwrap();
        queued.wait().unwrap();
    });
}

/// Submitters against the three ways of closing: every handle resolves.
#[test]
fn every_handle_resolves_whatever_races() {
    within_limit(|| {
        for round in 0..120 {
            let executor = cpu();
            std::thread::scope(|scope| {
                for thread in 0..3 {
                    let executor = executor.clone();
                    scope.spawn(move || {
                        for i in 0..50 {
                            let graph = tensor(i as f32).sqr().unwrap();
                            match (thread % 2, executor.submit(&graph)) {
                                (_, Err(Error::Closed)) => return,
                                (0, Ok(handle)) => match handle.wait() {
                                    Ok(result) => assert_eq!(value(&result), (i * i) as f32),
                                    Err(error) => {
                                        assert!(matches!(error, Error::Closed), "{error:?}")
                                    }
                                },
                                (_, Ok(handle)) => {
                                    let result = smol::block_on(handle);
                                    assert!(
                                        matches!(result, Ok(_) | Err(Error::Closed)),
                                        "{result:?}"
                                    );
                                }
                                (_, Err(other)) => panic!("{other:?}"),
                            }
                        }
                    });
                }
                match round % 3 {
                    0 => executor.shutdown_blocking(None).unwrap(),
                    1 => executor.abort_blocking(None).unwrap(),
                    _ => drop(executor),
                }
            });
        }
    });
}
