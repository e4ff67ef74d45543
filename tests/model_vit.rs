//! The vision transformer against PyTorch: the same names, scores and gradients (fixtures/README.md).

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::{ArrayD, ArrayViewD};
use shanty::base::{Elem, Result, Tensor, keyed};
use shanty::config::parse;
use shanty::data::Batch;
use shanty::model::{
    Arch, ArchConfig, ClsHead, ImageClassifier, Model, OutType, StepCx, VisionTransformer,
    VisionTransformerArch, VisionTransformerClsHead, VisionTransformerConfig,
};
use shanty::nn::init::{Init, Initializer, Pretrained, init_weights};
use shanty::nn::{
    Autograd, BufferPool, CrossEntropyLoss, Forward, Loss, Module, Pair, Tape, Target, find, named_modules,
};
use shanty::params::{HostParams, StateDict};
use shanty::registry::{BuildCx, Spec};

const TOLERANCE: f64 = 1e-5;

fn params() -> VisionTransformerConfig {
    let arch =
        VisionTransformerArch { embed_dims: 24, num_layers: 2, num_heads: 3, feedforward_channels: 48 };
    VisionTransformerConfig {
        arch: ArchConfig(arch),
        img_size: Pair([16, 16]),
        patch_size: Pair([4, 4]),
        ..VisionTransformerConfig::default()
    }
}

fn vit(out_type: OutType) -> VisionTransformer {
    VisionTransformer::new(&VisionTransformerConfig { out_type, ..params() }).unwrap()
}

fn classifier() -> ImageClassifier {
    let head = VisionTransformerClsHead::new(5, 24, ClsHead::default());
    ImageClassifier::new(vit(OutType::ClsToken), head)
}

/// Tensors of the fixture below a name.
fn fixture(prefix: &str) -> StateDict {
    rule(prefix).tensors().unwrap().unwrap()
}

fn rule(prefix: &str) -> Pretrained {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vit_tiny.safetensors");
    let prefix = Some(prefix.to_owned());
    Pretrained { checkpoint: path.display().to_string(), prefix, map_location: None }
}

/// The model with the weights that PyTorch had.
fn from_pytorch() -> ImageClassifier {
    let mut model = classifier().init(vec![Init::new(rule("weights"))]);
    let report = model.init_weights(0).unwrap();
    assert!(report.iter().all(|line| line.contains("PretrainedInit")), "{report:#?}");
    model
}

fn near(wanted: ArrayViewD<'_, Elem>, found: ArrayViewD<'_, Elem>, what: &str) {
    assert_eq!(wanted.shape(), found.shape(), "{what}");
    let top = wanted.iter().fold(0.0, |m: f64, v| m.max(f64::from(v.abs())));
    for (i, (w, f)) in wanted.iter().zip(&found).enumerate() {
        let error = f64::from((w - f).abs());
        assert!(error <= TOLERANCE * top, "{what}: element {i} is {f}, PyTorch has {w} (largest {top})");
    }
}

#[test]
fn names_and_shapes_are_those_of_mmpretrain() {
    let shapes = |state: &StateDict| -> BTreeMap<String, Vec<usize>> {
        state.0.iter().map(|(name, t)| (name.clone(), t.value.shape().to_vec())).collect()
    };
    let model = classifier();
    assert_eq!(shapes(&StateDict::of(&model).unwrap()), shapes(&fixture("weights")));
    let first: Vec<String> =
        StateDict::of(&model).unwrap().0.into_iter().take(5).map(|(name, _)| name).collect();
    let wanted = [
        "backbone.cls_token",
        "backbone.pos_embed",
        "backbone.patch_embed.projection.weight",
        "backbone.patch_embed.projection.bias",
        "backbone.layers.0.ln1.weight",
    ];
    assert_eq!(first, wanted);
    // 5,717,416 parameters for 1000 classes, timm's deit_tiny_patch16_224 (of which 192,000 + 1,000 are the
    // classifier's).
    let tiny = VisionTransformerConfig {
        arch: ArchConfig(VisionTransformerArch::named("DeiT-Tiny").unwrap()),
        ..VisionTransformerConfig::default()
    };
    let count: usize = StateDict::of(&VisionTransformer::new(&tiny).unwrap())
        .unwrap()
        .0
        .iter()
        .map(|(_, t)| t.value.len())
        .sum();
    assert_eq!(count + 193_000, 5_717_416);
}

