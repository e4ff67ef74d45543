//! Layers of images and sequences: PyTorch's values at random shapes (`fixtures/spatial.json`, the script is beside it),
//! values that can be told by hand, and what they say of inputs that do not fit.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::collections::BTreeMap;

use ndarray::{ArrayViewD, IxDyn};
use serde::Deserialize;
use serde_json::{Map, Value};
use shanty::base::{Elem, Result, Tensor, keyed};
use shanty::config::{Node, parse};
use shanty::module;
use shanty::nn::*;
use shanty::params::HostParams;
use shanty::registry::{BuildCx, Spec};

/// Allowed error of a product, as a share of the tensor's norm.
const TOLERANCE: f64 = if size_of::<Elem>() == 8 { 1e-10 } else { 1e-5 };

/// Noise in [-1, 1), exact in f32: `noise` of the script.
fn noise(seed: u64, shape: &[usize]) -> Tensor {
    let one = |i: u64| {
        let mut h = (i * 2_654_435_761 + seed * 40_503 + 1) & 0xFFFF_FFFF;
        for (shift, factor) in [(16, 0x85EB_CA6B), (13, 0xC2B2_AE35), (16, 1)] {
            h = ((h ^ (h >> shift)) * factor) & 0xFFFF_FFFF;
        }
        (h >> 8) as Elem / (1u64 << 23) as Elem - 1.0
    };
    let len = shape.iter().product::<usize>() as u64;
    Tensor::from_shape_vec(IxDyn(shape), (0..len).map(one).collect()).unwrap()
}

/// What PyTorch tells of a tensor.
#[derive(Deserialize)]
struct Told {
    shape: Vec<usize>,
    norm: f64,
    sums: Vec<f64>,
}

impl Told {
    /// The largest error of a product, as a share of the norm. A tensor in which noise cancels, as the gradient of a norm
    /// over few values, is as exact as the noise that went in.
    fn error(&self, found: ArrayViewD<'_, Elem>, seed: u64, what: &str) -> f64 {
        assert_eq!(found.shape(), self.shape, "{what}");
        let mut worst = 0.0f64;
        let scale = self.norm.max(0.1 * (found.len() as f64).sqrt());
        for (i, wanted) in self.sums.iter().enumerate() {
            let noise = noise(seed + 8 + i as u64, &self.shape);
            let sum: f64 = found.iter().zip(&noise).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let error = (sum - wanted).abs() / scale;
            assert!(error <= TOLERANCE, "{what}: product {i} is {sum}, PyTorch has {wanted}");
            worst = worst.max(error);
        }
        worst
    }
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Map<String, Value>,
    shape: Vec<usize>,
    training: bool,
    seed: u64,
    state: BTreeMap<String, (u64, Elem)>,
    told: BTreeMap<String, Told>,
}

/// The input, so that it has a gradient, and the layer.
struct Probe {
    x: Param,
    net: Box<dyn Module>,
}
module!(Probe { x, net });

impl Case {
    fn error(&self) -> f64 {
        let mut config = self.config.clone();
        config.insert("type".into(), self.name.split(',').next().unwrap().into());
        let spec = Spec::<dyn Module>::from_node(&Node::of(&self.name, &config).unwrap())
            .unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let net = spec.build(&mut BuildCx::new(0)).unwrap();
        let mut probe = Probe { x: Param::new(noise(self.seed, &self.shape)), net };
        HostParams::visit_mut(&mut probe.net, &mut |mut p| {
            if let Some((place, shift)) = self.state.get(p.name) {
                let value = noise(self.seed + 2 + place, p.value.shape()) + *shift;
                p.value.assign(&value);
            }
        });
        let y = Autograd::default()
            .train(&mut probe, &mut keyed(0, "spatial", 0, 0), |probe, tape, cx| {
                cx.training = self.training;
                let y = probe.net.forward(tape.param(&probe.x), cx)?;
                let loss = (y * tape.input(noise(self.seed + 1, &y.shape()))).sum();
                Ok((loss, y.value()))
            })
            .unwrap_or_else(|e| panic!("{} {:?} {:?}: {e}", self.name, self.config, self.shape));
        let what = |part: &str| format!("{} {:?} of {:?}: {part}", self.name, self.config, self.shape);
        let mut worst = self.told["output"].error(y.view(), self.seed, &what("output"));
        let mut seen = 1;
        HostParams::visit(&probe, &mut |p| {
            let name = p.name.trim_start_matches("net.");
            if let Some(told) = self.told.get(name) {
                let found = if p.role.is_trained() { p.grad.unwrap() } else { p.value };
                worst = worst.max(told.error(found, self.seed, &what(name)));
                seen += 1;
            }
        });
        assert_eq!(seen, self.told.len(), "{}", what("all that was told"));
        worst
    }
}

