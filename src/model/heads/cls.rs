//! The head that only has a loss.

use ndarray::{ArrayView1, Ix2};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Head;
use crate::base::{Elem, Error, Result, Tensor};
use crate::config::OneOrMany;
use crate::model::{LossDict, Outputs, SCORES};
use crate::nn::init::{Init, InitCfg};
use crate::nn::{CrossEntropyLoss, Forward, Loss, Module, Target, Var};
use crate::registry::{BuildCx, Spec};
use crate::{module, register};

/// The keys of `{type: ClsHead, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClsHeadConfig {
    /// The loss; cross entropy if absent.
    pub loss: Option<Spec<dyn Loss>>,
    /// Which accuracies are logged with `cal_acc`.
    #[schemars(with = "OneOrMany<std::num::NonZeroUsize>")]
    pub topk: OneOrMany<usize>,
    /// Whether `accuracy_top-k` is logged in training.
    pub cal_acc: bool,
    /// Accepted for MMPretrain's configs; the head has no weights.
    pub init_cfg: InitCfg,
}

impl Default for ClsHeadConfig {
    fn default() -> Self {
        Self { loss: None, topk: OneOrMany(vec![1]), cal_acc: false, init_cfg: None }
    }
}

/// What is said where right answers are to be counted among mixed targets.
pub(in crate::model) const UNCOUNTABLE: &str =
    "`cal_acc` counts right answers, and mixed targets have none: set it to false";

/// A head for features that are scores already: of LeNet-5, or of a network written as `Sequential`.
pub struct ClsHead {
    loss: Box<dyn Loss>,
    topk: Vec<usize>,
    cal_acc: bool,
    init: Vec<Init>,
}

module!(ClsHead {}, init_cfg = init);

register! { /// A loss for features that are scores already.
dyn Head, "ClsHead" => fn ClsHead::from_config }

/// Cross entropy, no accuracy in training.
impl Default for ClsHead {
    fn default() -> Self {
        Self::new(CrossEntropyLoss::default())
    }
}

impl ClsHead {
    /// A head with this loss.
    pub fn new(loss: impl Loss) -> Self {
        Self { loss: Box::new(loss), topk: vec![1], cal_acc: false, init: Vec::new() }
    }

    /// A head as the config says.
    ///
    /// # Errors
    /// If one of `topk` is 0, or what the builder of the loss says.
    pub fn from_config(p: ClsHeadConfig, cx: &mut BuildCx) -> Result<Self> {
        if p.topk.contains(&0) {
            return Err(Error::config("`topk` counts from 1"));
        }
        let loss = match &p.loss {
            Some(spec) => spec.build(cx)?,
            None => Box::new(CrossEntropyLoss::default()),
        };
        Ok(Self { loss, topk: p.topk.to_vec(), cal_acc: p.cal_acc, init: Init::list(&p.init_cfg, cx)? })
    }

    /// The sum of the losses of each of `all` scores, and the accuracies of `scores`.
    ///
    /// # Errors
    /// As those of [`Head::loss`].
    pub(super) fn loss_of<'t>(
        &self,
        all: &[Var<'t>],
        scores: Var<'t>,
        target: Target<'_>,
    ) -> Result<LossDict<'t>> {
        let mut dict = LossDict::default();
        let losses: Vec<_> =
            all.iter().map(|scores| Ok(self.loss.forward(*scores, target)?.loss)).collect::<Result<_>>()?;
        if let Some(total) = losses.into_iter().reduce(|a, b| a + b) {
            dict.push("loss", total.checked()?);
        }
        if self.cal_acc {
            let Target::Classes(classes) = target else {
                return Err(Error::config(UNCOUNTABLE));
            };
            let values = scores.value();
            let k_of = values.shape().last().copied().unwrap_or(0);
            for k in &self.topk {
                if *k > k_of {
                    return Err(Error::config(format!("`topk` asks for the best {k} of {k_of} classes")));
                }
                let percent = Tensor::from_elem(vec![], accuracy(&values, classes, *k));
                dict.push(format!("accuracy_top-{k}"), scores.tape().input(percent));
            }
        }
        Ok(dict)
    }

    /// The same, which logs `accuracy_top-k` in training for each of these.
    #[must_use]
    pub fn accuracy(self, topk: impl Into<Vec<usize>>) -> Self {
        Self { topk: topk.into(), cal_acc: true, ..self }
    }
}

