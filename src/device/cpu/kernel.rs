//! What single instructions do to tiles. Everything is inlined into loops that are compiled for
//! the instruction set in use; a loop sees one element, or one row, at a time and always in the
//! same way, so results do not depend on how the elements were cut into tiles.

use super::float::Float;
use super::number::Element;
use super::place::{Place, written_mut};
use crate::graph::{BinaryOp, CompareOp, ReduceOp};
use pulp::Simd;
use std::ops::Range;

/// Where an instruction writes: every element, once.
pub(super) type Target<'a, T = f32> = &'a mut [Place<T>];

/// A row is summed as this number of interleaved parts, whose sums are added up in the end: enough for the widest
/// vectors, and the same for all instruction sets.
const LANES: usize = 32;

/// How many elements come before the first whole cache line of the target. They are done apart:
/// a vector that crosses lines costs twice, and results come with the allocator's alignment.
#[inline(always)]
pub(super) fn before_line<T>(to: &[Place<T>]) -> usize {
    to.as_ptr().align_offset(64).min(to.len())
}

#[inline(always)]
pub(super) fn map<T: Copy>(to: Target<'_, T>, a: &[T], f: impl Fn(T) -> T) {
    let a = &a[..to.len()];
    for (to, &a) in to.iter_mut().zip(a) {
        to.write(f(a));
    }
}

/// What stands on the right: a tile, or one number for all elements.
pub(super) trait Right<T>: Copy {
    /// The first `len` elements.
    fn cut(self, len: usize) -> Self;
    fn at(self, i: usize) -> T;
}

impl<T: Copy> Right<T> for &[T] {
    #[inline(always)]
    fn cut(self, len: usize) -> Self {
        &self[..len]
    }
    #[inline(always)]
    fn at(self, i: usize) -> T {
        self[i]
    }
}

impl<T: Element> Right<T> for T {
    #[inline(always)]
    fn cut(self, _: usize) -> Self {
        self
    }
    #[inline(always)]
    fn at(self, _: usize) -> T {
        self
    }
}

#[inline(always)]
fn zip<T: Copy, R: Right<T>>(to: Target<'_, T>, a: &[T], b: R, f: impl Fn(T, T) -> T) {
    let len = to.len();
    let (a, b) = (&a[..len], b.cut(len));
    for (i, (to, &a)) in to.iter_mut().zip(a).enumerate() {
        to.write(f(a, b.at(i)));
    }
}