#[test]
fn scores_loss_and_gradients_are_those_of_pytorch() {
    let out = fixture("out");
    let images = out.get("images").unwrap().value.clone();
    let batch = Batch::new(images.into_owned(), vec![3, 1]);
    let mut model = from_pytorch();
    let outputs = model.train_step(&batch, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 }).unwrap();
    let loss = f64::from(out.get("loss").unwrap().value[[0]]);
    assert!((outputs.loss().unwrap() / loss - 1.0).abs() < 1e-6, "{:?} {loss}", outputs.loss());

    let grads = fixture("grads");
    let mut seen = 0;
    model.visit(&mut |p| {
        near(grads.get(p.name).unwrap().value.view(), p.grad.unwrap(), p.name);
        seen += 1;
    });
    assert_eq!(seen, grads.0.len());

    let scores = model.eval_step(&batch).unwrap().scores().cloned().unwrap();
    let logits = &out.get("logits").unwrap().value;
    for (logits, scores) in logits.outer_iter().zip(scores.outer_iter()) {
        let total: f64 = logits.iter().map(|v| f64::from(*v).exp()).sum();
        for (l, s) in logits.iter().zip(&scores) {
            assert!((f64::from(*l).exp() / total - f64::from(*s)).abs() < 1e-6);
        }
    }
}

/// All of the output types, from the same weights.
#[test]
fn every_output_is_that_of_pytorch() {
    let out = fixture("out");
    let value = |name: &str| out.get(name).unwrap().value.clone();
    let tokens = value("tokens");
    let map = tokens.slice_axis(ndarray::Axis(1), ndarray::Slice::from(1..)).to_owned();
    let map = map.permuted_axes(vec![0, 2, 1]).as_standard_layout().into_owned();
    let map = map.into_shape_with_order(vec![2, 24, 4, 4]).unwrap();
    let first = tokens.index_axis(ndarray::Axis(1), 0).to_owned();
    for (out_type, wanted) in [
        (OutType::Raw, tokens.to_owned().into_owned()),
        (OutType::ClsToken, first),
        (OutType::AvgFeatmap, value("mean").into_owned()),
        (OutType::Featmap, map),
    ] {
        let mut net = vit(out_type);
        rule("weights.backbone").tensors().unwrap().unwrap().load_into(&mut net).unwrap();
        let tape = Tape::without_grad(BufferPool::default());
        let mut rng = keyed(0, "test", 0, 0);
        let y = net.forward(tape.input(value("images")), &mut Forward::new(false, &mut rng));
        near(wanted.view(), y.unwrap().value().view(), &format!("{out_type:?}"));
    }
}

/// Images of another size than that of the training have positions that are resized: MMPretrain's configs train at 224 and
/// test at 384, or train at 384 as well.
#[test]
fn positions_are_resized_for_other_images_as_in_pytorch() {
    let out = fixture("out");
    let value = |name: &str| out.get(name).unwrap().value.clone().into_owned();
    let mut model = from_pytorch();
    let batch = Batch::new(value("large"), vec![3, 1]);
    let scores = model.eval_step(&batch).unwrap().scores().cloned().unwrap();
    for (logits, scores) in value("large_logits").outer_iter().zip(scores.outer_iter()) {
        let total: f64 = logits.iter().map(|v| f64::from(*v).exp()).sum();
        for (l, s) in logits.iter().zip(&scores) {
            assert!((f64::from(*l).exp() / total - f64::from(*s)).abs() < 1e-6, "{l} {s}");
        }
    }
    let step = StepCx { seed: 0, iter: 0, loss_scale: 1.0 };
    let cross_entropy = |logits: &[Elem], label: usize| {
        logits.iter().map(|v| f64::from(*v).exp()).sum::<f64>().ln() - f64::from(logits[label])
    };
    let logits = value("large_logits");
    let rows: Vec<&[Elem]> = logits.as_slice().unwrap().chunks(5).collect();
    let wanted = (cross_entropy(rows[0], 3) + cross_entropy(rows[1], 1)) / 2.0;
    let loss = model.train_step(&batch, &step).unwrap().loss().unwrap();
    assert!((loss / wanted - 1.0).abs() < 1e-5, "{loss} {wanted}");
    let mut moved = false;
    model.visit(&mut |p| {
        moved |= p.name == "backbone.pos_embed" && p.grad.unwrap().iter().any(|g| *g != 0.0);
    });
    assert!(moved, "positions learn from images of another size");
    let odd = Batch::new(ArrayD::zeros(vec![1, 3, 18, 20]), vec![0]);
    let refused = model.eval_step(&odd).unwrap_err().to_string();
    assert!(refused.contains("any multiple of `patch_size: [4, 4]`"), "{refused}");
}

