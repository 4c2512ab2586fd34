//! Which operations become one step.
//!
//! Walking backwards from the outputs, each operation that the CPU engine knows takes along the
//! operations that make its operands, as long as nobody else needs what they make, and they work
//! on the same elements: the same shape, or one number for each of its rows. So a step has one
//! result, and fails only if an operand of that result has failed.

use super::draft::{Draft, Info, Lies};
use super::emit::Emit;
use super::layout::{Layout, is_view};
use super::program::{Fused, join_pairs, move_ahead, period, share_registers};
use super::role::Role;
use super::types::Compute;
use super::{Step, op_step};
use crate::graph::Op;
use crate::graph::fragment::ValueId;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::BTreeSet;

/// The most operations that are fused into one step.
const MOST_OPS: usize = 64;
/// The rows that a step works on: the dimensions before `split`, and from there on.
struct Domain<'a> {
    dims: &'a [usize],
    split: usize,
}

impl Domain<'_> {
    /// Whether a value of these dimensions has one number for each row.
    fn is_per_row(&self, dims: &[usize]) -> bool {
        let (rows, rest) = (&self.dims[..self.split], dims.get(self.split..));
        dims.get(..self.split) == Some(rows)
            && rest.is_some_and(|rest| rest.is_empty() || self.keeps(rest))
    }

    /// Whether the row's own dimensions are there, with size 1.
    fn keeps(&self, rest: &[usize]) -> bool {
        rest.len() == self.dims.len() - self.split && rest.iter().all(|&d| d == 1)
    }

    fn cols(&self) -> usize {
        self.dims[self.split..].iter().product()
    }
}

/// The steps of a draft.
pub(super) fn steps(draft: &Draft) -> Vec<Step> {
    let mut fuse = Fuse::new(draft);
    let mut steps = Vec::new();
    for place in (0..draft.nodes.len()).rev() {
        let node = &draft.nodes[place];
        if !fuse.needed[node.value as usize] {
            continue;
        }
        let step = match fuse.own(place) {
            Some((role, compute)) => fuse.elements(place, role, compute),
            None => match fuse.product(place) {
                Some(product) => Step::Product(Box::new(product)),
                None => op_step(draft, node),
            },
        };
        for input in step.inputs() {
            fuse.needed[input as usize] = true;
        }
        steps.push(step);
    }
    steps.reverse();
    steps
}

pub(super) struct Fuse<'a> {
    pub(super) draft: &'a Draft,
    /// Which node computes a value.
    pub(super) makers: Vec<Option<u32>>,
    /// How many operands of nodes a value is; outputs are one more.
    pub(super) uses: Vec<u32>,
    /// Values that must exist by themselves.
    needed: Vec<bool>,
}

impl<'a> Fuse<'a> {
    fn new(draft: &'a Draft) -> Self {
        let values = draft.values.len();
        let mut fuse = Self {
            draft,
            makers: vec![None; values],
            uses: vec![0; values],
            needed: vec![false; values],
        };
        for (place, node) in draft.nodes.iter().enumerate() {
            fuse.makers[node.value as usize] = Some(place as u32);
            for &input in &node.inputs {
                fuse.uses[input as usize] += 1;
            }
        }
        for &output in &draft.outputs {
            fuse.uses[output as usize] += 1;
            fuse.needed[output as usize] = true;
        }
        fuse
    }

