//! What the tests share.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape};
use candlewick::device::Script;
use candlewick::{Builder, DType, Device, Executor, Handle, Health, LazyTensor, Submit, Tensor};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Runs a test's body with a time limit: a hang fails it.
pub(crate) fn within_limit(body: impl FnOnce() + Send + 'static) {
    within(Duration::from_secs(60), body);
}

/// The same with another limit.
pub(crate) fn within(limit: Duration, body: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = done.send(());
    });
    match ended.recv_timeout(limit) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("hangs"),
        _ => {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Waits for something that is bound to happen soon.
pub(crate) fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}

pub(crate) fn cpu() -> Executor {
    Executor::new(&Device::Cpu).unwrap()
}

/// An executor on a simulated device.
pub(crate) fn simulated(capacity: usize) -> (Executor, Script) {
    let script = Script::new();
    let builder = Executor::builder(&Device::Cpu).queue_capacity(capacity);
    (builder.simulated(&script).build().unwrap(), script)
}

/// A simulated device whose owner is busy until `resume`: what is submitted stays queued.
pub(crate) fn held(capacity: usize) -> (Executor, Script, candlewick::Handle) {
    let (executor, script) = simulated(capacity);
    script.hold();
    let busy = executor.submit(&tensor(0.0).exp().unwrap()).unwrap();
    script.wait_until_held();
    (executor, script, busy)
}

/// An executor on the CPU without a thread of its own: nothing runs but by `step`, or by who waits and lends.
pub(crate) fn without_a_thread(adjust: impl FnOnce(Builder) -> Builder) -> Executor {
    let builder = adjust(Executor::builder(&Device::Cpu));
    builder.stepped().build().unwrap()
}

/// An executor on a simulated device, without a thread of its own and in virtual time. The owner does what it
/// would do if it were woken when `step` says so, and no time passes but by `pass`, so that nothing here depends
/// on how fast the machine is.
pub(crate) struct Stepped {
    pub(crate) executor: Executor,
    pub(crate) script: Script,
}

impl Stepped {
    /// An executor that is made as `adjust` says.
    pub(crate) fn new(adjust: impl FnOnce(Builder) -> Builder) -> Self {
        Script::set_now(Some(Instant::now()));
        let script = Script::new();
        script.stepped();
        let executor = without_a_thread(|builder| adjust(builder.simulated(&script)));
        Self { executor, script }
    }

    /// The owner does all that there is to do at this moment.
    pub(crate) fn step(&self) {
        // a lost or closed owner has left with the turn
        assert!(self.executor.step() || !matches!(self.executor.health(), Health::Running));
    }

    /// It is so much later, and the owner sees what that changes.
    pub(crate) fn pass(&self, time: Duration) {
        Script::set_now(Some(Script::now() + time));
        self.step();
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        Script::set_now(None);
    }
}

/// Submits with a deadline that is still to come by this thread's clock, and long past by that of the owner's
/// thread.
pub(crate) fn submit_late<O: candlewick::Outputs>(
    executor: &Executor,
    outputs: O,
) -> Handle<O::Results> {
    let long_ago = Instant::now() - Duration::from_secs(1);
    Script::set_now(Some(long_ago));
    let how = Submit::within(Duration::from_millis(1));
    let handle = executor.submit_with(outputs, how);
    Script::set_now(None);
    handle.unwrap()
}

pub(crate) fn tensor(value: f32) -> LazyTensor {
    LazyTensor::new(&[value], &Device::Cpu).unwrap()
}

pub(crate) fn value(tensor: &Tensor) -> f32 {
    tensor.to_vec1::<f32>().unwrap()[0]
}

/// What the engine's exponential is held to: one unit in the last place of the exact value's f32.
pub(crate) fn assert_exp(result: &Tensor, x: f32) {
    let (got, exact) = (f64::from(value(result)), f64::from(x).exp());
    assert!(
        (got - exact).abs() <= exact * 1.2e-7,
        "{got} is not exp({x})"
    );
}

/// What an operation of ours does when it runs.
#[derive(Clone)]
pub(crate) enum Act {
    AddOne,
    Fail(&'static str),
    Panic(&'static str),
    Call(Arc<dyn Fn() + Send + Sync>),
}

/// An operation that counts its runs.
#[derive(Clone)]
pub(crate) struct Counted {
    pub(crate) runs: Arc<AtomicUsize>,
    pub(crate) act: Act,
}

impl Counted {
    pub(crate) fn new(act: Act) -> Self {
        Self {
            runs: Arc::new(AtomicUsize::new(0)),
            act,
        }
    }
    pub(crate) fn runs(&self) -> usize {
        self.runs.load(SeqCst)
    }
    pub(crate) fn on(&self, x: &LazyTensor) -> LazyTensor {
        x.apply_op1(self.clone(), x.shape(), DType::F32).unwrap()
    }
}

impl CustomOp1 for Counted {
    fn name(&self) -> &'static str {
        "counted"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.runs.fetch_add(1, SeqCst);
        match &self.act {
            Act::Fail(text) => candle_core::bail!("{text}"),
            Act::Panic(text) => std::panic::resume_unwind(Box::new(text.to_string())),
            Act::Call(f) => f(),
            Act::AddOne => {}
        }
        let (start, end) = l.contiguous_offsets().expect("contiguous");
        let data = s.as_slice::<f32>()?[start..end].iter().map(|x| x + 1.0);
        Ok((CpuStorage::F32(data.collect()), l.shape().clone()))
    }
}