/// A checkpoint of another size has its positions resized as it is loaded, once: the scores are those of resizing in each
/// evaluation.
#[test]
fn positions_of_a_checkpoint_are_resized_as_it_is_loaded() {
    let sized = |img_size: [usize; 2]| {
        VisionTransformer::new(&VisionTransformerConfig { img_size: Pair(img_size), ..params() }).unwrap()
    };
    let (mut small, mut large) = (sized([16, 16]), sized([24, 24]));
    let file = fixture("weights.backbone");
    assert!(file.load_into(&mut small).unwrap().resized.is_empty());
    let report = file.load_into(&mut large).unwrap();
    assert!(report.is_exact(), "{report}");
    assert_eq!(report.resized, ["pos_embed: file [1, 17, 24], model [1, 37, 24]"]);
    let images =
        Tensor::from_shape_fn(vec![2, 3, 24, 24], |i| ((i[1] + 2 * i[2] + 5 * i[3]) % 9) as Elem / 4.0);
    let scores = |net: &mut VisionTransformer| {
        let tape = Tape::without_grad(BufferPool::default());
        let mut rng = keyed(0, "test", 0, 0);
        let y = net.forward(tape.input(images.clone()), &mut Forward::new(false, &mut rng));
        y.unwrap().value().into_owned()
    };
    near(scores(&mut small).view(), scores(&mut large).view(), "the class token");
    // Of a map that is no square nobody knows how the positions lie.
    let report = file.load_into(&mut sized([24, 16])).unwrap();
    assert_eq!(report.mismatched, ["pos_embed: file [1, 17, 24], model [1, 25, 24]"]);
}

/// That the last block computes the class token alone changes no gradient.
#[test]
fn the_short_last_block_has_the_gradients_of_the_whole() {
    let images = fixture("out").get("images").unwrap().value.clone();
    let gradients = |out_type: OutType| {
        let mut net = vit(out_type);
        fixture("weights.backbone").load_into(&mut net).unwrap();
        Autograd::default()
            .train(&mut net, &mut keyed(0, "test", 0, 0), |net, tape, cx| {
                let y = net.forward(tape.input(images.clone()), cx)?;
                let y = if out_type == OutType::Raw { y.select(1, 0) } else { y };
                Ok((y.powi(3).sum(), ()))
            })
            .unwrap();
        let mut all = Vec::new();
        net.visit(&mut |p| all.push((p.name.to_owned(), p.grad.unwrap().to_owned())));
        all
    };
    for ((name, whole), (_, short)) in gradients(OutType::Raw).into_iter().zip(gradients(OutType::ClsToken)) {
        near(whole.view(), short.view(), &name);
    }
}

