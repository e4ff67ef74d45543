//! What a metric sees of a batch and of the model's answer.

use ndarray::{ArrayD, ArrayView1, ArrayView2, ArrayViewD, Axis, Ix2, Slice};

use crate::base::{Elem, Error, Result};
use crate::data::{Batch, Column, Fields, TARGET};

/// A batch and what the model made of it. The methods leave out the repeats that fill up a rank's share.
#[derive(Debug, Clone)]
pub struct Predictions<'a> {
    /// The batch, with whatever fields the data set has.
    pub batch: &'a Batch,
    /// What the model predicts, by name; first axis N.
    pub outputs: &'a Fields<ArrayD<Elem>>,
    /// One loss a sample.
    pub losses: Option<&'a [Elem]>,
    /// Which of the outputs is meant; the only one if `None`.
    pub output: Option<&'a str>,
    /// Which field of the batch it is compared with.
    pub target: &'a str,
}

impl<'a> Predictions<'a> {
    /// The outputs of a model for a batch, to be compared with its `target`.
    pub fn of(batch: &'a Batch, outputs: &'a Fields<ArrayD<Elem>>) -> Self {
        Self { batch, outputs, losses: None, output: None, target: TARGET }
    }

    /// Positions in the data set of the samples that count.
    pub fn ids(&self) -> &'a [u64] {
        &self.batch.ids[..self.batch.valid]
    }

    /// What the model says of the samples that count.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no such output, several and none is named, or not one row a sample.
    pub fn predicted(&self) -> Result<ArrayViewD<'a, Elem>> {
        let found = match self.output {
            Some(name) => Some(self.outputs.find(name).map_err(|_| self.no_output(name))?),
            None => self.outputs.only().map(|(_, values)| values),
        };
        let Some(values) = found else {
            return Err(match self.outputs.is_empty() {
                true => Error::invalid(
                    "the model gives no scores and no other predictions: there is nothing to count",
                ),
                false => {
                    let names: Vec<&str> = self.outputs.names().collect();
                    Error::invalid(format!("the model predicts {}: say which by `output`", names.join(", ")))
                }
            });
        };
        let (n, shape) = (self.batch.len(), values.shape());
        match shape.first() {
            Some(rows) if *rows == n => Ok(self.valid(values.view())),
            _ => Err(Error::invalid(format!("scores of shape {shape:?} for {n} samples: expected [{n}, …]"))),
        }
    }

    /// The same, of classes or labels: refuses the `features` that a classifier without a head predicts. The largest of them
    /// is no class, and would be counted as one where there are enough of them. Who means an output of that name all the
    /// same says so by `output`.
    ///
    /// # Errors
    /// As those of [`predicted`](Self::predicted), and for features.
    pub fn scores(&self) -> Result<ArrayViewD<'a, Elem>> {
        match (self.output, self.outputs.only()) {
            (None, Some(("features", _))) => Err(Error::invalid(
                "the model predicts `features`, and no scores of classes to be right or wrong: with `head: null` there \
                 is nothing to count. Give it a head, as `{type: LinearClsHead, num_classes: 10, in_channels: 768}`",
            )),
            _ => self.predicted(),
        }
    }

    fn no_output(&self, name: &str) -> Error {
        let names: Vec<&str> = self.outputs.names().collect();
        Error::invalid(format!("the model predicts {}, and no `{name}`", names.join(", ")))
    }

    fn valid<'v, T>(&self, values: ArrayViewD<'v, T>) -> ArrayViewD<'v, T> {
        values.slice_axis_move(Axis(0), Slice::from(..self.batch.valid))
    }

    /// The classes of the samples that count, of whatever shape.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the batch has no such field, or it holds no integers.
    pub fn classes(&self) -> Result<ArrayViewD<'a, i64>> {
        Ok(self.valid(self.batch.int(self.target)?.view()))
    }

    /// What is predicted and what it should be, value by value, of the samples that count. Axes of length 1 do not
    /// count.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a sample has not as many values on one side as on the other.
    pub fn pairs(&self) -> Result<Pairs<'a>> {
        let (predicted, n) = (self.predicted()?, self.batch.valid);
        let target = match self.batch.fields.find(self.target)? {
            Column::Float(values) => Reals::Float(self.valid(values.view())),
            Column::Int(values) => Reals::Int(self.valid(values.view())),
            other => {
                return Err(Error::invalid(format!(
                    "`{}` holds {}: no number to compare with",
                    self.target,
                    other.kind()
                )));
            }
        };
        let significant =
            |shape: &[usize]| -> Vec<usize> { shape[1..].iter().copied().filter(|n| *n != 1).collect() };
        let (own, other) = (predicted.shape(), target.shape());
        if other.first() != Some(&n) || significant(own) != significant(other) {
            return Err(Error::invalid(format!(
                "predictions of shape {own:?} are compared with `{}` of shape {other:?}: as many values a sample are wanted",
                self.target
            )));
        }
        Ok(Pairs { predicted, target })
    }

    /// Calls `f` with the scores of the classes at each place of the samples that count, and the class that is true
    /// there: of scores [N, K] with one class a sample, of [N, K, …] with as many as there are places. Targets that are
    /// `ignored` are left out.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the shapes do not fit, or a target is none of the K classes.
    pub fn at_places(
        &self,
        ignored: Option<i64>,
        mut f: impl FnMut(ArrayView1<'_, Elem>, usize),
    ) -> Result<()> {
        let (scores, targets) = (self.scores()?, self.classes()?);
        let shape = scores.shape().to_vec();
        let places: usize = shape.iter().skip(2).product();
        if shape.len() < 2 || targets.len() != shape[0] * places {
            return Err(Error::invalid(format!(
                "scores of shape {shape:?} and `{}` of shape {:?}: [N, K, …] and [N, …] are wanted",
                self.target,
                targets.shape()
            )));
        }
        let classes = shape[1];
        for (scores, target) in scores.lanes(Axis(1)).into_iter().zip(&targets) {
            if ignored == Some(*target) {
                continue;
            }
            let class = usize::try_from(*target).ok().filter(|class| *class < classes).ok_or_else(|| {
                Error::invalid(format!(
                    "`{}` has the class {target}, but the scores are for {classes} classes",
                    self.target
                ))
            })?;
            f(scores, class);
        }
        Ok(())
    }

    /// Probabilities N, K of the samples that count, and their labels as classes.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the model gave no scores or not one row a sample, or when a label is none of the K
    /// classes.
    pub fn classified(&self) -> Result<(ArrayView2<'a, Elem>, Vec<usize>)> {
        let (scores, n) = (self.scores()?, self.batch.len());
        let shape = scores.shape().to_vec();
        let scores = scores.into_dimensionality::<Ix2>().map_err(|_| {
            Error::invalid(format!("scores of shape {shape:?} for {n} samples: expected [{n}, classes]"))
        })?;
        let classes = scores.ncols();
        let target = self.classes()?;
        if target.len() != self.batch.valid {
            let (name, shape) = (self.target, target.shape());
            return Err(Error::invalid(format!(
                "`{name}` has the shape {shape:?}, and one class a sample is wanted"
            )));
        }
        let class = |(&label, id): (&i64, &u64)| {
            usize::try_from(label).ok().filter(|&class| class < classes).ok_or_else(|| {
                let text = format!("sample {id} has label {label}, but the scores are for {classes} classes");
                // A yes or no by one score has no score for the no.
                let cure = ": one score is a label that is given or not, which `MultiLabelMetric` counts; classes are \
                            scored each by its own, with `CrossEntropyLoss`";
                Error::invalid(if classes == 1 { text + cure } else { text })
            })
        };
        let labels = target.iter().zip(self.ids()).map(class).collect::<Result<_>>()?;
        Ok((scores, labels))
    }
}

