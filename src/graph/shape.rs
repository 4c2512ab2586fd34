//! Shapes that are given to a method: for `reshape` and for new data, with at most one hole.

use super::infer::fits;
use super::node::Dims;
use crate::error::Reason;
use candle_core::{DType, Shape};

/// A shape, or one with a hole `()` that the number of elements fills: everything that Candle's
/// trait of this name takes. Candle's multiplies without looking; this one notices an overflow.
pub trait ShapeWithOneHole {
    /// The sizes; `None` for the hole.
    #[doc(hidden)]
    fn sizes(self) -> Vec<Option<usize>>;
}

/// Fills the hole.
pub(super) fn resolve(
    shape: impl ShapeWithOneHole,
    count: usize,
    dtype: DType,
) -> Result<Dims, Reason> {
    let sizes = shape.sizes();
    let known: Dims = sizes.iter().map(|s| s.unwrap_or(1)).collect();
    if !fits(&known, dtype) {
        return Err(Reason::Overflow);
    }
    let to: usize = known.iter().product();
    let hole = sizes.iter().any(Option::is_none);
    let filled = match (hole, to) {
        (false, _) if to == count => 1,
        (true, 1..) if count.is_multiple_of(to) => count / to,
        _ => return Err(Reason::ElementCount { from: count, to }),
    };
    Ok(sizes.into_iter().map(|s| s.unwrap_or(filled)).collect())
}

macro_rules! whole {
    ($($ty:ty),*) => {
        $(impl ShapeWithOneHole for $ty {
            fn sizes(self) -> Vec<Option<usize>> {
                Shape::from(self).dims().iter().map(|&d| Some(d)).collect()
            }
        })*
    };
}

type U = usize;

whole!(
    (),
    U,
    (U,),
    (U, U),
    (U, U, U),
    (U, U, U, U),
    (U, U, U, U, U),
    (U, U, U, U, U, U)
);
whole!(Vec<usize>, &[usize], Shape, &Shape);

impl<const N: usize> ShapeWithOneHole for &[usize; N] {
    fn sizes(self) -> Vec<Option<usize>> {
        self.as_slice().sizes()
    }
}

macro_rules! hole {
    ($(($($before:ident),*; $($after:ident),*),)*) => {
        $(impl ShapeWithOneHole for ($(hole!(@usize $before),)* (), $(hole!(@usize $after),)*) {
            fn sizes(self) -> Vec<Option<usize>> {
                let ($($before,)* (), $($after,)*) = self;
                vec![$(Some($before),)* None, $(Some($after)),*]
            }
        })*
    };
    (@usize $size:ident) => { usize };
}

hole! {
    (;),
    (; a), (a;),
    (; a, b), (a; b), (a, b;),
    (; a, b, c), (a; b, c), (a, b; c), (a, b, c;),
    (; a, b, c, d), (a; b, c, d), (a, b; c, d), (a, b, c; d), (a, b, c, d;),
}
