//! Executors of the toy, and short ways to use them.

use super::*;
use crate::core::actor::admission::Refused;
use crate::core::actor::gate::Permit;
use crate::core::actor::launch::{Ready, Start};
use crate::core::actor::park::block_on;
use crate::core::actor::shared::{Core, Limits};
use crate::core::actor::submission::{Submission, Wait};
use crate::core::store::NodeId;
use crate::core::store::slot::{Outcome, Slot};
use crate::core::store::tag::{Priority, Tag};
use crate::core::store::task::Task;
use crate::core::sync::{Arc, Deadline};
use std::future::poll_fn;
use std::time::Duration;

/// An executor of the toy.
pub type Ex = Arc<Core<ToyEngine>>;
/// A slot of the toy.
pub type ToySlot = Arc<Slot<Toy>>;
/// The end of a wait.
pub type End = Outcome<u32, ToyError>;
/// Interest in results of the toy.
pub type Sub = Submission<ToyEngine>;

/// An executor with room for `fragments`.
pub fn start(fragments: usize, engine: ToyEngine) -> Ex {
    Core::start(limits(fragments), engine, "owner".into()).expect("a thread")
}

/// An executor without an owner's thread: [`Core::step`] drives it.
pub fn idle(fragments: usize, engine: ToyEngine) -> Ex {
    Core::idle(limits(fragments), engine)
}

fn limits(fragments: usize) -> Limits {
    Limits {
        fragments,
        bytes: 8,
        lending: true,
    }
}

/// Closes an executor without an owner's thread, and drives it until it is done.
pub fn step_down(ex: &Ex) {
    ex.close();
    while !ex.is_done() {
        assert!(ex.step(), "closed, and nothing to do");
    }
    joined(ex);
}

/// Closes an executor and waits for its owner's end.
pub fn shutdown(ex: &Ex) {
    ex.close();
    joined(ex);
}

/// Waits for the owner's end, when every permit is back.
pub fn joined(ex: &Ex) {
    block_on(ex.closed(), None).expect("no deadline");
    assert_eq!(ex.gate().admission.queued(), 0, "a permit is missing");
}

/// Closes an executor without an owner's thread, lets go of these nodes, and checks that no other is
/// left.
pub fn closed(ex: &Ex, nodes: &[&Tensor]) {
    step_down(ex);
    nothing_left(ex, nodes.iter().map(|node| node.id()));
}

/// Lets go of these nodes, and checks that no other is left in the store of an executor at rest.
pub fn nothing_left(ex: &Ex, nodes: impl IntoIterator<Item = NodeId>) {
    nodes.into_iter().for_each(|id| ex.store().release_node(id));
    assert_eq!(
        ex.store().nodes(),
        0,
        "a node without references is still in the store"
    );
}

/// Submits nodes, waiting for room; nothing if the executor has closed.
pub fn submit_all(ex: &Ex, ask: Ask, tag: Tag, start: Start) -> Result<Option<Sub>, ToyError> {
    let ready = Ready::cut(ask)?;
    if ready.work().is_none() {
        return Ok(Some(Core::join(ex, ready, &tag)));
    }
    match block_on(ex.admit(0, &tag), None).expect("no deadline") {
        Ok(permit) => Core::launch(ex, ready, permit, tag, start).map(Some),
        Err(_) => Ok(None),
    }
}

/// Submits nodes to an executor that is open.
pub fn ask_all(ex: &Ex, ask: Ask, tag: Tag, start: Start) -> Sub {
    let asked = submit_all(ex, ask, tag, start).expect("a good graph");
    asked.expect("the executor is open")
}

/// Submits what is asked for to an executor that is open, for the owner to run.
pub fn post_ask(ex: &Ex, ask: Ask) -> Sub {
    ask_all(ex, ask, Tag::default(), Start::Post)
}

/// Submits these nodes to an executor that is open, for the owner to run.
pub fn post(ex: &Ex, tensors: &[&Tensor]) -> Sub {
    post_ask(ex, Ask::new(ex, tensors))
}

/// Submits one node for the owner to run; nothing if the executor has closed.
pub fn submit_node(ex: &Ex, tensor: &Tensor) -> Option<Sub> {
    submit_as(ex, tensor, Tag::default(), Start::Post)
}

/// Submits node `id` for the owner to run. `inputs` are nodes submitted before.
pub fn submit(ex: &Ex, id: NodeId, add: u32, inputs: &[NodeId]) -> Option<Sub> {
    submit_tagged(ex, id, add, inputs, Tag::default())
}

/// Submits node `id` with a tag, for the owner to run.
pub fn submit_tagged(ex: &Ex, id: NodeId, add: u32, inputs: &[NodeId], tag: Tag) -> Option<Sub> {
    submit_as(ex, &by_name(id, add, inputs), tag, Start::Post)
}

