//! Plans for people: as text, and as graphs in the DOT language.

use super::draft::PlannedOp;
use super::product::Product;
use super::{Fused, OpStep, Plan, Step};
use crate::graph::fragment::{Fragment, Source, ValueId};
use crate::graph::{Dims, Op};
use candle_core::DType;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// How a submission would run: see [`Executor::explain`](crate::Executor::explain). Its
/// `Display` is the plan's steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    text: String,
    graph: String,
    plan: String,
    steps: usize,
    engine: usize,
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

    /// The plan in the DOT language: one box for each step.
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
}

/// Shape and dtype of each value that is known.
type Known = BTreeMap<ValueId, (Dims, DType)>;

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
    Explanation {
        text: text(fragment, plan, &known),
        graph: graph(fragment, &known),
        plan: steps(fragment, plan, &known),
        steps: plan.steps.len(),
        engine: plan.steps.iter().filter(engine).count(),
    }
}

fn text<S>(fragment: &Fragment<S>, plan: &Plan, known: &Known) -> String {
    let mut out = String::new();
    for source in &fragment.sources {
        let from = match source.source {
            Source::Leaf(..) => "tensor",
            Source::Submitted(_) => "submitted",
        };
        let _ = writeln!(
            out,
            "%{} = {from} {}",
            source.value,
            shape(known, source.value)
        );
    }
    let (mut live, mut most) = (0, 0);
    let mut ends = plan.last_uses.iter().peekable();
    let made: Vec<ValueId> = plan.steps.iter().map(Step::value).collect();
    for (place, step) in (0..).zip(&plan.steps) {
        let _ = write!(out, "%{} = {} ", step.value(), shape(known, step.value()));
        let _ = match step {
            Step::Op(step) => writeln!(out, "candle {}({})", name(step), list(&step.inputs)),
            Step::Fused(step) => writeln!(out, "fused {}", fused_line(step)),
            Step::Product(step) => writeln!(out, "{}", product_line(step)),
        };
        live += bytes(known, step.value());
        most = most.max(live);
        while let Some((_, done)) = ends.next_if(|(after, _)| *after == place) {
            if made.contains(done) {
                live -= bytes(known, *done);
            }
        }
    }
    let outputs = list(&plan.outputs);
    let candle = plan
        .steps
        .iter()
        .filter(|s| matches!(s, Step::Op(_)))
        .count();
    let (moved, work) = plan.steps.iter().fold((0, 0), |(moved, work), step| {
        let read: usize = step.inputs().iter().map(|&input| bytes(known, input)).sum();
        let work_here = operations(step, known);
        (moved + read + bytes(known, step.value()), work + work_here)
    });
    let _ = writeln!(
        out,
        "outputs {outputs}; {} steps for {} operations, {candle} through Candle; about {moved} \
         bytes moved, {work} operations on numbers, at most {most} bytes of results at once",
        plan.steps.len(),
        fragment.computed.len(),
    );
    out
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
    let ops = step.ops.join(", ");
    format!("{{{ops}}}({}){rows}", inputs.join(", "))
}

fn product_line(step: &Product) -> String {
    let Product { op, m, k, n, .. } = step;
    let batch = match step.count() {
        1 => String::new(),
        count => format!("{count} times "),
    };
    let (a, b) = (step.a.value, step.b.value);
    let mut line = format!("product {op}(%{a}, %{b}) of {batch}{m} x {k} x {n}");
    if let Some(then) = &step.then {
        let _ = write!(line, ", then {}", fused_line(&then.program));
    }
    if let Some(second) = &step.second {
        let (b, columns) = (second.b.value, second.columns);
        let _ = write!(line, ", times %{b} of {n} x {columns}");
        if let Some(then) = &second.then {
            let _ = write!(line, ", then {}", fused_line(&then.program));
        }
    }
    line
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

fn steps<S>(fragment: &Fragment<S>, plan: &Plan, known: &Known) -> String {
    let mut dot = Dot::new("plan");
    for source in &fragment.sources {
        dot.source(source.value, known);
    }
    for step in &plan.steps {
        let (what, look) = match step {
            Step::Op(step) => (name(step).to_owned(), "box"),
            Step::Fused(step) => (step.ops.join("\n"), "box, style=rounded"),
            Step::Product(step) => (product_name(step), "box, style=rounded"),
        };
        let label = format!("{what}\n{}", shape(known, step.value()));
        dot.node(step.value(), &label, look, step.inputs().iter().copied());
    }
    dot.end()
}

fn product_name(step: &Product) -> String {
    let mut all = vec![step.op];
    all.extend(step.then.iter().flat_map(|then| &then.program.ops));
    if let Some(second) = &step.second {
        all.push(step.op);
        all.extend(second.then.iter().flat_map(|then| &then.program.ops));
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

    fn end(mut self) -> String {
        self.0.push_str("}\n");
        self.0
    }
}

fn name(step: &OpStep) -> &'static str {
    match &step.op {
        PlannedOp::Own(op) => op.name(),
        PlannedOp::Attached(_) => "custom",
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

fn bytes(known: &Known, value: ValueId) -> usize {
    known.get(&value).map_or(0, |(dims, dtype)| {
        dims.iter().product::<usize>() * dtype.size_in_bytes()
    })
}

/// Of a product, its multiplications and additions; of the others, one for each element.
fn operations(step: &Step, known: &Known) -> usize {
    let elements = |value: ValueId| known[&value].0.iter().product::<usize>();
    match step {
        Step::Fused(step) => step.rows * step.cols * step.ops.len(),
        Step::Product(step) => {
            let program = |program: &Fused| program.rows * program.cols * program.ops.len();
            let programs = step.programs().map(|then| program(&then.program));
            2 * step.work() + programs.sum::<usize>()
        }
        Step::Op(step) => match step.op.own() {
            Some(Op::Matmul | Op::BroadcastMatmul) => {
                let inner = known[&step.inputs[0]].0.last().copied().unwrap_or(1);
                2 * elements(step.value) * inner
            }
            _ => elements(step.value),
        },
    }
}
