//! Random graphs whose values are known: matrices of three columns of small integers in f32.
//!
//! Every value and every intermediate sum is an integer below 2^24, so that no operation rounds,
//! whatever it is fused, batched or recomputed with, and the oracle is a plain evaluation in `i64` when a
//! node is built. Values are limited again by `clamp` where they grow. The sign of zero is left out of
//! the comparison: of two zeros a maximum may be either.

use crate::deeds::{Act, Acting, Deed};
use crate::random::Random;
use candlewick::{Device, LazyTensor, Params, Snapshot, Tensor};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Columns of every matrix.
pub(crate) const COLUMNS: usize = 3;
/// The most rows of one.
const MOST_ROWS: usize = 4;
/// Beyond it a value is limited to `LIMIT`.
const LARGE: i64 = 200;
const LIMIT: i64 = 20;

/// What is known of a node.
pub(crate) struct Node {
    /// Row by row.
    pub(crate) value: Vec<i64>,
    /// The nodes that it is made from.
    pub(crate) below: Vec<usize>,
    /// Whether an operation fails, here or below.
    pub(crate) spoiled: bool,
    /// Whether the operation that fails is this one.
    pub(crate) fails: bool,
    /// How often its operation has run, if that is one of ours.
    pub(crate) runs: Option<Arc<AtomicU64>>,
    /// Whether a submission has asked for it or for something above.
    pub(crate) used: bool,
}

/// What graphs may contain.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Content {
    pub(crate) params: bool,
    pub(crate) custom: bool,
    pub(crate) failing: bool,
    pub(crate) host_leaves: bool,
}

/// The nodes of one executor's life, and those of them that are still named by a tensor.
pub(crate) struct Graphs {
    pub(crate) nodes: Vec<Node>,
    pub(crate) live: Vec<(usize, LazyTensor)>,
    weights: Vec<(LazyTensor, Vec<i64>)>,
    params: Params,
    /// The version that a snapshot must have.
    version: u64,
}

/// A node and its tensor.
pub(crate) type Made = (usize, LazyTensor);

fn tensor(values: &[i64]) -> Tensor {
    let data: Vec<f32> = values.iter().map(|&x| x as f32).collect();
    let shape = (values.len() / COLUMNS, COLUMNS);
    Tensor::from_vec(data, shape, &Device::Cpu).expect("the count fits the shape")
}

/// The parameters of a version: a matrix, and a row that is added.
fn weights_of(version: u64) -> (Vec<i64>, Vec<i64>) {
    let v = version as i64;
    let matrix = (0..9).map(|i| (v + i * i) % 4 - 1).collect();
    (matrix, vec![v % 7, -(v % 5), v % 3])
}