impl Module for ClsHead {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        Ok(x)
    }
}

impl Head for ClsHead {
    fn loss<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<LossDict<'t>> {
        self.loss_of(&[scores], scores, target)
    }

    fn predict(&self, scores: Var<'_>, target: Option<Target<'_>>) -> Result<Outputs> {
        let sample_losses = target.map(|target| self.loss.forward(scores, target)).transpose()?;
        let outputs = Outputs::predicted(SCORES, scores.softmax(-1).value().into_owned());
        Ok(Outputs { sample_losses: sample_losses.map(|losses| losses.per_sample), ..outputs })
    }
}

/// Percent of the rows whose class is among the `k` largest scores; of equal scores the first class wins.
fn accuracy(scores: &Tensor, classes: &[i64], k: usize) -> Elem {
    let Ok(rows) = scores.view().into_dimensionality::<Ix2>() else { return 0.0 };
    let hit = |row: ArrayView1<'_, Elem>, class: usize| {
        let own = row[class];
        let before = |(i, score): (usize, &Elem)| *score > own || *score == own && i < class;
        !own.is_nan() && row.iter().enumerate().filter(|pair| before(*pair)).count() < k
    };
    let hits = rows
        .outer_iter()
        .zip(classes)
        .filter(|(row, class)| usize::try_from(**class).is_ok_and(|c| c < row.len() && hit(*row, c)))
        .count();
    100.0 * hits as Elem / classes.len().max(1) as Elem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{BufferPool, Tape};

    fn scores() -> Tensor {
        let rows = vec![0.1, 0.7, 0.2, 3.0, 3.0, 1.0, Elem::NAN, 0.0, 0.0];
        Tensor::from_shape_vec(vec![3, 3], rows).unwrap()
    }

    /// Row 0: class 1 first. Row 1: a tie, the first class wins. Row 2: NaN is never right.
    #[test]
    fn accuracy_counts_ties_once_and_nan_never() {
        assert_eq!(accuracy(&scores(), &[1, 0, 0], 1), 200.0 / 3.0);
        assert_eq!(accuracy(&scores(), &[2, 1, 0], 1), 0.0);
        assert_eq!(accuracy(&scores(), &[2, 1, 0], 2), 200.0 / 3.0);
        assert_eq!(accuracy(&scores(), &[-1, 3, 0], 3), 0.0, "no such class");
    }

    #[test]
    fn training_logs_what_is_asked_for() {
        let tape = Tape::new(BufferPool::default());
        let scores = tape.input(Tensor::from_shape_vec(vec![2, 2], vec![1.0, 1.0, 1.0, 1.0]).unwrap());
        let head = ClsHead::default().accuracy([1, 2]);
        let (total, outputs) = head.loss(scores, Target::Classes(&[0, 1])).unwrap().total().unwrap();
        assert!((total.item() - (2.0 as Elem).ln()).abs() < 1e-6);
        let names: Vec<_> = outputs.vars.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(names, ["loss", "accuracy_top-1", "accuracy_top-2"]);
        assert_eq!((outputs.get("accuracy_top-1"), outputs.get("accuracy_top-2")), (Some(50.0), Some(100.0)));
        let mixed = ndarray::array![[0.5, 0.5], [0.5, 0.5]].into_dyn();
        let error = head.loss(scores, Target::Dense(&mixed)).unwrap_err().to_string();
        assert!(error.contains("`cal_acc`"), "{error}");
    }

    #[test]
    fn predictions_are_probabilities() {
        let tape = Tape::without_grad(BufferPool::default());
        let scores = tape.input(Tensor::from_shape_vec(vec![1, 2], vec![0.0, (3.0 as Elem).ln()]).unwrap());
        let outputs = ClsHead::default().predict(scores, Some(Target::Classes(&[1]))).unwrap();
        let p = outputs.scores().unwrap();
        assert!((p[[0, 0]] - 0.25).abs() < 1e-6 && (p[[0, 1]] - 0.75).abs() < 1e-6);
        assert!((outputs.sample_losses.unwrap()[0] + (0.75 as Elem).ln()).abs() < 1e-6);
        assert!(ClsHead::default().predict(scores, None).unwrap().sample_losses.is_none());
    }
}