#[test]
fn every_layer_equals_pytorch_at_random_shapes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/spatial.json");
    let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut worst: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for case in &cases {
        let (count, error) = worst.entry(&case.name).or_default();
        (*count, *error) = (*count + 1, error.max(case.error()));
    }
    for (name, (count, error)) in &worst {
        println!("{name}: {count} shapes, worst error {error:.1e}");
        assert!(*count >= 20, "{name}");
    }
    assert!(worst.len() >= 25, "{}", worst.len());
}

fn apply(net: &mut dyn Module, x: Tensor, training: bool) -> Result<Tensor> {
    let tape = Tape::new(BufferPool::default());
    let mut rng = keyed(3, "spatial", 0, 0);
    Ok(net.forward(tape.input(x), &mut Forward::new(training, &mut rng))?.checked()?.value())
}

/// The rows of a picture that is dark above and bright below: only where its halves meet is there an edge.
#[test]
fn the_edge_of_a_step_image() {
    let mut conv = Conv2d::new(1, 1, 3).bias(false);
    let kernel = [-1.0, -1.0, -1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0];
    conv.weight.value.as_slice_mut().unwrap().copy_from_slice(&kernel);
    // Five pixels wide, six high.
    let step = Tensor::from_shape_fn(vec![1, 1, 6, 5], |i| if i[2] < 3 { 0.0 } else { 10.0 });
    let y = apply(&mut conv, step, true).unwrap();
    assert_eq!(y.shape(), [1, 1, 4, 3]);
    for (row, wanted) in y.rows().into_iter().zip([0.0, 30.0, 30.0, 0.0]) {
        assert!(row.iter().all(|v| *v == wanted), "{row}");
    }
}

