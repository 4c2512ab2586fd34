//! What single instructions do to tiles. Everything is inlined into loops that are compiled for
//! the instruction set in use; a loop sees one element, or one row, at a time and always in the
//! same way, so results do not depend on how the elements were cut into tiles.

use super::float::Float;
use super::number::Element;
use crate::graph::{BinaryOp, CompareOp, ReduceOp};
use pulp::Simd;
use std::mem::MaybeUninit;

/// Where an instruction writes: every element, once.
pub(super) type Target<'a, T = f32> = &'a mut [MaybeUninit<T>];

/// Sums of so many interleaved parts of a row are added up in the end: enough for the widest
/// vectors, and the same for all instruction sets.
const LANES: usize = 32;

/// How many elements come before the first whole cache line of the target. They are done apart:
/// a vector that crosses lines costs twice, and results come with the allocator's alignment.
#[inline(always)]
fn before_line<T>(to: &[MaybeUninit<T>]) -> usize {
    to.as_ptr().align_offset(64).min(to.len())
}

#[inline(always)]
pub(super) fn map<T: Copy>(to: Target<'_, T>, a: &[T], f: impl Fn(T) -> T) {
    let (a, len) = (&a[..to.len()], before_line(to));
    let ((first, rest), (a_first, a_rest)) = (to.split_at_mut(len), a.split_at(len));
    for (to, a) in [(first, a_first), (rest, a_rest)] {
        for (to, &a) in to.iter_mut().zip(a) {
            to.write(f(a));
        }
    }
}

/// What stands on the right: a tile, or one number for all elements.
pub(super) trait Right<T>: Copy {
    /// A part of it.
    fn cut(self, from: usize, to: usize) -> Self;
    fn at(self, i: usize) -> T;
}

impl<T: Copy> Right<T> for &[T] {
    #[inline(always)]
    fn cut(self, from: usize, to: usize) -> Self {
        &self[from..to]
    }
    #[inline(always)]
    fn at(self, i: usize) -> T {
        self[i]
    }
}

impl<T: Element> Right<T> for T {
    #[inline(always)]
    fn cut(self, _: usize, _: usize) -> Self {
        self
    }
    #[inline(always)]
    fn at(self, _: usize) -> T {
        self
    }
}

#[inline(always)]
fn zip<T: Copy, R: Right<T>>(to: Target<'_, T>, a: &[T], b: R, f: impl Fn(T, T) -> T) {
    let (a, all, len) = (&a[..to.len()], b.cut(0, to.len()), before_line(to));
    let ((first, rest), (a_first, a_rest)) = (to.split_at_mut(len), a.split_at(len));
    let parts = [
        (first, a_first, all.cut(0, len)),
        (rest, a_rest, all.cut(len, a.len())),
    ];
    for (to, a, b) in parts {
        let b = b.cut(0, to.len());
        for (i, (to, &a)) in to.iter_mut().zip(a).enumerate() {
            to.write(f(a, b.at(i)));
        }
    }
}

/// As Candle defines them.
#[inline(always)]
pub(super) fn binary<T: Element, R: Right<T>>(op: BinaryOp, to: Target<'_, T>, a: &[T], b: R) {
    match op {
        BinaryOp::Add => zip(to, a, b, T::add),
        BinaryOp::Sub => zip(to, a, b, T::sub),
        BinaryOp::Mul => zip(to, a, b, T::mul),
        BinaryOp::Div => zip(to, a, b, T::div),
        BinaryOp::Maximum => zip(to, a, b, |x, y| if x < y { y } else { x }),
        BinaryOp::Minimum => zip(to, a, b, |x, y| if x > y { y } else { x }),
    }
}

/// 1 or 0.
#[inline(always)]
pub(super) fn compare<T: Element, R: Right<T>>(op: CompareOp, to: Target<'_, T>, a: &[T], b: R) {
    match op {
        CompareOp::Eq => zip(to, a, b, |x, y| truth(x == y)),
        CompareOp::Ne => zip(to, a, b, |x, y| truth(x != y)),
        CompareOp::Lt => zip(to, a, b, |x, y| truth(x < y)),
        CompareOp::Le => zip(to, a, b, |x, y| truth(x <= y)),
        CompareOp::Gt => zip(to, a, b, |x, y| truth(x > y)),
        CompareOp::Ge => zip(to, a, b, |x, y| truth(x >= y)),
    }
}

#[inline(always)]
fn truth<T: Element>(holds: bool) -> T {
    if holds { T::ONE } else { T::default() }
}

/// The first where the condition is not zero, else the second.
#[inline(always)]
pub(super) fn select<T: Element>(to: Target<'_, T>, condition: &[T], a: &[T], b: &[T]) {
    let len = to.len();
    let (condition, a, b) = (&condition[..len], &a[..len], &b[..len]);
    for i in 0..len {
        let holds = condition[i] != T::default();
        to[i].write(if holds { a[i] } else { b[i] });
    }
}

/// Combines the elements of a row, in an order that only the row's length decides: interleaved
/// parts, each from `start`, and then those in pairs.
#[inline(always)]
fn fold<T: Copy>(row: &[T], start: T, each: impl Fn(T, T) -> T, both: impl Fn(T, T) -> T) -> T {
    let mut parts = [start; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (part, &x) in parts.iter_mut().zip(chunk) {
            *part = each(*part, x);
        }
    }
    for (part, &x) in parts.iter_mut().zip(chunks.remainder()) {
        *part = each(*part, x);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            parts[i] = both(parts[i], parts[i + width]);
        }
        width /= 2;
    }
    parts[0]
}