fn step(net: &mut VisionTransformer, autograd: &mut Autograd, iter: u64, n: usize) -> Elem {
    let x =
        Tensor::from_shape_fn(vec![n, 3, 16, 16], |i| ((i[0] * 7 + i[1] + i[2] * i[3]) % 13) as Elem * 0.1);
    let labels: Vec<i64> = (0..n as i64).map(|i| i % 24).collect();
    let loss = autograd
        .train(net, &mut keyed(0, "step", iter, 0), |net, tape, cx| {
            let scores = net.forward(tape.input(x), cx)?;
            let losses = CrossEntropyLoss::default().forward(scores, Target::Classes(&labels))?;
            Ok((losses.loss, losses.loss.item()))
        })
        .unwrap();
    net.visit_mut(&mut |mut p| {
        if let Some(mut grad) = p.grad {
            p.value.scaled_add(-0.05, &grad);
            grad.fill(0.0);
        }
    });
    loss
}

/// After two steps no buffer is made any more, with and without dropout, and none in evaluation.
#[test]
fn memory_is_steady() {
    for drop_rate in [0.0, 0.1] {
        let mut net = VisionTransformer::new(&VisionTransformerConfig { drop_rate, ..params() }).unwrap();
        init_weights(&mut net, 0).unwrap();
        let mut autograd = Autograd::default();
        let first = step(&mut net, &mut autograd, 0, 4);
        step(&mut net, &mut autograd, 1, 4);
        let (misses, bytes) = (autograd.pool().misses(), autograd.pool().bytes());
        let last = (2..30).map(|iter| step(&mut net, &mut autograd, iter, 4)).last().unwrap();
        assert_eq!((autograd.pool().misses(), autograd.pool().bytes()), (misses, bytes));
        assert!(last < first, "{first} {last}");

        let mut misses = Vec::new();
        for _ in 0..4 {
            autograd
                .eval(&mut net, &mut keyed(0, "eval", 0, 0), |net, tape, cx| {
                    net.forward(tape.input(Tensor::zeros(vec![4, 3, 16, 16])), cx).map(|_| ())
                })
                .unwrap();
            misses.push(autograd.pool().misses());
        }
        assert!(misses[1..].iter().all(|m| *m == misses[1]), "{misses:?}");
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let train = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let arch = VisionTransformerArch {
                embed_dims: 48,
                num_layers: 2,
                num_heads: 3,
                feedforward_channels: 192,
            };
            let p = VisionTransformerConfig { arch: ArchConfig(arch), ..params() };
            let mut net = VisionTransformer::new(&p).unwrap();
            init_weights(&mut net, 1).unwrap();
            let mut autograd = Autograd::default();
            let last = (0..2).map(|iter| step(&mut net, &mut autograd, iter, 48)).last().unwrap();
            assert!(last.is_finite());
            StateDict::of(&net).unwrap()
        })
    };
    let one = train(1);
    assert!(one.0.iter().all(|(_, t)| t.value.iter().all(|v| v.is_finite())));
    assert_eq!(train(2), one);
    assert_eq!(train(3), one);
}

