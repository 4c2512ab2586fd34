//! The engine: runs plans, step by step, on a command stream.

use super::forms::Forms;
use super::meter::Meter;
use super::panics::{caught, message};
use super::room::{Batching, Room};
use super::value::{Reading, Stored, Value, read};
use super::{CommandStream, Part, PartStep};
use crate::actor::engine::{Engine, Member, Results};
use crate::error::{Cause, Error, Failure};
use crate::graph::fragment::Source;
use crate::graph::fragment::ValueId;
use crate::graph::{Kept, Node, Op};
use crate::plan::product::PRODUCTS;
use crate::plan::{Fused, OpStep, Plan, PlannedOp, Product, Scalars, Step};
use crate::store::Kind;
use crate::store::node_store::Held;
use candle_core::{DType, DeviceLocation, Shape, Tensor};
use smallvec::SmallVec;
use std::any::Any;
use std::cell::Cell;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// The types of an executor over Candle.
pub(crate) enum Tensors {}

/// A fragment's work.
pub(crate) struct Work {
    pub(crate) plan: Arc<Plan>,
    /// A submitted one is an index into the payload's inputs.
    pub(crate) sources: Vec<(ValueId, Source<usize>)>,
    /// The operations that the plan leaves to the fragment.
    pub(crate) attached: SmallVec<[Op; 1]>,
    /// The numbers that the plan takes as parameters.
    pub(crate) scalars: Scalars,
    /// In the order of the plan's outputs.
    pub(crate) outputs: SmallVec<[Output; 1]>,
}

impl Work {
    /// The nodes whose results it makes no longer need what they are made of.
    fn begin(&self) {
        let nodes = self
            .outputs
            .iter()
            .filter_map(|output| output.node.upgrade());
        nodes.for_each(|node| node.forget_origin());
    }

    /// The operation of a step.
    pub(super) fn op<'a>(&'a self, step: &'a OpStep) -> &'a Op {
        match &step.op {
            PlannedOp::Own(op) => op,
            PlannedOp::Attached(place) => &self.attached[*place as usize],
        }
    }

    /// A step that runs beside others, on these operands.
    pub(super) fn part<'a>(&'a self, step: &'a Step, inputs: SmallVec<[Tensor; 4]>) -> Part<'a> {
        let mut kept = [None; PRODUCTS];
        let run = match step {
            Step::Op(step) => PartStep::Copy(self.op(step), step.dims.iter().product()),
            Step::Fused(step) => PartStep::Fused(step),
            Step::Product(step) => {
                kept = self.kept_by(step);
                PartStep::Product(step)
            }
        };
        Part {
            step: run,
            inputs,
            scalars: &self.scalars,
            kept,
        }
    }

    /// What is kept with the right sides of products.
    pub(super) fn kept_by(&self, step: &Product) -> [Option<&Kept>; PRODUCTS] {
        step.sides()
            .map(|sides| sides.and_then(|sides| self.kept(sides.b.value)))
    }

    /// What is kept with a value that is a tensor of its own.
    fn kept(&self, value: ValueId) -> Option<&Kept> {
        let source = self.sources.binary_search_by_key(&value, |s| s.0);
        match &self.sources[source.ok()?].1 {
            Source::Leaf(_, kept) => kept.as_deref(),
            Source::Submitted(_) => None,
        }
    }
}

/// What must be known of a node whose result is computed.
pub(crate) struct Output {
    /// When the work begins, the node no longer needs its origin. Nothing, if it is not begun.
    pub(crate) node: Weak<Node>,
    /// The size of the result.
    pub(crate) bytes: u64,
}

/// Runs plans on a command stream.
pub(crate) struct Runner {
    pub(super) stream: Box<dyn CommandStream>,
    executor: u64,
    pub(super) meter: Arc<Meter>,
    pub(super) forms: Forms,
    limits: Batching,
    /// Copies to the host that have not been made.
    reads: Vec<(Tensor, Reading)>,
    lost: Option<Error>,
}