    pub(super) fn info(&self, value: ValueId) -> &'a Info {
        self.draft.info(value)
    }

    /// The rows that a step with this node as its result works on.
    fn domain(&self, place: usize, role: Role, compute: Compute) -> Domain<'a> {
        let node = &self.draft.nodes[place];
        let own = &self.info(node.value).dims;
        match role {
            Role::Row(split) => Domain { dims: own, split },
            Role::Reduce(split) => Domain {
                dims: &self.info(node.inputs[0]).dims,
                split,
            },
            Role::Element => self.domain_of_elements(place, own, compute),
        }
    }

    /// What is done to each element joins the rows that it is made from, or that it is made of:
    /// a normalisation before it, or a reduction.
    fn domain_of_elements(&self, place: usize, own: &'a [usize], compute: Compute) -> Domain<'a> {
        let mut ways: SmallVec<[usize; 8]> = SmallVec::from_slice(&[place]);
        let mut looked_at = 0;
        while let Some(place) = ways.pop() {
            for &input in &self.draft.nodes[place].inputs {
                looked_at += 1;
                let Some(maker) = self.makers[input as usize] else {
                    continue;
                };
                let maker = maker as usize;
                let apart = self.needed[input as usize] || !self.computes_in(maker, compute);
                if looked_at > MOST_OPS || apart {
                    continue; // far enough, or a step of its own
                }
                let dims: &[usize] = &self.info(input).dims;
                match self.role(maker) {
                    Some(Role::Row(split)) if dims == own => return Domain { dims: own, split },
                    Some(Role::Reduce(split)) => {
                        let from: &[usize] = &self.info(self.draft.nodes[maker].inputs[0]).dims;
                        let domain = Domain { dims: from, split };
                        let fits = from == own || dims == own;
                        if fits && (dims == own || domain.keeps(dims.get(split..).unwrap_or(&[]))) {
                            return domain;
                        }
                    }
                    Some(Role::Element) => ways.push(maker),
                    _ => {}
                }
            }
        }
        Domain {
            dims: own,
            split: own.len(),
        }
    }

    /// The program whose result is the node at `place`, and the nodes in it.
    pub(super) fn group(
        &self,
        place: usize,
        role: Role,
        compute: Compute,
    ) -> (Box<Fused>, BTreeSet<usize>) {
        let domain = self.domain(place, role, compute);
        let members = self.members(place, &domain, compute);
        let value = self.draft.nodes[place].value;
        let mut emit = Emit::new(self, domain.dims, compute, value);
        let mut ops = Vec::new();
        for &place in &members {
            let node = &self.draft.nodes[place];
            emit.node(node);
            ops.extend(node.op.own().map(Op::name));
        }
        let per_row = emit.is_per_row(value);
        join_pairs(&mut emit.instrs);
        let Emit {
            mut instrs,
            inputs,
            whole_rows,
            ..
        } = emit;
        let unit = match whole_rows {
            true => domain.cols(),
            false => period(&instrs, &inputs),
        };
        let steady = move_ahead(&mut instrs, |instr| {
            let period = instr.what.period(&inputs);
            !instr.per_row && period.is_some_and(|period| unit % period == 0)
        });
        let registers = share_registers(&mut instrs, steady);
        let info = self.info(value);
        let count: usize = domain.dims.iter().product();
        let cols = if whole_rows { domain.cols() } else { count };
        let program = Box::new(Fused {
            value,
            dims: info.dims.clone(),
            dtype: info.dtype,
            compute,
            inputs,
            rows: if count == 0 { 0 } else { count / cols },
            cols,
            whole_rows,
            instrs,
            steady,
            unit,
            registers,
            over: None,
            per_row,
            ops,
        });
        (program, members)
    }

    /// The nodes of a step, in order. Going from users to operands, a node's users have all been
    /// looked at before it is.
    fn members(&self, place: usize, domain: &Domain<'_>, compute: Compute) -> BTreeSet<usize> {
        let mut members = BTreeSet::from([place]);
        let mut candidates: BTreeSet<usize> = BTreeSet::new();
        let mut inside: FxHashMap<ValueId, u32> = FxHashMap::default();
        let mut next = Some(place);
        while let Some(place) = next {
            for &input in &self.draft.nodes[place].inputs {
                *inside.entry(input).or_default() += 1;
                candidates.extend(self.makers[input as usize].map(|m| m as usize));
            }
            next = None;
            while let Some(place) = candidates.pop_last() {
                let value = self.draft.nodes[place].value;
                let only_here = inside[&value] == self.uses[value as usize];
                let joins = || {
                    self.joins(place, domain)
                        && self.computes_in(place, compute)
                        && self.fits_users(place, &members, domain)
                };
                if only_here && members.len() < MOST_OPS && joins() {
                    members.insert(place);
                    next = Some(place);
                    break;
                }
            }
        }
        members
    }

    /// Whether a node works on the rows of this domain.
    fn joins(&self, place: usize, domain: &Domain<'_>) -> bool {
        let node = &self.draft.nodes[place];
        let dims: &[usize] = &self.info(node.value).dims;
        let from = |i: usize| -> &[usize] { &self.info(node.inputs[i]).dims };
        match self.role(place) {
            Some(Role::Element) => {
                dims == domain.dims || domain.split < domain.dims.len() && domain.is_per_row(dims)
            }
            Some(Role::Row(split)) => dims == domain.dims && split == domain.split,
            Some(Role::Reduce(split)) => from(0) == domain.dims && split == domain.split,
            None => false,
        }
    }

    /// One number for each row, in a shape that does not say so, means something else to an
    /// operation on whole elements: there it would be broadcast along the rows.
    fn fits_users(&self, place: usize, members: &BTreeSet<usize>, domain: &Domain<'_>) -> bool {
        let value = self.draft.nodes[place].value;
        let dims: &[usize] = &self.info(value).dims;
        let whole = dims == domain.dims || domain.keeps(dims.get(domain.split..).unwrap_or(&[]));
        let reads = |user: &&usize| self.draft.nodes[**user].inputs.contains(&value);
        whole
            || members.iter().filter(reads).all(|&user| {
                let user: &[usize] = &self.info(self.draft.nodes[user].value).dims;
                user == dims
            })
    }

    pub(super) fn as_it_lies(&self, value: ValueId) -> bool {
        self.draft.as_it_lies(value)
    }

    /// The value that a view looks at, and where, through a chain of at most [`MOST_OPS`] views: in a
    /// longer chain Candle makes the values in between.
    pub(super) fn resolve(&self, value: ValueId) -> (ValueId, Layout) {
        let mut views: SmallVec<[&Op; 4]> = SmallVec::new();
        let mut chain: SmallVec<[ValueId; 4]> = SmallVec::from_slice(&[value]);
        let mut base = value;
        while let Some(maker) = self.makers[base as usize] {
            let node = &self.draft.nodes[maker as usize];
            match (node.op.own(), &node.inputs[..]) {
                (Some(op), &[input]) if is_view(op) && views.len() < MOST_OPS => {
                    views.push(op);
                    base = input;
                    chain.push(base);
                }
                _ => break,
            }
        }
        let mut layout = self.stored(base);
        while let Some(op) = views.pop() {
            chain.pop();
            match layout.viewed(op) {
                Some(view) => layout = view,
                // Strides cannot say it: what was made so far is copied by Candle.
                None => {
                    base = chain[chain.len() - 1];
                    layout = Layout::contiguous(&self.info(base).dims);
                }
            }
        }
        (base, layout)
    }

    /// How a value lies in memory that exists by itself. Views that Candle makes are put in
    /// order when they are read.
    fn stored(&self, value: ValueId) -> Layout {
        let info = self.info(value);
        let mut layout = Layout::contiguous(&info.dims);
        if let Lies::Strided(strides) = &info.lies {
            layout.strides = strides.clone();
        }
        layout
    }
}
