//! Tests of the line of those who wait: what is left when some of them leave it.

use crate::core::actor::line::{Line, PATIENCE};
use crate::core::store::tag::Priority::{Background, Normal};

/// Those who stay are counted and have their turns, and a producer who has left comes in anew.
#[test]
fn some_leave() {
    let mut line = Line::new();
    for (producer, item) in [(1, 1), (1, 2), (2, 10), (3, 20)] {
        line.push(producer, Normal, item);
    }
    line.retain(|&item| item == 2 || item == 20);
    assert_eq!((line.len(), line.front()), (2, Some(&2)));
    line.push(2, Normal, 11);
    let order: Vec<i32> = std::iter::from_fn(|| line.pop()).collect();
    assert_eq!(order, [2, 20, 11]);
    assert!(line.is_empty());
}

/// Turns that passed over those who have left are not counted for who comes after them.
#[test]
fn who_comes_later_waits_as_long() {
    let mut line = Line::new();
    (0..3 * PATIENCE).for_each(|item| line.push(1, Normal, item));
    line.push(2, Background, 1000);
    (1..PATIENCE).for_each(|_| assert!(line.pop() < Some(1000)));
    line.retain(|&item| item != 1000);
    line.push(2, Background, 1001);
    let order: Vec<u32> = std::iter::from_fn(|| line.pop()).collect();
    let place = order.iter().position(|&item| item == 1001);
    assert_eq!(place, Some(PATIENCE as usize));
}
