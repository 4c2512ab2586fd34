//! Looking things up: with the indexing of `i`, and by tensors of indices.

use super::infer::{computes, refuse};
use super::node::LazyTensor;
use super::op::Op;
use crate::error::{Error, Reason, Result};
use candle_core::shape::Dim;
use candle_core::{DType, Device, Tensor};
use std::ops::{
    Bound, Range, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive,
};

/// What [`LazyTensor::i`] does with one dimension: an index takes it away, a range narrows it,
/// indices (a slice or `Vec` of `u32`, a tensor, a lazy tensor, of rank 1) select from it.
#[derive(Debug)]
pub struct Indexer(Kind);

#[derive(Debug)]
enum Kind {
    Select(usize),
    Narrow(Bound<usize>, Bound<usize>),
    Ids(LazyTensor),
    Invalid(Error),
}

impl From<usize> for Indexer {
    fn from(index: usize) -> Self {
        Indexer(Kind::Select(index))
    }
}

impl From<&[u32]> for Indexer {
    fn from(ids: &[u32]) -> Self {
        Vec::from(ids).into()
    }
}

impl From<Vec<u32>> for Indexer {
    fn from(ids: Vec<u32>) -> Self {
        let len = ids.len();
        match LazyTensor::from_vec(ids, len, &Device::Cpu) {
            Ok(ids) => Indexer(Kind::Ids(ids)),
            Err(error) => Indexer(Kind::Invalid(error)),
        }
    }
}

impl From<&Tensor> for Indexer {
    fn from(ids: &Tensor) -> Self {
        Indexer(Kind::Ids(ids.into()))
    }
}

impl From<&LazyTensor> for Indexer {
    fn from(ids: &LazyTensor) -> Self {
        Indexer(Kind::Ids(ids.clone()))
    }
}

macro_rules! ranges {
    ($($range:ty),*) => {
        $(impl From<$range> for Indexer {
            fn from(range: $range) -> Self {
                let (start, end) = (range.start_bound(), range.end_bound());
                Indexer(Kind::Narrow(start.cloned(), end.cloned()))
            }
        })*
    };
}

ranges!(
    Range<usize>,
    RangeFrom<usize>,
    RangeFull,
    RangeInclusive<usize>,
    RangeTo<usize>,
    RangeToInclusive<usize>
);

/// What [`LazyTensor::i`] takes: one [`Indexer`] or a tuple of up to seven, one for each of the
/// first dimensions.
pub trait IntoIndexers {
    /// The indexers in order.
    #[doc(hidden)]
    fn indexers(self) -> Vec<Indexer>;
}

impl<T: Into<Indexer>> IntoIndexers for T {
    fn indexers(self) -> Vec<Indexer> {
        vec![self.into()]
    }
}

macro_rules! tuples {
    ($(($($t:ident),*)),*) => {
        $(impl<$($t: Into<Indexer>),*> IntoIndexers for ($($t,)*) {
            #[allow(non_snake_case)]
            fn indexers(self) -> Vec<Indexer> {
                let ($($t,)*) = self;
                vec![$($t.into()),*]
            }
        })*
    };
}

tuples!(
    (A),
    (A, B),
    (A, B, C),
    (A, B, C, E),
    (A, B, C, E, F),
    (A, B, C, E, F, G),
    (A, B, C, E, F, G, H)
);

/// # Looking up
impl LazyTensor {
    /// Indexes the first dimensions as Candle's `i` does: by numbers, ranges and lists.
    /// `Err` if there are more indexers than dimensions, or one is out of range.
    ///
    /// ```
    /// use candlewick::{Device, Executor, LazyTensor};
    /// let executor = Executor::new(&Device::Cpu)?;
    /// let x = LazyTensor::arange(0u32, 12, &Device::Cpu)?.reshape((3, 4))?;
    /// let y = executor.run(&x.i((1.., 2))?)?;
    /// assert_eq!(y.to_vec1::<u32>()?, [6, 10]);
    /// let error = x.i(3).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "i([3, 4] u32): 1 elements from 3 do not fit in dimension 0 of size 3"
    /// );
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn i<T: IntoIndexers>(&self, index: T) -> Result<Self> {
        let mut x = self.clone();
        let mut dim = 0;
        for Indexer(kind) in index.indexers() {
            let Some(&size) = x.0.dims.get(dim) else {
                let reason = Reason::Dim {
                    dim: dim as i64,
                    rank: x.rank(),
                };
                return Err(x.refuse("i", reason));
            };
            // only a number takes its dimension away
            let kept = usize::from(!matches!(kind, Kind::Select(_)));
            x = match kind {
                Kind::Select(index) => x.part("i", dim, index, 1)?.squeeze(dim)?,
                Kind::Narrow(start, end) => x.range(dim, size, start, end)?,
                Kind::Ids(ids) => x.select("i", &ids, dim)?,
                Kind::Invalid(error) => return Err(error),
            };
            dim += kept;
        }
        Ok(x)
    }

