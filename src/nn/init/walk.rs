//! The order of initialisation.
//!
//! First every parameter begins by the rule that was declared with it, as in PyTorch. Then, from the outside in, each
//! module's own `init_cfg` is applied to all that lies below it, so that the innermost wins. What loads tensors is held
//! back until the module's children are through, and so wins over everything below. No generator is shared: each tensor
//! is drawn from the stream of its own name, and neither the order of the layers nor a new one beside them changes it.

use std::sync::Arc;

use ndarray::Dimension;
use xxhash_rust::xxh3::xxh3_64;

use super::pretrained::nothing_fits;
use super::report::{Report, Tree};
use super::{Fans, Init, draw};
use crate::base::suggest::nearest;
use crate::base::{Elem, Error, Result, Rng, keyed};
use crate::nn::{
    Child, ChildMut, ModuleTree, ModuleVisitor, Param, find_mut, named_children, named_modules, walk_from,
};
use crate::params::StateDict;

/// Initialises all weights below `root`, and tells of every parameter who did: `name - shape: rule (mean, std)`.
///
/// Calling it again with the same seed gives the same weights.
///
/// # Errors
/// If a rule does not fit a layer, an override names no sub-module, or a checkpoint cannot be read or has nothing that
/// fits.
pub fn init_weights(root: &mut dyn ModuleTree, seed: u64) -> Result<Vec<String>> {
    let mut walk = Walk { seed, report: Report::of(root) };
    walk_from("", root, &mut Defaults { seed, report: &mut walk.report })?;
    walk.level("", root)?;
    Ok(walk.report.lines(root))
}

struct Walk {
    seed: u64,
    report: Report,
}

impl Walk {
    /// A module and everything below it.
    fn level(&mut self, path: &str, module: &mut dyn ModuleTree) -> Result<()> {
        let mut held_back = Vec::new();
        for init in module.init_cfg().to_vec() {
            match init.rule.tensors().map_err(|e| init.placed(e))? {
                Some(tensors) => held_back.push((init, tensors)),
                None => self.apply(&init, path, module)?,
            }
        }
        let mut done = Ok(());
        module.visit_children_mut(&mut |name, part| {
            if let ChildMut::Module(child) = part
                && done.is_ok()
            {
                done = self.level(&join(path, name), child);
            }
        });
        done?;
        held_back.iter().try_for_each(|(init, tensors)| self.load(init, tensors, path, module))
    }

    /// One filling entry of the `init_cfg` of `module`.
    fn apply(&mut self, init: &Init, path: &str, module: &mut dyn ModuleTree) -> Result<()> {
        let filled =
            self.fill(init, Reach::Layers(&init.layers), path, module).map_err(|e| init.placed(e))?;
        // Of a config it was said when the model was built: see `idle`.
        if filled == 0 && init.node.is_none() && (init.overrides.is_empty() || !init.layers.is_empty()) {
            init.warn(&matches_nothing(init, module));
        }
        for over in &init.overrides {
            let kind = module.type_name();
            let below =
                named_children(module).into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
            let target = find_mut(module, &over.name).ok_or_else(|| {
                let text = format!("`override` names `{}`, but `{kind}` has only: {below}", over.name);
                init.placed(Error::config(text))
            })?;
            let (by, path) = (over.by.as_ref().unwrap_or(init), join(path, &over.name));
            match by.rule.tensors().map_err(|e| by.placed(e))? {
                Some(tensors) => self.load(by, &tensors, &path, target)?,
                None => drop(self.fill(by, Reach::All, &path, target)?),
            }
        }
        Ok(())
    }

    /// Fills the layers below `module` that are within reach; returns how many.
    fn fill(
        &mut self,
        init: &Init,
        reach: Reach<'_>,
        path: &str,
        module: &mut dyn ModuleTree,
    ) -> Result<usize> {
        let mut filler = Filler { seed: self.seed, report: &mut self.report, init, reach, filled: 0 };
        walk_from(path, module, &mut filler)?;
        Ok(filler.filled)
    }

    /// Copies the tensors that fit by name and shape.
    fn load(
        &mut self,
        init: &Init,
        tensors: &StateDict,
        path: &str,
        module: &mut dyn ModuleTree,
    ) -> Result<()> {
        let rule = init.rule.describe();
        if !init.layers.is_empty() || init.bias != 0.0 {
            init.warn(&format!("{rule}: tensors are loaded by name, so `layer` and `bias` do nothing here"));
        }
        let done = tensors.load_into(&mut Tree(module))?;
        if done.loaded.is_empty() {
            return Err(init.placed(Error::config(nothing_fits(&rule, tensors, &done, module))));
        }
        let place = if path.is_empty() { module.type_name() } else { path };
        let level = if done.is_exact() { log::Level::Info } else { log::Level::Warn };
        log::log!(level, "{place}: {rule}: {done}");
        done.loaded.iter().for_each(|name| self.report.set(&join(path, name), &rule));
        Ok(())
    }
}

/// Which layers a rule fills.
#[derive(Clone, Copy)]
enum Reach<'a> {
    Layers(&'a [String]),
    All,
}

