//! The instructions of a fused step.

use super::draft::DraftNode;
use super::fuse::Fuse;
use super::layout::Layout;
use super::program::{Arg, Instr, Operand, RowOp, What};
use super::types::{Compute, Number, is_half};
use crate::graph::Op;
use crate::graph::fragment::ValueId;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// A program in the making.
pub(super) struct Emit<'a, 'b> {
    fuse: &'b Fuse<'a>,
    /// Of whole elements.
    dims: &'a [usize],
    compute: Compute,
    /// The result.
    result: ValueId,
    pub(super) instrs: Vec<Instr>,
    pub(super) inputs: SmallVec<[Operand; 4]>,
    /// What the program makes, and whether that is one number for each row.
    made: FxHashMap<ValueId, (Arg, bool)>,
    /// What it reads or spreads: as one number for each row, or as whole elements.
    tiles: FxHashMap<(ValueId, bool), Arg>,
    /// Whether an instruction looks at rows.
    pub(super) whole_rows: bool,
}

impl<'a, 'b> Emit<'a, 'b> {
    /// An empty program on elements of these dimensions.
    pub(super) fn new(
        fuse: &'b Fuse<'a>,
        dims: &'a [usize],
        compute: Compute,
        result: ValueId,
    ) -> Self {
        Self {
            fuse,
            dims,
            compute,
            result,
            instrs: Vec::new(),
            inputs: SmallVec::new(),
            made: FxHashMap::default(),
            tiles: FxHashMap::default(),
            whole_rows: false,
        }
    }

    /// Whether a value that the program makes is one number for each row.
    pub(super) fn is_per_row(&self, value: ValueId) -> bool {
        self.made[&value].1
    }

    fn push(&mut self, what: What, per_row: bool) -> Arg {
        self.whole_rows |= per_row;
        let to = self.instrs.len() as u16;
        self.instrs.push(Instr { what, to, per_row });
        Arg::Register(to)
    }

    /// A value as a tile of whole elements, or as one number for each row; as these dimensions.
    fn arg(&mut self, value: ValueId, dims: &[usize]) -> Arg {
        let per_row = dims != self.dims;
        let made = self.made.get(&value).copied();
        match made {
            Some((arg, is_per_row)) if is_per_row == per_row => return arg,
            _ => {}
        }
        if let Some(&arg) = self.tiles.get(&(value, per_row)) {
            return arg;
        }
        let arg = match made {
            Some((rows, _)) => self.push(What::Spread(rows), false),
            None => self.outside(value, dims, per_row),
        };
        self.tiles.insert((value, per_row), arg);
        arg
    }

    /// Reads a value that is not made here.
    fn outside(&mut self, value: ValueId, dims: &[usize], per_row: bool) -> Arg {
        let (base, layout) = self.fuse.resolve(value);
        self.operand(base, layout.broadcast(dims), per_row)
    }

    /// Cosines or sines `[.., at least length, size / 2]`, for each element of
    /// `[batch, heads, length, size]`: those of a pair are the same.
    fn angles(&mut self, value: ValueId, interleaved: bool) -> Arg {
        let (base, layout) = self.fuse.resolve(value);
        let (last, length) = (layout.dims.len() - 1, self.dims[2]);
        let half = layout.dims[last];
        let (from, each) = (layout.strides[last - 1], layout.strides[last]);
        // one batch has no stride
        let batch = if last == 2 { layout.strides[0] } else { 0 };
        let (pair, steps) = match interleaved {
            true => ([half, 2], [each, 0]),
            false => ([2, half], [0, each]),
        };
        let [pair_outer, pair_inner] = pair;
        let layout = Layout {
            dims: [self.dims[0], self.dims[1], length, pair_outer, pair_inner]
                .into_iter()
                .collect(),
            strides: [batch, 0, from, steps[0], steps[1]].into_iter().collect(),
            offset: layout.offset,
        };
        self.operand(base, layout, false)
    }

    /// Reads a value that exists.
    fn operand(&mut self, base: ValueId, layout: Layout, per_row: bool) -> Arg {
        let access = layout.collapsed();
        let dtype = self.fuse.info(base).dtype;
        let number = self.inputs.len() as u16;
        let whole = access.is_run() && !access.strides.is_empty() && dtype == self.compute.dtype();
        self.inputs.push(Operand {
            value: base,
            as_it_lies: self.fuse.as_it_lies(base),
            access,
        });
        match whole {
            true => Arg::Input(number),
            false => self.push(What::Load(number), per_row),
        }
    }

