//! Another training pipeline from some epoch on.

use std::sync::Arc;

use crate::data::{DataLoader, Pipeline, SampleError, Transform};
use crate::plugin::prelude::*;
use crate::registry::Spec;

/// Hands the loader its pipelines by epoch. Which pipeline an epoch has is a function of its number, so that a resumed
/// run has the right one, whatever the workers had fetched already.
#[derive(Default)]
pub struct SwitchRecipeHook {
    recipes: Vec<Recipe>,
}

/// A pipeline and the first epoch, from 0, that has it.
struct Recipe {
    epoch: u64,
    pipeline: Arc<Pipeline>,
    /// Where a config writes it.
    key: String,
}

impl SwitchRecipeHook {
    /// Switches to each pipeline when its epoch (from 0) begins.
    pub fn new(recipes: Vec<(u64, Pipeline)>) -> Self {
        let recipe = |(i, (epoch, pipeline))| Recipe {
            epoch,
            pipeline: Arc::new(pipeline),
            key: format!("schedule.{i}.train_pipeline"),
        };
        Self { recipes: recipes.into_iter().enumerate().map(recipe).collect() }
    }

    /// A model that can evaluate is shown the pictures to come, so that they end no run after days.
    fn try_out(&self, cx: &mut Ctx<'_>, data: &DataLoader) -> HookResult {
        let usual = data.preview(0)?.is_some_and(|batch| cx.model.eval_step(&batch).is_ok());
        for recipe in self.recipes.iter().filter(|recipe| recipe.epoch < cx.progress.max_epochs) {
            let tried = data.preview(recipe.epoch).and_then(|batch| match batch.filter(|_| usual) {
                Some(batch) => cx.model.eval_step(&batch).map(drop),
                None => Ok(()),
            });
            tried.map_err(|error| recipe.refused(&error))?;
        }
        Ok(())
    }
}

impl Recipe {
    fn refused(&self, error: &Error) -> String {
        let steps = SampleError::of(error).map(SampleError::transform).unwrap_or_default();
        let within = steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(".transforms.");
        let dot = if steps.is_empty() { "" } else { "." };
        format!("the pipeline from epoch {} on, `{}{dot}{within}`: {error}", self.epoch + 1, self.key)
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
    /// The new pipeline. Some configs of MMPretrain call it `pipeline`.
    #[serde(alias = "pipeline")]
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
    fn check_options(&self, _: &BuildCx) -> Result<()> {
        let epochs: Vec<_> = self.recipes.iter().map(|recipe| recipe.epoch).collect();
        match (1..epochs.len()).find(|at| epochs[..*at].contains(&epochs[*at])) {
            Some(at) => Err(Error::config(format!("`schedule` has epoch {} twice", epochs[at] + 1))),
            None => Ok(()),
        }
    }

    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        let Some(data) = cx.data else { return Ok(()) };
        self.recipes.iter().for_each(|recipe| data.switch(recipe.epoch, Arc::clone(&recipe.pipeline)));
        // What is resumed was tried when it began.
        if cx.info.placeholders || cx.progress.iter > 0 { Ok(()) } else { self.try_out(cx, data) }
    }

    fn before_train_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if !self.recipes.iter().any(|recipe| recipe.epoch == cx.progress.epoch) {
            return cx.no_op();
        }
        cx.log.info(format_args!("another training pipeline from epoch {} on", cx.progress.epoch + 1));
        Ok(())
    }
}

register! {
    /// Switches to another training pipeline at given epochs (counted from 1).
    dyn Hook, "SwitchRecipeHook" => fn SwitchRecipeHook::from_config
}

impl SwitchRecipeHook {
    fn from_config(p: SwitchRecipe, cx: &mut BuildCx) -> Result<Self> {
        let mut recipes: Vec<(u64, Pipeline)> = Vec::new();
        for action in &p.schedule {
            recipes.push((action.action_epoch - 1, Pipeline::build(&action.train_pipeline, cx)?));
        }
        Ok(Self::new(recipes))
    }
}

register! {
    /// Switches to another training pipeline at one epoch (counted from 0).
    dyn Hook, "PipelineSwitchHook" => fn SwitchRecipeHook::at_one_epoch
}

impl SwitchRecipeHook {
    fn at_one_epoch(p: PipelineSwitch, cx: &mut BuildCx) -> Result<Self> {
        let pipeline = Pipeline::build(&p.switch_pipeline, cx)?;
        let mut hook = Self::new(vec![(p.switch_epoch, pipeline)]);
        hook.recipes.iter_mut().for_each(|recipe| recipe.key = "switch_pipeline".into());
        Ok(hook)
    }
}
