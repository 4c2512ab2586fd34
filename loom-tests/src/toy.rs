//! An engine without tensors: a fragment's work is a number to add to the sum of its inputs.

use candlewick::actor::admission::Refused;
use candlewick::actor::core::{Core, Limits};
use candlewick::actor::engine::{Engine, Member, Results};
use candlewick::actor::park::block_on;
use candlewick::actor::submission::Submission;
use candlewick::origin::Origin;
use candlewick::store::node_store::{Held, NodeStore};
use candlewick::store::slot::{Outcome, Slot};
use candlewick::store::tag::Tag;
use candlewick::store::task::{Payload, Task};
use candlewick::store::{Kind, NodeId};
use candlewick::sync::{Arc, Deadline};
use smallvec::SmallVec;
use std::any::Any;
use std::panic::resume_unwind;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize as StdAtomic, Ordering::SeqCst};
use std::time::Duration;

/// The types of the toy.
#[derive(Debug)]
pub enum Toy {}

/// What a fragment does.
#[derive(Debug, Default)]
pub struct Work {
    /// Added to the sum of the inputs.
    pub add: u32,
    /// Counts the work that exists.
    pub alive: Alive,
    /// Of each of several outputs; nothing once it is given up.
    pub origins: Vec<Option<Arc<Origin<u32>>>>,
}

/// A failure of the toy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToyError {
    /// The work said so, or an input had failed.
    Failed,
    /// The work panicked.
    Panicked,
    /// The owner panicked or stopped.
    OwnerLost,
}

/// Work that fails.
pub const FAILS: u32 = 1000;
/// Work that panics.
pub const PANICS: u32 = 1001;
/// Work after which the owner itself panics.
pub const KILLS: u32 = 1002;
/// Work that goes together with others like it: it adds one, and fails if it is not alone.
pub const SHY: u32 = 2001;
/// Work that goes together with others like it: it adds two.
pub const TOGETHER: u32 = 2002;
/// The same, and its operation panics wherever it runs.
pub const WRECKS: u32 = 2003;
/// Work whose failure the device reports only at the fence.
pub const FAILS_LATE: u32 = 1003;

/// A guard that counts how many of its kind exist. Outside of the model: it orders nothing.
#[derive(Debug, Default)]
pub struct Alive(Option<std::sync::Arc<StdAtomic>>);

impl Alive {
    /// A guard and its counter.
    pub fn counted() -> (Self, std::sync::Arc<StdAtomic>) {
        let count = std::sync::Arc::new(StdAtomic::new(1));
        (Self(Some(count.clone())), count)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_sub(1, SeqCst);
        }
    }
}

impl Kind for Toy {
    type Work = Work;
    type Value = u32;
    type Error = ToyError;
    fn given_up(work: &mut Work, output: usize) {
        if let Some(origin) = work.origins.get_mut(output) {
            *origin = None;
        }
    }
    fn panicked(_: Box<dyn Any + Send>) -> ToyError {
        ToyError::Panicked
    }
    fn owner_panicked(_: Box<dyn Any + Send>) -> ToyError {
        ToyError::OwnerLost
    }
    fn abandoned() -> ToyError {
        ToyError::OwnerLost
    }
}

/// The toy device.
#[derive(Debug, Default)]
pub struct ToyEngine {
    bound_to_owner: bool,
    runs: std::sync::Arc<StdAtomic>,
    order: std::sync::Arc<StdMutex<Vec<u32>>>,
    batches: std::sync::Arc<StdAtomic>,
    delay: Duration,
    kill: bool,
    late: bool,
}

