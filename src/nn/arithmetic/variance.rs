//! Variance and standard deviation along axes.

use crate::base::{Elem, Error, Result};
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

use super::reduce::{Axes, fold};
use super::{view, view_mut};

impl Var<'_> {
    /// The variance along these axes, which disappear: the squared distances from the mean, summed and divided by
    /// their number less `correction` (PyTorch's default is 1; 0 for that of a whole population).
    pub fn var_axes(self, axes: &[isize], correction: usize) -> Self {
        self.attempt(|| self.spread(&Axes::new("var_axes", &self.shape(), axes, false)?, correction, false))
    }

    /// The variance along these axes, which stay with size 1.
    pub fn var_keepdim(self, axes: &[isize], correction: usize) -> Self {
        self.attempt(|| self.spread(&Axes::new("var_keepdim", &self.shape(), axes, true)?, correction, false))
    }

    /// The standard deviation along these axes, which disappear: the root of [`Var::var_axes`]. Where it is 0 there is
    /// no gradient, as in PyTorch.
    pub fn std_axes(self, axes: &[isize], correction: usize) -> Self {
        self.attempt(|| self.spread(&Axes::new("std_axes", &self.shape(), axes, false)?, correction, true))
    }

    /// The standard deviation along these axes, which stay with size 1.
    pub fn std_keepdim(self, axes: &[isize], correction: usize) -> Self {
        self.attempt(|| self.spread(&Axes::new("std_keepdim", &self.shape(), axes, true)?, correction, true))
    }

    fn spread(self, axes: &Axes, correction: usize, root: bool) -> Result<Self> {
        let x = self.value();
        let count = axes.count();
        let Some(free) = count.checked_sub(correction).filter(|free| *free > 0) else {
            return Err(Error::invalid(format!(
                "`{}` with correction {correction} wants more than {correction} elements, but along these axes \
                 shape {:?} has {count}",
                axes.op,
                x.shape()
            )));
        };
        let kept = axes.kept_shape();
        let sums = fold(slice(&x), x.shape(), &axes.reduced, 0.0, |sum, x| sum + x);
        let means: Vec<Elem> = sums.iter().map(|sum| (sum / count as f64) as Elem).collect();
        // The distances from the rounded means, and what their sum says of the rounding.
        let mut away = self.tape.take(x.len());
        away.copy_from_slice(slice(&x));
        view_mut(x.shape(), &mut away).zip_mut_with(&view(&kept, &means), |x, mean| *x -= mean);
        let rests = fold(&away, x.shape(), &axes.reduced, 0.0, |sum, x| sum + x);
        let squares = fold(&away, x.shape(), &axes.reduced, 0.0, |sum, x| sum + x * x);
        let variances = squares
            .iter()
            .zip(&rests)
            .map(|(square, rest)| ((square - rest * rest / count as f64) / free as f64).max(0.0 * square));
        let mut y = self.tape.take(squares.len());
        y.iter_mut()
            .zip(variances)
            .for_each(|(y, variance)| *y = if root { variance.sqrt() } else { variance } as Elem);
        let y = tensor(&axes.shape, y);
        let (saved, shape) = (y.clone(), x.shape().to_vec());
        let free = free as Elem;
        Ok(self.tape.node(axes.op, y, &[self], move |mut dy, grads| {
            let slope = |y: Elem| {
                if !root {
                    2.0 / free
                } else if y == 0.0 {
                    0.0
                } else {
                    1.0 / (free * y)
                }
            };
            dy.iter_mut().zip(slice(&saved)).for_each(|(dy, y)| *dy *= slope(*y));
            view_mut(&shape, &mut away).zip_mut_with(&view(&kept, &dy), |away, dy| *away *= dy);
            grads.pool.give(dy);
            grads.add(0, away);
        }))
    }
}
