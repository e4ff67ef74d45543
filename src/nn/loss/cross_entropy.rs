//! Softmax cross entropy.

use ndarray::ArrayD;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result, Tensor};
use crate::kernels::{
    CrossEntropy, LossSums, RowGrad, cross_entropy, cross_entropy_backward, soft_cross_entropy,
    soft_cross_entropy_backward,
};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::shapes::expect_shape;
use crate::nn::{Activation, Average, Losses, Reduction, Target, Var};
use crate::register;
use crate::registry::BuildCx;

use super::class_weight::of_labels;
use super::rows::{means, swap_axes};
use super::targets::one_hot;
use super::{BCEWithLogitsLoss, ClassWeight, Loss, weighted};

/// `-log softmax(scores)[target]`, PyTorch's definition.
///
/// Smoothing spreads its share over all K classes. Class weights weigh both the target's part and the smoothed part.
/// The mean divides by the number of samples, as MMPretrain's heads do with its `class_weight`; with PyTorch's `weight`
/// it divides by the sum of the targets' weights, as PyTorch does. When every sample is ignored the mean is 0.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CrossEntropyLoss {
    /// How the losses of the samples become one number.
    pub reduction: Reduction,
    /// What a mean is taken over: `batch` or `weights`. If absent `weights` with `weight`, else `batch`.
    pub average: Option<Average>,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
    /// What each class counts for, MMPretrain's key, with the mean over the samples: a number a class, numbers by name
    /// (`{fail: 5.0}`, the others count for 1), or balanced, n / (K n_k) over the training data.
    pub class_weight: Option<ClassWeight>,
    /// The same, PyTorch's key: the mean is taken over the targets' weights, without the ignored samples.
    pub weight: Option<ClassWeight>,
    /// Samples with this target are left out; `null` for none.
    #[schemars(extend("x-unbounded" = true))]
    pub ignore_index: Option<i64>,
    /// The share of each target that is spread evenly over all classes.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub label_smoothing: f64,
    /// Whether each score is a yes or no of its own, as MMPretrain's: the binary cross entropy, added up over the classes of
    /// a sample. A mean is taken over the samples.
    pub use_sigmoid: bool,
    /// Accepted for MMPretrain's configs, where it asks for a probability for each class: these are taken as they are, and
    /// class numbers as well.
    pub use_soft: bool,
    /// What a yes weighs, one number a class, with `use_sigmoid`.
    #[schemars(inner(range(min = 0.0)))]
    #[serde(deserialize_with = "of_labels")]
    pub pos_weight: Option<Vec<f64>>,
}

impl Default for CrossEntropyLoss {
    fn default() -> Self {
        Self {
            reduction: Reduction::Mean,
            average: None,
            loss_weight: 1.0,
            class_weight: None,
            weight: None,
            ignore_index: Some(-100),
            label_smoothing: 0.0,
            use_sigmoid: false,
            use_soft: false,
            pos_weight: None,
        }
    }
}

impl CrossEntropyLoss {
    /// Of a yes or no for each class.
    fn binary<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let shape = scores.shape();
        let target = one_hot(target, &shape, "CrossEntropyLoss")?;
        let mean = self.reduction == Reduction::Mean;
        let law = BCEWithLogitsLoss {
            reduction: if mean { Reduction::Sum } else { self.reduction },
            loss_weight: self.loss_weight,
            weight: self.class_weight.as_ref().map(ClassWeight::numbers).transpose()?.cloned(),
            pos_weight: self.pos_weight.clone(),
        };
        let Losses { loss, per_sample } = law.forward(scores, Target::Dense(&target))?;
        let classes = shape.iter().skip(1).product::<usize>() as Elem;
        let share = if mean { 1.0 / shape.first().copied().unwrap_or(1).max(1) as Elem } else { 1.0 };
        Ok(Losses { loss: loss * share, per_sample: per_sample.iter().map(|loss| loss * classes).collect() })
    }

    fn options(&self) -> Result<CrossEntropyOptions> {
        let weights = |w: &Vec<f64>| ArrayD::from_shape_fn(vec![w.len()], |i| w[i[0]] as Elem).into_shared();
        let given = self.class_weight.as_ref().or(self.weight.as_ref()).map(ClassWeight::numbers);
        Ok(CrossEntropyOptions {
            class_weight: given.transpose()?.map(weights),
            ignore_index: self.ignore_index,
            label_smoothing: self.label_smoothing,
            reduction: self.reduction,
            average: self.average.unwrap_or(if self.weight.is_some() {
                Average::Weights
            } else {
                Average::Batch
            }),
        })
    }
}

