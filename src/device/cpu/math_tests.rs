//! Every function against the same in f64: over a part of all f32 always, over all of them on
//! request.

use super::kernel::Target;
use super::number::Element;
use super::place::places;
use crate::graph::UnaryOp;
use pulp::{Arch, Scalar, Simd, WithSimd};

/// How far a result may be from the truth.
#[derive(Clone, Copy)]
enum Bound {
    /// In units in the last place of the truth.
    Ulp(f64),
    /// The same, or so far where the truth is denormal.
    UlpOr(f64, f64),
    /// In parts of the larger of 1 and the argument.
    Absolute(f64),
}

/// What is applied to an f32.
#[derive(Clone, Copy, Debug)]
enum Function {
    Unary(UnaryOp),
    Elu(f32),
    Powf(f32),
}

struct Case {
    function: Function,
    truth: fn(f64) -> f64,
    bound: Bound,
}

const CASES: [Case; 18] = {
    use Bound::{Absolute, Ulp, UlpOr};
    const fn case(op: UnaryOp, truth: fn(f64) -> f64, bound: Bound) -> Case {
        let function = Function::Unary(op);
        Case {
            function,
            truth,
            bound,
        }
    }
    const fn powf(exponent: f32, truth: fn(f64) -> f64) -> Case {
        let function = Function::Powf(exponent);
        Case {
            function,
            truth,
            bound: Ulp(0.6),
        }
    }
    [
        case(UnaryOp::Exp, f64::exp, Ulp(1.1)),
        case(UnaryOp::Log, f64::ln, Ulp(0.9)),
        case(UnaryOp::Tanh, f64::tanh, Ulp(2.7)),
        case(UnaryOp::Erf, libm::erf, Ulp(1.4)),
        case(UnaryOp::Sin, f64::sin, Ulp(0.6)),
        case(UnaryOp::Cos, f64::cos, Ulp(0.6)),
        case(UnaryOp::Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), Ulp(3.0)),
        case(UnaryOp::Silu, |x| x / (1.0 + (-x).exp()), UlpOr(3.5, 1e-43)),
        case(UnaryOp::Gelu, gelu, Absolute(4e-7)),
        case(UnaryOp::GeluErf, gelu_erf, Absolute(4e-7)),
        case(UnaryOp::Round, f64::round, Ulp(0.0)),
        case(UnaryOp::Floor, f64::floor, Ulp(0.0)),
        case(UnaryOp::Ceil, f64::ceil, Ulp(0.0)),
        Case {
            function: Function::Elu(1.0),
            truth: |x| if x > 0.0 { x } else { x.exp_m1() },
            bound: UlpOr(1.1, 1e-45),
        },
        powf(0.5, |x| x.powf(0.5)),
        powf(-1.5, |x| x.powf(-1.5)),
        powf(3.0, |x| x.powf(3.0)),
        powf(0.1, |x| x.powf(f64::from(0.1f32))),
    ]
};

/// As a sigmoid, which does not cancel where it is small.
fn gelu(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * x * (1.0 + 0.044_715 * x * x);
    x / (1.0 + (-2.0 * inner).exp())
}

fn gelu_erf(x: f64) -> f64 {
    0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// One instruction on one tile.
struct Apply<'a>(Function, Target<'a, f32>, &'a [f32]);

impl WithSimd for Apply<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Apply(function, to, x) = self;
        match function {
            Function::Unary(op) => f32::unary::<S>(op, to, x),
            Function::Elu(alpha) => f32::elu::<S>(to, x, alpha),
            Function::Powf(exponent) => <f32 as Element>::powf::<S>(to, x, exponent),
        }
    }
}

/// With the best instructions of this machine, or with the plainest.
fn apply(function: Function, x: &[f32], best: bool) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    let to = places(&mut out.spare_capacity_mut()[..x.len()]);
    let apply = Apply(function, to, x);
    match best {
        true => Arch::new().dispatch(apply),
        false => Scalar::new().vectorize(apply),
    }
    // SAFETY: the instruction wrote every element.
    unsafe { out.set_len(x.len()) };
    out
}

/// How many times the bound a result is off; infinite if it is of another kind.
fn excess(case: &Case, x: f32, got: f32) -> f64 {
    let truth = (case.truth)(f64::from(x));
    let nearest = truth as f32;
    if got.to_bits() == nearest.to_bits() || got == nearest || got.is_nan() && nearest.is_nan() {
        return 0.0;
    }
    let distance = (f64::from(got) - truth).abs();
    if !distance.is_finite() {
        // One side has overflowed: fine at the very edge.
        let edge = f64::from(f32::MAX) * (1.0 + 1e-6);
        let both_large = truth.abs() > f64::from(f32::MAX) * (1.0 - 1e-6);
        return if both_large && truth.abs() < edge {
            0.0
        } else {
            f64::INFINITY
        };
    }
    match case.bound {
        Bound::Ulp(0.0) => f64::INFINITY,
        Bound::Ulp(bound) => distance / ulp(truth) / bound,
        Bound::UlpOr(bound, least) => distance / (ulp(truth) * bound).max(least),
        Bound::Absolute(bound) => distance / f64::from(x).abs().max(1.0) / bound,
    }
}

