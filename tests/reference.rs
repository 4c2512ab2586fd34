//! Results that neither Candle nor candlewick computed: `tests/reference/make.py` made them with
//! NumPy and SciPy in f64. Every case runs twice: with the default passes, and through Candle
//! operation by operation.

use candlewick::{D, DType, Device, Executor, LazyTensor, Passes, Tensor};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

/// How far a result may be off.
#[derive(Clone, Copy, Debug)]
enum Off {
    /// Not at all; of two NaNs either, and of two zeros either.
    Exact,
    /// In units in the last place, or so far from zero in absolute numbers: functions of one
    /// number, whose error `src/device/cpu/math.rs` and Candle's libraries state.
    Ulp(f64, f64),
    /// In parts of the tensor's largest element: sums, whose error grows with their length.
    Part(f64),
    /// The same, with fusion and without.
    Parts(f64, f64),
}

use Off::{Exact, Part, Parts, Ulp};

/// The inputs of a case, and which tensors of the file were asked for.
struct Inputs<'a> {
    case: &'a str,
    vectors: &'a HashMap<String, Tensor>,
    used: &'a RefCell<BTreeSet<String>>,
}

impl Inputs<'_> {
    fn tensor(&self, name: &str) -> &Tensor {
        let key = format!("{}/{name}", self.case);
        let tensor = self.vectors.get(&key);
        self.used.borrow_mut().insert(key.clone());
        tensor.unwrap_or_else(|| panic!("no {key} in the file"))
    }
    fn get(&self, name: &str) -> LazyTensor {
        LazyTensor::from(self.tensor(name))
    }
    fn x(&self) -> LazyTensor {
        self.get("x")
    }
    fn y(&self) -> LazyTensor {
        self.get("y")
    }
}

type Run = fn(&Inputs<'_>) -> candlewick::Result<LazyTensor>;

/// Candle's GELU subtracts nearly equal numbers for large negative arguments, and so does ours.
const TAIL: Off = Ulp(16.0, 2e-6);

const CASES: &[(&str, Off, Run)] = &[
    ("exp", Ulp(2.0, 0.0), |i| i.x().exp()),
    ("log", Ulp(2.0, 0.0), |i| i.x().log()),
    ("sin", Ulp(2.0, 0.0), |i| i.x().sin()),
    ("cos", Ulp(2.0, 0.0), |i| i.x().cos()),
    ("tanh", Ulp(3.0, 0.0), |i| i.x().tanh()),
    ("erf", Ulp(8.0, 0.0), |i| i.x().erf()),
    // Candle's underflows where ours is denormal
    ("sigmoid", Ulp(4.0, 1e-38), |i| i.x().sigmoid()),
    ("silu", Ulp(4.0, 1e-36), |i| i.x().silu()),
    ("gelu", TAIL, |i| i.x().gelu()),
    ("gelu_erf", TAIL, |i| i.x().gelu_erf()),
    // Candle subtracts one from the exponential
    ("elu", Ulp(4.0, 6e-8), |i| i.x().elu(0.7)),
    ("relu", Exact, |i| i.x().relu()),
    ("sqrt", Exact, |i| i.x().sqrt()),
    ("recip", Exact, |i| i.x().recip()),
    ("sign", Exact, |i| i.x().sign()),
    ("floor", Exact, |i| i.x().floor()),
    ("ceil", Exact, |i| i.x().ceil()),
    ("round", Exact, |i| i.x().round()),
    ("powf", Ulp(2.0, 0.0), |i| i.x().powf(2.5)),
    ("clamp", Exact, |i| i.x().clamp(-1.25, 3.0)),
    ("broadcast_sub", Ulp(0.5, 0.0), |i| {
        i.x().broadcast_sub(&i.y())
    }),
    ("broadcast_div", Ulp(0.5, 0.0), |i| {
        i.x().broadcast_div(&i.y())
    }),
    ("maximum", Exact, |i| i.x().maximum(&i.y())),
    ("int_div", Exact, |i| &i.x() / &i.y()),
    ("lt", Exact, |i| i.x().lt(&i.y())),
    ("where_cond", Exact, |i| {
        i.get("c").where_cond(&i.x(), &i.y())
    }),
    ("softmax_offset", Part(2e-6), |i| i.x().softmax(D::Minus1)),
    ("softmax_masked", Part(1e-6), |i| i.x().softmax_last_dim()),
    ("softmax_middle", Part(1e-6), |i| i.x().softmax(1)),
    ("log_softmax", Part(1e-6), |i| i.x().log_softmax(1)),
    ("layer_norm", Part(1e-6), |i| {
        i.x().layer_norm(&i.get("alpha"), &i.get("beta"), 1e-5)
    }),
    // a mean of 300 times the deviation, which f32 rounds by 1.5e-5 of it; Candle takes the
    // variance as a difference of squares
    ("layer_norm_far", Parts(4e-5, 5e-2), |i| {
        i.x().layer_norm(&i.get("alpha"), &i.get("beta"), 1e-5)
    }),
    ("rms_norm", Part(1e-6), |i| {
        i.x().rms_norm(&i.get("alpha"), 1e-5)
    }),
    ("rms_norm_far", Part(1e-6), |i| {
        i.x().rms_norm(&i.get("alpha"), 1e-5)
    }),
    ("var", Part(1e-6), |i| i.x().var(1)),
    ("mean", Part(1e-6), |i| i.x().mean((0, 2))),
    ("sum_keepdim", Part(1e-6), |i| i.x().sum_keepdim(1)),
    ("max", Exact, |i| i.x().max(2)),
    ("min_keepdim", Exact, |i| i.x().min_keepdim(0)),
    ("argmax", Exact, |i| i.x().argmax(1)),
    ("argmin", Exact, |i| i.x().argmin(0)),
    ("argsort", Exact, |i| i.x().arg_sort_last_dim(true)),
    ("broadcast_matmul", Part(1e-6), |i| {
        i.x().broadcast_matmul(&i.y())
    }),
    ("matmul_transposed", Part(1e-6), |i| {
        i.x().t()?.matmul(&i.y())
    }),
    ("lora", Part(1e-6), |i| {
        i.x().lora(&i.get("a"), &i.get("b"), 0.5)
    }),
    ("conv2d", Part(1e-6), |i| {
        i.x().conv2d(&i.get("k"), 1, 2, 1, 2)
    }),
    ("conv2d_dilated", Part(1e-6), |i| {
        i.x().conv2d(&i.get("k"), 2, 1, 2, 2)
    }),
    ("conv1d", Part(1e-6), |i| {
        i.x().conv1d(&i.get("k"), 1, 2, 1, 1)
    }),
    ("max_pool2d", Exact, |i| {
        i.x().max_pool2d_with_stride((3, 2), (2, 2))
    }),
    ("avg_pool2d", Part(1e-6), |i| {
        i.x().avg_pool2d_with_stride((3, 2), (2, 2))
    }),
    ("upsample_nearest2d", Exact, |i| {
        i.x().upsample_nearest2d(18, 12)
    }),
    ("embedding", Exact, |i| {
        i.get("table").embedding(&i.get("ids"))
    }),
    ("index_select", Exact, |i| {
        i.x().index_select(&i.get("ids"), 1)
    }),
    ("gather", Exact, |i| i.x().gather(&i.get("ids"), 1)),
    ("scatter_add", Part(1e-6), |i| {
        i.x().scatter_add(&i.get("ids"), &i.get("source"), 1)
    }),
    ("index_add", Part(1e-6), |i| {
        let ones = LazyTensor::ones((6, 5), DType::F32, &Device::Cpu)?;
        i.x().index_add(&i.get("ids"), &ones, 0)
    }),
    ("rope", Part(1e-6), |i| {
        i.x().rope(&i.get("cos"), &i.get("sin"))
    }),
    ("rope_i", Part(1e-6), |i| {
        i.x().rope_i(&i.get("cos"), &i.get("sin"))
    }),
    ("to_u8", Exact, |i| i.x().to_dtype(DType::U8)),
    ("to_i64", Exact, |i| i.x().to_dtype(DType::I64)),
    ("to_f16", Exact, |i| {
        i.x().to_dtype(DType::F16)?.to_dtype(DType::F32)
    }),
    ("permute", Exact, |i| i.x().permute((2, 0, 1))),
    ("narrow_cat", Exact, |i| {
        let x = i.x();
        LazyTensor::cat(&[&x.narrow(1, 1, 2)?, &x.narrow(1, 3, 1)?], 1)
    }),
    ("pad_repeat", Exact, |i| {
        i.x().pad_with_zeros(1, 1, 2)?.repeat((2, 1, 1))
    }),
];

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.flatten_all().unwrap().to_dtype(DType::F64);
    tensor.unwrap().to_vec1().unwrap()
}

