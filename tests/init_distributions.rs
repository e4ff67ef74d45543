//! What initialisers draw is what they say: a test of Kolmogorov and Smirnov for each, on weights of every kind.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)] // helpers of tests

use ndarray::ArrayD;
use shanty::base::{Result, Tensor, keyed};
use shanty::config::parse;
use shanty::nn::init::{Initializer, Orthogonal, init_weights};
use shanty::nn::{Autograd, Linear, Module, ReLU, Sequential, Tanh, Var, named_parameters};
use shanty::registry::{BuildCx, Spec};

/// The share of a distribution below a value.
type Cdf = Box<dyn Fn(f64) -> f64>;

fn normal(std: f64) -> Cdf {
    Box::new(move |x| 0.5 * libm::erfc(-x / std * std::f64::consts::FRAC_1_SQRT_2))
}

fn uniform(low: f64, high: f64) -> Cdf {
    Box::new(move |x| ((x - low) / (high - low)).clamp(0.0, 1.0))
}

/// N(mean, std²) between `a` and `b`.
fn truncated(mean: f64, std: f64, [a, b]: [f64; 2]) -> Cdf {
    let whole = normal(std);
    let [low, high] = [a, b].map(|bound| whole(bound - mean));
    Box::new(move |x| ((whole(x - mean) - low) / (high - low)).clamp(0.0, 1.0))
}

/// The largest distance between the distribution of `values` and `cdf`.
fn distance(mut values: Vec<f64>, cdf: &Cdf) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    let steps = values.iter().enumerate();
    steps.fold(0.0, |most: f64, (i, x)| most.max((cdf(*x) - i as f64 / n).max((i + 1) as f64 / n - cdf(*x))))
}

/// Which distance n draws exceed once in a thousand times: √(−ln(α / 2) / 2 n), for large n.
fn critical(n: usize) -> f64 {
    (-(0.001f64 / 2.0).ln() / (2 * n) as f64).sqrt()
}

/// A layer, its YAML, and the fans of its weight: values summed into one, and values that one reaches.
const LAYERS: [(&str, [f64; 2]); 5] = [
    ("type: Linear, in_features: 90, out_features: 60", [90.0, 60.0]),
    ("type: Conv2d, in_channels: 16, out_channels: 32, kernel_size: 3", [144.0, 288.0]),
    ("type: Conv2d, in_channels: 16, out_channels: 32, kernel_size: 3, groups: 2", [72.0, 144.0]),
    ("type: ConvTranspose2d, in_channels: 16, out_channels: 32, kernel_size: 3", [144.0, 288.0]),
    ("type: ConvTranspose2d, in_channels: 16, out_channels: 32, kernel_size: 3, groups: 2", [72.0, 144.0]),
];

fn weight(layer: &str, init: &str) -> Vec<f64> {
    let kind = layer.split([' ', ',']).nth(1).unwrap();
    let init = if init.is_empty() { String::new() } else { format!(", init_cfg: {{{init}, layer: {kind}}}") };
    let spec: Spec<dyn Module> = parse("net.yaml", &format!("{{{layer}{init}}}")).unwrap().read().unwrap();
    let mut net = spec.build(&mut BuildCx::new(0)).unwrap();
    init_weights(&mut net, 7).unwrap();
    let (_, weight) = named_parameters(&net).into_iter().find(|(name, _)| name == "weight").unwrap();
    weight.value.iter().map(|w| f64::from(*w)).collect()
}

