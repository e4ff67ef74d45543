//! Losses that compare a row of scores with its target: the scores of a sample's or a pixel's classes, or a vector.

use crate::base::{Elem, Error, Result};
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

use super::{Losses, Reduction};

/// How scores fall into rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub samples: usize,
    /// Scores of a row.
    pub k: usize,
    /// Rows of a sample.
    pub places: usize,
    /// Whether the rows lie behind the axis of the classes, so that a loss without reduction has their axes too.
    pub behind: bool,
}

impl Rows {
    /// The scores of classes, [N, K] or [N, K, …]: of an image every pixel is a row of its own.
    pub fn of_classes(shape: &[usize], loss: &str) -> Result<Self> {
        match shape {
            [samples, k, places @ ..] => {
                Ok(Self { samples: *samples, k: *k, places: places.iter().product(), behind: true })
            }
            _ => Err(Error::invalid(format!(
                "{loss} wants scores of shape [N, K] or [N, K, …], got {shape:?}"
            ))),
        }
    }

    /// All that there is of a sample.
    pub fn of_samples(shape: &[usize]) -> Self {
        let samples = shape.first().copied().unwrap_or(1);
        Self { samples, k: shape.iter().skip(1).product(), places: 1, behind: false }
    }

    pub fn len(self) -> usize {
        self.samples * self.places
    }
}

/// The loss of a row, and what the row adds to the number that a mean divides by.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Row {
    pub loss: f64,
    pub weight: f64,
}

impl Row {
    /// A row that counts once.
    pub fn once(loss: f64) -> Self {
        Self { loss, weight: 1.0 }
    }
}

impl<'t> Var<'t> {
    /// A loss of each row: `f` gets the number of the row, the row, and where its slope belongs, which it fills. A mean
    /// over nothing is 0 and asks for nothing.
    pub(super) fn row_loss(
        self,
        op: &'static str,
        rows: Rows,
        reduction: Reduction,
        mut f: impl FnMut(usize, &[Elem], &mut [Elem]) -> Result<Row>,
    ) -> Result<Losses<'t>> {
        let x = self.value();
        let Rows { samples, k, places, behind } = rows;
        let (mut losses, mut slope) = (self.tape.take(rows.len()), self.tape.take(x.len()));
        let mut gathered = Vec::new();
        if places != 1 {
            gathered = self.tape.take(x.len());
            swap_axes(slice(&x), &mut gathered, k, places);
        }
        let scores = if places == 1 { slice(&x) } else { &gathered };
        let mut sum = Row::default();
        for (row, loss) in losses.iter_mut().enumerate() {
            let own = row * k..(row + 1) * k;
            let found = f(row, &scores[own.clone()], &mut slope[own])?;
            *loss = found.loss as Elem;
            sum = Row { loss: sum.loss + found.loss, weight: sum.weight + found.weight };
        }
        self.tape.give(gathered);
        let per_sample = if places == 1 { losses.clone() } else { means(&losses, places) };
        let share = match reduction {
            Reduction::Mean if sum.weight > 0.0 => 1.0 / sum.weight,
            Reduction::Mean => 0.0,
            Reduction::Sum | Reduction::None => 1.0,
        };
        let value = if reduction == Reduction::None {
            let places = x.shape().get(2..).filter(|_| behind).unwrap_or_default();
            tensor(&[&[samples], places].concat(), losses)
        } else {
            self.tape.give(losses);
            let mut value = self.tape.take(1);
            value[0] = (sum.loss * share) as Elem;
            tensor(&[], value)
        };
        let loss = self.tape.node(op, value, &[self], move |dy, grads| {
            for (row, slope) in slope.chunks_exact_mut(k.max(1)).enumerate() {
                let factor = dy[if dy.len() == 1 { 0 } else { row }] * share as Elem;
                slope.iter_mut().for_each(|slope| *slope *= factor);
            }
            grads.pool.give(dy);
            if places != 1 {
                let mut scattered = grads.pool.take(slope.len());
                swap_axes(&slope, &mut scattered, places, k);
                grads.pool.give(std::mem::replace(&mut slope, scattered));
            }
            grads.add(0, slope);
        });
        Ok(Losses { loss, per_sample })
    }
}

/// From samples of `rows` × `columns` to samples of `columns` × `rows`.
pub(super) fn swap_axes(from: &[Elem], to: &mut [Elem], rows: usize, columns: usize) {
    let size = (rows * columns).max(1);
    for (from, to) in from.chunks_exact(size).zip(to.chunks_exact_mut(size)) {
        for (row, values) in from.chunks_exact(columns).enumerate() {
            values.iter().enumerate().for_each(|(column, value)| to[column * rows + row] = *value);
        }
    }
}

/// The mean of each run of `places` losses: that of a sample over its pixels.
pub(super) fn means(losses: &[Elem], places: usize) -> Vec<Elem> {
    let mean = |run: &[Elem]| (run.iter().map(|v| f64::from(*v)).sum::<f64>() / places as f64) as Elem;
    losses.chunks_exact(places.max(1)).map(mean).collect()
}
