//! What can be submitted, and what a handle yields for it.

use crate::graph::LazyTensor;
use candle_core::Tensor;
use smallvec::SmallVec;

mod sealed {
    pub trait Sealed {}
}

/// What can be submitted: a lazy tensor or a reference to one; a tuple, an array or a slice of
/// several.
///
/// ```
/// use candlewick::{Device, Executor, LazyTensor};
/// let executor = Executor::new(&Device::Cpu)?;
/// let x = LazyTensor::new(&[4f32], &Device::Cpu)?;
/// let (a, b) = executor.run((&x.sqrt()?, &x.sqr()?))?;
/// let [c, d] = executor.run([&x.sqrt()?, &x.sqr()?])?;
/// let many: Vec<candlewick::Tensor> = executor.run(vec![x.sqrt()?, x.sqr()?])?;
/// assert_eq!(a.to_vec1::<f32>()?, c.to_vec1::<f32>()?);
/// assert_eq!(b.to_vec1::<f32>()?, many[1].to_vec1::<f32>()?);
/// # let _ = d;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub trait Outputs: sealed::Sealed {
    /// What the handle yields.
    type Results: Results;
    /// The tensors, in order.
    #[doc(hidden)]
    fn tensors(&self) -> SmallVec<[&LazyTensor; 2]>;
}

/// What a handle yields: a tensor; a tuple, an array or a vector of several.
pub trait Results: sealed::Sealed + Sized {
    /// Takes as many tensors as were submitted.
    #[doc(hidden)]
    fn from_tensors(tensors: SmallVec<[Tensor; 1]>) -> Self;
}

impl sealed::Sealed for &LazyTensor {}
impl Outputs for &LazyTensor {
    type Results = Tensor;
    fn tensors(&self) -> SmallVec<[&LazyTensor; 2]> {
        SmallVec::from_iter([*self])
    }
}
impl sealed::Sealed for LazyTensor {}
impl Outputs for LazyTensor {
    type Results = Tensor;
    fn tensors(&self) -> SmallVec<[&LazyTensor; 2]> {
        SmallVec::from_iter([self])
    }
}
impl sealed::Sealed for Tensor {}
impl Results for Tensor {
    fn from_tensors(tensors: SmallVec<[Tensor; 1]>) -> Self {
        match tensors.into_iter().next() {
            Some(tensor) => tensor,
            None => unreachable!("one was submitted"),
        }
    }
}

impl<T: AsRef<LazyTensor>> sealed::Sealed for &[T] {}
impl<T: AsRef<LazyTensor>> Outputs for &[T] {
    type Results = Vec<Tensor>;
    fn tensors(&self) -> SmallVec<[&LazyTensor; 2]> {
        self.iter().map(AsRef::as_ref).collect()
    }
}
impl<T: AsRef<LazyTensor>> sealed::Sealed for &Vec<T> {}
impl<T: AsRef<LazyTensor>> Outputs for &Vec<T> {
    type Results = Vec<Tensor>;
    fn tensors(&self) -> SmallVec<[&LazyTensor; 2]> {
        self.iter().map(AsRef::as_ref).collect()
    }
}
impl sealed::Sealed for Vec<LazyTensor> {}
impl Outputs for Vec<LazyTensor> {
    type Results = Vec<Tensor>;
    fn tensors(&self) -> SmallVec<[&LazyTensor; 2]> {
        self.iter().collect()
    }
}
impl sealed::Sealed for Vec<Tensor> {}
impl Results for Vec<Tensor> {
    fn from_tensors(tensors: SmallVec<[Tensor; 1]>) -> Self {
        tensors.into_vec()
    }
}

impl<const N: usize> sealed::Sealed for [&LazyTensor; N] {}
impl<const N: usize> Outputs for [&LazyTensor; N] {
    type Results = [Tensor; N];
    fn tensors(&self) -> SmallVec<[&LazyTensor; 2]> {
        self.iter().copied().collect()
    }
}
impl<const N: usize> sealed::Sealed for [LazyTensor; N] {}
impl<const N: usize> Outputs for [LazyTensor; N] {
    type Results = [Tensor; N];
    fn tensors(&self) -> SmallVec<[&LazyTensor; 2]> {
        self.iter().collect()
    }
}
impl<const N: usize> sealed::Sealed for [Tensor; N] {}
impl<const N: usize> Results for [Tensor; N] {
    fn from_tensors(tensors: SmallVec<[Tensor; 1]>) -> Self {
        match tensors.into_vec().try_into() {
            Ok(array) => array,
            Err(_) => unreachable!("as many as were submitted"),
        }
    }
}

macro_rules! tuples {
    ($($name:ident)+) => {
        impl sealed::Sealed for ($(tuples!(@lazy $name),)+) {}
        impl Outputs for ($(tuples!(@lazy $name),)+) {
            type Results = ($(tuples!(@tensor $name),)+);
            fn tensors(&self) -> SmallVec<[&LazyTensor; 2]> {
                #[allow(non_snake_case)]
                let ($($name,)+) = *self;
                SmallVec::from_iter([$($name),+])
            }
        }
        impl sealed::Sealed for ($(tuples!(@owned $name),)+) {}
        impl Outputs for ($(tuples!(@owned $name),)+) {
            type Results = ($(tuples!(@tensor $name),)+);
            fn tensors(&self) -> SmallVec<[&LazyTensor; 2]> {
                #[allow(non_snake_case)]
                let ($($name,)+) = self;
                SmallVec::from_iter([$($name),+])
            }
        }
        impl sealed::Sealed for ($(tuples!(@tensor $name),)+) {}
        impl Results for ($(tuples!(@tensor $name),)+) {
            fn from_tensors(tensors: SmallVec<[Tensor; 1]>) -> Self {
                let mut tensors = tensors.into_iter();
                ($(match tensors.next() {
                    #[allow(non_snake_case)]
                    Some($name) => $name,
                    None => unreachable!("as many as were submitted"),
                },)+)
            }
        }
    };
    (@lazy $name:ident) => { &LazyTensor };
    (@owned $name:ident) => { LazyTensor };
    (@tensor $name:ident) => { Tensor };
}
tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);