#[test]
fn each_initialiser_draws_from_its_distribution() {
    let mut worst: f64 = 0.0;
    for (layer, [fan_in, fan_out]) in LAYERS {
        let both = (2.0 / (fan_in + fan_out)).sqrt();
        let reach = |std: f64| uniform(-(3f64.sqrt()) * std, 3f64.sqrt() * std);
        let leaky = (2.0 / (1.0 + 0.2f64 * 0.2)).sqrt();
        let cases: Vec<(&str, Cdf)> = vec![
            ("type: Normal, std: 0.3", normal(0.3)),
            ("type: Uniform, a: -0.5, b: 2", uniform(-0.5, 2.0)),
            ("type: TruncNormal, mean: 0.2, std: 0.5, a: -0.4, b: 1", truncated(0.2, 0.5, [-0.4, 1.0])),
            ("type: Xavier", normal(both)),
            ("type: Xavier, gain: 2, distribution: uniform", reach(2.0 * both)),
            ("type: Kaiming", normal((2.0 / fan_out).sqrt())),
            ("type: Kaiming, mode: fan_in, distribution: uniform", reach((2.0 / fan_in).sqrt())),
            ("type: Kaiming, mode: fan_in, nonlinearity: leaky_relu, a: 0.2", normal(leaky / fan_in.sqrt())),
            ("type: Kaiming, mode: fan_in, nonlinearity: tanh", normal(5.0 / 3.0 / fan_in.sqrt())),
            ("type: Caffe2Xavier", uniform(-(3.0 / fan_in).sqrt(), (3.0 / fan_in).sqrt())),
        ];
        for (init, cdf) in cases {
            let values = weight(layer, init);
            let (d, most) = (distance(values.clone(), &cdf), critical(values.len()));
            worst = worst.max(d / most);
            assert!(d < most, "{layer}; {init}: {d} of {most}");
        }
    }
    println!("the largest distance is {worst:.2} of the critical one");
}

/// PyTorch counts the fan of its default from the second axis of the weight, of a transposed convolution too, which is
/// then the outputs of a group.
#[test]
fn what_says_nothing_begins_as_in_pytorch() {
    for ((layer, _), second) in LAYERS.into_iter().zip([90.0, 144.0, 72.0, 288.0, 144.0f64]) {
        let bound = 1.0 / second.sqrt();
        let values = weight(layer, "");
        let (d, most) = (distance(values.clone(), &uniform(-bound, bound)), critical(values.len()));
        assert!(d < most, "{layer}: {d} of {most}");
    }
}

/// A test that finds nothing is no test: a deviation five parts in a hundred off is found.
#[test]
fn a_wrong_deviation_is_found() {
    let values = weight("type: Linear, in_features: 300, out_features: 200", "type: Normal, std: 0.3");
    assert!(distance(values.clone(), &normal(0.3)) < critical(values.len()));
    assert!(distance(values.clone(), &normal(0.3 * 1.05)) > critical(values.len()));
}

/// The height of a point that is anywhere on a sphere is uniform (Archimedes); and rows, or columns where there are
/// fewer, are orthonormal.
#[test]
fn orthogonal_weights_have_no_direction() {
    let drawn = |shape: &[usize], seed: u64| {
        let mut values = ArrayD::zeros(shape);
        let fans = shanty::nn::init::Fans::of(shape, 1, false);
        Orthogonal { gain: 1.5 }.fill(&mut values.view_mut(), fans, &mut keyed(seed, "init", 0, 0)).unwrap();
        values
    };
    let heights: Vec<f64> = (0..4000).map(|seed| f64::from(drawn(&[1, 3], seed)[[0, 0]])).collect();
    assert!(distance(heights, &uniform(-1.5, 1.5)) < critical(4000));
    for shape in [&[5, 8][..], &[8, 5], &[6, 6], &[4, 3, 2, 2], &[32, 2, 3, 3], &[1, 1]] {
        let all = drawn(shape, 1);
        let rows = shape[0];
        let all = all.to_shape((rows, all.len() / rows)).unwrap().to_owned();
        let square = if all.nrows() <= all.ncols() { all.dot(&all.t()) } else { all.t().dot(&all) };
        for ((i, k), v) in square.indexed_iter() {
            let wanted = if i == k { 2.25 } else { 0.0 };
            assert!((v - wanted).abs() < 1e-5, "{shape:?}: {v} at {i}, {k}");
        }
    }
}

