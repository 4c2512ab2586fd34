//! A device that answers like the CPU and fails by a script: for tests of what happens when a
//! device is slow, out of memory, reports an error late, never ends or is lost.

use super::panics::caught;
use super::{CommandStream, Part, Ticket};
use crate::core::actor::engine::Bell;
use crate::core::panics::discard;
use crate::core::sync::{Deadline, now, pass, set_now};
use crate::error::Cause;
use crate::graph::{Kept, Op};
use crate::plan::product::PRODUCTS;
use crate::plan::{Fused, Product};
use candle_core::{Device, Tensor};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a simulated device is to do, and what it has done. Clones share one device.
///
/// The device is given work by the owner and goes on with it by itself, one batch after another: a
/// *ticket* stands for each, and its results are there when it has ended. Steps (operations, or several
/// that run as one) and tickets are counted from 0.
///
/// ```
/// use candlewick::device::{Fault, Script};
/// use candlewick::{Device, Executor, LazyTensor};
/// let script = Script::new();
/// script.at_step(1, Fault::OutOfMemory { asked: 1 << 40, left: 1 << 30 });
/// let executor = Executor::builder(&Device::Cpu).simulated(&script).build()?;
/// let x = LazyTensor::new(&[1f32], &Device::Cpu)?;
/// executor.run(&x.exp()?)?;
/// let error = executor.run(&x.sin()?).unwrap_err();
/// assert!(error.to_string().contains("out of device memory"), "{error}");
/// executor.run(&x.cos()?)?; // the device has recovered
/// # Ok::<_, candlewick::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Script(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    step_latency: Duration,
    ticket_latency: Duration,
    steps: u64,
    tickets: u64,
    at_step: BTreeMap<u64, Fault>,
    at_ticket: BTreeMap<u64, Fault>,
    held: bool,
    holding: bool,
    lost: Option<String>,
    owner_panics: bool,
    /// How long the commands since the last ticket take.
    issued: Duration,
    /// What the device has been given and has not ended, oldest first.
    queue: VecDeque<Given>,
    /// When it will have done all of it.
    free_at: Option<Instant>,
    /// How long it has been busy, and when its first work began.
    busy: Duration,
    began: Option<Instant>,
    /// Whether a simulation of a whole executor says when to look.
    stepped: bool,
}

/// What one ticket stands for.
struct Given {
    number: u64,
    /// When it ends; never, if that is what is to happen.
    ends: Option<Instant>,
    /// To be rung when it has ended, once; of the executor that took the ticket.
    bell: Option<Bell>,
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// An error with this message. At a ticket: one that comes late, and may belong to any
    /// fragment of the batch.
    Error(String),
    /// The device has no memory left for what it is asked to do.
    OutOfMemory {
        /// Bytes asked for.
        asked: u64,
        /// Bytes that were left.
        left: u64,
    },
    /// A panic with this message: at a step, of the operation; at a ticket, of the owner.
    Panic(String),
    /// The device is lost.
    Lost(String),
    /// The owner itself panics, after the batch, outside of any operation.
    OwnerPanic,
    /// The ticket never ends: the device has faulted and calls nobody back. Only at a ticket.
    NeverEnds,
}

impl Script {
    /// A device without latency that does not fail.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the device takes for each step, and for each ticket besides.
    pub fn latency(&self, step: Duration, ticket: Duration) {
        let mut state = self.state();
        state.step_latency = step;
        state.ticket_latency = ticket;
    }

    /// What happens at step number `step`, once. Steps are counted from 0, those that are issued again
    /// after a late error too.
    pub fn at_step(&self, step: u64, fault: Fault) {
        self.state().at_step.insert(step, fault);
    }

    /// What happens when ticket number `ticket` ends, once. Tickets are counted from 0, those of fragments
    /// that are issued again after a late error too.
    pub fn at_ticket(&self, ticket: u64, fault: Fault) {
        self.state().at_ticket.insert(ticket, fault);
    }

    /// Steps issued so far.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Tickets issued so far.
    pub fn tickets(&self) -> u64 {
        self.state().tickets
    }

    /// The idle time and the whole time, from the beginning of the first ticket's work until the last one
    /// ends.
    pub fn idle(&self) -> (Duration, Duration) {
        let state = self.state();
        let all = match (state.began, state.free_at) {
            (Some(began), Some(free)) => free.saturating_duration_since(began),
            _ => Duration::ZERO,
        };
        (all.saturating_sub(state.busy), all)
    }

    /// For a simulation of a whole executor, in which no thread rings the bell: see [`Script::next_end`].
    #[doc(hidden)]
    pub fn stepped(&self) {
        self.state().stepped = true;
    }

    /// For a simulation: from here on it is this time on this thread, for deadlines and devices.
    #[doc(hidden)]
    pub fn set_now(time: Option<Instant>) {
        set_now(time);
    }

    /// For a simulation: the time on this thread. It passes where the owner waits for a ticket.
    #[doc(hidden)]
    pub fn now() -> Instant {
        now()
    }