impl Loss for CrossEntropyLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        if self.use_sigmoid {
            return self.binary(scores, target);
        }
        if scores.shape().get(1) == Some(&1) {
            return Err(Error::invalid(
                "cross entropy over the scores of one class is always 0: give the last layer a score for each class, or \
                 take BCEWithLogitsLoss for yes or no, MSELoss for numbers",
            ));
        }
        Ok(weighted(scores.cross_entropy(target, &self.options()?)?, self.loss_weight))
    }

    fn activation(&self) -> Activation {
        if self.use_sigmoid { Activation::Sigmoid } else { Activation::Softmax }
    }
}

register! { /// Softmax cross entropy with class weights, an ignored label and label smoothing.
dyn Loss, "CrossEntropyLoss" => fn CrossEntropyLoss::checked }

impl CrossEntropyLoss {
    fn checked(loss: Self, cx: &mut BuildCx) -> Result<Self> {
        if loss.class_weight.is_some() && loss.weight.is_some() {
            return Err(Error::config(
                "give `class_weight` (MMPretrain's mean) or `weight` (PyTorch's mean), not both",
            ));
        }
        if loss.pos_weight.is_some() && !loss.use_sigmoid {
            return Err(Error::config("`pos_weight` weighs a yes: it needs `use_sigmoid: true`"));
        }
        let plain = Self::default();
        let others = [
            ("use_soft", loss.use_soft),
            ("label_smoothing", loss.label_smoothing != 0.0),
            ("ignore_index", loss.ignore_index != plain.ignore_index),
            ("weight", loss.weight.is_some()),
            ("average", loss.average.is_some()),
        ];
        if let (true, Some((key, _))) = (loss.use_sigmoid, others.iter().find(|(_, given)| *given)) {
            return Err(Error::config(format!(
                "`{key}` is for a softmax over the classes: leave out it, or `use_sigmoid`"
            )));
        }
        Ok(Self {
            class_weight: ClassWeight::resolved(loss.class_weight, "class_weight", cx)?,
            weight: ClassWeight::resolved(loss.weight, "weight", cx)?,
            ..loss
        })
    }
}

/// The definition of a cross entropy.
#[derive(Debug, Clone, Default)]
pub struct CrossEntropyOptions {
    /// One weight a class.
    pub class_weight: Option<Tensor>,
    /// Samples with this target have loss 0 and weight 0.
    pub ignore_index: Option<i64>,
    /// The share of each target that is spread evenly over all classes.
    pub label_smoothing: f64,
    /// How the losses become one number.
    pub reduction: Reduction,
    /// What a mean is taken over.
    pub average: Average,
}

