//! Batch normalisation, one node with its affine map.

use smallvec::SmallVec;

use crate::base::{Elem, Error, Result, Tensor};
use crate::kernels::{
    BnAffine, BnEpilogue, BnGrads, BnSaved, BnShape, Moments, MomentsMut, bn_apply, bn_backward,
    bn_eval_backward, bn_train,
};
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

use super::expect_shape;

/// Where the statistics of a batch norm come from.
#[derive(Debug, Clone)]
pub enum BnStats {
    /// The batch itself.
    Batch,
    /// Fixed mean and variance [C]: the running ones.
    Fixed(Tensor, Tensor),
}

/// What follows a batch norm at once, in the same walk over memory.
#[derive(Clone, Copy, Default)]
pub struct BnThen<'t> {
    /// Added to the normalised values; of their shape.
    pub add: Option<Var<'t>>,
    /// Whether a ReLU comes last.
    pub relu: bool,
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
    /// `(x - mean) / sqrt(var + eps) * weight + bias` per channel of `x` [N, C, ..], and what `then` says.
    ///
    /// # Errors
    /// When the sizes do not fit, or the batch has one value a channel, which has no variance.
    pub fn batch_norm(
        self,
        weight: Option<Self>,
        bias: Option<Self>,
        eps: Elem,
        stats: BnStats,
        then: BnThen<'t>,
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
        let added = then.add.map(Var::value);
        if let Some(added) = &added {
            expect_shape("what is added to batch norm", added.shape(), x.shape())?;
        }
        let affine = BnAffine { gamma: gamma.as_ref().map(slice), beta: beta.as_ref().map(slice), eps };
        let epilogue = BnEpilogue { residual: added.as_ref().map(slice), relu: then.relu };
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
                let moments = MomentsMut { mean: &mut mean, var: &mut var };
                bn_train(s, slice(&x), affine, epilogue, &mut y, moments);
                (tensor(&[c], mean), tensor(&[c], var))
            }
            BnStats::Fixed(mean, var) => {
                expect_shape("the running mean of batch norm", mean.shape(), &[c])?;
                expect_shape("the running variance of batch norm", var.shape(), &[c])?;
                let moments = Moments { mean: slice(&mean), var: slice(&var) };
                bn_apply(s, slice(&x), moments, affine, epilogue, &mut y);
                (mean, var)
            }
        };
        drop(added);
        let y = tensor(x.shape(), y);
        let masks = then.relu.then(|| y.clone());
        let inputs: SmallVec<[Var<'t>; 4]> =
            [Some(self), weight, bias, then.add].into_iter().flatten().collect();
        let at = |given: bool, before: &[bool]| given.then(|| 1 + before.iter().filter(|b| **b).count());
        let (has_weight, has_bias) = (weight.is_some(), bias.is_some());
        let (at_weight, at_bias) = (at(has_weight, &[]), at(has_bias, &[has_weight]));
        let at_add = at(then.add.is_some(), &[has_weight, has_bias]);
        let (kept_mean, kept_var) = (mean.clone(), var.clone());
        let y = self.tape.node("batch_norm", y, &inputs, move |mut dy, grads| {
            let (mut dw, mut db) = (grads.pool.take(c), grads.pool.take(c));
            let mut added = at_add.filter(|i| grads.wants(*i)).map(|i| (i, grads.pool.take(dy.len())));
            let back = if batch { bn_backward } else { bn_eval_backward };
            let saved = BnSaved {
                x: slice(&x),
                y: masks.as_ref().map(slice),
                gamma: gamma.as_ref().map(slice),
                moments: Moments { mean: slice(&kept_mean), var: slice(&kept_var) },
                eps,
            };
            let dresidual = added.as_mut().map(|(_, d)| &mut d[..]);
            back(s, saved, BnGrads { dy: &mut dy, dgamma: &mut dw, dbeta: &mut db, dresidual });
            grads.add(0, dy);
            for (at, grad) in [(at_weight, dw), (at_bias, db)] {
                match at {
                    Some(i) => grads.add(i, grad),
                    None => grads.pool.give(grad),
                }
            }
            if let Some((i, grad)) = added {
                grads.add(i, grad);
            }
            grads.pool.recycle(kept_mean);
            grads.pool.recycle(kept_var);
        });
        Ok(BnOutput { y, mean, var, count: s.count() })
    }
}