impl Reach<'_> {
    fn includes(self, layer: &dyn ModuleTree) -> bool {
        match self {
            Self::All => true,
            Self::Layers(names) => {
                names.iter().any(|n| n == layer.type_name() || layer.families().contains(&n.as_str()))
            }
        }
    }
}

/// Fills `weight` and `bias` of layer after layer.
struct Filler<'a> {
    seed: u64,
    report: &'a mut Report,
    init: &'a Init,
    reach: Reach<'a>,
    filled: usize,
}

impl ModuleVisitor for Filler<'_> {
    fn enter(&mut self, path: &str, layer: &mut dyn ModuleTree) -> Result<()> {
        if !self.reach.includes(layer) {
            return Ok(());
        }
        let info = self.init.to_string();
        each_tensor(self.seed, path, layer, &mut |tensor| {
            let values = &mut tensor.param.value.view_mut();
            match tensor.field {
                name if is_kind(name, "bias") && self.init.bias_std > 0.0 => {
                    draw::normal(values, self.init.bias, self.init.bias_std, &mut tensor.rng);
                }
                name if is_kind(name, "bias") => values.fill(self.init.bias as Elem),
                _ => self
                    .init
                    .rule
                    .fill(values, tensor.fans, &mut tensor.rng)
                    .map_err(|e| at(&tensor.name, e))?,
            }
            self.filled += 1;
            self.report.set(&tensor.name, &info);
            Ok(())
        })
    }
}

/// Every parameter by the rule that was declared with it: see [`Param::init`].
struct Defaults<'a> {
    seed: u64,
    report: &'a mut Report,
}

impl ModuleVisitor for Defaults<'_> {
    fn enter(&mut self, path: &str, layer: &mut dyn ModuleTree) -> Result<()> {
        let mut names = Vec::new();
        layer.visit_children(&mut |name, child| {
            if let Child::Param(param) = child
                && let Some(rule) = param.rule()
            {
                names.push((name.to_owned(), Arc::clone(rule)));
            }
        });
        names.iter().try_for_each(|(name, rule)| {
            each_of(&[name], self.seed, path, layer, &mut |tensor| {
                let values = &mut tensor.param.value.view_mut();
                rule.fill(values, tensor.fans, &mut tensor.rng).map_err(|e| at(&tensor.name, e))?;
                self.report.set(&tensor.name, &rule.describe());
                Ok(())
            })
        })
    }
}

/// A `weight` or `bias` to be filled.
struct Target<'a> {
    name: String,
    field: &'a str,
    param: &'a mut Param,
    fans: Option<Fans>,
    rng: Rng,
}

/// Calls `f` with the weights and then the biases of one layer, those that it has.
fn each_tensor(
    seed: u64,
    path: &str,
    layer: &mut dyn ModuleTree,
    f: &mut dyn FnMut(&mut Target<'_>) -> Result<()>,
) -> Result<()> {
    let mut names = Vec::new();
    layer.visit_children(&mut |name, child| {
        if matches!(child, Child::Param(_)) && (is_kind(name, "weight") || is_kind(name, "bias")) {
            names.push(name.to_owned());
        }
    });
    names.sort_by_key(|name| is_kind(name, "bias"));
    each_of(&names.iter().map(String::as_str).collect::<Vec<_>>(), seed, path, layer, f)
}

/// Whether a tensor is a weight or a bias: `weight`, and of layers with several `weight_ih_l0`, `in_proj_weight`.
fn is_kind(name: &str, kind: &str) -> bool {
    name.split('_').next() == Some(kind) || name.rsplit('_').next() == Some(kind)
}

/// Calls `f` with the tensors of these names, in their order, those that the layer has.
fn each_of(
    names: &[&str],
    seed: u64,
    path: &str,
    layer: &mut dyn ModuleTree,
    f: &mut dyn FnMut(&mut Target<'_>) -> Result<()>,
) -> Result<()> {
    let groups = layer.groups();
    let transposed = layer.families().contains(&"_ConvTransposeNd");
    names.iter().try_for_each(|wanted| {
        let mut done = Ok(());
        layer.visit_children_mut(&mut |field, part| {
            if let ChildMut::Param(param) = part
                && field == *wanted
            {
                let name = join(path, field);
                let fans = Fans::of(param.value.raw_dim().slice(), groups, transposed);
                let rng = keyed(seed, "init", xxh3_64(name.as_bytes()), 0);
                done = f(&mut Target { name, field, param, fans, rng });
            }
        });
        done
    })
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn at(name: &str, error: Error) -> Error {
    match error {
        Error::Invalid(text) => Error::Invalid(format!("{name}: {text}")),
        other => other,
    }
}

fn matches_nothing(init: &Init, module: &dyn ModuleTree) -> String {
    let (kind, rule) = (module.type_name(), init.rule.describe());
    if init.layers.is_empty() {
        return format!("init_cfg of `{kind}`: {rule} does nothing: say for which `layer` it is");
    }
    let present: Vec<_> = named_modules(module).into_iter().map(|(_, m)| m.type_name()).collect();
    let near = init.layers.iter().find_map(|layer| nearest(layer, present.iter().copied()));
    let hint = near.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    format!("init_cfg of `{kind}`: {rule} finds no layer {}{hint}", init.layers.join(" or "))
}
