//! Which programs run on the rows of a matrix product while it is made: a bias, an activation, a
//! residual; and between two products, as attention has it.

use super::Step;
use super::fuse::Fuse;
use super::layout::is_view;
use super::product::{Product, Second, Sides, Then, product};
use super::program::Fused;
use super::role::Role;
use super::types::Compute;
use crate::graph::fragment::ValueId;
use std::collections::BTreeSet;

/// From this number of rows on there are enough for all threads: columns need not be divided.
const MANY_ROWS: usize = 256;
/// With fewer rows, a program that looks at whole rows runs on a product only if its right side has at most this
/// number of elements.
const SMALL_RIGHT: usize = 1 << 20;

/// Whether a product is better made together with what looks at its rows.
fn suits(program: &Fused, product: &Product) -> bool {
    let right = |sides: Sides<'_>| sides.k * sides.n;
    let last = product.sides().into_iter().flatten().last();
    let small = last.map(right).is_some_and(|right| right <= SMALL_RIGHT);
    !program.whole_rows || product.m >= MANY_ROWS || small
}

impl Fuse<'_> {
    /// A fused step, or the products that it is done to.
    pub(super) fn elements(&self, place: usize, role: Role, compute: Compute) -> Step {
        let (program, members) = self.group(place, role, compute);
        let under = self.products_under(&program, &members);
        let product = under.first().and_then(|&place| self.product(place));
        let product = product.filter(|product| suits(&program, product));
        let Some(mut product) = product else {
            return Step::Fused(program);
        };
        let (value, dims, dtype) = (program.value, program.dims.clone(), program.dtype);
        let mut then = match Then::of(program, &product) {
            Ok(then) => then,
            Err(program) => return Step::Fused(program),
        };
        self.beside(&mut then, &product, &under);
        (product.value, product.dims, product.dtype) = (value, dims, dtype);
        match &mut product.second {
            Some(second) => second.then = Some(then),
            None => product.then = Some(then),
        }
        Step::Product(Box::new(product))
    }

    /// Takes another product that the program works on, if there is one that fits.
    fn beside(&self, then: &mut Then, product: &Product, under: &[usize]) {
        for &place in &under[1..] {
            let other = self.product_alone(place);
            let other = other.filter(|other| suits(&then.program, other));
            if let (Some(other), None) = (other, &then.beside) {
                then.put_beside(product, &other);
            }
        }
    }

    /// The product that a node is, together with the product whose rows make its left side.
    pub(super) fn product(&self, place: usize) -> Option<Product> {
        let last = self.product_alone(place)?;
        Some(match self.product_before(&last) {
            Some((mut first, then)) => {
                first.second = Some(Second {
                    b: last.b,
                    columns: last.n,
                    then: None,
                });
                (first.value, first.dims, first.op) = (last.value, last.dims, last.op);
                first.dtype = last.dtype;
                first.then = Some(then);
                first
            }
            None => last,
        })
    }

    fn product_alone(&self, place: usize) -> Option<Product> {
        let node = &self.draft.nodes[place];
        product(self.draft, node, |value| self.resolve(value))
    }

    /// The product, and the program on its rows, that together make the left side of `last`.
    fn product_before(&self, last: &Product) -> Option<(Product, Then)> {
        let left = last.a.value;
        let maker = self.makers[left as usize]? as usize;
        let (role, compute) = self.own(maker)?;
        let reader = BTreeSet::from([self.makers[last.value as usize]? as usize]);
        let all = last.lies_in_order(self.info(left));
        if !all || !self.is_only_read_by(left, &reader) {
            return None;
        }
        let (program, members) = self.group(maker, role, compute);
        if !program.whole_rows && last.m < MANY_ROWS {
            return None; // two steps, whose columns can be divided among threads
        }
        let under = self.products_under(&program, &members);
        let first = self.product_alone(*under.first()?)?;
        let same = (&first.batch, first.m, first.n, first.compute)
            == (&last.batch, last.m, last.k, last.compute);
        let mut then = same.then(|| Then::of(program, &first).ok())??;
        self.beside(&mut then, &first, &under);
        Some((first, then))
    }

    /// The products that are operands of the program, and of nothing else: those with longer sums
    /// first, else the later ones.
    fn products_under(&self, program: &Fused, members: &BTreeSet<usize>) -> Vec<usize> {
        let operands = program.inputs.iter().map(|input| input.value);
        let makers = operands.filter_map(|value| {
            let maker = self.makers[value as usize]? as usize;
            self.is_only_read_by(value, members).then_some(maker)
        });
        let makers: BTreeSet<usize> = makers.collect();
        let products = makers.into_iter().filter_map(|place| {
            let product = self.product_alone(place)?;
            Some((product.k, place))
        });
        let mut products: Vec<(usize, usize)> = products.collect();
        products.sort_unstable();
        let last_first = products.into_iter().rev();
        last_first.map(|(_, place)| place).collect()
    }

    /// Whether nobody else needs a value, nor a view of it.
    fn is_only_read_by(&self, value: ValueId, readers: &BTreeSet<usize>) -> bool {
        let reads = |value: ValueId| -> u32 {
            let inputs = readers.iter().flat_map(|&r| &self.draft.nodes[r].inputs);
            inputs.filter(|&&input| input == value).count() as u32
        };
        let view = |&input: &ValueId| -> bool {
            let maker = self.makers[input as usize].map(|m| &self.draft.nodes[m as usize]);
            maker.is_some_and(|node| {
                node.inputs[..] == [value]
                    && node.op.own().is_some_and(is_view)
                    && reads(input) == self.uses[input as usize]
            })
        };
        let inputs = readers.iter().flat_map(|&r| &self.draft.nodes[r].inputs);
        let views: BTreeSet<ValueId> = inputs.copied().filter(view).collect();
        reads(value) + views.len() as u32 == self.uses[value as usize]
    }
}
