//! The toy's device: an engine that adds numbers, and tickets that scenarios end.

use super::*;
use crate::core::actor::engine::{Bell, Engine, Inputs, Member, Results};
use crate::core::actor::park::Parker;
use crate::core::panics::discard;
use crate::core::store::Kind;
use crate::core::store::slot::Outcome;
use crate::core::sync::Deadline;
use std::any::Any;
use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::Arc as StdArc;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize as StdAtomic, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

impl Kind for Toy {
    type Work = Work;
    type Value = u32;
    type Error = ToyError;
    fn given_up(work: &mut Work, output: usize) {
        work.outputs[output].node = None;
    }
    fn panicked(panic: Box<dyn Any + Send>) -> ToyError {
        discard(panic);
        ToyError::Panicked
    }
    fn owner_panicked(panic: Box<dyn Any + Send>) -> ToyError {
        discard(panic);
        ToyError::OwnerLost
    }
    fn abandoned() -> ToyError {
        ToyError::OwnerLost
    }
    fn never_sent() -> ToyError {
        ToyError::NeverSent
    }
    fn overdue() -> ToyError {
        ToyError::Overdue
    }
}

crate::core::sync::thread_local! {
    /// The name of a scenario's thread: threads of the core have none.
    static ME: Cell<&'static str> = Cell::new("owner");
}

/// Names this thread, which the device then knows as a driver.
pub fn i_am(name: &'static str) {
    ME.with(|me| me.set(name));
}

/// The name of this thread.
pub fn me() -> &'static str {
    ME.with(Cell::get)
}

/// Who ran what: what a fragment's last node adds, or that it is foreign, and the name of the thread.
pub type Drivers = StdArc<StdMutex<Vec<(u32, &'static str)>>>;

/// The toy's engine.
#[derive(Debug, Default)]
pub struct ToyEngine {
    bound_to_owner: bool,
    goes_on: bool,
    /// Whether the bell rings when a ticket ends, which a thread of the scenario does.
    rings: bool,
    runs: StdArc<StdAtomic>,
    order: StdArc<StdMutex<Vec<u32>>>,
    drivers: Drivers,
    batches: StdArc<StdAtomic>,
    delay: Duration,
    kill: bool,
    /// How the next ticket ends.
    next: Ticket,
    /// Whether work has been issued of which the second ticket ends otherwise than the first.
    again: bool,
    /// Set when the device is lost, until the owner has been told.
    lost: Option<ToyError>,
    device: StdArc<Device>,
    bell: Option<Bell>,
}

/// How a ticket ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ticket {
    /// It ends well.
    #[default]
    Well,
    /// It ends with an error.
    Late,
    /// It never ends.
    Never,
    /// When it ends the device is lost.
    Loses,
}

/// A ticket of the toy. It has ended when the device has ended more tickets than its number.
#[derive(Debug)]
pub struct ToyTicket {
    number: usize,
    how: Ticket,
    /// How often it was looked at after its end.
    looks: usize,
}

/// The device's side of the tickets, of an engine whose bell rings: a thread of the scenario ends them.
/// The counts are outside of the model; what the bell does is what orders.
#[derive(Debug, Default)]
pub struct Device {
    issued: StdAtomic,
    ended: StdAtomic,
    bell: StdMutex<Option<Bell>>,
}

impl Device {
    /// Ends one more ticket.
    pub fn end_one(&self) {
        self.ended.fetch_add(1, SeqCst);
        let bell = self.bell.lock().unwrap().clone();
        bell.expect("attached").ring();
    }
    /// Ends all tickets that were issued, and from now on each at once.
    pub fn end_all(&self) {
        self.ended.store(usize::MAX / 2, SeqCst);
        let bell = self.bell.lock().unwrap().clone();
        bell.expect("attached").ring();
    }
    /// How many tickets have ended. This may be more than were issued.
    pub fn ended(&self) -> usize {
        self.ended.load(SeqCst)
    }
    /// How many tickets were issued.
    pub fn issued(&self) -> usize {
        self.issued.load(SeqCst)
    }
}

