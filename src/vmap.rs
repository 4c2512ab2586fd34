//! A function of one item, for all items along a dimension.

use crate::compiled::{Argument, Function, Given};
use crate::error::{Error, Reason, Result};
use crate::executor::Executor;
use crate::graph::LazyTensor;
use crate::handle::Handle;
use crate::outputs::{Outputs, Results};
use crate::submit::Submit;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// A function of single items that is called with many: see [`Executor::vmap`].
///
/// Cloning is a reference count; it may be called from many threads at once.
#[derive(Clone)]
pub struct Vmap<'f, R> {
    executor: Executor,
    function: Arc<Items<'f>>,
    axis: usize,
    results: PhantomData<fn() -> R>,
}

/// From an item's arguments to its outputs.
type Items<'f> = dyn Fn(&[LazyTensor]) -> Result<Vec<LazyTensor>> + Send + Sync + 'f;

impl Executor {
    /// A function that is written for one item, applied to all items along dimension `axis` of its
    /// arguments.
    ///
    /// The function takes one to eight `&LazyTensor`, or one `&[LazyTensor]`, each without the
    /// dimension, as [`compile`](Self::compile) does. Each item is submitted as if somebody had asked
    /// for it alone, and so the items run together as far as requests of different threads do
    /// ([`Batching`](crate::Batching)): an item's answer is the one that it gets by itself. What the
    /// function captures is the same for all. The results of all are put together along a new first
    /// dimension.
    ///
    /// ```
    /// use candlewick::{D, Device, Executor, LazyTensor, Tensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let w = LazyTensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
    /// // for one sequence, [length, 2]: attention within it
    /// let attend = executor.vmap(
    ///     |x: &LazyTensor| x.matmul(&w)?.matmul(&x.t()?)?.softmax(D::Minus1)?.matmul(x),
    ///     0,
    /// );
    /// let sequences = Tensor::randn(0f32, 1.0, (5, 3, 2), &Device::Cpu)?;
    /// assert_eq!(attend.run(&[sequences])?.dims(), [5, 3, 2]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn vmap<'f, A, F: Function<A> + 'f>(
        &self,
        function: F,
        axis: usize,
    ) -> Vmap<'f, <F::Outputs as Outputs>::Results> {
        let arguments = F::ARGUMENTS;
        let items = move |items: &[LazyTensor]| match arguments {
            Some(expected) if expected != items.len() => Err(Error::Arguments {
                expected,
                got: items.len(),
            }),
            _ => {
                let outputs = function.call(items)?;
                Ok(outputs.tensors().into_iter().cloned().collect())
            }
        };
        Vmap {
            executor: self.clone(),
            function: Arc::new(items),
            axis,
            results: PhantomData,
        }
    }
}