/// Positions N(0, 0.02²), class token 0, feed-forward networks Xavier's, head 0: all by the seed, whatever `init_cfg`
/// says of layers.
#[test]
fn the_beginning_is_mmpretrain_s() {
    let yaml = "
type: VisionTransformer
arch: {embed_dims: 24, num_layers: 2, num_heads: 3, feedforward_channels: 48}
img_size: 64
patch_size: 4
init_cfg: {type: Constant, val: 7, layer: [Conv2d, Linear]}
";
    let build = || {
        let spec: Spec<dyn Module> = parse("net.yaml", yaml).unwrap().read().unwrap();
        spec.build(&mut BuildCx::new(0)).unwrap()
    };
    let mut net = build();
    let report = init_weights(&mut net, 3).unwrap();
    let line = report.iter().find(|line| line.starts_with("pos_embed")).unwrap();
    assert!(
        line.starts_with("pos_embed - [1, 257, 24]: TruncNormalInit: a=-2, b=2, mean=0, std=0.02 (mean "),
        "{line}"
    );
    let state = StateDict::of(&net).unwrap();
    let values = |name: &str| state.get(name).unwrap().value.clone();
    let pos = values("pos_embed");
    let (n, mean) = (pos.len() as f64, f64::from(pos.sum()) / pos.len() as f64);
    let std = (pos.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt();
    // Within five standard deviations of the estimates' own: 0.02 / sqrt(n) and 0.02 / sqrt(2 n).
    assert!(mean.abs() < 0.1 / n.sqrt() && (std - 0.02).abs() < 0.1 / (2.0 * n).sqrt(), "{mean} {std}");
    assert!(values("cls_token").iter().all(|v| *v == 0.0));
    assert!(values("patch_embed.projection.weight").iter().all(|v| *v == 7.0));
    assert!(values("layers.1.attn.qkv.weight").iter().all(|v| *v == 7.0));
    let bound = (6.0 / (24.0 + 48.0) as Elem).sqrt();
    let fc = values("layers.1.ffn.layers.0.0.weight");
    let top = fc.iter().fold(0.0, |m: Elem, v| m.max(v.abs()));
    assert!(top <= bound && top > 0.98 * bound, "{top} {bound}");
    // N(0, 1e-6), as MMPretrain draws it: none is zero, none is six deviations away.
    let bias = values("layers.1.ffn.layers.0.0.bias");
    assert!(bias.iter().all(|v| *v != 0.0 && v.abs() < 6e-6), "{bias:?}");

    let mut again = build();
    init_weights(&mut again, 3).unwrap();
    assert_eq!(StateDict::of(&again).unwrap(), state);
    init_weights(&mut again, 4).unwrap();
    assert_ne!(StateDict::of(&again).unwrap().get("pos_embed").unwrap().value, pos);

    let mut model = classifier();
    model.init_weights(0).unwrap();
    let head = StateDict::of(&model).unwrap().get("head.layers.head.weight").unwrap().value.clone();
    assert!(head.iter().all(|v| *v == 0.0));
}

/// The parts have the reference's paths, dropouts too, and their probability can be reached.
#[test]
fn paths_of_the_parts() {
    let mut net = VisionTransformer::new(&VisionTransformerConfig { drop_rate: 0.25, ..params() }).unwrap();
    let dropouts: Vec<String> = named_modules(&net)
        .iter()
        .filter(|(path, m)| m.type_name() == "Dropout" && !path.starts_with("layers.1"))
        .map(|(path, _)| path.clone())
        .collect();
    let wanted = [
        "drop_after_pos",
        "layers.0.attn.attn_drop",
        "layers.0.attn.proj_drop",
        "layers.0.ffn.layers.0.2",
        "layers.0.ffn.layers.2",
    ];
    assert_eq!(dropouts, wanted);
    assert_eq!(find(&net, "layers.0.ffn.layers.0.1").unwrap().type_name(), "GELU");
    let drop = shanty::nn::find_mut(&mut net, "layers.0.ffn.layers.0.2").unwrap();
    assert_eq!(drop.number_mut("p"), Some(&mut 0.25));
}

#[test]
fn mistakes_are_told_with_the_cure() {
    for (yaml, text) in [
        ("{type: VisionTransformer, arch: deit-tin}", "unknown arch `deit-tin`; did you mean `deit-tiny`?"),
        ("{type: VisionTransformer, arch: {embed_dims: 8, num_layer: 2}}", "num_layer"),
        (
            "{type: VisionTransformer, img_size: 30}",
            "`img_size: [30, 30]` is no multiple of `patch_size: [16, 16]`",
        ),
        ("{type: VisionTransformer, with_cls_token: false}", "`with_cls_token: true`"),
        ("{type: VisionTransformer, out_type: tokens}", "cls_token"),
        ("{type: MultiheadAttention, embed_dims: 10, num_heads: 3}", "does not divide `embed_dims: 10`"),
    ] {
        let build = || -> Result<Box<dyn Module>> {
            let spec: Spec<dyn Module> = parse("net.yaml", yaml)?.read()?;
            spec.build(&mut BuildCx::new(0))
        };
        let error = build().err().unwrap().to_string();
        assert!(error.contains(text), "{yaml}: {error}");
    }
    let batch = Batch::new(ArrayD::zeros(vec![2, 3, 18, 20]), vec![0, 1]);
    let error = classifier().eval_step(&batch).err().unwrap().to_string();
    assert!(error.contains("images of 16 × 16, not a batch of shape [2, 3, 18, 20]"), "{error}");
}
