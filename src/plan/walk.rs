//! How the operands of a step are walked over row by row, whatever the number of rows.

use super::layout::{Access, Layout};
use crate::graph::Dims;

/// Where the elements of one row lie, and where the next row begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    /// From one row to the next; 0 if all rows read the same.
    row: usize,
    /// Of one row.
    dims: Dims,
    strides: Dims,
    offset: usize,
}

impl Walk {
    /// The walk over a view as `rows` rows, if it is one. `own` is the number of elements of a
    /// value that other fragments have too, each its own: the rows share it out evenly. `None`
    /// stands for a value that is the same for all: all rows must read the same of it.
    pub(super) fn of(access: &Access, rows: usize, own: Option<usize>) -> Option<Self> {
        let (mut dims, mut strides) = (access.dims.clone(), access.strides.clone());
        let row = match (rows, own) {
            (1, own) => own.unwrap_or(0),
            _ => {
                let (first, stride) = (*dims.first()?, strides[0]);
                if first % rows != 0 {
                    return None;
                }
                dims[0] = first / rows;
                stride * dims[0]
            }
        };
        if rows > 1 && dims[0] == 1 {
            dims.remove(0);
            strides.remove(0);
        }
        let whole = row.checked_mul(rows)? == own.unwrap_or(0);
        whole.then_some(Self {
            row,
            dims,
            strides,
            offset: access.offset,
        })
    }

    /// The view of `rows` rows.
    pub(super) fn access(&self, rows: usize) -> Access {
        let layout = Layout {
            dims: [rows].iter().chain(&self.dims).copied().collect(),
            strides: [self.row].iter().chain(&self.strides).copied().collect(),
            offset: self.offset,
        };
        layout.collapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(access: &Access) -> Vec<usize> {
        let count = access.dims.iter().product();
        let mut places = Vec::new();
        access.runs(0, count, |from, stride, len| {
            places.extend((0..len).map(|i| from + i * stride));
        });
        places
    }

    fn access(dims: &[usize], strides: &[usize], offset: usize) -> Access {
        let layout = Layout {
            dims: dims.into(),
            strides: strides.into(),
            offset,
        };
        layout.collapsed()
    }

    /// What several fragments read one after another is what each reads by itself, in its own
    /// elements.
    #[test]
    fn a_longer_walk_is_several_walks() {
        let cases = [
            // in order; a slice of each row; one number for each row; an inner transposition
            (access(&[6, 4], &[4, 1], 0), 6, Some(24)),
            (access(&[6, 4], &[12, 1], 8), 6, Some(72)),
            (access(&[6, 4], &[1, 0], 0), 6, Some(6)),
            (access(&[6, 2, 3], &[6, 1, 2], 0), 6, Some(36)),
            // the same for all: a row, a number, a whole value
            (access(&[6, 4], &[0, 1], 3), 6, None),
            (access(&[6, 4], &[0, 0], 3), 6, None),
            (access(&[6, 4], &[1, 6], 0), 1, None),
            // one row
            (access(&[2, 3], &[1, 2], 0), 1, Some(6)),
        ];
        for (view, rows, own) in cases {
            let walk = Walk::of(&view, rows, own).unwrap();
            assert_eq!(places(&walk.access(rows)), places(&view));
            let one = places(&view);
            let shift = |i: usize| one.iter().map(move |p| p + i * own.unwrap_or(0));
            let three: Vec<usize> = (0..3).flat_map(shift).collect();
            assert_eq!(places(&walk.access(3 * rows)), three, "{view:?}");
        }
    }

    #[test]
    fn what_is_no_walk_over_rows_is_refused() {
        // rows that would run into the next fragment's, and a value read by all rows
        assert_eq!(Walk::of(&access(&[6, 4], &[1, 6], 0), 6, Some(24)), None);
        assert_eq!(Walk::of(&access(&[6, 4], &[0, 1], 0), 6, Some(4)), None);
        // of a value that is the same for all, each row reads another part
        assert_eq!(Walk::of(&access(&[6, 4], &[4, 1], 0), 6, None), None);
        // no such number of rows
        assert_eq!(Walk::of(&access(&[6, 4], &[4, 1], 0), 5, Some(24)), None);
    }
}
