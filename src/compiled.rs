//! Compiled functions: traced once for the shapes they are given, and called many times.

mod function;
mod trace;

use crate::core::actor::launch::Start;
pub(crate) use crate::error::{Error, Result};
use crate::executor::{Asked, Executor, RunAsync, SubmitAsync};
use crate::graph::LazyTensor;
use crate::graph::cut::{Cut, Pins};
use crate::graph::encode::location_word;
use crate::graph::fragment::{Fragment, ValueId};
use crate::graph::leaf::Leaf;
use crate::handle::Handle;
use crate::outputs::{Outputs, Results};
use crate::plan::{Cache, Explanation, Missing, Scalars};
use crate::request::{Call, ExecutorHome};
use crate::submit::Submit;
use candle_core::{DeviceLocation, Tensor};
pub(crate) use function::Given;
pub use function::{Argument, Function};
use smallvec::SmallVec;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use trace::{Parts, Trace};

/// The most traces that a function keeps: one for each list of shapes, dtypes and devices that it is called with.
/// When there are more, the half of them goes that was used longest ago.
const MOST_TRACES: usize = 64;

/// The tensors that a function returned when it was traced.
type Roots = SmallVec<[LazyTensor; 2]>;
type Traced<'f> = Box<dyn Fn(&[LazyTensor]) -> Result<Roots> + Send + Sync + 'f>;

/// A function of lazy tensors that is traced once for the shapes it is given and called many
/// times, from any number of threads. A call builds no graph and plans nothing. Made by
/// [`Executor::compile`]. Cloning is a reference count.
///
/// # What a trace is
///
/// For arguments of new shapes, dtypes or devices the function runs once, on placeholders, and
/// the graph that it returns is planned. A call puts its arguments in their place. So
///
/// - what the function does besides (printing, counting, drawing random numbers) is done when it
///   is traced, and not by each call;
/// - tensors that it captures, [`Params`](crate::Params) that it reads among them, are those of
///   the trace. After they were replaced, [`retrace`](Compiled::retrace) takes up the new ones;
/// - a captured tensor that was submitted before the trace is used and not computed again; one
///   that was not is computed by every call;
/// - a placeholder has no data. Submitting what is made of it, or keeping it for later, is
///   [`Error::Placeholder`].
///
/// How an argument lies in memory, and what it is computed by if it is a graph that was not
/// submitted, belong to what is traced: such a graph becomes part of the call.
///
/// A trace keeps what it captured alive. A function keeps up to 64 of them; and it keeps its
/// executor open.
///
/// # Results
///
/// Each call computes its own results, also for the same arguments. They are submitted, queued,
/// cancelled and withdrawn like those of [`Executor::submit`], but only the handle refers to them.
#[derive(Clone)]
pub struct Compiled<'f, R = Tensor> {
    shared: Arc<Shared<'f>>,
    results: PhantomData<fn() -> R>,
}

struct Shared<'f> {
    executor: Executor,
    /// How many arguments the function takes; `None` if any number.
    arguments: Option<usize>,
    function: Traced<'f>,
    traces: Cache<Trace>,
}

impl Executor {
    /// Compiles a function: see [`Compiled`].
    ///
    /// It takes one to eight `&LazyTensor`, or one `&[LazyTensor]` of any length, with the types
    /// written out, and returns a [`Result`] of what can be submitted: a lazy tensor, a tuple, an
    /// array or a vector. Nothing is traced yet.
    ///
    /// ```
    /// use candlewick::{D, Device, Executor, LazyTensor, Tensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let w = LazyTensor::from(Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?);
    /// let scores = executor.compile(|x: &LazyTensor| x.matmul(&w)?.softmax(D::Minus1));
    /// for rows in [1, 2, 1] {
    ///     let x = Tensor::ones((rows, 2), candlewick::DType::F32, &Device::Cpu)?;
    ///     assert_eq!(scores.run(&[x])?.dims(), [rows, 2]);
    /// }
    /// assert_eq!(scores.traces(), 2); // for one row and for two
    ///
    /// let both = executor.compile(|a: &LazyTensor, b: &LazyTensor| Ok(((a + b)?, (a * b)?)));
    /// let (a, b) = (LazyTensor::new(&[3f32], &Device::Cpu)?, LazyTensor::new(&[4f32], &Device::Cpu)?);
    /// let (sum, product) = both.run(&[a, b])?;
    /// assert_eq!((sum.to_vec1::<f32>()?, product.to_vec1::<f32>()?), (vec![7.0], vec![12.0]));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn compile<'f, A, F: Function<A> + 'f>(
        &self,
        function: F,
    ) -> Compiled<'f, <F::Outputs as Outputs>::Results> {
        let roots = move |arguments: &[LazyTensor]| {
            let outputs = function.call(arguments)?;
            Ok(outputs.tensors().into_iter().cloned().collect())
        };
        Compiled {
            shared: Arc::new(Shared {
                executor: self.clone(),
                arguments: F::ARGUMENTS,
                function: Box::new(roots),
                traces: Cache::new(MOST_TRACES),
            }),
            results: PhantomData,
        }
    }
}

