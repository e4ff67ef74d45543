//! The optimizer's contract: one parameter's update.

use std::any::Any;

use super::Info;
use crate::base::{Elem, Error, Result};

/// The formula of an optimizer together with its numbers.
///
/// Walking through the model, names, groups, the making, saving and loading of state and the counting of steps are the
/// framework's. A group of parameters has a copy of the optimizer of its own, whose numbers multipliers and schedules
/// change; so a formula reads its own fields. [docs/extending.md](https://docs.rs/shanty) has one in 30 lines.
pub trait Optimizer: CloneOptimizer + Any + Send {
    /// The name by which a checkpoint knows whose state it holds, and a device whether it has this formula: as
    /// registered. That of the type unless overridden.
    fn name(&self) -> &'static str {
        let path = std::any::type_name::<Self>();
        path.rsplit("::").next().unwrap_or(path)
    }

    /// The numbers that multipliers and schedules may move, by name, always in the same order: `lr`, `weight_decay`, …
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)>;

    /// The names of the tensors that are kept of each parameter, zeros at first. No dots in them.
    fn state(&self) -> &'static [&'static str] {
        &[]
    }

    /// The numbers that are kept of each parameter, zero at first; what they are is told in [`ParamStep::scalars`].
    fn scalars(&self) -> usize {
        0
    }

    /// The switches that groups of parameters may set, by name, always in the same order: `lars_exclude`, …
    fn flags(&mut self) -> Vec<(&'static str, &mut bool)> {
        Vec::new()
    }

    /// The norm to which the gradients of all its parameters together are cut before the updates, where that is part of
    /// the formula.
    fn max_grad_norm(&self) -> Option<f64> {
        None
    }

    /// Whether it can move this parameter; asked when the optimizer meets its model.
    ///
    /// # Errors
    /// Why not, and what else moves it.
    fn takes(&self, _param: &Info<'_>) -> Result<()> {
        Ok(())
    }

    /// Moves one parameter along its gradient.
    ///
    /// # Errors
    /// What does not fit, in words.
    fn step(&self, param: ParamStep<'_>) -> Result<()>;

    /// Whether the numbers fit together, beyond what a schema says.
    ///
    /// # Errors
    /// What does not.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// Copies of an optimizer; every optimizer that is `Clone` has it.
pub trait CloneOptimizer {
    /// A copy in a box of its own.
    fn clone_box(&self) -> Box<dyn Optimizer>;
}

impl<T: Optimizer + Clone> CloneOptimizer for T {
    fn clone_box(&self) -> Box<dyn Optimizer> {
        Box::new(self.clone())
    }
}

/// A parameter at its update, row-major.
#[derive(Debug)]
pub struct ParamStep<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its extents.
    pub shape: &'a [usize],
    /// The value, to change.
    pub value: &'a mut [Elem],
    /// The gradient.
    pub grad: &'a [Elem],
    /// The updates that its state has had before this one: 0 if it is new.
    pub steps: u64,
    /// As many numbers as [`Optimizer::scalars`] says, as the update before left them.
    pub scalars: &'a mut [f64],
    pub(super) state: Vec<&'a mut [Elem]>,
}

impl<'a> ParamStep<'a> {
    /// The tensors of [`Optimizer::state`], in its order; once.
    ///
    /// # Errors
    /// When the optimizer declares another number of them.
    pub fn state<const N: usize>(&mut self) -> Result<[&'a mut [Elem]; N]> {
        <[_; N]>::try_from(std::mem::take(&mut self.state)).map_err(|state| {
            Error::invalid(format!("the update takes {N} tensors of state, `state` declares {}", state.len()))
        })
    }
}