/// Runs node `id`: on this thread, if nobody drives.
pub fn run(ex: &Ex, id: NodeId, add: u32, inputs: &[NodeId]) -> Option<Sub> {
    submit_as(ex, &by_name(id, add, inputs), Tag::default(), Start::Run)
}

/// Runs node `id` as a poll does: on this thread, if nobody drives and nothing is queued.
pub fn run_if_idle(ex: &Ex, id: NodeId, add: u32) -> Option<Sub> {
    let tensor = by_name(id, add, &[]);
    submit_as(ex, &tensor, Tag::default(), Start::RunIfIdle)
}

fn submit_as(ex: &Ex, tensor: &Tensor, tag: Tag, start: Start) -> Option<Sub> {
    submit_all(ex, Ask::new(ex, &[tensor]), tag, start).expect("a good graph")
}

/// A node of this name, made from nodes that are known by their names.
fn by_name(id: NodeId, add: u32, inputs: &[NodeId]) -> Tensor {
    let inputs: Vec<Tensor> = inputs.iter().map(|&id| named(id)).collect();
    node(id, add, &inputs.iter().collect::<Vec<_>>())
}

/// Submits node `id` with a permit that was asked for already, if it was given.
pub fn submit_with(
    ex: &Ex,
    permit: Result<Permit, Refused>,
    id: NodeId,
    add: u32,
    inputs: &[NodeId],
) -> Option<Sub> {
    let tensor = by_name(id, add, inputs);
    let ready = Ready::cut(Ask::new(ex, &[&tensor])).expect("a good graph");
    let permit = permit.ok()?;
    let launched = Core::launch(ex, ready, permit, Tag::default(), Start::Post);
    Some(launched.expect("a good graph"))
}

/// A tag whose deadline has passed.
pub fn late() -> Tag {
    let deadline = Deadline::after(Duration::ZERO).expect("the clock goes on");
    deadline.left(); // under a model: it has passed from the second look on
    Tag {
        deadline: Some(deadline),
        ..Tag::default()
    }
}

/// A tag that is as urgent as this.
pub fn urgent(priority: Priority) -> Tag {
    Tag {
        priority,
        ..Tag::default()
    }
}

/// A tag of this producer.
pub fn made_by(producer: u64) -> Tag {
    Tag {
        producer,
        ..Tag::default()
    }
}

/// How a submission ended.
pub fn end(submission: &Sub) -> End {
    peek(&submission.outputs()[0]).expect("it has ended")
}

/// How every output of a submission has ended. An output that has not waits in a circle, or is
/// forgotten.
pub fn ends(submission: &Sub) -> Vec<End> {
    let outputs = submission.outputs().iter();
    outputs
        .map(|slot| peek(slot).expect("every fragment has run, and none waits in a circle"))
        .collect()
}

/// Checks that every output of a submission has ended with its value.
pub fn all_ready(submission: &Sub, values: &[u32]) {
    let ready: Vec<End> = values.iter().map(|&value| Outcome::Ready(value)).collect();
    assert_eq!(ends(submission), ready);
}

/// The outcome of a slot, if there is one.
pub fn peek(slot: &ToySlot) -> Option<End> {
    slot.peek(|outcome| match outcome {
        Outcome::Ready(value) => Outcome::Ready(*value),
        Outcome::Failed(error) => Outcome::Failed(error.clone()),
        Outcome::Cancelled => Outcome::Cancelled,
        Outcome::Expired => Outcome::Expired,
        Outcome::Closed => Outcome::Closed,
    })
}

/// Waits for a submission as a thread does.
pub fn wait(submission: &Sub) -> End {
    assert!(submission.wait(None));
    end(submission)
}

/// Waits for a submission as a task does.
pub fn wait_async(submission: &Sub) -> End {
    let mut wait = Wait::default();
    let ended = poll_fn(|cx| submission.poll(cx, &mut wait));
    block_on(ended, None).expect("no deadline");
    submission.deregister(&mut wait);
    end(submission)
}

/// Waits for a slot as a task does.
pub fn wait_slot(slot: &ToySlot) -> End {
    let mut key = None;
    block_on(poll_fn(|cx| slot.poll(cx, &mut key)), None).expect("no deadline");
    let end = peek(slot).expect("it has ended"); // before a lock orders this behind it
    if let Some(key) = key {
        slot.deregister(key);
    }
    end
}

/// A slot by itself, wanted by the submission that claimed it.
pub fn slot() -> ToySlot {
    tagged_slot(Tag::default())
}

/// Such a slot, of work that came with a tag.
pub fn tagged_slot(tag: Tag) -> ToySlot {
    Arc::new(Slot::new(1, 1, Arc::new(Task::new(1, tag))))
}