/// Two arrays of as many values.
#[derive(Debug)]
pub struct Pairs<'a> {
    predicted: ArrayViewD<'a, Elem>,
    target: Reals<'a>,
}

#[derive(Debug)]
enum Reals<'a> {
    Float(ArrayViewD<'a, Elem>),
    Int(ArrayViewD<'a, i64>),
}

impl Reals<'_> {
    fn shape(&self) -> &[usize] {
        match self {
            Self::Float(values) => values.shape(),
            Self::Int(values) => values.shape(),
        }
    }
}

impl Pairs<'_> {
    /// Calls `f` with the number of a value within its sample, what is predicted and what it should be.
    pub fn each(&self, mut f: impl FnMut(usize, f64, f64)) {
        let width = self.width().max(1);
        let predicted = self.predicted.iter().map(|v| f64::from(*v));
        let mut f = |(at, (p, t)): (usize, (f64, f64))| f(at % width, p, t);
        match &self.target {
            Reals::Float(values) => {
                predicted.zip(values.iter().map(|v| f64::from(*v))).enumerate().for_each(&mut f)
            }
            Reals::Int(values) => {
                predicted.zip(values.iter().map(|v| *v as f64)).enumerate().for_each(&mut f)
            }
        }
    }

    /// Calls `f` with what is predicted of each sample and what it should be.
    ///
    /// # Errors
    /// The first of `f`.
    pub fn rows(&self, mut f: impl FnMut(&[f64], &[f64]) -> Result<()>) -> Result<()> {
        let (width, mut done) = (self.width(), Ok(()));
        let (mut predicted, mut target) = (Vec::with_capacity(width), Vec::with_capacity(width));
        self.each(|at, p, t| {
            predicted.push(p);
            target.push(t);
            if at + 1 == width {
                if done.is_ok() {
                    done = f(&predicted, &target);
                }
                predicted.clear();
                target.clear();
            }
        });
        done
    }

    /// How many values a sample has.
    pub fn width(&self) -> usize {
        self.predicted.shape()[1..].iter().product()
    }
}
