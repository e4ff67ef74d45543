//! Losses that compare value by value.

use ndarray::ArrayD;

use crate::base::{Elem, Error, Result};
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

use super::{Losses, Reduction, Target};

impl<'t> Var<'t> {
    /// A loss that compares every value with its own target: `f` gets the number of the value within its sample, the
    /// value and the target, and gives the loss and its derivative by the value.
    ///
    /// Axes of length 1 are no difference: scores of shape [N, 1] are compared with N targets. The loss of a sample is
    /// the mean over its values; without a reduction the loss of each value stays as it is, as in PyTorch.
    ///
    /// # Errors
    /// When there are not as many targets as values.
    pub fn pointwise_loss(
        self,
        target: Target<'_>,
        reduction: Reduction,
        f: impl Fn(usize, Elem, Elem) -> (Elem, Elem),
    ) -> Result<Losses<'t>> {
        let x = self.value();
        let n = x.shape().first().copied().unwrap_or(1);
        let y = target.values(x.shape())?;
        let width = x.len() / n.max(1);
        let (mut slope, mut losses) = (self.tape.take(x.len()), self.tape.take(x.len()));
        let (mut per_sample, mut total) = (Vec::with_capacity(n), 0f64);
        for row in 0..n {
            // In f64: a sum over many values must not lose digits to their number.
            let mut sum = 0f64;
            for i in 0..width {
                let at = row * width + i;
                let (loss, by_x) = f(i, slice(&x)[at], y[at]);
                sum += f64::from(loss);
                (losses[at], slope[at]) = (loss, by_x);
            }
            per_sample.push((sum / width.max(1) as f64) as Elem);
            total += sum;
        }
        // The loss is `share · Σ` over the batch, or that of each value.
        let share = if reduction == Reduction::Mean { 1.0 / x.len().max(1) as f64 } else { 1.0 };
        let value = if reduction == Reduction::None {
            tensor(x.shape(), losses)
        } else {
            self.tape.give(losses);
            let mut value = self.tape.take(1);
            value[0] = (total * share) as Elem;
            tensor(&[], value)
        };
        let loss = self.tape.node("pointwise_loss", value, &[self], move |dy, grads| {
            for (at, slope) in slope.iter_mut().enumerate() {
                *slope *= dy[if dy.len() == 1 { 0 } else { at }] * share as Elem;
            }
            grads.pool.give(dy);
            grads.add(0, slope);
        });
        Ok(Losses { loss, per_sample })
    }
}

impl Target<'_> {
    /// The targets as values for scores of this shape.
    pub(super) fn values(self, shape: &[usize]) -> Result<Vec<Elem>> {
        let significant =
            |shape: &[usize]| -> Vec<usize> { shape.iter().copied().filter(|n| *n != 1).collect() };
        let as_many = |other: &[usize], fits: bool| match fits {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "scores of shape {shape:?} are compared with targets of shape {other:?}"
            ))),
        };
        match self {
            Target::Classes(classes) => {
                as_many(&[classes.len()], classes.len() == shape.iter().product::<usize>())?;
                Ok(classes.iter().map(|class| *class as Elem).collect())
            }
            Target::Dense(values) => {
                as_many(values.shape(), significant(values.shape()) == significant(shape))?;
                Ok(row_major(values))
            }
        }
    }
}

fn row_major(values: &ArrayD<Elem>) -> Vec<Elem> {
    values.as_slice().map_or_else(|| values.iter().copied().collect(), <[Elem]>::to_vec)
}
