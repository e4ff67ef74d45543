//! The networks of the zoo against torchvision's, and against twins or MMPretrain's own where it has none
//! (`fixtures/zoo.json`, `zoo_mmpretrain.json` and `zoo_convolutional.json`, the scripts are beside them): every tensor of
//! the file finds its place, the logits are PyTorch's, the parameters as many as published.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

mod deployed;
mod published;
mod recipes;
mod recomputed;
mod refusals;
mod vig;

use ndarray::{ArrayD, IxDyn};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shanty::base::{Elem, Result, Tensor, keyed, memory};
use shanty::checkpoint::{Origin, write_tensors};
use shanty::config::Node;
use shanty::data::Batch;
use shanty::kernels::Act;
use shanty::model::{Head, Model, StepCx};
use shanty::module;
use shanty::nn::init::init_weights;
use shanty::nn::{
    Autograd, BufferPool, ConvModule, CrossEntropyLoss, Forward, Loss, Module, Tape, Target, Var,
};
use shanty::optim::{OptimWrapper, Sgd};
use shanty::params::{HostParams, Info, Params, Role, StateDict, StateTensor};
use shanty::registry::{BuildCx, Registrable, Spec};
use shanty::run::Runner;

/// A network of the fixture.
#[derive(Deserialize)]
struct Case {
    name: String,
    origin: Option<Origin>,
    config: Map<String, Value>,
    size: usize,
    n: usize,
    parameters: usize,
    tensors: Vec<String>,
    classes: usize,
    logits: Vec<f64>,
    /// Of the training, whose losses these are; none where PyTorch does not agree with itself.
    lr: f64,
    losses: Vec<f64>,
}

fn cases() -> Vec<Case> {
    let read = |name: &str| -> Vec<Case> {
        let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    ["zoo.json", "zoo_mmpretrain.json", "zoo_convolutional.json"].into_iter().flat_map(read).collect()
}

/// An element of `noise` of the script.
fn noise(seed: u64, i: u64) -> f64 {
    let mut h = (i.wrapping_mul(2_654_435_761)).wrapping_add(seed * 40_503 + 1) & 0xFFFF_FFFF;
    for (shift, factor) in [(16, 0x85EB_CA6B), (13, 0xC2B2_AE35), (16, 1)] {
        h = ((h ^ (h >> shift)) * factor) & 0xFFFF_FFFF;
    }
    (h >> 8) as f64 / f64::from(1 << 23) - 1.0
}

/// `weights` of the script.
fn weights(name: &str, shape: &[usize]) -> StateTensor {
    let hash = |seed: u64, byte: u8| ((seed ^ u64::from(byte)) * 0x0100_0193) & 0xFFFF_FFFF;
    let seed = name.bytes().fold(0x811C_9DC5, hash);
    let (scale, shift) = match shape {
        _ if name.ends_with("running_var") => (0.5, 1.0),
        [_, rest @ ..] if !rest.is_empty() => ((6.0 / rest.iter().product::<usize>() as f64).sqrt(), 0.0),
        _ => (0.1, if name.ends_with("weight") { 1.0 } else { 0.0 }),
    };
    let len = shape.iter().product::<usize>() as u64;
    let values = (0..len).map(|i| (shift + noise(seed, i) * scale) as f32 as Elem).collect();
    StateTensor { role: Role::Weight, value: ArrayD::from_shape_vec(IxDyn(shape), values).unwrap() }
}

/// The tensors of these lines, as the library would have written them.
fn file(lines: &[String]) -> StateDict {
    let mut file = Vec::new();
    for line in lines {
        let (name, shape) = line.split_once(' ').unwrap();
        let shape: Vec<usize> = shape.split(' ').map(|size| size.parse().unwrap()).collect();
        let own: &[&str] = match name.strip_suffix('*') {
            Some(_) => &["weight", "bias", "running_mean", "running_var"],
            None => &[""],
        };
        for own in own {
            let name = name.trim_end_matches('*').to_owned() + own;
            let tensor = weights(&name, &shape);
            file.push((name, tensor));
        }
    }
    StateDict(file)
}

/// The same where the scripts begin to train: batch norms keep what follows them away from its kinks.
fn begin(lines: &[String]) -> StateDict {
    let mut file = file(lines);
    let norms: Vec<&str> = lines.iter().filter_map(|line| Some(line.split_once('*')?.0)).collect();
    for (name, tensor) in &mut file.0 {
        let of = |own: &str| name.strip_suffix(own).is_some_and(|owner| norms.contains(&owner));
        if of("weight") {
            tensor.value.mapv_inplace(|scale| scale * 0.3);
        } else if of("bias") {
            tensor.value.mapv_inplace(|offset| offset + 0.6);
        }
    }
    file
}

impl Case {
    fn file(&self) -> StateDict {
        file(&self.tensors)
    }

    /// `squares` of the script.
    fn squares(&self, n: usize) -> Tensor {
        let at = |i: usize| (i * 8 / self.size) as u64;
        Tensor::from_shape_fn(vec![n, 3, self.size, self.size], |i| {
            let plane = (i[0] * 3 + i[1]) as u64;
            noise(7, plane * 64 + at(i[2]) * 8 + at(i[3])) as Elem
        })
    }

    fn images(&self, n: usize) -> Tensor {
        let mut i = -1.0;
        Tensor::from_shape_simple_fn(IxDyn(&[n, 3, self.size, self.size]), || {
            i += 1.0;
            (0.37f64 * i).sin() as f32 as Elem
        })
    }
}

/// The parts of an ImageClassifier, whose scores are looked at before they become probabilities.
struct Net {
    backbone: Box<dyn Module>,
    neck: Option<Box<dyn Module>>,
    head: Box<dyn Head>,
}

module!(Net { backbone, neck, head });

impl Module for Net {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let maps = cx.child_several("backbone", &mut self.backbone, x)?;
        let last = *maps.last().unwrap();
        let x = match &mut self.neck {
            Some(neck) if neck.takes_several() => cx.child_all("neck", neck, &maps)?,
            Some(neck) => cx.child("neck", neck, last)?,
            None => last,
        };
        cx.child("head", &mut self.head, x)
    }
}

