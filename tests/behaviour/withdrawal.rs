//! Work that nobody can observe any more is not done.

use crate::common::*;
use candlewick::Cancel;
use std::sync::Arc;

#[test]
fn dropping_every_handle_and_tensor_withdraws() {
    within_limit(|| {
        let (executor, script, busy) = held(8);
        let op = Counted::new(Act::AddOne);
        let y = op.on(&tensor(1.0));
        let handle = executor.submit(&y).unwrap();
        drop(handle.clone());
        drop(handle);
        assert_eq!(
            executor.stats().live_nodes,
            2,
            "the tensor still refers to it"
        );
        drop(y);
        assert_eq!(executor.stats().live_nodes, 1);
        script.resume();
        busy.wait().unwrap();
        executor.shutdown_blocking(None).unwrap();
        assert_eq!(op.runs(), 0);
    });
}

#[test]
fn a_tensor_keeps_the_work_going() {
    within_limit(|| {
        let (executor, script, _busy) = held(8);
        let op = Counted::new(Act::AddOne);
        let y = op.on(&tensor(1.0));
        drop(executor.submit(&y).unwrap());
        script.resume();
        eventually("run", || op.runs() == 1);
        assert_eq!(value(&executor.submit(&y).unwrap().wait().unwrap()), 2.0);
        assert_eq!(op.runs(), 1);
    });
}

#[test]
fn so_does_a_thread_that_used_to_wait_and_does_not() {
    within_limit(|| {
        let executor = cpu();
        for _ in 0..20 {
            executor
                .submit(&tensor(1.0).exp().unwrap())
                .unwrap()
                .wait()
                .unwrap();
        }
        let op = Counted::new(Act::AddOne);
        let y = op.on(&tensor(1.0));
        drop(executor.submit(&y).unwrap());
        eventually("run", || op.runs() == 1);
    });
}

#[test]
fn cancelling_frees_what_the_work_held() {
    within_limit(|| {
        let (executor, script, _busy) = held(8);
        let op = Counted::new(Act::AddOne);
        let handle = executor.submit(&op.on(&tensor(1.0))).unwrap();
        assert!(Arc::strong_count(&op.runs) > 1);
        let _ = handle.cancel();
        assert_eq!(
            Arc::strong_count(&op.runs),
            1,
            "the graph of a cancelled fragment is still there"
        );
        script.resume();
    });
}

#[test]
fn of_several_outputs_the_wanted_ones_are_computed() {
    within_limit(|| {
        let (executor, script, _busy) = held(8);
        let (a, b) = (Counted::new(Act::AddOne), Counted::new(Act::AddOne));
        let (x, y) = (a.on(&tensor(1.0)), b.on(&tensor(2.0)));
        let both = executor.submit((&x, &y)).unwrap();
        let one = executor.submit(&x).unwrap();
        drop((both, y));
        script.resume();
        assert_eq!(value(&one.wait().unwrap()), 2.0);
    });
}

/// A chain as long as the queue, withdrawn from its end, on a small stack.
#[test]
fn a_long_chain_of_queued_fragments_is_withdrawn_without_recursion() {
    within_limit(|| {
        let (executor, script, busy) = held(20_000);
        let small = std::thread::Builder::new().stack_size(128 << 10);
        let script_too = script.clone();
        let thread = small.spawn(move || {
            let mut last = tensor(0.0);
            let mut handle = None;
            for _ in 0..15_000 {
                last = (&last + 1.0).unwrap();
                handle = Some(executor.submit(&last).unwrap());
            }
            assert_eq!(executor.stats().live_nodes, 15_001);
            drop((last, handle));
            assert_eq!(executor.stats().live_nodes, 1);
            script_too.resume();
            executor.shutdown_blocking(None).unwrap();
            assert_eq!(executor.stats().fragments_run, 1);
        });
        thread.unwrap().join().unwrap();
        busy.wait().unwrap();
    });
}

/// Of two outputs one is given up and the other runs: the one that was given up can be asked for
/// again, by itself and in a graph.
#[test]
fn what_was_given_up_beside_another_is_computed_anew() {
    within_limit(|| {
        for late in [false, true] {
            let (executor, script, busy) = held(10);
            let (a, b) = (Counted::new(Act::AddOne), Counted::new(Act::AddOne));
            let (x, y) = (a.on(&tensor(1.0)), b.on(&tensor(2.0)));
            let both = match late {
                true => submit_late(&executor, (&x, &y)),
                false => executor.submit((&x, &y)).unwrap(),
            };
            let one = executor.submit(&y).unwrap();
            if !late {
                assert_eq!(both.cancel(), Cancel::Shared);
            }
            script.resume();
            assert_eq!(value(&one.wait().unwrap()), 3.0);
            let _ = busy.wait();
            assert!(both.wait().is_err());
            let twice = executor.submit(&(&x + &x).unwrap()).unwrap();
            assert_eq!(value(&twice.wait().unwrap()), 4.0);
            assert_eq!(value(&executor.submit(&x).unwrap().wait().unwrap()), 2.0);
            assert_eq!(b.runs(), 1);
        }
    });
}
