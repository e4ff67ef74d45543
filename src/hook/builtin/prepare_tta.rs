//! Tests with augmented views.

use std::any::Any;

use crate::model::tta::{AverageClsScoreTTA, NoModel, View};
use crate::plugin::prelude::*;

/// Puts the model into a test-time augmentation for the length of a test (MMEngine's PrepareTTAHook).
///
/// The views are made of the test batches, where MMEngine wants a pipeline of its own.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct PrepareTTAHook {
    /// Which views of each picture are taken, and how their scores become one.
    tta_cfg: TtaConfig,
    #[serde(skip)]
    wrapped: bool,
}

/// `tta_cfg`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct TtaConfig {
    /// How predictions are merged.
    pub r#type: TtaType,
    /// The views; `[identity, horizontal_flip]` if absent.
    #[serde(default = "flips")]
    pub views: Vec<View>,
}

/// The ways to merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TtaType {
    /// The mean of the scores.
    AverageClsScoreTTA,
}

fn flips() -> Vec<View> {
    vec![View::Identity, View::HorizontalFlip]
}

impl PrepareTTAHook {
    /// Averages the scores of these views.
    pub fn new(views: Vec<View>) -> Self {
        Self { tta_cfg: TtaConfig { r#type: TtaType::AverageClsScoreTTA, views }, wrapped: false }
    }

    fn unwrap(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if std::mem::take(&mut self.wrapped) {
            let tta: &mut dyn Any = &mut **cx.model;
            if let Some(inner) = tta.downcast_mut::<AverageClsScoreTTA>().map(AverageClsScoreTTA::take) {
                *cx.model = inner;
            }
        }
        Ok(())
    }
}

impl Hook for PrepareTTAHook {
    fn before_test(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        let model = std::mem::replace(cx.model, Box::new(NoModel));
        *cx.model = Box::new(AverageClsScoreTTA::new(model, self.tta_cfg.views.clone()));
        self.wrapped = true;
        Ok(())
    }

    fn after_test(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.unwrap(cx)
    }

    fn on_error(&mut self, cx: &mut Ctx<'_>, _error: &Error) -> HookResult {
        self.unwrap(cx)
    }
}

register! {
    /// Tests with the mean of the scores over mirrored views.
    dyn Hook, "PrepareTTAHook" => PrepareTTAHook
}
