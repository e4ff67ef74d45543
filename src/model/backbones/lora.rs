//! Networks of which only low-rank adapters are trained.

use regex_lite::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::suggest::nearest;
use crate::base::{Error, Result};
use crate::nn::{ChildMut, Forward, Linear, Module, ModuleTree, Var, apply, linear_of};
use crate::registry::{BuildCx, Spec};
use crate::{module, register};

/// A layer that is adapted, and how.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct LoraTarget {
    /// The end of the layer's path, `qkv`, or a regular expression for all of it, `layers\.1[01]\..*`.
    #[schemars(length(min = 1))]
    pub r#type: String,
    /// Instead of that of all.
    #[schemars(extend("exclusiveMinimum" = 0.0), range(max = 1e6))]
    #[serde(default)]
    pub alpha: Option<f64>,
    /// Instead of that of all.
    #[schemars(range(min = 1, max = 65536))]
    #[serde(default)]
    pub rank: Option<usize>,
    /// Instead of that of all.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(default)]
    pub drop_rate: Option<f64>,
}

/// The keys of `{type: LoRAModel, …}` in a config.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct LoraConfig {
    /// The network: a backbone, say. What its `init_cfg` loads are weights without adapters.
    module: Spec<dyn Module>,
    /// What is added is multiplied by `alpha / rank`.
    #[schemars(extend("exclusiveMinimum" = 0.0), range(max = 1e6))]
    #[serde(default = "one")]
    alpha: f64,
    /// The rows of the first matrix and the columns of the second.
    #[schemars(range(min = 1, max = 65536))]
    #[serde(default)]
    rank: Option<usize>,
    /// The probability with which dropout zeroes an element of what goes into the adapters.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(default)]
    drop_rate: f64,
    /// The linear layers that are adapted; of several that fit a layer the first one counts.
    #[schemars(length(min = 1))]
    targets: Vec<LoraTarget>,
}

fn one() -> f64 {
    1.0
}

/// A network whose own weights stay as they are, and some of whose linear layers learn the product of two small matrices
/// beside their weights (Hu et al. 2021): `y = W x + b + alpha / rank · B A x`. B begins as zeros, so that the network
/// begins as it is.
///
/// Weight names are MMPretrain's: `module.layers.0.attn.qkv.lora_down.weight` (A, [rank, in]) and `lora_up` (B, [out,
/// rank]); the network's own are called as without adapters, below `module`.
pub struct LoRAModel {
    module: Box<dyn Module>,
}

module!(LoRAModel { module });

register! {
    /// Trains low-rank adapters of a network's linear layers alone, and none of its own weights.
    ///
    /// ```yaml
    /// {type: LoRAModel, rank: 4, alpha: 8, targets: [{type: '0'}], module: {type: Sequential, layers: [{type: Linear, in_features: 8, out_features: 3}]}}
    /// ```
    dyn Module, "LoRAModel" => fn LoRAModel::from_config
}

impl LoRAModel {
    fn from_config(p: LoraConfig, cx: &mut BuildCx) -> Result<Self> {
        let LoraConfig { module, alpha, rank, drop_rate, targets } = p;
        let filled = |target: LoraTarget| LoraTarget {
            alpha: target.alpha.or(Some(alpha)),
            rank: target.rank.or(rank),
            drop_rate: target.drop_rate.or(Some(drop_rate)),
            ..target
        };
        Self::new(module.build(cx)?, targets.into_iter().map(filled).collect())
    }

    /// Adapts the linear layers of `module` that `targets` name, and freezes everything else in it. Where a target has
    /// none, `alpha` is 1 and `drop_rate` 0.
    ///
    /// # Errors
    /// A target without a rank, that is no regular expression, or to which no linear layer belongs.
    pub fn new(module: impl Module, targets: Vec<LoraTarget>) -> Result<Self> {
        let mut module: Box<dyn Module> = Box::new(module);
        let targets = targets.into_iter().map(Pattern::of).collect::<Result<Vec<_>>>()?;
        let mut fits = vec![false; targets.len()];
        let mut layers = Vec::new();
        each_linear(&mut *module, &mut |path, linear| {
            let found = targets.iter().position(|target| target.fits(path));
            if let Some((target, fits)) = found.and_then(|at| targets.get(at).zip(fits.get_mut(at))) {
                linear.adapt(target.alpha, target.rank, target.drop_rate);
                *fits = true;
            }
            layers.push(path.to_owned());
        });
        match fits.iter().position(|fits| !fits).and_then(|at| targets.get(at)) {
            Some(target) => Err(Error::config(target.idle(&layers))),
            None => {
                freeze(&mut *module);
                Ok(Self { module })
            }
        }
    }

