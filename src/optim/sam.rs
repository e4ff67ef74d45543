//! Sharpness-aware minimisation (Foret et al. 2021).

use std::collections::BTreeMap;

use ndarray::ArrayD;
use schemars::JsonSchema;
use serde::Deserialize;

use super::window::Window;
use super::{OptimWrapper, Optimizer, ParamStep};
use crate::base::{Elem, Error, Result};
use crate::kernels::{walk, with_precision};
use crate::params::{Op, OptimState, OwnSet, Params, Set, all};

/// `sam:` of an optim_wrapper: the gradient that the optimizer takes is that of the weights `w + rho·g/|g|`, where the
/// loss nearby is largest to first order, `g` the gradient of `w`.
///
/// Each batch goes through the model twice. Buffers (running means) are those of the first pass, and so are the numbers
/// that are logged; dropout draws the same in both. Each batch of an accumulation window climbs by its own gradient, which
/// is that of all ranks where there are several: so they exchange gradients twice a batch, also within a window.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SamConfig {
    /// How far away the gradient is taken.
    #[schemars(range(min = 0.0))]
    pub rho: f64,
}

impl Default for SamConfig {
    fn default() -> Self {
        Self { rho: 0.05 }
    }
}

/// `w += scale·g`.
#[derive(Debug, Clone)]
struct Climb {
    scale: f64,
}

impl Optimizer for Climb {
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        vec![("scale", &mut self.scale)]
    }

    fn step(&self, p: ParamStep<'_>) -> Result<()> {
        let scale = self.scale as Elem;
        walk(p.value, p.grad, [], move |w, g, []| (w + scale * g, []));
        Ok(())
    }
}

impl OptimWrapper {
    /// Adds the gradients that the next update wants, by `pass`, a forward and a backward pass: one, or with SAM two, in
    /// the precision of [`amp`](Self::amp). A gradient that is not finite is left as it is. Those of a window that was
    /// finished and whose update never came are dropped.
    ///
    /// # Errors
    /// Those of `pass`; what the device says; with SAM, a wrapper that has not met its model.
    pub fn gradients<P: Params + ?Sized, T>(
        &mut self,
        model: &mut P,
        mut pass: impl FnMut(&mut P) -> Result<T>,
    ) -> Result<T> {
        if self.window.finished {
            // They are a mean, and what comes is a sum.
            self.window = Window::default();
            self.forget_overflow();
            model.clear_grads()?;
        }
        let precision = self.precision();
        let mut pass = |model: &mut P| with_precision(precision, || pass(model));
        let Some(SamConfig { rho }) = self.sam else { return pass(model) };
        if !self.bound {
            return Err(Error::invalid("SAM has to know the parameters: call `bind` with the model before"));
        }
        let sums = if self.window.batches > 0 { take_sums(model)? } else { BTreeMap::new() };
        let first = pass(model)?;
        // All ranks climb to one place; the length of the gradient does not matter.
        self.mean_of_ranks(model, 1)?;
        let norm = model.norm(Set::Grads, 2.0, &|p| self.moves(p.name))?;
        if norm.is_finite() {
            let mut here = OwnSet::default();
            model.apply(Op::CopyTo(&mut here), &all)?;
            let climb: Box<dyn Optimizer> = Box::new(Climb { scale: rho / (norm + 1e-12) });
            let rule_of = |name: &str| self.moves(name).then_some(&*climb);
            model.update(&rule_of, &mut OptimState::default())?;
            model.clear_grads()?;
            let second = pass(model);
            // The run goes on at its own weights, whatever became of the second pass.
            model.apply(Op::Swap(&mut here), &all)?;
            second?;
        }
        model.edit(Set::Grads, &|p| sums.contains_key(p.name), &mut |p, mut grad| {
            if let Some(sum) = sums.get(p.name) {
                grad += sum;
            }
        })?;
        Ok(first)
    }
}

/// The sums of an open window, which the gradient of the next batch is to be apart from.
fn take_sums<P: Params + ?Sized>(model: &mut P) -> Result<BTreeMap<String, ArrayD<Elem>>> {
    let mut sums = BTreeMap::new();
    model.read(Set::Grads, &all, &mut |p, grad| drop(sums.insert(p.name.to_owned(), grad.to_owned())))?;
    model.clear_grads()?;
    Ok(sums)
}