/// The distance of neighbouring f32 around `x`.
fn ulp(x: f64) -> f64 {
    2f64.powf(x.abs().log2().floor().max(-126.0) - 23.0)
}

/// Checks the floats whose bits are `first`, `first + step`, and so on.
fn check(case: &Case, first: u64, step: u64, best: bool) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    let mut bits = first;
    while bits < 1 << 32 {
        let x: Vec<f32> = (0..4096u64)
            .map(|i| f32::from_bits((bits + i * step).min(u64::from(u32::MAX)) as u32))
            .collect();
        for (&x, got) in x.iter().zip(apply(case.function, &x, best)) {
            let excess = excess(case, x, got);
            if excess > worst.0 {
                worst = (excess, x);
            }
        }
        bits += 4096 * step;
    }
    worst
}

#[test]
fn a_part_of_every_f32() {
    for case in &CASES {
        for best in [true, false] {
            let (worst, x) = check(case, 0, 4099, best);
            assert!(
                worst <= 1.0,
                "{:?}({x:e}) is {worst} times its bound off",
                case.function
            );
        }
    }
}

#[test]
#[ignore = "ten minutes"]
fn every_f32() {
    // a name or two, to check only what was changed
    let only = std::env::var("ONLY").unwrap_or_default();
    let chosen = |case: &&Case| {
        let name = format!("{:?}", case.function);
        only.split(',').any(|part| name.contains(part))
    };
    for case in CASES.iter().filter(chosen) {
        let halves = std::thread::scope(|scope| {
            let half = |first| scope.spawn(move || check(case, first, 2, true));
            let halves = [half(0), half(1)];
            halves.map(|half| half.join().unwrap())
        });
        let (worst, x) = if halves[0].0 > halves[1].0 {
            halves[0]
        } else {
            halves[1]
        };
        println!("{:?}: {worst:.3} of its bound, at {x:e}", case.function);
        assert!(
            worst <= 1.0,
            "{:?}({x:e}) is {worst} times its bound off",
            case.function
        );
    }
}

#[test]
fn special_values() {
    let inf = f32::INFINITY;
    let cases: [(UnaryOp, f32, f32); 14] = [
        (UnaryOp::Exp, -inf, 0.0),
        (UnaryOp::Exp, inf, inf),
        (UnaryOp::Exp, -103.0, 1e-45),
        (UnaryOp::Log, 0.0, -inf),
        (UnaryOp::Log, inf, inf),
        (UnaryOp::Log, 1e-45, -103.278_93),
        (UnaryOp::Tanh, -inf, -1.0),
        (UnaryOp::Tanh, 1e-45, 1e-45),
        (UnaryOp::Erf, inf, 1.0),
        (UnaryOp::Sigmoid, -inf, 0.0),
        (UnaryOp::Sign, -0.0, 0.0),
        (UnaryOp::Relu, f32::NAN, 0.0),
        (UnaryOp::Round, -0.5, -1.0),
        (UnaryOp::Round, 0.499_999_97, 0.0),
    ];
    for (op, x, expected) in cases {
        assert_eq!(
            apply(Function::Unary(op), &[x], true),
            [expected],
            "{op:?}({x})"
        );
    }
    for op in [UnaryOp::Sin, UnaryOp::Cos] {
        assert!(
            apply(Function::Unary(op), &[inf], true)[0].is_nan(),
            "{op:?}"
        );
    }
    for op in [
        UnaryOp::Sin,
        UnaryOp::Tanh,
        UnaryOp::Erf,
        UnaryOp::Floor,
        UnaryOp::Round,
    ] {
        assert!(
            apply(Function::Unary(op), &[-0.0], true)[0].is_sign_negative(),
            "{op:?}(-0)"
        );
    }
    for op in [
        UnaryOp::Exp,
        UnaryOp::Log,
        UnaryOp::Tanh,
        UnaryOp::Erf,
        UnaryOp::Sin,
        UnaryOp::Gelu,
    ] {
        assert!(
            apply(Function::Unary(op), &[f32::NAN], true)[0].is_nan(),
            "{op:?}"
        );
    }
    assert!(apply(Function::Unary(UnaryOp::Log), &[-1.0], true)[0].is_nan());
}

/// The place of an element in a tile makes no difference.
#[test]
fn every_lane_is_the_same() {
    let x: Vec<f32> = (0..100).map(|i| (i as f32 - 50.0) / 7.0).collect();
    for case in &CASES {
        let together = apply(case.function, &x, true);
        for (i, &x) in x.iter().enumerate() {
            let alone = apply(case.function, &[x], true)[0];
            assert_eq!(
                alone.to_bits(),
                together[i].to_bits(),
                "{:?}({x})",
                case.function
            );
        }
    }
}
