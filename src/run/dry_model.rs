//! The model of a dry run.

use std::collections::BTreeMap;

use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD};

use crate::base::{Elem, Result};
use crate::data::{Batch, TargetScales};
use crate::model::{Model, Outputs, StepCx};
use crate::params::{Info, Op, OptimState, OwnSet, Params, Role, RuleOf, Set, Want};

/// A model of which only names and shapes are left: groups are formed by them, and nothing can be computed.
pub(super) struct DryRunModel {
    tensors: Vec<Tensor>,
}

/// What [`Info`] says, kept.
struct Tensor {
    name: String,
    layer: String,
    role: Role,
    shape: Vec<usize>,
    frozen: bool,
    storage: (usize, usize),
}

impl DryRunModel {
    pub fn of(model: &dyn Model) -> Self {
        let mut tensors = Vec::new();
        model.infos(&mut |p| {
            tensors.push(Tensor {
                name: p.name.to_owned(),
                layer: p.layer.to_owned(),
                role: p.role,
                shape: p.shape.to_vec(),
                frozen: p.frozen,
                storage: p.storage,
            });
        });
        Self { tensors }
    }
}

/// There is nothing to move.
impl Params for DryRunModel {
    fn infos(&self, f: &mut dyn FnMut(Info<'_>)) {
        for Tensor { name, layer, role, shape, frozen, storage } in &self.tensors {
            f(Info { name, layer, role: *role, shape, frozen: *frozen, storage: *storage });
        }
    }
    fn read(&self, _: Set, _: Want<'_>, _: &mut dyn FnMut(&Info<'_>, ArrayViewD<'_, Elem>)) -> Result<()> {
        Ok(())
    }
    fn edit(
        &mut self,
        _: Set,
        _: Want<'_>,
        _: &mut dyn FnMut(&Info<'_>, ArrayViewMutD<'_, Elem>),
    ) -> Result<()> {
        Ok(())
    }
    fn read_own(&self, _: &OwnSet, _: &mut dyn FnMut(&str, ArrayViewD<'_, Elem>)) -> Result<()> {
        Ok(())
    }
    fn apply(&mut self, _: Op<'_>, _: Want<'_>) -> Result<()> {
        Ok(())
    }
    fn norm(&self, _: Set, _: f64, _: Want<'_>) -> Result<f64> {
        Ok(0.0)
    }
    fn clear_grads(&mut self) -> Result<()> {
        Ok(())
    }
    fn put_grads(&mut self, _: &BTreeMap<String, ArrayD<Elem>>) -> Result<()> {
        Ok(())
    }
    fn update(&mut self, _: RuleOf<'_>, _: &mut OptimState) -> Result<()> {
        Ok(())
    }
}

impl Model for DryRunModel {
    fn train_step(&mut self, _: &Batch, _: &StepCx) -> Result<Outputs> {
        Ok(Outputs::default())
    }
    fn eval_step(&mut self, _: &Batch) -> Result<Outputs> {
        Ok(Outputs::default())
    }
    fn standardize(&mut self, _: &TargetScales) -> Result<()> {
        Ok(())
    }
    fn init_weights(&mut self, _: u64) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}