#[test]
fn a_layer_of_an_mlp_is_a_convolution_whose_kernel_covers_its_input() {
    let (mut linear, mut conv) = (Linear::new(3 * 4 * 5, 7), Conv2d::new(3, 7, [4, 5]));
    conv.weight =
        Param::new(linear.weight.value.to_shape((7, 3, 4, 5)).unwrap().into_owned().into_dyn().into_shared());
    conv.bias = Some(Param::new(linear.bias.as_ref().unwrap().value.clone()));
    let x = noise(5, &[6, 3, 4, 5]);
    let flat = x.to_shape((6, 60)).unwrap().into_owned().into_dyn().into_shared();
    let (a, b) = (apply(&mut linear, flat, true).unwrap(), apply(&mut conv, x, true).unwrap());
    assert_eq!(b.shape(), [6, 7, 1, 1]);
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn shuffles_move_what_they_should_and_back() {
    let nine = Tensor::from_shape_fn(vec![1, 9, 1, 1], |i| i[1] as Elem);
    let y = apply(&mut ChannelShuffle::new(3), nine.clone(), true).unwrap();
    assert_eq!(y.as_slice().unwrap(), [0.0, 3.0, 6.0, 1.0, 4.0, 7.0, 2.0, 5.0, 8.0]);
    assert_eq!(apply(&mut ChannelShuffle::new(3), y, true).unwrap(), nine);
    let x = noise(1, &[2, 12, 3, 5]);
    let up = apply(&mut PixelShuffle::new(2), x.clone(), true).unwrap();
    assert_eq!(up.shape(), [2, 3, 6, 10]);
    assert_eq!(apply(&mut PixelUnshuffle::new(2), up, true).unwrap(), x);
    let parts = [0, 1, 2].map(|i| apply(&mut ChannelSplit::new(3, i), x.clone(), true).unwrap());
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    assert_eq!(ndarray::concatenate(ndarray::Axis(1), &views).unwrap(), x);
}

/// What a dropout of blocks leaves: whole channels or samples, each with its probability, and everything in evaluation.
#[test]
fn dropouts_of_blocks_drop_whole_blocks() {
    let x = Tensor::from_elem(vec![40, 50, 3, 2], 1.0);
    for (p, layer) in [(0.3, &mut Dropout2d::new(0.3) as &mut dyn Module), (0.0, &mut Dropout2d::new(0.0))] {
        let y = apply(layer, x.clone(), true).unwrap();
        let kept = 1.0 / (1.0 - p as Elem);
        let channels: Vec<&[Elem]> = y.as_slice().unwrap().chunks(6).collect();
        assert!(
            channels.iter().all(|c| c.iter().all(|v| *v == c[0] && (*v == 0.0 || (*v - kept).abs() < 1e-6)))
        );
        let share = channels.iter().filter(|c| c[0] == 0.0).count() as f64 / 2000.0;
        assert!((share - p).abs() < 0.04, "{share}");
        assert_eq!(apply(layer, x.clone(), false).unwrap(), x);
    }
    let y = apply(&mut DropPath::new(0.5).scale_by_keep(false), x.clone(), true).unwrap();
    let samples: Vec<&[Elem]> = y.as_slice().unwrap().chunks(300).collect();
    assert!(samples.iter().all(|s| s.iter().all(|v| *v == s[0])));
    let gone = samples.iter().filter(|s| s[0] == 0.0).count();
    assert!((8..=32).contains(&gone) && y.iter().all(|v| *v == 0.0 || *v == 1.0), "{gone}");
    assert_eq!(apply(&mut DropPath::new(1.0), x.clone(), true).unwrap(), &x * 0.0);
    assert_eq!(apply(&mut DropPath::new(0.5), x.clone(), false).unwrap(), x);
}

/// No shape panics, and who cannot take it says so by name.
#[test]
fn inputs_that_do_not_fit_are_refused_by_name() {
    let flat = || noise(0, &[2, 4]);
    let sequence = || noise(0, &[2, 4, 3]);
    let image = || noise(0, &[2, 4, 3, 3]);
    let mut cases: Vec<(Box<dyn Module>, Tensor, &str)> = vec![
        (Box::new(Conv1d::new(4, 2, 3)), image(), "wants sequences of shape [N, C, L]"),
        (Box::new(Conv1d::new(3, 2, 3)), sequence(), "convolution of 3 channels"),
        (Box::new(Conv1d::new(4, 2, 9)), sequence(), "does not fit"),
        (Box::new(Conv1d::new(4, 2, 3).groups(3)), sequence(), "3 groups"),
        (Box::new(Conv1d::new(4, 2, 3).dilation(usize::MAX)), sequence(), "does not fit"),
        (Box::new(Conv2d::new(4, 2, 3).dilation(usize::MAX)), image(), "does not fit"),
        (Box::new(Conv2d::new(4, 2, 3).padding(usize::MAX / 2)), image(), "convolution"),
        (Box::new(ConvTranspose2d::new(4, 2, 3)), sequence(), "a transposed convolution wants images"),
        (Box::new(ConvTranspose2d::new(3, 2, 3)), image(), "transposed convolution of 3 channels"),
        (Box::new(ConvTranspose2d::new(4, 2, 1).padding(9)), image(), "pad less"),
        (Box::new(ConvTranspose2d::new(4, 2, 3).stride(usize::MAX)), image(), "transposed convolution"),
        (Box::new(ConvTranspose2d::new(4, 2, 3).output_padding(1)), image(), "output_padding"),
        (Box::new(ConvTranspose1d::new(4, 2, 3)), image(), "transposed convolution of sequences"),
        (Box::new(MaxPool1d::new(2)), image(), "MaxPool1d wants sequences"),
        (Box::new(MaxPool1d::new(2).padding(2)), sequence(), "more than half"),
        (Box::new(AvgPool1d::new(7)), sequence(), "does not fit"),
        (Box::new(AdaptiveMaxPool1d::new(2)), flat(), "AdaptiveMaxPool1d wants sequences"),
        (Box::new(AdaptiveMaxPool2d::new(0)), image(), "cannot cut 3 x 3"),
        (Box::new(AdaptiveAvgPool2d::new(usize::MAX)), image(), "adaptive average pooling"),
        (Box::new(Upsample::scale(2.0)), sequence(), "Upsample wants images"),
        (Box::new(Upsample::scale(0.1)), image(), "cannot be resized to 0 x 0"),
        (Box::new(Upsample::size(usize::MAX)), image(), "the output of Upsample"),
        (Box::new(PixelShuffle::new(3)), image(), "PixelShuffle by 3"),
        (Box::new(PixelShuffle::new(usize::MAX)), image(), "PixelShuffle by"),
        (Box::new(PixelUnshuffle::new(2)), image(), "PixelUnshuffle by 2"),
        (Box::new(ChannelShuffle::new(3)), image(), "ChannelShuffle: 4 channels"),
        (Box::new(ChannelSplit::new(2, 2)), image(), "no chunk 2"),
        (Box::new(ChannelSplit::new(0, 0)), image(), "ChannelSplit: 4 channels"),
        (Box::new(GroupNorm::new(2, 6)), image(), "GroupNorm over 6 channels"),
        (Box::new(GroupNorm::new(3, 4)), image(), "3 groups do not divide 4 channels"),
        (Box::new(InstanceNorm2d::new(4)), sequence(), "InstanceNorm2d over 4 channels"),
        (Box::new(InstanceNorm1d::new(3)), sequence(), "InstanceNorm1d over 3 channels"),
        (Box::new(InstanceNorm1d::new(4)), noise(0, &[2, 4, 1]), "one value per channel"),
        (Box::new(RMSNorm::new(5)), sequence(), "RMSNorm over [5]"),
        (Box::new(LayerNorm2d::new(4)), sequence(), "LayerNorm2d over 4 channels"),
        (Box::new(Dropout2d::new(0.5)), flat(), "Dropout2d wants"),
        (Box::new(DropPath::new(0.5)), noise(0, &[]), "DropPath wants"),
    ];
    for (layer, x, wanted) in &mut cases {
        let said = apply(layer.as_mut(), x.clone(), true).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains(*wanted), "{}: {said:?}, not {wanted:?}", layer.type_name());
    }
}

