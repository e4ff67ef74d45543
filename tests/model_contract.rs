//! The contract of models: those of this crate keep it, on the host and on a device, and each clause is broken by one
//! that does not.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use shanty::base::{Elem, Error, Result};
use shanty::data::Batch;
use shanty::model::{ClsHead, ImageClassifier, Model, Outputs, StepCx, Supervised};
use shanty::ndarray::{Array2, ArrayD, ArrayViewD, ArrayViewMutD, IxDyn};
use shanty::nn::{BatchNorm1d, Conv2d, Dropout, Flatten, Linear, MSELoss, ReLU, Sequential};
use shanty::params::{FlatGrads, Info, Op, OptimState, OwnSet, Params, RuleOf, Set, Want};
use shanty::testing::{DeviceModel, ToyModel, model_breach};

/// Four batches of five samples of three numbers, with a number to predict.
fn numbers() -> Vec<Batch> {
    let batch = |n: usize| {
        let x = Array2::from_shape_fn((5, 3), |(i, k)| ((n * 15 + i * 3 + k) as Elem * 1.7).sin());
        let y = Array2::from_shape_fn((5, 1), |(i, _)| x[[i, 0]] * x[[i, 1]] + x[[i, 2]]);
        Batch::unlabelled(x.into_dyn()).with("target", y)
    };
    (0..4).map(batch).collect()
}

/// Four batches of five pictures, with a class each.
fn pictures() -> Vec<Batch> {
    let batch = |n: usize| {
        let x = ArrayD::from_shape_fn(IxDyn(&[5, 1, 4, 4]), |at| {
            ((n * 80 + at[0] * 16 + at[2] * 4 + at[3]) as Elem).sin()
        });
        Batch::new(x, vec![0, 1, 2, 1, 0])
    };
    (0..4).map(batch).collect()
}

/// With buffers, and with noise.
fn regression() -> Supervised {
    let layers = Sequential::new()
        .with(Linear::new(3, 8))
        .with(BatchNorm1d::new(8))
        .with(ReLU::new())
        .with(Dropout::new(0.25))
        .with(Linear::new(8, 1));
    Supervised::new(layers, MSELoss::default())
}

fn classifier() -> ImageClassifier {
    let layers = Sequential::new()
        .with(Conv2d::new(1, 4, 3).padding(1))
        .with(ReLU::new())
        .with(Flatten::new())
        .with(Linear::new(64, 3));
    ImageClassifier::new(layers, ClsHead::default())
}

mod host {
    shanty::testing::model_contract!(shanty::testing::ToyModel::new(3), super::numbers());
}
mod device {
    shanty::testing::model_contract!(shanty::testing::DeviceModel::new(3), super::numbers(), super::moved);
}
mod supervised {
    shanty::testing::model_contract!(super::regression(), super::numbers());
}
mod image_classifier {
    shanty::testing::model_contract!(super::classifier(), super::pictures());
}

fn moved(model: &dyn Model) -> u64 {
    let model: &dyn Any = model;
    model.downcast_ref::<DeviceModel>().map_or(0, |model| model.transfers().load(Ordering::Relaxed))
}

/// What is wrong with a model.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    MovesForNames,
    NamesTwice,
    RenamesAfterAStep,
    ReadsShort,
    ReadsUnwanted,
    DrawsByItself,
    DrawsItsNoise,
    LogsNoLoss,
    GradientsOfBuffers,
    Overwrites,
    LeavesGradients,
    Unscaled,
    LogsScaled,
    LearnsInEvaluation,
    PredictsFromBefore,
    CopiesFollow,
    AveragesForget,
    SwapsOneWay,
    ScalesAll,
    ClampsNothing,
    NormOfItsOwn,
    NormDropsNan,
    ForgetsSums,
    ExchangesNothing,
    UpdatesTwice,
    MovesBuffers,
    Tires,
    TakesAnything,
    Panics,
    TakesForeignSets,
    MovesInSteps,
}

/// A model with a fault.
struct Broken {
    inner: Supervised,
    fault: Fault,
    seeds: u64,
    steps: u64,
    seen: Option<Outputs>,
    moved: std::cell::Cell<u64>,
}

impl Broken {
    fn new(fault: Fault) -> Self {
        Self { inner: regression(), fault, seeds: 0, steps: 0, seen: None, moved: Default::default() }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }
}

