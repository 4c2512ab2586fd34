//! Continuing a text, one id after the other.

use super::llama::{Cache, LlamaModel};
use crate::{
    DType, Device, Error, Executor, Handle, Invalid, LazyTensor, Reason, Result, Session, Submit,
    SubmitAsync, Tensor,
};
use futures_core::Stream;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// How the next id is chosen from the scores.
///
/// ```
/// use candlewick::models::Sampling;
/// let greedy = Sampling::greedy();
/// let bold = Sampling { temperature: 0.8, top_k: Some(40), top_p: Some(0.95), seed: 7 };
/// assert_eq!(Sampling { temperature: 0.0, ..bold }.temperature, greedy.temperature);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// By how much scores are divided before they become probabilities; at 0 the highest is taken,
    /// the first of equal ones.
    pub temperature: f64,
    /// Only so many of the highest are chosen from.
    pub top_k: Option<usize>,
    /// Only the highest are chosen from that have this probability together (nucleus sampling,
    /// [Holtzman et al. 2019](https://arxiv.org/abs/1904.09751)).
    pub top_p: Option<f64>,
    /// With the same seed the same ids are chosen.
    pub seed: u64,
}

impl Sampling {
    /// The highest score.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: None,
            seed: 0,
        }
    }
}

/// The continuation of a text: an [`Iterator`] that blocks, and a [`Stream`] for tasks.
///
/// Each id is one submission, which the executor runs together with what others submit. Dropped, it
/// stops, and what it has submitted and has not begun is not run. After an error it ends.
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
    /// What the cache does not have yet.
    next: Vec<u32>,
    choice: Choice,
    stops: Vec<u32>,
    /// How many more ids there may be.
    left: usize,
    cancelled: Canceller,
    step: Option<Step>,
}

/// A step on its way.
struct Step {
    at: At,
    /// The scores, and what the cache that goes on from them holds.
    outputs: Vec<LazyTensor>,
    cache: Cache,
}

/// How far it is.
enum At {
    /// Nobody has asked for it.
    Made,
    /// It waits for room in the queue.
    Room(SubmitAsync<Vec<Tensor>>),
    /// It is queued.
    Queued(Handle<Vec<Tensor>>),
}

impl Step {
    /// Submits it, and waits for it.
    fn wait(&mut self, executor: &Executor, how: &Submit) -> Result<Vec<Tensor>> {
        if !matches!(self.at, At::Queued(_)) {
            let handle = executor.submit_with(&self.outputs[..], how.clone())?;
            self.at = At::Queued(handle);
        }
        match &self.at {
            At::Queued(handle) => handle.wait(),
            _ => unreachable!("queued above"),
        }
    }

    /// The same for a task.
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
    /// There is no further id.
    pub fn cancel(&self) {
        // ORDERING: Relaxed; a request, no data travels with it.
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked for.
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
        let most = model.max_length();
        if prompt.is_empty() || prompt.len() > most {
            return Err(refuse(
                "the prompt",
                "1 to as many ids as the model has positions",
            ));
        }
        Ok(Self {
            executor: executor.clone(),
            how: Submit::new().session(&Session::new()),
            cache: Cache::new(model),
            next: prompt.to_vec(),
            choice: Choice::new(sampling)?,
            stops: model.config().eos_token_id.clone(),
            left: most - prompt.len() + 1,
            cancelled: Canceller::default(),
            step: None,
            model: model.clone(),
        })
    }

    /// At most so many ids.
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

    /// What stops it from elsewhere.
    pub fn canceller(&self) -> Canceller {
        self.cancelled.clone()
    }

    /// The keys and values of the text so far, for another generation to go on from.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Makes the next step, if none is on its way: whether there is one.
    fn begin(&mut self) -> Result<bool> {
        if self.left == 0 || self.cancelled.is_cancelled() {
            self.step = None;
            return Ok(false);
        }
        if self.step.is_none() {
            let (ids, mut cache) = (&self.next, self.cache.clone());
            let ids = LazyTensor::from_slice(ids, (1, ids.len()), &Device::Cpu)?;
            let ids = ids.to_device(self.model.device())?;
            let scores = self.model.forward(&ids, &mut cache)?;
            let mut outputs = vec![scores.to_dtype(DType::F32)?.to_device(&Device::Cpu)?];
            outputs.extend(cache.tensors().cloned());
            let at = At::Made;
            self.step = Some(Step { at, outputs, cache });
        }
        Ok(true)
    }

