//! The formulas of SGD, Adam and AdamW on tensors of burn, as shanty's kernels compute them.

use std::any::Any;

use burn::tensor::Tensor;
use shanty::base::Result;
use shanty::kernels::{AdamStep, SgdStep};
use shanty::optim::{Adam, Optimizer, Sgd};
use shanty::params::{OptimState, OwnSet, RuleOf, update_by_transfer};

use crate::model::{BurnModel, Network};
use crate::own::{OnDevice, on_device};

/// An update that a device computes.
enum Formula {
    Sgd(SgdStep),
    Adam(AdamStep),
}

impl Formula {
    /// That of an optimizer on its `steps`-th update of a parameter.
    fn of(rule: &dyn Optimizer, steps: u64) -> Option<Self> {
        let any: &dyn Any = rule;
        if let Some(sgd) = any.downcast_ref::<Sgd>() {
            return Some(Self::Sgd(sgd.at(steps)));
        }
        // AMSGrad keeps a third tensor, and is left to the host.
        let adam = any.downcast_ref::<Adam>().filter(|adam| adam.state().len() == 2);
        adam.map(|adam| Self::Adam(adam.at(steps)))
    }

    /// The new value; `state` is in the order of [`Optimizer::state`].
    fn step(&self, value: Tensor<1>, grad: Tensor<1>, state: &mut [Option<Tensor<1>>]) -> Tensor<1> {
        match (self, state) {
            (Self::Sgd(step), [momentum]) => sgd(step, value, grad, Some(momentum)),
            (Self::Sgd(step), _) => sgd(step, value, grad, None),
            (Self::Adam(step), [mean, square]) => adam(step, value, grad, mean, square),
            (Self::Adam(_), _) => value,
        }
    }
}

fn sgd(
    k: &SgdStep,
    value: Tensor<1>,
    grad: Tensor<1>,
    momentum: Option<&mut Option<Tensor<1>>>,
) -> Tensor<1> {
    let decayed = match k.weight_decay {
        0.0 => grad,
        decay => value.clone().mul_scalar(decay).add(grad),
    };
    let Some(momentum) = momentum else { return value.sub(decayed.mul_scalar(k.lr)) };
    let entering = |grad: Tensor<1>| if k.entering == 1.0 { grad } else { grad.mul_scalar(k.entering) };
    let kept = match momentum.take().filter(|_| !k.first) {
        Some(old) => old.mul_scalar(k.momentum).add(entering(decayed.clone())),
        None => decayed.clone(),
    };
    *momentum = Some(kept.clone());
    let change = match k.nesterov {
        true => decayed.mul_scalar(k.lr).add(kept.mul_scalar(k.lr * k.momentum)),
        false => kept.mul_scalar(k.lr),
    };
    value.sub(change)
}

fn adam(
    k: &AdamStep,
    value: Tensor<1>,
    grad: Tensor<1>,
    mean: &mut Option<Tensor<1>>,
    square: &mut Option<Tensor<1>>,
) -> Tensor<1> {
    let grad = if k.decay == 0.0 { grad } else { value.clone().mul_scalar(k.decay).add(grad) };
    let (m, s) = match (mean.take(), square.take()) {
        (Some(m), Some(s)) => (m, s),
        _ => (grad.zeros_like(), grad.zeros_like()),
    };
    let m = grad.clone().sub(m.clone()).mul_scalar(k.new1).add(m);
    let s = s.mul_scalar(k.beta2).add(grad.clone().mul(grad).mul_scalar(k.new2));
    let below = s.clone().sqrt().div_scalar(k.scale2).add_scalar(k.eps);
    let change = m.clone().mul_scalar(k.rate).div(below);
    (*mean, *square) = (Some(m), Some(s));
    let value = if k.shrink == 1.0 { value } else { value.mul_scalar(k.shrink) };
    value.sub(change)
}

/// The slots of the optimizers above.
const SLOTS: [&str; 3] = ["momentum", "exp_avg", "exp_avg_sq"];

impl<N: Network> BurnModel<N> {
    /// An update where the tensors are, if all its rules are known here.
    pub(crate) fn update_here(&mut self, rule_of: RuleOf<'_>, state: &mut OptimState) -> Result<()> {
        let rules: Vec<Option<&dyn Optimizer>> = self
            .places
            .iter()
            .zip(&self.sums)
            .map(|(place, sum)| rule_of(&place.name).filter(|_| sum.is_some() && !place.is_buffer()))
            .collect();
        if rules.iter().flatten().any(|rule| Formula::of(*rule, 0).is_none()) {
            state.bring_to_host(self)?;
            return update_by_transfer(self, rule_of, state);
        }
        let mut sets: Vec<(&str, OwnSet)> = SLOTS.iter().map(|slot| (*slot, state.take(slot))).collect();
        let done = self.update_with(&rules, &mut sets, state);
        // A slot that nothing was put into is none.
        sets.into_iter().filter(|(_, set)| !set.is_empty()).for_each(|(slot, set)| state.put(slot, set));
        done
    }

    fn update_with(
        &mut self,
        rules: &[Option<&dyn Optimizer>],
        sets: &mut [(&str, OwnSet)],
        state: &mut OptimState,
    ) -> Result<()> {
        let (device, mut slots) = (self.device(), Vec::new());
        for (slot, set) in sets {
            if rules.iter().flatten().any(|rule| rule.state().contains(slot)) {
                slots.push((*slot, on_device(set, &self.places, &device, |tensors| self.count(tensors))?));
            }
        }
        let mut sums: Vec<_> = self.sums.iter_mut().map(Option::take).collect();
        let names: Vec<String> = self.places.iter().map(|place| place.name.clone()).collect();
        let wanted: Vec<bool> = rules.iter().map(Option::is_some).collect();
        let done = self.change(&wanted, &mut |at, value| {
            let (Some(rule), Some(grad)) = (rules[at], sums[at].clone()) else { return value };
            let mut own = own_of(&mut slots, rule, at);
            let is_new = own.iter().any(Option::is_none);
            let steps = state.tick(&names[at], is_new);
            let Some(formula) = Formula::of(rule, steps) else { return value };
            let value = formula.step(value, grad, &mut own);
            put_back(&mut slots, rule, at, own);
            value
        });
        // They are cleared by whoever asked for the update.
        self.sums.iter_mut().zip(&mut sums).for_each(|(place, sum)| *place = sum.take());
        done
    }
}

/// The tensors that an optimizer keeps of a place, taken out.
fn own_of(slots: &mut [(&str, &mut OnDevice)], rule: &dyn Optimizer, at: usize) -> Vec<Option<Tensor<1>>> {
    let slot =
        |name: &&str| slots.iter_mut().find(|(slot, _)| slot == name).and_then(|(_, set)| set.0[at].take());
    rule.state().iter().map(slot).collect()
}

fn put_back(
    slots: &mut [(&str, &mut OnDevice)],
    rule: &dyn Optimizer,
    at: usize,
    own: Vec<Option<Tensor<1>>>,
) {
    for (name, tensor) in rule.state().iter().zip(own) {
        if let Some((_, set)) = slots.iter_mut().find(|(slot, _)| slot == name) {
            set.0[at] = tensor;
        }
    }
}
