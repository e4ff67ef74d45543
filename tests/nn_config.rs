//! Networks that are written in YAML alone.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use ndarray::IxDyn;
use shanty::base::{Result, Tensor, keyed};
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
    let y = net
        .forward(tape.input(Tensor::zeros(IxDyn(input))), &mut Forward { training: false, rng: &mut rng })?;
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
