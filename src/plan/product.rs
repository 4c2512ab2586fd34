//! Matrix products that the CPU engine takes, and what is done to their elements before anybody
//! else sees them.

use super::draft::{Draft, DraftNode, Info};
use super::layout::Layout;
use super::outline::MOST_ROWS;
use super::program::{Fused, Operand};
use super::types::Compute;
use crate::graph::fragment::ValueId;
use crate::graph::{Dims, Op};
use candle_core::DType;
use smallvec::SmallVec;

/// More rows are worth packing the right side for.
const FEW_ROWS: usize = 4;

/// The most products in one step: one, another one beside it, the product of what a program makes of these
/// two, and another one beside that.
pub(crate) const PRODUCTS: usize = 4;

/// `[m, k]` times `[k, n]` for each of a batch, of floats; then a program on the result; then the
/// product of that and `[n, columns]`, and another program.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    /// The value of the last of these.
    pub(crate) value: ValueId,
    pub(crate) op: &'static str,
    /// Of the last of these.
    pub(crate) dims: Dims,
    pub(crate) dtype: DType,
    /// The type that is summed in, and that the programs compute in.
    pub(crate) compute: Compute,
    /// The sizes of the batch, but for those of 1.
    pub(crate) batch: Dims,
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) a: Factor,
    pub(crate) b: Factor,
    pub(crate) then: Option<Then>,
    pub(crate) second: Option<Second>,
}

/// A program whose operand is a product that nobody else needs, or two of them.
#[derive(Clone, Debug)]
pub(crate) struct Then {
    /// The product's own value, an operand of the program. It is never stored.
    pub(crate) raw: ValueId,
    pub(crate) beside: Option<Beside>,
    pub(crate) program: Box<Fused>,
}

/// Another product of the same shape and batch, an operand of the same program: the update of a
/// layer, or the other half of a gated one.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    /// Its own value, which is never stored either.
    pub(crate) raw: ValueId,
    pub(crate) op: &'static str,
    pub(crate) k: usize,
    pub(crate) a: Factor,
    pub(crate) b: Factor,
}

/// The right side of a product whose left side is made row by row.
#[derive(Clone, Debug)]
pub(crate) struct Second {
    pub(crate) b: Factor,
    pub(crate) columns: usize,
    pub(crate) then: Option<Then>,
}

/// Where the matrices lie that a product reads.
#[derive(Clone, Debug)]
pub(crate) struct Factor {
    pub(crate) value: ValueId,
    /// Whether it is read as it lies; else it is put in order first, should it not be.
    pub(crate) as_it_lies: bool,
    pub(crate) offset: usize,
    /// From one matrix of the batch to the next, for each of the batch's dimensions.
    pub(crate) batch: Dims,
    pub(crate) row: usize,
    pub(crate) col: usize,
}

/// What is multiplied: `[rows, k]` by `[k, n]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sides<'a> {
    /// Nothing where it is made row by row.
    pub(crate) a: Option<&'a Factor>,
    pub(crate) b: &'a Factor,
    pub(crate) k: usize,
    pub(crate) n: usize,
}

impl<'a> Sides<'a> {
    fn beside(then: Option<&'a Then>, n: usize) -> Option<Self> {
        let Beside { a, b, k, .. } = then?.beside.as_ref()?;
        let (a, k) = (Some(a), *k);
        Some(Self { a, b, k, n })
    }
}

impl Product {
    /// The values that it reads.
    pub(crate) fn inputs(&self) -> SmallVec<[ValueId; 4]> {
        let factors = self.factors().map(|factor| factor.value);
        factors.chain(self.operands().map(|o| o.value)).collect()
    }

    /// Whether these are read as they lie.
    pub(crate) fn lie(&self) -> impl Iterator<Item = bool> {
        let factors = self.factors().map(|factor| factor.as_it_lies);
        factors.chain(self.operands().map(|o| o.as_it_lies))
    }

    /// Its products, in this order: the first, the one beside it, the second, the one beside that.
    pub(crate) fn sides(&self) -> [Option<Sides<'_>>; PRODUCTS] {
        let Self { a, b, k, n, .. } = self;
        let (a, k, n) = (Some(a), *k, *n);
        let (second, columns) = (self.second.as_ref(), self.columns());
        let made = second.map(|second| Sides {
            a: None,
            b: &second.b,
            k: n,
            n: columns,
        });
        [
            Some(Sides { a, b, k, n }),
            Sides::beside(self.then.as_ref(), n),
            made,
            Sides::beside(second.and_then(|second| second.then.as_ref()), columns),
        ]
    }

