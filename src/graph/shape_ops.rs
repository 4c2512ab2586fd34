//! Operations that move elements without looking at them.

use super::infer::{broadcasts_to, computes, count, refuse, same_dtype};
use super::node::{Dims, Inputs, LazyTensor};
use super::op::{Axes, Op};
use super::shape::{ShapeWithOneHole, resolve};
use crate::error::{Error, Reason, Result};
use candle_core::shape::{Dim, Dims as DimList};
use candle_core::{D, Shape};

/// # Sizes
impl LazyTensor {
    /// The size of one dimension. `Err` if it does not exist.
    pub fn dim<D: Dim>(&self, dim: D) -> Result<usize> {
        let dim = self.axis("dim", dim)?;
        Ok(self.0.dims[dim])
    }

    fn sizes<const N: usize>(
        &self,
        op: &'static str,
        expected: &'static str,
    ) -> Result<[usize; N]> {
        let got = self.rank();
        <[usize; N]>::try_from(self.dims())
            .map_err(|_| self.refuse(op, Reason::Rank { expected, got }))
    }

    /// Checks that this is a scalar.
    pub fn dims0(&self) -> Result<()> {
        self.sizes("dims0", "rank 0").map(|[]| ())
    }

    /// The size of a tensor of rank 1; `Err` for another rank.
    pub fn dims1(&self) -> Result<usize> {
        self.sizes("dims1", "rank 1").map(|[a]| a)
    }

    /// The sizes of a tensor of rank 2; `Err` for another rank.
    pub fn dims2(&self) -> Result<(usize, usize)> {
        self.sizes("dims2", "rank 2").map(|[a, b]| (a, b))
    }

    /// The sizes of a tensor of rank 3; `Err` for another rank.
    pub fn dims3(&self) -> Result<(usize, usize, usize)> {
        self.sizes("dims3", "rank 3").map(|[a, b, c]| (a, b, c))
    }

    /// The sizes of a tensor of rank 4; `Err` for another rank.
    pub fn dims4(&self) -> Result<(usize, usize, usize, usize)> {
        self.sizes("dims4", "rank 4")
            .map(|[a, b, c, d]| (a, b, c, d))
    }

    /// The sizes of a tensor of rank 5; `Err` for another rank.
    pub fn dims5(&self) -> Result<(usize, usize, usize, usize, usize)> {
        self.sizes("dims5", "rank 5")
            .map(|[a, b, c, d, e]| (a, b, c, d, e))
    }
}

/// # The same elements under another shape
///
/// For any dtype that Candle computes with.
impl LazyTensor {
    /// The elements in order under another shape, which may have one hole `()`. `Err` if the
    /// number of elements differs.
    ///
    /// ```
    /// use candlewick::{Device, LazyTensor};
    /// let x = LazyTensor::arange(0u32, 6, &Device::Cpu)?;
    /// assert_eq!(x.reshape((2, ()))?.dims(), [2, 3]);
    /// let error = x.reshape((4, 2)).unwrap_err();
    /// assert_eq!(error.to_string(), "reshape([6] u32): 6 elements cannot fill a shape of 8");
    /// # Ok::<_, candlewick::Error>(())
    /// ```
    pub fn reshape<S: ShapeWithOneHole>(&self, shape: S) -> Result<Self> {
        let dims = resolve(shape, count(&self.0.dims), self.0.dtype)
            .map_err(|reason| self.refuse("reshape", reason))?;
        self.reshape_to(dims)
    }

    fn reshape_to(&self, dims: Dims) -> Result<Self> {
        self.need_dtype("reshape", computes)?;
        if dims == self.0.dims {
            return Ok(self.clone());
        }
        self.build_shape(Op::Reshape(dims[..].into()), dims)
    }

    /// Dimensions `start` to `end`, both included, as one. A scalar becomes `[1]`.
    pub fn flatten<D1: Dim, D2: Dim>(&self, start: D1, end: D2) -> Result<Self> {
        if self.rank() == 0 {
            return self.reshape(1);
        }
        let (start, end) = (self.axis("flatten", start)?, self.axis("flatten", end)?);
        self.merge(start, end)
    }

    /// All dimensions up to `end`, included, as one.
    pub fn flatten_to<D: Dim>(&self, end: D) -> Result<Self> {
        if self.rank() == 0 {
            return self.reshape(1);
        }
        let end = self.axis("flatten_to", end)?;
        self.merge(0, end)
    }

