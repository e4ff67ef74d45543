//! Values that mixed precision holds in bf16: what they are, and whoever reads them.

use std::cell::Cell;
use std::sync::Arc;

use super::*;
use rand::RngExt;
use shanty::base::{Result, Tensor, keyed};
use shanty::kernels::{Precision, with_precision};
use shanty::nn::init::init_weights;
use shanty::nn::{
    Autograd, BatchNorm2d, Conv2d, FFN, Forward, LayerNorm, Linear, MaxPool2d, Module, MultiheadAttention,
    ReLU, Residual, Sequential, Var, checkpoint_activations, convert_sync_batchnorm,
};
use shanty::registry::{BuildCx, Spec};
use shanty::run::verify::verify;
use shanty::run::{Limits, RunnerBuilder};
use shanty::testing::ranks;

fn noise(shape: &[usize]) -> Tensor {
    let mut rng = keyed(1, "input", 0, 0);
    Tensor::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0 as Elem))
}

fn initialised(net: impl Module) -> Box<dyn Module> {
    let mut net: Box<dyn Module> = Box::new(net);
    init_weights(&mut *net, 3).unwrap();
    net
}

fn build(yaml: &str) -> Box<dyn Module> {
    let spec: Spec<dyn Module> = shanty::config::parse("net.yaml", yaml).unwrap().read().unwrap();
    initialised(spec.build(&mut BuildCx::new(0)).unwrap())
}

/// Output, gradients and buffers of two steps, whose loss weighs the output by noise and by a number of each sample.
fn steps(
    precision: Precision,
    net: &mut Box<dyn Module>,
    x: &Tensor,
    beside: Option<Arc<dyn Comm>>,
) -> Result<Vec<(String, ArrayD<Elem>)>> {
    let mut autograd = Autograd::default();
    if let Some(group) = beside {
        autograd.beside(group);
    }
    with_precision(precision, || {
        let mut found = Vec::new();
        for step in 0..2 {
            let y = autograd.train(net, &mut keyed(0, "step", step, 0), |net, tape, cx| {
                let y = net.forward(tape.input(x.clone()), cx)?;
                let weights = noise(&y.shape()[1..]);
                let mut weights = weights.broadcast(y.shape()).unwrap().to_owned();
                for (mut weights, x) in weights.outer_iter_mut().zip(x.outer_iter()) {
                    weights *= *x.first().unwrap();
                }
                Ok(((y * tape.input(weights)).mean(), y.value()))
            })?;
            found = vec![("output".to_owned(), y.into_owned())];
        }
        net.visit(&mut |p| found.push((p.name.to_owned(), p.grad.unwrap_or(p.value).to_owned())));
        Ok(found)
    })
}

/// The norm of the difference, in relation to that of `b`.
fn distance(a: &ArrayD<Elem>, b: &ArrayD<Elem>) -> f64 {
    let norm = |v: ArrayD<Elem>| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    norm(a - b) / norm(b.clone()).max(1e-12)
}

