//! What single instructions do to tiles. Everything is inlined into loops that are compiled for
//! the instruction set in use; a loop sees one element, or one row, at a time and always in the
//! same way, so results do not depend on how the elements were cut into tiles.

use super::math;
use crate::graph::{BinaryOp, CompareOp, ReduceOp, UnaryOp};
use pulp::Simd;
use std::mem::MaybeUninit;

/// Where an instruction writes: every element, once.
pub(super) type Target<'a> = &'a mut [MaybeUninit<f32>];

/// Sums of so many interleaved parts of a row are added up in the end: enough for the widest
/// vectors, and the same for all instruction sets.
const LANES: usize = 32;

/// How many elements come before the first whole cache line of the target. They are done apart:
/// a vector that crosses lines costs twice, and results come with the allocator's alignment.
#[inline(always)]
fn before_line(to: &[MaybeUninit<f32>]) -> usize {
    to.as_ptr().align_offset(64).min(to.len())
}

#[inline(always)]
pub(super) fn map(to: Target<'_>, a: &[f32], f: impl Fn(f32) -> f32) {
    let (a, len) = (&a[..to.len()], before_line(to));
    let ((first, rest), (a_first, a_rest)) = (to.split_at_mut(len), a.split_at(len));
    for (to, a) in [(first, a_first), (rest, a_rest)] {
        for (to, &a) in to.iter_mut().zip(a) {
            to.write(f(a));
        }
    }
}

#[inline(always)]
pub(super) fn unary<S: Simd>(op: UnaryOp, to: Target<'_>, a: &[f32]) {
    match op {
        UnaryOp::Neg => map(to, a, |x| -x),
        UnaryOp::Recip => map(to, a, |x| 1.0 / x),
        UnaryOp::Sqr => map(to, a, |x| x * x),
        UnaryOp::Sqrt => map(to, a, f32::sqrt),
        UnaryOp::Exp => map(to, a, math::exp::<S>),
        UnaryOp::Log => map(to, a, math::log::<S>),
        UnaryOp::Sin => trigonometric::<S>(to, a, 0, f32::sin),
        UnaryOp::Cos => trigonometric::<S>(to, a, 1, f32::cos),
        UnaryOp::Tanh => map(to, a, math::tanh::<S>),
        UnaryOp::Erf => map(to, a, math::erf::<S>),
        UnaryOp::Abs => map(to, a, f32::abs),
        UnaryOp::Floor => map(to, a, math::floor),
        UnaryOp::Ceil => map(to, a, math::ceil),
        UnaryOp::Round => map(to, a, math::round),
        UnaryOp::Sign => map(to, a, |x| {
            f32::from(u8::from(x > 0.0)) - f32::from(u8::from(x < 0.0))
        }),
        UnaryOp::Relu => map(to, a, |x| if x > 0.0 { x } else { 0.0 }),
        UnaryOp::Gelu => map(to, a, math::gelu::<S>),
        UnaryOp::GeluErf => map(to, a, math::gelu_erf::<S>),
        UnaryOp::Silu => map(to, a, math::silu::<S>),
        UnaryOp::Sigmoid => map(to, a, math::sigmoid::<S>),
    }
}

/// Sine or cosine; what is too large for our own is done again by the standard library's.
#[inline(always)]
fn trigonometric<S: Simd>(to: Target<'_>, a: &[f32], quarter: u64, exact: fn(f32) -> f32) {
    map(to, a, |x| {
        let value = math::sine::<S>(x, quarter);
        if x == 0.0 && quarter == 0 { x } else { value }
    });
    for (to, &x) in to.iter_mut().zip(a) {
        if x.abs() > math::LARGEST_ANGLE {
            to.write(exact(x));
        }
    }
}

#[inline(always)]
pub(super) fn elu<S: Simd>(to: Target<'_>, a: &[f32], alpha: f32) {
    map(to, a, |x| math::elu::<S>(x, alpha));
}

#[inline(always)]
pub(super) fn powf<S: Simd>(to: Target<'_>, a: &[f32], exponent: f32) {
    if exponent == 2.0 {
        map(to, a, |x| x * x);
    } else {
        map(to, a, |x| math::powf::<S>(x, exponent));
    }
}

/// What stands on the right: a tile, or one number for all elements.
pub(super) trait Right: Copy {
    /// A part of it.
    fn cut(self, from: usize, to: usize) -> Self;
    fn at(self, i: usize) -> f32;
}

impl Right for &[f32] {
    #[inline(always)]
    fn cut(self, from: usize, to: usize) -> Self {
        &self[from..to]
    }
    #[inline(always)]
    fn at(self, i: usize) -> f32 {
        self[i]
    }
}

impl Right for f32 {
    #[inline(always)]
    fn cut(self, _: usize, _: usize) -> Self {
        self
    }
    #[inline(always)]
    fn at(self, _: usize) -> f32 {
        self
    }
}

