//! Which steps of a plan several fragments can run as one.
//!
//! In a batch a value is either the same for all fragments (a weight, and what is made of weights
//! alone), or each has its own. Then those of all fragments lie one after another, each in order.
//! A step can run as one where that is still a walk over rows: rows of the same kind, any number of
//! each fragment. Failing that, the fragment's whole value is one row, and fragments of the same
//! shapes run as one (*stacked*).

use super::product::{Factor, Then};
use super::program::{Arg, Fused, Instr, Operand, What};
use super::types::Number;
use super::walk::Walk;
use super::{OpStep, Plan, PlannedOp, Product, Step};
use crate::graph::fragment::ValueId;
use crate::graph::{Dims, Op};
use smallvec::SmallVec;

/// What becomes of the steps of a plan in a batch, once it is known which of its sources are the
/// same for all.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) steps: Vec<Together>,
    /// For each value, whether it is the same for all.
    pub(crate) same: Vec<bool>,
}

/// How a step runs for several fragments.
#[derive(Debug)]
pub(crate) enum Together {
    /// Once, for all whose step says the same: nothing that it reads is a fragment's own. With the
    /// numbers of the fragment that it takes.
    Once(String, SmallVec<[u32; 4]>),
    /// As one, with all fragments whose step is of the same kind.
    Rows(Box<Rows>),
    /// For each by itself.
    Apart,
}

/// A step on the rows of several fragments.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) kind: Kind,
    /// How many of the rows are this fragment's.
    pub(crate) rows: usize,
    /// The numbers of the fragment that it takes, which must be the same for all.
    pub(crate) parameters: SmallVec<[u32; 4]>,
}

/// Steps of the same kind run as one. Its text tells all that must agree.
#[derive(Debug)]
pub(crate) enum Kind {
    Fused(Box<Program>),
    Product(Box<Factors>),
    /// Slices of a table.
    Select(OpStep),
}

/// A program on rows, however many.
#[derive(Debug)]
pub(crate) struct Program {
    /// For no rows at all; its operands are walked over as `walks` say.
    step: Fused,
    walks: SmallVec<[Walk; 4]>,
    /// Elements of a row.
    each: usize,
}

/// A product for any number of rows, or for any number of fragments whose products are stacked.
#[derive(Debug)]
pub(crate) struct Factors {
    /// For no rows at all if it is one of rows, and so its programs.
    step: Product,
    /// Of stacked products, from one side to the next of each.
    stacked: Option<SmallVec<[usize; 4]>>,
    /// What its programs are for any number of rows.
    then: Option<Program>,
    second: Option<Program>,
}

/// The most bytes of a fragment that are worth copying, to save what it costs to begin and end a step.
const WORTH_MOVING: usize = 16 << 10;

impl Rows {
    /// Whether running as one saves more than it costs to bring `bytes` bytes of each fragment
    /// together. It always does for products whose right side is read for all: there are more of its
    /// columns than of rows.
    pub(crate) fn is_worth_moving(&self, bytes: usize) -> bool {
        bytes <= WORTH_MOVING
            || matches!(&self.kind, Kind::Product(factors) if !factors.is_stacked())
    }
}

/// Which values are the same for all, and how many elements each has.
struct Values<'a> {
    same: Vec<bool>,
    counts: &'a [usize],
}

impl Form {
    /// The form of a plan, if those of its values that it does not compute are the same for all
    /// fragments as `same` says. `counts` are the elements of each value.
    pub(crate) fn of(plan: &Plan, same: &[bool], counts: &[usize]) -> Self {
        let mut values = Values {
            same: same.to_vec(),
            counts,
        };
        let steps = plan.steps.iter().map(|step| {
            let together = values.together(step);
            values.same[step.value() as usize] = matches!(together, Together::Once(..));
            together
        });
        let steps = steps.collect();
        Self {
            steps,
            same: values.same,
        }
    }
}

