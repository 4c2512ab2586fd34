//! Random programs: threads that submit overlapping outputs of one graph, with all that may go wrong.
//!
//! Every submission ends. What ends with a value has the value of a plain recursive evaluation; what does
//! not has a reason in the program. When everything is over, nothing is left.
//!
//! The seed of a program comes from the scheduler, so that a failing schedule replays its program;
//! `CANDLEWICK_SEED` sets it, to look for other schedules of one program.

use crate::core::actor::launch::{Ready, Start};
use crate::core::actor::park::block_on;
use crate::core::actor::shared::Core;
use crate::core::panics::catch;
use crate::core::store::slot::Outcome;
use crate::core::store::tag::Tag;
use crate::core::sync::Deadline;
use crate::runner::saw;
use crate::threads::spawn;
use crate::toy::*;
use program::{Admit, Device, Fault, Op, Program, Then};
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc as StdArc;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize as StdAtomic, Ordering::SeqCst};
use std::task::{Context, Waker};
use std::time::Duration;

mod program;

/// Programs for a device that is done when it returns.
pub fn programs_cpu() {
    execute(Device::Cpu);
}

/// Programs for a device whose tickets the owner waits for.
pub fn programs_gpu() {
    execute(Device::Gpu);
}

/// Programs for a device that rings when a ticket ends, which a thread does.
pub fn programs_ringing() {
    execute(Device::Ringing);
}

/// For each launch a counter of its work that exists.
type Counted = StdArc<StdMutex<Vec<StdArc<StdAtomic>>>>;

/// An admission that was polled and not dropped.
type Forgotten = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A submission to be looked at when all is over.
struct Kept {
    sub: Sub,
    outputs: Vec<usize>,
    cancelled: bool,
    late: bool,
}

/// What every thread of a program has.
#[derive(Clone)]
struct Stage {
    ex: Ex,
    tensors: Vec<Tensor>,
    alive: Counted,
    forgotten: StdArc<StdMutex<Vec<Forgotten>>>,
    program: StdArc<Program>,
}

/// Prints the program if this execution fails.
struct Shown(StdArc<Program>);

impl Drop for Shown {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("CANDLEWICK_SEED={} {:#?}", self.0.seed, self.0);
        }
    }
}

fn seed() -> u64 {
    let asked = std::env::var("CANDLEWICK_SEED").ok();
    asked.map_or_else(drawn, |seed| seed.parse().expect("a number"))
}

#[cfg(candlewick_shuttle)]
fn drawn() -> u64 {
    shuttle::rand::RngCore::next_u64(&mut shuttle::rand::thread_rng())
}

#[cfg(not(candlewick_shuttle))]
fn drawn() -> u64 {
    static NEXT: StdAtomic = StdAtomic::new(1);
    NEXT.fetch_add(1, SeqCst) as u64
}

/// Has a panic's message say the seed of the execution: a deadlock unwinds nothing.
fn announce(seed: u64) {
    use std::cell::Cell;
    use std::sync::Once;
    thread_local! {
        static SEED: Cell<u64> = const { Cell::new(0) };
    }
    static HOOK: Once = Once::new();
    SEED.set(seed);
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            eprintln!("random program: CANDLEWICK_SEED={}", SEED.get());
            before(info);
        }));
    });
}

fn execute(device: Device) {
    let program = match cfg!(candlewick_loom) {
        true => Program::smallest(device),
        false => Program::of_seed(seed(), device),
    };
    announce(program.seed);
    let program = StdArc::new(program);
    let _shown = Shown(program.clone());
    let (engine, ringing) = match program.device {
        Device::Cpu => (ToyEngine::cpu(), None),
        Device::Gpu => (ToyEngine::gpu(), None),
        Device::Ringing => {
            let (engine, device) = ToyEngine::ringing();
            (engine, Some(device))
        }
    };
    let mut tensors: Vec<Tensor> = Vec::new();
    for (place, (add, operands)) in program.nodes.iter().enumerate() {
        let operands: Vec<&Tensor> = operands.iter().map(|&operand| &tensors[operand]).collect();
        tensors.push(node(place as u64 + 1, *add, &operands));
    }
    let stage = Stage {
        ex: match cfg!(candlewick_loom) {
            true => idle(program.capacity, engine),
            false => start(program.capacity, engine),
        },
        tensors,
        alive: Counted::default(),
        forgotten: StdArc::default(),
        program,
    };
    let ringer = ringing.map(|device| {
        let tickets = stage.program.threads.iter().flatten().count();
        spawn(move || {
            (0..tickets / 2).for_each(|_| device.end_one());
            device.end_all();
        })
    });
    let threads = 0..stage.program.threads.len();
    let threads: Vec<_> = threads
        .map(|thread| {
            let stage = stage.clone();
            spawn(move || stage.play(thread))
        })
        .collect();
    let mut kept: Vec<Kept> = Vec::new();
    for thread in threads {
        kept.extend(thread.join().unwrap());
    }
    if let Some(ringer) = ringer {
        ringer.join().unwrap();
    }
    stage.finish(kept);
}

impl Stage {
    /// Does what one thread of the program does, and returns the submissions that are to be looked at
    /// again.
    fn play(&self, thread: usize) -> Vec<Kept> {
        let mut kept = Vec::new();
        for op in &self.program.threads[thread] {
            match op {
                Op::Close => self.ex.close(),
                Op::Abort => self.ex.abort(),
                Op::Submit { then, .. } => {
                    if let Some(submitted) = self.submit(op) {
                        kept.extend(self.dispose(submitted, *then));
                    }
                }
            }
        }
        kept
    }

