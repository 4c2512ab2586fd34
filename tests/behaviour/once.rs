//! What is submitted is computed once, and kept while anyone refers to it.

use crate::common::*;
use candlewick::{Device, Error, Executor};
use std::sync::Barrier;

#[test]
fn a_result_is_used_by_later_graphs_and_not_computed_again() {
    within_limit(|| {
        let (executor, op) = (cpu(), Counted::new(Act::AddOne));
        let y = op.on(&tensor(1.0));
        assert_eq!(value(&executor.submit(&y).unwrap().wait().unwrap()), 2.0);
        let z = (&y + &y).unwrap();
        assert_eq!(value(&executor.submit(&z).unwrap().wait().unwrap()), 4.0);
        assert_eq!(value(&executor.submit(&y).unwrap().wait().unwrap()), 2.0);
        assert_eq!(op.runs(), 1);
    });
}

#[test]
fn also_before_it_is_there() {
    within_limit(|| {
        let (executor, script, _busy) = held(8);
        let op = Counted::new(Act::AddOne);
        let y = op.on(&tensor(1.0));
        let first = executor.submit(&y).unwrap();
        let second = executor.submit(&(&y * 3.0).unwrap()).unwrap();
        assert!(!first.is_finished() && !second.is_finished());
        script.resume();
        assert_eq!(value(&second.wait().unwrap()), 6.0);
        assert_eq!(op.runs(), 1);
    });
}

/// But for the rare race in which a fragment computes a node inside itself, because the claim on it is
/// younger and has not begun: that is counted.
#[test]
fn threads_that_race_for_one_node_compute_it_once() {
    within_limit(|| {
        let executor = cpu();
        for _ in 0..300 {
            let op = Counted::new(Act::AddOne);
            let y = op.on(&tensor(1.0));
            let before = executor.stats().nodes_recomputed;
            let start = Barrier::new(4);
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (executor, y, start) = (&executor, &y, &start);
                    scope.spawn(move || {
                        start.wait();
                        let result = match thread % 2 {
                            0 => executor.submit(y).unwrap().wait().unwrap(),
                            _ => {
                                executor
                                    .submit((y, &(y + 0.0).unwrap()))
                                    .unwrap()
                                    .wait()
                                    .unwrap()
                                    .0
                            }
                        };
                        assert_eq!(value(&result), 2.0);
                    });
                }
            });
            let recomputed = executor.stats().nodes_recomputed - before;
            assert_eq!(op.runs() as u64, 1 + recomputed);
        }
    });
}

/// Two requests for several outputs that overlap and depend on each other crosswise: each is
/// computed once but for what is counted, and neither waits for the other for ever.
#[test]
fn overlapping_requests_do_not_wait_in_a_circle() {
    within_limit(|| {
        let executor = cpu();
        for _ in 0..300 {
            let ops: Vec<_> = (0..4).map(|_| Counted::new(Act::AddOne)).collect();
            let (q, s) = (ops[0].on(&tensor(1.0)), ops[1].on(&tensor(10.0)));
            let (p, r) = (ops[2].on(&q), ops[3].on(&s));
            let before = executor.stats().nodes_recomputed;
            let start = Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    let (a, b) = executor.submit((&p, &s)).unwrap().wait().unwrap();
                    assert_eq!((value(&a), value(&b)), (3.0, 11.0));
                });
                scope.spawn(|| {
                    start.wait();
                    let (a, b, c) = executor.submit((&q, &s, &r)).unwrap().wait().unwrap();
                    assert_eq!((value(&a), value(&b), value(&c)), (2.0, 11.0, 12.0));
                });
            });
            let recomputed = executor.stats().nodes_recomputed - before;
            let s_runs = ops[1].runs() as u64;
            assert!((1..=1 + recomputed).contains(&s_runs), "{s_runs}");
            assert_eq!((ops[2].runs(), ops[3].runs()), (1, 1));
        }
    });
}

#[test]
fn a_chain_of_submitted_states_gives_back_the_old_ones() {
    within_limit(|| {
        let executor = cpu();
        let mut state = tensor(0.0);
        for step in 1..=5000 {
            state = (&state + 1.0).unwrap();
            let result = executor.submit(&state).unwrap().wait().unwrap();
            assert_eq!(value(&result), step as f32);
            assert!(executor.stats().live_nodes <= 2, "{:?}", executor.stats());
        }
    });
}

#[test]
fn outputs_may_repeat_and_may_be_leaves() {
    within_limit(|| {
        let executor = cpu();
        let (x, op) = (tensor(1.0), Counted::new(Act::AddOne));
        let y = op.on(&x);
        let [a, b, c] = executor.submit([&y, &x, &y]).unwrap().wait().unwrap();
        assert_eq!([value(&a), value(&b), value(&c)], [2.0, 1.0, 2.0]);
        assert_eq!(op.runs(), 1);
        let none: Vec<candlewick::Tensor> = executor
            .submit(&Vec::<candlewick::LazyTensor>::new())
            .unwrap()
            .wait()
            .unwrap();
        assert!(none.is_empty());
    });
}

/// Among few outputs equal ones are found one by one, among more by a table: the last of the few, the first of
/// the more, and each of them again.
#[test]
fn an_output_that_is_asked_for_twice_is_computed_once_among_few_and_among_many() {
    within_limit(|| {
        let executor = cpu();
        for count in [1, 2, 7, 8, 9, 10, 40] {
            let op = Counted::new(Act::AddOne);
            let nodes: Vec<_> = (0..count).map(|i| op.on(&tensor(i as f32))).collect();
            // each a second time behind all, then each of them beside itself
            let again = nodes.iter().chain(&nodes);
            let outputs: Vec<_> = again.chain(nodes.iter().flat_map(|y| [y, y])).collect();
            let results = executor.submit(&outputs[..]).unwrap().wait().unwrap();
            assert_eq!(op.runs(), count);
            assert_eq!(executor.stats().live_nodes, count);
            let at = |i: usize| {
                if i < 2 * count {
                    i % count
                } else {
                    i / 2 - count
                }
            };
            for (i, result) in results.iter().enumerate() {
                assert_eq!(value(result), at(i) as f32 + 1.0, "output {i} of {count}");
            }
        }
    });
}

#[test]
fn another_executor_refuses_it() {
    within_limit(|| {
        let (one, other) = (cpu(), Executor::new(&Device::Cpu).unwrap());
        let y = tensor(1.0).exp().unwrap();
        one.submit(&y).unwrap().wait().unwrap();
        let error = other.submit(&(&y + 1.0).unwrap()).unwrap_err();
        assert!(matches!(error, Error::ForeignExecutor { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "a tensor ([1] f32) that was submitted to another executor"
        );
    });
}
