//! Programs that are made from a seed, and what may come of one.

use crate::core::actor::launch::Start;
use crate::core::store::tag::Priority;
use crate::toy::*;
use std::collections::BTreeSet;

/// A device of the toy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Device {
    Cpu,
    Gpu,
    Ringing,
}

/// What a thread does with its submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Wait,
    WaitAsync,
    WaitTimed,
    Cancel,
    CancelAndDrop,
    Drop,
    /// It keeps the submission until everything is over, as after `mem::forget`.
    Never,
}

/// How a thread asks for its permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admit {
    Waits,
    Tries,
    /// Its future is polled once and dropped.
    Drops,
    /// Its future is polled once and forgotten.
    Forgets,
}

/// What goes wrong between claiming and sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    SecondCut,
    Panic,
}

/// One operation of a thread.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Submit {
        outputs: Vec<usize>,
        class: Priority,
        late: bool,
        start: Start,
        admit: Admit,
        fault: Fault,
        then: Then,
    },
    Close,
    Abort,
}

/// A graph, and what each thread does with it.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) seed: u64,
    pub(super) device: Device,
    pub(super) capacity: usize,
    /// For each node what it adds, and its operands, which stand before it.
    pub(super) nodes: Vec<(u32, Vec<usize>)>,
    pub(super) threads: Vec<Vec<Op>>,
}

/// What may come of a node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct May {
    /// Its value, if it and nothing below fails.
    pub(super) value: Option<u32>,
    /// Whether it may fail: something below does, or something that may share a fragment with what is
    /// below.
    pub(super) fail: bool,
}