/// Empty batches go through, forward and backward.
#[test]
fn empty_batches_stay_empty() {
    let mut layers: Vec<(Box<dyn Module>, &[usize])> = vec![
        (Box::new(Conv2d::new(4, 4, 3).groups(4)), &[0, 4, 5, 5]),
        (Box::new(Conv1d::new(4, 2, 3)), &[0, 4, 5]),
        (Box::new(ConvTranspose2d::new(4, 2, 3)), &[0, 4, 5, 5]),
        (Box::new(AdaptiveMaxPool2d::new([2, 3])), &[0, 4, 5, 5]),
        (Box::new(Upsample::scale(2.0).bilinear(false)), &[0, 4, 5, 5]),
        (Box::new(PixelShuffle::new(2)), &[0, 4, 5, 5]),
        (Box::new(GroupNorm::new(2, 4)), &[0, 4, 5, 5]),
        (Box::new(InstanceNorm2d::new(4).track_running_stats(true)), &[0, 4, 5, 5]),
        (Box::new(RMSNorm::new(5)), &[0, 5]),
        (Box::new(LayerNorm2d::new(4)), &[0, 4, 5, 5]),
        (Box::new(DropPath::new(0.5)), &[0, 4]),
    ];
    for (layer, shape) in &mut layers {
        let y = apply(layer.as_mut(), Tensor::zeros(IxDyn(shape)), true).unwrap();
        assert_eq!((y.len(), y.shape()[0]), (0, 0), "{}", layer.type_name());
    }
}

