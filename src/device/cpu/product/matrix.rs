//! A read-only view of a matrix with any strides.

use super::real::{Real, Source};
use crate::device::cpu::data::Data;
use crate::device::cpu::memory::{NoMemory, reserved};
use half::{bf16, f16};
use std::ops::Range;

/// A matrix inside a slice: element `(i, j)` lies at `i * row_stride + j * col_stride`.
///
/// The bounds are checked once, on creation; the fields stay private so that the kernels may read
/// through raw pointers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T: Copy> Mat<'a, T> {
    /// A view of `data`, in which all its elements must lie.
    pub(super) fn new(
        data: &'a [T],
        (rows, cols): (usize, usize),
        (row_stride, col_stride): (usize, usize),
    ) -> Self {
        assert!(
            extent((rows, cols), (row_stride, col_stride)).is_some_and(|len| len <= data.len()),
            "a {rows}x{cols} matrix with strides {row_stride},{col_stride} does not fit {} elements",
            data.len()
        );
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride,
        }
    }

    /// Some of its rows.
    pub(super) fn sub_rows(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.rows);
        let rows = range.len();
        let skip = if rows == 0 || self.cols == 0 {
            0
        } else {
            range.start * self.row_stride
        };
        Self {
            data: &self.data[skip..],
            rows,
            ..self
        }
    }

    /// A row that lies in order.
    pub(super) fn row(&self, i: usize) -> &'a [T] {
        assert!(self.col_stride == 1);
        &self.data[i * self.row_stride..][..self.cols]
    }

    /// A column that lies in order.
    pub(super) fn column(&self, j: usize) -> &'a [T] {
        assert!(self.row_stride == 1);
        &self.data[j * self.col_stride..][..self.rows]
    }

    /// Its rows one after another.
    fn widened<R>(&self) -> Result<Vec<R>, NoMemory>
    where
        T: Source<R>,
    {
        let mut wide = reserved(&[self.rows, self.cols])?;
        for i in 0..self.rows {
            let row = &self.data[i * self.row_stride..];
            match self.col_stride {
                1 => wide.extend(row[..self.cols].iter().map(|&x| x.wide())),
                stride => wide.extend((0..self.cols).map(|j| row[j * stride].wide())),
            }
        }
        Ok(wide)
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn cols(&self) -> usize {
        self.cols
    }

    pub(super) fn row_stride(&self) -> usize {
        self.row_stride
    }

    pub(super) fn col_stride(&self) -> usize {
        self.col_stride
    }

    pub(super) fn as_ptr(&self) -> *const T {
        self.data.as_ptr()
    }
}

/// A matrix of any type of operands.
#[derive(Clone, Copy, Debug)]
pub(super) enum AnyMat<'a, R> {
    /// Of the type that is summed in.
    Wide(Mat<'a, R>),
    BF16(Mat<'a, bf16>),
    F16(Mat<'a, f16>),
}

/// Runs the same on a matrix of whichever type.
macro_rules! each {
    ($mat:expr, $x:ident => $run:expr) => {
        match $mat {
            AnyMat::Wide($x) => $run,
            AnyMat::BF16($x) => $run,
            AnyMat::F16($x) => $run,
        }
    };
}
pub(super) use each;

impl<'a, R: Real> AnyMat<'a, R> {
    /// A view of `data`, in which all its elements must lie from `start` on.
    pub(super) fn new(
        data: Data<'a>,
        start: usize,
        size: (usize, usize),
        strides: (usize, usize),
    ) -> Self {
        match data {
            Data::BF16(data) => Self::BF16(Mat::new(&data[start..], size, strides)),
            Data::F16(data) => Self::F16(Mat::new(&data[start..], size, strides)),
            _ => match R::elements(data) {
                Some(data) => Self::Wide(Mat::new(&data[start..], size, strides)),
                None => unreachable!("the plan takes products of floats of one type"),
            },
        }
    }

    /// Some of its rows.
    pub(super) fn sub_rows(self, range: Range<usize>) -> Self {
        match self {
            Self::Wide(x) => Self::Wide(x.sub_rows(range)),
            Self::BF16(x) => Self::BF16(x.sub_rows(range)),
            Self::F16(x) => Self::F16(x.sub_rows(range)),
        }
    }

    /// Its rows one after another, widened; nothing if they are wide already.
    pub(super) fn widened(&self) -> Result<Option<Vec<R>>, NoMemory> {
        match self {
            Self::Wide(_) => Ok(None),
            Self::BF16(x) => x.widened().map(Some),
            Self::F16(x) => x.widened().map(Some),
        }
    }

    pub(super) fn rows(&self) -> usize {
        each!(self, x => x.rows)
    }

    pub(super) fn cols(&self) -> usize {
        each!(self, x => x.cols)
    }

    pub(super) fn row_stride(&self) -> usize {
        each!(self, x => x.row_stride)
    }

    pub(super) fn col_stride(&self) -> usize {
        each!(self, x => x.col_stride)
    }
}

/// Elements from the first to one past the last, or `None` on overflow.
fn extent((rows, cols): (usize, usize), (down, right): (usize, usize)) -> Option<usize> {
    if rows == 0 || cols == 0 {
        return Some(0);
    }
    let down = (rows - 1).checked_mul(down)?;
    let right = (cols - 1).checked_mul(right)?;
    down.checked_add(right)?.checked_add(1)
}
