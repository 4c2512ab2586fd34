//! Weights by path.

use super::{CPU, random};
use candlewick::nn::{VarBuilder, linear, linear_b};
use candlewick::{DType, Error, Params, ParamsError};

fn builder() -> VarBuilder {
    let params = Params::from_map([
        ("bert.layer.0.weight", random(&[3, 2], DType::F32)),
        ("bert.layer.0.bias", random(&[3], DType::F32)),
        ("ids", random(&[2], DType::F32)),
    ]);
    VarBuilder::from_params(&params.expect("names differ"))
}

#[test]
fn paths_are_walked_and_left() -> candlewick::Result<()> {
    let root = builder();
    let layer = root.pp("bert").pp("layer").pp(0);
    assert_eq!(layer.prefix(), "bert.layer.0");
    assert_eq!(root.pp("bert.layer.0").prefix(), layer.prefix());
    assert!(layer.contains_tensor("weight") && !root.contains_tensor("weight"));
    assert!(!root.contains_tensor("bert"), "a path is no tensor");
    assert!(layer.root().contains_tensor("ids"));
    assert_eq!(layer.get((3, 2), "weight")?.dims(), [3, 2]);
    assert_eq!(layer.get_unchecked("bias")?.dims(), [3]);
    assert!(layer.device().is_cpu());
    Ok(())
}

#[test]
fn errors_name_the_full_path_and_both_shapes() {
    let layer = builder().pp("bert.layer").pp(0);
    let shape = linear(3, 2, layer.clone()).unwrap_err();
    assert_eq!(
        shape.to_string(),
        "parameter \"bert.layer.0.weight\" is [3, 2], not [2, 3]"
    );
    let missing = layer.pp("dense").get(4, "weight").unwrap_err();
    assert_eq!(
        missing.to_string(),
        "no parameter is named \"bert.layer.0.dense.weight\""
    );
    let Error::Params(missing) = missing else {
        panic!("{missing:?}");
    };
    assert!(matches!(*missing, ParamsError::Unknown { .. }));
}

#[test]
fn a_dtype_is_converted_on_request_and_shared_otherwise() -> Result<(), Box<dyn std::error::Error>>
{
    let layer = builder().pp("bert.layer.0");
    assert_eq!(layer.dtype(), None);
    let half = layer.with_dtype(DType::F16);
    assert_eq!(half.dtype(), Some(DType::F16));
    let made = linear_b(2, 3, true, half)?;
    assert_eq!(made.weight().dtype(), DType::F16);
    assert_eq!(made.bias().expect("asked for").dtype(), DType::F16);
    let expected = random(&[3, 2], DType::F32).to_dtype(DType::F16)?;
    assert_eq!(
        super::run(made.weight()).to_vec2::<half::f16>()?,
        expected.to_vec2::<half::f16>()?
    );
    // a snapshot's parameter is one leaf for all who get it: two of them are one parameter of a plan
    let (a, b) = (layer.get(3, "bias")?, layer.get(3, "bias")?);
    let executor = candlewick::Executor::new(&CPU)?;
    let plan = executor.explain(&(&a + &b)?)?.to_string();
    let other = candlewick::LazyTensor::from(&random(&[3], DType::F32));
    assert_ne!(plan, executor.explain(&(&a + &other)?)?.to_string());
    Ok(())
}

#[test]
fn a_layer_keeps_its_version() -> Result<(), Box<dyn std::error::Error>> {
    let one = |x: f32| candlewick::Tensor::new(&[[x]], &CPU);
    let params = Params::from_map([("weight", one(2.0)?)])?;
    let old = linear_b(1, 1, false, VarBuilder::from_params(&params))?;
    params.update([("weight", one(3.0)?)])?;
    let new = linear_b(1, 1, false, VarBuilder::from_params(&params))?;
    let x = candlewick::LazyTensor::from(one(10.0)?);
    assert_eq!(super::run(&x.apply(&old)?).to_vec2::<f32>()?, [[20.0]]);
    assert_eq!(super::run(&x.apply(&new)?).to_vec2::<f32>()?, [[30.0]]);
    Ok(())
}
