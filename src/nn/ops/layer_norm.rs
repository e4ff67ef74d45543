//! Layer normalisation, one node with its affine map.

use crate::base::{Elem, Error, Result};
use crate::kernels::{
    LayerNormAffine, LayerNormGrads, LayerNormStats, LayerNormStatsMut, layer_norm, layer_norm_backward,
};
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

use super::expect_shape;

impl<'t> Var<'t> {
    /// `(x - mean) / sqrt(var + eps) * weight + bias`, mean and biased variance over the last axes, which have the sizes
    /// `shape`; `weight` and `bias` have that shape too (Ba et al. 2016).
    pub fn layer_norm(self, shape: &[usize], weight: Option<Self>, bias: Option<Self>, eps: Elem) -> Self {
        self.attempt(|| self.try_layer_norm(shape, weight, bias, eps))
    }

    fn try_layer_norm(
        self,
        shape: &[usize],
        weight: Option<Self>,
        bias: Option<Self>,
        eps: Elem,
    ) -> Result<Self> {
        let x = self.value();
        if shape.is_empty() || !x.shape().ends_with(shape) {
            return Err(Error::invalid(format!(
                "layer norm over {shape:?} got an input of shape {:?}, which must end with these sizes",
                x.shape()
            )));
        }
        let (gamma, beta) = (weight.map(Var::value), bias.map(Var::value));
        for (what, p) in [("the weight of layer norm", &gamma), ("the bias of layer norm", &beta)] {
            if let Some(p) = p {
                expect_shape(what, p.shape(), shape)?;
            }
        }
        let d: usize = shape.iter().product();
        let rows = x.shape()[..x.ndim() - shape.len()].iter().product();
        let (mut y, mut mean, mut rstd) =
            (self.tape.take(x.len()), self.tape.take(rows), self.tape.take(rows));
        let affine = LayerNormAffine { gamma: gamma.as_ref().map(slice), beta: beta.as_ref().map(slice) };
        let stats = LayerNormStatsMut { mean: &mut mean, rstd: &mut rstd };
        layer_norm(d, slice(&x), affine, eps, &mut y, stats);
        let y = tensor(x.shape(), y);
        let inputs: Vec<Var<'t>> = [Some(self), weight, bias].into_iter().flatten().collect();
        if !inputs.iter().any(|v| v.requires_grad()) {
            self.tape.give(rstd);
            self.tape.give(mean);
            return Ok(self.tape.input(y));
        }
        let (at_weight, at_bias) = (weight.map(|_| 1), bias.map(|_| 1 + usize::from(weight.is_some())));
        Ok(self.tape.node("layer_norm", y, &inputs, move |mut dy, grads| {
            let (mut dw, mut db) = (grads.pool.take(d), grads.pool.take(d));
            let g = gamma.as_ref().map(slice);
            let stats = LayerNormStats { mean: &mean, rstd: &rstd };
            let to = LayerNormGrads { dy: &mut dy, dgamma: &mut dw, dbeta: &mut db };
            layer_norm_backward(d, slice(&x), g, stats, to);
            grads.add(0, dy);
            for (at, grad) in [(at_weight, dw), (at_bias, db)] {
                match at {
                    Some(i) => grads.add(i, grad),
                    None => grads.pool.give(grad),
                }
            }
            grads.pool.give(rstd);
            grads.pool.give(mean);
        }))
    }
}
