//! What is explored: each graph with each choice of requests, once up to the naming of nodes.
//!
//! A graph's nodes are exactly those that a request asks for. Another node is never claimed: a cut
//! that comes to it goes on to its operands, so that it changes nothing but the edges of the others.
//! One that is not below an output is not even looked at. So all graphs of up to four nodes of which
//! each is asked for stand for graphs of any size in which four nodes are asked for.

use std::fmt;

/// The most nodes of a graph.
pub const NODES: usize = 4;
/// The most requests.
pub const REQUESTS: usize = 3;
/// The most outputs of a request.
const OUTPUTS: usize = 3;

/// One request: distinct nodes, in the order in which they are claimed and awaited.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    outputs: [u8; OUTPUTS],
    len: u8,
    /// Its class: whether it goes before those that are not.
    pub urgent: bool,
}

/// A graph and the requests that are made of it.
pub struct Config {
    /// For each node the set of its operands, which have smaller numbers.
    pub operands: Vec<u8>,
    /// The requests, of which there is at least one.
    pub requests: Vec<Ask>,
}

/// Which configurations are explored.
#[derive(Clone, Copy)]
pub struct Size {
    /// Up to this many nodes are asked for.
    pub nodes: usize,
    /// Exactly this many requests.
    pub requests: usize,
    /// Each of one output up to this many.
    pub outputs: usize,
}

impl Ask {
    /// The outputs, in the order in which they are claimed.
    pub fn outputs(&self) -> impl Iterator<Item = usize> + '_ {
        self.outputs[..self.len as usize]
            .iter()
            .map(|&node| node as usize)
    }

    /// The outputs, as a set.
    pub fn set(&self) -> u8 {
        self.outputs().fold(0, |set, node| set | 1 << node)
    }

    fn with(&self, node: usize) -> Self {
        let mut more = *self;
        more.outputs[self.len as usize] = node as u8;
        more.len += 1;
        more
    }

    fn renamed(&self, names: &[usize]) -> Self {
        let mut other = *self;
        for (new, old) in other.outputs.iter_mut().zip(self.outputs()) {
            *new = names[old] as u8;
        }
        other
    }
}

impl Config {
    /// The same configuration with other names of the nodes; `None` if an operand would have a larger
    /// number than its reader.
    fn renamed(&self, names: &[usize]) -> Option<Self> {
        let mut operands = vec![0; self.operands.len()];
        for (node, &below) in self.operands.iter().enumerate() {
            for operand in members(below) {
                if names[operand] > names[node] {
                    return None;
                }
                operands[names[node]] |= 1 << names[operand];
            }
        }
        let mut requests: Vec<Ask> = self.requests.iter().map(|r| r.renamed(names)).collect();
        requests.sort();
        Some(Self { operands, requests })
    }

    /// Whether it stands for all that differ from it in the names of nodes.
    fn is_first(&self) -> bool {
        let others = permutations(self.operands.len());
        let mut others = others.iter().filter_map(|names| self.renamed(names));
        others.all(|o| (&self.operands, &self.requests) <= (&o.operands, &o.requests))
    }

    fn asked(&self) -> u8 {
        self.requests.iter().fold(0, |set, ask| set | ask.set())
    }

    fn asks_for_each(&self) -> bool {
        self.asked() == (1 << self.operands.len()) - 1
    }