impl Params for Broken {
    fn infos(&self, f: &mut dyn FnMut(Info<'_>)) {
        if self.is(Fault::MovesForNames) {
            self.moved.set(self.moved.get() + 1);
        }
        let mut first = true;
        self.inner.infos(&mut |info| {
            f(info);
            if std::mem::take(&mut first) && self.is(Fault::NamesTwice) {
                f(info);
            }
        });
        if self.is(Fault::RenamesAfterAStep) && self.steps > 0 {
            self.inner
                .infos(&mut |info| f(Info { name: &format!("late.{}", info.name), storage: (0, 0), ..info }));
        }
    }

    fn read(
        &self,
        set: Set,
        want: Want<'_>,
        f: &mut dyn FnMut(&Info<'_>, ArrayViewD<'_, Elem>),
    ) -> Result<()> {
        if self.is(Fault::ReadsUnwanted) {
            return self.inner.read(set, &|_| true, f);
        }
        if self.is(Fault::ReadsShort) {
            return self.inner.read(set, &|p| want(p) && !p.name.ends_with("bias"), f);
        }
        if self.is(Fault::GradientsOfBuffers) && set == Set::Grads {
            self.inner.read(Set::Values, &|p| want(p) && !p.role.is_trained(), f)?;
        }
        self.inner.read(set, want, f)
    }

    fn edit(
        &mut self,
        set: Set,
        want: Want<'_>,
        f: &mut dyn FnMut(&Info<'_>, ArrayViewMutD<'_, Elem>),
    ) -> Result<()> {
        self.inner.edit(set, want, f)
    }

    fn read_own(&self, own: &OwnSet, f: &mut dyn FnMut(&str, ArrayViewD<'_, Elem>)) -> Result<()> {
        match self.fault {
            Fault::CopiesFollow => self.inner.read(Set::Values, &|_| true, &mut |p, v| f(p.name, v)),
            Fault::TakesForeignSets => self.inner.read_own(own, f).or(Ok(())),
            _ => self.inner.read_own(own, f),
        }
    }

    fn apply(&mut self, op: Op<'_>, want: Want<'_>) -> Result<()> {
        match (op, self.fault) {
            (Op::ScaleGrads(factor), Fault::ScalesAll) => self.inner.apply(Op::ScaleGrads(factor), &|_| true),
            (Op::ClampGrads(_), Fault::ClampsNothing) => Ok(()),
            (Op::LerpTo(own, _), Fault::AveragesForget) => self.inner.apply(Op::CopyTo(own), want),
            (Op::Swap(own), Fault::SwapsOneWay) => self.inner.apply(Op::CopyTo(own), want),
            (op, Fault::TakesForeignSets) => self.inner.apply(op, want).or(Ok(())),
            (op, _) => self.inner.apply(op, want),
        }
    }

    fn norm(&self, set: Set, order: f64, want: Want<'_>) -> Result<f64> {
        let norm = self.inner.norm(set, order, want)?;
        Ok(match self.fault {
            Fault::NormOfItsOwn => norm * 1.001,
            Fault::NormDropsNan if !norm.is_finite() => 1.0,
            _ => norm,
        })
    }

    fn clear_grads(&mut self) -> Result<()> {
        if self.is(Fault::LeavesGradients) { Ok(()) } else { self.inner.clear_grads() }
    }

    fn put_grads(&mut self, sums: &BTreeMap<String, ArrayD<Elem>>) -> Result<()> {
        if self.is(Fault::ForgetsSums) { Ok(()) } else { self.inner.put_grads(sums) }
    }

    fn update(&mut self, rule_of: RuleOf<'_>, state: &mut OptimState) -> Result<()> {
        self.inner.update(rule_of, state)?;
        match self.fault {
            Fault::UpdatesTwice => self.inner.update(rule_of, state),
            Fault::MovesBuffers => {
                self.inner.edit(Set::Values, &|p| !p.role.is_trained(), &mut |_, mut v| v += 1.0)
            }
            Fault::MovesInSteps => {
                self.moved.set(self.moved.get() + 1);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn exchange(&mut self, want: Want<'_>, f: &mut dyn FnMut(&mut FlatGrads) -> Result<()>) -> Result<()> {
        if self.is(Fault::ExchangesNothing) { Ok(()) } else { self.inner.exchange(want, f) }
    }
}

impl Model for Broken {
    fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> Result<Outputs> {
        let bare = batch.fields.is_empty();
        match self.fault {
            Fault::Overwrites => self.inner.clear_grads()?,
            Fault::TakesAnything if bare => return Ok(Outputs::default()),
            Fault::Panics => assert!(!bare, "no fields"),
            _ => {}
        }
        let cx = match self.fault {
            Fault::DrawsItsNoise => StepCx { seed: next_seed(), ..*cx },
            Fault::Unscaled => StepCx { loss_scale: 1.0, ..*cx },
            Fault::Tires if self.steps > 4 => StepCx { loss_scale: 0.5 * cx.loss_scale, ..*cx },
            _ => *cx,
        };
        let mut outputs = self.inner.train_step(batch, &cx)?;
        self.steps += 1;
        match self.fault {
            Fault::LogsNoLoss => outputs.vars.clear(),
            Fault::LogsScaled => outputs.vars.iter_mut().for_each(|(_, v)| *v *= f64::from(cx.loss_scale)),
            _ => {}
        }
        Ok(outputs)
    }

    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        let outputs = self.inner.eval_step(batch)?;
        match self.fault {
            Fault::LearnsInEvaluation => {
                self.inner.edit(Set::Values, &|p| !p.role.is_trained(), &mut |_, mut v| v += 1.0)?;
            }
            Fault::PredictsFromBefore => return Ok(self.seen.get_or_insert(outputs).clone()),
            _ => {}
        }
        Ok(outputs)
    }

    fn init_weights(&mut self, seed: u64) -> Result<Vec<String>> {
        self.seeds += 1;
        self.inner.init_weights(if self.is(Fault::DrawsByItself) { seed + self.seeds } else { seed })
    }
}

/// Another number each time.
fn next_seed() -> u64 {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

fn said_of(make: impl Fn() -> Box<dyn Model>, batches: &[Batch]) -> Result<()> {
    let count = |model: &dyn Model| {
        let model: &dyn Any = model;
        model.downcast_ref::<Broken>().map_or(0, |model| model.moved.get())
    };
    model_breach(&|| Ok(make()), batches, &count)
}

#[test]
fn each_clause_is_broken_by_a_model_that_does_not_keep_it() {
    use Fault::*;
    let cases = [
        (MovesForNames, "`infos` moves tensors"),
        (NamesTwice, "two tensors of the model are called"),
        (RenamesAfterAStep, "`infos` tells other tensors the second time, or after a step"),
        (ReadsShort, "and `read` gives"),
        (ReadsUnwanted, "which was not wanted"),
        (DrawsByItself, "the weights of one seed, before and after a step, differ in"),
        (DrawsItsNoise, "the gradients of a batch, computed twice in one iteration, differ in"),
        (LogsNoLoss, "the first number of a step is None, and not a finite `loss`"),
        (GradientsOfBuffers, "has a gradient, and is not trained"),
        (Overwrites, "the gradients of two batches, and those added up, differ in"),
        (LeavesGradients, "`clear_grads` leaves gradients"),
        (Unscaled, "a quarter of the gradients, and those of a quarter of the loss, differ in"),
        (LogsScaled, "`loss_scale` changes the numbers that are logged"),
        (LearnsInEvaluation, "the values before and after an evaluation differ in"),
        (PredictsFromBefore, "with the values of another model it predicts otherwise"),
        (CopiesFollow, "a copy before and after two updates differ in"),
        (AveragesForget, "an average of what is trained, as it should be and as it is, differ in"),
        (SwapsOneWay, "a copy, and the values that changed places with it, differ in"),
        (ScalesAll, "alone is halved, as they should be and as they are, differ in"),
        (ClampsNothing, "clamped gradients, as they should be and as they are, differ in"),
        (NormOfItsOwn, "the norm of order 1 of its gradients is"),
        (NormDropsNan, "the norm of order 1 is 1, with a gradient that is NaN"),
        (ForgetsSums, "sums of gradients, and those that came back, are of other tensors"),
        (ExchangesNothing, "`exchange` does not give each gradient once"),
        (UpdatesTwice, "the values that SGD comes to on the host and where they are differ in"),
        (MovesBuffers, "the buffers before and after an update by SGD differ in"),
        (Tires, "the values that SGD comes to without a cut and with one differ in"),
        (TakesAnything, "it trains on a batch without a field"),
        (Panics, "a batch without a field is no error: `train_step` panicked: no fields"),
        (TakesForeignSets, "it takes tensors that another kind of model made"),
        (MovesInSteps, "six iterations with SGD move 2 tensors"),
    ];
    for (fault, text) in cases {
        let said = said_of(|| Box::new(Broken::new(fault)), &numbers()).unwrap_err().to_string();
        assert!(said.contains(text), "{fault:?}: {said}");
    }
}

/// What stands around the trial itself.
#[test]
fn a_trial_says_what_it_needs() {
    let said = said_of(|| Box::new(ToyModel::new(3)), &numbers()[..2]).unwrap_err().to_string();
    assert!(said.contains("the trial takes 4 batches, not 2"), "{said}");
    let refused =
        model_breach(&|| Err(Error::invalid("no weights")), &numbers(), &|_| 0).unwrap_err().to_string();
    assert!(refused.contains("no weights"), "{refused}");
}
