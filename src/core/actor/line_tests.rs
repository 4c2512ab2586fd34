use super::*;
use proptest::prelude::*;

/// What is taken, in its order.
fn take_where<T>(line: &mut Line<T>, most: usize, look: impl FnMut(&T) -> Look) -> Vec<T> {
    let mut taken = Vec::new();
    line.take_where(most, &mut taken, look);
    taken
}

fn line(items: &[(u64, Priority, u32)]) -> Line<u32> {
    let mut line = Line::new();
    for &(producer, priority, item) in items {
        line.push(producer, priority, item);
    }
    line
}

fn drain(line: &mut Line<u32>) -> Vec<u32> {
    std::iter::from_fn(|| line.pop()).collect()
}

use Priority::{Background, Interactive, Normal};

#[test]
fn producers_take_turns() {
    let flood = (0..5).map(|i| (7, Normal, i));
    let others = [(8, Normal, 10), (9, Normal, 20), (8, Normal, 11)];
    let mut line = line(&flood.chain(others).collect::<Vec<_>>());
    assert_eq!(drain(&mut line), [0, 10, 20, 1, 11, 2, 3, 4]);
    assert!(line.is_empty());
}

/// Who comes back after his last one stands behind those who are waiting.
#[test]
fn nobody_gets_two_turns_in_a_row() {
    let mut line = line(&[(1, Normal, 0), (2, Normal, 10), (2, Normal, 11)]);
    assert_eq!(line.pop(), Some(0));
    line.push(1, Normal, 1);
    assert_eq!(drain(&mut line), [10, 1, 11]);
}

#[test]
fn urgent_goes_first() {
    let mut line = line(&[
        (1, Background, 0),
        (1, Normal, 1),
        (2, Interactive, 2),
        (1, Interactive, 3),
    ]);
    assert_eq!(drain(&mut line), [2, 3, 1, 0]);
}

#[test]
fn a_front_is_before_the_producers_own() {
    let mut line = line(&[(1, Normal, 1), (2, Normal, 10)]);
    line.push_front(2, Normal, 9);
    line.push_front(3, Normal, 30);
    assert_eq!(drain(&mut line), [1, 9, 30, 10]);
}

#[test]
fn what_is_less_urgent_has_its_turn() {
    let mut line = line(&[(1, Background, 1000), (1, Normal, 500)]);
    for i in 0..100 {
        line.push(2, Interactive, i);
    }
    let order = drain(&mut line);
    let at = |item| order.iter().position(|&i| i == item).unwrap() as u32;
    assert!((PATIENCE..=PATIENCE + 1).contains(&at(1000)), "{order:?}");
    assert!((PATIENCE..=PATIENCE + 1).contains(&at(500)), "{order:?}");
}

#[test]
fn those_that_are_taken_come_from_all_in_turns() {
    let mut line = line(&[
        (1, Normal, 0),
        (1, Normal, 1),
        (1, Normal, 2),
        (2, Normal, 10),
        (3, Normal, 20),
        (3, Normal, 21),
    ]);
    assert_eq!(line.pop(), Some(0));
    let mut left = 4;
    let taken = take_where(&mut line, 100, |_| {
        left -= 1;
        if left < 0 { Look::Stop } else { Look::Take }
    });
    assert_eq!(taken, [10, 20, 1, 21]);
    assert_eq!(drain(&mut line), [2]);
}

/// A batch takes along nobody who is less urgent than its first.
#[test]
fn the_less_urgent_do_not_ride_along() {
    let mut line = line(&[
        (1, Normal, 0),
        (2, Background, 1),
        (3, Normal, 2),
        (4, Interactive, 3),
    ]);
    assert_eq!(line.pop(), Some(3));
    assert_eq!(take_where(&mut line, 100, |_| Look::Take), [] as [u32; 0]);
    assert_eq!(line.pop(), Some(0));
    assert_eq!(take_where(&mut line, 100, |_| Look::Take), [2]);
    line.push(5, Interactive, 4);
    assert_eq!(line.pop(), Some(4));
    assert_eq!(line.pop(), Some(1));
    assert!(line.is_empty());
}