impl<R: Results> Compiled<'_, R> {
    /// Calls the function, and waits while the queue is full, as [`Executor::submit`] does.
    ///
    /// An argument is a [`Tensor`] or a [`LazyTensor`], or a reference to one: all of one kind, so
    /// wrap tensors with `LazyTensor::from` where both come together.
    ///
    /// # Errors
    /// [`Error::Arguments`]; what the function returns when it is traced;
    /// [`Error::Placeholder`]; and those of [`Executor::submit`]. A panic of the function unwinds
    /// to the caller, and the next call traces again.
    pub fn submit<A: Argument>(&self, arguments: &[A]) -> Result<Handle<R>> {
        self.submit_with(arguments, Submit::new())
    }

    /// Calls the function as `how` says: with a deadline, a priority, in the turn of a session.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`], and those of [`Compiled::submit`].
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor, Priority, Submit, Tensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let square = executor.compile(|x: &LazyTensor| x.sqr());
    /// let x = Tensor::new(&[3f32], &Device::Cpu)?;
    /// let soon = Submit::new().priority(Priority::Interactive);
    /// let handle = square.submit_with(&[&x], soon)?;
    /// let other = square.submit(&[&x])?; // meanwhile
    /// assert_eq!(handle.wait()?.to_vec1::<f32>()?, [9.0]);
    /// assert_eq!(other.wait()?.to_vec1::<f32>()?, [9.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit_with<A: Argument>(&self, arguments: &[A], how: Submit) -> Result<Handle<R>> {
        let asked = self.shared.call(arguments)?;
        let pending = (self.shared.executor).queue(asked, &how, Start::Post, "submit");
        pending.map(Handle::new)
    }

    /// Calls the function and returns its results, as [`Executor::run`] does: on the CPU the calling thread
    /// does the work if no other one drives the device, and the owner is not woken.
    ///
    /// # Errors
    /// Those of [`Compiled::submit`] and [`Executor::run`].
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor, Tensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let square = executor.compile(|x: &LazyTensor| x.sqr());
    /// let x = Tensor::new(&[3f32], &Device::Cpu)?;
    /// assert_eq!(square.run(&[x])?.to_vec1::<f32>()?, [9.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn run<A: Argument>(&self, arguments: &[A]) -> Result<R> {
        self.run_with(arguments, Submit::new())
    }

    /// Calls the function as `how` says and returns its results, as [`Executor::run_with`] does: with a
    /// deadline, a call that is queued is found to be late when its turn comes.
    ///
    /// # Errors
    /// Those of [`Compiled::submit_with`] and [`Executor::run_with`].
    ///
    /// ```
    /// use candlewick::{Device, Error, Executor, LazyTensor, Priority, Submit, Tensor};
    /// use std::time::Instant;
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let square = executor.compile(|x: &LazyTensor| x.sqr());
    /// let x = Tensor::new(&[3f32], &Device::Cpu)?;
    /// let soon = Submit::new().priority(Priority::Interactive);
    /// assert_eq!(square.run_with(&[&x], soon)?.to_vec1::<f32>()?, [9.0]);
    /// let late = square.run_with(&[&x], Submit::deadline(Instant::now()));
    /// assert!(matches!(late, Err(Error::DeadlineExceeded)));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_with<A: Argument>(&self, arguments: &[A], how: Submit) -> Result<R> {
        let asked = self.shared.call(arguments)?;
        self.shared.executor.run_asked(asked, &how)
    }

    /// Calls the function and yields its results, as [`Executor::run_async`] does: small work is done
    /// inside of the poll if the device is idle. If the function has to be traced, that is done here.
    ///
    /// # Errors
    /// Those of [`Compiled::submit`] and [`Handle::wait`], by the future.
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor, Tensor};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let square = executor.compile(|x: &LazyTensor| x.sqr());
    /// let x = Tensor::new(&[2f32], &Device::Cpu)?;
    /// assert_eq!(square.run_async(&[x]).await?.to_vec1::<f32>()?, [4.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn run_async<A: Argument>(&self, arguments: &[A]) -> RunAsync<R> {
        let asked = self.shared.call(arguments);
        self.shared.executor.run_asked_async(asked, Submit::new())
    }

    /// Calls the function if the queue has room and nobody waits for it.
    ///
    /// # Errors
    /// [`Error::QueueFull`], and those of [`Compiled::submit`] but for [`Error::WouldDeadlock`].
    ///
    /// ```
    /// use candlewick::device::Script;
    /// use candlewick::{Device, Error, Executor, LazyTensor, Tensor};
    /// let device = Script::new(); // a simulated device, which can be held up
    /// let executor = Executor::builder(&Device::Cpu).queue_capacity(1).simulated(&device).build()?;
    /// let square = executor.compile(|x: &LazyTensor| x.sqr());
    /// let x = Tensor::new(&[3f32], &Device::Cpu)?;
    /// device.hold();
    /// let running = square.try_submit(&[&x])?;
    /// device.wait_until_held(); // it has begun, and left the queue
    /// let queued = square.try_submit(&[&x])?;
    /// assert!(matches!(square.try_submit(&[&x]), Err(Error::QueueFull { capacity: 1, .. })));
    /// device.resume();
    /// assert_eq!(running.wait()?.to_vec1::<f32>()?, [9.0]);
    /// assert_eq!(queued.wait()?.to_vec1::<f32>()?, [9.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_submit<A: Argument>(&self, arguments: &[A]) -> Result<Handle<R>> {
        let asked = self.shared.call(arguments)?;
        let pending = self.shared.executor.try_queue(asked, &Submit::new());
        pending.map(Handle::new)
    }

    /// Calls the function, and awaits room in the queue. If the function has to be traced, that is
    /// done here, not when the future is polled.
    ///
    /// # Errors
    /// Those of [`Compiled::submit`], by the future.
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor, Tensor};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let square = executor.compile(|x: &LazyTensor| x.sqr());
    /// let x = Tensor::new(&[2f32], &Device::Cpu)?;
    /// let first = square.submit_async(&[&x]).await?; // queued
    /// let second = square.submit_async(&[&x]).await?;
    /// assert_eq!(first.await?.to_vec1::<f32>()?, [4.0]);
    /// assert_eq!(second.await?.to_vec1::<f32>()?, [4.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn submit_async<A: Argument>(&self, arguments: &[A]) -> SubmitAsync<R> {
        let asked = self.shared.call(arguments);
        self.shared.executor.asked_async(asked, Submit::new())
    }

    /// How a call with these arguments would run. Runs the function on placeholders for this, keeps no trace,
    /// and submits nothing.
    ///
    /// # Errors
    /// [`Error::Arguments`]; what the function returns; [`Error::Placeholder`]; [`Error::ForeignExecutor`] and
    /// [`Error::ForeignDevice`].
    ///
    /// ```
    /// use candlewick::{D, Device, Executor, LazyTensor, Tensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let scores = executor.compile(|x: &LazyTensor| x.sqr()?.softmax(D::Minus1));
    /// let x = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
    /// let explanation = scores.explain(&[&x])?;
    /// assert_eq!((explanation.steps(), explanation.engine_steps()), (1, 1));
    /// assert_eq!(scores.traces(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn explain<A: Argument>(&self, arguments: &[A]) -> Result<Explanation> {
        self.shared.explain(arguments)
    }
}