fn build<T: ?Sized + Registrable>(value: &Value) -> Result<Box<T>> {
    Spec::<T>::from_node(&Node::of("zoo", value.as_object().unwrap())?)?.build(&mut BuildCx::new(0))
}

/// The network of a config, of zeros.
fn net(config: &Map<String, Value>) -> Net {
    let (net, _) = memory::accounted(true, 1, || Net {
        backbone: build(&config["backbone"]).unwrap_or_else(|e| panic!("{config:?}: {e}")),
        neck: config.get("neck").map(|neck| build(neck).unwrap()),
        head: build(&config["head"]).unwrap(),
    });
    net
}

fn parameters(net: &impl Params) -> usize {
    let mut count = 0;
    net.infos(&mut |p: Info<'_>| count += if p.role.is_trained() { p.shape.iter().product() } else { 0 });
    count
}

fn scores(net: &mut Net, images: Tensor) -> Vec<f64> {
    let tape = Tape::without_grad(BufferPool::default());
    let mut rng = keyed(0, "zoo", 0, 0);
    let y = net.forward(tape.input(images), &mut Forward::new(false, &mut rng)).unwrap();
    y.value().iter().map(|y| f64::from(*y)).collect()
}

/// The largest difference, as a share of the largest logit.
fn distance(case: &Case, found: &[f64]) -> f64 {
    let shown: Vec<f64> =
        found.chunks(case.classes).flat_map(|row| row.iter().copied().step_by(97)).collect();
    assert_eq!(shown.len(), case.logits.len(), "{}", case.name);
    let largest = case.logits.iter().fold(0.0f64, |most, y| most.max(y.abs()));
    shown.iter().zip(&case.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest
}

fn loaded(case: &Case) -> Net {
    loaded_from(case, case.file())
}

fn loaded_from(case: &Case, file: StateDict) -> Net {
    let mut net = net(&case.config);
    assert_eq!(parameters(&net), case.parameters, "{}", case.name);
    let file = match case.origin {
        Some(origin) => origin.renamed(file, &net).unwrap(),
        None => file,
    };
    let report = file.load_into(&mut net).unwrap();
    assert!(report.is_exact(), "{}: {report}", case.name);
    net
}

fn check(mine: impl Fn(&Case) -> bool) {
    let mut seen = 0;
    for case in cases().iter().filter(|case| mine(case)) {
        let away = distance(case, &scores(&mut loaded(case), case.images(case.n)));
        println!("{}: {} parameters, logits {away:.1e} away", case.name, case.parameters);
        // Its two dozen convolutions by Winograd's algorithm stand one behind the other.
        let most = if case.name == "CSPDarkNet" { 5e-5 } else { 2e-5 };
        assert!(away < most, "{}: {away:.1e}", case.name);
        seen += 1;
    }
    assert!(seen > 3, "{seen}");
}

fn is_residual(case: &Case) -> bool {
    case.name.contains("ResNet") || case.name.contains("ResNeXt")
}

#[test]
fn residual_networks_give_pytorchs_logits_from_its_weights() {
    check(is_residual);
}

#[test]
fn other_networks_of_torchvision_give_its_logits_from_its_weights() {
    check(|case| case.origin.is_some() && !is_residual(case));
}

#[test]
fn networks_that_torchvision_lacks_give_the_logits_of_twins_or_of_mmpretrain() {
    check(|case| case.origin.is_none() && !is_residual(case));
}

fn loss<'t>(net: &mut Net, images: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
    let scores = net.forward(images, cx)?.flatten(1, -1);
    Ok(CrossEntropyLoss::default().forward(scores, Target::Classes(&[0, 1, 2, 3]))?.loss)
}

/// The losses of ten steps of SGD with momentum, and that of the network in evaluation.
fn losses(case: &Case) -> Vec<f64> {
    let mut net = loaded_from(case, begin(&case.tensors));
    let mut optim = OptimWrapper::new(Sgd::new(case.lr).momentum(0.9));
    optim.bind(&net).unwrap();
    let images = case.squares(4);
    let (mut autograd, mut rng) = (Autograd::default(), keyed(0, "zoo", 0, 0));
    let mut losses = Vec::new();
    for _ in 0..10 {
        let loss = autograd.train(&mut net, &mut rng, |net, tape, cx| {
            let loss = loss(net, tape.input(images.clone()), cx)?;
            Ok((loss, loss.item()))
        });
        losses.push(f64::from(loss.unwrap()));
        optim.update(&mut net).unwrap();
    }
    let loss = autograd
        .eval(&mut net, &mut rng, |net, tape, cx| Ok(loss(net, tape.input(images.clone()), cx)?.item()));
    losses.push(f64::from(loss.unwrap()));
    losses
}

/// Ten steps from equal weights have PyTorch's losses to a thousandth: those of the networks of up to 3 million parameters,
/// and with the environment variable `SHANTY_ZOO=all`, in a minute, those of all.
#[test]
fn networks_learn_as_in_pytorch() {
    let all = std::env::var("SHANTY_ZOO").is_ok_and(|which| which == "all");
    let trained = |case: &&Case| !case.losses.is_empty() && (all || case.parameters < 3_000_000);
    for case in cases().iter().filter(trained) {
        let begun = std::time::Instant::now();
        let away =
            losses(case).iter().zip(&case.losses).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max);
        println!("{}: losses {away:.1e} away after {:.1?}", case.name, begun.elapsed());
        assert!(away < 1e-3, "{}: {away:.1e}", case.name);
    }
}

