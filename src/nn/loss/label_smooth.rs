//! Cross entropy of targets that are not quite sure.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::nn::{Activation, Average, Losses, Reduction, Target, Var};
use crate::register;
use crate::registry::BuildCx;

use super::class_weight::of_labels;
use super::targets::one_hot;
use super::{BCEWithLogitsLoss, ClassWeight, CrossEntropyLoss, Loss};

/// Cross entropy of smoothed targets, MMPretrain's `LabelSmoothLoss`, of scores [N, K] and one class a sample, or a value
/// for each score.
///
/// With v = `label_smooth_val`: `original` makes `y (1 - v) + v / K` of a target y, which is the `label_smoothing` of
/// `CrossEntropyLoss`; `classy_vision` the same with v / (1 + v); `multi_label` makes `1 - v` of a yes and `v` of a no,
/// and takes the cross entropy of yes and no.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BufferPool, LabelSmoothLoss, Loss, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 2], vec![2.0, 0.0]).unwrap());
/// let loss = LabelSmoothLoss::new(0.1).forward(x, Target::Classes(&[0]))?.loss;
/// assert!((loss.item() - 0.226928).abs() < 1e-6);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct LabelSmoothLoss {
    /// How much of a target is given away.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub label_smooth_val: f64,
    /// The number of classes, to be checked against the scores.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub num_classes: Option<usize>,
    /// Whether each score is a yes or no of its own; if absent only in the mode `multi_label`.
    #[serde(default)]
    pub use_sigmoid: Option<bool>,
    /// What smoothing means.
    #[serde(default)]
    pub mode: SmoothMode,
    /// How the losses become one number.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
    /// What each class counts for: a number a class, numbers by name, or balanced, as CrossEntropyLoss has it.
    #[serde(default)]
    pub class_weight: Option<ClassWeight>,
    /// What a yes weighs, one number a class, with `use_sigmoid`.
    #[serde(default)]
    #[schemars(inner(range(min = 0.0)))]
    #[serde(deserialize_with = "of_labels")]
    pub pos_weight: Option<Vec<f64>>,
}

fn one() -> f64 {
    1.0
}

/// What is made of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SmoothMode {
    /// A share is spread evenly over all classes.
    #[default]
    Original,
    /// The same with the share v / (1 + v).
    ClassyVision,
    /// A yes becomes 1 - v, a no v.
    MultiLabel,
}

impl LabelSmoothLoss {
    /// Targets of which this share is spread over all classes.
    pub fn new(label_smooth_val: f64) -> Self {
        Self {
            label_smooth_val,
            num_classes: None,
            use_sigmoid: None,
            mode: SmoothMode::Original,
            reduction: Reduction::Mean,
            loss_weight: 1.0,
            class_weight: None,
            pos_weight: None,
        }
    }

    fn checked(loss: Self, cx: &mut BuildCx) -> Result<Self> {
        if loss.mode == SmoothMode::MultiLabel && loss.use_sigmoid == Some(false) {
            return Err(Error::config(
                "`mode: multi_label` has a yes or no for each label: it needs `use_sigmoid`",
            ));
        }
        if loss.pos_weight.is_some() && !loss.sigmoid() {
            return Err(Error::config("`pos_weight` weighs a yes: it needs `use_sigmoid: true`"));
        }
        let class_weight = ClassWeight::resolved(loss.class_weight, "class_weight", cx)?;
        Ok(Self { class_weight, ..loss })
    }

    fn sigmoid(&self) -> bool {
        self.use_sigmoid.unwrap_or(self.mode == SmoothMode::MultiLabel)
    }

    /// The share of a target that is given away.
    fn share(&self) -> f64 {
        let v = self.label_smooth_val;
        if self.mode == SmoothMode::ClassyVision { v / (1.0 + v) } else { v }
    }
}

impl Loss for LabelSmoothLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let shape = scores.shape();
        let k = shape.get(1).copied().unwrap_or(1);
        if let Some(classes) = self.num_classes.filter(|classes| *classes != k) {
            return Err(Error::invalid(format!(
                "`LabelSmoothLoss`: `num_classes` is {classes}, and the scores have shape {shape:?}"
            )));
        }
        if !self.sigmoid() {
            let law = CrossEntropyLoss {
                label_smoothing: self.share(),
                class_weight: self.class_weight.clone(),
                average: Some(Average::Batch),
                ignore_index: None,
                reduction: self.reduction,
                loss_weight: self.loss_weight,
                ..CrossEntropyLoss::default()
            };
            return law.forward(scores, target);
        }
        let (keep, even) = ((1.0 - self.share()) as Elem, (self.share() / k as f64) as Elem);
        let given = self.share() as Elem;
        let smooth = one_hot(target, &shape, "LabelSmoothLoss")?.mapv_into(|y| match self.mode {
            SmoothMode::MultiLabel if y > 0.0 => 1.0 - given,
            SmoothMode::MultiLabel => given,
            _ => y * keep + even,
        });
        let law = BCEWithLogitsLoss {
            reduction: self.reduction,
            loss_weight: self.loss_weight,
            weight: self.class_weight.as_ref().map(ClassWeight::numbers).transpose()?.cloned(),
            pos_weight: self.pos_weight.clone(),
        };
        law.forward(scores, Target::Dense(&smooth))
    }

    fn activation(&self) -> Activation {
        if self.sigmoid() { Activation::Sigmoid } else { Activation::Softmax }
    }
}

register! { /// Cross entropy of smoothed targets, in MMPretrain's three modes.
dyn Loss, "LabelSmoothLoss" => fn LabelSmoothLoss::checked }