    /// What they multiply.
    pub(super) fn factors(&self) -> impl Iterator<Item = &Factor> {
        let sides = self.sides().into_iter().flatten();
        sides.flat_map(|sides| sides.a.into_iter().chain([sides.b]))
    }

    /// The same, to be changed.
    pub(super) fn factors_mut(&mut self) -> impl Iterator<Item = &mut Factor> {
        let (second, then) = match &mut self.second {
            Some(second) => (Some(&mut second.b), second.then.as_mut()),
            None => (None, None),
        };
        let first = [&mut self.a, &mut self.b].into_iter();
        let first = first.chain(Then::factors_mut(self.then.as_mut()));
        first.chain(second).chain(Then::factors_mut(then))
    }

    /// The programs, in the order in which they run.
    pub(crate) fn programs(&self) -> impl Iterator<Item = &Then> {
        let second = self.second.iter().filter_map(|second| second.then.as_ref());
        self.then.iter().chain(second)
    }

    /// What the programs read, but for their products.
    fn operands(&self) -> impl Iterator<Item = &Operand> {
        self.programs().flat_map(Then::operands)
    }

    /// The columns of the result.
    pub(crate) fn columns(&self) -> usize {
        self.second.as_ref().map_or(self.n, |second| second.columns)
    }

    /// Whether there are few rows, and the operands lie so that sums run along both: queries that
    /// are compared with keys.
    pub(crate) fn is_few_by_columns(&self) -> bool {
        self.m <= FEW_ROWS && self.a.col == 1 && self.b.row == 1
    }

    /// Whether the left side is a whole value, in order.
    pub(super) fn lies_in_order(&self, value: &Info) -> bool {
        let Factor {
            batch, row, col, ..
        } = &self.a;
        let sizes = self.batch.iter().chain([&self.m, &self.k]).copied();
        let layout = Layout {
            dims: sizes.collect(),
            strides: batch.iter().chain([row, col]).copied().collect(),
            offset: self.a.offset,
        };
        layout.collapsed().is_all(value.dims.iter().product())
    }

    /// How many products it is.
    pub(crate) fn count(&self) -> usize {
        self.batch.iter().product()
    }

    /// The multiplications in it.
    pub(crate) fn work(&self) -> usize {
        let each = |Sides { k, n, .. }: Sides<'_>| [self.count(), self.m, n, k];
        let products = self.sides().into_iter().flatten().map(each);
        let times = |sizes: [usize; 4]| sizes.into_iter().fold(1, usize::saturating_mul);
        products.map(times).fold(0, usize::saturating_add)
    }
}

impl Then {
    /// The values of the products in the program.
    pub(crate) fn raws(&self) -> SmallVec<[ValueId; 2]> {
        let beside = self.beside.iter().map(|beside| beside.raw);
        [self.raw].into_iter().chain(beside).collect()
    }

    /// What the product beside multiplies.
    fn factors_mut(then: Option<&mut Self>) -> impl Iterator<Item = &mut Factor> {
        let beside = then.and_then(|then| then.beside.as_mut());
        beside
            .into_iter()
            .flat_map(|beside| [&mut beside.a, &mut beside.b])
    }

    /// The operands other than the products.
    fn operands(&self) -> impl Iterator<Item = &Operand> {
        let raws = self.raws();
        let other = move |input: &&Operand| !raws.contains(&input.value);
        self.program.inputs.iter().filter(other)
    }

    /// The program as what is done to such a product, if it can be: each of its elements, or
    /// whole rows, in the same order.
    pub(super) fn of(program: Box<Fused>, product: &Product) -> Result<Self, Box<Fused>> {
        let (raw, n) = (product.value, product.columns());
        let count = product.count() * product.m * n;
        let fits = program.compute == product.compute
            && !program.per_row
            && program.rows * program.cols == count
            && (!program.whole_rows || program.cols == n)
            && program.reads_in_order(raw);
        match fits {
            true => Ok(Self {
                raw,
                beside: None,
                program,
            }),
            false => Err(program),
        }
    }

