//! Sums, products and reductions.

use crate::base::{Elem, Error, Result};
use crate::kernels;
use crate::nn::Var;
use crate::nn::pool::{slice, tensor};

impl<'t> Var<'t> {
    /// Element-wise sum of two tensors of one shape.
    ///
    /// # Errors
    /// When the shapes differ.
    #[allow(clippy::should_implement_trait)] // It returns a result.
    pub fn add(self, other: Self) -> Result<Self> {
        let (a, b) = (self.value(), other.value());
        if a.shape() != b.shape() {
            return Err(Error::invalid(format!(
                "add wants equal shapes, got {:?} and {:?}",
                a.shape(),
                b.shape()
            )));
        }
        let mut y = self.tape.take(a.len());
        kernels::add(slice(&a), slice(&b), &mut y);
        Ok(self.tape.node(tensor(a.shape(), y), &[self, other], move |dy, grads| {
            if grads.wants(0) && grads.wants(1) {
                let mut copy = grads.pool.take(dy.len());
                copy.copy_from_slice(&dy);
                grads.add(0, copy);
                grads.add(1, dy);
            } else {
                grads.add(usize::from(grads.wants(1)), dy);
            }
        }))
    }

    /// Element-wise product of two tensors of one shape.
    ///
    /// # Errors
    /// When the shapes differ.
    #[allow(clippy::should_implement_trait)] // It returns a result.
    pub fn mul(self, other: Self) -> Result<Self> {
        let (a, b) = (self.value(), other.value());
        if a.shape() != b.shape() {
            return Err(Error::invalid(format!(
                "mul wants equal shapes, got {:?} and {:?}",
                a.shape(),
                b.shape()
            )));
        }
        let mut y = self.tape.take(a.len());
        y.iter_mut().zip(slice(&a)).zip(slice(&b)).for_each(|((y, a), b)| *y = a * b);
        Ok(self.tape.node(tensor(a.shape(), y), &[self, other], move |dy, grads| {
            for (i, factor) in [(0, &b), (1, &a)] {
                if grads.wants(i) {
                    let mut dx = grads.pool.take(dy.len());
                    dx.iter_mut().zip(&dy).zip(slice(factor)).for_each(|((dx, dy), f)| *dx = dy * f);
                    grads.add(i, dx);
                }
            }
            grads.pool.give(dy);
        }))
    }

    /// Every element times `factor`.
    pub fn scale(self, factor: Elem) -> Self {
        let x = self.value();
        let mut y = self.tape.take(x.len());
        y.iter_mut().zip(slice(&x)).for_each(|(y, x)| *y = x * factor);
        self.tape.node(tensor(x.shape(), y), &[self], move |mut dy, grads| {
            kernels::scale(factor, &mut dy);
            grads.add(0, dy);
        })
    }

    /// The sum of all elements, shape `[]`.
    pub fn sum(self) -> Self {
        self.reduce(1.0)
    }

    /// The mean of all elements, shape `[]`; 0 for none.
    pub fn mean(self) -> Self {
        self.reduce(1.0 / self.value().len().max(1) as Elem)
    }

    fn reduce(self, factor: Elem) -> Self {
        let x = self.value();
        let len = x.len();
        // In f64: a batch of per-sample losses must not lose digits to its size.
        let sum: f64 = slice(&x).iter().map(|&v| f64::from(v)).sum();
        let mut y = self.tape.take(1);
        y[0] = sum as Elem * factor;
        self.tape.node(tensor(&[], y), &[self], move |dy, grads| {
            let mut dx = grads.pool.take(len);
            dx.fill(dy[0] * factor);
            grads.pool.give(dy);
            grads.add(0, dx);
        })
    }
}
