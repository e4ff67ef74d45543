//! The op of batch normalisation.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::{Elem, Error, Result, Tensor};
use crate::comm::Comm;
use crate::kernels::{
    Act, BnAffine, BnEpilogue, BnGrads, BnSaved, BnShape, Moments, MomentsMut, bn_apply, bn_backward,
    bn_eval_backward, bn_moments, bn_sums, bn_through_moments, bn_train,
};
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::held::Held;
use crate::nn::shapes::expect_shape;

/// Where the statistics of a batch norm come from.
#[derive(Debug, Clone)]
pub enum BnStats {
    /// The batch itself.
    Batch,
    /// The batches of all processes that train together.
    Across(Arc<dyn Comm>),
    /// Fixed mean and variance `[C]`: the running ones.
    Fixed(Tensor, Tensor),
}

/// What follows a batch norm at once, in the same walk over memory.
#[derive(Clone, Copy, Default)]
pub struct BnThen<'t> {
    /// Added to the normalised values; of their shape.
    pub add: Option<Var<'t>>,
    /// The most that a ReLU at the end lets through: infinity ([`BnThen::RELU`]), or 6 of a ReLU6; none if absent.
    pub relu: Option<Elem>,
}

impl<'t> BnThen<'t> {
    /// A plain ReLU.
    pub const RELU: Option<Elem> = Some(Elem::INFINITY);

    /// The ReLU that this activation is, if it is one.
    pub fn relu_of(act: Act) -> Option<Elem> {
        match act {
            Act::Relu => Self::RELU,
            Act::Ramp { scale: 1.0, shift: 0.0, min: 0.0, max } if max > 0.0 => Some(max),
            _ => None,
        }
    }

