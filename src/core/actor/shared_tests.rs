//! How long an owner goes on before it looks again for inputs that have ended without being run.

use super::*;
use crate::core::actor::SlotOf;
use crate::core::actor::engine::{Inputs, Member, Results};
use crate::core::store::NodeId;
use crate::core::store::node_store::{Claim, Held};
use crate::core::store::slot::{Lean, Slot};
use smallvec::{SmallVec, smallvec};
use std::any::Any;
use std::task::Poll;
use std::time::Duration;

/// Work is what it calls.
enum Calls {}

impl Kind for Calls {
    type Work = Box<dyn FnMut() + Send>;
    type Value = ();
    type Error = &'static str;

    fn given_up(_: &mut Self::Work, _: usize) {}
    fn panicked(_: Box<dyn Any + Send>) -> &'static str {
        "panicked"
    }
    fn owner_panicked(_: Box<dyn Any + Send>) -> &'static str {
        "the owner panicked"
    }
    fn abandoned() -> &'static str {
        "abandoned"
    }
    fn never_sent() -> &'static str {
        "never sent"
    }
    fn overdue() -> &'static str {
        "overdue"
    }
}

/// Calls it at once, each by itself.
struct Caller;

impl Engine for Caller {
    type Kind = Calls;
    type Batch = ();
    type Ticket = ();

    fn lendable(&self) -> bool {
        false
    }
    fn synchronous(&self) -> bool {
        true
    }
    fn attach(&mut self, _: Bell) -> bool {
        true
    }
    fn ticket_limit(&self, _: &Self::Ticket) -> Option<Duration> {
        None
    }
    fn is_foreign(&self, _: &Box<dyn FnMut() + Send>) -> bool {
        false
    }
    fn estimate(&self, _: &Box<dyn FnMut() + Send>) -> Duration {
        Duration::ZERO
    }
    fn issue(
        &mut self,
        call: &mut Box<dyn FnMut() + Send>,
        _: Inputs<'_, Calls>,
    ) -> Results<Calls> {
        call();
        smallvec![Ok(())]
    }
    fn max_delay(&self) -> Duration {
        Duration::ZERO
    }
    fn open(&self, _: &Box<dyn FnMut() + Send>) -> Option<()> {
        None
    }
    fn has_room(&self, _: &()) -> bool {
        false
    }
    fn joins(&self, _: &mut (), _: &Box<dyn FnMut() + Send>) -> bool {
        false
    }
    fn issue_together(
        &mut self,
        _: &mut [Member<'_, Calls>],
    ) -> Result<Vec<Results<Calls>>, Option<usize>> {
        Err(None)
    }
    fn ticket(&mut self) {}
    fn poll(&mut self, _: &mut ()) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }
    fn wait(&mut self, _: &mut (), _: Option<&Deadline>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }
    fn lost(&mut self) -> Option<&'static str> {
        None
    }
}

/// A node that was claimed, for a task that has not been sent.
fn claim(core: &Arc<Core<Caller>>, id: NodeId) -> (SlotOf<Caller>, Arc<Task<Calls>>) {
    let task = Arc::new(Task::new(1, Tag::default()));
    let number = core.store().draw();
    match core.store().claim(id, number, &task) {
        Claim::Won(slot) => (slot, task),
        Claim::Found(_) => panic!("{id} was claimed before"),
    }
}

fn send(
    core: &Arc<Core<Caller>>,
    id: NodeId,
    inputs: SmallVec<[Held<Calls>; 2]>,
    call: impl FnMut() + Send + 'static,
) {
    let (slot, task) = claim(core, id);
    let payload = Payload {
        work: Box::new(call) as Box<dyn FnMut() + Send>,
        inputs,
        outputs: smallvec![slot],
        permit: core.try_admit(0).ok(),
    };
    assert!(task.fill(payload));
    core.post(&task);
}

/// How many of `others` are called before a fragment of which the input is refused by call number `refused`.
fn called_before(refused: u64, others: u64) -> usize {
    const INPUT: NodeId = 1_000_000;
    let limits = Limits {
        fragments: 1000,
        bytes: 1000,
        lending: false,
    };
    let core = Core::idle(limits, Caller);
    let order = Arc::new(Mutex::new(Vec::new()));
    let (input, _never_sent) = claim(&core, INPUT);
    let held = NodeStore::acquire(core.store(), INPUT, Lean::Any).held();
    let list = order.clone();
    let inputs = held.into_iter().collect();
    send(&core, INPUT + 1, inputs, move || list.lock().push(INPUT));
    for other in 0..others {
        let (list, input, gate) = (order.clone(), input.clone(), core.gate().clone());
        send(&core, other, SmallVec::new(), move || {
            list.lock().push(other);
            if other == refused {
                Slot::refuse(&input, "refused");
                gate.turn.call(); // as the launch that refuses it does
            }
        });
    }
    assert!(core.step());
    let order = order.lock();
    assert_eq!(order.len() as u64, others + 1, "{order:?}");
    order.iter().position(|&called| called == INPUT).unwrap()
}

/// The first turn of a round is that of the fragment itself, which is set aside.
#[test]
fn an_input_that_ended_without_being_run_is_noticed_after_a_round() {
    let others = 4 * ROUND as u64;
    let last_of_the_round = ROUND as u64 - 2;
    assert_eq!(called_before(0, others), ROUND - 1);
    assert_eq!(called_before(last_of_the_round, others), ROUND - 1);
    assert_eq!(called_before(last_of_the_round + 1, others), 2 * ROUND - 1);
    assert_eq!(ROUND, 64, "docs and tests say so");
}

/// With nothing else to do it is noticed at once.
#[test]
fn an_input_that_ended_without_being_run_is_noticed_at_the_end() {
    for others in [1, 2, ROUND as u64 - 1] {
        assert_eq!(called_before(others - 1, others), others as usize);
    }
}
