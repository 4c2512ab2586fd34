//! Handles off any runtime.

use crate::common::*;
use candlewick::{Cancel, Error};
use std::time::{Duration, Instant};

#[test]
fn a_wait_with_a_limit_ends_and_can_be_taken_up_again() {
    within_limit(|| {
        let (executor, script, busy) = held(8);
        let start = Instant::now();
        let error = busy.wait_timeout(Duration::from_millis(30)).unwrap_err();
        assert!(matches!(error, Error::Timeout(_)), "{error:?}");
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert!(busy.try_result().is_none() && !busy.is_finished());
        script.resume();
        assert_eq!(value(&busy.wait_timeout(Duration::MAX).unwrap()), 1.0);
        assert_eq!(value(&busy.try_result().unwrap().unwrap()), 1.0);
        assert_eq!(value(&busy.wait().unwrap()), 1.0); // again
        drop(executor);
    });
}

#[test]
fn cancel_in_each_phase() {
    within_limit(|| {
        let (executor, script, busy) = held(8);
        let op = Counted::new(Act::AddOne);
        let y = op.on(&tensor(1.0));
        let queued = executor.submit(&y).unwrap();
        let twin = queued.clone();
        assert_eq!(queued.cancel(), Cancel::Cancelled);
        assert!(matches!(twin.wait(), Err(Error::Cancelled)));
        assert_eq!(busy.cancel(), Cancel::Running);
        script.resume();
        assert_eq!(value(&busy.wait().unwrap()), 1.0);
        assert_eq!(busy.clone().cancel(), Cancel::Finished);
        // a cancelled node can be submitted again
        assert_eq!(value(&executor.submit(&y).unwrap().wait().unwrap()), 2.0);
        assert_eq!(op.runs(), 1);
    });
}

#[test]
fn what_somebody_else_wants_goes_on() {
    within_limit(|| {
        let (executor, script, _busy) = held(8);
        let y = tensor(1.0).exp().unwrap();
        let mine = executor.submit(&y).unwrap();
        let other = executor.submit(&y).unwrap(); // another submission of the same node
        assert_eq!(mine.cancel(), Cancel::Shared);
        let x = tensor(2.0).exp().unwrap();
        let base = executor.submit(&x).unwrap();
        let dependent = executor.submit(&(&x * 0.0).unwrap()).unwrap();
        assert_eq!(base.cancel(), Cancel::Shared);
        script.resume();
        assert_eq!(value(&other.wait().unwrap()), 1f32.exp());
        assert_eq!(value(&dependent.wait().unwrap()), 0.0);
    });
}

#[test]
fn waits_inside_an_operation_are_refused() {
    within_limit(|| {
        let executor = cpu();
        let inner = executor.clone();
        let (tell, told) = std::sync::mpsc::channel();
        let tell = std::sync::Mutex::new(tell);
        let op = Counted::new(Act::Call(std::sync::Arc::new(move || {
            let handle = inner.submit(&tensor(1.0).exp().unwrap()).unwrap();
            let waited = handle.wait().map(|_| ());
            let closed = inner.shutdown_blocking(None);
            tell.lock().unwrap().send((waited, closed, handle)).unwrap();
        })));
        let outer = executor.submit(&op.on(&tensor(0.0))).unwrap();
        assert_eq!(value(&outer.wait().unwrap()), 1.0);
        let (waited, closed, handle) = told.recv().unwrap();
        assert!(
            matches!(waited, Err(Error::WouldDeadlock { call: "wait" })),
            "{waited:?}"
        );
        assert!(
            matches!(closed, Err(Error::WouldDeadlock { .. })),
            "{closed:?}"
        );
        assert_eq!(value(&handle.wait().unwrap()), 1f32.exp());
    });
}

#[test]
fn nothing_public_prints_data() {
    within_limit(|| {
        let executor = cpu();
        let x = tensor(12345.0);
        let handle = executor.submit(&x).unwrap();
        handle.wait().unwrap();
        for text in [
            format!("{x:?}"),
            format!("{handle:?}"),
            format!("{executor:?}"),
        ] {
            assert!(!text.contains("12345"), "{text}");
        }
        assert_eq!(
            format!("{:?}", x.exp().unwrap()),
            "LazyTensor[[1]; f32; exp]"
        );
    });
}

/// Compiles only if these hold.
#[test]
fn auto_traits() {
    fn shared<T: Send + Sync>() {}
    fn unpin<T: Unpin>() {}
    fn clone<T: Clone>() {}
    shared::<candlewick::LazyTensor>();
    shared::<candlewick::Executor>();
    shared::<candlewick::Handle>();
    shared::<candlewick::Handle<Vec<candlewick::Tensor>>>();
    shared::<candlewick::Params>();
    shared::<candlewick::Snapshot>();
    shared::<candlewick::Error>();
    unpin::<candlewick::Handle>();
    clone::<candlewick::Handle>();
    clone::<candlewick::Error>();
    let size = std::mem::size_of::<candlewick::Handle>();
    assert!(size <= 40, "a handle has grown to {size} bytes");
}
