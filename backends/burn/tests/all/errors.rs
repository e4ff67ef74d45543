//! What a network of burn must not do, and what does not fit it, is an error in words; the run's state is as it was.

use burn::module::{Module, Param, ParamId};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use shanty::base::{Error, Result};
use shanty::data::Batch;
use shanty::model::{Model, StepCx};
use shanty::ndarray::{ArrayD, IxDyn};
use shanty::optim::{Optimizer, Sgd};
use shanty::params::{OptimState, Params, Set, StateDict, all};
use shanty_burn::{BurnModel, Fields, Losses, Network, Predictions};

use crate::mlp::{Mlp, MlpConfig};

const STEP: StepCx = StepCx { seed: 5, iter: 0, loss_scale: 1.0 };

fn two_layers() -> BurnModel<Mlp> {
    BurnModel::new(|device| Mlp::new(&MlpConfig { hidden: 16, dropout: 0.0, ..Default::default() }, device))
        .unwrap()
}

fn pictures(shape: &[usize], classes: Vec<i64>) -> Batch {
    Batch::new(ArrayD::from_shape_fn(IxDyn(shape), |at| at[0] as f32 + 0.5), classes)
}

#[test]
fn what_does_not_fit_is_an_error_in_words() {
    let mut model = two_layers();
    let said =
        |batch: Batch, model: &mut BurnModel<Mlp>| model.train_step(&batch, &STEP).unwrap_err().to_string();
    model.train_step(&pictures(&[2, 1, 8, 8], vec![0, 1]), &STEP).unwrap();
    let before = model.norm(Set::Grads, 2.0, &all).unwrap();
    assert!(before > 0.0);
    assert_eq!(
        said(pictures(&[2, 64], vec![0, 1]), &mut model),
        "the field `inputs` has the shape [2, 64], and the network wants 4 axes"
    );
    let text = said(pictures(&[2, 1, 7, 8], vec![0, 1]), &mut model);
    assert!(text.starts_with("the network panicked: ") && text.contains("56"), "{text}");
    assert_eq!(
        said(pictures(&[2, 1, 8, 8], vec![0, 12]), &mut model),
        "a sample is of class 12, but there are scores of 10 classes"
    );
    let none = said(Batch::unlabelled(ArrayD::zeros(IxDyn(&[2, 1, 8, 8]))), &mut model);
    assert!(none.contains("`target`"), "{none}");
    assert_eq!(model.norm(Set::Grads, 2.0, &all).unwrap(), before);
    // A class that is not known costs the losses, not the prediction.
    let unknown = model.eval_step(&pictures(&[1, 1, 8, 8], vec![-1])).unwrap();
    assert_eq!((unknown.scores().unwrap().shape(), &unknown.sample_losses), (&[1, 10][..], &None));
    // It trains on.
    let outputs = model.train_step(&pictures(&[2, 1, 8, 8], vec![0, 1]), &STEP).unwrap();
    assert!(outputs.loss().unwrap().is_finite());
    for (hidden, why) in [(0, "has no element"), (1_000_000_000_000, "this machine has")] {
        let config = MlpConfig { hidden, norm: false, ..Default::default() };
        let text = BurnModel::new(move |device| Mlp::new(&config, device)).err().unwrap().to_string();
        assert!(text.starts_with("`fc1.weight` ") && text.contains(why), "{text}");
    }
    let refused = BurnModel::<Mlp>::new(|_| Err(Error::config("`hidden: 0`"))).err().unwrap().to_string();
    assert_eq!(refused, "`hidden: 0`");
}

#[test]
fn norms_see_every_bad_number() {
    for (order, bad) in
        [(2.0, f32::NAN), (f64::INFINITY, f32::NAN), (f64::INFINITY, f32::INFINITY), (1.0, f32::NEG_INFINITY)]
    {
        let mut model = two_layers();
        assert!(model.norm(Set::Values, order, &all).unwrap().is_finite());
        model.edit(Set::Values, &|p| p.name == "fc2.bias", &mut |_, mut value| value[1] = bad).unwrap();
        assert!(!model.norm(Set::Values, order, &all).unwrap().is_finite(), "{bad} and order {order}");
    }
    // Squares of large f32 are no f32.
    let mut model = two_layers();
    model.edit(Set::Values, &all, &mut |_, mut value| value.fill(1e30)).unwrap();
    let n = 64 * 16 + 16 + 4 * 16 + 16 * 10 + 10;
    let norm = model.norm(Set::Values, 2.0, &all).unwrap();
    assert!((norm / (1e30 * f64::from(n).sqrt()) - 1.0).abs() < 1e-6, "{norm}");
    assert_eq!(model.norm(Set::Grads, 2.0, &all).unwrap(), 0.0, "there is no gradient yet");
}