impl<R: Results> Vmap<'_, R> {
    /// Submits every item, and then what puts their results together; waits while the queue is
    /// full.
    ///
    /// # Errors
    /// No arguments; arguments without the dimension, with different numbers of items along it, or
    /// with none, for then nothing tells what the results would be; [`Error::Arguments`]; what the
    /// function returns; results whose number, shapes or dtypes differ from item to item; and those
    /// of [`Executor::submit`]. If the work of one item fails, the handle gets its error.
    ///
    /// # Panics
    /// If the function panics, in the calling thread; the items before it have been submitted, and are
    /// withdrawn.
    pub fn submit<A: Argument>(&self, arguments: &[A]) -> Result<Handle<R>> {
        self.submit_with(arguments, Submit::new())
    }

    /// The same, submitting each as `how` says. Its deadline holds for each item by itself, for each wait
    /// for room in the queue, and for putting the results together.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`], and those of [`submit`](Self::submit).
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor, Priority, Submit, Tensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let norms = executor.vmap(|x: &LazyTensor| x.sqr()?.sum_all()?.sqrt(), 0);
    /// let xs = Tensor::new(&[[3f32, 4.0], [6.0, 8.0]], &Device::Cpu)?;
    /// let later = Submit::new().priority(Priority::Background);
    /// let handle = norms.submit_with(&[&xs], later)?;
    /// let doubled = executor.run(&(&LazyTensor::from(&xs) * 2.0)?)?; // meanwhile
    /// assert_eq!(doubled.dims(), [2, 2]);
    /// assert_eq!(handle.wait()?.to_vec1::<f32>()?, [5.0, 10.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit_with<A: Argument>(&self, arguments: &[A], how: Submit) -> Result<Handle<R>> {
        let arguments = arguments
            .iter()
            .map(|argument| self.ready(argument.given(), &how));
        let arguments: Vec<LazyTensor> = arguments.collect::<Result<_>>()?;
        let mut columns: Vec<Vec<LazyTensor>> = Vec::new();
        for item in 0..self.items(&arguments)? {
            let slice = |x: &LazyTensor| x.narrow(self.axis, item, 1)?.squeeze(self.axis);
            let slices: Vec<LazyTensor> = arguments.iter().map(slice).collect::<Result<_>>()?;
            let outputs = (self.function)(&slices)?;
            if item == 0 {
                columns.resize_with(outputs.len(), Vec::new);
            } else if outputs.len() != columns.len() {
                let (name, must) = ("the number of results", "the same for every item");
                return refuse(&arguments, Reason::Argument { name, must });
            }
            // the tensors keep the work going: the handle is not needed
            drop(self.executor.submit_with(&outputs[..], how.clone())?);
            let all = columns.iter_mut().zip(outputs);
            all.for_each(|(column, output)| column.push(output));
        }
        let together = columns.iter().map(|column| LazyTensor::stack(column, 0));
        let together: Vec<LazyTensor> = together.collect::<Result<_>>()?;
        self.executor.submit_as(&together[..], &how)
    }

    /// Calls the function for each item and returns the results.
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit) and of [`Handle::wait`].
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor, Tensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let sums = executor.vmap(|x: &LazyTensor| x.sum_all(), 0);
    /// let xs = Tensor::new(&[[3f32, 4.0], [6.0, 8.0]], &Device::Cpu)?;
    /// assert_eq!(sums.run(&[xs])?.to_vec1::<f32>()?, [7.0, 14.0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn run<A: Argument>(&self, arguments: &[A]) -> Result<R> {
        self.submit(arguments)?.wait()
    }

    /// An argument that need not be computed for each item.
    fn ready(&self, given: Given<'_>, how: &Submit) -> Result<LazyTensor> {
        match given {
            Given::Tensor(tensor) => Ok(LazyTensor::from(tensor)),
            Given::Lazy(tensor) => {
                if tensor.0.is_computed() {
                    drop(self.executor.submit_with(tensor, how.clone())?);
                }
                Ok(tensor.clone())
            }
        }
    }

    /// How many items the arguments have.
    fn items(&self, arguments: &[LazyTensor]) -> Result<usize> {
        let count = |x: &LazyTensor| x.dims().get(self.axis).copied();
        let Some(items) = arguments.first().and_then(count) else {
            let (name, must) = ("axis", "a dimension of every argument");
            return refuse(arguments, Reason::Argument { name, must });
        };
        if arguments.iter().any(|x| count(x) != Some(items)) {
            return refuse(arguments, Reason::Shapes);
        }
        if items == 0 {
            let (name, must) = ("the number of items", "at least 1");
            return refuse(arguments, Reason::Argument { name, must });
        }
        Ok(items)
    }
}

fn refuse<T>(arguments: &[LazyTensor], reason: Reason) -> Result<T> {
    let operands = arguments.iter().map(|x| (x.dims(), x.dtype()));
    Err(Error::invalid("vmap", operands, reason))
}

impl<R> fmt::Debug for Vmap<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmap").field("axis", &self.axis).finish()
    }
}