    /// For a simulation: nothing more goes wrong, but for tickets that were issued never to end.
    #[doc(hidden)]
    pub fn calm(&self) {
        let mut state = self.state();
        state.at_step.clear();
        state.at_ticket.clear();
    }

    /// When the next ticket ends.
    #[doc(hidden)]
    pub fn next_end(&self) -> Option<Instant> {
        self.state().queue.front()?.ends
    }

    /// The next step does not begin until [`Script::resume`].
    pub fn hold(&self) {
        self.state().held = true;
    }

    /// Waits until a step has met [`Script::hold`], so that the owner is busy: for ever if none comes.
    pub fn wait_until_held(&self) {
        let mut state = self.state();
        while !state.holding {
            state = self
                .0
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets a held device go on.
    pub fn resume(&self) {
        self.state().held = false;
        self.0.changed.notify_all();
    }

    /// Counts a step and says what is to happen at it.
    fn step(&self) -> Option<Fault> {
        let mut state = self.state();
        while state.held {
            state.holding = true;
            self.0.changed.notify_all();
            state = self
                .0
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.holding = false;
        let number = state.steps;
        state.steps += 1;
        state.issued = state.issued.saturating_add(state.step_latency);
        state.at_step.remove(&number)
    }

    /// Gives the device the commands since the last ticket.
    fn issue(&self, bell: Option<Bell>) -> Ticket {
        let mut state = self.state();
        let number = state.tickets;
        state.tickets += 1;
        let work = std::mem::take(&mut state.issued).saturating_add(state.ticket_latency);
        let now = now();
        let begins = state.free_at.map_or(now, |free| free.max(now));
        let never = state.at_ticket.get(&number) == Some(&Fault::NeverEnds);
        let free_at = begins.checked_add(work); // never, if that is later than the clock reaches
        let ends = free_at.filter(|_| !never);
        state.began.get_or_insert(begins);
        state.busy = state.busy.saturating_add(work);
        state.free_at = free_at.or(Some(begins));
        state.queue.push_back(Given { number, ends, bell });
        self.0.changed.notify_all();
        Ticket(number)
    }

    /// What happens at the end of a ticket, if it has ended. Tickets end in order.
    fn ended(&self, ticket: Ticket) -> Option<Option<Fault>> {
        let mut state = self.state();
        let now = now();
        while let Some(given) = state.queue.front()
            && given.number <= ticket.0
        {
            if given.ends.is_none_or(|ends| ends > now) {
                return None;
            }
            let ended = state.queue.pop_front();
            let bell = ended.and_then(|given| given.bell);
            bell.inspect(Bell::ring); // of another executor, perhaps
        }
        Some(state.at_ticket.remove(&ticket.0))
    }

    /// Waits for the end of a ticket.
    fn wait_for(&self, ticket: Ticket, until: Option<&Deadline>) -> Option<Option<Fault>> {
        loop {
            if let Some(ended) = self.ended(ticket) {
                return Some(ended);
            }
            let next = self.next_end();
            let left = until.map(|until| until.left().unwrap_or(Duration::ZERO));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            let wait = match (next, left) {
                (None, None) => return None, // for ever
                (next, left) => {
                    let next = next.map(|next| next.saturating_duration_since(now()));
                    next.into_iter().chain(left).min().unwrap_or_default()
                }
            };
            pass(wait);
        }
    }

    /// The life of the thread that rings the bells when tickets have ended, until its stream is `gone`.
    fn ring_when_due(&self, gone: &AtomicBool) {
        let mut state = self.state();
        // ORDERING: Relaxed; set under the lock.
        while !gone.load(Ordering::Relaxed) {
            let due = state.queue.iter_mut().find(|given| given.bell.is_some());
            let left = due.as_ref().and_then(|given| given.ends);
            let left = left.map(|ends| ends.saturating_duration_since(Instant::now()));
            state = match (due, left) {
                (Some(given), Some(Duration::ZERO)) => {
                    given.bell.take().inspect(Bell::ring);
                    state
                }
                (_, Some(left)) => {
                    let waited = self.0.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                _ => {
                    let waited = self.0.changed.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    fn alive(&self) -> Result<(), Cause> {
        match &self.state().lost {
            Some(text) => Err(Cause::DeviceLost(text.clone())),
            None => Ok(()),
        }
    }

    fn happen(&self, fault: Option<Fault>) -> Result<(), Cause> {
        match fault {
            None | Some(Fault::NeverEnds) => Ok(()),
            Some(Fault::Error(text)) => Err(Cause::Candle(candle_core::Error::Msg(text))),
            Some(Fault::OutOfMemory { asked, left }) => Err(Cause::OutOfMemory { asked, left }),
            Some(Fault::Panic(text)) => std::panic::resume_unwind(Box::new(text)),
            Some(Fault::Lost(text)) => {
                self.state().lost = Some(text.clone());
                Err(Cause::DeviceLost(text))
            }
            Some(Fault::OwnerPanic) => {
                self.state().owner_panics = true;
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Script")
            .field("steps", &state.steps)
            .field("tickets", &state.tickets)
            .field("lost", &state.lost)
            .finish()
    }
}

/// The command stream of a simulated device. Like a GPU's it is bound to its owner's thread, goes on when it
/// returns, and tells by its bell that a ticket has ended. What it computes is the CPU's: at once, but not
/// to be seen before the ticket has ended.
pub(crate) struct Simulated {
    script: Script,
    cpu: Box<dyn CommandStream>,
    bell: Option<Bell>,
    /// The thread that rings the bells, and whether it is to end.
    clock: Option<JoinHandle<()>>,
    gone: Arc<AtomicBool>,
}

impl Simulated {
    pub(crate) fn new(script: Script, cpu: Box<dyn CommandStream>) -> Self {
        Self {
            script,
            cpu,
            bell: None,
            clock: None,
            gone: Arc::default(),
        }
    }

    /// One step of the device: it is alive, waits as long as the script says, and does what it says.
    fn step<T>(
        &mut self,
        run: impl FnOnce(&mut dyn CommandStream) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        self.script.alive()?;
        let fault = self.script.step();
        self.script.happen(fault)?;
        run(&mut *self.cpu)
    }
}

impl CommandStream for Simulated {
    fn device(&self) -> &Device {
        &Device::Cpu
    }
    fn lendable(&self) -> bool {
        false
    }
    fn synchronous(&self) -> bool {
        false
    }
    fn attach(&mut self, bell: Bell) -> bool {
        if !self.script.state().stepped {
            let (script, gone) = (self.script.clone(), self.gone.clone());
            let ring = move || script.ring_when_due(&gone);
            let thread = std::thread::Builder::new().name("candlewick-simulated".into());
            self.clock = thread.spawn(ring).ok();
            self.bell = self.clock.as_ref().map(|_| bell);
        }
        // without a thread the owner waits itself; a simulation of a whole executor looks at each step
        self.clock.is_some() || self.script.state().stepped
    }
    fn run(&mut self, op: &Op, inputs: &[&Tensor]) -> Result<Tensor, Cause> {
        self.step(|cpu| cpu.run(op, inputs))
    }
    fn fused(
        &mut self,
        step: &Fused,
        inputs: &[&Tensor],
        scalars: &[f32],
        _: Option<usize>,
    ) -> Result<Tensor, Cause> {
        // never over an operand: the step may be issued again
        self.step(|cpu| cpu.fused(step, inputs, scalars, None))
    }
    fn product(
        &mut self,
        step: &Product,
        inputs: &[&Tensor],
        scalars: &[f32],
        kept: [Option<&Kept>; PRODUCTS],
    ) -> Result<Tensor, Cause> {
        self.step(|cpu| cpu.product(step, inputs, scalars, kept))
    }
    fn join(&mut self, tensors: &[Tensor]) -> Result<Tensor, Cause> {
        self.step(|cpu| cpu.join(tensors))
    }
    fn apart(&mut self, parts: &[Part<'_>]) -> Vec<Result<Tensor, Cause>> {
        let each = parts.iter().map(|part| {
            caught(|| {
                let alone = std::slice::from_ref(part);
                let made = self.step(|cpu| Ok(cpu.apart(alone)))?;
                made.into_iter()
                    .next()
                    .unwrap_or_else(|| Err(Cause::Panic("no result".into())))
            })
        });
        each.collect()
    }
    fn recycle(&mut self, tensor: Tensor) {
        self.cpu.recycle(tensor);
    }
    fn read(&mut self, tensors: &[Tensor]) -> Result<Vec<Tensor>, Cause> {
        self.script.alive()?;
        Ok(tensors.to_vec())
    }
    fn ticket(&mut self) -> Ticket {
        self.script.issue(self.bell.clone())
    }
    fn poll(&mut self, ticket: Ticket) -> Poll<Result<(), Cause>> {
        match self.script.ended(ticket) {
            Some(fault) => Poll::Ready(self.script.happen(fault)),
            None => Poll::Pending,
        }
    }
    fn wait(&mut self, ticket: Ticket, until: Option<&Deadline>) -> Poll<Result<(), Cause>> {
        match self.script.wait_for(ticket, until) {
            Some(fault) => Poll::Ready(self.script.happen(fault)),
            None => Poll::Pending,
        }
    }
    fn fence(&mut self) -> Result<(), Cause> {
        self.script.alive()
    }
    fn lost(&mut self) -> Option<Cause> {
        let mut state = self.script.state();
        if std::mem::take(&mut state.owner_panics) {
            drop(state);
            std::panic::resume_unwind(Box::new("the owner's own code panicked".to_owned()));
        }
        state.lost.clone().map(Cause::DeviceLost)
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let state = self.script.state();
        self.gone.store(true, Ordering::Relaxed); // ORDERING: Relaxed; under the lock
        drop(state);
        self.script.0.changed.notify_all();
        if let Some(clock) = self.clock.take() {
            clock.join().unwrap_or_else(discard);
        }
    }
}