    /// Takes another product of the shape of `product`, if the program reads it in the same order.
    pub(super) fn put_beside(&mut self, product: &Product, other: &Product) {
        let sizes = |product: &Product| (product.m, product.columns());
        let same = product.batch == other.batch && product.compute == other.compute;
        let alike = same && sizes(product) == sizes(other);
        let plain = other.then.is_none() && other.second.is_none();
        if alike && plain && self.program.reads_in_order(other.value) {
            self.beside = Some(Beside {
                raw: other.value,
                op: other.op,
                k: other.k,
                a: other.a.clone(),
                b: other.b.clone(),
            });
        }
    }
}

impl Fused {
    /// Whether it reads a value as a whole, in order, wherever it does.
    fn reads_in_order(&self, value: ValueId) -> bool {
        let count = self.rows * self.cols;
        let mut reads = self.inputs.iter().filter(|input| input.value == value);
        reads.all(|input| input.access.is_all(count))
    }
}

/// The product that a node is, if the engine takes it. `resolve` tells the value that a view looks
/// at, and where.
pub(super) fn product(
    draft: &Draft,
    node: &DraftNode,
    resolve: impl Fn(ValueId) -> (ValueId, Layout),
) -> Option<Product> {
    let op = node.op.own()?;
    let (Op::Matmul | Op::BroadcastMatmul, &[a, b]) = (op, &node.inputs[..]) else {
        return None;
    };
    let Info { dims, dtype, .. } = draft.info(node.value);
    let compute = Compute::of(*dtype).filter(|compute| compute.is_float())?;
    let &[ref batch @ .., m, n] = &dims[..] else {
        return None;
    };
    let k = *draft.info(a).dims.last()?;
    if k == 0 || dims.contains(&0) {
        return None;
    }
    let factor = |value: ValueId, rows: usize, cols: usize| {
        let (base, layout) = resolve(value);
        let full: Dims = batch.iter().copied().chain([rows, cols]).collect();
        let layout = match op {
            Op::Matmul => layout.viewed(&Op::Reshape(full[..].into()))?,
            _ => layout.broadcast(&full),
        };
        let (steps, matrix) = layout.strides.split_at(full.len() - 2);
        let steps = steps.iter().zip(batch).filter(|&(_, &size)| size > 1);
        Some(Factor {
            value: base,
            as_it_lies: draft.as_it_lies(base),
            offset: layout.offset,
            batch: steps.map(|(&step, _)| step).collect(),
            row: matrix[0],
            col: matrix[1],
        })
    };
    let mut product = Product {
        value: node.value,
        op: op.name(),
        dims: dims.clone(),
        dtype: *dtype,
        compute,
        a: factor(a, m, k)?,
        b: factor(b, k, n)?,
        batch: batch.iter().copied().filter(|&size| size > 1).collect(),
        m,
        k,
        n,
        then: None,
        second: None,
    };
    product.join_rows();
    // `mkl` and `accelerate` have products of their own, which Candle calls. Those of few rows and
    // those of attention are the engine's all the same: it runs others' rows with them, and what
    // follows on them.
    let library = cfg!(any(feature = "mkl", feature = "accelerate"));
    let own = !library || product.m <= MOST_ROWS || !product.batch.is_empty();
    own.then_some(product)
}

impl Product {
    /// One right side for the whole batch: all left sides as one, if they lie so that strides can
    /// say it.
    fn join_rows(&mut self) {
        if self.batch.is_empty() || self.b.batch.iter().any(|&step| step != 0) {
            return;
        }
        let rows = self.batch.iter().chain([&self.m]).copied();
        let steps = self.a.batch.iter().chain([&self.a.row]).copied();
        let layout = Layout {
            dims: rows.chain([self.k]).collect(),
            strides: steps.chain([self.a.col]).collect(),
            offset: self.a.offset,
        };
        let m = self.count() * self.m;
        if let Some(joined) = layout.viewed(&Op::Reshape([m, self.k].into())) {
            (self.a.row, self.a.col) = (joined.strides[0], joined.strides[1]);
            self.m = m;
            self.batch.clear();
            self.a.batch.clear();
            self.b.batch.clear();
        }
    }
}