/// What a config gets wrong is told with its place.
#[test]
fn mistakes_in_a_config() {
    for (yaml, wanted) in [
        ("{type: GN, num_groups: 3, num_channels: 4}", "3 groups do not divide 4 channels"),
        ("{type: Upsample}", "`size` or `scale_factor` is missing"),
        ("{type: Upsample, size: 2, scale_factor: 2}", "both given"),
        ("{type: Upsample, scale_factor: [1, 2, 3]}", "one number or two"),
        ("{type: Upsample, scale_factor: 2, align_corners: true}", "`align_corners` is for `mode: bilinear`"),
        ("{type: Upsample, scale_factor: -1.0}", "`scale_factor`"),
        (
            "{type: ConvTranspose2d, in_channels: 2, out_channels: 2, kernel_size: 3, output_padding: 1}",
            "output_padding",
        ),
        ("{type: ConvTranspose1d, in_channels: 2, out_channels: 2, kernel_size: [3, 5]}", "one number"),
        (
            "{type: Conv1d, in_channels: 4, out_channels: 3, kernel_size: 1, groups: 2}",
            "2 groups do not divide",
        ),
        ("{type: RMSNorm, normalized_shape: []}", "names no axis"),
    ] {
        let built = || -> Result<Box<dyn Module>> {
            let spec: Spec<dyn Module> = parse("net.yaml", yaml)?.read()?;
            spec.build(&mut BuildCx::new(0))
        };
        let said = built().err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains(wanted) && said.contains("net.yaml:1:"), "{yaml}: {said}");
    }
}

/// The names of MMCV and MMPretrain.
#[test]
fn the_names_of_openmmlab() {
    for (yaml, wanted) in [
        ("{type: GN, num_groups: 2, num_channels: 4}", "GroupNorm"),
        ("{type: IN, num_features: 4}", "InstanceNorm2d"),
        ("{type: IN1d, num_features: 4}", "InstanceNorm1d"),
        ("{type: IN2d, num_features: 4}", "InstanceNorm2d"),
        ("{type: LN2d, num_channels: 4, eps: 1.0e-6}", "LayerNorm2d"),
        ("{type: deconv, in_channels: 2, out_channels: 2, kernel_size: 3}", "ConvTranspose2d"),
        ("{type: DropPath, drop_prob: 0.2}", "DropPath"),
    ] {
        let spec: Spec<dyn Module> = parse("net.yaml", yaml).unwrap().read().unwrap();
        assert_eq!(spec.build(&mut BuildCx::new(0)).unwrap().type_name(), wanted);
    }
}

macro_rules! contracts {
    ($($name:ident: $layer:expr, $shape:expr;)*) => {$(
        mod $name {
            use shanty::nn::*;
            shanty::testing::layer_contract!($layer, $shape);
        }
    )*};
}