#[inline(always)]
fn zip<R: Right>(to: Target<'_>, a: &[f32], b: R, f: impl Fn(f32, f32) -> f32) {
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
pub(super) fn binary<R: Right>(op: BinaryOp, to: Target<'_>, a: &[f32], b: R) {
    match op {
        BinaryOp::Add => zip(to, a, b, |x, y| x + y),
        BinaryOp::Sub => zip(to, a, b, |x, y| x - y),
        BinaryOp::Mul => zip(to, a, b, |x, y| x * y),
        BinaryOp::Div => zip(to, a, b, |x, y| x / y),
        BinaryOp::Maximum => zip(to, a, b, |x, y| if x < y { y } else { x }),
        BinaryOp::Minimum => zip(to, a, b, |x, y| if x > y { y } else { x }),
    }
}

/// 1 or 0.
#[inline(always)]
pub(super) fn compare<R: Right>(op: CompareOp, to: Target<'_>, a: &[f32], b: R) {
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
fn truth(holds: bool) -> f32 {
    if holds { 1.0 } else { 0.0 }
}

/// The first where the condition is not zero, else the second.
#[inline(always)]
pub(super) fn select(to: Target<'_>, condition: &[f32], a: &[f32], b: &[f32]) {
    let len = to.len();
    let (condition, a, b) = (&condition[..len], &a[..len], &b[..len]);
    for i in 0..len {
        to[i].write(if condition[i] != 0.0 { a[i] } else { b[i] });
    }
}

/// Combines the elements of a row, in an order that only the row's length decides: interleaved
/// parts, each from `start`, and then those in pairs.
#[inline(always)]
fn fold(
    row: &[f32],
    start: f32,
    each: impl Fn(f32, f32) -> f32,
    both: impl Fn(f32, f32) -> f32,
) -> f32 {
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
fn sum(row: &[f32]) -> f32 {
    fold(row, 0.0, |sum, x| sum + x, |a, b| a + b)
}

/// As Candle, which begins with the first element and keeps it if the next is not larger: NaN in
/// front stays, and is passed over elsewhere.
#[inline(always)]
fn max(row: &[f32]) -> f32 {
    let larger = |most: f32, x: f32| if x > most { x } else { most };
    fold(row, row[0], larger, larger)
}

#[inline(always)]
fn min(row: &[f32]) -> f32 {
    let smaller = |least: f32, x: f32| if x < least { x } else { least };
    fold(row, row[0], smaller, smaller)
}

/// One number for each row of `cols` elements; none of the rows is empty.
#[inline(always)]
pub(super) fn reduce(op: ReduceOp, to: Target<'_>, a: &[f32], cols: usize) {
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
pub(super) fn spread(to: Target<'_>, rows: &[f32], cols: usize) {
    for (to, &x) in to.chunks_exact_mut(cols).zip(rows) {
        for to in to {
            to.write(x);
        }
    }
}

/// Writes a row that is made in two passes: the first makes what the second reads.
#[inline(always)]
fn in_two<'a>(to: Target<'a>, a: &[f32], first: impl Fn(f32) -> f32) -> &'a mut [f32] {
    map(to, a, first);
    // SAFETY: `map` wrote every element, for both have the same length.
    unsafe { &mut *(std::ptr::from_mut(to) as *mut [f32]) }
}

#[inline(always)]
pub(super) fn softmax<S: Simd>(to: Target<'_>, a: &[f32], cols: usize) {
    for (to, row) in to.chunks_exact_mut(cols).zip(a.chunks_exact(cols)) {
        let most = max(row);
        let powers = in_two(to, row, |x| math::exp::<S>(x - most));
        let scale = 1.0 / sum(powers);
        powers.iter_mut().for_each(|x| *x *= scale);
    }
}

#[inline(always)]
pub(super) fn log_softmax<S: Simd>(to: Target<'_>, a: &[f32], cols: usize) {
    for (to, row) in to.chunks_exact_mut(cols).zip(a.chunks_exact(cols)) {
        let most = max(row);
        let powers = in_two(to, row, |x| math::exp::<S>(x - most));
        let log = math::log::<S>(sum(powers));
        for (to, &x) in powers.iter_mut().zip(row) {
            *to = (x - most) - log;
        }
    }
}

/// Divided by the root of the mean square and `eps`.
#[inline(always)]
pub(super) fn scale(to: Target<'_>, a: &[f32], cols: usize, eps: f32) {
    for (to, row) in to.chunks_exact_mut(cols).zip(a.chunks_exact(cols)) {
        let squares = fold(row, 0.0, |sum, x| sum + x * x, |a, b| a + b);
        let by = 1.0 / (squares / cols as f32 + eps).sqrt();
        map(to, row, |x| x * by);
    }
}

/// Mean zero, divided by the root of the variance and `eps`; in two passes, so that a large mean
/// costs no precision.
#[inline(always)]
pub(super) fn center(to: Target<'_>, a: &[f32], cols: usize, eps: f32) {
    for (to, row) in to.chunks_exact_mut(cols).zip(a.chunks_exact(cols)) {
        let mean = sum(row) / cols as f32;
        let centered = in_two(to, row, |x| x - mean);
        let squares = fold(centered, 0.0, |sum, x| sum + x * x, |a, b| a + b);
        let by = 1.0 / (squares / cols as f32 + eps).sqrt();
        centered.iter_mut().for_each(|x| *x *= by);
    }
}
