//! Products of matrices.

use crate::base::{Elem, Error, Result, left_out};
use crate::kernels::{Epilogue, Mat, MatMut, gemm};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::{Var, Work};

use super::broadcast::joint_shape;
use super::reduce::offsets;
use super::zeros;

impl<'t> Var<'t> {
    /// The product of the matrices in the last two axes: [.., m, k] times [.., k, n] is [.., m, n]. The axes before
    /// them broadcast. A vector on the left is a row, one on the right a column, and its axis disappears, as in
    /// PyTorch.
    pub fn matmul(self, other: Self) -> Self {
        match (self.shape().len(), other.shape().len()) {
            (1, 1) => (self * other).sum(),
            (1, _) => self.unsqueeze(0).matmul(other).squeeze(-2),
            (_, 1) => self.matmul(other.unsqueeze(1)).squeeze(-1),
            _ => self.attempt(|| self.try_matmul(other)),
        }
    }

    fn try_matmul(self, other: Self) -> Result<Self> {
        let (a, b) = (self.value(), other.value());
        let s = Sizes::new(a.shape(), b.shape())?;
        let work = Work::sums(s.shape.iter().product(), s.k);
        self.tape.worked(work);
        let mut y = self.tape.take(s.shape.iter().product());
        s.each(|[at_a, at_b, at_y]| {
            s.product(0.0, s.a(slice(&a), at_a), s.b(slice(&b), at_b), &mut y[at_y..][..s.m * s.n]);
        });
        let y = tensor(&s.shape, y);
        Ok(self.tape.node("matmul", y, &[self, other], move |dy, grads| {
            // A matrix that was repeated collects a gradient from each of its products.
            if grads.wants(0) {
                let mut da = zeros(grads.pool, a.len());
                s.each(|[at_a, at_b, at_y]| {
                    s.product(1.0, s.y(&dy, at_y), s.b(slice(&b), at_b).t(), &mut da[at_a..][..s.m * s.k]);
                });
                grads.worked(work);
                grads.add(0, da);
            }
            if grads.wants(1) {
                let mut db = zeros(grads.pool, b.len());
                s.each(|[at_a, at_b, at_y]| {
                    s.product(1.0, s.a(slice(&a), at_a).t(), s.y(&dy, at_y), &mut db[at_b..][..s.k * s.n]);
                });
                grads.worked(work);
                grads.add(1, db);
            }
            grads.pool.give(dy);
        }))
    }
}

/// The sizes of a product, `batch` of them.
struct Sizes {
    m: usize,
    k: usize,
    n: usize,
    batch: Vec<usize>,
    /// By how much each factor and the product move along the axes of the batch.
    strides: [Vec<usize>; 3],
    shape: Vec<usize>,
}

impl Sizes {
    fn new(a: &[usize], b: &[usize]) -> Result<Self> {
        let misfit = || {
            Error::invalid(format!(
                "`matmul` wants [.., m, k] and [.., k, n], got {a:?} and {b:?}: the last axis of the first must be the last but \
                 one of the second"
            ))
        };
        let (&[ref batch_a @ .., m, k], &[ref batch_b @ .., inner, n]) = (a, b) else { return Err(misfit()) };
        if inner != k {
            return Err(misfit());
        }
        // One matrix for all rows is one product.
        if batch_b.is_empty() {
            let rows = batch_a.iter().product::<usize>() * m;
            let shape = batch_a.iter().copied().chain([m, n]).collect();
            return Ok(Self { m: rows, k, n, batch: Vec::new(), strides: Default::default(), shape });
        }
        let batch = joint_shape("matmul", batch_a, batch_b)?;
        let strides = [
            strides(batch_a, &batch, m * k),
            strides(batch_b, &batch, k * n),
            strides(&batch, &batch, m * n),
        ];
        let shape = batch.iter().copied().chain([m, n]).collect();
        Ok(Self { m, k, n, batch, strides, shape })
    }

    /// Calls `f` with the places of both factors and of the product, one matrix after the other.
    fn each(&self, mut f: impl FnMut([usize; 3])) {
        // Many small products are large together.
        let matrices = self.batch.iter().product::<usize>();
        if left_out(matrices * (self.m * self.k + self.k * self.n + self.m * self.n)) {
            return;
        }
        let [a, b, y] = [0, 1, 2].map(|i| {
            let mut all = Vec::new();
            offsets(&self.batch, &self.strides[i], |at| all.push(at));
            all
        });
        a.into_iter().zip(b).zip(y).for_each(|((a, b), y)| f([a, b, y]));
    }

    fn a<'a>(&self, all: &'a [Elem], at: usize) -> Mat<'a> {
        Mat::new(&all[at..][..self.m * self.k], self.m, self.k)
    }

    fn b<'a>(&self, all: &'a [Elem], at: usize) -> Mat<'a> {
        Mat::new(&all[at..][..self.k * self.n], self.k, self.n)
    }

    fn y<'a>(&self, all: &'a [Elem], at: usize) -> Mat<'a> {
        Mat::new(&all[at..][..self.m * self.n], self.m, self.n)
    }

    /// `y = old y + a b`.
    fn product(&self, old: Elem, a: Mat<'_>, b: Mat<'_>, y: &mut [Elem]) {
        let (rows, cols) = (a.rows, b.cols);
        gemm(1.0, a, b, old, MatMut::new(y, rows, cols), Epilogue::default());
    }
}

/// The steps, in elements, of matrices of this size along the axes of a batch; 0 where they are repeated.
fn strides(own: &[usize], batch: &[usize], matrix: usize) -> Vec<usize> {
    let mut strides = vec![0; batch.len()];
    let mut step = matrix;
    for (stride, size) in strides.iter_mut().rev().zip(own.iter().rev()) {
        *stride = if *size == 1 { 0 } else { step };
        step *= size;
    }
    strides
}
