//! The sweep: what Candle computes is accepted and comes out the same, bit for bit; what it
//! refuses or panics over is refused at the call.

use super::cases::{Case, In, elementwise, empties, products, reductions, shapes};
use super::harness::{DTYPES, close, layouts, numbers, run, same};
use crate::graph::LazyTensor;
use candle_core::{DType, Device, Tensor};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What became of a call.
enum Outcome {
    Value(Tensor),
    Refused(String),
    Panicked,
}

fn guard<E: std::fmt::Display>(f: impl FnOnce() -> std::result::Result<Tensor, E>) -> Outcome {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => Outcome::Value(value),
        Ok(Err(error)) => Outcome::Refused(error.to_string()),
        Err(_) => Outcome::Panicked,
    }
}

fn operands(case: &Case, dtype: DType) -> Vec<Tensor> {
    let ids = |shape: &[usize], max: u32| {
        let count = shape.iter().product::<usize>() as u32;
        Tensor::from_vec(
            (0..count).map(|i| i * 3 % max).collect(),
            shape,
            &Device::Cpu,
        )
    };
    (case.inputs.iter().enumerate())
        .map(|(salt, input)| match *input {
            In::Any(shape) => numbers(shape, dtype, salt),
            In::Of(shape, dtype) => numbers(shape, dtype, salt),
            In::Ids(shape, dtype, max) => ids(shape, max)
                .and_then(|x| x.to_dtype(dtype))
                .expect("integers"),
        })
        .collect()
}

/// Compares one case for one dtype and one set of operands. Says what is wrong.
fn compare(case: &Case, inputs: &[Tensor], plain: &[Tensor]) -> std::result::Result<(), String> {
    let lazy: Vec<LazyTensor> = inputs.iter().map(LazyTensor::from).collect();
    let built =
        catch_unwind(AssertUnwindSafe(|| (case.lazy)(&lazy))).map_err(|_| "the call panicked")?;
    let plain_is_empty = case.name.starts_with("empty");
    let eager = guard(|| (case.eager)(inputs));
    let plain = guard(|| (case.eager)(plain));
    match (built, plain) {
        (Ok(lazy), Outcome::Value(plain)) => {
            let lazy = match guard(|| run(&lazy).map_err(|e| format!("{e:?}"))) {
                Outcome::Value(lazy) => lazy,
                Outcome::Refused(e) => return Err(format!("failed: {e}")),
                Outcome::Panicked => return Err("panicked while it ran".into()),
            };
            if !close(&lazy, &plain) {
                return Err(format!("lazy {lazy} is not {plain}"));
            }
            match eager {
                // where Candle is right in this layout, to the bit
                Outcome::Value(eager) if close(&eager, &plain) && !same(&lazy, &eager) => {
                    Err(format!("lazy {lazy} is not to the bit {eager}"))
                }
                _ => Ok(()),
            }
        }
        // without elements there is often an answer that Candle does not find
        (Ok(lazy), _) if plain_is_empty => match guard(|| run(&lazy).map_err(|e| format!("{e:?}")))
        {
            Outcome::Value(_) => Ok(()),
            Outcome::Refused(e) => Err(format!("failed: {e}")),
            Outcome::Panicked => Err("panicked while it ran".into()),
        },
        (Ok(lazy), Outcome::Refused(e)) => Err(format!("accepted as {lazy:?}; candle: {e}")),
        (Ok(lazy), Outcome::Panicked) => Err(format!("accepted as {lazy:?}; candle panics")),
        // Candle moves what it can only store as if it could compute with it
        (Err(_), Outcome::Value(x)) if DTYPES[10..].contains(&x.dtype()) => Ok(()),
        // nor does it look at the dtype where there is nothing to do
        (Err(e), Outcome::Value(_))
            if plain_is_empty && e.to_string().contains("not supported for") =>
        {
            Ok(())
        }
        (Err(e), Outcome::Value(_)) => Err(format!("refused: {e}")),
        (Err(_), _) => Ok(()),
    }
}

fn sweep(cases: &[Case]) {
    let mut wrong = Vec::new();
    let mut accepted = 0;
    for case in cases {
        for dtype in DTYPES {
            let plain = operands(case, dtype);
            let variants: Vec<Vec<_>> = plain.iter().map(layouts).collect();
            let most = variants.iter().map(Vec::len).max().unwrap_or(1);
            // every operand in the same layout, then one after the other
            let mut picks: Vec<Vec<usize>> = (0..most).map(|i| vec![i; plain.len()]).collect();
            for (k, variants) in variants.iter().enumerate() {
                picks.extend((1..variants.len()).map(|i| {
                    let mut pick = vec![0; plain.len()];
                    pick[k] = i;
                    pick
                }));
            }
            for pick in picks {
                let chosen: Vec<_> = (pick.iter().zip(&variants))
                    .map(|(&i, v)| v[i.min(v.len() - 1)].clone())
                    .collect();
                let inputs: Vec<Tensor> = chosen.iter().map(|c| c.1.clone()).collect();
                match compare(case, &inputs, &plain) {
                    Ok(()) => accepted += 1,
                    Err(why) => {
                        let layouts: Vec<_> = chosen.iter().map(|c| c.0).collect();
                        wrong.push(format!("{} {dtype:?} {layouts:?}: {why}", case.name));
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        accepted + wrong.len(),
        wrong.join("\n")
    );
    assert!(accepted > 100);
}

#[test]
fn elementwise_operations() {
    sweep(&elementwise());
}

#[test]
fn reductions_and_sorting() {
    sweep(&reductions());
}

#[test]
fn products_and_images() {
    sweep(&products());
}

#[test]
fn shapes_and_indices() {
    sweep(&shapes());
}

#[test]
fn nothing_to_compute() {
    sweep(&empties());
}
