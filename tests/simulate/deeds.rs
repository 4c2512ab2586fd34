//! What foreign code does while the executor runs it: operations of our own and wakers, which cancel,
//! drop and submit in the middle of a turn.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape};
use candlewick::{Cancel, Executor, Handle, LazyTensor, Result, Tensor};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

/// The handles of the simulation.
pub(crate) type TheHandle = Handle<Vec<Tensor>>;

/// Something that is done once.
pub(crate) enum Deed {
    Cancel(TheHandle, usize, Outbox),
    Drop(Vec<LazyTensor>),
    Submit(Executor, Vec<(usize, LazyTensor)>, Outbox),
    /// Tries to drive an executor that is being driven.
    Step(Executor),
}

/// What has come of a deed.
pub(crate) enum Done {
    Cancelled(usize, Cancel),
    Submitted(Vec<usize>, Result<TheHandle>),
}

/// Where the simulation finds it.
pub(crate) type Outbox = Arc<Mutex<Vec<Done>>>;

impl Deed {
    fn run(self) {
        let put = |outbox: Outbox, done| {
            let mut outbox = outbox.lock().unwrap_or_else(PoisonError::into_inner);
            outbox.push(done);
        };
        match self {
            Deed::Cancel(handle, submission, outbox) => {
                let said = handle.cancel();
                put(outbox, Done::Cancelled(submission, said));
            }
            Deed::Drop(tensors) => drop(tensors),
            Deed::Submit(executor, outputs, outbox) => {
                let (nodes, tensors): (Vec<_>, Vec<_>) = outputs.into_iter().unzip();
                let submitted = executor.try_submit(&tensors);
                put(outbox, Done::Submitted(nodes, submitted));
            }
            Deed::Step(executor) => drop(executor.step()),
        }
    }
}

/// A deed that waits for its time.
#[derive(Default)]
struct Waiting(Mutex<Option<Deed>>);

impl Waiting {
    fn run(&self) {
        let deed = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(deed) = deed {
            deed.run();
        }
    }
}

/// What an operation of ours does.
pub(crate) enum Act {
    /// Adds one, and does this besides, once.
    AddOne(Option<Deed>),
    /// Fails, naming its node.
    Fail(usize),
    Panic(usize),
}

/// An operation of ours.
pub(crate) struct Acting {
    act: Inside,
    pub(crate) runs: Arc<AtomicU64>,
}

/// The same, with the deed where a shared operation can take it.
enum Inside {
    AddOne(Waiting),
    Fail(usize),
    Panic(usize),
}

impl Acting {
    pub(crate) fn new(act: Act) -> Self {
        let act = match act {
            Act::AddOne(deed) => Inside::AddOne(Waiting(Mutex::new(deed))),
            Act::Fail(node) => Inside::Fail(node),
            Act::Panic(node) => Inside::Panic(node),
        };
        let runs = Arc::default();
        Self { act, runs }
    }
}

impl CustomOp1 for Acting {
    fn name(&self) -> &'static str {
        "acting"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.runs.fetch_add(1, Relaxed);
        match &self.act {
            Inside::Fail(node) => {
                return Err(candle_core::Error::Msg(format!("operation {node} ")));
            }
            // without the hook's message
            Inside::Panic(node) => {
                std::panic::resume_unwind(Box::new(format!("operation {node} ")))
            }
            Inside::AddOne(deed) => deed.run(),
        }
        let data = s.as_slice::<f32>()?;
        let ((rows, columns), stride) = (l.shape().dims2()?, l.stride());
        let at = |i: usize| l.start_offset() + i / columns * stride[0] + i % columns * stride[1];
        let data = (0..rows * columns).map(|i| data[at(i)] + 1.0).collect();
        Ok((CpuStorage::F32(data), l.shape().clone()))
    }
}

/// A waker that counts, and does something when it is woken for the first time.
#[derive(Default)]
pub(crate) struct Counting {
    pub(crate) woken: AtomicU64,
    deed: Waiting,
}

impl Counting {
    pub(crate) fn new(deed: Option<Deed>) -> Arc<Self> {
        Arc::new(Self {
            woken: AtomicU64::new(0),
            deed: Waiting(Mutex::new(deed)),
        })
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Relaxed) > 0
    }
}

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.fetch_add(1, Relaxed);
        self.deed.run();
    }
}
