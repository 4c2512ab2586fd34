//! A read-only view of a matrix with any strides.

use std::ops::Range;

/// A matrix inside a slice: element `(i, j)` lies at `i * row_stride + j * col_stride`.
///
/// The bounds are checked once, on creation; the fields stay private so that the kernels may read
/// through raw pointers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// A view of `data`, in which all its elements must lie.
    pub(super) fn new(
        data: &'a [f32],
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
    pub(super) fn row(&self, i: usize) -> &'a [f32] {
        assert!(self.col_stride == 1);
        &self.data[i * self.row_stride..][..self.cols]
    }

    /// A column that lies in order.
    pub(super) fn column(&self, j: usize) -> &'a [f32] {
        assert!(self.row_stride == 1);
        &self.data[j * self.col_stride..][..self.rows]
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

    pub(super) fn as_ptr(&self) -> *const f32 {
        self.data.as_ptr()
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
