//! A model whose weights are not in host memory, as far as anybody can tell.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ndarray::{Array1, ArrayD, ArrayViewD, ArrayViewMut1, ArrayViewMutD};

use super::toy::{evaluate, mean_of, standard_normal};
use crate::base::{Elem, Error, Result};
use crate::data::Batch;
use crate::kernels::{adam, sgd_momentum};
use crate::model::{Model, Outputs, StepCx};
use crate::optim::{Adam, Sgd};
use crate::params::{
    HostSet, Info, Op, OptimState, OwnSet, Params, Role, RuleOf, Set, Want, update_by_transfer,
};

/// The [`ToyModel`](super::ToyModel) on a device that does not exist: its weights can be reached by explicit transfers
/// only, which are counted. It has SGD and Adam of its own; other optimizers go by way of the host.
///
/// It shows what an adapter for another tensor library has to do, and proves that a step of training moves nothing.
#[derive(Debug)]
pub struct DeviceModel {
    weight: Buffer,
    grad: Buffer,
    transfers: Arc<AtomicU64>,
}

/// Memory of the device. Whoever looks into it outside of this file goes through a transfer.
#[derive(Debug, Clone)]
struct Buffer(Array1<Elem>);

/// The own sets of this kind of model.
#[derive(Debug, Default)]
struct DeviceSet(BTreeMap<String, Buffer>);

const NAME: &str = "toy.weight";

impl DeviceModel {
    /// A model of `n` weights, all 0.
    pub fn new(n: usize) -> Self {
        let zeros = || Buffer(Array1::zeros(n));
        Self { weight: zeros(), grad: zeros(), transfers: Arc::default() }
    }

    /// The number of tensors that were moved to or from the host so far; it may be kept while the model is at work.
    pub fn transfers(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.transfers)
    }

    fn moved(&self) {
        self.transfers.fetch_add(1, Ordering::Relaxed);
    }

    /// A set of this device; one that came from a checkpoint is moved here.
    fn own<'s>(&self, set: &'s mut OwnSet) -> Result<&'s mut DeviceSet> {
        set.get_mut(|host: HostSet| {
            let mut own = DeviceSet::default();
            for (name, tensor) in host {
                self.moved();
                let flat = tensor.into_dimensionality().map_err(|e| Error::Other(e.into()))?;
                own.0.insert(name, Buffer(flat));
            }
            Ok(own)
        })
    }

    fn wanted(&self, want: Want<'_>) -> bool {
        let mut wanted = false;
        self.infos(&mut |info| wanted = want(&info));
        wanted
    }

    fn buffer(&self, set: Set) -> &Buffer {
        if set == Set::Values { &self.weight } else { &self.grad }
    }

    /// One update on the device; false if it does not have this optimizer.
    fn fused(&mut self, rule: &dyn Any, state: &mut OptimState) -> Result<bool> {
        let (sgd, fused_adam) = (rule.downcast_ref::<Sgd>(), rule.downcast_ref::<Adam>());
        // AMSGrad is left to the host.
        let fused_adam = fused_adam.filter(|adam| crate::optim::Optimizer::state(*adam).len() == 2);
        let slots: &[&str] = match (sgd, fused_adam) {
            (Some(sgd), _) => crate::optim::Optimizer::state(sgd),
            (_, Some(adam)) => crate::optim::Optimizer::state(adam),
            _ => return Ok(false),
        };
        let mut sets: Vec<OwnSet> = slots.iter().map(|slot| state.take(slot)).collect();
        let (mut is_new, n) = (false, self.weight.0.len());
        let mut buffers: Vec<&mut [Elem]> = Vec::new();
        for set in &mut sets {
            let entry = self.own(set)?.0.entry(NAME.to_owned()).or_insert_with(|| {
                is_new = true;
                Buffer(Array1::zeros(n))
            });
            buffers.extend(entry.0.as_slice_mut());
        }
        let steps = state.tick(NAME, is_new);
        if let (Some(value), Some(grad)) = (self.weight.0.as_slice_mut(), self.grad.0.as_slice()) {
            match (sgd, fused_adam, buffers.as_mut_slice()) {
                (Some(sgd), _, []) => sgd_momentum(&sgd.at(steps), value, grad, None),
                (Some(sgd), _, [momentum]) => sgd_momentum(&sgd.at(steps), value, grad, Some(momentum)),
                (_, Some(rule), [mean, square]) => adam(&rule.at(steps), value, grad, mean, square, None),
                _ => return Err(Error::invalid("the device and the optimizer disagree on the state")),
            }
        }
        slots.iter().zip(sets).for_each(|(slot, set)| state.put(slot, set));
        Ok(true)
    }
}

