//! Another training pipeline from some epoch on.

use std::sync::Arc;

use crate::data::{Pipeline, Transform};
use crate::prelude::*;
use crate::registry::Spec;

/// Hands the loader its pipelines by epoch. Which pipeline an epoch has is a function of its number, so that a resumed run
/// has the right one, whatever the workers had fetched already.
#[derive(Default)]
pub struct SwitchRecipeHook {
    /// The first epoch, from 0, and its pipeline.
    recipes: Vec<(u64, Arc<Pipeline>)>,
}

impl SwitchRecipeHook {
    /// Switches to each pipeline when its epoch (from 0) begins.
    pub fn new(recipes: Vec<(u64, Pipeline)>) -> Self {
        Self { recipes: recipes.into_iter().map(|(epoch, p)| (epoch, Arc::new(p))).collect() }
    }
}

/// Parameters of [`SwitchRecipeHook`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct SwitchRecipe {
    /// What to switch, and when.
    schedule: Vec<Action>,
}

/// An entry of `schedule`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct Action {
    /// The epoch, from 1, that is the first with the new pipeline.
    #[schemars(range(min = 1))]
    action_epoch: u64,
    /// The new pipeline.
    train_pipeline: Vec<Spec<dyn Transform>>,
}

/// Parameters of PipelineSwitchHook.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct PipelineSwitch {
    /// The epoch, from 0, that is the first with the new pipeline.
    switch_epoch: u64,
    /// The new pipeline.
    switch_pipeline: Vec<Spec<dyn Transform>>,
}

impl Hook for SwitchRecipeHook {
    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if let Some(data) = cx.data {
            self.recipes.iter().for_each(|(epoch, pipeline)| data.switch(*epoch, Arc::clone(pipeline)));
        }
        Ok(())
    }

    fn before_train_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if !self.recipes.iter().any(|(epoch, _)| *epoch == cx.clock.epoch) {
            return cx.pass();
        }
        cx.log.info(format_args!("another training pipeline from epoch {} on", cx.clock.epoch + 1));
        Ok(())
    }
}

register! {
    /// Switches to another training pipeline at given epochs (counted from 1).
    dyn Hook, "SwitchRecipeHook" => |p: SwitchRecipe, cx: &mut BuildCx| -> Result<Box<dyn Hook>> {
        let mut recipes: Vec<(u64, Pipeline)> = Vec::new();
        for action in &p.schedule {
            let epoch = action.action_epoch - 1;
            if recipes.iter().any(|(e, _)| *e == epoch) {
                return Err(Error::config(format!("`schedule` has epoch {} twice", action.action_epoch)));
            }
            recipes.push((epoch, Pipeline::build(&action.train_pipeline, cx)?));
        }
        Ok(Box::new(SwitchRecipeHook::new(recipes)))
    }
}

register! {
    /// Switches to another training pipeline at one epoch (counted from 0).
    dyn Hook, "PipelineSwitchHook" => |p: PipelineSwitch, cx: &mut BuildCx| -> Result<Box<dyn Hook>> {
        let pipeline = Pipeline::build(&p.switch_pipeline, cx)?;
        Ok(Box::new(SwitchRecipeHook::new(vec![(p.switch_epoch, pipeline)])))
    }
}
