//! The engine: runs plans, step by step, on a command stream.

use super::forms::Forms;
use super::meter::Meter;
use super::panics::{caught, message};
use super::room::{Batching, Room};
use super::value::{Reading, Stored, Value, read};
use super::work::Work;
use super::{CommandStream, Ticket};
use crate::core::actor::engine::{Bell, Engine, Inputs, Member, Results};
use crate::core::store::Kind;
use crate::core::sync::Deadline;
use crate::error::{Cause, Error, Failure};
use crate::graph::Op;
use crate::graph::fragment::{Source, ValueId};
use crate::graph::leaf::missing;
use crate::plan::{Fused, OpStep, Product, Step};
use candle_core::{DType, DeviceLocation, Shape, Tensor};
use smallvec::SmallVec;
use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;
use std::time::Duration;

/// The types of an executor over Candle.
pub(crate) enum Tensors {}

/// Runs plans on a command stream.
pub(crate) struct Runner {
    pub(super) stream: Box<dyn CommandStream>,
    pub(super) meter: Arc<Meter>,
    pub(super) forms: Forms,
    limits: Batching,
    ticket_limit: Duration,
    /// Copies to the host that have not been made, oldest first.
    reads: VecDeque<Read>,
    /// How many there have been.
    asked: u64,
    lost: Option<Error>,
}

/// A copy to the host.
struct Read {
    number: u64,
    tensor: Tensor,
    to: Reading,
}

/// What the device has been given, and which copies to the host go with it: those before this number.
pub(crate) struct RunnerTicket {
    stream: Ticket,
    reads: u64,
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

    fn never_sent() -> Error {
        let message = "the thread that submitted it panicked";
        Error::Failed(outside(Cause::Panic(message.into())))
    }