/// What a norm in bf16 is followed by; it has 16 channels of 32 x 32 pixels, or 64 features of 256 tokens of 8 sequences.
const READERS: &[&str] = &[
    "- {type: Identity}",
    "- {type: GELU}",
    "- {type: PReLU, num_parameters: 16}",
    "- {type: Hardtanh}",
    "- {type: ReLU}\n- {type: ReLU}",
    "- {type: Dropout, p: 0.5}",
    "- {type: Dropout2d, p: 0.5}",
    "- {type: Residual, body: [{type: ReLU}], shortcut: {type: Identity}}",
    "- {type: Residual, body: [{type: Conv2d, in_channels: 16, out_channels: 16, kernel_size: 3, padding: 1}]}",
    "- {type: AvgPool2d, kernel_size: 2}",
    "- {type: MaxPool2d, kernel_size: 3, stride: 2, padding: 1}",
    "- {type: AdaptiveAvgPool2d, output_size: 3}",
    "- {type: GlobalAveragePooling}",
    "- {type: Upsample, scale_factor: 2.0}",
    "- {type: PixelShuffle, upscale_factor: 4}",
    "- {type: PixelUnshuffle, downscale_factor: 2}",
    "- {type: ChannelShuffle, groups: 4}",
    "- {type: Flatten}\n- {type: Linear, in_features: 16384, out_features: 5}",
    "- {type: SELayer, channels: 16}",
    "- {type: GroupNorm, num_groups: 4, num_channels: 16}",
    "- {type: GELU}\n- {type: InstanceNorm2d, num_features: 16}",
    "- {type: LayerNorm2d, num_channels: 16}",
    "- {type: GELU}\n- {type: BatchNorm2d, num_features: 16}",
    "- {type: Conv2d, in_channels: 16, out_channels: 16, kernel_size: 3, padding: 1, groups: 16}",
    "- {type: Conv2d, in_channels: 16, out_channels: 24, kernel_size: 3, padding: 1, groups: 4, bias: false}",
    "- {type: Conv2d, in_channels: 16, out_channels: 40, kernel_size: 3, stride: 2, padding: 1}",
    "- {type: Conv2d, in_channels: 16, out_channels: 33, kernel_size: 1, stride: 2, bias: false}",
    "- {type: Conv2d, in_channels: 16, out_channels: 8, kernel_size: 3, dilation: 2}\n- {type: ReLU}",
    "- {type: ConvTranspose2d, in_channels: 16, out_channels: 8, kernel_size: 2, stride: 2}",
    "- {type: Concat, branches: [{type: Identity}, {type: ReLU}]}",
];

const READERS_OF_TOKENS: &[&str] = &[
    "- {type: Linear, in_features: 64, out_features: 32}",
    "- {type: GELU}",
    "- {type: MultiheadAttention, embed_dims: 64, num_heads: 4}",
    "- {type: MultiheadAttention, embed_dims: 64, num_heads: 4, causal: true, position: rotary}",
    "- {type: LayerNorm, normalized_shape: 64}",
    "- {type: RMSNorm, normalized_shape: 64}",
    "- {type: LSTM, input_size: 64, hidden_size: 16}",
    "- {type: Residual, body: [{type: Linear, in_features: 64, out_features: 64}]}",
    "- {type: TransformerEncoderLayer, d_model: 64, nhead: 4, dim_feedforward: 128, dropout: 0.0}",
];

/// The numbers that are not those of single precision but for what rounding takes of them, forward and back: up to 0.06; a
/// gradient that was lost or came twice would be farther off.
fn far_off(what: &str, net: impl Fn() -> Box<dyn Module>, x: &Tensor) -> Vec<String> {
    let [full, half] = [Precision::Full, Precision::Bf16]
        .map(|precision| steps(precision, &mut net(), x, None).unwrap_or_else(|e| panic!("{what}: {e}")));
    let each = full.iter().zip(&half).map(|((name, full), (_, half))| (name, distance(half, full)));
    each.filter(|(_, far)| *far > 0.1).map(|(name, far)| format!("{what}: {name} by {far}")).collect()
}

#[test]
fn all_kinds_of_layers_read_values_in_bf16() {
    let images = "- {type: Conv2d, in_channels: 3, out_channels: 16, kernel_size: 3, padding: 1, bias: false}
- {type: BatchNorm2d, num_features: 16}";
    let tokens =
        "- {type: Linear, in_features: 64, out_features: 64}\n- {type: LayerNorm, normalized_shape: 64}";
    let mut far = Vec::new();
    for (before, readers, shape) in
        [(images, READERS, &[8, 3, 32, 32][..]), (tokens, READERS_OF_TOKENS, &[8, 256, 64])]
    {
        for reader in readers {
            far.extend(far_off(reader, || build(&format!("{before}\n{reader}")), &noise(shape)));
        }
    }
    let ffn = || {
        let net = Sequential::new().with(LayerNorm::new(64)).with(FFN::new(64, 128, 0.0));
        initialised(net)
    };
    far.extend(far_off("FFN", ffn, &noise(&[8, 256, 64])));
    assert_eq!(far, Vec::<String>::new());
}

thread_local! {
    /// Of what was looked at: whether all numbers are bf16 ones.
    static ROUNDED: Cell<Vec<bool>> = const { Cell::new(Vec::new()) };
}