/// A config with `load_options: {from: torchvision}` takes torchvision's file as it is; without, nothing fits.
#[test]
fn a_run_takes_torchvisions_weights_under_their_names() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "ViT").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vit.safetensors");
    std::fs::write(&file, write_tensors(&case.file()).unwrap()).unwrap();
    let config = |options: Value| {
        let mut model = case.config.clone();
        model.insert("type".into(), "ImageClassifier".into());
        let data = json!({"type": "Synthetic", "n": 4, "shape": [3, 32, 32], "classes": 200});
        let whole = json!({
            "model": model, "work_dir": dir.path(), "load_from": file, "load_options": options, "overwrite": true,
            "val_dataloader": {"batch_size": 2, "dataset": data}, "val_cfg": {}, "val_evaluator": {"type": "Accuracy"},
        });
        Runner::from_config(&Node::of("run", whole.as_object().unwrap()).unwrap(), None)
    };
    let mut runner = config(json!({"from": "torchvision"})).unwrap();
    runner.val().unwrap();
    let state = StateDict::of(runner.model().unwrap()).unwrap();
    let of = |name: &str| state.get(name).unwrap().value.clone();
    let wanted = |name: &str, shape: &[usize]| weights(name, shape).value;
    assert_eq!(of("backbone.cls_token"), wanted("class_token", &[1, 1, 24]));
    let qkv = "encoder.layers.encoder_layer_1.self_attention.in_proj_weight";
    assert_eq!(of("backbone.layers.1.attn.qkv.weight"), wanted(qkv, &[72, 24]));
    let error = config(json!({})).and_then(|mut runner| runner.val().map(drop)).unwrap_err().to_string();
    assert!(error.contains("0 loaded") && error.contains("from: torchvision"), "{error}");
}

