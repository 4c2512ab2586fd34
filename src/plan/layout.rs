//! Where the elements of a view lie in the value that it looks at.

use crate::graph::{Dims, Op};
use smallvec::SmallVec;

/// Element `[i, j, ..]` lies at `offset + i * strides[0] + j * strides[1] + ..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) dims: Dims,
    pub(crate) strides: Dims,
    pub(crate) offset: usize,
}

impl Layout {
    /// All elements in order.
    pub(crate) fn contiguous(dims: &[usize]) -> Self {
        let mut strides: Dims = SmallVec::from_elem(1, dims.len());
        for i in (1..dims.len()).rev() {
            strides[i - 1] = strides[i] * dims[i];
        }
        Self {
            dims: dims.into(),
            strides,
            offset: 0,
        }
    }

    /// The layout of what a moving operation makes of this, if no element has to move.
    pub(crate) fn viewed(&self, op: &Op) -> Option<Self> {
        let mut view = self.clone();
        match op {
            Op::Transpose(a, b) => {
                view.dims.swap(*a, *b);
                view.strides.swap(*a, *b);
            }
            Op::Permute(axes) => {
                view.dims = axes.iter().map(|&axis| self.dims[axis]).collect();
                view.strides = axes.iter().map(|&axis| self.strides[axis]).collect();
            }
            Op::Narrow { dim, start, len } => {
                view.dims[*dim] = *len;
                view.offset += start * self.strides[*dim];
            }
            Op::Squeeze(dim) => {
                view.dims.remove(*dim);
                view.strides.remove(*dim);
            }
            Op::Unsqueeze(dim) => {
                view.dims.insert(*dim, 1);
                view.strides.insert(*dim, 0);
            }
            Op::BroadcastAs(dims) => view = self.broadcast(dims),
            Op::Reshape(dims) => view = self.reshaped(dims)?,
            _ => return None,
        }
        Some(view)
    }

    /// Repeated along dimensions of size 1 and along new ones in front.
    pub(crate) fn broadcast(&self, dims: &[usize]) -> Self {
        let new = dims.len() - self.dims.len();
        let mut strides: Dims = SmallVec::from_elem(0, dims.len());
        for (i, &stride) in self.strides.iter().enumerate() {
            if self.dims[i] == dims[new + i] {
                strides[new + i] = stride;
            }
        }
        Self {
            dims: dims.into(),
            strides,
            offset: self.offset,
        }
    }

    /// Another shape over the same elements in the same order, where strides can say it: groups
    /// of dimensions that lie in order among themselves are split and merged.
    fn reshaped(&self, dims: &[usize]) -> Option<Self> {
        if dims.contains(&0) {
            return Some(Self::contiguous(dims));
        }
        let (from, steps) = merged(&self.dims, &self.strides);
        let mut strides: Dims = SmallVec::from_elem(0, dims.len());
        let mut groups = from.iter().zip(&steps).rev();
        let (mut left, mut stride) = (1, 0);
        for (i, &dim) in dims.iter().enumerate().rev() {
            if dim == 1 {
                continue;
            }
            if left == 1 {
                (left, stride) = groups.next().map(|(&n, &s)| (n, s))?;
            }
            if left % dim != 0 {
                return None;
            }
            strides[i] = stride;
            stride *= dim;
            left /= dim;
        }
        Some(Self {
            dims: dims.into(),
            strides,
            offset: self.offset,
        })
    }

    /// The same elements with as few dimensions as possible.
    pub(crate) fn collapsed(&self) -> Access {
        let (dims, strides) = merged(&self.dims, &self.strides);
        Access {
            dims,
            strides,
            offset: self.offset,
        }
    }
}

/// Dimensions of size 1 left out, and neighbours merged that lie in order.
fn merged(dims: &[usize], strides: &[usize]) -> (Dims, Dims) {
    let (mut sizes, mut steps) = (Dims::new(), Dims::new());
    for (&dim, &stride) in dims.iter().zip(strides) {
        match (sizes.last_mut(), steps.last_mut()) {
            _ if dim == 1 => {}
            (Some(size), Some(step)) if *step == stride * dim => {
                *size *= dim;
                *step = stride;
            }
            _ => {
                sizes.push(dim);
                steps.push(stride);
            }
        }
    }
    (sizes, steps)
}