    /// The instructions of one node.
    pub(super) fn node(&mut self, node: &DraftNode) {
        let (own, all) = (&self.fuse.info(node.value).dims[..], self.dims);
        let Some(op) = node.op.own() else {
            unreachable!("the user's own operations go to Candle")
        };
        let input = |i: usize| node.inputs[i];
        let scalar = |i: usize| match node.scalars.get(i) {
            Some(&parameter) => Number::Parameter(parameter),
            None => Number::of(op, i, self.fuse.info(node.inputs[0]).dtype),
        };
        let (arg, per_row) = match op {
            Op::Softmax(_) | Op::SoftmaxLastDim => (self.row(RowOp::Softmax, input(0)), false),
            Op::LogSoftmax(_) => (self.row(RowOp::LogSoftmax, input(0)), false),
            Op::RmsNorm { eps } => {
                self.whole_rows = true;
                let args = [0, 1].map(|i| self.arg(input(i), all));
                (self.push(What::RmsNorm(*eps, args), false), false)
            }
            Op::LayerNorm { eps } => {
                self.whole_rows = true;
                let args = [0, 1, 2].map(|i| self.arg(input(i), all));
                (self.push(What::LayerNorm(*eps, args), false), false)
            }
            Op::Rope { interleaved } => {
                let interleaved = *interleaved;
                let mut angles = |i| self.angles(node.inputs[i], interleaved);
                let (cos, sin) = (angles(1), angles(2));
                let args = |x| What::Rope {
                    interleaved,
                    args: [x, cos, sin],
                };
                self.whole_rows = true;
                let x = self.arg(input(0), all);
                (self.push(args(x), false), false)
            }
            Op::Reduce { op, .. } => {
                let arg = self.arg(input(0), all);
                (self.push(What::Reduce(*op, arg), true), true)
            }
            Op::ToDType(_) | Op::Contiguous => {
                let per_row = own != all;
                let arg = self.arg(input(0), own);
                (self.same(node, arg, per_row), per_row)
            }
            _ => {
                let per_row = own != all;
                let mut arg = |i: usize| self.arg(node.inputs[i], own);
                let what = match *op {
                    Op::Unary(op) => What::Unary(op, arg(0)),
                    Op::Elu(_) => What::Elu(arg(0), scalar(0)),
                    Op::Powf(_) => What::Powf(arg(0), scalar(0)),
                    Op::Affine { .. } => What::Affine(arg(0), scalar(0), scalar(1)),
                    Op::Binary { op, .. } => What::Binary(op, arg(0), arg(1)),
                    Op::BinaryScalar { op, .. } => What::BinaryScalar(op, arg(0), scalar(0)),
                    Op::Compare { op, .. } => What::Compare(op, arg(0), arg(1)),
                    Op::CompareScalar { op, .. } => What::CompareScalar(op, arg(0), scalar(0)),
                    Op::WhereCond => What::Select(arg(0), arg(1), arg(2)),
                    _ => unreachable!("goes to Candle"),
                };
                (self.push(what, per_row), per_row)
            }
        };
        self.made.insert(node.value, (arg, per_row));
    }

    fn row(&mut self, op: RowOp, input: ValueId) -> Arg {
        self.whole_rows = true;
        let arg = self.arg(input, self.dims);
        self.push(What::Row(op, arg), false)
    }

    /// What a cast, or a copy in order, makes of a tile: nothing, for loads and stores cast, but
    /// for halves on the way, which have fewer digits than the registers. Only the result must be
    /// made by an instruction, which the last one may have done already.
    fn same(&mut self, node: &DraftNode, arg: Arg, per_row: bool) -> Arg {
        let (from, to) = (
            self.fuse.info(node.inputs[0]).dtype,
            self.fuse.info(node.value).dtype,
        );
        let is_result = node.value == self.result;
        let made_last = self
            .instrs
            .last()
            .is_some_and(|last| arg == Arg::Register(last.to) && last.per_row == per_row);
        match is_result {
            false if is_half(to) && from != to => self.push(What::Round(to, arg), per_row),
            true if !made_last => self.push(What::Copy(arg), per_row),
            _ => arg,
        }
    }
}