    fn submit(&self, op: &Op) -> Option<Kept> {
        let Op::Submit {
            outputs,
            class,
            late: is_late,
            start,
            admit,
            fault,
            ..
        } = op
        else {
            return None;
        };
        let tag = Tag {
            producer: outputs[0] as u64,
            priority: *class,
            ..if *is_late { late() } else { Tag::default() }
        };
        let wanted: Vec<&Tensor> = outputs
            .iter()
            .map(|&output| &self.tensors[output])
            .collect();
        let (alive, fails) = (self.alive.clone(), *fault == Fault::Panic);
        let mut ask = Ask::new(&self.ex, &wanted).before_send(move |work| {
            let (guard, count) = Alive::counted();
            work.alive = guard;
            alive.lock().unwrap().push(count);
            if fails {
                resume_unwind(Box::new("in the launch"));
            }
        });
        if *fault == Fault::SecondCut {
            ask = ask.fail_second_cut();
        }
        let launched = catch(|| self.launch(ask, tag, *start, *admit));
        let sub = match launched {
            Err(_) => {
                assert!(fails, "a launch panicked");
                None
            }
            Ok(Err(error)) => {
                assert_eq!((error, *fault), (ToyError::Failed, Fault::SecondCut));
                None
            }
            Ok(Ok(sub)) => sub,
        };
        Some(Kept {
            sub: sub?,
            outputs: outputs.clone(),
            cancelled: false,
            late: *is_late,
        })
    }

    fn launch(
        &self,
        ask: Ask,
        tag: Tag,
        start: Start,
        admit: Admit,
    ) -> Result<Option<Sub>, ToyError> {
        let ready = Ready::cut(ask)?;
        if ready.work().is_none() {
            return Ok(Some(Core::join(&self.ex, ready, &tag)));
        }
        let permit = match admit {
            Admit::Waits => block_on(self.ex.admit(0, &tag), None).expect("no deadline"),
            Admit::Tries => self.ex.try_admit(0),
            Admit::Drops | Admit::Forgets => {
                self.give_up_admission(admit);
                return Ok(None);
            }
        };
        let Ok(permit) = permit else {
            let closes = self.program.may_close() || admit == Admit::Tries;
            assert!(closes, "refused by an executor that is open");
            return Ok(None);
        };
        Core::launch(&self.ex, ready, permit, tag, start).map(Some)
    }

    /// Asks for a permit once and no more. With [`Admit::Forgets`] the future stays until all is over.
    fn give_up_admission(&self, admit: Admit) {
        let ex = self.ex.clone();
        let mut admission: Forgotten =
            Box::pin(async move { drop(ex.admit(0, &Tag::default()).await) });
        let poll = admission
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        if poll.is_pending() && admit == Admit::Forgets {
            self.forgotten.lock().unwrap().push(admission);
        }
    }

    fn dispose(&self, mut kept: Kept, then: Then) -> Option<Kept> {
        match then {
            Then::Wait => {
                assert!(kept.sub.wait(None));
                self.check(&kept);
            }
            Then::WaitAsync => {
                wait_async(&kept.sub);
                self.check(&kept);
            }
            Then::WaitTimed => {
                let until = Deadline::after(Duration::from_millis(1));
                if kept.sub.wait(until.as_ref()) {
                    self.check(&kept);
                }
            }
            Then::Cancel => {
                let _ = kept.sub.cancel();
                kept.cancelled = true;
            }
            Then::CancelAndDrop => {
                let _ = kept.sub.cancel();
                return None;
            }
            Then::Drop => return None,
            Then::Never => {}
        }
        Some(kept)
    }

    /// Checks that every output has ended in a way for which the program has a reason.
    fn check(&self, kept: &Kept) {
        let may = self.program.may();
        for (slot, &output) in kept.sub.outputs().iter().zip(&kept.outputs) {
            let (end, may) = (peek(slot).expect("it has ended"), may[output]);
            let good = match &end {
                Outcome::Ready(value) => may.value == Some(*value),
                Outcome::Cancelled => kept.cancelled,
                Outcome::Expired => kept.late || kept.cancelled,
                Outcome::Closed => self.program.may_abort() || self.program.may_lose(),
                Outcome::Failed(ToyError::OwnerLost) => self.program.has(KILLS),
                Outcome::Failed(ToyError::Overdue) => self.program.has(NEVER_ENDS),
                // what it reads may have been lost or closed
                Outcome::Failed(ToyError::Failed) => {
                    may.fail || self.program.may_lose() || self.program.may_abort()
                }
                Outcome::Failed(_) => may.fail,
            };
            assert!(
                good,
                "node {output} ended with {end:?}, and might with {may:?}"
            );
            saw(match end {
                Outcome::Ready(_) => "ready",
                Outcome::Failed(_) => "failed",
                Outcome::Cancelled => "cancelled",
                Outcome::Expired => "expired",
                Outcome::Closed => "closed",
            });
        }
    }

    /// Closes the executor, checks how everything has ended, and that nothing is left.
    fn finish(self, kept: Vec<Kept>) {
        if cfg!(candlewick_loom) {
            step_down(&self.ex);
        } else {
            shutdown(&self.ex);
        }
        for kept in &kept {
            assert!(kept.sub.is_finished(), "a submission has not ended");
            self.check(kept);
        }
        if self.ex.store().recomputed() > 0 {
            saw("passed over");
        }
        if self.ex.counts().reissued > 0 {
            saw("issued again");
        }
        drop(kept);
        let forgotten = std::mem::take(&mut *self.forgotten.lock().unwrap());
        drop(forgotten);
        nothing_left(&self.ex, self.tensors.iter().map(Tensor::id));
        let alive = self.alive.lock().unwrap();
        let left = alive.iter().map(|count| count.load(SeqCst)).sum::<usize>();
        assert_eq!(left, 0, "work is left");
    }
}
