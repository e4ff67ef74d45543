//! A sequence of labels from scores that know nothing of where each label lies.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::kernels::Ctc;
use crate::nn::{Losses, Reduction, Target, Var};
use crate::register;

use super::rows::{Row, Rows};
use super::targets::{class, whole};
use super::{Loss, weighted};

/// `-log p(labels)`, summed over all ways to say the labels in T steps with blanks between them (Graves 2006): PyTorch's
/// `CTCLoss`.
///
/// Scores [N, T, C], samples first as everywhere here, become log-probabilities by themselves; a LogSoftmax in front
/// changes nothing. The target has S whole numbers a sample, its labels, and behind them -1 or the blank. The lengths of
/// the sequences are those of the field that the objective names by `lengths`, else T. The mean divides the loss of a
/// sample by its number of labels and then by the samples, as in PyTorch; a sequence that is too short for its labels
/// has an infinite loss.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BufferPool, CTCLoss, Loss, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_elem(vec![1, 2, 2], 0.0));
/// // Of the four ways to say two steps three say "1": 1 1, 1 -, - 1.
/// let losses = CTCLoss::default().forward(x, Target::Classes(&[1, -1]))?;
/// assert!((losses.loss.item() + 0.75f32.ln()).abs() < 1e-6);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CTCLoss {
    /// The class that says nothing.
    #[schemars(range(min = 0))]
    pub blank: usize,
    /// Whether the infinite loss of a sequence that is too short counts as 0.
    pub zero_infinity: bool,
    /// How the losses of the samples become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

impl Default for CTCLoss {
    fn default() -> Self {
        Self { blank: 0, zero_infinity: false, reduction: Reduction::Mean, loss_weight: 1.0 }
    }
}

impl Loss for CTCLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        self.of(scores, target, None)
    }

    fn forward_lengths<'t>(
        &self,
        scores: Var<'t>,
        target: Target<'_>,
        lengths: &[i64],
    ) -> Result<Losses<'t>> {
        self.of(scores, target, Some(lengths))
    }
}

impl CTCLoss {
    fn of<'t>(&self, scores: Var<'t>, target: Target<'_>, lengths: Option<&[i64]>) -> Result<Losses<'t>> {
        let shape = scores.shape();
        let [n, time, classes] = shape[..] else {
            return Err(Error::invalid(format!("`CTCLoss` wants scores of shape [N, T, C], got {shape:?}")));
        };
        if self.blank >= classes {
            let blank = self.blank;
            return Err(Error::invalid(format!(
                "`CTCLoss`: `blank` is {blank}, and there are {classes} classes"
            )));
        }
        let width = match target {
            Target::Classes(labels) if n > 0 => labels.len() / n,
            _ => 0,
        };
        let targets = whole(target, n * width, "CTCLoss")?;
        let lengths = match lengths {
            Some(lengths) => self.checked(lengths, n, time)?,
            None => vec![time; n],
        };
        let (mut ctc, mean) = (Ctc::new(classes, self.blank), self.reduction == Reduction::Mean);
        let losses =
            scores.row_loss("ctc_loss", Rows::of_samples(&shape), self.reduction, |row, x, slope| {
                let labels = self.labels(&targets[row * width..][..width], classes, row)?;
                let (own, rest) = slope.split_at_mut(lengths[row] * classes);
                rest.fill(0.0);
                let mut loss = ctc.loss(&x[..own.len()], &labels, own);
                if self.zero_infinity && loss == f64::INFINITY {
                    own.fill(0.0);
                    loss = 0.0;
                }
                let share = if mean { 1.0 / labels.len().max(1) as f64 } else { 1.0 };
                own.iter_mut().for_each(|slope| *slope *= share as Elem);
                Ok(Row::once(loss * share))
            });
        Ok(weighted(losses?, self.loss_weight))
    }

    /// The lengths of the sequences, each between 0 and T.
    fn checked(&self, lengths: &[i64], n: usize, time: usize) -> Result<Vec<usize>> {
        if lengths.len() != n {
            let found = lengths.len();
            return Err(Error::invalid(format!("`CTCLoss` got {found} lengths for {n} sequences")));
        }
        let each = lengths.iter().enumerate().map(|(row, length)| {
            usize::try_from(*length).ok().filter(|length| *length <= time).ok_or_else(|| {
                Error::invalid(format!(
                    "`CTCLoss`: sequence {row} is to have length {length}, and its scores have {time} steps"
                ))
            })
        });
        each.collect()
    }

    /// The labels of a sample, without what fills up its row.
    fn labels(&self, row: &[i64], classes: usize, sample: usize) -> Result<Vec<usize>> {
        let fills = |label: &i64| *label == -1 || usize::try_from(*label) == Ok(self.blank);
        let n = row.iter().take_while(|label| !fills(label)).count();
        if let Some(label) = row[n..].iter().find(|label| !fills(label)) {
            return Err(Error::invalid(format!(
                "`CTCLoss`: label {label} of sample {sample} of the batch stands behind -1 or the blank ({}), which end \
                 the labels",
                self.blank
            )));
        }
        row[..n].iter().map(|label| class(*label, classes, sample, "CTCLoss")).collect()
    }
}

register! { /// The labels of a sequence whose places are not known, by all ways to say them.
dyn Loss, "CTCLoss" => CTCLoss }