impl Values<'_> {
    fn is_same(&self, value: ValueId) -> bool {
        self.same[value as usize]
    }

    fn together(&self, step: &Step) -> Together {
        let inputs = step.inputs();
        let (foreign, parameters) = match step {
            Step::Op(step) => (step.op.own().is_none(), SmallVec::new()),
            Step::Fused(step) => (false, parameters([&**step])),
            Step::Product(step) => (false, of_product(step)),
        };
        let same = !inputs.is_empty() && inputs.into_iter().all(|input| self.is_same(input));
        if same && !foreign {
            return Together::Once(format!("{step:?}"), parameters);
        }
        let rows = match step {
            Step::Op(step) => self.select(step),
            Step::Fused(step) => self.fused(step),
            Step::Product(step) => self.row_product(step).or_else(|| self.stacked(step)),
        };
        rows.map_or(Together::Apart, |rows| Together::Rows(Box::new(rows)))
    }

    /// Slices of a table that is the same for all.
    fn select(&self, step: &OpStep) -> Option<Rows> {
        let (PlannedOp::Own(Op::IndexSelect(0)), &[table, indices]) = (&step.op, &step.inputs[..])
        else {
            return None;
        };
        let fits = self.is_same(table) && !self.is_same(indices) && !step.dims.is_empty();
        fits.then(|| Rows {
            rows: step.dims[0],
            parameters: SmallVec::new(),
            kind: Kind::Select(OpStep {
                dims: step.dims[1..].into(),
                op: step.op.clone(),
                inputs: step.inputs.clone(),
                ..*step
            }),
        })
    }

    fn fused(&self, step: &Fused) -> Option<Rows> {
        let count = step.rows * step.cols;
        let each = self.row(step)?;
        let (program, rows) = match self.program(step, count / each, &[]) {
            Some(program) => (program, count / each),
            None => (self.program(step, 1, &[])?, 1),
        };
        Some(Rows {
            rows,
            parameters: parameters([step]),
            kind: Kind::Fused(Box::new(program)),
        })
    }

    /// The shortest row that the program's operands may allow.
    fn row(&self, step: &Fused) -> Option<usize> {
        let count = step.rows * step.cols;
        let mut each = if step.whole_rows { step.cols } else { 1 };
        for input in &step.inputs {
            let access = &input.access;
            let elements: usize = access.dims.iter().product();
            let scale = if elements == count { 1 } else { step.cols };
            let inner = access.dims.iter().skip(1).product::<usize>();
            let steps = (access.strides.first(), self.is_same(input.value));
            let own = match steps {
                (None | Some(0), _) | (_, false) => inner,
                (Some(_), true) => elements,
            };
            each = each.max(own * scale);
        }
        each = each.next_multiple_of(step.unit.max(1));
        (count > 0).then(|| {
            if count.is_multiple_of(each) {
                each
            } else {
                count
            }
        })
    }

    /// The program for `rows` rows of this fragment; `raws` are products' own values in it.
    fn program(&self, step: &Fused, rows: usize, raws: &[ValueId]) -> Option<Program> {
        let count = step.rows * step.cols;
        if count == 0 || rows == 0 || !count.is_multiple_of(rows) {
            return None;
        }
        let each = count / rows;
        let whole = !step.whole_rows || each.is_multiple_of(step.cols);
        if !whole || !each.is_multiple_of(step.unit.max(1)) {
            return None;
        }
        let walk = |input: &Operand| {
            let elements: usize = input.access.dims.iter().product();
            let raw = raws.contains(&input.value);
            let own = match self.is_same(input.value) && !raw {
                true => None,
                false if raw => Some(count),
                false => Some(self.counts[input.value as usize]),
            };
            let fits = elements.is_multiple_of(rows) && !(own.is_some() && input.as_it_lies);
            fits.then(|| Walk::of(&input.access, rows, own))?
        };
        let walks: SmallVec<[Walk; 4]> = step.inputs.iter().map(walk).collect::<Option<_>>()?;
        let mut step = Fused {
            rows: 0,
            cols: if step.whole_rows { step.cols } else { each },
            dims: Dims::new(),
            ..step.clone()
        };
        for (input, walk) in step.inputs.iter_mut().zip(&walks) {
            input.access = walk.access(2); // as for any number of rows but one
        }
        load_what_is_no_run(&mut step);
        Some(Program { step, walks, each })
    }

    /// Products whose left rows are the fragment's own, with programs on their rows.
    fn row_product(&self, step: &Product) -> Option<Rows> {
        let all = || step.sides().into_iter().flatten();
        let same = all().all(|sides| self.is_same(sides.b.value));
        let few = step.second.is_some() && step.is_few_by_columns();
        if !same || !step.batch.is_empty() || few {
            return None;
        }
        let row = |left: &Factor| self.counts[left.value as usize] / step.m;
        let fits = |left: &Factor| {
            let own = !self.is_same(left.value) && !left.as_it_lies;
            let whole = self.counts[left.value as usize].is_multiple_of(step.m);
            own && whole && (step.m == 1 || left.row == row(left))
        };
        if !all().filter_map(|sides| sides.a).all(fits) {
            return None;
        }
        let mut factors = self.factors(step, step.m, None)?;
        factors.step.m = 0;
        for left in factors.step.factors_mut() {
            if !self.is_same(left.value) {
                left.row = row(left);
            }
        }
        Some(Rows {
            rows: step.m,
            parameters: of_product(step),
            kind: Kind::Product(Box::new(factors)),
        })
    }

    /// A product of each fragment, beside those of others of the same shapes.
    fn stacked(&self, step: &Product) -> Option<Rows> {
        let each = |factor: &Factor| match self.is_same(factor.value) {
            true => Some(0),
            false => (!factor.as_it_lies).then(|| self.counts[factor.value as usize]),
        };
        let steps = step.factors().map(each).collect::<Option<_>>()?;
        Some(Rows {
            rows: 1,
            parameters: of_product(step),
            kind: Kind::Product(Box::new(self.factors(step, 1, Some(steps))?)),
        })
    }

    fn factors(
        &self,
        step: &Product,
        rows: usize,
        stacked: Option<SmallVec<[usize; 4]>>,
    ) -> Option<Factors> {
        let mut step = step.clone();
        let program = |then: Option<&mut Then>| match then {
            Some(then) => {
                let program = self.program(&then.program, rows, &then.raws())?;
                *then.program = program.step.clone(); // nothing of its rows
                Some(Some(program))
            }
            None => Some(None),
        };
        step.dims.clear();
        let second = step.second.as_mut().and_then(|second| second.then.as_mut());
        Some(Factors {
            second: program(second)?,
            then: program(step.then.as_mut())?,
            step,
            stacked,
        })
    }
}