thread_local! {
    /// The executor whose work this thread is running; 0 for none.
    static DRIVING: Cell<u64> = const { Cell::new(0) };
}

/// Whether this thread is running work of `executor`, so that waiting for it would be for ever.
pub(crate) fn is_driving(executor: u64) -> bool {
    DRIVING.with(Cell::get) == executor
}

impl Kind for Tensors {
    type Work = Box<Work>; // moved several times on its way
    type Value = Stored;
    type Error = Error;

    fn given_up(work: &mut Box<Work>, output: usize) {
        if let Some(output) = work.outputs.get_mut(output) {
            output.node = Weak::new();
        }
    }

    fn panicked(panic: Box<dyn Any + Send>) -> Error {
        Error::Failed(outside(Cause::Panic(message(panic))))
    }

    fn owner_panicked(panic: Box<dyn Any + Send>) -> Error {
        Error::OwnerLost(outside(Cause::Panic(message(panic))))
    }

    fn abandoned() -> Error {
        let message = "the owner stopped in the middle of a fragment";
        Error::OwnerLost(outside(Cause::Panic(message.into())))
    }
}

/// A failure outside of any operation.
fn outside(cause: Cause) -> Arc<Failure> {
    Arc::new(Failure {
        op: "",
        operands: Vec::new(),
        cause,
    })
}

/// Marks this thread as driving, until dropped.
struct Driving(u64);

impl Driving {
    fn start(executor: u64) -> Self {
        Self(DRIVING.with(|d| d.replace(executor)))
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        DRIVING.with(|d| d.set(self.0));
    }
}

impl Runner {
    /// An engine for the executor of this number.
    pub(crate) fn new(
        stream: Box<dyn CommandStream>,
        executor: u64,
        meter: Arc<Meter>,
        limits: Batching,
    ) -> Self {
        Self {
            stream,
            executor,
            meter,
            forms: Forms::default(),
            limits,
            reads: Vec::new(),
            lost: None,
        }
    }

    fn fail(&mut self, op: &'static str, operands: &[&Tensor], cause: Cause) -> Error {
        let lost = matches!(cause, Cause::DeviceLost(_));
        let failure = Arc::new(Failure {
            op,
            operands: operands
                .iter()
                .map(|t| (t.shape().clone(), t.dtype()))
                .collect(),
            cause,
        });
        if !lost {
            return Error::Failed(failure);
        }
        let error = Error::OwnerLost(failure);
        self.lost.get_or_insert(error).clone()
    }