    /// The same configuration without the nodes that no request asks for: their readers read their
    /// operands instead.
    pub fn contracted(&self) -> Self {
        let asked = self.asked();
        let mut through = self.operands.clone();
        for node in 0..through.len() {
            for between in members(through[node] & !asked) {
                through[node] = through[node] & !(1 << between) | through[between];
            }
        }
        let names: Vec<usize> = (0..through.len())
            .map(|node| (asked & ((1 << node) - 1)).count_ones() as usize)
            .collect();
        let renamed = |set| members(set).fold(0, |set, node| set | 1 << names[node]);
        Self {
            operands: members(asked).map(|node| renamed(through[node])).collect(),
            requests: self.requests.iter().map(|r| r.renamed(&names)).collect(),
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (node, &below) in self.operands.iter().enumerate() {
            let operands: Vec<usize> = members(below).collect();
            write!(f, "{node} reads {operands:?}, ")?;
        }
        for (r, ask) in self.requests.iter().enumerate() {
            let outputs: Vec<usize> = ask.outputs().collect();
            let class = if ask.urgent { " urgently" } else { "" };
            write!(f, "request {r} asks{class} for {outputs:?}; ")?;
        }
        Ok(())
    }
}

/// All configurations of a size, the small ones first. With `classes`, those that have both.
pub fn configurations(size: Size, classes: bool) -> Vec<Config> {
    let mut all: Vec<Config> = (1..=size.nodes)
        .flat_map(|nodes| all_of(Size { nodes, ..size }, classes))
        .collect();
    let mixed = |c: &Config| {
        let urgent = c.requests.iter().filter(|ask| ask.urgent).count();
        (1..c.requests.len()).contains(&urgent)
    };
    all.retain(|c| c.asks_for_each() && (!classes || mixed(c)) && c.is_first());
    all
}

/// All configurations of exactly this many nodes of which one is not asked for.
pub fn unasked(size: Size) -> Vec<Config> {
    let mut all = all_of(size, false);
    all.retain(|config| !config.asks_for_each());
    all
}

fn all_of(size: Size, classes: bool) -> Vec<Config> {
    let mut all = Vec::new();
    let asks = asks(size.nodes, size.outputs, classes);
    for operands in graphs(size.nodes) {
        for requests in multisets(&asks, size.requests) {
            let operands = operands.clone();
            all.push(Config { operands, requests });
        }
    }
    all
}

/// All graphs of some nodes: each pair is an edge or not.
fn graphs(nodes: usize) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    for node in 0..nodes {
        let longer = |graph: &Vec<u8>, below| [&graph[..], &[below]].concat();
        all = all
            .iter()
            .flat_map(|graph| (0..1 << node).map(move |below| longer(graph, below)))
            .collect();
    }
    all
}

/// All requests of one output up to `most`.
fn asks(nodes: usize, most: usize, classes: bool) -> Vec<Ask> {
    let nothing = |urgent| Ask {
        outputs: [0; OUTPUTS],
        len: 0,
        urgent,
    };
    let mut longest: Vec<Ask> = [false, true][..1 + classes as usize]
        .iter()
        .map(|&urgent| nothing(urgent))
        .collect();
    let mut all = Vec::new();
    for _ in 0..most.min(nodes) {
        let longer = |ask: &Ask| {
            let ask = *ask;
            let others = (0..nodes).filter(move |node| ask.set() >> node & 1 == 0);
            others.map(move |node| ask.with(node))
        };
        longest = longest.iter().flat_map(longer).collect();
        all.extend(&longest);
    }
    all
}

/// All ways to take `count` of `asks`, the order of which does not matter.
fn multisets(asks: &[Ask], count: usize) -> Vec<Vec<Ask>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in multisets(asks, count - 1) {
        for ask in asks
            .iter()
            .filter(|ask| shorter.iter().all(|other| other <= ask))
        {
            all.push([&shorter[..], &[*ask]].concat());
        }
    }
    all
}

fn permutations(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for next in 0..count {
        let inserted = |shorter: &Vec<usize>, place| {
            let mut longer = shorter.clone();
            longer.insert(place, next);
            longer
        };
        all = all
            .iter()
            .flat_map(|shorter| (0..=next).map(move |place| inserted(shorter, place)))
            .collect();
    }
    all
}

/// The nodes of a set.
pub fn members(set: u8) -> impl Iterator<Item = usize> {
    (0..NODES).filter(move |node| set >> node & 1 == 1)
}