#[inline(always)]
fn sum<T: Element>(row: &[T]) -> T {
    fold(row, T::default(), T::add, T::add)
}

/// As Candle, which begins with the first element and keeps it if the next is not larger: NaN in
/// front stays, and is passed over elsewhere.
#[inline(always)]
fn max<T: Element>(row: &[T]) -> T {
    let larger = |most: T, x: T| if x > most { x } else { most };
    fold(row, row[0], larger, larger)
}

#[inline(always)]
fn min<T: Element>(row: &[T]) -> T {
    let smaller = |least: T, x: T| if x < least { x } else { least };
    fold(row, row[0], smaller, smaller)
}

/// One number for each row of `cols` elements; none of the rows is empty.
#[inline(always)]
pub(super) fn reduce<T: Element>(op: ReduceOp, to: Target<'_, T>, a: &[T], cols: usize) {
    for (to, row) in to.iter_mut().zip(a.chunks_exact(cols)) {
        to.write(match op {
            ReduceOp::Sum => sum(row),
            ReduceOp::Max => max(row),
            ReduceOp::Min => min(row),
            ReduceOp::ArgMax | ReduceOp::ArgMin => unreachable!("indices go to Candle"),
        });
    }
}

/// The number of each row for each of its elements.
#[inline(always)]
pub(super) fn spread<T: Copy>(to: Target<'_, T>, rows: &[T], cols: usize) {
    for (to, &x) in to.chunks_exact_mut(cols).zip(rows) {
        for to in to {
            to.write(x);
        }
    }
}

/// Writes a row that is made in two passes: the first makes what the second reads.
#[inline(always)]
fn in_two<'a, T: Copy>(to: Target<'a, T>, a: &[T], first: impl Fn(T) -> T) -> &'a mut [T] {
    map(to, a, first);
    // SAFETY: `map` wrote every element, for both have the same length.
    unsafe { &mut *(std::ptr::from_mut(to) as *mut [T]) }
}

#[inline(always)]
pub(super) fn softmax<S: Simd, T: Float>(to: Target<'_, T>, a: &[T], cols: usize) {
    for (to, row) in to.chunks_exact_mut(cols).zip(a.chunks_exact(cols)) {
        let most = max(row);
        let powers = in_two(to, row, |x| x.sub(most).exp::<S>());
        let scale = T::ONE.div(sum(powers));
        powers.iter_mut().for_each(|x| *x = x.mul(scale));
    }
}

#[inline(always)]
pub(super) fn log_softmax<S: Simd, T: Float>(to: Target<'_, T>, a: &[T], cols: usize) {
    for (to, row) in to.chunks_exact_mut(cols).zip(a.chunks_exact(cols)) {
        let most = max(row);
        let powers = in_two(to, row, |x| x.sub(most).exp::<S>());
        let log = sum(powers).log::<S>();
        for (to, &x) in powers.iter_mut().zip(row) {
            *to = x.sub(most).sub(log);
        }
    }
}

/// One divided by the root of the mean square and `eps`.
#[inline(always)]
fn inverse_root<T: Float>(row: &[T], eps: T) -> T {
    let squares = fold(row, T::default(), |sum, x| sum.add(x.mul(x)), T::add);
    T::ONE.div(squares.div(T::count(row.len())).add(eps).sqrt())
}

/// Divided by the root of the mean square and `eps`.
#[inline(always)]
pub(super) fn scale<T: Float>(to: Target<'_, T>, a: &[T], cols: usize, eps: T) {
    for (to, row) in to.chunks_exact_mut(cols).zip(a.chunks_exact(cols)) {
        let by = inverse_root(row, eps);
        map(to, row, |x| x.mul(by));
    }
}

/// Mean zero, divided by the root of the variance and `eps`; in two passes, so that a large mean
/// costs no precision.
#[inline(always)]
pub(super) fn center<T: Float>(to: Target<'_, T>, a: &[T], cols: usize, eps: T) {
    for (to, row) in to.chunks_exact_mut(cols).zip(a.chunks_exact(cols)) {
        let mean = sum(row).div(T::count(cols));
        let centered = in_two(to, row, |x| x.sub(mean));
        let by = inverse_root(centered, eps);
        centered.iter_mut().for_each(|x| *x = x.mul(by));
    }
}

/// Rotates pairs of elements of each row: of its halves, or neighbours.
#[inline(always)]
pub(super) fn rope<T: Element>(
    interleaved: bool,
    to: Target<'_, T>,
    [x, cos, sin]: [&[T]; 3],
    cols: usize,
) {
    let rotate =
        |[x, y]: [T; 2], cos: T, sin: T| [x.mul(cos).sub(y.mul(sin)), x.mul(sin).add(y.mul(cos))];
    let half = cols / 2;
    let rows = to.chunks_exact_mut(cols).zip(x.chunks_exact(cols));
    let angles = cos.chunks_exact(cols).zip(sin.chunks_exact(cols));
    for ((to, x), (cos, sin)) in rows.zip(angles) {
        if interleaved {
            let pairs = to.chunks_exact_mut(2).zip(x.chunks_exact(2));
            let angles = cos.iter().step_by(2).zip(sin.iter().step_by(2));
            for ((to, x), (&cos, &sin)) in pairs.zip(angles) {
                let [a, b] = rotate([x[0], x[1]], cos, sin);
                to[0].write(a);
                to[1].write(b);
            }
        } else {
            let (to_first, to_second) = to.split_at_mut(half);
            let (first, second) = x.split_at(half);
            for i in 0..half {
                let [a, b] = rotate([first[i], second[i]], cos[i], sin[i]);
                to_first[i].write(a);
                to_second[i].write(b);
            }
        }
    }
}
