//! Plans for people: as text, and as graphs in the DOT language.

mod batching;

use super::draft::PlannedOp;
use super::estimate::{Cost, Known, bytes, cost, flops, human};
use super::layout::is_view;
use super::product::{Beside, Product, Then};
use super::{Fused, OpStep, Plan, Step};
use crate::graph::Op;
use crate::graph::fragment::{Fragment, Source, ValueId};
use batching::Batching;
use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::ops::Range;

/// How a submission would run: see [`Executor::explain`](crate::Executor::explain).
///
/// Its `Display` is the plan: a line for each tensor that it begins with; two for each step, the
/// second with estimates of the bytes it reads and writes and of the operations on numbers, and
/// with the values that are done with after it, whose buffers go back to the pool for later steps,
/// or are freed; and the totals. Small steps that run side by side name each other; what they need is
/// done with after the last of them. `candle` is an operation that Candle runs by itself; `fused` and
/// `product` are the CPU engine's.
///
/// In brackets is how the step would run in a [batch](crate::Batching) on the CPU, beside others of
/// the same structure that were handed the same tensors and have host data and results of other
/// submissions of their own. The last line is what is copied for it, or why there is no batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    text: String,
    graph: String,
    plan: String,
    steps: usize,
    engine: usize,
    cost: Cost,
    batched: Option<(usize, usize)>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Explanation {
    /// The graph as it was built, in the DOT language: one box for each operation.
    pub fn graph_dot(&self) -> &str {
        &self.graph
    }

    /// The plan in the DOT language: one box for each step, beside each other those that run so.
    pub fn plan_dot(&self) -> &str {
        &self.plan
    }

    /// How many steps the plan has.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// How many of them the CPU engine runs; the others go through Candle.
    pub fn engine_steps(&self) -> usize {
        self.engine
    }

    /// About how many bytes the steps read. What several steps read counts for each.
    pub fn bytes_read(&self) -> usize {
        self.cost.read
    }

    /// About how many bytes the steps write.
    pub fn bytes_written(&self) -> usize {
        self.cost.written
    }

    /// About how many operations on numbers the steps do: of products, their multiplications and
    /// additions; of the others, a few for each element, a function like `exp` as one. A custom
    /// operation counts one for each element of its result.
    pub fn flops(&self) -> usize {
        self.cost.work
    }

    /// How many steps would run as one with those of others, in a [batch](crate::Batching) on the
    /// CPU; `None` if the fragment runs by itself, for the reason that is the last line of the text.
    pub fn steps_in_batch(&self) -> Option<usize> {
        self.batched.map(|(steps, _)| steps)
    }

    /// How many bytes of the fragment would be copied for a batch: for each in it,
    /// [`Stats::batch_bytes_moved`](crate::Stats::batch_bytes_moved) grows by so many.
    pub fn batch_bytes_moved(&self) -> Option<usize> {
        self.batched.map(|(_, bytes)| bytes)
    }
}

/// Explains the plan of a fragment.
pub(super) fn explain<S>(fragment: &Fragment<S>, plan: &Plan) -> Explanation {
    let mut known = Known::new();
    for source in &fragment.sources {
        known.insert(source.value, (source.dims.clone(), source.dtype));
    }
    for node in &fragment.computed {
        known.insert(node.value, (node.dims.clone(), node.dtype));
    }
    let engine = |step: &&Step| !matches!(step, Step::Op(_));
    let opaque = fragment.computed.iter().map(|node| &node.op);
    let attached: Vec<&Op> = opaque.filter(|op| op.is_opaque()).collect();
    let costs = plan.steps.iter().map(|step| {
        let op = match step {
            Step::Op(step) => op_of(step, &attached),
            _ => None,
        };
        (op, cost(step, op, &known))
    });
    let costs: Vec<(Option<&Op>, Cost)> = costs.collect();
    let mut total = Cost::default();
    costs.iter().for_each(|(_, cost)| total += *cost);
    let batching = batching::batching(fragment, plan, &known);
    Explanation {
        batched: batching.gain,
        text: text(fragment, plan, &known, &costs, total, &batching),
        graph: graph(fragment, &known),
        plan: steps(fragment, plan, &known, &costs),
        steps: plan.steps.len(),
        engine: plan.steps.iter().filter(engine).count(),
        cost: total,
    }
}

