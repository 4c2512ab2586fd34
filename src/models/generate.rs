//! Continuing a text, one id after the other.

use super::llama::{Cache, LlamaModel};
use super::sampling::{Choice, Sampling, invalid, refuse};
use crate::{
    DType, Device, Error, Executor, Handle, LazyTensor, Reason, Result, Session, Submit,
    SubmitAsync, Tensor,
};
use futures_core::Stream;
use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// The most ids of a submission: bounds a step's mask and its time.
const PIECE: usize = 512;

/// The continuation of a text: an [`Iterator`] that blocks, and a [`Stream`] for tasks.
///
/// Each id is one submission, which the executor runs together with what others submit; a prompt is
/// read in pieces of at most 512 ids, each a submission, so that a long one holds up nobody. Dropped,
/// it stops, and what it has submitted and has not begun is not run. After an error it ends.
///
/// ```no_run
/// use candlewick::models::llama::LlamaModel;
/// use candlewick::models::{Generation, Sampling};
/// use candlewick::{Device, Executor};
/// use std::sync::Arc;
/// let model = Arc::new(LlamaModel::from_dir("model", &Device::Cpu)?);
/// let executor = Executor::new(&Device::Cpu)?;
/// let text = Generation::new(&executor, &model, &[1, 15043], Sampling::greedy())?.max_new(20);
/// for id in text {
///     println!("{}", id?);
/// }
/// # Ok::<_, candlewick::Error>(())
/// ```
pub struct Generation {
    executor: Executor,
    how: Submit,
    model: Arc<LlamaModel>,
    cache: Cache,
    /// The ids of the text that the cache does not have yet.
    next: Vec<u32>,
    choice: Choice,
    stops: Vec<u32>,
    /// How many more ids there may be.
    left: usize,
    cancelled: Canceller,
    step: Option<Step>,
}

/// One submission of a generation: it reads ids, and makes the cache that the next one goes on from.
struct Step {
    at: At,
    /// What is submitted: the scores of the next id, if the ids that it reads end the text so far, and the keys
    /// and values of `cache`.
    outputs: Vec<LazyTensor>,
    /// How many ids the step reads.
    reads: usize,
    /// The cache as it is after the step.
    cache: Cache,
}

/// How far a step has come.
enum At {
    /// Its graph is made, and has not been submitted.
    Made,
    /// It waits for room in the queue.
    Room(SubmitAsync<Vec<Tensor>>),
    /// It is queued.
    Queued(Handle<Vec<Tensor>>),
}

impl Step {
    /// Runs the step and returns its results; waits for them if the step is queued.
    fn wait(&mut self, executor: &Executor, how: &Submit) -> Result<Vec<Tensor>> {
        if let At::Queued(handle) = &self.at {
            return handle.wait();
        }
        self.at = At::Made; // a task that waited for room has left the line
        executor.run_with(&self.outputs[..], how.clone())
    }

    /// Submits the step and yields its results, for a task.
    fn poll(
        &mut self,
        executor: &Executor,
        how: &Submit,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<Tensor>>> {
        loop {
            self.at = match &mut self.at {
                At::Made => {
                    let outputs = &self.outputs[..];
                    At::Room(executor.submit_async_with(outputs, how.clone()))
                }
                At::Room(submitting) => match Pin::new(submitting).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(handle) => At::Queued(handle?),
                },
                At::Queued(handle) => return Pin::new(handle).poll(cx),
            };
        }
    }
}

/// Stops a [`Generation`] from elsewhere, at its next id.
#[derive(Clone, Debug, Default)]
pub struct Canceller(Arc<AtomicBool>);

impl Canceller {
    /// Ends the generation: it returns no further id.
    pub fn cancel(&self) {
        // ORDERING: Relaxed; a request, no data travels with it.
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        // ORDERING: Relaxed; see `cancel`. Seen late, there is one id more.
        self.0.load(Ordering::Relaxed)
    }
}

impl Generation {
    /// Continues the text of these ids until one of the model's ends, or the last position. Nothing
    /// is submitted yet.
    ///
    /// # Errors
    /// No ids, or more than the model has positions for; a temperature that is negative or no
    /// number, a `top_k` of 0, a `top_p` that is not above 0 and at most 1.
    pub fn new(
        executor: &Executor,
        model: &Arc<LlamaModel>,
        prompt: &[u32],
        sampling: Sampling,
    ) -> Result<Self> {
        let left = room(model, 0, prompt)?;
        Ok(Self {
            executor: executor.clone(),
            how: Submit::new().session(&Session::new()),
            cache: Cache::new(model),
            next: prompt.to_vec(),
            choice: Choice::new(sampling)?,
            stops: model.config().eos_token_id.clone(),
            left,
            cancelled: Canceller::default(),
            step: None,
            model: model.clone(),
        })
    }