#[test]
fn no_more_are_looked_at_than_asked_for() {
    let items: Vec<_> = (0..50).map(|i| (u64::from(i % 7), Normal, i)).collect();
    let mut line = line(&items);
    line.pop();
    let mut looked = 0;
    take_where(&mut line, 10, |_| {
        looked += 1;
        Look::Leave
    });
    assert_eq!(looked, 10);
    assert_eq!(drain(&mut line).len(), 49);
}

#[derive(Clone, Debug)]
enum Step {
    Push(u64, u8),
    Front(u64, u8),
    Pop,
    Take(u8, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4u64, 0..3u8).prop_map(|(p, c)| Step::Push(p, c)),
        1 => (0..4u64, 0..3u8).prop_map(|(p, c)| Step::Front(p, c)),
        3 => Just(Step::Pop),
        1 => (1..5u8, 0..20usize).prop_map(|(n, most)| Step::Take(n, most)),
    ]
}

proptest! {
    /// Whatever is done: everything that went in comes out, once; what one producer pushed at one
    /// priority is popped in its order; nobody of a priority is passed over for ever.
    #[test]
    fn nothing_is_lost_and_nobody_is_forgotten(steps in prop::collection::vec(step(), 0..200)) {
        let classes = [Interactive, Normal, Background];
        let mut line = Line::new();
        let (mut next, mut out) = (0u32, Vec::new());
        let mut model: FxHashMap<(u64, u8), VecDeque<u32>> = FxHashMap::default();
        let mut waited = [0u32; 3];
        for step in steps {
            match step {
                Step::Push(p, c) => {
                    line.push(p, classes[c as usize], (p, c, next));
                    model.entry((p, c)).or_default().push_back(next);
                    next += 1;
                }
                Step::Front(p, c) => {
                    line.push_front(p, classes[c as usize], (p, c, next));
                    model.entry((p, c)).or_default().push_front(next);
                    next += 1;
                }
                Step::Pop => match line.pop() {
                    None => prop_assert!(model.values().all(VecDeque::is_empty)),
                    Some((p, c, item)) => {
                        prop_assert_eq!(model.get_mut(&(p, c)).unwrap().pop_front(), Some(item));
                        out.push(item);
                        for (class, waited) in waited.iter_mut().enumerate() {
                            let waits = model.iter().any(|(key, q)| key.1 as usize == class && !q.is_empty());
                            *waited = if class == c as usize || !waits { 0 } else { *waited + 1 };
                            prop_assert!(*waited <= PATIENCE + 2);
                        }
                    }
                },
                Step::Take(n, most) => {
                    let mut count = 0;
                    let taken = take_where(&mut line, most, |_| {
                        count += 1;
                        if count % n == 0 { Look::Take } else { Look::Leave }
                    });
                    prop_assert!(count as usize <= most);
                    for (p, c, item) in taken {
                        let queue = model.get_mut(&(p, c)).unwrap();
                        let at = queue.iter().position(|&i| i == item);
                        prop_assert!(at.is_some());
                        queue.remove(at.unwrap());
                        out.push(item);
                    }
                    for (class, waited) in waited.iter_mut().enumerate() {
                        let waits = model.iter().any(|(key, q)| key.1 as usize == class && !q.is_empty());
                        if !waits { *waited = 0; }
                    }
                }
            }
        }
        while let Some((_, _, item)) = line.pop() {
            out.push(item);
        }
        prop_assert!(line.is_empty());
        out.sort_unstable();
        prop_assert_eq!(out, (0..next).collect::<Vec<_>>());
    }
}

/// Those who stay are counted and have their turns, and a producer who has left comes in anew.
#[test]
fn some_leave() {
    let mut line = line(&[
        (1, Normal, 1),
        (1, Normal, 2),
        (2, Normal, 10),
        (3, Normal, 20),
    ]);
    line.retain(|&item| item == 2 || item == 20);
    assert_eq!((line.len(), line.front()), (2, Some(&2)));
    line.push(2, Normal, 11);
    assert_eq!(drain(&mut line), [2, 20, 11]);
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
    let place = drain(&mut line).iter().position(|&item| item == 1001);
    assert_eq!(place, Some(PATIENCE as usize));
}

/// A lane that is nobody's any more becomes another producer's.
#[test]
fn a_lane_changes_hands() {
    let mut line = line(&[(1, Normal, 0)]);
    assert_eq!(line.pop(), Some(0));
    for item in [10, 11] {
        line.push(2, Normal, item);
        assert_eq!(line.pop(), Some(item));
    }
}
