//! The affine map, one node with its bias.

use crate::base::{Error, Result};
use crate::nn::Var;
use crate::nn::kernels::{Act, Bias, Epilogue, Mat, MatMut, col_sums, gemm};
use crate::nn::pool::{slice, tensor};

use super::expect_shape;

impl<'t> Var<'t> {
    /// `x wᵀ + b` over the last axis: `x` [.., in], `weight` [out, in], `bias` [out].
    ///
    /// # Errors
    /// When the sizes do not fit.
    pub fn linear(self, weight: Self, bias: Option<Self>) -> Result<Self> {
        let (x, w) = (self.value(), weight.value());
        let &[outs, ins] = w.shape() else {
            return Err(Error::invalid(format!(
                "the weight of a linear map has two axes, not shape {:?}",
                w.shape()
            )));
        };
        let Some((_, leading)) = x.shape().split_last().filter(|(last, _)| **last == ins) else {
            return Err(Error::invalid(format!(
                "a linear map of {ins} features got an input of shape {:?}: its last axis must be {ins}",
                x.shape()
            )));
        };
        let b = bias.map(Var::value);
        if let Some(b) = &b {
            expect_shape("the bias of a linear map", b.shape(), &[outs])?;
        }
        let rows: usize = leading.iter().product();
        let shape: Vec<usize> = leading.iter().copied().chain([outs]).collect();
        let mut y = self.tape.take(rows * outs);
        let epilogue =
            Epilogue { bias: b.as_ref().map_or(Bias::None, |b| Bias::Cols(slice(b))), act: Act::Identity };
        let (xm, wm) = (Mat::new(slice(&x), rows, ins), Mat::new(slice(&w), outs, ins));
        gemm(1.0, xm, wm.t(), 0.0, MatMut::new(&mut y, rows, outs), epilogue);
        let inputs: &[Var<'t>] = match bias {
            Some(bias) => &[self, weight, bias],
            None => &[self, weight],
        };
        Ok(self.tape.node(tensor(&shape, y), inputs, move |dy, grads| {
            let d = Mat::new(&dy, rows, outs);
            if grads.wants(0) {
                let mut dx = grads.pool.take(rows * ins);
                let wm = Mat::new(slice(&w), outs, ins);
                gemm(1.0, d, wm, 0.0, MatMut::new(&mut dx, rows, ins), Epilogue::default());
                grads.add(0, dx);
            }
            if grads.wants(1) {
                let mut dw = grads.pool.take(outs * ins);
                let xm = Mat::new(slice(&x), rows, ins);
                gemm(1.0, d.t(), xm, 0.0, MatMut::new(&mut dw, outs, ins), Epilogue::default());
                grads.add(1, dw);
            }
            if b.is_some() && grads.wants(2) {
                let mut db = grads.pool.take(outs);
                col_sums(&dy, 0.0, &mut db);
                grads.add(2, db);
            }
            grads.pool.give(dy);
        }))
    }
}