#[inline(always)]
fn zip3<T: Copy>(to: Target<'_, T>, [a, b, c]: [&[T]; 3], f: impl Fn(T, T, T) -> T) {
    let [a, b, c] = [a, b, c].map(|arg| &arg[..to.len()]);
    for (((to, &a), &b), &c) in to.iter_mut().zip(a).zip(b).zip(c) {
        to.write(f(a, b, c));
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

/// Two of [`binary`] in one pass: the second takes what the first makes of `a` and `b`, and `c`;
/// or `c` and that, if they are `swapped`.
#[inline(always)]
pub(super) fn pair<T: Element>(
    [first, second]: [BinaryOp; 2],
    swapped: bool,
    to: Target<'_, T>,
    args: [&[T]; 3],
) {
    match first {
        BinaryOp::Add => second_of_pair(second, swapped, to, args, T::add),
        BinaryOp::Sub => second_of_pair(second, swapped, to, args, T::sub),
        BinaryOp::Mul => second_of_pair(second, swapped, to, args, T::mul),
        _ => unreachable!("the plan makes no such pair"),
    }
}

#[inline(always)]
fn second_of_pair<T: Element>(
    second: BinaryOp,
    swapped: bool,
    to: Target<'_, T>,
    args: [&[T]; 3],
    first: impl Fn(T, T) -> T,
) {
    match (second, swapped) {
        (BinaryOp::Add, _) => zip3(to, args, |a, b, c| first(a, b).add(c)),
        (BinaryOp::Mul, _) => zip3(to, args, |a, b, c| first(a, b).mul(c)),
        (BinaryOp::Sub, false) => zip3(to, args, |a, b, c| first(a, b).sub(c)),
        (BinaryOp::Sub, true) => zip3(to, args, |a, b, c| c.sub(first(a, b))),
        _ => unreachable!("the plan makes no such pair"),
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
    in_pairs(&parts, both)
}

/// Combines the first half of the parts with the second, until there is one.
///
/// A call, although it is short: inlined, the compiler would let the narrow end of this decide how
/// wide the vectors of the whole sum are.
#[inline(never)]
fn in_pairs<T: Copy>(parts: &[T; LANES], both: impl Fn(T, T) -> T) -> T {
    let parts: [T; LANES / 2] = half(parts, &both);
    let parts: [T; LANES / 4] = half(&parts, &both);
    let parts: [T; LANES / 8] = half(&parts, &both);
    let parts: [T; LANES / 16] = half(&parts, &both);
    both(parts[0], parts[1])
}

#[inline(always)]
fn half<T: Copy, const N: usize>(parts: &[T], both: impl Fn(T, T) -> T) -> [T; N] {
    std::array::from_fn(|i| both(parts[i], parts[i + N]))
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
    assert_eq!(a.len(), to.len() * cols);
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
    assert_eq!(to.len(), rows.len() * cols);
    for (to, &x) in to.chunks_exact_mut(cols).zip(rows) {
        for to in to {
            to.write(x);
        }
    }
}

/// What the loops over rows rely on to write every element: whole rows, in all arguments as many.
#[inline(always)]
fn assert_rows<T, const N: usize>(to: &[Place<T>], args: [&[T]; N], cols: usize) {
    assert!(to.len().is_multiple_of(cols));
    for arg in args {
        assert_eq!(arg.len(), to.len());
    }
}

/// Writes `e^(x - most)` of each element, and returns that. It is added up in another pass: the
/// row stays in the nearest cache, and both at once were slower.
#[inline(always)]
fn powers<'a, S: Simd, T: Float>(to: Target<'a, T>, row: &[T], most: T) -> &'a mut [T] {
    map(to, row, |x| x.sub(most).exp_below::<S>());
    // SAFETY: `map` has written every place.
    unsafe { written_mut(to) }
}

#[inline(always)]
pub(super) fn softmax<S: Simd, T: Float>(to: Target<'_, T>, a: &[T], cols: usize) {
    assert_rows(to, [a], cols);
    for (to, row) in to.chunks_exact_mut(cols).zip(a.chunks_exact(cols)) {
        let powers = powers::<S, T>(to, row, max(row));
        let scale = T::ONE.div(sum(powers));
        powers.iter_mut().for_each(|x| *x = x.mul(scale));
    }
}

#[inline(always)]
pub(super) fn log_softmax<S: Simd, T: Float>(to: Target<'_, T>, a: &[T], cols: usize) {
    assert_rows(to, [a], cols);
    for (to, row) in to.chunks_exact_mut(cols).zip(a.chunks_exact(cols)) {
        let most = max(row);
        let powers = powers::<S, T>(to, row, most);
        let log = sum(powers).log::<S>();
        for (to, &x) in powers.iter_mut().zip(row) {
            *to = x.sub(most).sub(log);
        }
    }
}

/// One divided by the root of `eps` and the mean square of what `f` makes of each element.
#[inline(always)]
fn inverse_root<T: Float>(row: &[T], eps: T, f: impl Fn(T) -> T) -> T {
    let square = |sum: T, x: T| {
        let x = f(x);
        sum.add(x.mul(x))
    };
    let squares = fold(row, T::default(), square, T::add);
    T::ONE.div(squares.div(T::count(row.len())).add(eps).sqrt())
}

/// Each row divided by the root of its mean square and `eps`, times `alpha`.
#[inline(always)]
pub(super) fn rms_norm<T: Float>(to: Target<'_, T>, [x, alpha]: [&[T]; 2], cols: usize, eps: T) {
    assert_rows(to, [x, alpha], cols);
    let rows = x.chunks_exact(cols).zip(alpha.chunks_exact(cols));
    for (to, (row, alpha)) in to.chunks_exact_mut(cols).zip(rows) {
        let by = inverse_root(row, eps, |x| x);
        for part in lines(to) {
            let (to, row) = (&mut to[part.clone()], &row[part.clone()]);
            zip(to, row, &alpha[part], |x, alpha| x.mul(by).mul(alpha));
        }
    }
}

/// Each row with mean zero, divided by the root of the variance and `eps`, times `alpha` and plus
/// `beta`. The mean is taken away before squares are, so that a large one costs no precision.
#[inline(always)]
pub(super) fn layer_norm<T: Float>(
    to: Target<'_, T>,
    [x, alpha, beta]: [&[T]; 3],
    cols: usize,
    eps: T,
) {
    assert_rows(to, [x, alpha, beta], cols);
    let rows = x.chunks_exact(cols).zip(alpha.chunks_exact(cols));
    let rows = rows.zip(beta.chunks_exact(cols));
    for (to, ((row, alpha), beta)) in to.chunks_exact_mut(cols).zip(rows) {
        let mean = sum(row).div(T::count(cols));
        let by = inverse_root(row, eps, |x| x.sub(mean));
        for part in lines(to) {
            let args = [row, alpha, beta].map(|arg| &arg[part.clone()]);
            zip3(&mut to[part], args, |x, alpha, beta| {
                x.sub(mean).mul(by).mul(alpha).add(beta)
            });
        }
    }
}

/// What comes before the first whole cache line of a row, and the rest.
#[inline(always)]
fn lines<T>(to: &[Place<T>]) -> [Range<usize>; 2] {
    let before = before_line(to);
    [0..before, before..to.len()]
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
    assert_rows(to, [x, cos, sin], cols);
    assert!(cols.is_multiple_of(2));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::place::places;

    fn made<T: Copy>(len: usize, write: impl FnOnce(Target<'_, T>)) -> Vec<T> {
        let mut out = Vec::with_capacity(len);
        write(places(&mut out.spare_capacity_mut()[..len]));
        // SAFETY: instructions write every element.
        unsafe { out.set_len(len) };
        out
    }

    #[test]
    fn a_pair_makes_what_both_make() {
        let tile = |factor: f32| -> Vec<f32> {
            let numbers = (0..37).map(|i| (i as f32 - 20.0) / factor);
            numbers.collect()
        };
        let [a, b, c] = [3.0, 7.0, 11.0].map(tile);
        let ops = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul];
        for (first, second) in ops.iter().flat_map(|&f| ops.map(|s| (f, s))) {
            let one = made(37, |to| binary(first, to, &a, &b[..]));
            for swapped in [false, true] {
                let (x, y) = if swapped { (&c, &one) } else { (&one, &c) };
                let both = made(37, |to| binary(second, to, x, &y[..]));
                let pair = made(37, |to| pair([first, second], swapped, to, [&a, &b, &c]));
                assert_eq!(pair, both, "{first:?} {second:?} {swapped}");
            }
        }
    }

    #[test]
    fn the_order_of_a_sum_is_one_of_its_length() {
        let row: Vec<f32> = (0..LANES * 3 + 5).map(|i| 1.0 / (i as f32 + 1.5)).collect();
        let mut parts = [0f32; LANES];
        row.iter()
            .enumerate()
            .for_each(|(i, x)| parts[i % LANES] += x);
        let mut parts = parts.to_vec();
        while parts.len() > 1 {
            let (first, second) = parts.split_at(parts.len() / 2);
            parts = first.iter().zip(second).map(|(x, y)| x + y).collect();
        }
        assert_eq!(sum(&row), parts[0]);
    }
}