    /// Goes on from a text that was read before, of which the prompt is the continuation: from a
    /// clone of another's [`cache`](Self::cache). To be called before the first id.
    ///
    /// # Errors
    /// More ids, both together, than the model has positions for; a cache of another model.
    pub fn with_cache(mut self, cache: Cache) -> Result<Self> {
        if !cache.is_of(&self.model) {
            return Err(refuse("the cache", "of this model"));
        }
        let left = room(&self.model, cache.len(), &self.next)?;
        self.left = self.left.min(left);
        self.cache = cache;
        Ok(self)
    }

    /// Returns at most `ids` ids.
    pub fn max_new(mut self, ids: usize) -> Self {
        self.left = self.left.min(ids);
        self
    }

    /// Ends at these ids, which it does not return, instead of the model's own.
    pub fn stop_at(mut self, ids: &[u32]) -> Self {
        self.stops = ids.to_vec();
        self
    }

    /// Submits its steps as this says. By default in the turn of a session of its own, without a
    /// deadline, at normal priority.
    pub fn submit_with(mut self, how: Submit) -> Self {
        self.how = how;
        self
    }

    /// A handle by which another thread stops this generation.
    pub fn canceller(&self) -> Canceller {
        self.cancelled.clone()
    }

    /// The keys and values of the text so far, for another generation to
    /// [go on from](Self::with_cache). The last id is not in there yet: it begins the other's prompt.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Makes the next step, if none is on its way. `false` if the generation has ended.
    fn begin(&mut self) -> Result<bool> {
        if self.left == 0 || self.cancelled.is_cancelled() {
            self.step = None;
            return Ok(false);
        }
        if self.step.is_none() {
            let (reads, mut cache) = (self.next.len().min(PIECE), self.cache.clone());
            let ids = LazyTensor::from_slice(&self.next[..reads], (1, reads), &Device::Cpu)?;
            let ids = ids.to_device(self.model.device())?;
            let scores = self.model.forward(&ids, &mut cache)?;
            let scores = scores.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
            let mut outputs = Vec::from_iter((reads == self.next.len()).then_some(scores));
            outputs.extend(cache.tensors().cloned());
            self.step = Some(Step {
                at: At::Made,
                outputs,
                reads,
                cache,
            });
        }
        Ok(true)
    }

    /// Takes a step's results. Breaks with the next id, or with nothing if the text ends there; continues if a
    /// part of the prompt is still to be read.
    fn end(&mut self, result: Result<Vec<Tensor>>) -> ControlFlow<Option<Result<u32>>> {
        let Some(step) = self.step.take() else {
            return ControlFlow::Break(None);
        };
        let id = match result {
            Ok(_) if step.reads < self.next.len() => {
                self.cache = step.cache;
                self.next.drain(..step.reads);
                return ControlFlow::Continue(());
            }
            Ok(results) => self.choose(&results),
            Err(error) => Err(error),
        };
        let id = match id {
            Ok(id) => id,
            Err(error) => return ControlFlow::Break(self.fail(error)),
        };
        (self.cache, self.next) = (step.cache, vec![id]);
        self.left -= 1;
        if self.stops.contains(&id) || self.cancelled.is_cancelled() {
            self.left = 0;
            return ControlFlow::Break(None);
        }
        ControlFlow::Break(Some(Ok(id)))
    }

    /// The next id, chosen by the scores in a step's results.
    fn choose(&mut self, results: &[Tensor]) -> Result<u32> {
        let scores = results[0].flatten_all().and_then(|all| all.to_vec1());
        let scores: Vec<f32> = scores.map_err(|error| invalid(Reason::Candle(error)))?;
        self.choice.choose(&scores)
    }

    fn fail<T>(&mut self, error: Error) -> Option<Result<T>> {
        self.left = 0;
        Some(Err(error))
    }
}

/// How many ids the model has positions for behind `before` ids and a prompt.
fn room(model: &LlamaModel, before: usize, prompt: &[u32]) -> Result<usize> {
    let most = model.max_length();
    match before.checked_add(prompt.len()) {
        Some(length) if !prompt.is_empty() && length <= most => Ok(most - length + 1),
        _ => {
            let must = "1 to as many ids as the model has positions";
            Err(refuse("the prompt", must))
        }
    }
}

impl Iterator for Generation {
    type Item = Result<u32>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.begin() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return self.fail(error),
            }
            let result = self.step.as_mut()?.wait(&self.executor, &self.how);
            if let ControlFlow::Break(item) = self.end(result) {
                return item;
            }
        }
    }
}

impl Stream for Generation {
    type Item = Result<u32>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match this.begin() {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(this.fail(error)),
            }
            let Some(step) = &mut this.step else {
                return Poll::Ready(None);
            };
            let Poll::Ready(result) = step.poll(&this.executor, &this.how, cx) else {
                return Poll::Pending;
            };
            if let ControlFlow::Break(item) = this.end(result) {
                return Poll::Ready(item);
            }
        }
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("length", &(self.cache.len() + self.next.len()))
            .field("left", &self.left)
            .field("sampling", &self.choice.sampling)
            .finish_non_exhaustive()
    }
}
