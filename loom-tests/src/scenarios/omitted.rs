//! What a step left out would break and no other scenario notices: found by `tests/omissions.rs`.

use super::launch::{all_ready, chain, closed, post};
use crate::runner::saw;
use crate::threads::spawn;
use crate::toy::*;

/// Two submissions of the same nodes in the same order: one may lose the first and win the second. What
/// it then sends is of the second alone, and its place is not taken for that of the first.
pub fn first_place_lost() {
    let ex = idle(2, ToyEngine::cpu());
    let [s, q, _] = chain();
    let (e, s2, q2) = (ex.clone(), s.clone(), q.clone());
    let t = spawn(move || post(&e, &[&s2, &q2]));
    let sub = post(&ex, &[&s, &q]);
    let other = t.join().unwrap();
    ex.step();
    all_ready(&sub, &[1, 11]);
    all_ready(&other, &[1, 11]);
    match sub.outputs()[0].number() == sub.outputs()[1].number() {
        true => saw("one has both"),
        false => saw("each has one"),
    }
    drop((sub, other));
    closed(&ex, &[&s, &q]);
}