/// The operation of a step that Candle runs.
fn op_of<'a>(step: &'a OpStep, attached: &[&'a Op]) -> Option<&'a Op> {
    match &step.op {
        PlannedOp::Own(op) => Some(op),
        PlannedOp::Attached(place) => attached.get(*place as usize).copied(),
    }
}

fn text<S>(
    fragment: &Fragment<S>,
    plan: &Plan,
    known: &Known,
    costs: &[(Option<&Op>, Cost)],
    total: Cost,
    batching: &Batching,
) -> String {
    let mut out = String::new();
    for source in &fragment.sources {
        let from = match source.source {
            Source::Leaf(..) => "tensor",
            Source::Submitted(_) => "submitted",
        };
        let shape = shape(known, source.value);
        let _ = writeln!(out, "%{} = {from} {shape}", source.value);
    }
    let mut buffers = Buffers::default();
    let mut ends = plan.last_uses.iter().peekable();
    let ranges: Vec<Range<usize>> = plan.ranges().collect();
    let mut range = 0;
    for ((place, batched), (step, (op, cost))) in
        (0..).zip(&batching.steps).zip(plan.steps.iter().zip(costs))
    {
        let _ = write!(out, "%{} = {} ", step.value(), shape(known, step.value()));
        let _ = match step {
            Step::Op(step) => {
                let name = op.map_or("custom", Op::name);
                writeln!(out, "candle {name}({})", list(&step.inputs))
            }
            Step::Fused(step) => writeln!(out, "fused {}", fused_line(step)),
            Step::Product(step) => writeln!(out, "{}", product_line(step)),
        };
        range += usize::from(place >= ranges[range].end);
        let together = &ranges[range];
        let mut done = Vec::new();
        if place + 1 == together.end {
            while let Some((_, value)) = ends.next_if(|(after, _)| (*after as usize) <= place) {
                done.push(*value);
            }
        }
        let others = together.clone().filter(|&other| other != place);
        let others: Vec<ValueId> = others.map(|other| plan.steps[other].value()).collect();
        let beside = match others.is_empty() {
            true => String::new(),
            false => format!("; beside {}", list(&others)),
        };
        let is_view = op.is_some_and(is_view);
        let fate = buffers.after(step, &done, is_view, known);
        let what = match is_view {
            true => "a view".to_owned(),
            false => costs_line(*cost),
        };
        let batched = match batched.as_str() {
            "" => String::new(),
            how => format!(" [{how}]"),
        };
        let _ = writeln!(out, "    {what}{beside}{batched}{fate}");
    }
    let candle = costs.iter().filter(|(op, _)| op.is_some()).count();
    let _ = writeln!(
        out,
        "outputs {}; {} steps for {} operations, {candle} through Candle; {}; at most {} of \
         results at once; buffers to the pool: {}",
        list(&plan.outputs),
        plan.steps.len(),
        fragment.computed.len(),
        costs_line(total),
        human(buffers.most),
        buffers.pooled,
    );
    let _ = writeln!(out, "{}", batching.all);
    out
}

fn costs_line(cost: Cost) -> String {
    let (read, written) = (human(cost.read), human(cost.written));
    format!("reads {read}, writes {written}, {}", flops(cost.work))
}

/// The buffers of results while the steps run, as the runner handles them.
#[derive(Default)]
struct Buffers {
    /// Made by steps, and not done with.
    live: BTreeSet<ValueId>,
    /// Those of them that nobody but the engine has seen.
    own: BTreeSet<ValueId>,
    bytes: usize,
    /// The most bytes at once.
    most: usize,
    /// How many went to the pool.
    pooled: usize,
}

impl Buffers {
    /// What becomes of the values that are done with after a step.
    fn after(&mut self, step: &Step, done: &[ValueId], is_view: bool, known: &Known) -> String {
        let value = step.value();
        match step {
            // Candle's result may be a view of what it was given
            Step::Op(step) => step.inputs.iter().for_each(|input| {
                self.own.remove(input);
            }),
            _ => {
                self.own.insert(value);
            }
        }
        if !is_view {
            self.live.insert(value);
            self.bytes += bytes(known, value);
            self.most = self.most.max(self.bytes);
        }
        let (mut pooled, mut freed) = (Vec::new(), Vec::new());
        for &value in done {
            if self.live.remove(&value) {
                self.bytes -= bytes(known, value);
                match self.own.remove(&value) {
                    true => pooled.push(value),
                    false => freed.push(value),
                }
            }
        }
        self.pooled += pooled.len();
        let mut fate = String::new();
        for (values, what) in [(pooled, "to the pool"), (freed, "freed")] {
            if !values.is_empty() {
                let _ = write!(fate, "; then {} {what}", list(&values));
            }
        }
        fate
    }
}

fn fused_line(step: &Fused) -> String {
    let inputs = step.inputs.iter().map(|input| {
        let strides = &input.access.strides;
        match input.access.is_run() {
            true => format!("%{}", input.value),
            false => format!("%{} in strides {strides:?}", input.value),
        }
    });
    let inputs: Vec<String> = inputs.collect();
    let rows = match step.whole_rows {
        true => format!(" over {} rows of {}", step.rows, step.cols),
        false => String::new(),
    };
    let over = match step.over {
        Some(operand) => format!(" written over %{}", step.inputs[operand as usize].value),
        None => String::new(),
    };
    let ops = step.ops.join(", ");
    format!("{{{ops}}}({}){rows}{over}", inputs.join(", "))
}

fn product_line(step: &Product) -> String {
    let Product { op, m, k, n, .. } = step;
    let batch = match step.count() {
        1 => String::new(),
        count => format!("{count} times "),
    };
    let (a, b) = (step.a.value, step.b.value);
    let mut line = format!("product {op}(%{a}, %{b}) of {batch}{m} x {k} x {n}");
    line += &then_line(step.then.as_ref());
    if let Some(second) = &step.second {
        let (b, columns) = (second.b.value, second.columns);
        let _ = write!(line, ", times %{b} of {n} x {columns}");
        line += &then_line(second.then.as_ref());
    }
    line
}

/// What is done to a product, with another one.
fn then_line(then: Option<&Then>) -> String {
    let Some(then) = then else {
        return String::new();
    };
    let beside = then.beside.as_ref().map(|beside| {
        let Beside { op, a, b, k, .. } = beside;
        format!(", beside {op}(%{}, %{}) over {k}", a.value, b.value)
    });
    let program = fused_line(&then.program);
    format!("{}, then {program}", beside.unwrap_or_default())
}

fn graph<S>(fragment: &Fragment<S>, known: &Known) -> String {
    let mut dot = Dot::new("graph");
    for source in &fragment.sources {
        dot.source(source.value, known);
    }
    for node in &fragment.computed {
        let label = format!("{}\n{}", node.op.name(), shape(known, node.value));
        dot.node(node.value, &label, "box", node.inputs.iter().copied());
    }
    dot.end()
}

fn steps<S>(
    fragment: &Fragment<S>,
    plan: &Plan,
    known: &Known,
    costs: &[(Option<&Op>, Cost)],
) -> String {
    let mut dot = Dot::new("plan");
    for source in &fragment.sources {
        dot.source(source.value, known);
    }
    for (step, (op, _)) in plan.steps.iter().zip(costs) {
        let (what, look) = match step {
            Step::Op(_) => (op.map_or("custom", Op::name).to_owned(), "box"),
            Step::Fused(step) => (step.ops.join("\n"), "box, style=rounded"),
            Step::Product(step) => (product_name(step), "box, style=rounded"),
        };
        let label = format!("{what}\n{}", shape(known, step.value()));
        dot.node(step.value(), &label, look, step.inputs().iter().copied());
    }
    for range in plan.ranges().filter(|range| range.len() > 1) {
        dot.same_rank(plan.steps[range].iter().map(Step::value));
    }
    dot.end()
}

fn product_name(step: &Product) -> String {
    fn of(then: Option<&Then>) -> impl Iterator<Item = &str> {
        let beside = then.and_then(|then| then.beside.as_ref());
        let ops = then.into_iter().flat_map(|then| &then.program.ops);
        beside
            .map(|beside| beside.op)
            .into_iter()
            .chain(ops.copied())
    }
    let mut all = vec![step.op];
    all.extend(of(step.then.as_ref()));
    if let Some(second) = &step.second {
        all.push(step.op);
        all.extend(of(second.then.as_ref()));
    }
    all.join("\n")
}

/// A graph in the DOT language, in the making.
struct Dot(String);

impl Dot {
    fn new(name: &str) -> Self {
        Self(format!("digraph {name} {{\n"))
    }

    fn source(&mut self, value: ValueId, known: &Known) {
        self.node(value, &shape(known, value), "ellipse", std::iter::empty());
    }

    fn node(
        &mut self,
        value: ValueId,
        label: &str,
        look: &str,
        inputs: impl Iterator<Item = ValueId>,
    ) {
        let label = label.replace('\\', "\\\\").replace('"', "\\\"");
        let label = label.replace('\n', "\\n");
        let _ = writeln!(self.0, "  v{value} [label=\"{label}\", shape={look}];");
        for input in inputs {
            let _ = writeln!(self.0, "  v{input} -> v{value};");
        }
    }

    /// Draws these beside each other.
    fn same_rank(&mut self, values: impl Iterator<Item = ValueId>) {
        self.0.push_str("  { rank=same;");
        for value in values {
            let _ = write!(self.0, " v{value};");
        }
        self.0.push_str(" }\n");
    }

    fn end(mut self) -> String {
        self.0.push_str("}\n");
        self.0
    }
}

fn list(values: &[ValueId]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("%{value}")).collect();
    values.join(", ")
}

fn shape(known: &Known, value: ValueId) -> String {
    match known.get(&value) {
        Some((dims, dtype)) => format!("{:?} {}", &dims[..], dtype.as_str()),
        None => "?".to_owned(),
    }
}
