//! Two products of the same shape in one step: updates of low rank, and gates.

use super::{Lies, assert_close, bits, executor, follow, lies, operand, random, run};
use candlewick::LazyTensor;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Two products of the same shape under one program, which are one step: updates of low rank,
    /// gates, also of whole rows and of batches.
    #[test]
    fn two_products_at_once_agree_with_eager(
        batch in 1usize..4,
        (m, k, n) in (1usize..40, 1usize..40, 1usize..90),
        rank in 1usize..9,
        gated in any::<bool>(),
        lies in (lies(), lies(), lies()),
        ops in prop::collection::vec(0u8..8, 0..3),
        own in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let (x, tx) = operand(&[batch, m, k], lies.0, seed);
        let right = |rows: usize, cols: usize| match own {
            true => vec![batch, rows, cols],
            false => vec![rows, cols],
        };
        let (w, tw) = operand(&right(k, n), lies.1, seed ^ 1);
        let (a, ta) = operand(&right(k, rank), Lies::InOrder, seed ^ 2);
        let (b, tb) = operand(&right(rank, n), lies.2, seed ^ 3);
        let (bias, like) = (random(&[n], seed ^ 4), random(&[batch, m, n], seed ^ 5));
        let executor = executor();
        // the third has all weights packed
        for _ in 0..3 {
            let base = (x.broadcast_matmul(&w).unwrap(), tx.broadcast_matmul(&tw).unwrap());
            let thin = x.broadcast_matmul(&a).unwrap();
            let update = thin.broadcast_matmul(&b).unwrap();
            let eager = tx.broadcast_matmul(&ta).unwrap().broadcast_matmul(&tb).unwrap();
            let (y, eager) = match gated {
                true => ((base.0 * 0.1).unwrap().silu().unwrap() * update, (base.1 * 0.1).unwrap().silu().unwrap() * eager),
                false => (base.0 + (update * 0.1).unwrap(), base.1 + (eager * 0.1).unwrap()),
            };
            let (y, eager) = ((y.unwrap() * 0.1).unwrap(), (eager.unwrap() * 0.1).unwrap());
            let plan = executor.explain(&y).unwrap().to_string();
            // rows of a batch that do not follow one another are not joined, but those of the update
            let alike = own || batch == 1 || matches!(lies.0, Lies::InOrder);
            prop_assert!(!alike || plan.contains("beside"), "{}", plan);
            let (y, eager) = follow(&ops, y, eager, &bias, &like);
            assert_close(&run(&executor, &y), &eager, 1e-4);
        }
    }
}

/// Neither of two products at once depends on the rows beside its own.
#[test]
fn a_row_of_two_products_is_the_same_beside_any_others() {
    let executor = executor();
    let (k, n) = (300, 470);
    let x = random(&[90, k], 1);
    let weight = |dims: &[usize], seed| LazyTensor::from(random(dims, seed));
    let (gate, up) = (weight(&[n, k], 2).t().unwrap(), weight(&[k, n], 3));
    let (a, b) = (weight(&[k, 8], 4), weight(&[8, n], 5));
    for gated in [true, false] {
        let rows = |start: usize, len: usize| {
            let x = LazyTensor::from(x.narrow(0, start, len).unwrap());
            let one = x.matmul(&gate).unwrap();
            let y = match gated {
                true => one.silu().unwrap() * x.matmul(&up).unwrap(),
                false => one + x.lora(&a, &b, 0.5).unwrap(),
            };
            let plan = executor.explain(y.as_ref().unwrap()).unwrap();
            assert_eq!(plan.steps(), if gated { 1 } else { 2 }, "{plan}");
            bits(&run(&executor, &y.unwrap()))
        };
        let all = rows(0, 90);
        for (start, len) in [(0, 1), (3, 2), (10, 7), (20, 8), (30, 9), (0, 90), (20, 64)] {
            let want = &all[start * n..(start + len) * n];
            assert_eq!(rows(start, len), want, "{len} rows from {start}");
        }
    }
}
