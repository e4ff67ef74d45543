//! Networks that are written in YAML alone.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use ndarray::IxDyn;
use shanty::base::{Elem, Result, Tensor, keyed};
use shanty::config::parse;
use shanty::nn::init::init_weights;
use shanty::nn::{BufferPool, Forward, Loss, Module, ModuleTree, Tape, named_modules};
use shanty::params::{HostParams, StateDict};
use shanty::registry::{BuildCx, Spec, entries};

fn build(yaml: &str) -> Result<Box<dyn Module>> {
    let spec: Spec<dyn Module> = parse("net.yaml", yaml)?.read()?;
    spec.build(&mut BuildCx::new(0))
}

fn shape(net: &mut dyn Module, input: &[usize]) -> Result<Vec<usize>> {
    let tape = Tape::without_grad(BufferPool::default());
    let mut rng = keyed(0, "test", 0, 0);
    let y = net.forward(tape.input(Tensor::zeros(IxDyn(input))), &mut Forward::new(false, &mut rng))?;
    Ok(y.shape())
}

const NET: &str = "
type: Sequential
layers:
  - {type: Conv2d, in_channels: 1, out_channels: 4, kernel_size: [3, 5], padding: [1, 2], bias: false}
  - {type: BatchNorm2d, num_features: 4, momentum: null}
  - {type: ReLU, inplace: true}
  - {type: MaxPool2d, kernel_size: 2}
  - type: Residual
    body:
      - {type: Conv2d, in_channels: 4, out_channels: 4, kernel_size: 3, padding: 1, groups: 2}
      - {type: LeakyReLU, negative_slope: 0.1}
    shortcut: {type: Identity}
  - {type: AdaptiveAvgPool2d, output_size: 2}
  - {type: Flatten}
  - {type: Dropout, p: 0.1}
  - {type: Linear, in_features: 16, out_features: 10}
";

#[test]
fn a_network_in_yaml() {
    let mut net = build(NET).unwrap();
    assert_eq!(shape(&mut *net, &[2, 1, 8, 8]).unwrap(), [2, 10]);
    let names: Vec<String> = StateDict::of(&*net).unwrap().0.into_iter().map(|(name, _)| name).collect();
    let wanted = [
        "0.weight",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
        "4.body.0.weight",
        "4.body.0.bias",
        "8.weight",
        "8.bias",
    ];
    assert_eq!(names, wanted);
}

/// As the reference reads it: a list where a module is expected.
#[test]
fn a_list_is_a_sequential() {
    let mut net = build("[{type: Linear, in_features: 3, out_features: 2}, {type: Tanh}]").unwrap();
    assert_eq!((net.type_name(), shape(&mut *net, &[4, 3]).unwrap()), ("Sequential", vec![4, 2]));
    let error =
        build("[{type: Linear, in_features: 3, out_features: 2}, {type: Tahn}]").err().unwrap().to_string();
    assert!(error.contains("unknown module `Tahn`") && error.contains("net.yaml:1:58"), "{error}");
}

fn row(values: &[Elem]) -> Tensor {
    Tensor::from_shape_vec(IxDyn(&[1, values.len()]), values.to_vec()).unwrap()
}

/// What a network of a config makes of rows of numbers, one an input.
fn of(yaml: &str, inputs: &[&[Elem]]) -> Result<Vec<Elem>> {
    let mut net = build(yaml)?;
    let tape = Tape::without_grad(BufferPool::default());
    let mut rng = keyed(0, "test", 0, 0);
    let xs: Vec<_> = inputs.iter().map(|values| tape.input(row(values))).collect();
    let y = net.forward_all(&xs, &mut Forward::new(false, &mut rng))?;
    Ok(y.value().iter().copied().collect())
}

#[test]
fn branches_are_joined_as_the_config_says() {
    let both = "branches: [{type: ReLU}, {type: Identity}]";
    let skip = |keys: &str| of(&format!("{{type: Concat, {both}{keys}}}"), &[&[-2.0, 3.0]]).unwrap();
    assert_eq!(skip(""), [0.0, 3.0, -2.0, 3.0]);
    assert_eq!(skip(", axis: -1"), skip(""));
    let pair = |keys: &str| of(&format!("{{type: Parallel, {both}{keys}}}"), &[&[-2.0, 3.0], &[5.0, 7.0]]);
    assert_eq!(pair("").unwrap(), [0.0, 3.0, 5.0, 7.0]);
    assert_eq!(pair(", join: sum").unwrap(), [5.0, 10.0]);
    assert_eq!(pair(", join: mul").unwrap(), [0.0, 21.0]);
    assert_eq!(pair(", join: concat, axis: 0").unwrap(), [0.0, 3.0, 5.0, 7.0]);
}

