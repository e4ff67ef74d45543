//! Batch normalisation, one node with its affine map.

use crate::base::{Elem, Error, Result, Tensor};
use crate::nn::Var;
use crate::nn::kernels::{BnShape, bn_apply, bn_backward, bn_eval_backward, bn_train};
use crate::nn::pool::{slice, tensor};

use super::expect_shape;

/// Where the statistics of a batch norm come from.
#[derive(Debug, Clone)]
pub enum BnStats {
    /// The batch itself.
    Batch,
    /// Fixed mean and variance [C]: the running ones.
    Fixed(Tensor, Tensor),
}

/// What [`Var::batch_norm`] computed.
pub struct BnOutput<'t> {
    /// The normalised values.
    pub y: Var<'t>,
    /// The mean of each channel that was used.
    pub mean: Tensor,
    /// The variance of each channel that was used: for a batch the biased one, over `count` values.
    pub var: Tensor,
    /// Values that share one mean.
    pub count: usize,
}

impl<'t> Var<'t> {
    /// `(x - mean) / sqrt(var + eps) * weight + bias` per channel of `x` [N, C, ..].
    ///
    /// # Errors
    /// When the sizes do not fit, or the batch has one value a channel, which has no variance.
    pub fn batch_norm(
        self,
        weight: Option<Self>,
        bias: Option<Self>,
        eps: Elem,
        stats: BnStats,
    ) -> Result<BnOutput<'t>> {
        let x = self.value();
        let &[n, c, ref rest @ ..] = x.shape() else {
            return Err(Error::invalid(format!(
                "batch norm wants an input of shape [N, C, ..], got {:?}",
                x.shape()
            )));
        };
        let s = BnShape { n, c, inner: rest.iter().product() };
        let (gamma, beta) = (weight.map(Var::value), bias.map(Var::value));
        for (what, p) in [("the weight of batch norm", &gamma), ("the bias of batch norm", &beta)] {
            if let Some(p) = p {
                expect_shape(what, p.shape(), &[c])?;
            }
        }
        let batch = matches!(stats, BnStats::Batch);
        let mut y = self.tape.take(x.len());
        let (mean, var) = match stats {
            BnStats::Batch => {
                if s.count() == 1 {
                    return Err(Error::invalid(format!(
                        "batch norm cannot train on one value per channel (input of shape {:?}): use larger batches, or \
                         `drop_last: true` if this is the last one",
                        x.shape()
                    )));
                }
                let (mut mean, mut var) = (self.tape.take(c), self.tape.take(c));
                let (g, b) = (gamma.as_ref().map(slice), beta.as_ref().map(slice));
                bn_train(s, slice(&x), eps, g, b, None, false, &mut y, &mut mean, &mut var);
                (tensor(&[c], mean), tensor(&[c], var))
            }
            BnStats::Fixed(mean, var) => {
                expect_shape("the running mean of batch norm", mean.shape(), &[c])?;
                expect_shape("the running variance of batch norm", var.shape(), &[c])?;
                let (g, b) = (gamma.as_ref().map(slice), beta.as_ref().map(slice));
                bn_apply(s, slice(&x), slice(&mean), slice(&var), eps, g, b, None, false, &mut y);
                (mean, var)
            }
        };
        let inputs: Vec<Var<'t>> = [Some(self), weight, bias].into_iter().flatten().collect();
        let (at_weight, at_bias) = (weight.map(|_| 1), bias.map(|_| 1 + usize::from(weight.is_some())));
        let (kept_mean, kept_var) = (mean.clone(), var.clone());
        let y = self.tape.node(tensor(x.shape(), y), &inputs, move |mut dy, grads| {
            let (mut dw, mut db) = (grads.pool.take(c), grads.pool.take(c));
            let back = if batch { bn_backward } else { bn_eval_backward };
            let (mean, var) = (slice(&kept_mean), slice(&kept_var));
            back(
                s,
                slice(&x),
                None,
                gamma.as_ref().map(slice),
                mean,
                var,
                eps,
                &mut dy,
                &mut dw,
                &mut db,
                None,
            );
            grads.add(0, dy);
            for (at, grad) in [(at_weight, dw), (at_bias, db)] {
                match at {
                    Some(i) => grads.add(i, grad),
                    None => grads.pool.give(grad),
                }
            }
            grads.pool.recycle(kept_mean);
            grads.pool.recycle(kept_var);
        });
        Ok(BnOutput { y, mean, var, count: s.count() })
    }
}