impl ToyEngine {
    /// An engine like the CPU: any thread may drive it, and results are there at once.
    pub fn cpu() -> Self {
        Self::default()
    }
    /// An engine like a simple GPU: it is bound to the owner's thread, which waits for tickets itself.
    pub fn gpu() -> Self {
        Self {
            bound_to_owner: true,
            goes_on: true,
            ..Self::default()
        }
    }
    /// An engine like a GPU that tells when a ticket has ended, and the device by which a scenario ends
    /// tickets.
    pub fn ringing() -> (Self, StdArc<Device>) {
        let engine = Self {
            rings: true,
            ..Self::gpu()
        };
        let device = engine.device.clone();
        (engine, device)
    }
    /// An engine like the CPU, whose batches wait for others to join: until the second look at a model's
    /// clock.
    pub fn patient() -> Self {
        Self {
            delay: Duration::from_millis(1),
            ..Self::default()
        }
    }
    /// A counter of the fragments that have been run. It is outside of the model and orders nothing.
    pub fn runs(&self) -> StdArc<StdAtomic> {
        self.runs.clone()
    }
    /// What the fragments that have been run add, in their order. It is outside of the model as well.
    pub fn order(&self) -> StdArc<StdMutex<Vec<u32>>> {
        self.order.clone()
    }
    /// Who ran which fragment. It is outside of the model as well.
    pub fn drivers(&self) -> Drivers {
        self.drivers.clone()
    }
    /// A counter of the batches of several that have been begun. It is outside of the model as well.
    pub fn batches(&self) -> StdArc<StdAtomic> {
        self.batches.clone()
    }

    fn add(&mut self, add: u32, sum: Result<u32, ToyError>) -> Result<u32, ToyError> {
        match add {
            FAILS => Err(ToyError::Failed),
            PANICS_TWICE => resume_unwind(Box::new(Bomb(1))),
            PANICS => resume_unwind(Box::new("boom")), // no hook, no noise
            KILLS => {
                self.kill = true;
                sum
            }
            FAILS_LATE => {
                self.next = Ticket::Late;
                sum
            }
            NEVER_ENDS => {
                self.next = Ticket::Never;
                sum
            }
            LOSES if self.goes_on => {
                self.next = Ticket::Loses;
                sum
            }
            LOSES => {
                self.lost = Some(ToyError::DeviceLost);
                sum
            }
            LATE_THEN_LOSES | LATE_THEN_NEVER => {
                self.next = match (std::mem::replace(&mut self.again, true), add) {
                    (false, _) => Ticket::Late,
                    (true, LATE_THEN_LOSES) => Ticket::Loses,
                    _ => Ticket::Never,
                };
                sum
            }
            WRECKS => resume_unwind(Box::new(Bomb(1))),
            SHY => sum.map(|sum| sum + 1),
            TOGETHER => sum.map(|sum| sum + 2),
            UNFIT => sum.map(|sum| sum + 4),
            FOREIGN => sum.map(|sum| sum + 3),
            add => sum.map(|sum| sum + add),
        }
    }

    /// What the last node of a fragment adds, by which scenarios know the fragment.
    fn last(work: &Work) -> u32 {
        work.computed.last().map_or(0, |step| step.1)
    }