    /// All dimensions from `start` on as one.
    pub fn flatten_from<D: Dim>(&self, start: D) -> Result<Self> {
        if self.rank() == 0 {
            return self.reshape(1);
        }
        let start = self.axis("flatten_from", start)?;
        self.merge(start, self.rank() - 1)
    }

    /// All elements in one dimension.
    pub fn flatten_all(&self) -> Result<Self> {
        if self.rank() == 0 {
            return self.reshape(1);
        }
        self.merge(0, self.rank() - 1)
    }

    fn merge(&self, start: usize, end: usize) -> Result<Self> {
        if start >= end {
            return Ok(self.clone());
        }
        let all = &self.0.dims;
        let mut dims = Dims::from_slice(&all[..start]);
        dims.push(all[start..=end].iter().product());
        dims.extend_from_slice(&all[end + 1..]);
        self.reshape_to(dims)
    }

    /// Without dimension `dim` if its size is 1; else the same tensor.
    pub fn squeeze<D: Dim>(&self, dim: D) -> Result<Self> {
        let dim = self.axis("squeeze", dim)?;
        if self.0.dims[dim] != 1 {
            return Ok(self.clone());
        }
        let mut dims = self.0.dims.clone();
        dims.remove(dim);
        self.build_shape(Op::Squeeze(dim), dims)
    }

    /// With a new dimension of size 1 at `dim`.
    pub fn unsqueeze<D: Dim>(&self, dim: D) -> Result<Self> {
        let dim = self.new_axis("unsqueeze", dim)?;
        let mut dims = self.0.dims.clone();
        dims.insert(dim, 1);
        self.build_shape(Op::Unsqueeze(dim), dims)
    }

    /// The last two dimensions swapped. `Err` below rank 2.
    pub fn t(&self) -> Result<Self> {
        let rank = self.rank();
        if rank < 2 {
            let reason = Reason::Rank {
                expected: "at least rank 2",
                got: rank,
            };
            return Err(self.refuse("t", reason));
        }
        self.swap(rank - 2, rank - 1)
    }

    /// Two dimensions swapped.
    pub fn transpose<D1: Dim, D2: Dim>(&self, dim1: D1, dim2: D2) -> Result<Self> {
        let (a, b) = (self.axis("transpose", dim1)?, self.axis("transpose", dim2)?);
        if a == b {
            return Ok(self.clone());
        }
        self.swap(a, b)
    }

    fn swap(&self, a: usize, b: usize) -> Result<Self> {
        let mut dims = self.0.dims.clone();
        dims.swap(a, b);
        self.build_shape(Op::Transpose(a, b), dims)
    }

    /// The dimensions in another order, which names each once.
    pub fn permute<D: DimList>(&self, dims: D) -> Result<Self> {
        let axes = self.axes("permute", dims)?;
        if axes.len() != self.rank() {
            let reason = Reason::Argument {
                name: "dims",
                must: "a permutation of all dimensions",
            };
            return Err(self.refuse("permute", reason));
        }
        let dims = axes.iter().map(|&i| self.0.dims[i]).collect();
        self.build_shape(Op::Permute(axes), dims)
    }

    /// Elements `start..start + len` of a dimension. `Err` if that goes past the end.
    pub fn narrow<D: Dim>(&self, dim: D, start: usize, len: usize) -> Result<Self> {
        let dim = self.axis("narrow", dim)?;
        self.part("narrow", dim, start, len)
    }

    pub(super) fn part(
        &self,
        op: &'static str,
        dim: usize,
        start: usize,
        len: usize,
    ) -> Result<Self> {
        let size = self.0.dims[dim];
        if start.checked_add(len).is_none_or(|end| end > size) {
            return Err(self.refuse(
                op,
                Reason::OutOfRange {
                    dim,
                    start,
                    len,
                    size,
                },
            ));
        }
        if len == size {
            return Ok(self.clone());
        }
        let mut dims = self.0.dims.clone();
        dims[dim] = len;
        self.build_shape(Op::Narrow { dim, start, len }, dims)
    }

    /// Element `index` of the first dimension, without that dimension; a scalar is itself.
    pub fn get(&self, index: usize) -> Result<Self> {
        if self.rank() == 0 {
            return Ok(self.clone());
        }
        self.part("get", 0, index, 1)?.squeeze(0)
    }