contracts! {
    depthwise: Conv2d::new(4, 4, 3).padding(1).groups(4), [2, 4, 5, 5];
    halving: Conv2d::new(3, 6, 3).stride(2).padding(1).groups(3), [1, 3, 5, 6];
    conv1d: Conv1d::new(2, 3, 3).padding(1).stride(2), [2, 2, 7];
    conv_transpose2d: ConvTranspose2d::new(4, 2, 3).stride(2).output_padding(1).groups(2), [1, 4, 3, 3];
    conv_transpose1d: ConvTranspose1d::new(2, 3, 3).padding(1), [2, 2, 5];
    avg_pool1d: AvgPool1d::new(3).padding(1).ceil_mode(true), [2, 2, 7];
    adaptive_avg_pool1d: AdaptiveAvgPool1d::new(3), [2, 2, 7];
    bilinear: Upsample::scale(1.5).bilinear(false), [1, 2, 4, 5];
    corners: Upsample::size([7, 3]).bilinear(true), [1, 2, 4, 5];
    se_layer: SELayer::new(4, 2).unwrap(), [2, 4, 3, 3];
    eca: ECA::new(6), [2, 6, 3, 2];
    pixel_shuffle: PixelShuffle::new(2), [2, 4, 2, 3];
    pixel_unshuffle: PixelUnshuffle::new(2), [2, 1, 4, 2];
    channel_shuffle: ChannelShuffle::new(2), [2, 4, 2];
    channel_split: ChannelSplit::new(2, 1), [2, 4, 2];
    group_norm: GroupNorm::new(2, 4), [2, 4, 3, 2];
    instance_norm2d: InstanceNorm2d::new(2).affine(true), [2, 2, 3, 3];
    rms_norm: RMSNorm::new(5), [3, 5];
    layer_norm2d: LayerNorm2d::new(5), [2, 5, 2, 3];
    dropout2d: Dropout2d::new(0.4), [3, 4, 2, 2];
    drop_path: DropPath::new(0.4), [6, 3];
}

/// The gradients of a convolution behind which an activation and poolings stand. Where something stands `between`, the
/// activation takes its slope itself; else the poolings take it. `also` somebody else looks at the activation.
fn pooled(
    net: &mut Conv2d,
    x: &Tensor,
    act: fn(Var<'_>) -> Var<'_>,
    between: bool,
    also: bool,
) -> Vec<Tensor> {
    let step = Autograd::default().train(net, &mut keyed(0, "pooled", 0, 0), |net, tape, cx| {
        let y = act(net.forward(tape.input(x.clone()), cx)?);
        let seen = if between { y.reshape(&y.shape()) } else { y };
        let options = PoolOptions::new([2, 2]);
        let (most, mean) =
            (seen.max_pool2d(PoolOptions { stride: [1, 1], ..options }), seen.avg_pool2d(options));
        let loss = (most * most).sum() + (mean * mean * 3.0).sum();
        Ok((if also { loss + (y * y).sum() } else { loss }, ()))
    });
    step.unwrap();
    let mut grads = Vec::new();
    HostParams::visit_mut(net, &mut |p| {
        if let Some(mut grad) = p.grad {
            grads.push(grad.to_shared());
            grad.fill(0.0);
        }
    });
    grads
}

#[test]
fn a_pooling_takes_the_slope_of_the_activation_before_it() {
    let (mut net, x) = (Conv2d::new(2, 5, 3), noise(7, &[3, 2, 9, 8]));
    HostParams::visit_mut(&mut net, &mut |mut p| {
        let weights = noise(8, p.value.shape());
        p.value.assign(&weights);
    });
    for act in
        [|x: Var<'_>| x.tanh(), |x: Var<'_>| x.relu(), |x: Var<'_>| x.silu()] as [fn(Var<'_>) -> Var<'_>; 3]
    {
        for also in [false, true] {
            let [one, other] = [false, true].map(|between| pooled(&mut net, &x, act, between, also));
            assert_eq!((one.len(), other.len()), (2, 2));
            for (a, b) in one.iter().zip(&other) {
                let norm = a.iter().map(|v| v * v).sum::<Elem>().sqrt();
                assert!(norm > 0.1 && (a - b).iter().all(|d| d.abs() <= 1e-6 * norm), "{a} {b}");
            }
        }
    }
}