/// How the loss of a [`Line`] goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Odd {
    Several,
    Detached,
    NoNumber,
    Not,
}

/// A map whose first part is frozen by its constructor.
#[derive(Module, Debug)]
struct Line {
    frozen: Linear,
    line: Linear,
    #[module(skip)]
    odd: Odd,
}

impl Line {
    fn new(odd: Odd, device: &Device) -> Result<Self> {
        let linear = || LinearConfig::new(3, 3).init(device);
        Ok(Self { frozen: linear().no_grad(), line: linear(), odd })
    }
}

impl Network for Line {
    fn loss(&self, batch: &Fields<'_>) -> Result<Losses> {
        let out = self.line.forward(self.frozen.forward(batch.float::<2>("inputs")?));
        let each = out.square().mean_dim(1).flatten::<1>(0, 1);
        Ok(match self.odd {
            Odd::Several => each.into(),
            Odd::Detached => each.mean().detach().into(),
            Odd::NoNumber => (each.mean() / 0.0).into(),
            Odd::Not => Losses::from(each.clone().mean()).and("largest", each.max()),
        })
    }

    fn predict(&self, batch: &Fields<'_>) -> Result<Predictions> {
        Ok(Predictions::new("out", self.line.forward(batch.float::<2>("inputs")?)))
    }
}

fn line(odd: Odd) -> BurnModel<Line> {
    BurnModel::new(move |device| Line::new(odd, device)).unwrap()
}

fn rows() -> Batch {
    Batch::unlabelled(ArrayD::from_shape_fn(IxDyn(&[4, 3]), |at| (at[0] * 3 + at[1]) as f32 * 0.1))
}

#[test]
fn a_loss_is_one_number_of_what_is_trained() {
    let said = |odd| line(odd).train_step(&rows(), &STEP).unwrap_err().to_string();
    assert_eq!(said(Odd::Several), "`loss` is 4 numbers, and has to be one");
    let detached = said(Odd::Detached);
    assert_eq!(
        detached,
        "the loss depends on no parameter that is trained: all are frozen, or it was detached"
    );
    let mut model = line(Odd::Not);
    model.set_trainable("line", false).unwrap();
    assert_eq!(model.train_step(&rows(), &STEP).unwrap_err().to_string(), detached);
    // A hook judges what is no number.
    assert!(!line(Odd::NoNumber).train_step(&rows(), &STEP).unwrap().loss().unwrap().is_finite());
}

#[test]
fn what_the_constructor_froze_stays() {
    let mut model = line(Odd::Not);
    model.init_weights(1).unwrap();
    let before = StateDict::of(&model).unwrap();
    let mut outputs = model.train_step(&rows(), &STEP).unwrap();
    outputs.settle().unwrap();
    assert_eq!(outputs.vars.len(), 2);
    let rule: &dyn Optimizer = &Sgd::new(0.1);
    model.update(&|_| Some(rule), &mut OptimState::default()).unwrap();
    let after = StateDict::of(&model).unwrap();
    for ((name, old), (_, new)) in before.0.iter().zip(&after.0) {
        assert_eq!(old == new, name.starts_with("frozen"), "{name}");
    }
}

/// A table of whole numbers that is a parameter.
#[derive(Module, Debug)]
struct Table {
    line: Linear,
    table: Param<Tensor<1, Int>>,
}

impl Network for Table {
    fn loss(&self, _: &Fields<'_>) -> Result<Losses> {
        Ok(self.line.weight.val().mean().into())
    }

    fn predict(&self, _: &Fields<'_>) -> Result<Predictions> {
        Ok(Predictions::default())
    }
}

#[test]
fn whole_numbers_are_no_parameter() {
    let error = BurnModel::new(|device: &Device| {
        let table = Param::initialized(ParamId::new(), Tensor::<1, Int>::zeros([4], device));
        Ok(Table { line: LinearConfig::new(3, 3).init(device), table })
    });
    let text = error.err().unwrap().to_string();
    assert!(text.starts_with("`table` is a parameter of whole numbers or truth values"), "{text}");
    assert!(text.contains("#[module(skip)]"), "{text}");
}