/// A convolution that is padded by its input: 4 places at stride 2 need one zero, which comes last; 5 need one on each side.
#[test]
fn adaptive_padding_puts_the_odd_zero_last() {
    let conv = ConvModule::of(1, 1, 3).stride(2).norm(None).act(Act::Identity);
    let (mut plain, mut adaptive) = (conv.clone().build().unwrap(), conv.adaptive(true).build().unwrap());
    StateDict::of(&plain).unwrap().load_into(&mut adaptive).unwrap();
    let tape = Tape::without_grad(BufferPool::default());
    let mut rng = keyed(0, "zoo", 0, 0);
    let mut run = |conv: &mut ConvModule, x: Tensor| {
        conv.forward(tape.input(x), &mut Forward::new(false, &mut rng)).unwrap().value().into_owned()
    };
    let image = |size: usize| weights("image", &[1, 1, size, size]).value.into_shared();
    let same =
        |a: ArrayD<Elem>, b: ArrayD<Elem>| a.shape() == b.shape() && (a - b).iter().all(|d| d.abs() < 1e-6);
    assert!(same(run(&mut plain, image(5)), run(&mut adaptive, image(5))));
    // One row and column of zeros in front more than there is: what the plain one sees of the larger image.
    let mut larger = ArrayD::zeros(vec![1, 1, 5, 5]);
    larger.slice_mut(ndarray::s![.., .., 1.., 1..]).assign(&image(4));
    let shifted = run(&mut plain, larger.into_shared());
    let shifted = shifted.slice(ndarray::s![.., .., 1.., 1..]).to_owned().into_dyn();
    assert!(same(shifted, run(&mut adaptive, image(4))));
}

/// Behind ImageClassifier every network learns: the loss of a batch falls, and each parameter has a gradient.
#[test]
fn small_networks_train_behind_image_classifier() {
    for case in cases().iter().filter(|case| case.origin.is_none() && case.name != "U-Net") {
        let mut config = case.config.clone();
        config.insert("type".into(), "ImageClassifier".into());
        let mut model = build::<dyn Model>(&Value::Object(config)).unwrap();
        model.init_weights(0).unwrap();
        let batch = Batch::new(case.images(case.n).into_owned(), (0..case.n as i64).collect());
        let outputs = model.train_step(&batch, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 }).unwrap();
        assert!(outputs.loss().unwrap().is_finite(), "{}", case.name);
        let norm = model.norm(shanty::params::Set::Grads, 2.0, &shanty::params::all).unwrap();
        assert!(norm > 0.0 && norm.is_finite(), "{}: {norm}", case.name);
    }
}

/// Without a head there are features to look at and nothing to train by; the key must be there all the same.
#[test]
fn a_classifier_without_a_head_gives_features() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "EVA-02").unwrap();
    let mut config = case.config.clone();
    config.insert("type".into(), "ImageClassifier".into());
    config.insert("head".into(), Value::Null);
    let mut model = build::<dyn Model>(&Value::Object(config.clone())).unwrap();
    let batch = Batch::new(case.images(2).into_owned(), vec![0, 1]);
    let outputs = model.eval_step(&batch).unwrap();
    assert_eq!(outputs.predictions.get("features").unwrap().shape(), [2, 24]);
    assert!(outputs.scores().is_none() && outputs.sample_losses.is_none());
    let features = model.trace(&batch).unwrap();
    assert!(features.iter().any(|row| row.path == "backbone" && row.output.is_some()));
    let error =
        model.train_step(&batch, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 }).unwrap_err().to_string();
    assert!(error.contains("`head: null`") && error.contains("LinearClsHead"), "{error}");
    config.remove("head");
    let error = build::<dyn Model>(&Value::Object(config)).map(drop).unwrap_err().to_string();
    assert!(error.contains("head"), "{error}");
}

/// Networks begin with finite weights, by rules that find their layers.
#[test]
fn initial_weights_are_finite() {
    for case in cases().iter().filter(|case| case.parameters < 3_000_000) {
        let mut net = net(&case.config);
        init_weights(&mut net, 0).unwrap();
        net.visit(&mut |p| assert!(p.value.iter().all(|v| v.is_finite()), "{}: {}", case.name, p.name));
    }
}