    /// Takes a step's result: the id, unless the text ends with it.
    fn end(&mut self, result: Result<Vec<Tensor>>) -> Option<Result<u32>> {
        let step = self.step.take()?;
        let scores = result.and_then(|results| {
            let scores = results
                .first()
                .map(|scores| scores.flatten_all()?.to_vec1::<f32>());
            match scores {
                Some(Ok(scores)) => Ok(scores),
                Some(Err(error)) => Err(invalid(Reason::Candle(error))),
                None => unreachable!("a result for each output"),
            }
        });
        let id = match scores.and_then(|scores| self.choice.choose(&scores)) {
            Ok(id) => id,
            Err(error) => {
                self.left = 0;
                return Some(Err(error));
            }
        };
        (self.cache, self.next) = (step.cache, vec![id]);
        self.left -= 1;
        if self.stops.contains(&id) || self.cancelled.is_cancelled() {
            self.left = 0;
            return None;
        }
        Some(Ok(id))
    }

    fn fail<T>(&mut self, error: Error) -> Option<Result<T>> {
        self.left = 0;
        Some(Err(error))
    }
}

impl Iterator for Generation {
    type Item = Result<u32>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.begin() {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return self.fail(error),
        }
        let result = self.step.as_mut()?.wait(&self.executor, &self.how);
        self.end(result)
    }
}

impl Stream for Generation {
    type Item = Result<u32>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        match this.begin() {
            Ok(true) => {}
            Ok(false) => return Poll::Ready(None),
            Err(error) => return Poll::Ready(this.fail(error)),
        }
        let Some(step) = &mut this.step else {
            return Poll::Ready(None);
        };
        let poll = step.poll(&this.executor, &this.how, cx);
        poll.map(|result| this.end(result))
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

/// Chooses ids from scores.
struct Choice {
    sampling: Sampling,
    random: u64,
}

impl Choice {
    fn new(sampling: Sampling) -> Result<Self> {
        let Sampling {
            temperature,
            top_k,
            top_p,
            seed,
        } = sampling;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(refuse("the temperature", "a number that is not negative"));
        }
        if top_k == Some(0) {
            return Err(refuse("top_k", "at least 1"));
        }
        if top_p.is_some_and(|p| p.is_nan() || p <= 0.0 || p > 1.0) {
            return Err(refuse("top_p", "above 0 and at most 1"));
        }
        let random = seed;
        Ok(Self { sampling, random })
    }

    fn choose(&mut self, scores: &[f32]) -> Result<u32> {
        let highest = scores.iter().copied().filter(|s| !s.is_nan());
        let highest = highest.fold(f32::NEG_INFINITY, f32::max);
        if highest.is_infinite() {
            return Err(refuse("the scores", "numbers"));
        }
        let place = match self.sampling.temperature {
            0.0 => scores.iter().position(|&s| s == highest),
            temperature => self.sample(scores, f64::from(highest), temperature),
        };
        Ok(place.unwrap_or_default() as u32)
    }

    fn sample(&mut self, scores: &[f32], highest: f64, temperature: f64) -> Option<usize> {
        let weight = |s: f32| ((f64::from(s) - highest) / temperature).exp();
        let weights = scores.iter().map(|&s| weight(s)).enumerate();
        let mut weights: Vec<(usize, f64)> = weights.filter(|(_, w)| *w > 0.0).collect();
        // the highest first, of equal ones the first
        weights.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        weights.truncate(self.sampling.top_k.unwrap_or(usize::MAX));
        if let Some(p) = self.sampling.top_p {
            let all: f64 = weights.iter().map(|(_, w)| w).sum();
            let mut sum = 0.0;
            let reached = weights.iter().position(|(_, w)| {
                sum += w;
                sum >= p * all
            });
            weights.truncate(reached.map_or(usize::MAX, |last| last + 1));
        }
        let all: f64 = weights.iter().map(|(_, w)| w).sum();
        let mut rest = self.uniform() * all;
        let chosen = weights.iter().find(|(_, w)| {
            rest -= w;
            rest < 0.0
        });
        chosen.or(weights.last()).map(|(place, _)| *place)
    }

    /// From 0 to below 1: SplitMix64, as of
    /// [Steele, Lea and Flood 2014](https://doi.org/10.1145/2714064.2660195).
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn refuse(name: &'static str, must: &'static str) -> Error {
    invalid(Reason::Argument { name, must })
}

fn invalid(reason: Reason) -> Error {
    Error::Invalid(Arc::new(Invalid {
        op: "generate",
        operands: Vec::new(),
        reason,
    }))
}