/// Looks at a value, or does not.
struct Look(bool);

shanty::module!(Look {});

impl Module for Look {
    fn forward<'t>(&mut self, x: Var<'t>, _cx: &mut Forward<'_>) -> Result<Var<'t>> {
        if !self.0 {
            return Ok(x);
        }
        let rounded = x.value().iter().all(|v| v.to_bits() & 0xffff == 0);
        ROUNDED.set([ROUNDED.take(), vec![rounded]].concat());
        Ok(x)
    }
}

/// The looks of a step.
fn looks(precision: Precision, net: impl Module, shape: &[usize]) -> Vec<bool> {
    let mut net = initialised(net);
    ROUNDED.take();
    with_precision(precision, || {
        let (x, mut rng) = (noise(shape), keyed(0, "step", 0, 0));
        let step = Autograd::default().train(&mut net, &mut rng, |net, tape, cx| {
            let y = net.forward(tape.input(x), cx)?;
            Ok(((y * y).mean(), ()))
        });
        step.unwrap();
    });
    ROUNDED.take()
}

/// The table of `docs/mixed_precision.md`: what is rounded, and from how many numbers on.
#[test]
fn what_is_held_in_bf16() {
    use Precision::{Bf16, F16, Full};
    let images = || {
        let conv = |bias| Conv2d::new(16, 16, 3).padding(1).bias(bias);
        Sequential::new()
            .with(conv(true))
            .with(Look(true))
            .with(conv(false))
            .with(Look(true))
            .with(BatchNorm2d::new(16))
            .with(Look(true))
            .with(MaxPool2d::new(3).stride(2).padding(1))
            // Rounded only if what it reads is held so.
            .with(BatchNorm2d::new(16))
            .with(Look(true))
    };
    let tokens = || {
        let attention = MultiheadAttention::new(64, 4);
        Sequential::new()
            .with(Linear::new(64, 64))
            .with(Look(true))
            .with(LayerNorm::new(64))
            .with(Look(true))
            .with(attention)
            .with(Look(true))
    };
    // 4 x 16 x 32 x 32 and 4 x 256 x 64 are 65,536 numbers.
    assert_eq!(looks(Bf16, images(), &[4, 16, 32, 32]), [false, true, true, true]);
    assert_eq!(looks(Bf16, images(), &[4, 16, 32, 31]), [false; 4]);
    assert_eq!(looks(Bf16, tokens(), &[4, 256, 64]), [false, true, false]);
    assert_eq!(looks(Bf16, tokens(), &[4, 255, 64]), [false; 3]);
    for precision in [F16, Full] {
        assert_eq!(looks(precision, images(), &[4, 16, 32, 32]), [false; 4]);
        assert_eq!(looks(precision, tokens(), &[4, 256, 64]), [false; 3]);
    }
}

/// Blocks whose first values have more than 65,536 numbers, whose next have as many, and whose last have fewer.
fn blocks(look: bool) -> Box<dyn Module> {
    let mut net = Sequential::new();
    for (from, to, stride) in [(3, 16, 1), (16, 32, 2), (32, 64, 2)] {
        let conv = |from, to, stride| Conv2d::new(from, to, 3).stride(stride).padding(1).bias(false);
        net = net.with(conv(from, to, stride)).with(BatchNorm2d::new(to)).with(ReLU::new());
        let mut body = Sequential::new().with(conv(to, to, 1)).with(BatchNorm2d::new(to)).with(ReLU::new());
        body = body.with(Look(look)).with(conv(to, to, 1)).with(BatchNorm2d::new(to));
        net = net.with(Residual::new(body)).with(Look(look));
    }
    initialised(net)
}

fn assert_equal(found: &[(String, ArrayD<Elem>)], wanted: &[(String, ArrayD<Elem>)], what: &str) {
    assert_eq!(found.len(), wanted.len());
    for ((_, found), (name, wanted)) in found.iter().zip(wanted) {
        assert_eq!(found, wanted, "{name}, {what}");
    }
}