/// A source of numbers that come from a seed (SplitMix64).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `sides`.
    fn below(&mut self, sides: usize) -> usize {
        (self.next() % sides as u64) as usize
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Whether this is the one of so many times on average.
    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

impl Program {
    /// The program of a seed. It has three to twelve nodes, and two to four threads with one to five
    /// operations each, twelve in all.
    pub(super) fn of_seed(seed: u64, device: Device) -> Self {
        let mut dice = Dice::new(seed);
        let count = 3 + dice.below(10);
        // half of the programs have no failures at all, so that every end must be a value
        let faults = dice.one_in(2);
        let nodes = (0..count).map(|place| Self::node(&mut dice, place, device, faults));
        let nodes: Vec<_> = nodes.collect();
        let capacity = 1 + dice.below(8);
        let mut threads: Vec<Vec<Op>> = Vec::new();
        let others = 1 + dice.below(3);
        for _ in 0..=others {
            // twelve at most: a model's slot counts no more references than twice that
            let ops = 1 + dice.below(6 - others);
            let ops = (0..ops).map(|_| Self::op(&mut dice, count, faults));
            threads.push(ops.collect());
        }
        if dice.one_in(4) {
            let thread = dice.below(threads.len());
            let place = dice.below(threads[thread].len() + 1);
            let end = if dice.one_in(2) { Op::Close } else { Op::Abort };
            threads[thread].insert(place, end);
        }
        Self {
            seed,
            device,
            capacity,
            nodes,
            threads,
        }
    }

    /// The smallest program that loom explores: the circle of the old protocol, of two threads with two
    /// outputs each.
    pub(super) fn smallest(device: Device) -> Self {
        let op = |outputs: [usize; 2]| Op::Submit {
            outputs: outputs.to_vec(),
            class: Priority::Normal,
            late: false,
            start: Start::Post,
            admit: Admit::Waits,
            fault: Fault::None,
            then: Then::Never,
        };
        Self {
            seed: 0,
            device,
            capacity: 2,
            nodes: vec![(1, vec![]), (10, vec![0]), (100, vec![1])],
            threads: vec![vec![op([1, 0])], vec![op([2, 0])]],
        }
    }

    fn node(dice: &mut Dice, place: usize, device: Device, faults: bool) -> (u32, Vec<usize>) {
        let mut operands = BTreeSet::new();
        for _ in 0..dice.below(4).min(place) {
            operands.insert(dice.below(place));
        }
        let mut add = match dice.below(8) {
            0 => TOGETHER,
            1 => FOREIGN,
            2 => SHY,
            _ => 1 + dice.below(99) as u32,
        };
        if faults && dice.one_in(8) {
            add = match device {
                Device::Cpu => dice.of(&[FAILS, PANICS, PANICS_TWICE, WRECKS, KILLS]),
                _ => dice.of(&[FAILS, PANICS, WRECKS, FAILS_LATE, FAILS_LATE, NEVER_ENDS]),
            };
        }
        (add, operands.into_iter().collect())
    }

    fn op(dice: &mut Dice, nodes: usize, faults: bool) -> Op {
        let mut outputs = Vec::new();
        for _ in 0..1 + dice.below(4) {
            let output = dice.below(nodes);
            if !outputs.contains(&output) {
                outputs.push(output);
            }
        }
        let rarely = |dice: &mut Dice| dice.one_in(6);
        Op::Submit {
            outputs,
            class: Priority::of_toy(dice.below(3)),
            late: rarely(dice),
            start: dice.of(&[Start::Post, Start::Run, Start::RunIfIdle]),
            admit: match rarely(dice) {
                true => dice.of(&[Admit::Tries, Admit::Drops, Admit::Forgets]),
                false => Admit::Waits,
            },
            fault: match faults && rarely(dice) {
                true => dice.of(&[Fault::SecondCut, Fault::Panic]),
                false => Fault::None,
            },
            then: dice.of(&[
                Then::Wait,
                Then::WaitAsync,
                Then::WaitTimed,
                Then::Cancel,
                Then::CancelAndDrop,
                Then::Drop,
                Then::Never,
                Then::Never,
            ]),
        }
    }

    fn ops(&self) -> impl Iterator<Item = &Op> {
        self.threads.iter().flatten()
    }

    /// Whether a thread closes or aborts, or the device or the owner may be lost.
    pub(super) fn may_close(&self) -> bool {
        let closes = self.ops().any(|op| !matches!(op, Op::Submit { .. }));
        closes || self.may_lose()
    }

    /// Whether a thread aborts.
    pub(super) fn may_abort(&self) -> bool {
        self.ops().any(|op| matches!(op, Op::Abort))
    }

    /// Whether the device or the owner may be lost.
    pub(super) fn may_lose(&self) -> bool {
        self.has(KILLS) || self.has(NEVER_ENDS)
    }

    /// Whether a node adds this.
    pub(super) fn has(&self, add: u32) -> bool {
        self.nodes.iter().any(|node| node.0 == add)
    }

    /// What may come of each node, by plain recursion over the graph, and over what may share a fragment.
    pub(super) fn may(&self) -> Vec<May> {
        let mut all: Vec<May> = Vec::new();
        let mut below: Vec<BTreeSet<usize>> = Vec::new();
        for (place, (add, operands)) in self.nodes.iter().enumerate() {
            let sum = operands
                .iter()
                .try_fold(0, |sum, &operand| Some(sum + all[operand].value?));
            let value = adds(*add).and_then(|add| sum.map(|sum| sum + add));
            let mut under: BTreeSet<usize> = operands
                .iter()
                .flat_map(|&operand| below[operand].clone())
                .collect();
            under.insert(place);
            below.push(under);
            all.push(May {
                value,
                fail: value.is_none(),
            });
        }
        // A fragment that panics, or is reported late, fails whole; a launch that fails gives up all that
        // it claimed; and what depends on an output of either fails as well.
        let spoils = |node: usize| {
            let add = self.nodes[node].0;
            matches!(add, PANICS | PANICS_TWICE | WRECKS | FAILS_LATE)
        };
        for op in self.ops() {
            let Op::Submit { outputs, fault, .. } = op else {
                continue;
            };
            let mut under = outputs.iter().flat_map(|&output| &below[output]);
            if *fault == Fault::None && !under.any(|&node| spoils(node)) {
                continue;
            }
            for (may, under) in all.iter_mut().zip(&below) {
                may.fail |= outputs.iter().any(|output| under.contains(output));
            }
        }
        all
    }
}

/// What a node adds to the sum; nothing if it fails.
fn adds(add: u32) -> Option<u32> {
    match add {
        FAILS | PANICS | PANICS_TWICE | WRECKS | FAILS_LATE => None,
        KILLS | NEVER_ENDS => Some(0),
        SHY => Some(1),
        TOGETHER => Some(2),
        FOREIGN => Some(3),
        add => Some(add),
    }
}

/// Gives priorities numbers.
trait OfToy {
    fn of_toy(number: usize) -> Self;
}

impl OfToy for Priority {
    fn of_toy(number: usize) -> Self {
        [Self::Interactive, Self::Normal, Self::Background][number]
    }
}