/// The distance of neighbouring f32 around `x`.
fn ulp(x: f64) -> f64 {
    2f64.powf(x.abs().log2().floor().max(-126.0) - 23.0)
}

fn compare(case: &str, off: Off, got: &Tensor, expected: &Tensor) -> Result<(), String> {
    if (got.dims(), got.dtype()) != (expected.dims(), expected.dtype()) {
        return Err(format!("{case}: {got:?} is not like {expected:?}"));
    }
    let (got, expected) = (numbers(got), numbers(expected));
    let finite = expected.iter().filter(|x| x.is_finite());
    let largest = finite.fold(0f64, |most, x| most.max(x.abs()));
    for (i, (&g, &e)) in got.iter().zip(&expected).enumerate() {
        // the file's numbers are rounded: half a place more
        let allowed = match off {
            Exact => 0.0,
            Ulp(places, least) => ((places + 0.5) * ulp(e)).max(least),
            Part(part) | Parts(part, _) => part * largest,
        };
        let same = g == e || g.is_nan() && e.is_nan();
        // not if one of them is NaN or infinite
        let close = e.is_finite() && (g - e).abs() <= allowed;
        if !same && !close {
            return Err(format!("{case}[{i}]: {g:e} is not {e:e} within {off:?}"));
        }
    }
    Ok(())
}

#[test]
fn results_agree_with_numpy_and_scipy() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/reference/vectors.safetensors"
    );
    let vectors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let used = RefCell::new(BTreeSet::new());
    let mut wrong = Vec::new();
    for passes in [Passes::ALL, Passes::NONE] {
        let executor = Executor::builder(&Device::Cpu)
            .passes(passes)
            .build()
            .unwrap();
        for &(case, off, run) in CASES {
            let inputs = Inputs {
                case,
                vectors: &vectors,
                used: &used,
            };
            let result = executor.submit(&run(&inputs).unwrap()).unwrap().wait();
            let result = result.unwrap_or_else(|error| panic!("{case}: {error}"));
            let off = match off {
                Parts(fused, candle) => Part(if passes.fuse { fused } else { candle }),
                off => off,
            };
            let verdict = compare(case, off, &result, inputs.tensor("expected"));
            wrong.extend(verdict.err().map(|what| format!("{passes:?}: {what}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (used, all) = (
        used.into_inner(),
        vectors.into_keys().collect::<BTreeSet<_>>(),
    );
    assert_eq!(used, all, "each tensor of the file belongs to a case");
}