    fn overdue() -> Error {
        let message = "a batch did not end within the ticket limit";
        Error::OwnerLost(outside(Cause::DeviceLost(message.into())))
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

impl Runner {
    /// An engine for a device that counts as lost when a batch takes longer than the limit.
    pub(crate) fn new(
        stream: Box<dyn CommandStream>,
        meter: Arc<Meter>,
        limits: Batching,
        ticket_limit: Duration,
    ) -> Self {
        Self {
            stream,
            meter,
            forms: Forms::default(),
            limits,
            ticket_limit,
            reads: VecDeque::new(),
            asked: 0,
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

    /// Makes the copies to the host that were put off, of those before this number, with one wait.
    fn read_back(&mut self, before: u64) {
        let due = self.reads.partition_point(|read| read.number < before);
        if due == 0 {
            return;
        }
        let due = self.reads.drain(..due).map(|read| (read.tensor, read.to));
        let (tensors, cells): (Vec<_>, Vec<_>) = due.unzip();
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

    /// What is left to do when a ticket has ended: its copies to the host, or to forget them.
    fn ended(&mut self, ticket: &RunnerTicket, result: Result<(), Cause>) -> Result<(), Error> {
        match result {
            Ok(()) => {
                self.read_back(ticket.reads);
                Ok(())
            }
            Err(cause) => {
                self.reads.retain(|read| read.number >= ticket.reads);
                Err(self.fail("", &[], cause))
            }
        }
    }

    /// Runs `f` where what the platform keeps is freed after it.
    fn pooled<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> Option<R> {
        let pool = self.stream.pool();
        let (mut f, mut result) = (Some(f), None);
        pool(&mut || result = f.take().map(|f| f(self)));
        result
    }

    /// The operands of a step, or the error of the first that has failed.
    fn operands<'v>(
        &mut self,
        inputs: impl Iterator<Item = ValueId> + Clone,
        values: &'v [Option<Result<Value, Error>>],
    ) -> Result<SmallVec<[&'v Tensor; 4]>, Error> {
        let awaited = |input| match &values[input as usize] {
            Some(Ok(Value::Reading(cell))) => cell.get().is_none(),
            _ => false,
        };
        if inputs.clone().any(awaited) {
            self.read_back(u64::MAX);
        }
        let operand = |input| match &values[input as usize] {
            Some(Ok(value)) => value.whole(),
            Some(Err(cause)) => Err(cause.clone()),
            None => Err(Tensors::abandoned()),
        };
        inputs.map(operand).collect()
    }

    /// Runs one operation. An error, also of an operand, is its value.
    fn op(
        &mut self,
        step: &OpStep,
        work: &Work,
        values: &mut [Option<Result<Value, Error>>],
    ) -> Result<Value, Error> {
        for &input in &step.inputs {
            // its result may be a view
            if let Some(Ok(value)) = &mut values[input as usize] {
                value.show();
            }
        }
        let inputs = self.operands(step.inputs.iter().copied(), values)?;
        let op = work.op(step);
        let host = matches!(op, Op::ToDevice(device) if device.is_cpu());
        if host && self.stream.device().location() != DeviceLocation::Cpu {
            let cell = Arc::new(OnceLock::new());
            self.reads.push_back(Read {
                number: self.asked,
                tensor: inputs[0].clone(),
                to: cell.clone(),
            });
            self.asked += 1;
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
        let inputs = self.operands(step.inputs.iter().map(|input| input.value), values)?;
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
        let inputs = self.operands(step.inputs().iter().copied(), values)?;
        let kept = work.kept_by(step);
        let run =
            |stream: &mut dyn CommandStream| stream.product(step, &inputs, &work.scalars, kept);
        self.attempt(step.op, &inputs, run).map(Value::Own)
    }

    /// Runs steps of the engine side by side.
    fn beside(&mut self, steps: &[Step], work: &Work, values: &mut [Option<Result<Value, Error>>]) {
        let (mut parts, mut made) = (Vec::new(), Vec::new());
        for step in steps {
            let inputs = self.operands(step.inputs().iter().copied(), values);
            let inputs = inputs.map(|inputs| inputs.into_iter().cloned().collect());
            match inputs {
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

    fn run(&mut self, work: &Work, inputs: Inputs<'_, Tensors>) -> Results<Tensors> {
        let plan = &work.plan;
        let mut values: SmallVec<[Option<Result<Value, Error>>; 8]> = SmallVec::new();
        values.resize_with(plan.values, || None);
        for (value, source) in &work.sources {
            values[*value as usize] = Some(match source {
                Source::Leaf(tensor, _) => Ok(Value::Here(tensor.clone())),
                Source::Submitted(index) => inputs.read(*index, read),
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
        let mut left = plan.outputs.iter();
        let mut results = Results::<Tensors>::new();
        for output in &work.outputs {
            let Some(&value) = left.next() else { break };
            let again = left.as_slice().contains(&value);
            let result = match again {
                true => values[value as usize].clone(),
                false => values[value as usize].take(),
            };
            let result = result.unwrap_or_else(|| Err(Tensors::abandoned()));
            results.push(result.map(|value| Stored::new(value, output.bytes, &self.meter)));
        }
        results
    }
}

/// Operations of the user's own may return something else than they announced, or memory of another size.
fn announced(tensor: Tensor, dims: &[usize], dtype: DType) -> Result<Tensor, Cause> {
    if tensor.dims() != dims || tensor.dtype() != dtype {
        return Err(Cause::Announced {
            expected: (Shape::from(dims), dtype),
            got: (tensor.shape().clone(), tensor.dtype()),
        });
    }
    match missing(&tensor) {
        Some(missing) => Err(missing.into()),
        None => Ok(tensor),
    }
}

impl Engine for Runner {
    type Kind = Tensors;
    type Batch = Room;
    type Ticket = RunnerTicket;

    fn lendable(&self) -> bool {
        self.stream.lendable()
    }

    fn synchronous(&self) -> bool {
        self.stream.synchronous()
    }

    fn attach(&mut self, bell: Bell) -> bool {
        self.stream.attach(bell)
    }

    fn ticket_limit(&self, _: &Self::Ticket) -> Option<Duration> {
        Some(self.ticket_limit)
    }

    fn is_foreign(&self, work: &Box<Work>) -> bool {
        work.attached.iter().any(Op::is_custom)
    }

    fn estimate(&self, work: &Box<Work>) -> Duration {
        work.plan.estimate().unwrap_or(Duration::MAX)
    }

    fn issue(&mut self, work: &mut Box<Work>, inputs: Inputs<'_, Tensors>) -> Results<Tensors> {
        work.begin();
        let results = self.pooled(|runner| runner.run(work, inputs));
        results.unwrap_or_default()
    }

    fn max_delay(&self) -> Duration {
        self.limits.max_delay
    }

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
        members.iter_mut().for_each(|member| member.work.begin());
        self.together(members)
    }

    fn ticket(&mut self) -> RunnerTicket {
        RunnerTicket {
            stream: self.stream.ticket(),
            reads: self.asked,
        }
    }

    fn poll(&mut self, ticket: &mut RunnerTicket) -> Poll<Result<(), Error>> {
        match self.stream.poll(ticket.stream) {
            Poll::Ready(result) => {
                let ended = self.pooled(|runner| runner.ended(ticket, result));
                Poll::Ready(ended.unwrap_or(Ok(())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn wait(
        &mut self,
        ticket: &mut RunnerTicket,
        until: Option<&Deadline>,
    ) -> Poll<Result<(), Error>> {
        let waited = self.pooled(|runner| {
            // first: a device whose owner waits does so in the copies, once for all of them
            runner.read_back(ticket.reads);
            match runner.stream.wait(ticket.stream, until) {
                Poll::Ready(result) => Poll::Ready(runner.ended(ticket, result)),
                Poll::Pending => Poll::Pending,
            }
        });
        waited.unwrap_or(Poll::Pending)
    }

    fn lost(&mut self) -> Option<Error> {
        if let Some(cause) = self.stream.lost() {
            self.lost.get_or_insert(Error::OwnerLost(outside(cause)));
        }
        self.lost.clone()
    }
}