    /// Makes the copies to the host that were put off, with one wait.
    fn read_back(&mut self) {
        if self.reads.is_empty() {
            return;
        }
        let (tensors, cells): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.reads).into_iter().unzip();
        match self.stream.read(&tensors) {
            Ok(read) => {
                for (cell, tensor) in cells.iter().zip(read) {
                    let _ = cell.set(Ok(tensor)); // set here only
                }
            }
            Err(cause) => {
                let error = self.fail("to_device", &[], cause);
                for cell in &cells {
                    let _ = cell.set(Err(error.clone()));
                }
            }
        }
    }

    fn tensor(&mut self, value: &Value) -> Result<Tensor, Error> {
        match value {
            Value::Reading(_) => {
                self.read_back();
                value.whole()
            }
            _ => value.whole(),
        }
    }

    /// The operands of a step, or the error of the first that has failed.
    fn operands(
        &mut self,
        inputs: impl Iterator<Item = ValueId>,
        values: &[Option<Result<Value, Error>>],
    ) -> Result<SmallVec<[Tensor; 4]>, Error> {
        let mut operands = SmallVec::new();
        for input in inputs {
            match &values[input as usize] {
                Some(Ok(value)) => operands.push(self.tensor(value)?),
                Some(Err(cause)) => return Err(cause.clone()),
                None => return Err(Tensors::abandoned()),
            }
        }
        Ok(operands)
    }

    /// Runs one operation. An error, also of an operand, is its value.
    fn op(
        &mut self,
        step: &OpStep,
        work: &Work,
        values: &mut [Option<Result<Value, Error>>],
    ) -> Result<Value, Error> {
        let owned = self.operands(step.inputs.iter().copied(), values)?;
        let inputs: SmallVec<[&Tensor; 4]> = owned.iter().collect();
        for &input in &step.inputs {
            // its result may be a view
            if let Some(Ok(value)) = &mut values[input as usize] {
                value.show();
            }
        }
        let op = work.op(step);
        let host = matches!(op, Op::ToDevice(device) if device.is_cpu());
        if host && self.stream.device().location() != DeviceLocation::Cpu {
            let cell = Arc::new(OnceLock::new());
            self.reads.push((inputs[0].clone(), cell.clone()));
            return Ok(Value::Reading(cell));
        }
        self.run_op(op, step, &inputs)
    }

    /// Runs one operation on these operands.
    pub(super) fn run_op(
        &mut self,
        op: &Op,
        step: &OpStep,
        inputs: &[&Tensor],
    ) -> Result<Value, Error> {
        let run = |stream: &mut dyn CommandStream| {
            let tensor = stream.run(op, inputs)?;
            announced(tensor, &step.dims, step.dtype)
        };
        self.attempt(op.name(), inputs, run).map(Value::Here)
    }

    /// Runs something on the stream; a panic in it is its error.
    fn attempt(
        &mut self,
        name: &'static str,
        inputs: &[&Tensor],
        run: impl FnOnce(&mut dyn CommandStream) -> Result<Tensor, Cause>,
    ) -> Result<Tensor, Error> {
        let stream = &mut *self.stream;
        caught(|| run(stream)).map_err(|cause| self.fail(name, inputs, cause))
    }

    /// Runs several operations as one.
    fn fused(
        &mut self,
        step: &Fused,
        work: &Work,
        values: &[Option<Result<Value, Error>>],
    ) -> Result<Value, Error> {
        let owned = self.operands(step.inputs.iter().map(|input| input.value), values)?;
        let inputs: SmallVec<[&Tensor; 4]> = owned.iter().collect();
        // nobody but the engine has seen it, and nobody reads it after this step
        let over = step.over.map(usize::from).filter(|&operand| {
            let value = step.inputs[operand].value;
            matches!(values[value as usize], Some(Ok(Value::Own(_))))
        });
        let run = |stream: &mut dyn CommandStream| stream.fused(step, &inputs, &work.scalars, over);
        self.attempt(step.name(), &inputs, run).map(Value::Own)
    }

    /// Runs a matrix product and what follows it.
    fn product(
        &mut self,
        step: &Product,
        work: &Work,
        values: &[Option<Result<Value, Error>>],
    ) -> Result<Value, Error> {
        let owned = self.operands(step.inputs().into_iter(), values)?;
        let inputs: SmallVec<[&Tensor; 4]> = owned.iter().collect();
        let kept = work.kept_by(step);
        let run =
            |stream: &mut dyn CommandStream| stream.product(step, &inputs, &work.scalars, kept);
        self.attempt(step.op, &inputs, run).map(Value::Own)
    }

    /// Runs steps of the engine side by side.
    fn beside(&mut self, steps: &[Step], work: &Work, values: &mut [Option<Result<Value, Error>>]) {
        let (mut parts, mut made) = (Vec::new(), Vec::new());
        for step in steps {
            match self.operands(step.inputs().into_iter(), values) {
                Ok(inputs) => {
                    parts.push(work.part(step, inputs));
                    made.push(step.value());
                }
                Err(cause) => values[step.value() as usize] = Some(Err(cause)),
            }
        }
        let results = self.stream.apart(&parts);
        for ((part, value), result) in parts.iter().zip(made).zip(results) {
            let result = result.map_err(|cause| {
                let inputs: SmallVec<[&Tensor; 4]> = part.inputs.iter().collect();
                self.fail(part.step.name(), &inputs, cause)
            });
            values[value as usize] = Some(result.map(Value::Own));
        }
    }

    fn run(&mut self, work: &Work, inputs: &[Held<Tensors>]) -> Results<Tensors> {
        let plan = &work.plan;
        let mut values: SmallVec<[Option<Result<Value, Error>>; 8]> = SmallVec::new();
        values.resize_with(plan.values, || None);
        for (value, source) in &work.sources {
            values[*value as usize] = Some(match source {
                Source::Leaf(tensor, _) => Ok(Value::Here(tensor.clone())),
                Source::Submitted(index) => read(&inputs[*index]),
            });
        }
        let mut last_uses = plan.last_uses.iter().peekable();
        for range in plan.ranges() {
            let steps = &plan.steps[range.clone()];
            match steps {
                [step] => {
                    let result = match step {
                        Step::Op(step) => self.op(step, work, &mut values),
                        Step::Fused(step) => self.fused(step, work, &values),
                        Step::Product(step) => self.product(step, work, &values),
                    };
                    values[step.value() as usize] = Some(result);
                }
                _ => self.beside(steps, work, &mut values),
            }
            let ended = |(after, _): &&(u32, ValueId)| (*after as usize) < range.end;
            while let Some((_, done)) = last_uses.next_if(ended) {
                if let Some(Ok(Value::Own(tensor))) = values[*done as usize].take() {
                    self.stream.recycle(tensor);
                }
            }
        }
        plan.outputs
            .iter()
            .zip(&work.outputs)
            .map(|(&value, output)| match &values[value as usize] {
                Some(Ok(value)) => Ok(Stored::new(value.clone(), output.bytes, &self.meter)),
                Some(Err(error)) => Err(error.clone()),
                None => Err(Tensors::abandoned()),
            })
            .collect()
    }
}