/// Whoever looks at a value gets a copy, and what is computed again is held in the same way.
#[test]
fn looking_and_computing_again_change_no_bit() {
    let x = noise(&[8, 3, 32, 32]);
    let wanted = steps(Precision::Bf16, &mut blocks(false), &x, None).unwrap();
    let looked = steps(Precision::Bf16, &mut blocks(true), &x, None).unwrap();
    assert_equal(&looked, &wanted, "looked at");
    for paths in [&["3"][..], &["3", "8", "13"], &["8.body", "1"], &["8.body.0", "8"]] {
        let mut net = blocks(false);
        paths.iter().for_each(|path| checkpoint_activations(&mut *net, path).unwrap());
        let found = steps(Precision::Bf16, &mut net, &x, None).unwrap();
        assert_equal(&found, &wanted, paths[0]);
    }
}

/// Two ranks with the halves of a batch, whose batch norms share their statistics, find what one finds with all of it but for
/// rounding, which begins from 65,536 numbers on and so is not the same.
#[test]
fn ranks_share_statistics_of_values_in_bf16() {
    let x = noise(&[16, 3, 32, 32]);
    let whole = steps(Precision::Bf16, &mut blocks(false), &x, None).unwrap();
    let found = ranks(2, |rank, group| {
        let mut net = blocks(false);
        convert_sync_batchnorm(&mut *net);
        let part = x.slice_axis(ndarray::Axis(0), (8 * rank..8 * rank + 8).into()).to_owned();
        steps(Precision::Bf16, &mut net, &part.into_shared(), Some(group))
    })
    .unwrap();
    for (i, (name, whole)) in whole.iter().enumerate().skip(1) {
        let [a, b] = [&found[0][i].1, &found[1][i].1];
        if name.contains("running") || name.contains("tracked") {
            assert_eq!(a, b, "{name}");
        }
        let mean = (a + b) / 2.0;
        assert!(distance(&mean, whole) < 0.1, "{name}: {}", distance(&mean, whole));
    }
}

/// With averages of weights, statistics that are measured anew, windows of two batches, and a validation in bf16.
#[test]
fn a_run_is_the_same_wherever_it_is_cut() {
    let scratch = tempfile::tempdir().unwrap();
    let make = |dir: &Path, resume: bool, limits: Limits| {
        let text = format!(
            "
model:
  type: Supervised
  network:
    - {{type: Conv2d, in_channels: 3, out_channels: 16, kernel_size: 3, padding: 1, bias: false}}
    - {{type: BatchNorm2d, num_features: 16}}
    - {{type: ReLU}}
    - {{type: Conv2d, in_channels: 16, out_channels: 16, kernel_size: 3, padding: 1, bias: false}}
    - {{type: BatchNorm2d, num_features: 16}}
    - {{type: GlobalAveragePooling}}
    - {{type: Linear, in_features: 16, out_features: 3}}
  loss: {{type: CrossEntropyLoss}}
activation_checkpointing: [network.3]
train_dataloader: {{batch_size: 4, dataset: {{type: Synthetic, n: 16, shape: [3, 32, 32], classes: 3}}}}
val_dataloader: {{batch_size: 4, dataset: {{type: Synthetic, n: 8, shape: [3, 32, 32], classes: 3}}}}
val_evaluator: {{type: Accuracy}}
val_cfg: {{fp16: true}}
optim_wrapper: {{type: AmpOptimWrapper, accumulative_counts: 2, optimizer: {{type: SGD, lr: 0.1, momentum: 0.9}}}}
train_cfg: {{by_epoch: true, max_epochs: 2}}
custom_hooks: [{{type: EMAHook, momentum: 0.1}}, {{type: PreciseBNHook, num_samples: 8}}]
randomness: {{seed: 5}}
resume: {resume}
work_dir: {}
",
            dir.display()
        );
        let node = shanty::config::parse("test", &text)?;
        RunnerBuilder::from_config(&node, Some("test.yaml"))?.limits(limits).build()
    };
    let cuts = verify(&make, |total| (1..total).collect(), scratch.path(), &mut |_| ()).unwrap();
    assert_eq!(cuts.len(), 7);
    for cut in cuts {
        assert_eq!(cut.difference, None, "cut after {}", cut.at);
    }
}
