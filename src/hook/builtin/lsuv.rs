//! Initial weights by which every layer gives values of variance 1, for the data at hand.

use std::collections::BTreeSet;

use crate::nn::Traced;
use crate::plugin::prelude::*;

/// Divides, before the first iteration and by its batch, the weights of each convolution and linear layer by the
/// standard deviation of what the layer gives, one layer after the other, until its variance is 1 (layer-sequential
/// unit variance, Mishkin and Matas 2016, <https://arxiv.org/abs/1511.06422>). Take it with `init_cfg: {type:
/// Orthogonal, layer: [Conv2d, Linear]}`, and for weights that are drawn: those of a file would be changed too.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LSUVHook {
    /// How far from 1 a variance may stay.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    tolerance: f64,
    /// How often a layer is scaled at most.
    #[schemars(range(min = 1))]
    max_iters: u64,
}

impl Default for LSUVHook {
    fn default() -> Self {
        Self { tolerance: 0.1, max_iters: 10 }
    }
}

setters!(LSUVHook {
    /// How far from 1 a variance may stay; 0.1 if not called.
    tolerance: = f64,
    /// How often a layer is scaled at most; 10 times if not called.
    max_iters: = u64,
});

/// The layers that are scaled.
fn is_scaled(p: &Info<'_>) -> bool {
    let kinds = ["Linear", "Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"];
    p.role == Role::Weight && !p.frozen && kinds.contains(&p.layer)
}

/// The variance of all that a module gives.
fn variance(traced: &[Traced], path: &str) -> Option<f64> {
    let output = traced.iter().find(|module| module.path == path)?.output.as_ref()?;
    let n = output.len().max(1) as f64;
    let mean = output.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    Some(output.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n)
}

impl LSUVHook {
    /// Scales one layer, and tells its variance before and after, and in how many steps.
    fn scale(&self, model: &mut dyn Model, batch: &Batch, path: &str) -> Result<Option<(f64, f64, u64)>> {
        let Some(before) = variance(&model.trace(batch)?, path) else { return Ok(None) };
        let (mut now, mut steps) = (before, 0);
        let weight = format!("{path}.weight");
        while (now - 1.0).abs() > self.tolerance && steps < self.max_iters {
            // Of a layer that gives one value, or none that is a number, there is nothing to scale by.
            if !(now.is_finite() && now > 0.0) {
                return Ok(None);
            }
            model.edit(Set::Values, &|p| p.name == weight, &mut |_, mut value| {
                value.map_inplace(|w| *w = (f64::from(*w) / now.sqrt()) as Elem);
            })?;
            now = variance(&model.trace(batch)?, path).unwrap_or(f64::NAN);
            steps += 1;
        }
        Ok(now.is_finite().then_some((before, now, steps)))
    }
}

impl Hook for LSUVHook {
    fn check_options(&self, _: &BuildCx) -> Result<()> {
        check_ranges(self)
    }

    fn priority(&self) -> Priority {
        Priority::VERY_HIGH
    }

    fn before_train_iter(&mut self, cx: &mut Ctx<'_>, batch: &mut Batch) -> HookResult {
        if cx.progress.iter > 0 || cx.info.placeholders {
            return cx.no_op();
        }
        let mut layers = Vec::new();
        cx.model.infos(&mut |p| {
            if is_scaled(&p) {
                layers.extend(p.name.strip_suffix(".weight").map(str::to_owned));
            }
        });
        if !layers.is_empty() && cx.model.trace(batch)?.is_empty() {
            return Err(format!(
                "`{}` does not tell what its layers give, by which their weights would be scaled: leave LSUVHook out",
                cx.model.name()
            )
            .into());
        }
        let mut passed_over = BTreeSet::new();
        for path in layers {
            match self.scale(&mut **cx.model, batch, &path)? {
                Some((before, after, steps)) => cx.log.detail(format_args!(
                    "LSUVHook: {path} gave a variance of {before:.4}, and {after:.4} after {steps} steps"
                )),
                None => drop(passed_over.insert(path)),
            }
        }
        if !passed_over.is_empty() {
            let names: Vec<_> = passed_over.into_iter().collect();
            cx.log.warn(format_args!("LSUVHook: nothing to scale by in {}", names.join(", ")));
        }
        Ok(())
    }
}

register! {
    /// Scales initial weights so that each layer gives values of variance 1 for the first batch (LSUV).
    dyn Hook, "LSUVHook" => LSUVHook
}