    /// A layer that multiplies by its weights in a way of its own would lose what is added to it.
    fn all_called(&mut self) -> Result<()> {
        let mut passed_over = None;
        each_linear(&mut *self.module, &mut |path, linear| {
            if linear.take_called() == Some(false) {
                passed_over.get_or_insert_with(|| path.to_owned());
            }
        });
        match passed_over {
            Some(path) => Err(Error::invalid(format!(
                "the network takes the weights of `{path}` without what LoRAModel adds to them: leave it out of `targets`"
            ))),
            None => Ok(()),
        }
    }
}

/// A target that is complete.
struct Pattern {
    text: String,
    whole: Regex,
    alpha: f64,
    rank: usize,
    drop_rate: f64,
}

impl Pattern {
    fn of(target: LoraTarget) -> Result<Self> {
        let text = target.r#type;
        let whole = Regex::new(&format!("^(?:{text})$"))
            .map_err(|why| Error::config(format!("`targets`: `{text}` is no regular expression: {why}")))?;
        let rank = target.rank.filter(|rank| *rank > 0).ok_or_else(|| {
            Error::config(format!("`rank` is missing: give `{text}` one, or all `targets` at once"))
        })?;
        let (alpha, drop_rate) = (target.alpha.unwrap_or(1.0), target.drop_rate.unwrap_or(0.0));
        Ok(Self { text, whole, alpha, rank, drop_rate })
    }

    /// As MMPretrain does: the end of a path needs no dot before it.
    fn fits(&self, path: &str) -> bool {
        self.whole.is_match(path) || path.ends_with(&self.text)
    }

    /// Of a target without a layer of its own.
    fn idle(&self, layers: &[String]) -> String {
        let Some(first) = layers.first() else {
            return "the network has no linear layer to be adapted".to_owned();
        };
        let text = &self.text;
        if layers.iter().any(|path| self.fits(path)) {
            return format!(
                "`targets`: all layers that fit `{text}` belong to targets before it: leave it out"
            );
        }
        let ends = layers.iter().map(|path| path.rsplit('.').next().unwrap_or(path));
        let near = nearest(text, ends).map_or_else(
            || format!("there are `{first}` and {} more", layers.len() - 1),
            |near| format!("did you mean `{near}`?"),
        );
        format!("`targets`: no linear layer fits `{text}`; {near}")
    }
}

/// Calls `f` with every linear layer and its path.
fn each_linear(module: &mut dyn ModuleTree, f: &mut dyn FnMut(&str, &mut Linear)) {
    apply(module, &mut |path, module| {
        if let Some(linear) = linear_of(module) {
            f(path, linear);
        }
    });
}

/// Freezes all parameters but those of adapters. Running means of batch norms go on moving, as in MMPretrain.
fn freeze(module: &mut dyn ModuleTree) {
    module.visit_children_mut(&mut |name, part| match part {
        ChildMut::Param(p) => (p.trainable, p.grad) = (false, None),
        ChildMut::Module(child) if !matches!(name, "lora_down" | "lora_up") => freeze(child),
        _ => {}
    });
}

impl Module for LoRAModel {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }
    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child_all("module", &mut self.module, xs)?;
        self.all_called()?;
        Ok(y)
    }
    fn takes_several(&self) -> bool {
        self.module.takes_several()
    }
    fn forward_several<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Vec<Var<'t>>> {
        let all = cx.child_several("module", &mut self.module, x)?;
        self.all_called()?;
        Ok(all)
    }
}