    fn range(
        &self,
        dim: usize,
        size: usize,
        start: Bound<usize>,
        end: Bound<usize>,
    ) -> Result<Self> {
        let start = match start {
            Bound::Included(n) => n,
            Bound::Excluded(n) => n.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match end {
            Bound::Included(n) => n.saturating_add(1),
            Bound::Excluded(n) => n,
            Bound::Unbounded => size,
        };
        self.part("i", dim, start, end.saturating_sub(start))
    }

    /// The slices along a dimension that `ids`, of rank 1, names. `ids` are u8, u32 or i64; their
    /// largest value means "none" and gives zeros, as in Candle. An index out of range fails when
    /// it runs.
    pub fn index_select<D: Dim>(&self, ids: &Self, dim: D) -> Result<Self> {
        let dim = self.axis("index_select", dim)?;
        self.select("index_select", ids, dim)
    }

    /// The rows of a table, of rank 2, that `ids`, of rank 1, names. As
    /// [`index_select`](Self::index_select) of dimension 0.
    pub fn embedding(&self, ids: &Self) -> Result<Self> {
        if self.rank() != 2 || ids.rank() != 1 {
            return Err(refuse("embedding", &[self, ids], Reason::Shapes));
        }
        self.select("embedding", ids, 0)
    }

    fn select(&self, op: &'static str, ids: &Self, dim: usize) -> Result<Self> {
        self.need_dtype(op, computes)?;
        let &[len] = ids.dims() else {
            return Err(refuse(op, &[self, ids], Reason::Shapes));
        };
        self.check_ids(op, ids, reads, &[self, ids])?;
        let mut dims = self.0.dims.clone();
        dims[dim] = len;
        Self::build(Op::IndexSelect(dim), &[self, ids], dims, self.0.dtype)
    }

    /// For each index in `ids` the element at that place along a dimension; the other dimensions
    /// of `ids` are no larger than the tensor's. `ids` are u8, u32 or i64; their largest value
    /// means "none" and gives 0, as in Candle. An index out of range fails when it runs.
    pub fn gather<D: Dim>(&self, ids: &Self, dim: D) -> Result<Self> {
        let dim = self.axis("gather", dim)?;
        self.need_dtype("gather", computes)?;
        let agree = self.rank() == ids.rank()
            && (0..self.rank()).all(|i| i == dim || self.0.dims[i] >= ids.0.dims[i]);
        if !agree {
            return Err(refuse("gather", &[self, ids], Reason::Shapes));
        }
        self.check_ids("gather", ids, reads, &[self, ids])?;
        Self::build(
            Op::Gather(dim),
            &[self, ids],
            ids.0.dims.clone(),
            self.0.dtype,
        )
    }

    /// The tensor with each element of `source` added at the place along a dimension that `ids`
    /// names. `ids` and `source` have the same shape, which differs from the tensor's in that
    /// dimension only; `source` has the tensor's dtype; `ids` are integers, whose largest value
    /// means "none", as in Candle. An index out of range fails when it runs.
    pub fn scatter_add<D: Dim>(&self, ids: &Self, source: &Self, dim: D) -> Result<Self> {
        let dim = self.axis("scatter_add", dim)?;
        let operands = [self, ids, source];
        if ids.0.dims != source.0.dims || !self.differs_only_in(dim, source) {
            return Err(refuse("scatter_add", &operands, Reason::Shapes));
        }
        self.add_by(Op::ScatterAdd(dim), ids, source)
    }

    /// The tensor with each slice of `source` added at the place along a dimension that `ids`,
    /// of rank 1, names. `source` differs in shape from the tensor in that dimension only, where
    /// it has as many elements as `ids`; otherwise as [`scatter_add`](Self::scatter_add).
    pub fn index_add<D: Dim>(&self, ids: &Self, source: &Self, dim: D) -> Result<Self> {
        let dim = self.axis("index_add", dim)?;
        let operands = [self, ids, source];
        if !self.differs_only_in(dim, source) || ids.dims() != [source.0.dims[dim]] {
            return Err(refuse("index_add", &operands, Reason::Shapes));
        }
        self.add_by(Op::IndexAdd(dim), ids, source)
    }

    fn add_by(&self, op: Op, ids: &Self, source: &Self) -> Result<Self> {
        let operands = [self, ids, source];
        let name = op.name();
        if self.0.dtype != source.0.dtype {
            return Err(refuse(name, &operands, Reason::DTypes));
        }
        self.need_dtype(name, computes)?;
        self.check_ids(name, ids, writes, &operands)?;
        Self::build(op, &operands, self.0.dims.clone(), self.0.dtype)
    }

    fn differs_only_in(&self, dim: usize, other: &Self) -> bool {
        self.rank() == other.rank()
            && (0..self.rank()).all(|i| i == dim || self.0.dims[i] == other.0.dims[i])
    }

    fn check_ids(
        &self,
        op: &'static str,
        ids: &Self,
        takes: fn(DType) -> bool,
        operands: &[&Self],
    ) -> Result<()> {
        if takes(ids.0.dtype) {
            return Ok(());
        }
        Err(refuse(op, operands, Reason::UnsupportedDType(ids.0.dtype)))
    }
}

/// The dtypes of indices by which Candle reads.
fn reads(dtype: DType) -> bool {
    matches!(dtype, DType::U8 | DType::U32 | DType::I64)
}

/// The dtypes of indices by which it writes.
fn writes(dtype: DType) -> bool {
    dtype.is_int()
}