/// Operations of the user's own may return something else than they announced.
fn announced(tensor: Tensor, dims: &[usize], dtype: DType) -> Result<Tensor, Cause> {
    if tensor.dims() == dims && tensor.dtype() == dtype {
        return Ok(tensor);
    }
    Err(Cause::Announced {
        expected: (Shape::from(dims), dtype),
        got: (tensor.shape().clone(), tensor.dtype()),
    })
}

impl Engine for Runner {
    type Kind = Tensors;

    fn lendable(&self) -> bool {
        self.stream.lendable()
    }

    fn synchronous(&self) -> bool {
        self.stream.synchronous()
    }

    fn issue(&mut self, work: &mut Box<Work>, inputs: &[Held<Tensors>]) -> Results<Tensors> {
        let _driving = Driving::start(self.executor);
        work.begin();
        let pool = self.stream.pool();
        let mut results = Results::<Tensors>::new();
        pool(&mut || results = self.run(work, inputs));
        results
    }

    fn max_delay(&self) -> Duration {
        self.limits.max_delay
    }

    type Batch = Room;

    fn open(&self, work: &Box<Work>) -> Option<Room> {
        let plan = &work.plan;
        (self.limits.fragments > 1 && plan.gains_by_others()).then(|| Room {
            first: plan.clone(),
            left: self.limits.less(plan),
        })
    }

    fn has_room(&self, batch: &Room) -> bool {
        batch.left.fragments > 0
    }

    fn joins(&self, batch: &mut Room, work: &Box<Work>) -> bool {
        batch.takes(&work.plan)
    }

    fn issue_together(
        &mut self,
        members: &mut [Member<'_, Tensors>],
    ) -> Result<Vec<Results<Tensors>>, Option<usize>> {
        let _driving = Driving::start(self.executor);
        members.iter_mut().for_each(|member| member.work.begin());
        self.together(members)
    }

    fn finish(&mut self) -> Result<(), Error> {
        let _driving = Driving::start(self.executor);
        let pool = self.stream.pool();
        let mut result = Ok(());
        pool(&mut || {
            self.read_back();
            result = self.stream.fence();
        });
        result.map_err(|cause| self.fail("", &[], cause))
    }

    fn lost(&mut self) -> Option<Error> {
        if let Some(cause) = self.stream.lost() {
            self.lost.get_or_insert(Error::OwnerLost(outside(cause)));
        }
        self.lost.clone()
    }
}
