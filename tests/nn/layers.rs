//! Each layer beside Candle's.

use super::{CPU, FLOATS, close, random, run, same, weights};
use candlewick::nn::{self, Activation, Module};
use candlewick::{DType, LazyTensor, Result};

#[test]
fn linear_layers() -> Result<()> {
    for dtype in FLOATS {
        let (ours, theirs) = weights(dtype, &[("weight", &[7, 5]), ("bias", &[7])]);
        let inputs: &[&[usize]] = &[&[1, 5], &[3, 5], &[2, 3, 5], &[2, 2, 3, 5], &[0, 5]];
        same(
            &nn::linear(5, 7, ours.clone())?,
            &candle_nn::linear(5, 7, theirs.clone()).expect("exists"),
            dtype,
            inputs,
        );
        same(
            &nn::linear_no_bias(5, 7, ours.clone())?,
            &candle_nn::linear_no_bias(5, 7, theirs).expect("exists"),
            dtype,
            inputs,
        );
        // one row without a batch, and ranks that Candle does not take
        let layer = nn::linear(5, 7, ours)?;
        let row = random(&[1, 5], dtype);
        let expected = run(&layer.forward(&LazyTensor::from(&row))?);
        for dims in [&[5][..], &[1, 1, 1, 1, 5]] {
            let x = LazyTensor::from(&row).reshape(dims)?;
            let y = layer.forward(&x)?;
            assert_eq!(y.rank(), dims.len());
            close(
                &run(&y.flatten_all()?),
                &expected.flatten_all().expect("one row"),
            );
        }
    }
    Ok(())
}

#[test]
fn a_transposed_input_is_taken() -> Result<()> {
    let (ours, theirs) = weights(DType::F32, &[("weight", &[7, 5]), ("bias", &[7])]);
    let x = random(&[2, 5, 3], DType::F32);
    let layer = candle_nn::linear(5, 7, theirs).expect("exists");
    // laid out in order: Candle's layer multiplies a batch of other layouts by other weights
    let expected = x
        .t()
        .and_then(|x| candle_nn::Module::forward(&layer, &x.contiguous()?));
    let y = nn::linear(5, 7, ours)?.forward(&LazyTensor::from(x).t()?)?;
    close(&run(&y), &expected.expect("Candle takes it"));
    Ok(())
}

#[test]
fn embeddings() -> Result<()> {
    for dtype in FLOATS {
        let (ours, theirs) = weights(dtype, &[("weight", &[11, 4])]);
        let layer = nn::embedding(11, 4, ours)?;
        let other = candle_nn::embedding(11, 4, theirs).expect("exists");
        let ids = candlewick::Tensor::new(&[[1u32, 0, 10], [10, 3, 3]], &CPU).expect("ids");
        let expected = candle_nn::Module::forward(&other, &ids).expect("in range");
        close(&run(&layer.forward(&LazyTensor::from(ids))?), &expected);
    }
    Ok(())
}

#[test]
fn norms() -> Result<()> {
    let inputs: &[&[usize]] = &[&[6], &[4, 6], &[2, 3, 6]];
    for dtype in FLOATS {
        let (ours, theirs) = weights(dtype, &[("weight", &[6]), ("bias", &[6])]);
        let layer = nn::layer_norm(6, 1e-5, ours.clone())?;
        let other = candle_nn::layer_norm(6, 1e-5, theirs.clone()).expect("exists");
        let (rms, other_rms) = (
            nn::rms_norm(6, 1e-6, ours.clone())?,
            candle_nn::rms_norm(6, 1e-6, theirs.clone()).expect("exists"),
        );
        if dtype == DType::F64 {
            // Candle's own operations have no f64; in f32 the values are the same to its precision
            for dims in inputs {
                let x = random(dims, dtype);
                let narrow = |t: &candlewick::Tensor| t.to_dtype(DType::F32).expect("a float");
                let weight = |l: &LazyTensor| LazyTensor::from(narrow(&run(l)));
                let f32s = nn::LayerNorm::new(
                    weight(layer.weight()),
                    weight(layer.bias().expect("affine")),
                    1e-5,
                );
                let y = run(&layer.forward(&LazyTensor::from(&x))?);
                let expected = run(&f32s.forward(&LazyTensor::from(narrow(&x)))?);
                close(&narrow(&y), &expected);
                let f32s = nn::RmsNorm::new(weight(rms.weight()), 1e-6);
                let y = run(&rms.forward(&LazyTensor::from(&x))?);
                close(
                    &narrow(&y),
                    &run(&f32s.forward(&LazyTensor::from(narrow(&x)))?),
                );
            }
        } else {
            same(&layer, &other, dtype, inputs);
            same(&rms, &other_rms, dtype, inputs);
        }
        same(
            &nn::layer_norm_no_bias(6, 1e-5, ours.clone())?,
            &candle_nn::layer_norm_no_bias(6, 1e-5, theirs.clone()).expect("exists"),
            dtype,
            inputs,
        );
        // a bias without taking the mean off: of no name of its own, but of one configuration
        let config = nn::LayerNormConfig {
            remove_mean: false,
            ..Default::default()
        };
        let same_config = candle_nn::LayerNormConfig {
            remove_mean: false,
            ..Default::default()
        };
        same(
            &nn::layer_norm(6, config, ours)?,
            &candle_nn::layer_norm(6, same_config, theirs).expect("exists"),
            dtype,
            inputs,
        );
    }
    Ok(())
}

