//! SGD, Adam and AdamW where the weights are.

use std::any::Any;
use std::collections::BTreeMap;

use candle_core::{Result as CandleResult, Tensor};
use shanty::base::{Error, Result};
use shanty::kernels::{AdamStep, SgdStep};
use shanty::optim::{Adam, Optimizer, Sgd};
use shanty::params::{OptimState, OwnSet, RuleOf};

use crate::device::told;
use crate::model::CandleModel;
use crate::params::DeviceSet;

/// An optimizer that is computed on the device.
enum Fused<'a> {
    Sgd(&'a Sgd),
    Adam(&'a Adam),
}

impl<'a> Fused<'a> {
    fn of(rule: &'a dyn Optimizer) -> Option<Self> {
        let rule: &dyn Any = rule;
        let adam = || rule.downcast_ref().map(Self::Adam);
        rule.downcast_ref().map(Self::Sgd).or_else(adam)
    }

    fn state(&self) -> &'static [&'static str] {
        match self {
            Self::Sgd(sgd) => sgd.state(),
            Self::Adam(adam) => adam.state(),
        }
    }

    /// The new value, and the new state, after `steps` others.
    fn step(
        &self,
        steps: u64,
        w: &Tensor,
        g: &Tensor,
        state: &[Tensor],
    ) -> CandleResult<(Tensor, Vec<Tensor>)> {
        match (self, state) {
            (Self::Sgd(sgd), []) => Ok((sgd_step(&sgd.at(steps), w, g, None)?.0, Vec::new())),
            (Self::Sgd(sgd), [momentum]) => {
                let (w, momentum) = sgd_step(&sgd.at(steps), w, g, Some(momentum))?;
                Ok((w, vec![momentum]))
            }
            (Self::Adam(adam), [mean, square]) => adam_step(&adam.at(steps), w, g, [mean, square], None),
            (Self::Adam(adam), [mean, square, most]) => {
                adam_step(&adam.at(steps), w, g, [mean, square], Some(most))
            }
            _ => candle_core::bail!("the device and the optimizer disagree on the state"),
        }
    }
}

/// Every parameter that has a gradient and a rule, with the optimizer by whose formula it moves; `None` if the device
/// has not all of these formulas.
fn plan<'a>(model: &CandleModel, rule_of: RuleOf<'a>) -> Option<Vec<(usize, Fused<'a>)>> {
    let moved = model.weights.iter().enumerate().filter(|(_, w)| w.role.is_trained() && w.grad.is_some());
    moved.filter_map(|(at, w)| rule_of(&w.name).map(|rule| Some((at, Fused::of(rule)?)))).collect()
}

/// One update on the device; false if it does not have this optimizer.
pub(crate) fn fused(model: &mut CandleModel, rule_of: RuleOf<'_>, state: &mut OptimState) -> Result<bool> {
    let Some(plan) = plan(model, rule_of) else { return Ok(false) };
    let mut sets: BTreeMap<&'static str, OwnSet> = BTreeMap::new();
    for slot in plan.iter().flat_map(|(_, rule)| rule.state().iter().copied()) {
        sets.entry(slot).or_insert_with(|| state.take(slot));
    }
    let done = plan.iter().try_for_each(|(at, rule)| one(model, *at, rule, &mut sets, state));
    sets.into_iter().for_each(|(slot, set)| state.put(slot, set));
    done.map(|()| true)
}

fn one(
    model: &CandleModel,
    at: usize,
    rule: &Fused<'_>,
    sets: &mut BTreeMap<&'static str, OwnSet>,
    state: &mut OptimState,
) -> Result<()> {
    let weight = &model.weights[at];
    let Some(grad) = &weight.grad else { return Ok(()) };
    let (mut before, mut is_new) = (Vec::new(), false);
    for slot in rule.state() {
        let Some(set) = sets.get_mut(slot) else { continue };
        before.push(match model.own(set)?.0.get(&weight.name) {
            Some(tensor) if tensor.dims() == weight.value.dims() => tensor.clone(),
            Some(_) => {
                return Err(Error::invalid(format!("`{}` and its state have different shapes", weight.name)));
            }
            None => {
                is_new = true;
                told(weight.value.zeros_like())?
            }
        });
    }
    let steps = state.tick(&weight.name, is_new);
    let (value, after) = told(rule.step(steps, weight.value.as_tensor(), grad, &before))?;
    told(weight.value.set(&value))?;
    for (slot, tensor) in rule.state().iter().zip(after) {
        if let Some(set) = sets.get_mut(slot) {
            model.own(set)?.0.insert(weight.name.clone(), tensor);
        }
    }
    Ok(())
}

/// `x` times a number.
fn times(x: &Tensor, factor: impl Into<f64>) -> CandleResult<Tensor> {
    match factor.into() {
        1.0 => Ok(x.clone()),
        factor => x.affine(factor, 0.0),
    }
}

/// [`shanty::kernels::sgd_momentum`], its formula in its order. The values that it reads are cut off from the graph:
/// a new value that remembered how it came about would keep all values before it.
fn sgd_step(k: &SgdStep, w: &Tensor, g: &Tensor, buf: Option<&Tensor>) -> CandleResult<(Tensor, Tensor)> {
    let w = w.detach();
    let g = if k.weight_decay == 0.0 { g.clone() } else { (g + times(&w, k.weight_decay)?)? };
    let Some(buf) = buf else { return Ok(((w - times(&g, k.lr)?)?, g)) };
    let buf = if k.first { g.clone() } else { (times(buf, k.momentum)? + times(&g, k.entering)?)? };
    let along = if k.nesterov { (&g + times(&buf, k.momentum)?)? } else { buf.clone() };
    Ok(((w - times(&along, k.lr)?)?, buf))
}

/// [`shanty::kernels::adam`].
fn adam_step(
    k: &AdamStep,
    w: &Tensor,
    g: &Tensor,
    [mean, square]: [&Tensor; 2],
    most: Option<&Tensor>,
) -> CandleResult<(Tensor, Vec<Tensor>)> {
    let w = w.detach();
    let g = if k.decay == 0.0 { g.clone() } else { (g + times(&w, k.decay)?)? };
    let mean = (mean + times(&(&g - mean)?, k.new1)?)?;
    let square = (times(square, k.beta2)? + times(&g.sqr()?, k.new2)?)?;
    let most = most.map(|most| most.maximum(&square)).transpose()?;
    let root = most.as_ref().unwrap_or(&square).sqrt()?.affine(1.0 / f64::from(k.scale2), k.eps.into())?;
    let w = (times(&w, k.shrink)? - times(&mean, k.rate)?.div(&root)?)?;
    Ok((w, [mean, square].into_iter().chain(most).collect()))
}

/// The sets of this device.
impl CandleModel {
    pub(crate) fn own<'s>(&self, set: &'s mut OwnSet) -> Result<&'s mut DeviceSet> {
        set.get_mut(|host| DeviceSet::taken_over(host, &self.device, &self.transfers))
    }
}
