//! Bad input gives an error that names the thing and the remedy; nothing is lost.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use shanty::base::{Elem, Result};
use shanty::data::Batch;
use shanty::model::{Model, StepCx};
use shanty::ndarray::ArrayD;
use shanty::params::{Op, Params, Set, StateDict, all};
use shanty_candle::{CandleModel, Fields, Forward, Losses, Network, Predictions};

use crate::support::{candle, mlp, model};

const STEP: StepCx = StepCx { seed: 0, iter: 0, loss_scale: 1.0 };

fn said<T>(result: Result<T>) -> String {
    result.err().expect("an error").to_string()
}

fn rows(width: usize, labels: Vec<i64>) -> Batch {
    Batch::new(ArrayD::from_elem(vec![labels.len(), width], 0.5), labels)
}

#[test]
fn batches_that_do_not_fit_are_refused_and_gradients_stay() {
    let mut net = mlp("{widths: [12, 16, 3]}");
    net.init_weights(0).unwrap();
    net.train_step(&rows(12, vec![0, 2]), &STEP).unwrap();
    let before = net.norm(Set::Grads, 2.0, &all).unwrap();
    assert!(before > 0.0);
    let shapes = said(net.train_step(&rows(9, vec![0]), &STEP));
    assert!(
        shapes.contains("shape mismatch") && shapes.contains("[1, 9]") && shapes.contains("[12, 16]"),
        "{shapes}"
    );
    let class = said(net.train_step(&rows(12, vec![0, 3]), &STEP));
    assert_eq!(class, "a sample is of class 3, but there are scores of 3 classes");
    let none = said(net.train_step(&Batch::unlabelled(ArrayD::zeros(vec![1, 12])), &STEP));
    assert!(none.contains("target"), "{none}");
    let empty = said(net.eval_step(&Batch::default()));
    assert!(empty.contains("the batch has no `inputs`"), "{empty}");
    assert_eq!(net.norm(Set::Grads, 2.0, &all).unwrap(), before);
    // A class that is not known costs the losses, not the prediction.
    let outputs = net.eval_step(&rows(12, vec![-1])).unwrap();
    assert_eq!((outputs.scores().unwrap().shape(), &outputs.sample_losses), (&[1, 3][..], &None));
}

#[test]
fn norms_see_every_bad_number() {
    for (order, bad) in
        [(2.0, f32::NAN), (f64::INFINITY, f32::NAN), (f64::INFINITY, f32::INFINITY), (1.0, f32::NEG_INFINITY)]
    {
        let mut net = mlp("{widths: [12, 16, 3]}");
        net.init_weights(0).unwrap();
        assert!(net.norm(Set::Values, order, &all).unwrap().is_finite());
        net.edit(Set::Values, &|p| p.name == "network.3.bias", &mut |_, mut value| value[1] = bad).unwrap();
        assert!(!net.norm(Set::Values, order, &all).unwrap().is_finite(), "{bad} and order {order}");
    }
    // Squares of large f32 are no f32.
    let mut net = mlp("{widths: [12, 16, 3]}");
    net.edit(Set::Values, &all, &mut |_, mut value| value.fill(1e30)).unwrap();
    let n = 12 * 16 + 16 + 16 * 3 + 3;
    let norm = net.norm(Set::Values, 2.0, &all).unwrap();
    assert!((norm / (1e30 * f64::from(n).sqrt()) - 1.0).abs() < 1e-6, "{norm}");
    // Their thousandth powers are no f64, in either direction.
    for size in [1e-3f32, 1e3] {
        net.edit(Set::Values, &all, &mut |_, mut value| value.fill(size)).unwrap();
        let norm = net.norm(Set::Values, 1000.0, &all).unwrap();
        assert!((norm / (f64::from(size) * f64::from(n).powf(1e-3)) - 1.0).abs() < 1e-6, "{norm}");
    }
    assert_eq!(net.norm(Set::Grads, 2.0, &all).unwrap(), 0.0, "there is no gradient yet");
}

#[test]
fn weights_that_are_missing_or_of_another_shape_are_told() {
    let whole = StateDict::of(&candle("resnet")).unwrap();
    let mut part = whole.clone();
    part.0.retain(|(name, _)| name != "head.fc.bias");
    let report = part.load_into(&mut candle("resnet")).unwrap();
    assert_eq!((report.missing, report.mismatched.len()), (vec!["head.fc.bias".to_owned()], 0));
    let mut other = mlp("{widths: [12, 16, 3]}");
    let report = StateDict::of(&mlp("{widths: [12, 20, 3]}")).unwrap().load_into(&mut other).unwrap();
    assert_eq!(report.mismatched[0], "network.0.weight: file [20, 12], model [16, 12]");
}