#[test]
fn norms_by_their_older_names() -> Result<()> {
    let (ours, theirs) = weights(DType::F32, &[("gamma", &[6]), ("beta", &[6])]);
    let other = candle_nn::layer_norm(6, 1e-12, theirs).expect("exists");
    same(
        &nn::layer_norm(6, 1e-12, ours)?,
        &other,
        DType::F32,
        &[&[2, 6]],
    );
    Ok(())
}

#[test]
fn convolutions() -> Result<()> {
    let config = nn::Conv1dConfig {
        padding: 2,
        stride: 2,
        dilation: 1,
        groups: 2,
    };
    let same_config = candle_nn::Conv1dConfig {
        padding: 2,
        stride: 2,
        dilation: 1,
        groups: 2,
        ..Default::default()
    };
    for dtype in FLOATS {
        let (ours, theirs) = weights(dtype, &[("weight", &[6, 2, 3]), ("bias", &[6])]);
        same(
            &nn::conv1d(4, 6, 3, config, ours.clone())?,
            &candle_nn::conv1d(4, 6, 3, same_config, theirs.clone()).expect("exists"),
            dtype,
            &[&[1, 4, 9], &[2, 4, 5]],
        );
        same(
            &nn::conv1d_no_bias(4, 6, 3, config, ours)?,
            &candle_nn::conv1d_no_bias(4, 6, 3, same_config, theirs).expect("exists"),
            dtype,
            &[&[2, 4, 5]],
        );
        if dtype == DType::BF16 {
            continue; // Candle's two-dimensional convolution has none
        }
        let (ours, theirs) = weights(dtype, &[("weight", &[5, 4, 3, 3]), ("bias", &[5])]);
        let two = nn::Conv2dConfig::default();
        same(
            &nn::conv2d(4, 5, 3, two, ours.clone())?,
            &candle_nn::conv2d(4, 5, 3, Default::default(), theirs.clone()).expect("exists"),
            dtype,
            &[&[1, 4, 7, 6], &[2, 4, 3, 3]],
        );
        same(
            &nn::conv2d_no_bias(4, 5, 3, two, ours)?,
            &candle_nn::conv2d_no_bias(4, 5, 3, Default::default(), theirs).expect("exists"),
            dtype,
            &[&[1, 4, 7, 6]],
        );
    }
    Ok(())
}

/// Both libraries' activations, pair by pair.
fn activations() -> Vec<(Activation, candle_nn::Activation)> {
    use candle_nn::Activation as Theirs;
    vec![
        (Activation::Gelu, Theirs::Gelu),
        (Activation::NewGelu, Theirs::NewGelu),
        (Activation::Relu, Theirs::Relu),
        (Activation::Relu2, Theirs::Relu2),
        (Activation::Relu6, Theirs::Relu6),
        (Activation::Silu, Theirs::Silu),
        (Activation::Sigmoid, Theirs::Sigmoid),
        (Activation::HardSigmoid, Theirs::HardSigmoid),
        (Activation::Swiglu, Theirs::Swiglu),
        (Activation::Swish, Theirs::Swish),
        (Activation::Mish, Theirs::Mish),
        (Activation::HardSwish, Theirs::HardSwish),
        (Activation::Elu(1.5), Theirs::Elu(1.5)),
        (Activation::LeakyRelu(0.2), Theirs::LeakyRelu(0.2)),
        (Activation::GeluPytorchTanh, Theirs::GeluPytorchTanh),
    ]
}

#[test]
fn activation_functions() {
    for (ours, theirs) in activations() {
        for dtype in FLOATS {
            same(&ours, &theirs, dtype, &[&[4, 6], &[2, 3, 2]]);
        }
    }
}

