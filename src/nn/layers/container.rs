//! Modules made of modules.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::Result;
use crate::nn::{Forward, InModule, Module, Var};
use crate::registry::{BuildCx, Collected, Spec};
use crate::{parts, register};

/// One layer after the other; the children are called `0`, `1`, …
#[derive(Default)]
pub struct Sequential {
    /// The layers in their order.
    pub layers: Vec<Box<dyn Module>>,
}

parts!(Sequential { ..layers });

impl Sequential {
    /// These layers.
    pub fn new(layers: Vec<Box<dyn Module>>) -> Self {
        Self { layers }
    }

    /// The same with one more layer at the end.
    #[must_use]
    pub fn with(mut self, layer: impl Module) -> Self {
        self.layers.push(Box::new(layer));
        self
    }
}

impl Module for Sequential {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut layers = self.layers.iter_mut().enumerate();
        layers.try_fold(x, |x, (i, layer)| {
            layer.forward(x, cx).map_err(|error| InModule::at(format_args!("layers.{i}"), error))
        })
    }
}

/// `body(x) + shortcut(x)` (He et al. 2015).
pub struct Residual {
    /// What is learnt on top.
    pub body: Box<dyn Module>,
    /// How the input gets to the sum; `x` itself if absent.
    pub shortcut: Option<Box<dyn Module>>,
}

parts!(Residual { body, shortcut });

impl Module for Residual {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = self.body.forward(x, cx).map_err(|error| InModule::at("body", error))?;
        match &mut self.shortcut {
            Some(shortcut) => {
                y.add(shortcut.forward(x, cx).map_err(|error| InModule::at("shortcut", error))?)
            }
            None => y.add(x),
        }
    }
}

/// What a [`Sequential`] is made of.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SequentialParams {
    /// The layers in their order.
    pub layers: Vec<Spec<dyn Module>>,
}

register! { /// One layer after the other. A list of layers, where a module is expected, is the same.
dyn Module, "Sequential" => |p: SequentialParams, cx: &mut BuildCx| -> Result<Box<dyn Module>> {
    Ok(Box::new(Sequential::new(Spec::build_all(&p.layers, cx)?)))
} }

/// What a [`Residual`] is made of.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ResidualParams {
    /// What is learnt on top.
    pub body: Spec<dyn Module>,
    /// How the input gets to the sum; the input itself if absent.
    pub shortcut: Option<Spec<dyn Module>>,
}

register! { /// `body(x) + shortcut(x)`.
dyn Module, "Residual" => |p: ResidualParams, cx: &mut BuildCx| -> Result<Box<dyn Module>> {
    let mut errors = Collected::default();
    let shortcut = p.shortcut.and_then(|shortcut| errors.take(shortcut.build(cx)));
    match errors.take(p.body.build(cx)) {
        Some(body) => errors.or(Box::new(Residual { body, shortcut })),
        None => Err(errors.0.into()),
    }
} }