const LAYERS_SHOWN: [usize; 5] = [1, 5, 10, 25, 50];

/// The mean squares of the activations behind some of 50 layers of 512 units, for inputs from N(0, 1).
fn through(init: &str, act: impl Fn() -> Box<dyn Module>) -> Result<Vec<f64>> {
    let mut net = Sequential::new();
    for _ in 0..50 {
        net = net.with(Linear::new(512, 512)).with(act());
    }
    let spec: Spec<dyn Initializer> = parse("init.yaml", &format!("{{{init}, layer: Linear}}"))?.read()?;
    let rule = shanty::nn::init::Init::from_spec(&spec, &mut BuildCx::new(0))?;
    struct Net {
        layers: Sequential,
        init: Vec<shanty::nn::init::Init>,
    }
    shanty::module!(Net { layers }, init_cfg = init);
    let mut net = Net { layers: net, init: vec![rule] };
    init_weights(&mut net, 0)?;
    let mut x = Tensor::zeros(vec![256, 512]).into_owned();
    shanty::nn::init::draw::normal(&mut x.view_mut(), 0.0, 1.0, &mut keyed(0, "inputs", 0, 0));
    let (_, traced) = Autograd::default().trace(&mut net, &mut keyed(0, "", 0, 0), |net, tape, cx| {
        net.layers.forward(tape.input(x), cx).map(Var::value)
    })?;
    let square = |layer: usize| {
        let path = format!("layers.{}", 2 * layer - 1);
        let output = traced.iter().find(|module| module.path == path).unwrap().output.as_ref().unwrap();
        output.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / output.len() as f64
    };
    Ok(LAYERS_SHOWN.into_iter().map(square).collect())
}

/// The table in docs/init.md is what this measures; and variance behaves as theory says: a layer of ReLU after weights
/// of variance v multiplies the mean square by 512 v / 2.
#[test]
fn variance_through_fifty_layers() {
    let page = include_str!("../docs/init.md");
    let relu = || Box::new(ReLU::new()) as Box<dyn Module>;
    let tanh = || Box::new(Tanh::new()) as Box<dyn Module>;
    let third = 1.0 / (3.0 * 512.0);
    let cases: [(&str, &str, bool, f64); 7] = [
        ("type: Normal, std: 0.01", "ReLU", true, 512.0 * 1e-4 / 2.0),
        ("type: Normal, std: 0.1", "ReLU", true, 512.0 * 1e-2 / 2.0),
        ("type: Uniform, a: -0.0441942, b: 0.0441942", "ReLU", true, 512.0 * third / 2.0),
        ("type: Xavier", "ReLU", true, 0.5),
        ("type: Kaiming, mode: fan_in", "ReLU", true, 1.0),
        ("type: Orthogonal, gain: 1.4142135", "ReLU", true, 1.0),
        ("type: Xavier", "Tanh", false, 1.0),
    ];
    let mut table = String::new();
    for (init, act, is_relu, factor) in cases {
        let found = if is_relu { through(init, relu) } else { through(init, tanh) }.unwrap();
        let cells: Vec<String> = found.iter().map(|v| format!("{v:.1e}")).collect();
        let line = format!("| `{init}` | {act} | {} |", cells.join(" | "));
        table += &format!("{line}\n");
        if is_relu {
            for (layer, value) in LAYERS_SHOWN.into_iter().zip(&found).filter(|(_, value)| **value > 1e-30) {
                let wanted = factor.powi(layer as i32);
                assert!(
                    (value / wanted).ln().abs() < 0.3 + layer as f64 * 0.04,
                    "{init}: {value} for {wanted}"
                );
            }
        }
    }
    println!("{table}");
    for line in table.lines() {
        assert!(page.contains(line), "docs/init.md lacks\n{table}");
    }
}