#[test]
fn activations_have_candles_names() {
    for (ours, theirs) in activations() {
        // as Candle writes it into a configuration: a name, or a name with a number
        let written = serde_json::to_value(theirs).expect("a name");
        let name = match &written {
            serde_json::Value::String(name) => name.clone(),
            serde_json::Value::Object(map) => {
                let (name, number) = map.iter().next().expect("one entry");
                format!("{name}({number})")
            }
            other => panic!("{other}"),
        };
        assert_eq!(ours.to_string(), name);
        assert_eq!(name.parse(), Ok(ours));
    }
    for alias in ["gelu", "gelu_new", "gelu_pytorch_tanh"] {
        let json = serde_json::Value::from(alias);
        let theirs: candle_nn::Activation = serde_json::from_value(json).expect("an alias");
        let ours: Activation = alias.parse().expect("an alias");
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }
    assert!("Gelu".parse::<Activation>().is_err());
    assert!("elu".parse::<Activation>().is_err(), "lacks its number");
}

#[test]
fn sequences_of_modules() -> Result<()> {
    let (ours, theirs) = weights(
        DType::F32,
        &[
            ("a.weight", &[8, 5]),
            ("a.bias", &[8]),
            ("b.weight", &[3, 8]),
            ("b.bias", &[3]),
        ],
    );
    let layers = nn::seq()
        .add(nn::linear(5, 8, ours.pp("a"))?)
        .add(nn::Dropout::new(0.5))
        .add(Activation::Gelu)
        .add(nn::linear(8, 3, ours.pp("b"))?)
        .add_fn(|xs| xs.softmax(candlewick::D::Minus1));
    let same_layers = candle_nn::seq()
        .add(candle_nn::linear(5, 8, theirs.pp("a")).expect("exists"))
        .add(candle_nn::Activation::Gelu)
        .add(candle_nn::linear(8, 3, theirs.pp("b")).expect("exists"))
        .add_fn(|xs| candle_nn::ops::softmax(xs, candle_core::D::Minus1));
    same(&layers, &same_layers, DType::F32, &[&[2, 5]]);

    assert_eq!(layers.len(), 5);
    let x = LazyTensor::from(random(&[2, 5], DType::F32));
    let all = layers.forward_all(&x)?;
    let shapes: Vec<_> = all.iter().map(|y| y.dims().to_vec()).collect();
    assert_eq!(shapes, [[2, 8], [2, 8], [2, 8], [2, 3], [2, 3]]);
    close(&run(&all[4]), &run(&layers.forward(&x)?));
    // no module is the identity
    assert_eq!(x.apply(&None::<&Activation>)?.dims(), x.dims());
    assert!(nn::seq().is_empty());
    close(&run(&nn::seq().forward(&x)?), &run(&x));
    Ok(())
}

#[test]
fn what_a_layer_cannot_take_is_refused_at_the_call() -> Result<()> {
    let (ours, _) = weights(
        DType::F32,
        &[("weight", &[7, 5]), ("bias", &[7]), ("short", &[3])],
    );
    let x = |dims: &[usize], dtype| LazyTensor::zeros(dims, dtype, &CPU);
    let layer = nn::linear(5, 7, ours.clone())?;
    let says = |y: Result<LazyTensor>, text: &str| {
        assert_eq!(y.unwrap_err().to_string(), text);
    };
    says(
        layer.forward(&x(&[2, 4], DType::F32)?),
        "linear([2, 4] f32, [7, 5] f32, [7] f32): the shapes do not agree",
    );
    says(
        layer.forward(&x(&[], DType::F32)?),
        "linear([] f32, [7, 5] f32): the shapes do not agree",
    );
    let dtypes = layer.forward(&x(&[2, 5], DType::F64)?).unwrap_err();
    assert!(dtypes.to_string().starts_with("matmul("), "{dtypes}");
    let wrong = nn::Linear::new(layer.weight().clone(), Some(ours.get(3, "short")?));
    assert!(wrong.forward(&x(&[2, 5], DType::F32)?).is_err());
    let norm = nn::LayerNorm::new_no_bias(ours.get(3, "short")?, 1e-5);
    says(
        norm.forward(&x(&[2, 4], DType::F32)?),
        "layer_norm([2, 4] f32, [3] f32): the shapes do not agree",
    );
    let table = nn::Embedding::new(layer.weight().clone(), 6);
    assert!(table.forward(&x(&[2], DType::U32)?).is_err(), "rows of 5");
    let groups = nn::Conv1dConfig {
        groups: 3,
        ..Default::default()
    };
    says(
        nn::conv1d(4, 6, 3, groups, ours).map(|layer| layer.weight().clone()),
        "conv1d(): groups must be at least 1, and a divisor of the channels",
    );
    let odd = Activation::Swiglu.forward(&x(&[2, 3], DType::F32)?);
    assert!(odd.is_err());
    Ok(())
}