/// Reads by a load what is not the same run of elements for several rows as it is for one.
fn load_what_is_no_run(step: &mut Fused) {
    let mut loads = Vec::new();
    for number in 0..step.inputs.len() as u16 {
        let access = &step.inputs[number as usize].access;
        let read = |instr: &Instr| instr.what.args().contains(&Arg::Input(number));
        let Some(reader) = step.instrs.iter().find(|i| read(i)) else {
            continue;
        };
        if access.is_run() && !access.strides.is_empty() {
            continue;
        }
        let to = (step.registers + loads.len()) as u16;
        let per_row = reader.per_row && !matches!(reader.what, What::Reduce(..));
        for instr in &mut step.instrs {
            for arg in instr.what.args_mut() {
                if *arg == Arg::Input(number) {
                    *arg = Arg::Register(to);
                }
            }
        }
        let what = What::Load(number);
        loads.push(Instr { what, to, per_row });
    }
    step.registers += loads.len();
    let steady = |instr: &Instr| {
        let period = instr.what.period(&step.inputs);
        !instr.per_row && period.is_some_and(|period| step.unit.is_multiple_of(period))
    };
    let (again, once): (Vec<_>, Vec<_>) = loads.into_iter().partition(|load| !steady(load));
    let before = step.instrs.iter().take(step.steady);
    let still = before.take_while(|instr| steady(instr)).count();
    step.steady = once.len() + still;
    let others = step.instrs.split_off(still);
    let kept = std::mem::take(&mut step.instrs);
    step.instrs = [once, kept, again, others].concat();
}

/// The numbers of the fragment that programs take.
fn parameters<'a>(programs: impl IntoIterator<Item = &'a Fused>) -> SmallVec<[u32; 4]> {
    let mut all = SmallVec::new();
    for instr in programs.into_iter().flat_map(|program| &program.instrs) {
        let numbers = match instr.what {
            What::Elu(_, x)
            | What::Powf(_, x)
            | What::BinaryScalar(_, _, x)
            | What::CompareScalar(_, _, x) => [Some(x), None],
            What::Affine(_, x, y) => [Some(x), Some(y)],
            _ => [None; 2],
        };
        all.extend(numbers.into_iter().flatten().filter_map(|x| match x {
            Number::Parameter(place) => Some(place),
            _ => None,
        }));
    }
    all
}

/// The same of the programs of a product.
fn of_product(step: &Product) -> SmallVec<[u32; 4]> {
    parameters(step.programs().map(|then| &*then.program))
}

impl Program {
    /// The step for `rows` rows.
    pub(crate) fn on(&self, rows: usize) -> Fused {
        let mut step = self.step.clone();
        step.rows = rows * (self.each / step.cols);
        let count = if step.per_row {
            step.rows
        } else {
            rows * self.each
        };
        step.dims = [count].into_iter().collect();
        for (input, walk) in step.inputs.iter_mut().zip(&self.walks) {
            input.access = walk.access(rows);
        }
        step
    }
}

impl Factors {
    /// Whether products of whole fragments stand side by side, and not rows of one.
    pub(crate) fn is_stacked(&self) -> bool {
        self.stacked.is_some()
    }

    /// The step for `rows` rows, or for that many stacked products.
    pub(crate) fn on(&self, rows: usize) -> Product {
        let mut step = self.step.clone();
        match &self.stacked {
            Some(steps) => {
                step.batch.insert(0, rows);
                let factors = step.factors_mut().zip(steps);
                factors.for_each(|(factor, &each)| factor.batch.insert(0, each));
            }
            None => step.m = rows,
        }
        let count = step.count() * step.m * step.columns();
        step.dims = [count].into_iter().collect();
        let put = |then: Option<&mut Then>, program: &Option<Program>| {
            if let (Some(then), Some(program)) = (then, program) {
                *then.program = program.on(rows);
            }
        };
        put(step.then.as_mut(), &self.then);
        let second = step.second.as_mut().and_then(|second| second.then.as_mut());
        put(second, &self.second);
        step
    }
}
