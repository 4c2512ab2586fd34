//! What is ready to run, and whose turn it is.
//!
//! First in, first out for each producer; turns among the producers of one priority; what is more
//! urgent before what is less. No more than [`PATIENCE`] turns pass over what is less urgent.

use crate::core::store::tag::Priority;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// How many turns may pass over work that is less urgent before that has one.
pub const PATIENCE: u32 = 16;

/// From the most urgent to the least.
const CLASSES: usize = Priority::Background as usize + 1;

/// Those who wait for their turn.
#[derive(Debug)]
pub struct Line<T> {
    classes: [Class<T>; CLASSES],
    /// The priority of who had the last turn.
    leader: usize,
    len: usize,
}

/// Those of one priority.
#[derive(Debug)]
struct Class<T> {
    lanes: Vec<Lane<T>>,
    /// Of `lanes`, those that are nobody's: with the memory that they have.
    free: Vec<usize>,
    of_producer: FxHashMap<u64, usize>,
    /// Of `lanes`, those that are not empty, by turn.
    turns: VecDeque<usize>,
    /// Turns of others since the last one here, or since it was empty.
    passed: u32,
}

/// Those of one producer.
#[derive(Debug)]
struct Lane<T> {
    producer: u64,
    queue: VecDeque<T>,
}

/// What is to become of one who was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It leaves the line.
    Take,
    /// It stays where it is.
    Leave,
    /// It stays, and nobody else is looked at.
    Stop,
}

impl<T> Line<T> {
    /// Nobody waits.
    pub fn new() -> Self {
        Self {
            classes: std::array::from_fn(|_| Class::default()),
            leader: 0,
            len: 0,
        }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Behind the others of the same producer and priority.
    pub fn push(&mut self, producer: u64, priority: Priority, item: T) {
        let class = &mut self.classes[priority as usize];
        class.lane(producer).queue.push_back(item);
        self.len += 1;
    }

    /// Before the others of the same producer and priority.
    pub fn push_front(&mut self, producer: u64, priority: Priority, item: T) {
        let class = &mut self.classes[priority as usize];
        class.lane(producer).queue.push_front(item);
        self.len += 1;
    }

    /// The class that has the next turn.
    fn next(&self) -> Option<usize> {
        let impatient = |class: &Class<T>| class.passed >= PATIENCE;
        let aged = self.classes.iter().rposition(impatient);
        aged.or_else(|| self.classes.iter().position(|class| !class.is_empty()))
    }

    /// Whose turn it is, who stays.
    pub fn front(&self) -> Option<&T> {
        let class = &self.classes[self.next()?];
        class.lanes[*class.turns.front()?].queue.front()
    }

    /// Whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let waits = |class: &&mut Class<T>| !class.is_empty();
        let leader = self.next()?;
        let (more, less) = self.classes.split_at_mut(leader + 1);
        less.iter_mut()
            .filter(waits)
            .for_each(|class| class.passed += 1);
        self.leader = leader;
        self.len -= 1;
        more.last_mut()?.pop()
    }

    /// One of this priority has the turn, which did not stand in line.
    pub fn lead(&mut self, priority: Priority) {
        self.leader = priority as usize;
    }

    /// Whose turn it is, if that is one as urgent as who had the last turn.
    pub fn pop_same(&mut self) -> Option<T> {
        let same = self.next() == Some(self.leader);
        same.then(|| self.pop()).flatten()
    }

    /// Looks at no more than `most` of those that are as urgent as who had the last turn: one of each
    /// producer, then another of each, and so on. Those that are taken go into `taken` one by one. `look`
    /// does not panic.
    pub fn take_where(
        &mut self,
        most: usize,
        taken: &mut impl Extend<T>,
        mut look: impl FnMut(&T) -> Look,
    ) {
        let (mut left, mut count) = (most, 0);
        let mut look = |item: &T| {
            let found = if left == 0 { Look::Stop } else { look(item) };
            left = if found == Look::Stop { 0 } else { left - 1 };
            found
        };
        let len = &mut self.len;
        let mut take = |item: Option<T>| {
            *len -= usize::from(item.is_some());
            count += usize::from(item.is_some());
            taken.extend(item);
            count
        };
        self.classes[self.leader].take_where(&mut look, &mut take);
    }

    /// Keeps only those of which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut left = 0;
        for class in &mut self.classes {
            for lane in &mut class.lanes {
                lane.queue.retain(&mut keep);
                left += lane.queue.len();
            }
            class.end_empty_lanes();
        }
        self.len = left;
    }
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Class<T> {
    fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The producer's lane, which has a turn from now on.
    fn lane(&mut self, producer: u64) -> &mut Lane<T> {
        let Self { lanes, free, .. } = self;
        let at = *self.of_producer.entry(producer).or_insert_with(|| {
            let at = free.pop().unwrap_or_else(|| {
                lanes.push(Lane {
                    producer,
                    queue: VecDeque::new(),
                });
                lanes.len() - 1
            });
            lanes[at].producer = producer;
            self.turns.push_back(at);
            at
        });
        &mut self.lanes[at]
    }

    fn pop(&mut self) -> Option<T> {
        self.passed = 0;
        let at = self.turns.pop_front()?;
        let item = self.lanes[at].queue.pop_front();
        match self.lanes[at].queue.is_empty() {
            true => self.end_lane(at),
            false => self.turns.push_back(at),
        }
        item
    }

    fn end_lane(&mut self, at: usize) {
        self.of_producer.remove(&self.lanes[at].producer);
        self.free.push(at);
    }

    /// `take` says how many have been taken.
    fn take_where(
        &mut self,
        look: &mut impl FnMut(&T) -> Look,
        take: &mut impl FnMut(Option<T>) -> usize,
    ) {
        let mut places: SmallVec<[usize; 64]> = self.turns.iter().map(|_| 0).collect();
        let mut stopped = false;
        while !stopped {
            let before = (take(None), places.iter().sum::<usize>());
            for (&lane, place) in self.turns.iter().zip(&mut places) {
                let queue = &mut self.lanes[lane].queue;
                let Some(item) = queue.get(*place) else {
                    continue;
                };
                match look(item) {
                    Look::Take => drop(take(queue.remove(*place))),
                    Look::Leave => *place += 1,
                    Look::Stop => {
                        stopped = true;
                        break;
                    }
                }
            }
            stopped |= before == (take(None), places.iter().sum());
        }
        self.end_empty_lanes();
    }

    fn end_empty_lanes(&mut self) {
        for _ in 0..self.turns.len() {
            let Some(at) = self.turns.pop_front() else {
                break;
            };
            match self.lanes[at].queue.is_empty() {
                true => self.end_lane(at),
                false => self.turns.push_back(at),
            }
        }
        if self.turns.is_empty() {
            self.passed = 0;
        }
    }
}

impl<T> Default for Class<T> {
    fn default() -> Self {
        Self {
            lanes: Vec::new(),
            free: Vec::new(),
            of_producer: FxHashMap::default(),
            turns: VecDeque::new(),
            passed: 0,
        }
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
