//! MMPretrain's preprocessor of classifiers.

use ndarray::ArrayD;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PixelOps, Prepared, Preprocessor};
use crate::base::{Elem, Error, Result, memory};
use crate::config::OneOrMany;
use crate::data::{Batch, Column, TARGET};
use crate::nn::{Forward, Tape};
use crate::register;
use crate::registry::BuildCx;

/// The keys of `{type: ClsDataPreprocessor, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClsDataPreprocessorConfig {
    /// Subtracted from the pixels: one number, or one for each of three channels. With `std`.
    #[schemars(extend("x-unbounded" = true))]
    pub mean: Option<OneOrMany<f64>>,
    /// What the pixels are divided by afterwards.
    #[schemars(schema_with = "super::positives")]
    pub std: Option<OneOrMany<f64>>,
    /// Height and width are padded to a multiple of this, below and to the right.
    #[schemars(range(min = 1))]
    pub pad_size_divisor: usize,
    /// The value of padded pixels, after normalisation.
    #[schemars(extend("x-unbounded" = true))]
    pub pad_value: f64,
    /// Whether three channels are turned round first.
    pub to_rgb: bool,
    /// Whether labels become rows of 0 and 1, as mixing samples needs them.
    pub to_onehot: bool,
    /// The number of classes, for `to_onehot`.
    #[schemars(range(min = 1))]
    pub num_classes: Option<usize>,
}

impl Default for ClsDataPreprocessorConfig {
    fn default() -> Self {
        Self {
            mean: None,
            std: None,
            pad_size_divisor: 1,
            pad_value: 0.0,
            to_rgb: false,
            to_onehot: false,
            num_classes: None,
        }
    }
}

/// Normalised pixels, and labels as classes or as probabilities.
///
/// A field `gt_score` of the batch (N × K, from mixed samples) is the target in place of the labels.
#[derive(Debug, Clone, Default)]
pub struct ClsDataPreprocessor {
    /// What is done to the pixels.
    pub pixels: PixelOps,
    /// Targets as rows of 0 and 1 over this number of classes; `None`: the labels themselves.
    pub onehot: Option<usize>,
}

register! { /// Normalises pixels; labels become one-hot on demand.
dyn Preprocessor, "ClsDataPreprocessor" => fn ClsDataPreprocessor::from_config }

impl ClsDataPreprocessor {
    fn from_config(p: ClsDataPreprocessorConfig, _: &mut BuildCx) -> Result<Self> {
        if p.to_onehot && p.num_classes.is_none() {
            return Err(Error::config("`to_onehot` needs `num_classes`"));
        }
        let pixels = PixelOps {
            swap_rgb: p.to_rgb,
            norm: PixelOps::norm(p.mean.as_deref(), p.std.as_deref())?,
            divisor: p.pad_size_divisor,
            pad_value: p.pad_value as Elem,
        };
        Ok(Self { pixels, onehot: p.num_classes.filter(|_| p.to_onehot) })
    }
}

impl Preprocessor for ClsDataPreprocessor {
    fn prepare<'t>(&self, batch: &Batch, _: &mut Forward<'_>, tape: &'t Tape) -> Result<Prepared<'t>> {
        let scores = match (batch.get("gt_score"), self.onehot) {
            (Some(_), _) => Some(batch.float("gt_score")?.clone()),
            (None, Some(classes)) => match batch.get(TARGET) {
                // Several labels a sample are rows already. They stay the batch's, where -1 is what is in doubt.
                Some(Column::Float(rows)) => rows_of(rows.shape(), batch.len(), classes).map(|()| None)?,
                Some(_) => Some(onehot(batch.labels()?, classes)?),
                None => None,
            },
            (None, None) => None,
        };
        Ok(Prepared { inputs: self.pixels.apply(batch.inputs()?, tape)?, scores })
    }
}

/// Refuses floats that are no row of as many numbers as there are classes for each of `n` samples.
fn rows_of(shape: &[usize], n: usize, classes: usize) -> Result<()> {
    if shape == [n, classes] {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "`to_onehot` with `num_classes: {classes}` wants classes, or targets of shape [{n}, {classes}] that are \
         one-hot already, and `{TARGET}` holds floats of shape {shape:?}"
    )))
}

/// The classes as rows of 0 and 1.
///
/// # Errors
/// When a label is none of the classes.
pub(in crate::model) fn onehot(labels: &[i64], classes: usize) -> Result<ArrayD<Elem>> {
    memory::fits("a batch of one-hot labels", &[labels.len(), classes], size_of::<Elem>())?;
    let mut scores = ArrayD::zeros(vec![labels.len(), classes]);
    for (i, &label) in labels.iter().enumerate() {
        let class = usize::try_from(label).ok().filter(|c| *c < classes);
        let class = class.ok_or_else(|| {
            Error::invalid(format!(
                "label {label} of sample {i} is none of the {classes} classes (`num_classes`)"
            ))
        })?;
        scores[[i, class]] = 1.0;
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::base::keyed;
    use crate::nn::BufferPool;

    #[test]
    fn targets_are_labels_rows_or_what_the_batch_brings() {
        let mut batch = Batch::new(array![[1.0], [2.0]].into_dyn(), vec![2, 0]);
        let tape = Tape::new(BufferPool::default());
        let mut rng = keyed(0, "test", 0, 0);
        let mut cx = Forward::new(true, &mut rng);
        let mut scores = |p: &ClsDataPreprocessor, batch: &Batch| {
            p.prepare(batch, &mut cx, &tape).map(|prepared| prepared.scores)
        };
        assert_eq!(scores(&ClsDataPreprocessor::default(), &batch).unwrap(), None);
        let rows = ClsDataPreprocessor { onehot: Some(3), ..Default::default() };
        assert_eq!(
            scores(&rows, &batch).unwrap().unwrap(),
            array![[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]].into_dyn()
        );
        let few = ClsDataPreprocessor { onehot: Some(2), ..Default::default() };
        let error = scores(&few, &batch).unwrap_err().to_string();
        assert_eq!(error, "label 2 of sample 0 is none of the 2 classes (`num_classes`)");
        // Several labels at once are rows already.
        let mut several = batch.clone();
        let labels: ArrayD<Elem> = array![[1.0, 0.0, 1.0], [0.0, -1.0, 0.0]].into_dyn();
        several.fields.set(TARGET, labels);
        assert_eq!(scores(&rows, &several).unwrap(), None);
        let error = scores(&few, &several).unwrap_err().to_string();
        assert!(error.contains("`to_onehot` with `num_classes: 2`") && error.contains("[2, 3]"), "{error}");
        let mixed = array![[0.5, 0.5], [1.0, 0.0]].into_dyn();
        batch.fields.set("gt_score", mixed.clone());
        assert_eq!(scores(&rows, &batch).unwrap().unwrap(), mixed);
    }
}