    /// The same by ops of its own.
    pub(super) fn after(self, y: Var<'t>) -> Var<'t> {
        let y = self.add.map_or(y, |add| y + add);
        match self.relu {
            None => y,
            Self::RELU => y.relu(),
            Some(max) => y.activate(Act::Ramp { scale: 1.0, shift: 0.0, min: 0.0, max }),
        }
    }
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

fn one_value(shape: &[usize]) -> Error {
    Error::invalid(format!(
        "batch norm cannot train on one value per channel (input of shape {shape:?}): use larger batches, or \
         `drop_last: true` if this is the last one"
    ))
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
        let s = self.fits_batch_norm(weight, bias, &stats, then)?;
        let (gamma, beta, c) = (weight.map(Var::value), bias.map(Var::value), s.c);
        let affine = BnAffine { gamma: gamma.as_ref().map(slice), beta: beta.as_ref().map(slice), eps };
        if let BnStats::Fixed(mean, var) = &stats
            && let Some(y) = self.with_norm(affine, Moments { mean: slice(mean), var: slice(var) }, then)
        {
            return Ok(BnOutput { y, mean: mean.clone(), var: var.clone(), count: s.count() });
        }
        let (mut x, mut added) = (self.held(), then.add.map(Var::held));
        // One number in full makes all of them full.
        let half = x.is_half() && added.as_ref().is_none_or(Held::is_half);
        if !half {
            (x, added) = (Held::Full(self.value()), then.add.map(|add| Held::Full(add.value())));
        }
        let epilogue = BnEpilogue { residual: added.as_ref().map(Held::numbers), relu: then.relu };
        let batch = matches!(stats, BnStats::Batch);
        let across = if let BnStats::Across(ranks) = &stats { Some(Arc::clone(ranks)) } else { None };
        let mut y = self.tape.output(half, x.len());
        let mut count = s.count();
        let (mean, var) = match stats {
            BnStats::Batch => {
                let (mut mean, mut var) = (self.tape.take(c), self.tape.take(c));
                let moments = MomentsMut { mean: &mut mean, var: &mut var };
                bn_train(s, x.numbers(), affine, epilogue, y.numbers(), moments);
                (tensor(&[c], mean), tensor(&[c], var))
            }
            BnStats::Across(ranks) => {
                let mut sums = bn_sums(s, x.numbers());
                ranks.sum(&mut sums)?;
                count = sums[0] as usize;
                if count == 1 {
                    return Err(one_value(x.shape()));
                }
                let (mut mean, mut var) = (self.tape.take(c), self.tape.take(c));
                bn_moments(&sums, MomentsMut { mean: &mut mean, var: &mut var });
                let moments = Moments { mean: &mean, var: &var };
                bn_apply(s, x.numbers(), moments, affine, epilogue, y.numbers());
                (tensor(&[c], mean), tensor(&[c], var))
            }
            BnStats::Fixed(mean, var) => {
                let moments = Moments { mean: slice(&mean), var: slice(&var) };
                bn_apply(s, x.numbers(), moments, affine, epilogue, y.numbers());
                (mean, var)
            }
        };
        drop(added);
        let y = y.held(x.shape());
        let masks = then.relu.map(|most| (y.clone(), most));
        let inputs: SmallVec<[Var<'t>; 4]> =
            [Some(self), weight, bias, then.add].into_iter().flatten().collect();
        let at = |given: bool, before: &[bool]| given.then(|| 1 + before.iter().filter(|b| **b).count());
        let (has_weight, has_bias) = (weight.is_some(), bias.is_some());
        let (at_weight, at_bias) = (at(has_weight, &[]), at(has_bias, &[has_weight]));
        let at_add = at(then.add.is_some(), &[has_weight, has_bias]);
        let (kept_mean, kept_var) = (mean.clone(), var.clone());
        let y = self.tape.held_node("batch_norm", y, &inputs, move |dy, grads| {
            let mut dy = dy.stored(x.is_half(), grads.pool);
            let (mut dw, mut db) = (grads.pool.take(c), grads.pool.take(c));
            let added = at_add.filter(|i| grads.wants(*i));
            let mut added = added.map(|i| (i, grads.pool.take_owned(x.is_half(), dy.len())));
            let back = if batch { bn_backward } else { bn_eval_backward };
            let saved = BnSaved {
                x: x.numbers(),
                y: masks.as_ref().map(|(y, most)| (y.numbers(), *most)),
                gamma: gamma.as_ref().map(slice),
                moments: Moments { mean: slice(&kept_mean), var: slice(&kept_var) },
                eps,
            };
            let dresidual = added.as_mut().map(|(_, d)| d.numbers());
            back(s, saved, BnGrads { dy: dy.numbers(), dgamma: &mut dw, dbeta: &mut db, dresidual });
            if let Some(ranks) = &across {
                let mut sums: Vec<f64> = dw.iter().chain(&db).map(|sum| f64::from(*sum)).collect();
                match ranks.sum(&mut sums) {
                    Ok(()) => bn_through_moments(s, saved, sums.split_at(c), count as f64, dy.numbers()),
                    Err(error) => grads.fail(&error.to_string()),
                }
            }
            grads.add_owned(0, dy);
            for (at, grad) in [(at_weight, dw), (at_bias, db)] {
                match at {
                    Some(i) => grads.add(i, grad),
                    None => grads.pool.give(grad),
                }
            }
            if let Some((i, grad)) = added {
                grads.add_owned(i, grad);
            }
            grads.pool.recycle(kept_mean);
            grads.pool.recycle(kept_var);
        });
        Ok(BnOutput { y, mean, var, count })
    }

    /// The sizes of a batch norm of this value, if everything has the shape that it needs.
    fn fits_batch_norm(
        self,
        weight: Option<Self>,
        bias: Option<Self>,
        stats: &BnStats,
        then: BnThen<'t>,
    ) -> Result<BnShape> {
        let shape = self.shape();
        let &[n, c, ref rest @ ..] = shape.as_slice() else {
            return Err(Error::invalid(format!(
                "batch norm wants an input of shape [N, C, ..], got {shape:?}"
            )));
        };
        for (what, p) in [("the weight of batch norm", weight), ("the bias of batch norm", bias)] {
            if let Some(p) = p {
                expect_shape(what, &p.shape(), &[c])?;
            }
        }
        if let Some(added) = then.add {
            expect_shape("what is added to batch norm", &added.shape(), &shape)?;
        }
        let s = BnShape { n, c, inner: rest.iter().product() };
        match stats {
            BnStats::Batch if s.count() == 1 => Err(one_value(&shape)),
            BnStats::Batch | BnStats::Across(_) => Ok(s),
            BnStats::Fixed(mean, var) => {
                expect_shape("the running mean of batch norm", mean.shape(), &[c])?;
                expect_shape("the running variance of batch norm", var.shape(), &[c])?;
                Ok(s)
            }
        }
    }

    /// The product that waits here with a batch norm in its weight and bias, and what follows; `None` if none waits.
    fn with_norm(self, affine: BnAffine<'_>, moments: Moments<'_>, then: BnThen<'t>) -> Option<Self> {
        let at = |values: Option<&[Elem]>, k: usize, absent: f64| values.map_or(absent, |v| f64::from(v[k]));
        let channels = moments.var.iter().enumerate();
        let scale = channels.map(|(k, var)| at(affine.gamma, k, 1.0) / f64::from(var + affine.eps).sqrt());
        let scale: Vec<f64> = scale.collect();
        let means = moments.mean.iter().zip(&scale).enumerate();
        let shift: Vec<f64> =
            means.map(|(k, (mean, scale))| at(affine.beta, k, 0.0) - f64::from(*mean) * scale).collect();
        let y = self.absorbed("batch_norm", |product| product.scaled(&scale, &shift))?;
        self.tape.followed_by_norm(self.id, moments.mean.as_ptr() as usize);
        Some(then.after(y))
    }
}