/// Several inputs find their way through any nesting whose first module takes them, by number too.
#[test]
fn several_inputs_reach_what_takes_them() {
    let (a, b): (&[Elem], &[Elem]) = (&[-1.0, 2.0], &[10.0, 20.0, 30.0]);
    for (yaml, wanted) in [
        ("[{type: Select, input: 1}]", &[10.0, 20.0, 30.0][..]),
        ("{type: Select, input: 1, channels: [2, 0]}", &[30.0, 10.0]),
        ("{type: Select, input: 1, channels: [1, 2]}", &[20.0, 30.0]),
        (
            "[[{type: Parallel, branches: {a: {type: ReLU}, b: {type: Select, channels: [1]}}}]]",
            &[0.0, 2.0, 20.0],
        ),
        (
            "{type: Concat, branches: [{type: Select, input: 1}, [{type: Select, input: 0}, {type: ReLU}], \
              {type: Select, input: 0}]}",
            &[10.0, 20.0, 30.0, 0.0, 2.0, -1.0, 2.0],
        ),
        (
            "{type: Residual, body: [{type: Select, input: 0}, {type: ReLU}], shortcut: {type: Select, input: 0}}",
            &[-1.0, 4.0],
        ),
        ("{type: Select, input: 0, init_cfg: {type: Constant, val: 1, layer: Linear}}", &[-1.0, 2.0]),
    ] {
        assert_eq!(of(yaml, &[a, b]).unwrap(), wanted, "{yaml}");
        assert!(build(yaml).unwrap().takes_several(), "{yaml}");
    }
    for yaml in
        ["{type: ReLU}", "[]", "[{type: ReLU}, {type: Select, input: 0}]", "{type: Select, channels: [0]}"]
    {
        assert!(!build(yaml).unwrap().takes_several(), "{yaml}");
    }
}

/// Names of the config are names of the tree.
#[test]
fn branches_and_layers_may_have_names() {
    let net = build(
        "
- type: Concat
  branches:
    skip: {type: Identity}
    deep: {type: Sequential, layers: {fc: {type: Linear, in_features: 2, out_features: 1}, act: {type: ReLU}}}
- {type: Linear, in_features: 3, out_features: 1, bias: false}
",
    )
    .unwrap();
    let names: Vec<String> = StateDict::of(&*net).unwrap().0.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["0.deep.fc.weight", "0.deep.fc.bias", "1.weight"]);
    let paths: Vec<String> = named_modules(&*net).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["", "0", "0.skip", "0.deep", "0.deep.fc", "0.deep.act", "1"]);
}

/// What does not fit names the module and the cure.
#[test]
fn inputs_that_do_not_fit_are_refused() {
    let (a, b): (&[Elem], &[Elem]) = (&[1.0, 2.0], &[3.0]);
    for (yaml, inputs, text) in [
        ("{type: ReLU}", &[a, b][..], "`ReLU` takes one input, and gets 2: `Parallel` has a branch for each"),
        ("[[{type: ReLU}]]", &[a, b], "`0.0`: `ReLU` takes one input, and gets 2"),
        ("[]", &[a, b], "gives its only input back"),
        ("{type: Parallel, branches: {a: {type: ReLU}}}", &[a, b], "each of 1 inputs (a), and gets 2"),
        (
            "[{type: Parallel, branches: [{type: ReLU}, {type: ReLU}]}]",
            &[a],
            "`0`: `Parallel` has a branch for each of 2",
        ),
        (
            "{type: Parallel, branches: [{type: ReLU}, {type: ReLU}], axis: 0}",
            &[a, b],
            "equal in all other axes",
        ),
        ("{type: Concat, branches: {s: {type: Identity}}, axis: 5}", &[a], "axis 5"),
        ("{type: Concat, branches: {s: {type: Identity}}}", &[a, b], "`s`: `Identity` takes one input"),
        ("{type: Select, input: 2}", &[a, b], "takes input 2, counted from 0, and gets 2"),
        (
            "{type: Select, channels: [1, 2]}",
            &[a],
            "no channel 2, counted from 0, in an input of shape [1, 2]",
        ),
        ("{type: Select, channels: [0]}", &[a, b], "say by `input` which"),
        ("{type: Residual, body: {type: Select, input: 0}}", &[a, b], "give it a `shortcut`"),
    ] {
        let error = of(yaml, inputs).unwrap_err().to_string();
        assert!(error.contains(text), "{yaml}: {error}");
    }
}

/// `init_cfg` belongs to any module, and the innermost wins.
#[test]
fn any_module_may_have_an_init_cfg() {
    let mut net = build(
        "
type: Sequential
init_cfg: {type: Constant, val: 2, layer: [Linear, _BatchNorm], bias: 1}
layers:
  - {type: Linear, in_features: 2, out_features: 2}
  - {type: BatchNorm1d, num_features: 2}
  - {type: Linear, in_features: 2, out_features: 2, init_cfg: [{type: Constant, val: 3, layer: Linear}]}
",
    )
    .unwrap();
    init_weights(&mut net, 0).unwrap();
    let mut found = Vec::new();
    net.visit(&mut |p| {
        if p.role.is_trained() {
            assert!(p.value.iter().all(|v| *v == p.value[vec![0; p.value.ndim()].as_slice()]), "{}", p.name);
            found.push((p.name.to_owned(), *p.value.first().unwrap()));
        }
    });
    let wanted = [
        ("0.weight", 2.0),
        ("0.bias", 1.0),
        ("1.weight", 2.0),
        ("1.bias", 1.0),
        ("2.weight", 3.0),
        ("2.bias", 0.0),
    ];
    assert_eq!(found, wanted.map(|(name, value)| (name.to_owned(), value)));
    assert_eq!(named_modules(&*net).len(), 4, "the init_cfg is no module of its own");
}