impl ToyEngine {
    /// Like the CPU: any thread may drive, results are there at once.
    pub fn cpu() -> Self {
        Self::default()
    }
    /// Like a GPU: bound to the owner's thread, results count after a fence.
    pub fn gpu() -> Self {
        Self {
            bound_to_owner: true,
            ..Self::default()
        }
    }
    /// Like the CPU, and batches wait for others. A model's clock runs out at the second look.
    pub fn patient() -> Self {
        Self {
            delay: Duration::from_millis(1),
            ..Self::default()
        }
    }
    /// How many fragments have been run. Outside of the model: it orders nothing.
    pub fn runs(&self) -> std::sync::Arc<StdAtomic> {
        self.runs.clone()
    }
    /// What has been run, in its order: what each adds. Outside of the model as well.
    pub fn order(&self) -> std::sync::Arc<StdMutex<Vec<u32>>> {
        self.order.clone()
    }
    /// How many batches of several have been begun. Outside of the model as well.
    pub fn batches(&self) -> std::sync::Arc<StdAtomic> {
        self.batches.clone()
    }
}

impl Engine for ToyEngine {
    type Kind = Toy;
    fn lendable(&self) -> bool {
        !self.bound_to_owner
    }
    fn synchronous(&self) -> bool {
        !self.bound_to_owner
    }
    fn issue(&mut self, work: &mut Work, inputs: &[Held<Toy>]) -> Results<Toy> {
        self.runs.fetch_add(1, SeqCst);
        self.order.lock().unwrap().push(work.add);
        for origin in work.origins.iter().flatten() {
            origin.forget();
        }
        let sum = inputs.iter().try_fold(0, |sum, input| {
            let value = input.slot().peek(|outcome| match outcome {
                Outcome::Ready(value) => Ok(*value),
                _ => Err(ToyError::Failed),
            });
            Ok(sum + value.expect("a fragment begins when every input has ended")?)
        });
        let result = match work.add {
            FAILS => Err(ToyError::Failed),
            PANICS => resume_unwind(Box::new("boom")), // no hook, no noise
            KILLS => {
                self.kill = true;
                sum
            }
            FAILS_LATE => {
                self.late = true;
                sum
            }
            WRECKS => resume_unwind(Box::new("wrecked")),
            SHY => sum.map(|sum| sum + 1),
            TOGETHER => sum.map(|sum| sum + 2),
            add => sum.map(|sum| sum + add),
        };
        (0..work.origins.len().max(1))
            .map(|_| result.clone())
            .collect()
    }
    fn max_delay(&self) -> Duration {
        self.delay
    }
    /// How many may still join.
    type Batch = usize;
    fn open(&self, work: &Work) -> Option<usize> {
        (SHY..=WRECKS).contains(&work.add).then_some(3)
    }
    fn has_room(&self, batch: &usize) -> bool {
        *batch > 0
    }
    fn joins(&self, batch: &mut usize, work: &Work) -> bool {
        let joins = (SHY..=WRECKS).contains(&work.add);
        *batch -= usize::from(joins);
        joins
    }
    fn issue_together(
        &mut self,
        members: &mut [Member<'_, Toy>],
    ) -> Result<Vec<Results<Toy>>, Option<usize>> {
        self.batches.fetch_add(1, SeqCst);
        if let Some(shy) = members.iter().position(|member| member.work.add == SHY) {
            return Err(Some(shy));
        }
        let run = |member: &mut Member<'_, Toy>| self.issue(member.work, member.inputs);
        Ok(members.iter_mut().map(run).collect())
    }
    fn finish(&mut self) -> Result<(), ToyError> {
        if std::mem::take(&mut self.late) {
            Err(ToyError::Failed)
        } else {
            Ok(())
        }
    }
    fn lost(&mut self) -> Option<ToyError> {
        if std::mem::take(&mut self.kill) {
            resume_unwind(Box::new("the owner's own code"));
        }
        None
    }
}

/// An executor of the toy.
pub type Ex = Arc<Core<ToyEngine>>;
/// A slot of the toy.
pub type ToySlot = Arc<Slot<Toy>>;
/// The end of a wait.
pub type End = Outcome<u32, ToyError>;

/// An executor with room for `fragments`.
pub fn start(fragments: usize, engine: ToyEngine) -> Ex {
    let limits = Limits {
        fragments,
        bytes: 8,
        lending: true,
    };
    Core::start(limits, engine, "owner".into()).expect("a thread")
}

/// Closes and joins.
pub fn shutdown(ex: &Ex) {
    ex.close();
    joined(ex);
}

/// Waits for the owner's end.
pub fn joined(ex: &Ex) {
    block_on(ex.closed(), None).expect("no deadline");
    assert_eq!(ex.admission().queued(), 0, "a permit is missing");
}

/// Claims node `id` and submits work for it, waiting for room. `inputs` are nodes submitted before.
pub fn submit(
    ex: &Ex,
    id: NodeId,
    add: u32,
    inputs: &[NodeId],
    defer: bool,
) -> Option<Submission<ToyEngine>> {
    submit_tagged(ex, id, add, inputs, defer, Tag::default())
}

/// The same with a tag.
pub fn submit_tagged(
    ex: &Ex,
    id: NodeId,
    add: u32,
    inputs: &[NodeId],
    defer: bool,
    tag: Tag,
) -> Option<Submission<ToyEngine>> {
    let permit = block_on(ex.admit(0), None).expect("no deadline");
    submit_permitted(ex, permit, id, add, inputs, defer, tag)
}

/// A deadline that has passed.
pub fn late() -> Tag {
    let deadline = Deadline::after(Duration::ZERO).expect("the clock goes on");
    deadline.left(); // under a model: it has passed from the second look on
    Tag {
        deadline: Some(deadline),
        ..Tag::default()
    }
}

/// The same with a permit that was asked for already.
pub fn submit_with(
    ex: &Ex,
    permit: Result<candlewick::actor::core::Permit<'_, ToyEngine>, Refused>,
    id: NodeId,
    add: u32,
    inputs: &[NodeId],
    defer: bool,
) -> Option<Submission<ToyEngine>> {
    submit_permitted(ex, permit, id, add, inputs, defer, Tag::default())
}

fn submit_permitted(
    ex: &Ex,
    permit: Result<candlewick::actor::core::Permit<'_, ToyEngine>, Refused>,
    id: NodeId,
    add: u32,
    inputs: &[NodeId],
    defer: bool,
    tag: Tag,
) -> Option<Submission<ToyEngine>> {
    let held: SmallVec<[Held<Toy>; 2]> = inputs
        .iter()
        .map(|&id| NodeStore::acquire(ex.store(), id).expect("submitted before"))
        .collect();
    let claimed = ex.claim(permit.ok()?, &[id], tag);
    let outputs = claimed.slots().iter().cloned().collect();
    if claimed.is_complete() {
        let work = Work {
            add,
            ..Work::default()
        };
        claimed.send(|outputs| work.payload(held, outputs), defer);
    }
    Some(Submission::new(ex.clone(), outputs))
}

impl Work {
    /// It alone as a message.
    pub fn payload(
        self,
        inputs: SmallVec<[Held<Toy>; 2]>,
        outputs: SmallVec<[ToySlot; 1]>,
    ) -> Payload<Toy> {
        Payload {
            work: self,
            inputs,
            outputs,
            rest: Vec::new(),
        }
    }
}

/// How a submission ended.
pub fn end(submission: &Submission<ToyEngine>) -> End {
    peek(&submission.outputs()[0]).expect("it has ended")
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

/// Waits as a thread does.
pub fn wait(submission: &Submission<ToyEngine>) -> End {
    assert!(submission.wait(None));
    end(submission)
}

/// Waits as a task does.
pub fn wait_async(submission: &Submission<ToyEngine>) -> End {
    let mut wait = candlewick::actor::submission::Wait::default();
    block_on(
        std::future::poll_fn(|cx| submission.poll(cx, &mut wait)),
        None,
    )
    .expect("no deadline");
    submission.deregister(&mut wait);
    end(submission)
}

/// A slot by itself.
pub fn slot() -> ToySlot {
    tagged_slot(Tag::default())
}

/// A slot of work that came with a tag.
pub fn tagged_slot(tag: Tag) -> ToySlot {
    Arc::new(Slot::new(1, Arc::new(Task::new(1, 0, tag))))
}