impl<'t> Var<'t> {
    /// The cross entropy of scores (logits) [N, K] and targets: N classes or probabilities [N, K]; of scores [N, K, H,
    /// W] and a class for each of the N · H · W pixels, or probabilities [N, K, H, W].
    ///
    /// When every sample is ignored or weighs 0, a mean is 0 with zero gradients.
    ///
    /// # Errors
    /// A target that is neither a class nor `ignore_index` (named with its position), and sizes that do not fit.
    pub fn cross_entropy(self, target: Target<'_>, options: &CrossEntropyOptions) -> Result<Losses<'t>> {
        let x = self.value();
        let (samples, k, places) = match x.shape() {
            [n, k, places @ ..] => (*n, *k, places.iter().product::<usize>()),
            shape => {
                return Err(Error::invalid(format!(
                    "cross entropy wants scores of shape [N, K] or [N, K, …], got {shape:?}"
                )));
            }
        };
        // Of an image every pixel is a row of scores of its own.
        let n = samples * places;
        if let Some(weight) = &options.class_weight {
            expect_shape("what weighs the classes (`class_weight`, `weight`)", weight.shape(), &[k])?;
        }
        let saved = Saved::new(target, x.shape(), [n, k, places], options)?;
        let (mut losses, mut probs) = (self.tape.take(n), self.tape.take(n * k));
        let sums = if places == 1 {
            saved.forward(slice(&x), &mut losses, &mut probs)?
        } else {
            let mut rows = self.tape.take(n * k);
            swap_axes(slice(&x), &mut rows, k, places);
            let sums = saved.forward(&rows, &mut losses, &mut probs)?;
            self.tape.give(rows);
            sums
        };
        let per_sample = if places == 1 { losses.clone() } else { means(&losses, places) };
        let (value, factor) = match options.reduction {
            Reduction::None => {
                let shape: Vec<usize> = [samples].iter().chain(&x.shape()[2..]).copied().collect();
                (tensor(&shape, losses), None)
            }
            Reduction::Sum | Reduction::Mean => {
                let over = match (options.reduction, options.average) {
                    (Reduction::Sum, _) => 1.0,
                    (_, Average::Weights) => sums.weight,
                    (_, Average::Batch) => n as f64,
                };
                // Nothing to average over: the loss is 0, not NaN, and asks for nothing.
                let factor = if over > 0.0 { 1.0 / over } else { 0.0 };
                self.tape.give(losses);
                let mut value = self.tape.take(1);
                value[0] = (sums.loss * factor) as Elem;
                (tensor(&[], value), Some(factor as Elem))
            }
        };
        let loss = self.tape.node("cross_entropy", value, &[self], move |dy, grads| {
            let rows = factor.map_or(RowGrad::Each(&dy), |factor| RowGrad::Same(dy[0] * factor));
            saved.backward(rows, &mut probs);
            grads.pool.give(dy);
            if places != 1 {
                let mut slope = grads.pool.take(probs.len());
                swap_axes(&probs, &mut slope, places, k);
                grads.pool.give(std::mem::replace(&mut probs, slope));
            }
            grads.add(0, probs);
        });
        Ok(Losses { loss, per_sample })
    }
}

/// The targets and the definition, saved for the way back.
struct Saved {
    k: usize,
    weight: Option<Tensor>,
    smoothing: f64,
    ignore: Option<i64>,
    target: SavedTarget,
}

enum SavedTarget {
    Classes(Vec<i64>),
    Soft(Vec<Elem>),
}

impl Saved {
    fn new(
        target: Target<'_>,
        shape: &[usize],
        [n, k, places]: [usize; 3],
        options: &CrossEntropyOptions,
    ) -> Result<Self> {
        let smoothing = options.label_smoothing;
        let target = match target {
            Target::Classes(classes) if classes.len() == n => SavedTarget::Classes(classes.to_vec()),
            Target::Classes(classes) => {
                return Err(Error::invalid(format!(
                    "cross entropy got {n} rows of scores and {} targets",
                    classes.len()
                )));
            }
            Target::Dense(q) => {
                if q.shape() != shape {
                    return Err(Error::invalid(format!(
                        "the target of cross entropy has shape {:?}: it takes one class a sample (whole numbers; a \
                         column of a table is one if `categorical` names it), or a probability for each class, {:?}; \
                         numbers are for MSELoss, yes or no for BCEWithLogitsLoss",
                        q.shape(),
                        shape
                    )));
                }
                if let Some(at) = q.iter().position(|q| *q < 0.0) {
                    let sample = at / (q.len() / q.shape()[0].max(1)).max(1);
                    return Err(Error::invalid(format!(
                        "the target of sample {sample} of the batch holds {}, and a probability is not negative; of several \
                         labels, some of them unknown, take MultiLabelLinearClsHead or `use_sigmoid: true`",
                        q.iter().nth(at).copied().unwrap_or_default()
                    )));
                }
                let (own, even) = ((1.0 - smoothing) as Elem, (smoothing / k as f64) as Elem);
                let smooth: Vec<Elem> = q.iter().map(|q| q * own + even).collect();
                let mut rows = vec![0.0; smooth.len()];
                swap_axes(&smooth, &mut rows, k, places);
                SavedTarget::Soft(rows)
            }
        };
        Ok(Self { k, weight: options.class_weight.clone(), smoothing, ignore: options.ignore_index, target })
    }

    fn definition(&self) -> CrossEntropy<'_> {
        let weight = self.weight.as_ref().map(slice);
        CrossEntropy { k: self.k, weight, smoothing: self.smoothing, ignore: self.ignore }
    }

    fn forward(&self, scores: &[Elem], losses: &mut [Elem], probs: &mut [Elem]) -> Result<LossSums> {
        match &self.target {
            SavedTarget::Classes(classes) => {
                cross_entropy(&self.definition(), scores, classes, losses, probs)
            }
            SavedTarget::Soft(q) => Ok(soft_cross_entropy(&self.definition(), scores, q, losses, probs)),
        }
    }

    fn backward(&self, rows: RowGrad<'_>, probs: &mut [Elem]) {
        match &self.target {
            SavedTarget::Classes(classes) => cross_entropy_backward(&self.definition(), classes, rows, probs),
            SavedTarget::Soft(q) => soft_cross_entropy_backward(&self.definition(), q, rows, probs),
        }
    }
}
