//! MMPretrain's preprocessor of classifiers.

use ndarray::ArrayD;

use super::{PixelOps, Prepared, Preprocessor};
use crate::base::{Elem, Error, Result};
use crate::data::Batch;
use crate::nn::{Forward, Tape};

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

impl Preprocessor for ClsDataPreprocessor {
    fn prepare<'t>(&self, batch: &Batch, _: &mut Forward<'_>, tape: &'t Tape) -> Result<Prepared<'t>> {
        let scores = match (batch.field("gt_score"), self.onehot) {
            (Some(scores), _) => Some(scores.clone()),
            (None, Some(classes)) => Some(onehot(&batch.labels, classes)?),
            (None, None) => None,
        };
        Ok(Prepared { inputs: self.pixels.apply(&batch.inputs, tape)?, scores })
    }
}

fn onehot(labels: &[i64], classes: usize) -> Result<ArrayD<Elem>> {
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
    use crate::nn::Pool;

    #[test]
    fn targets_are_labels_rows_or_what_the_batch_brings() {
        let mut batch = Batch::new(array![[1.0], [2.0]].into_dyn(), vec![2, 0]);
        let tape = Tape::new(Pool::default());
        let mut rng = keyed(0, "test", 0, 0);
        let mut cx = Forward { training: true, rng: &mut rng };
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
        let mixed = array![[0.5, 0.5], [1.0, 0.0]].into_dyn();
        batch.fields.push(("gt_score".into(), mixed.clone()));
        assert_eq!(scores(&rows, &batch).unwrap().unwrap(), mixed);
    }
}