impl Params for DeviceModel {
    fn infos(&self, f: &mut dyn FnMut(Info<'_>)) {
        let shape = &[self.weight.0.len()];
        let (role, storage) = (Role::Weight, (0, 1));
        f(Info { name: NAME, layer: "DeviceModel", role, shape, frozen: false, storage });
    }

    fn read(
        &self,
        set: Set,
        want: Want<'_>,
        f: &mut dyn FnMut(&Info<'_>, ArrayViewD<'_, Elem>),
    ) -> Result<()> {
        if self.wanted(want) {
            self.moved();
            self.infos(&mut |info| f(&info, self.buffer(set).0.view().into_dyn()));
        }
        Ok(())
    }

    fn edit(
        &mut self,
        set: Set,
        want: Want<'_>,
        f: &mut dyn FnMut(&Info<'_>, ArrayViewMutD<'_, Elem>),
    ) -> Result<()> {
        if self.wanted(want) {
            self.moved();
            let mut copy = self.buffer(set).0.clone();
            self.infos(&mut |info| f(&info, ArrayViewMut1::into_dyn(copy.view_mut())));
            self.moved();
            let place = if set == Set::Values { &mut self.weight } else { &mut self.grad };
            place.0.assign(&copy);
        }
        Ok(())
    }

    fn read_own(&self, own: &OwnSet, f: &mut dyn FnMut(&str, ArrayViewD<'_, Elem>)) -> Result<()> {
        match own.get::<DeviceSet>() {
            Some(set) => {
                for (name, buffer) in &set.0 {
                    self.moved();
                    f(name, buffer.0.view().into_dyn());
                }
                Ok(())
            }
            // Still as it came out of a checkpoint, or made on the host by an optimizer that the device does not have.
            None => own.read_host(f),
        }
    }

    fn apply(&mut self, op: Op<'_>, want: Want<'_>) -> Result<()> {
        if !self.wanted(want) {
            return Ok(());
        }
        match op {
            Op::ScaleGrads(factor) => self.grad.0 *= factor as Elem,
            Op::ClampGrads(limit) => {
                let limit = limit as Elem;
                self.grad.0.mapv_inplace(|g| g.clamp(-limit, limit));
            }
            Op::CopyTo(own) => {
                self.own(own)?.0.insert(NAME.to_owned(), self.weight.clone());
            }
            Op::LerpTo(own, weight) => {
                let average = self.own(own)?.0.entry(NAME.to_owned()).or_insert_with(|| self.weight.clone());
                average.0.zip_mut_with(&self.weight.0, |a, v| *a += weight as Elem * (v - *a));
            }
            Op::Swap(own) => {
                if let Some(other) = self.own(own)?.0.get_mut(NAME) {
                    std::mem::swap(other, &mut self.weight);
                }
            }
        }
        Ok(())
    }

    fn norm(&self, set: Set, order: f64, want: Want<'_>) -> Result<f64> {
        // One number comes back: the training waits, no tensor moves.
        let all = self.buffer(set).0.iter().map(|v| f64::from(*v).abs());
        Ok(match self.wanted(want) {
            false => 0.0,
            true if order.is_infinite() => {
                all.fold(0.0, |max, a| if a > max || a.is_nan() { a } else { max })
            }
            true => all.map(|a| a.powf(order)).sum::<f64>().powf(1.0 / order),
        })
    }

    fn clear_grads(&mut self) -> Result<()> {
        self.grad.0.fill(0.0);
        Ok(())
    }

    fn put_grads(&mut self, sums: &BTreeMap<String, ArrayD<Elem>>) -> Result<()> {
        self.clear_grads()?;
        if let Some(sum) = sums.get(NAME) {
            self.moved();
            self.grad.0.iter_mut().zip(sum).for_each(|(g, sum)| *g = *sum);
        }
        Ok(())
    }

    fn update(&mut self, rule_of: RuleOf<'_>, state: &mut OptimState) -> Result<()> {
        let Some(rule) = rule_of(NAME) else { return Ok(()) };
        if self.fused(rule, state)? { Ok(()) } else { update_by_transfer(self, rule_of, state) }
    }
}

impl Model for DeviceModel {
    fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> Result<Outputs> {
        let error = &self.weight.0 - &mean_of(batch, self.weight.0.len())?;
        self.grad.0.scaled_add(cx.loss_scale, &error);
        let loss = error.dot(&error) / 2.0;
        Ok(Outputs { vars: [("loss".into(), f64::from(loss))].into_iter().collect(), ..Outputs::default() })
    }

    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        Ok(evaluate(self.weight.0.sum(), batch))
    }

    fn init_weights(&mut self, seed: u64) -> Result<Vec<String>> {
        self.moved();
        standard_normal(&mut self.weight.0, seed);
        Ok(vec![format!("{NAME} - {:?}: standard normal", self.weight.0.shape())])
    }
}