    /// Element `index` of a dimension, without that dimension.
    pub fn get_on_dim<D: Dim>(&self, dim: D, index: usize) -> Result<Self> {
        let dim = self.axis("get_on_dim", dim)?;
        self.part("get_on_dim", dim, index, 1)?.squeeze(dim)
    }

    /// The dimension in `chunks` parts, the first ones larger by one if they cannot be equal;
    /// in as many as it has elements, if that is less. `Err` if `chunks` is 0.
    pub fn chunk<D: Dim>(&self, chunks: usize, dim: D) -> Result<Vec<Self>> {
        let dim = self.axis("chunk", dim)?;
        let size = self.0.dims[dim];
        if chunks == 0 {
            let reason = Reason::Argument {
                name: "chunks",
                must: "at least 1",
            };
            return Err(self.refuse("chunk", reason));
        }
        let chunks = chunks.min(size);
        let mut start = 0;
        (0..chunks)
            .map(|i| {
                let len = size / chunks + usize::from(i < size % chunks);
                start += len;
                self.part("chunk", dim, start - len, len)
            })
            .collect()
    }

    /// Dimensions of size 1 repeated, and new ones put in front, to the given shape. No copy.
    pub fn broadcast_as<S: Into<Shape>>(&self, shape: S) -> Result<Self> {
        let dims = Dims::from_slice(shape.into().dims());
        self.expand_to("broadcast_as", dims)
    }

    /// The same as [`broadcast_as`](Self::broadcast_as).
    pub fn expand<S: Into<Shape>>(&self, shape: S) -> Result<Self> {
        let dims = Dims::from_slice(shape.into().dims());
        self.expand_to("expand", dims)
    }

    /// With the given dimensions put in front.
    pub fn broadcast_left<S: Into<Shape>>(&self, left: S) -> Result<Self> {
        let mut dims = Dims::from_slice(left.into().dims());
        dims.extend_from_slice(&self.0.dims);
        self.expand_to("broadcast_left", dims)
    }

    fn expand_to(&self, op: &'static str, dims: Dims) -> Result<Self> {
        if !broadcasts_to(&self.0.dims, &dims) {
            return Err(self.refuse(op, Reason::Broadcast));
        }
        if dims == self.0.dims {
            return Ok(self.clone());
        }
        self.build_shape(Op::BroadcastAs(dims[..].into()), dims)
    }

    /// Laid out in order in memory.
    pub fn contiguous(&self) -> Result<Self> {
        self.build_shape(Op::Contiguous, self.0.dims.clone())
    }

    /// Copies side by side: `shape` says how many along each dimension, from the first on. New
    /// dimensions are put in front if it is longer than the rank.
    pub fn repeat<S: Into<Shape>>(&self, shape: S) -> Result<Self> {
        let times = Axes::from_slice(shape.into().dims());
        let mut dims = Dims::new();
        dims.resize(times.len().saturating_sub(self.rank()), 1);
        dims.extend_from_slice(&self.0.dims);
        for (size, &times) in dims.iter_mut().zip(&times) {
            *size = size
                .checked_mul(times)
                .ok_or_else(|| self.refuse("repeat", Reason::Overflow))?;
        }
        if dims == self.0.dims {
            return Ok(self.clone());
        }
        self.build_shape(Op::Repeat(times), dims)
    }

    /// `left` zeros before a dimension's elements and `right` after them.
    pub fn pad_with_zeros<D: Dim>(&self, dim: D, left: usize, right: usize) -> Result<Self> {
        let dim = self.axis("pad_with_zeros", dim)?;
        if (left, right) == (0, 0) {
            return Ok(self.clone());
        }
        let mut dims = self.0.dims.clone();
        dims[dim] = (dims[dim].checked_add(left))
            .and_then(|size| size.checked_add(right))
            .ok_or_else(|| self.refuse("pad_with_zeros", Reason::Overflow))?;
        self.build_shape(Op::PadWithZeros { dim, left, right }, dims)
    }
}

