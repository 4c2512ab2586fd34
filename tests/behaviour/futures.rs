//! Handles and admission as futures.

use crate::common::*;
use candlewick::{Cancel, Error};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

struct Count(AtomicUsize);
impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}
fn counting() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count(AtomicUsize::new(0)));
    (count.clone(), Waker::from(count))
}
fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

#[test]
fn on_tokio_smol_and_a_hand_made_runtime() {
    within_limit(|| {
        let executor = cpu();
        let graph = || tensor(3.0).sqr().unwrap();
        let single = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let several = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap();
        for runtime in [&single, &several] {
            let nine = runtime.block_on(async { executor.submit_async(&graph()).await?.await });
            assert_eq!(value(&nine.unwrap()), 9.0);
        }
        let nine = smol::block_on(async { executor.submit_async(&graph()).await?.await });
        assert_eq!(value(&nine.unwrap()), 9.0);
        // a blocking wait on a runtime's only thread holds that thread, not the owner
        let nine = single.block_on(async { executor.submit(&graph())?.wait() });
        assert_eq!(value(&nine.unwrap()), 9.0);
        // by hand
        let mut handle = executor.submit(&graph()).unwrap();
        let (count, waker) = counting();
        let result = match poll(&mut handle, &waker) {
            Poll::Ready(result) => result,
            Poll::Pending => {
                eventually("woken", || count.0.load(SeqCst) == 1);
                let Poll::Ready(result) = poll(&mut handle, &waker) else {
                    panic!("woken for nothing")
                };
                result
            }
        };
        assert_eq!(value(&result.unwrap()), 9.0);
    });
}

#[test]
fn one_wake_for_one_result_however_often_it_is_polled() {
    within_limit(|| {
        let (executor, script, busy) = held(8);
        let mut handle = executor.submit(&tensor(1.0).exp().unwrap()).unwrap();
        let (first, w1) = counting();
        let (second, w2) = counting();
        for waker in [&w1, &w1, &w1, &w2] {
            assert!(poll(&mut handle, waker).is_pending());
        }
        let mut twin = handle.clone(); // another task
        let (third, w3) = counting();
        assert!(poll(&mut twin, &w3).is_pending());
        assert_eq!(
            [&first, &second, &third].map(|c| c.0.load(SeqCst)),
            [0, 0, 0]
        );
        script.resume();
        busy.wait().unwrap();
        eventually("woken", || {
            second.0.load(SeqCst) == 1 && third.0.load(SeqCst) == 1
        });
        assert_eq!(first.0.load(SeqCst), 0, "woken where it is polled no more");
        for _ in 0..2 {
            assert!(matches!(poll(&mut handle, &w2), Poll::Ready(Ok(_)))); // and again
        }
        assert_eq!(second.0.load(SeqCst), 1);
        drop((w1, w2, w3));
        assert_eq!(
            [&first, &second, &third].map(Arc::strong_count),
            [1, 1, 1],
            "a waker was left"
        );
    });
}

#[test]
fn a_dropped_wait_leaves_no_waker() {
    within_limit(|| {
        let (executor, script, busy) = held(8);
        let mut handle = executor.submit(&tensor(1.0).exp().unwrap()).unwrap();
        let keep = handle.clone();
        let (count, waker) = counting();
        assert!(poll(&mut handle, &waker).is_pending());
        drop((handle, waker));
        assert_eq!(Arc::strong_count(&count), 1);
        script.resume();
        busy.wait().unwrap();
        keep.wait().unwrap();
        assert_eq!(count.0.load(SeqCst), 0);
    });
}

#[test]
fn select_and_timeout_lose_nothing() {
    within_limit(|| {
        let (executor, script, _busy) = held(8);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut handle = executor
                .submit_async(&tensor(1.0).exp().unwrap())
                .await
                .unwrap();
            for _ in 0..3 {
                let late = tokio::time::timeout(Duration::from_millis(5), &mut handle).await;
                assert!(late.is_err());
            }
            tokio::select! {
                biased;
                _ = &mut handle => panic!("the device is held"),
                () = std::future::ready(()) => {}
            }
            script.resume();
            assert_eq!(value(&handle.await.unwrap()), 1f32.exp());
        });
    });
}

#[test]
fn an_aborted_task_withdraws_its_work() {
    within_limit(|| {
        let (executor, script, busy) = held(8);
        let op = Counted::new(Act::AddOne);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let graph = op.on(&tensor(1.0));
            let submitted = executor.submit_async(&graph).await.unwrap();
            drop(graph);
            let task = tokio::spawn(submitted);
            tokio::task::yield_now().await;
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        });
        script.resume();
        busy.wait().unwrap();
        executor.shutdown_blocking(None).unwrap();
        assert_eq!(op.runs(), 0);
        assert_eq!(executor.stats().fragments_cancelled, 1);
    });
}

#[test]
fn a_panicking_waker_costs_nobody_else() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            std::panic::resume_unwind(Box::new("boom"));
        }
    }
    within_limit(|| {
        let (executor, script, _busy) = held(8);
        let mut handle = executor.submit(&tensor(1.0).exp().unwrap()).unwrap();
        assert!(poll(&mut handle, &Waker::from(Arc::new(Bomb))).is_pending());
        let other = handle.clone();
        script.resume();
        assert_eq!(value(&other.wait().unwrap()), 1f32.exp());
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

#[test]
fn a_dropped_submit_async_submits_nothing() {
    within_limit(|| {
        let (executor, script, busy) = held(1);
        let op = Counted::new(Act::AddOne);
        let queued = executor.submit(&tensor(1.0).exp().unwrap()).unwrap(); // the one place
        let (_, waker) = counting();
        {
            let mut submit = pin!(executor.submit_async(&op.on(&tensor(1.0))));
            assert!(
                submit
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
        }
        let never_polled = executor.submit_async(&op.on(&tensor(1.0)));
        drop(never_polled);
        script.resume();
        busy.wait().unwrap();
        queued.wait().unwrap();
        executor.shutdown_blocking(None).unwrap();
        assert_eq!(op.runs(), 0);
        assert_eq!(executor.stats().fragments_run, 2);
    });
}

#[test]
fn a_cancelled_handle_wakes_its_task() {
    within_limit(|| {
        let (executor, script, _busy) = held(8);
        let mut handle = executor.submit(&tensor(1.0).exp().unwrap()).unwrap();
        let (count, waker) = counting();
        assert!(poll(&mut handle, &waker).is_pending());
        assert_eq!(handle.cancel(), Cancel::Cancelled);
        assert_eq!(count.0.load(SeqCst), 1);
        assert!(matches!(
            poll(&mut handle, &waker),
            Poll::Ready(Err(Error::Cancelled))
        ));
        script.resume();
    });
}
