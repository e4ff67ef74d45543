//! Holds the classes of the model against those of the data.

use crate::config::{Kind, Node, parse};
use crate::plugin::prelude::*;

/// Compares every `num_classes` of the model's config with the number of classes of the training data, and the width of
/// the scores with it too (after mmdet's NumClassCheckHook).
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NumClassCheckHook {}

impl NumClassCheckHook {
    fn check(cx: &mut Ctx<'_>) -> HookResult {
        let known = cx.info.classes.len() as i64;
        if known == 0 {
            cx.log.warn("NumClassCheckHook: the data set names no classes, there is nothing to compare");
            return Ok(());
        }
        if cx.info.config.is_empty() {
            return Ok(());
        }
        let config = parse("config", &cx.info.config)?;
        let mut found = Vec::new();
        if let Some(model) = config.get("model") {
            collect("model", model, &mut found);
        }
        match found.iter().find(|(_, n)| *n != known) {
            Some((path, n)) => Err(format!("`{path}` is {n}, but the data set has {known} classes").into()),
            None => Ok(()),
        }
    }

    /// What the model scores the first training samples by, where it can evaluate: better known now than after an
    /// epoch.
    fn try_out(cx: &mut Ctx<'_>) -> HookResult {
        let Some(data) = cx.data.filter(|_| !cx.info.placeholders && cx.progress.iter == 0) else {
            return Ok(());
        };
        match data.preview(0)?.map(|batch| cx.model.eval_step(&batch)) {
            Some(Ok(outputs)) => Self::check_scores(cx.info.classes.len(), &outputs),
            _ => Ok(()),
        }
    }

    fn check_scores(known: usize, outputs: &Outputs) -> HookResult {
        let width = outputs.scores().and_then(|scores| scores.shape().get(1).copied());
        match width.filter(|width| known > 0 && *width != known) {
            Some(width) => {
                Err(format!("the model scores {width} classes, but the data set has {known}").into())
            }
            None => Ok(()),
        }
    }
}

fn collect(path: &str, node: &Node, found: &mut Vec<(String, i64)>) {
    match &*node.kind {
        Kind::Map(entries) => {
            for (key, value) in entries {
                let path = format!("{path}.{}", key.text);
                match &*value.kind {
                    Kind::Int(n) if key.text == "num_classes" => found.push((path, *n)),
                    _ => collect(&path, value, found),
                }
            }
        }
        Kind::Seq(items) => {
            items.iter().enumerate().for_each(|(i, item)| collect(&format!("{path}.{i}"), item, found));
        }
        _ => {}
    }
}

impl Hook for NumClassCheckHook {
    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        Self::check(cx)?;
        Self::try_out(cx)
    }

    fn before_val(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        Self::check(cx)?;
        cx.unsubscribe()
    }

    fn before_test(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        Self::check(cx)
    }

    fn after_val_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        Self::check_scores(cx.info.classes.len(), step.outputs)?;
        cx.unsubscribe()
    }

    fn after_test_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        Self::check_scores(cx.info.classes.len(), step.outputs)?;
        cx.unsubscribe()
    }
}

register! {
    /// NumClassCheckHook under MMPretrain's name.
    dyn Hook, "ClassNumCheckHook" => NumClassCheckHook
}
register! {
    /// Refuses a model whose number of classes is not that of the data.
    dyn Hook, "NumClassCheckHook" => NumClassCheckHook
}