/// Whether an operation only says where to look. A reshape of what does not lie in order is a
/// copy; that is not known before it is there.
pub(super) fn is_view(op: &Op) -> bool {
    matches!(
        op,
        Op::Transpose(..)
            | Op::Permute(_)
            | Op::Narrow { .. }
            | Op::Squeeze(_)
            | Op::Unsqueeze(_)
            | Op::BroadcastAs(_)
            | Op::Reshape(_)
    )
}

/// How to walk over the elements of a view in order. No dimension has size 1, and no two
/// neighbours could be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) dims: Dims,
    pub(crate) strides: Dims,
    pub(crate) offset: usize,
}

impl Access {
    /// Whether the elements lie in order, without gaps.
    pub(crate) fn is_run(&self) -> bool {
        matches!(self.strides[..], [] | [1])
    }

    /// Whether the view is all elements of a value of `count` elements, in order.
    pub(crate) fn is_all(&self, count: usize) -> bool {
        self.is_run() && self.offset == 0 && self.dims.iter().product::<usize>() == count
    }

    /// After how many elements they are the same again: a row that is repeated, or one element.
    pub(crate) fn period(&self) -> Option<usize> {
        match (&self.dims[..], &self.strides[..]) {
            (_, [] | [0]) => Some(1),
            (&[_, row], [0, _]) if row > 0 => Some(row),
            _ => None,
        }
    }

    /// Calls `run(from, stride, len)` for each run of elements with one stride, in order, of the
    /// `len` elements from place `start` of the view.
    #[inline(always)] // compiled for the instruction set of the loop that it stands in
    pub(crate) fn runs(&self, start: usize, len: usize, mut run: impl FnMut(usize, usize, usize)) {
        let (Some(&inner), Some(&stride)) = (self.dims.last(), self.strides.last()) else {
            return run(self.offset, 0, len);
        };
        let outer = self.dims.len() - 1;
        let mut index: Dims = SmallVec::from_elem(0, outer);
        let mut rest = start / inner;
        for i in (0..outer).rev() {
            index[i] = rest % self.dims[i];
            rest /= self.dims[i];
        }
        let places = index.iter().zip(&self.strides);
        let mut base = self.offset + places.map(|(i, s)| i * s).sum::<usize>();
        let (mut within, mut left) = (start % inner, len);
        while left > 0 {
            let count = left.min(inner - within);
            run(base + within * stride, stride, count);
            left -= count;
            within = 0;
            for i in (0..outer).rev() {
                index[i] += 1;
                base += self.strides[i];
                if index[i] < self.dims[i] {
                    break;
                }
                base -= self.dims[i] * self.strides[i];
                index[i] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(layout: &Layout) -> Vec<usize> {
        let count = layout.dims.iter().product();
        let mut places = Vec::new();
        let mut each = |from: usize, stride: usize, len: usize| {
            places.extend((0..len).map(|i| from + i * stride));
        };
        layout.collapsed().runs(0, count, &mut each);
        places
    }

    #[test]
    fn a_transposed_slice_is_walked_in_its_own_order() {
        let layout = Layout::contiguous(&[3, 4]);
        let narrow = Op::Narrow {
            dim: 1,
            start: 1,
            len: 2,
        };
        let view = layout.viewed(&narrow).unwrap();
        let view = view.viewed(&Op::Transpose(0, 1)).unwrap();
        assert_eq!(places(&view), [1, 5, 9, 2, 6, 10]);
        assert!(view.viewed(&Op::Reshape([6].into())).is_none());
        let split = view.viewed(&Op::Reshape([2, 1, 3].into())).unwrap();
        assert_eq!(places(&split), [1, 5, 9, 2, 6, 10]);
    }

    #[test]
    fn a_broadcast_repeats() {
        let row = Layout::contiguous(&[1, 3]).broadcast(&[2, 2, 3]);
        assert_eq!(places(&row), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
        let merged = row.viewed(&Op::Reshape([4, 3].into())).unwrap();
        assert_eq!(places(&merged), places(&row));
        assert!(row.viewed(&Op::Reshape([12].into())).is_none());
    }

    #[test]
    fn a_walk_may_begin_anywhere() {
        let view = Layout::contiguous(&[4, 5, 6])
            .viewed(&Op::Transpose(0, 2))
            .unwrap();
        let all = places(&view);
        for start in 0..all.len() {
            for len in [1, 3, 7] {
                let len = len.min(all.len() - start);
                let mut seen = Vec::new();
                view.collapsed().runs(start, len, |from, stride, n| {
                    seen.extend((0..n).map(|i| from + i * stride));
                });
                assert_eq!(seen, all[start..start + len]);
            }
        }
    }
}