/// # Several tensors in one
impl LazyTensor {
    /// The tensors side by side along a dimension; all others are equal. `Err` if there is no
    /// tensor, or shapes or dtypes do not agree.
    ///
    /// ```
    /// use candlewick::{DType, Device, LazyTensor};
    /// let x = LazyTensor::ones((2, 3), DType::F32, &Device::Cpu)?;
    /// assert_eq!(LazyTensor::cat(&[&x, &x, &x], 1)?.dims(), [2, 9]);
    /// let none: [LazyTensor; 0] = [];
    /// let error = LazyTensor::cat(&none, 0).unwrap_err();
    /// assert_eq!(error.to_string(), "cat(): needs at least one tensor");
    /// # Ok::<_, candlewick::Error>(())
    /// ```
    pub fn cat<A: AsRef<LazyTensor>, D: Dim>(tensors: &[A], dim: D) -> Result<Self> {
        let xs: Vec<&Self> = tensors.iter().map(AsRef::as_ref).collect();
        let [first, ..] = xs[..] else {
            return Err(none("cat"));
        };
        let dim = first.axis("cat", dim)?;
        let agree = |x: &&Self| {
            x.rank() == first.rank()
                && (0..x.rank()).all(|i| i == dim || x.0.dims[i] == first.0.dims[i])
        };
        if !xs.iter().all(agree) {
            return Err(refuse("cat", &xs, Reason::Shapes));
        }
        let dtype = same_dtype("cat", &xs)?;
        first.need_dtype("cat", computes)?;
        if xs.len() == 1 {
            return Ok(first.clone());
        }
        let mut dims = first.0.dims.clone();
        dims[dim] = xs
            .iter()
            .try_fold(0usize, |n, x| n.checked_add(x.0.dims[dim]))
            .ok_or_else(|| refuse("cat", &xs, Reason::Overflow))?;
        Self::build(Op::Cat(dim), &xs, dims, dtype)
    }

    /// The tensors side by side along a new dimension; all have one shape. `Err` if there is no
    /// tensor, or shapes or dtypes differ.
    pub fn stack<A: AsRef<LazyTensor>, D: Dim>(tensors: &[A], dim: D) -> Result<Self> {
        let xs: Vec<&Self> = tensors.iter().map(AsRef::as_ref).collect();
        let [first, ..] = xs[..] else {
            return Err(none("stack"));
        };
        let dim = first.new_axis("stack", dim)?;
        if xs.iter().any(|x| x.0.dims != first.0.dims) {
            return Err(refuse("stack", &xs, Reason::Shapes));
        }
        let dtype = same_dtype("stack", &xs)?;
        first.need_dtype("stack", computes)?;
        let mut dims = first.0.dims.clone();
        dims.insert(dim, xs.len());
        Self::build(Op::Stack(dim), &xs, dims, dtype)
    }
}

fn none(op: &'static str) -> Error {
    refuse(op, &[], Reason::Empty)
}

/// # Sorting
impl LazyTensor {
    /// The indices, as `u32`, that sort the last dimension; NaNs are larger than everything.
    /// Any dtype; `Err` for a scalar.
    pub fn arg_sort_last_dim(&self, asc: bool) -> Result<Self> {
        self.arg_sort("arg_sort_last_dim", asc)
    }

    /// The last dimension sorted, and the indices that sort it. As
    /// [`arg_sort_last_dim`](Self::arg_sort_last_dim).
    pub fn sort_last_dim(&self, asc: bool) -> Result<(Self, Self)> {
        let indices = self.arg_sort("sort_last_dim", asc)?;
        let sorted = self.gather(&indices, D::Minus1)?;
        Ok((sorted, indices))
    }

    fn arg_sort(&self, op: &'static str, asc: bool) -> Result<Self> {
        self.need_dtype(op, computes)?;
        match self.0.dims.last() {
            None => {
                let reason = Reason::Rank {
                    expected: "at least one dimension",
                    got: 0,
                };
                return Err(self.refuse(op, reason));
            }
            Some(&size) if u32::try_from(size).is_err() => {
                let reason = Reason::Argument {
                    name: "the last dimension",
                    must: "below 2^32",
                };
                return Err(self.refuse(op, reason));
            }
            Some(_) => {}
        }
        let inputs: Inputs = [self.clone()].into_iter().collect();
        let (dims, location) = (self.0.dims.clone(), self.0.location);
        let dtype = candle_core::DType::U32;
        Ok(Self::from_op(
            Op::ArgSort { asc },
            inputs,
            dims,
            dtype,
            location,
        ))
    }
}