fn named(version: u64) -> [(&'static str, Tensor); 2] {
    let (matrix, row) = weights_of(version);
    [("w", tensor(&matrix)), ("b", tensor(&row))]
}

/// The numbers of a result.
pub(crate) fn numbers(tensor: &Tensor) -> Option<Vec<f32>> {
    tensor.flatten_all().ok()?.to_vec1::<f32>().ok()
}

impl Graphs {
    pub(crate) fn new(random: &mut Random) -> Self {
        let matrix = |random: &mut Random| {
            let value: Vec<i64> = (0..9).map(|_| random.between(-2, 2)).collect();
            (LazyTensor::from(tensor(&value)), value)
        };
        let params = Params::from_map(named(0)).expect("two names");
        let version = params.snapshot().version();
        Self {
            nodes: Vec::new(),
            live: Vec::new(),
            weights: (0..2).map(|_| matrix(random)).collect(),
            params,
            version,
        }
    }

    fn add(&mut self, value: Vec<i64>, below: Vec<usize>, lazy: LazyTensor) -> Made {
        let spoiled = below.iter().any(|&node| self.nodes[node].spoiled);
        self.nodes.push(Node {
            value,
            below,
            spoiled,
            fails: false,
            runs: None,
            used: false,
        });
        (self.nodes.len() - 1, lazy)
    }

    /// Data that exists.
    pub(crate) fn leaf(&mut self, random: &mut Random, host: bool) -> Made {
        let rows = random.below(3) + 1;
        let value: Vec<i64> = (0..rows * COLUMNS).map(|_| random.between(-4, 4)).collect();
        let lazy = if host {
            let data: Vec<f32> = value.iter().map(|&x| x as f32).collect();
            LazyTensor::from_vec(data, (rows, COLUMNS), &Device::Cpu).expect("the count fits")
        } else {
            LazyTensor::from(tensor(&value))
        };
        self.add(value, Vec::new(), lazy)
    }

    /// Another version of the parameters; what is refused changes nothing. The number of the current one.
    pub(crate) fn swap(&mut self, random: &mut Random) -> Result<u64, String> {
        if random.chance(10) {
            let wrong = [("w", tensor(&[1, 2, 3]))];
            if self.params.update(wrong).is_ok() {
                return Err("parameters of another shape were taken".into());
            }
            return Ok(self.version);
        }
        let next = self.version + 1;
        let given = match random.chance(50) {
            true => self.params.replace(named(next)),
            false => self.params.update(named(next)),
        };
        match given {
            Ok(number) if number == next => self.version = next,
            other => return Err(format!("version {next} of the parameters is {other:?}")),
        }
        Ok(self.version)
    }

    /// The parameters that a request is to see.
    fn snapshot(&self) -> Snapshot {
        self.params.snapshot()
    }

    /// The version that a new snapshot has.
    pub(crate) fn version(&self) -> u64 {
        self.snapshot().version()
    }

    /// One operation more on top of `x`.
    pub(crate) fn grow(
        &mut self,
        random: &mut Random,
        content: Content,
        x: &Made,
        others: &[Made],
        deed: Option<Deed>,
    ) -> Made {
        let op = random.below(if content.custom { 21 } else { 17 });
        let y = if others.is_empty() {
            x
        } else {
            &others[random.below(others.len())]
        };
        if op >= 17 {
            return self.ours(random, content, x, deed);
        }
        let made = self.apply(random, content, op, x, y);
        let (value, below, lazy) = made.expect("the shapes fit");
        let (value, lazy) = limited(value, lazy).expect("any value can be limited");
        self.add(value, below, lazy)
    }

    fn apply(
        &self,
        random: &mut Random,
        content: Content,
        op: usize,
        x: &Made,
        y: &Made,
    ) -> candlewick::Result<(Vec<i64>, Vec<usize>, LazyTensor)> {
        let (a, xl) = (&self.nodes[x.0].value, &x.1);
        let b = &self.nodes[y.0].value;
        let rows = a.len() / COLUMNS;
        let one = vec![x.0];
        let map = |f: &dyn Fn(i64) -> i64| a.iter().map(|&x| f(x)).collect::<Vec<i64>>();
        let unary = |f: &dyn Fn(i64) -> i64, lazy| Ok((map(f), vec![x.0], lazy));
        Ok(match op {
            0 => return unary(&|x| -x, xl.neg()?),
            1 => return unary(&|x| x.max(0), xl.relu()?),
            2 => return unary(&|x| x.abs(), xl.abs()?),
            3 => return unary(&|x| x * x, xl.sqr()?),
            4 => {
                let (k, c) = (random.between(-2, 3), random.between(-3, 4));
                return unary(&|x| k * x + c, xl.affine(k as f64, c as f64)?);
            }
            5..=8 => {
                // of two heights: the first row of the other one, for each
                let whole = a.len() == b.len();
                let yl = if whole {
                    y.1.clone()
                } else {
                    y.1.narrow(0, 0, 1)?
                };
                let b = |i: usize| if whole { b[i] } else { b[i % COLUMNS] };
                let (f, lazy): (fn(i64, i64) -> i64, _) = match op {
                    5 => (|x, y| x + y, xl.broadcast_add(&yl)?),
                    6 => (|x, y| x - y, xl.broadcast_sub(&yl)?),
                    7 => (|x, y| x * y, xl.broadcast_mul(&yl)?),
                    _ => (i64::max, xl.broadcast_maximum(&yl)?),
                };
                let value = a.iter().enumerate().map(|(i, &x)| f(x, b(i))).collect();
                (value, vec![x.0, y.0], lazy)
            }
            9 | 10 if content.params => {
                let snapshot = self.snapshot();
                let (matrix, row) = weights_of(snapshot.version());
                let lazy = xl.matmul(&snapshot.get("w")?)?;
                let lazy = lazy.broadcast_add(&snapshot.get("b")?)?;
                let mut value = product(a, &matrix);
                value
                    .iter_mut()
                    .enumerate()
                    .for_each(|(i, x)| *x += row[i % COLUMNS]);
                (value, one, lazy)
            }
            9..=11 => {
                let (weight, matrix) = &self.weights[random.below(self.weights.len())];
                (product(a, matrix), one, xl.matmul(weight)?)
            }
            12 if rows + b.len() / COLUMNS <= MOST_ROWS => {
                let value = a.iter().chain(b).copied().collect();
                (value, vec![x.0, y.0], LazyTensor::cat(&[xl, &y.1], 0)?)
            }
            // all rows would be the same node again
            12 | 13 if rows == 1 => return unary(&|x| -x, xl.neg()?),
            12 | 13 => {
                let start = random.below(rows);
                let value = a[start * COLUMNS..(start + 1) * COLUMNS].to_vec();
                (value, one, xl.narrow(0, start, 1)?)
            }
            14 => {
                let sum = |i: usize| a[i / COLUMNS * COLUMNS..][..COLUMNS].iter().sum::<i64>();
                let value = a.iter().enumerate().map(|(i, &x)| x + sum(i)).collect();
                (value, one, xl.broadcast_add(&xl.sum_keepdim(1)?)?)
            }
            15 => {
                let most = |i: usize| a[i / COLUMNS * COLUMNS..][..COLUMNS].iter().max();
                let value = a
                    .iter()
                    .enumerate()
                    .map(|(i, &x)| x - most(i).map_or(0, |&m| m));
                (value.collect(), one, xl.broadcast_sub(&xl.max_keepdim(1)?)?)
            }
            _ => {
                let rows: Vec<u32> = (0..rows).map(|_| random.below(rows) as u32).collect();
                let row = |&row: &u32| a[row as usize * COLUMNS..][..COLUMNS].to_vec();
                let value = rows.iter().flat_map(row).collect();
                let ids = LazyTensor::from(Tensor::new(&rows[..], &Device::Cpu).expect("one row"));
                (value, one, xl.index_select(&ids, 0)?)
            }
        })
    }

    /// An operation of our own: it adds one, fails, panics, or does something besides.
    fn ours(
        &mut self,
        random: &mut Random,
        content: Content,
        x: &Made,
        deed: Option<Deed>,
    ) -> Made {
        let number = self.nodes.len();
        let act = match random.below(8) {
            0 if content.failing => Act::Fail(number),
            1 if content.failing => Act::Panic(number),
            _ => Act::AddOne(deed),
        };
        let fails = matches!(act, Act::Fail(_) | Act::Panic(_));
        let op = Acting::new(act);
        let runs = op.runs.clone();
        let lazy = x.1.apply_op1(op, x.1.shape(), x.1.dtype()).expect("of f32");
        let value = self.nodes[x.0].value.iter().map(|x| x + 1).collect();
        let made = self.add(value, vec![x.0], lazy);
        let node = &mut self.nodes[made.0];
        (node.runs, node.fails) = (Some(runs), fails);
        node.spoiled |= fails;
        made
    }

    /// What a compiled function makes of a node: see [`twice_and_one`].
    pub(crate) fn called(&mut self, x: usize, lazy: LazyTensor) -> usize {
        let value = self.nodes[x].value.iter().map(|x| 2 * x + 1).collect();
        self.add(value, vec![x], lazy).0
    }

    /// Whether `of` is `node` or is made from it.
    pub(crate) fn is_above(&self, of: usize, node: impl Fn(usize) -> bool) -> bool {
        let (mut seen, mut way) = (vec![false; self.nodes.len()], vec![of]);
        while let Some(next) = way.pop() {
            if node(next) {
                return true;
            }
            if !std::mem::replace(&mut seen[next], true) {
                way.extend(&self.nodes[next].below);
            }
        }
        false
    }

    /// These and all below are part of a graph that was submitted.
    pub(crate) fn use_up(&mut self, nodes: &[usize]) {
        let mut way = nodes.to_vec();
        while let Some(next) = way.pop() {
            if !std::mem::replace(&mut self.nodes[next].used, true) {
                way.extend(&self.nodes[next].below);
            }
        }
    }
}

/// What the compiled functions of the simulation compute.
pub(crate) fn twice_and_one(x: &LazyTensor) -> candlewick::Result<Vec<LazyTensor>> {
    Ok(vec![x.affine(2.0, 1.0)?])
}

fn product(a: &[i64], matrix: &[i64]) -> Vec<i64> {
    let element = |i: usize| {
        let row = &a[i / COLUMNS * COLUMNS..][..COLUMNS];
        let terms = row.iter().enumerate();
        terms
            .map(|(k, x)| x * matrix[k * COLUMNS + i % COLUMNS])
            .sum()
    };
    (0..a.len()).map(element).collect()
}

fn limited(value: Vec<i64>, lazy: LazyTensor) -> candlewick::Result<(Vec<i64>, LazyTensor)> {
    if value.iter().all(|x| x.abs() <= LARGE) {
        return Ok((value, lazy));
    }
    let value = value.into_iter().map(|x| x.clamp(-LIMIT, LIMIT)).collect();
    Ok((value, lazy.clamp(-(LIMIT as f64), LIMIT as f64)?))
}