impl<R> Compiled<'_, R> {
    /// Forgets all traces: the next call traces the function again, and reads again what it
    /// captured. Calls that were begun, traces too, end with what they have.
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor, Params, Tensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let params = Params::from_map([("w", Tensor::new(&[2f32], &Device::Cpu)?)])?;
    /// let scale = executor.compile(|x: &LazyTensor| x * &params.snapshot().get("w")?);
    /// let x = LazyTensor::new(&[10f32], &Device::Cpu)?;
    /// assert_eq!(scale.run(&[&x])?.to_vec1::<f32>()?, [20.0]);
    /// params.replace([("w", Tensor::new(&[3f32], &Device::Cpu)?)])?;
    /// assert_eq!(scale.run(&[&x])?.to_vec1::<f32>()?, [20.0]); // as it was traced
    /// scale.retrace();
    /// assert_eq!(scale.run(&[&x])?.to_vec1::<f32>()?, [30.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn retrace(&self) {
        self.shared.traces.forget();
    }

    /// How many traces were made.
    pub fn traces(&self) -> u64 {
        self.shared.traces.counts().0
    }
}

impl Shared<'_> {
    fn home(&self) -> &Arc<ExecutorHome> {
        self.executor.home()
    }

    /// A call with these arguments, ready to be queued.
    fn call<A: Argument>(&self, arguments: &[A]) -> Result<Asked<Call>> {
        let given = self.given(arguments)?;
        loop {
            let mut cut = Cut::new(self.home().asking(), Fragment::new());
            let values = cut_arguments(&mut cut, &given, self.home())?;
            self.home().check_bytes(cut.into.host_bytes)?;
            let places = given.iter().map(|given| location_word(given.location()));
            let look = self.home().planner.look_up(&cut.into, places, &self.traces);
            let (trace, scalars): (Result<_, Missing>, Scalars) = look;
            let parts = Parts::of(&cut.into, scalars.len());
            match trace {
                Ok(trace) => {
                    if let Some(call) = trace.call(cut.into, scalars, self.home()) {
                        return Ok(call);
                    }
                    self.traces.forget(); // something that it captured is gone
                }
                Err(missing) => {
                    let roots = self.roots(&mut cut, &given, &values)?;
                    let (trace, call) = Trace::make(cut, roots, parts, self.home())?;
                    missing.put(&Arc::new(trace), &self.traces);
                    return Ok(call);
                }
            }
        }
    }

    /// Runs the function on placeholders, which stand for these values.
    fn roots(
        &self,
        cut: &mut Cut<impl trace::Asks, Fragment<trace::Submitted>>,
        given: &[Given<'_>],
        values: &[ValueId],
    ) -> Result<Roots> {
        let placeholders: Vec<LazyTensor> = given.iter().map(Given::placeholder).collect();
        for (placeholder, &value) in placeholders.iter().zip(values) {
            cut.put(placeholder.0.id, value);
        }
        (self.function)(&placeholders)
    }

    fn explain<A: Argument>(&self, arguments: &[A]) -> Result<Explanation> {
        let given = self.given(arguments)?;
        let mut cut = Cut::new(self.home().asking(), Fragment::new());
        let values = cut_arguments(&mut cut, &given, self.home())?;
        let roots = self.roots(&mut cut, &given, &values)?;
        cut.ask(&roots, &mut Pins::new())?;
        Ok(self.home().planner.explain(&cut.into))
    }

    fn given<'a, A: Argument>(&self, arguments: &'a [A]) -> Result<SmallVec<[Given<'a>; 4]>> {
        match self.arguments {
            Some(expected) if expected != arguments.len() => Err(Error::Arguments {
                expected,
                got: arguments.len(),
            }),
            _ => Ok(arguments.iter().map(Argument::given).collect()),
        }
    }
}

/// Gives each argument a value; they are the fragment's outputs so far.
fn cut_arguments(
    cut: &mut Cut<impl trace::Asks, Fragment<trace::Submitted>>,
    given: &[Given<'_>],
    home: &ExecutorHome,
) -> Result<SmallVec<[ValueId; 4]>> {
    let (mut values, mut pins) = (SmallVec::new(), Pins::new());
    for given in given {
        let at = given.location();
        values.push(match given {
            Given::Lazy(tensor) => cut.visit(tensor, &mut pins)?,
            Given::Tensor(tensor) if at == home.location || at == DeviceLocation::Cpu => {
                let value = cut.next_value();
                cut.into.leaf(value, &Leaf::bare(&tensor.detach())?);
                value
            }
            Given::Tensor(_) => return Err(home.foreign(at)),
        });
    }
    cut.into.end_arguments(&values);
    cut.forget();
    Ok(values)
}

impl<R> fmt::Debug for Compiled<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (made, kept) = self.shared.traces.counts();
        f.debug_struct("Compiled")
            .field("arguments", &self.shared.arguments)
            .field("traces", &made)
            .field("kept", &kept)
            .finish()
    }
}