    /// Ends a ticket, if it does. The device is lost once with it.
    fn end(&mut self, ticket: &mut ToyTicket) -> Poll<Result<(), ToyError>> {
        ticket.looks += usize::from(ticket.how != Ticket::Never);
        if ticket.looks > 100 {
            resume_unwind(Box::new("a ticket is looked at for ever"));
        }
        match ticket.how {
            Ticket::Well => Poll::Ready(Ok(())),
            Ticket::Late => Poll::Ready(Err(ToyError::Late)),
            Ticket::Never => Poll::Pending,
            Ticket::Loses => {
                ticket.how = Ticket::Well;
                self.lost = Some(ToyError::DeviceLost);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn goes_together(work: &Work) -> bool {
        (SHY..=WRECKS).contains(&Self::last(work))
    }
}

impl Engine for ToyEngine {
    type Kind = Toy;
    /// How many fragments may still join.
    type Batch = usize;
    type Ticket = ToyTicket;

    fn lendable(&self) -> bool {
        !self.bound_to_owner
    }
    fn synchronous(&self) -> bool {
        !self.goes_on
    }
    fn attach(&mut self, bell: Bell) -> bool {
        *self.device.bell.lock().unwrap() = Some(bell.clone());
        self.bell = Some(bell);
        self.rings
    }
    /// Only a ticket that never ends has a limit: a model's clock runs out at the second look.
    fn ticket_limit(&self, ticket: &ToyTicket) -> Option<Duration> {
        (ticket.how == Ticket::Never).then_some(Duration::from_millis(1))
    }
    fn is_foreign(&self, work: &Work) -> bool {
        work.computed.iter().any(|step| step.1 == FOREIGN)
    }
    fn estimate(&self, _: &Work) -> Duration {
        Duration::ZERO
    }
    fn issue(&mut self, work: &mut Work, inputs: Inputs<'_, Toy>) -> Results<Toy> {
        self.runs.fetch_add(1, SeqCst);
        let what = match self.is_foreign(work) {
            true => FOREIGN,
            false => Self::last(work),
        };
        let by = (what, me());
        self.drivers.lock().unwrap().push(by);
        self.order.lock().unwrap().push(Self::last(work));
        if let Some(hook) = &mut work.hook.0 {
            hook();
        }
        for output in &work.outputs {
            if let Some(origin) = output.node.as_ref().and_then(Tensor::origin) {
                origin.forget();
            }
        }
        let mut values: Vec<Result<u32, ToyError>> = vec![Err(ToyError::OwnerLost); work.values];
        for (index, &value) in work.inputs.iter().enumerate() {
            values[value as usize] = inputs.read(index, |outcome| match outcome {
                Outcome::Ready(value) => Ok(*value),
                _ => Err(ToyError::Failed),
            });
        }
        for (value, add, operands) in &work.computed {
            let sum = operands.iter().try_fold(0, |sum, &operand| {
                values[operand as usize].clone().map(|value| sum + value)
            });
            values[*value as usize] = self.add(*add, sum);
        }
        let outputs = work.outputs.iter();
        outputs
            .map(|output| values[output.value as usize].clone())
            .collect()
    }
    fn max_delay(&self) -> Duration {
        self.delay
    }
    fn open(&self, work: &Work) -> Option<usize> {
        Self::goes_together(work).then_some(2)
    }
    fn has_room(&self, batch: &usize) -> bool {
        *batch > 0
    }
    fn joins(&self, batch: &mut usize, work: &Work) -> bool {
        if Self::last(work) == UNFIT {
            resume_unwind(Box::new("unfit"));
        }
        let joins = Self::goes_together(work);
        *batch -= usize::from(joins);
        joins
    }
    fn issue_together(
        &mut self,
        members: &mut [Member<'_, Toy>],
    ) -> Result<Vec<Results<Toy>>, Option<usize>> {
        self.batches.fetch_add(1, SeqCst);
        let shy = |member: &Member<'_, Toy>| Self::last(member.work) == SHY;
        if let Some(shy) = members.iter().position(shy) {
            return Err(Some(shy));
        }
        let run = |member: &mut Member<'_, Toy>| self.issue(member.work, member.inputs);
        Ok(members.iter_mut().map(run).collect())
    }
    fn ticket(&mut self) -> ToyTicket {
        let number = self.device.issued.fetch_add(1, SeqCst);
        let how = std::mem::take(&mut self.next);
        ToyTicket {
            number,
            how,
            looks: 0,
        }
    }
    fn poll(&mut self, ticket: &mut ToyTicket) -> Poll<Result<(), ToyError>> {
        match self.rings && ticket.number < self.device.ended.load(SeqCst) {
            true => self.end(ticket),
            false => Poll::Pending,
        }
    }
    /// Without a limit it waits for ever for a ticket that never ends.
    fn wait(
        &mut self,
        ticket: &mut ToyTicket,
        until: Option<&Deadline>,
    ) -> Poll<Result<(), ToyError>> {
        let end = self.end(ticket);
        if end.is_pending() && until.is_none() {
            Parker::new().park();
        }
        end
    }
    fn lost(&mut self) -> Option<ToyError> {
        if std::mem::take(&mut self.kill) {
            resume_unwind(Box::new("the owner's own code"));
        }
        self.lost.take()
    }
}