#[test]
fn configs_are_refused_before_anything_is_trained() {
    let refused = |yaml: &str| said(model(yaml));
    let device = refused("{type: CandleMlp, network: {widths: [3, 2]}, device: gpu}");
    assert!(device.contains("say cpu, cuda, cuda:1 or metal") || device.contains("pattern"), "{device}");
    if cfg!(not(feature = "cuda")) {
        let cuda = refused("{type: CandleMlp, network: {widths: [3, 2]}, device: 'cuda:1'}");
        assert!(
            cuda.contains("this program was built without cuda: build it with `--features cuda`"),
            "{cuda}"
        );
    }
    let heads = refused(
        "{type: CandleTransformer, network: {tokens: 9, d_model: 6, nhead: 4, dim_feedforward: 8, num_classes: 2}}",
    );
    assert!(heads.contains("`nhead: 4` does not divide `d_model: 6`"), "{heads}");
    let key = refused("{type: CandleMlp, network: {width: [3, 2]}}");
    assert!(key.contains("width"), "{key}");
    let range = refused("{type: CandleMlp, network: {widths: [3, 2], dropout: 1.5}}");
    assert!(range.contains("dropout") || range.contains("1.5"), "{range}");
    let large = refused("{type: CandleMlp, network: {widths: [3, 1000000000000, 2]}}");
    assert!(large.contains("this machine has"), "{large}");
}

/// Asks for what a trained network may not have.
struct Odd;

impl Network for Odd {
    fn loss(&self, _: &Fields<'_>, _: &Forward) -> candle_core::Result<Losses> {
        Ok(Losses::default().and("accuracy", Tensor::new(1f32, &Device::Cpu)?))
    }
    fn predict(&self, _: &Fields<'_>, _: &Forward) -> candle_core::Result<Predictions> {
        Ok(Predictions::default())
    }
}