/// Mistakes are told with their places.
#[test]
fn mistakes() {
    for (yaml, texts) in [
        ("{type: Linear, in_features: 2, out_feature: 2}", ["`out_feature`", "out_features"]),
        (
            "{type: Conv2d, in_channels: 4, out_channels: 2, kernel_size: [1, 2, 3]}",
            ["expected one size or two", "net.yaml:1:"],
        ),
        (
            "{type: Conv2d, in_channels: 4, out_channels: 3, kernel_size: 1, groups: 2}",
            ["2 groups do not divide 4 input and 3 output channels", "net.yaml:1:"],
        ),
        ("{type: Dropout, p: 1.5}", ["1.5", "net.yaml:1:20"]),
        ("{type: Sequential}", ["layers", "net.yaml:1:"]),
        ("{type: Concat, branches: []}", ["`branches` is empty", "net.yaml:1:"]),
        ("{type: Parallel, branches: {}}", ["`branches` is empty", "net.yaml:1:"]),
        ("{type: Concat, branches: {a.b: {type: ReLU}}}", ["`a.b` cannot name a module", "net.yaml:1:27"]),
        ("{type: Sequential, layers: {a.b: {type: ReLU}}}", ["`a.b` cannot name a module", "net.yaml:1:29"]),
        ("{type: Concat, branches: {a: {type: Relu}, b: 3}}", ["`Relu`", "this is a"]),
        ("{type: Parallel, branches: [{type: ReLU}], join: add}", ["`add`", "net.yaml:1:50"]),
        ("{type: Select}", ["`input` or `channels`", "net.yaml:1:"]),
        ("{type: Select, input: -1}", ["-1", "net.yaml:1:23"]),
        ("{type: ReLU, init_cfg: {type: Kaimin}}", ["unknown initializer `Kaimin`", "Kaiming"]),
    ] {
        let error = build(yaml).err().unwrap().to_string();
        assert!(texts.iter().all(|text| error.contains(text)), "{error}");
    }
}

#[test]
fn everything_is_registered() {
    let names = |kind| entries(kind).map(|e| e.name).collect::<Vec<_>>();
    for name in
        ["Linear", "Conv2d", "BatchNorm1d", "BatchNorm2d", "MaxPool2d", "AvgPool2d", "Dropout", "Sequential"]
    {
        assert!(names("module").contains(&name), "{name}");
    }
    for name in ["BCEWithLogitsLoss", "CrossEntropyLoss", "L1Loss", "MSELoss", "SmoothL1Loss"] {
        assert!(names("loss").contains(&name), "{name}");
    }
    let loss: Spec<dyn Loss> =
        parse("c.yaml", "{type: CrossEntropyLoss, weight: [1, 2], reduction: none, average: batch}")
            .unwrap()
            .read()
            .unwrap();
    assert!(loss.build(&mut BuildCx::new(0)).is_ok());
}

/// A branch without its `Flatten` was spread over the samples of the other: predictions mixed the batch.
#[test]
fn sums_do_not_spread_one_batch_over_the_other() {
    let (a, b): (&[Elem], &[Elem]) = (&[-1.0, 2.0], &[10.0, 20.0]);
    for (yaml, wanted) in [
        ("{type: Parallel, join: sum, branches: [{type: Identity}, {type: Select, channels: [0]}]}", ""),
        (
            "{type: Residual, body: {type: Linear, in_features: 2, out_features: 1}}",
            "of shape [1, 1] to a shortcut",
        ),
        ("{type: Residual, body: {type: Linear, in_features: 2, out_features: 2}}", ""),
    ] {
        let inputs: &[&[Elem]] = if yaml.contains("Parallel") { &[a, b] } else { &[a] };
        let said = of(yaml, inputs).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains(wanted) && said.is_empty() == wanted.is_empty(), "{yaml}: {said}");
    }
    let mut net =
        build("{type: Parallel, join: mul, branches: [{type: Identity}, {type: Identity}]}").unwrap();
    let tape = Tape::without_grad(BufferPool::default());
    let mut rng = keyed(0, "test", 0, 0);
    let mut join = |one: &[usize], other: &[usize]| {
        let xs = [one, other].map(|shape| tape.input(Tensor::zeros(shape.to_vec())));
        net.forward_all(&xs, &mut Forward::new(false, &mut rng)).map(|y| y.shape())
    };
    assert_eq!(join(&[4, 3, 2, 2], &[4, 3, 1, 1]).unwrap(), [4, 3, 2, 2], "gates are multiplied");
    for other in [&[4, 3][..], &[1, 3, 2, 2]] {
        let said = join(&[4, 3, 2, 2], other).unwrap_err().to_string();
        assert!(said.contains("are not added or multiplied"), "{said}");
    }
}
