//! Modules made of modules.

mod branches;
mod dict;
mod select;

pub use branches::{Concat, ConcatConfig, Join, Parallel, ParallelConfig};
pub use dict::{ModuleDict, ModuleList, ModuleSpecs};
pub use select::Select;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::nn::{Forward, Module, Var};
use crate::registry::{BuildCx, Collected, Spec};
use crate::{module, register};

/// One layer after the other; the children are called `0`, `1`, …, or by names of their own.
#[derive(Default)]
pub struct Sequential {
    /// The layers in their order.
    pub layers: ModuleDict,
}

module!(Sequential { ..layers });

impl Sequential {
    /// No layer yet: `Sequential::new().with(Linear::new(4, 8)).with(ReLU::new())`.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more layer at the end.
    #[must_use]
    pub fn with(mut self, layer: impl Module) -> Self {
        self.layers.push(Box::new(layer));
        self
    }

    /// The same with one more layer at the end, of this name.
    #[must_use]
    pub fn named(self, name: &str, layer: impl Module) -> Self {
        Self { layers: self.layers.with(name, layer) }
    }
}

impl Module for Sequential {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layers.iter_mut().try_fold(x, |x, (name, layer)| cx.child(name, layer, x))
    }

    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut layers = self.layers.iter_mut();
        let x = match (layers.next(), xs) {
            (Some((name, first)), _) => cx.child_all(name, first, xs)?,
            (None, [x]) => return Ok(*x),
            (None, _) => {
                return Err(Error::invalid("a `Sequential` without layers gives its only input back"));
            }
        };
        layers.try_fold(x, |x, (name, layer)| cx.child(name, layer, x))
    }

    fn takes_several(&self) -> bool {
        self.layers.iter().next().is_some_and(|(_, first)| first.takes_several())
    }
}

/// `body(x) + shortcut(x)` (He et al. 2015).
pub struct Residual {
    /// What is learnt on top.
    pub body: Box<dyn Module>,
    /// How the input gets to the sum; `x` itself if absent.
    pub shortcut: Option<Box<dyn Module>>,
}

impl Residual {
    /// `body(x) + x`.
    pub fn new(body: impl Module) -> Self {
        Self { body: Box::new(body), shortcut: None }
    }

    /// How the input gets to the sum, instead of as it is.
    #[must_use]
    pub fn shortcut(mut self, shortcut: impl Module) -> Self {
        self.shortcut = Some(Box::new(shortcut));
        self
    }
}

module!(Residual { body, shortcut });

impl Module for Residual {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }

    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child_all("body", &mut self.body, xs)?;
        let shortcut = match (&mut self.shortcut, xs) {
            (Some(shortcut), _) => cx.child_all("shortcut", shortcut, xs)?,
            (None, [x]) => *x,
            (None, _) => {
                return Err(Error::invalid(format!(
                    "`Residual` adds its only input, and gets {}: give it a `shortcut` that makes one of them",
                    xs.len()
                )));
            }
        };
        if y.shape() != shortcut.shape() {
            return Err(Error::invalid(format!(
                "`Residual` adds a body of shape {:?} to a shortcut of shape {:?}: give it a `shortcut` that makes the \
                 shape of the body",
                y.shape(),
                shortcut.shape()
            )));
        }
        (y + shortcut).checked()
    }

    fn takes_several(&self) -> bool {
        self.body.takes_several()
    }
}

/// The keys of a [`Sequential`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SequentialConfig {
    /// The layers in their order, a list or by name.
    pub layers: ModuleSpecs,
}

register! { /// One layer after the other. A list of layers, where a module is expected, is the same.
dyn Module, "Sequential" => fn Sequential::from_config }

impl Sequential {
    fn from_config(p: SequentialConfig, cx: &mut BuildCx) -> Result<Self> {
        Ok(Self { layers: p.layers.build(cx)? })
    }
}

/// The keys of a [`Residual`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ResidualConfig {
    /// What is learnt on top.
    pub body: Spec<dyn Module>,
    /// How the input gets to the sum; the input itself if absent.
    pub shortcut: Option<Spec<dyn Module>>,
}

register! { /// `body(x) + shortcut(x)`.
dyn Module, "Residual" => fn Residual::from_config }

impl Residual {
    fn from_config(p: ResidualConfig, cx: &mut BuildCx) -> Result<Self> {
        let mut errors = Collected::default();
        let shortcut = p.shortcut.and_then(|shortcut| errors.take(shortcut.build(cx)));
        match errors.take(p.body.build(cx)) {
            Some(body) => errors.or(Self { body, shortcut }),
            None => Err(errors.0.into()),
        }
    }
}