fn odd(ask: impl Fn(VarBuilder<'_>) -> candle_core::Result<Tensor>) -> Result<CandleModel> {
    CandleModel::new(&Device::Cpu, |vb| ask(vb).map(|_| Odd))
}

#[test]
fn constructors_are_told_what_they_may_not_ask_for() {
    let twice = odd(|vb| vb.get(3, "w").and_then(|_| vb.get(4, "w")));
    assert_eq!(said(twice), "`w` is asked for twice, as [3] and as [4]");
    let half = odd(|vb| vb.get_with_hints_dtype(3, "w", candle_nn::Init::Const(0.0), DType::BF16));
    assert!(said(half).starts_with("`w` is to be BF16, but weights are F32"));
    assert_eq!(said(odd(|vb| vb.get((0, 3), "w"))), "`w` of shape [0, 3] has no element");
    for shape in [vec![1 << 45], vec![(1 << 62) + 1, 4]] {
        let large = said(odd(|vb| vb.get(shape.clone(), "w")));
        assert!(large.starts_with("`w` takes ") && large.contains("this machine has"), "{large}");
    }
    assert!(said(odd(|vb| vb.get_unchecked("w"))).contains("`w` is asked for without a shape"));
    let mut none = odd(|vb| vb.get(3, "w")).unwrap();
    let loss = said(none.train_step(&rows(3, vec![0]), &STEP));
    assert_eq!(loss, "no term has `loss` in its name, so nothing can be optimised: [\"accuracy\"]");
}

#[test]
fn parts_are_frozen_unless_they_move_by_themselves() {
    let mut net = candle("resnet");
    net.init_weights(0).unwrap();
    let moves = said(net.set_trainable("backbone.layer1", false));
    assert!(moves.contains("running_mean") && moves.contains("cannot be frozen"), "{moves}");
    assert!(said(net.set_trainable("neck", false)).contains("has no weights below `neck`"));
    net.set_trainable("head", false).unwrap();
    let pictures =
        Batch::new(ArrayD::from_shape_fn(vec![2, 1, 8, 8], |at| (at[0] + at[2] * at[3]) as f32), vec![0, 1]);
    net.train_step(&pictures, &STEP).unwrap();
    let mut reached = Vec::new();
    net.read(Set::Grads, &all, &mut |p, _| reached.push(p.name.to_owned())).unwrap();
    assert!(!reached.iter().any(|name| name.starts_with("head")) && !reached.is_empty(), "{reached:?}");
    net.set_trainable("head", true).unwrap();
    net.clear_grads().unwrap();
    net.train_step(&pictures, &STEP).unwrap();
    let mut head = 0;
    net.read(Set::Grads, &|p| p.name.starts_with("head"), &mut |_, _| head += 1).unwrap();
    assert_eq!(head, 2);
}

/// Rules of `paramwise_cfg` go by what a parameter is.
#[test]
fn roles_and_layers_are_told_by_names_and_shapes() {
    let mut told = Vec::new();
    candle("resnet").infos(&mut |p| told.push(format!("{} {} {:?}", p.name, p.layer, p.role)));
    for line in [
        "backbone.conv1.weight Conv2d Weight",
        "backbone.bn1.running_mean BatchNorm Buffer",
        "backbone.bn1.weight BatchNorm Weight",
        "backbone.layer2.0.downsample.1.bias BatchNorm Bias",
        "head.fc.bias Linear Bias",
    ] {
        assert!(told.iter().any(|own| own == line), "{line}: {told:#?}");
    }
    assert!(told[0].starts_with("backbone.conv1.weight"), "the order is that of the constructor");
}

/// A network of one weight, whose loss is what a test says.
struct By<F>(Tensor, F);

impl<F> Network for By<F>
where
    F: Fn(&Tensor, &Forward) -> candle_core::Result<Tensor> + Send + Sync + 'static,
{
    fn loss(&self, _: &Fields<'_>, cx: &Forward) -> candle_core::Result<Losses> {
        Ok(Losses::new(self.1(&self.0, cx)?))
    }
    fn predict(&self, _: &Fields<'_>, _: &Forward) -> candle_core::Result<Predictions> {
        Ok(Predictions::new("place", self.0.argmax(0)?.reshape(1)?))
    }
}

fn by(
    loss: impl Fn(&Tensor, &Forward) -> candle_core::Result<Tensor> + Send + Sync + 'static,
) -> CandleModel {
    CandleModel::new(&Device::Cpu, |vb| Ok(By(vb.get(3, "w")?, loss))).unwrap()
}

#[test]
fn losses_that_nothing_can_be_learned_from_are_refused() {
    let step = |mut net: CandleModel| net.train_step(&rows(3, vec![0]), &STEP).map(|out| out.loss());
    let detached = said(step(by(|w, _| w.detach().sum_all())));
    assert_eq!(detached, "the loss depends on no parameter that is trained");
    for p in [-0.5, 1.5, f64::NAN] {
        let dropped = said(step(by(move |w, cx| cx.dropout(w, p)?.sum_all())));
        assert_eq!(dropped, format!("dropout: {p} is no probability"));
    }
    // In f64 it is a loss like others, and the place of the largest score a number like others.
    let mut wide = by(|w, _| w.to_dtype(DType::F64)?.affine(2.0, 1.0)?.sum_all());
    assert_eq!(wide.train_step(&rows(3, vec![0]), &STEP).unwrap().loss().unwrap(), 3.0);
    assert_eq!(wide.norm(Set::Grads, f64::INFINITY, &all).unwrap(), 2.0);
    assert_eq!(wide.eval_step(&rows(3, vec![0])).unwrap().predictions.get("place").unwrap().len(), 1);
}

#[test]
fn gradients_that_are_no_numbers_are_not_clipped_to_some() {
    let mut net = by(|w, _| w.affine(Elem::NAN.into(), 0.0)?.sum_all());
    net.train_step(&rows(3, vec![0]), &STEP).unwrap();
    net.apply(Op::ClampGrads(0.5), &all).unwrap();
    assert!(net.norm(Set::Grads, f64::INFINITY, &all).unwrap().is_nan());
}

#[test]
fn one_sample_of_many_numbers_is_not_many_samples() {
    let squared = |shape: &[usize]| {
        let shape = shape.to_vec();
        let net = CandleModel::new(&Device::Cpu, |vb| Ok(Outputs(vb.get(shape, "w")?)));
        let mut batch = rows(3, vec![0; 4]);
        batch.fields.set("target", ArrayD::from_elem(vec![4], 1.0f32));
        net.unwrap().train_step(&batch, &STEP).map(|out| out.loss())
    };
    assert_eq!((squared(&[4]).unwrap(), squared(&[4, 1]).unwrap()), (Some(1.0), Some(1.0)));
    assert!(said(squared(&[1, 4])).contains("cannot be compared with a target of [4]"));
}

/// A network whose outputs are its weight.
struct Outputs(Tensor);

impl Network for Outputs {
    fn loss(&self, batch: &Fields<'_>, _: &Forward) -> candle_core::Result<Losses> {
        Ok(Losses::new(shanty_candle::objective::squared_error(&self.0, batch)?))
    }
    fn predict(&self, batch: &Fields<'_>, _: &Forward) -> candle_core::Result<Predictions> {
        shanty_candle::objective::numbers(&self.0, batch)
    }
}
