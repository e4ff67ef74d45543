//! What a layer does.

use std::any::Any;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::params::Params;
use crate::registry::BuildCx;

use super::init::{Init, InitCfg};
use super::{Part, PartMut, Parts, Var};

/// A layer or a network: parts with a name, and a way from one tensor to the next.
pub trait Module: Parts + Params + Any + Send {
    /// The output for `x`, recorded on the tape of `x`.
    ///
    /// # Errors
    /// When the input does not fit: number of axes, channels, size.
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>>;
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        (**self).forward(x, cx)
    }
}

/// A forward pass that failed, with the path of the module: `backbone.layers.1`.
#[derive(Debug, thiserror::Error)]
#[error("`{path}`: {source}")]
pub struct InModule {
    /// Dotted, as a config nests its modules.
    pub path: String,
    /// What the module says.
    pub source: Error,
}

impl InModule {
    /// The error of a child with the child's name; a path that it has already grows at its front.
    pub fn at(name: impl std::fmt::Display, error: Error) -> Error {
        let source = match error {
            Error::Other(source) => match source.downcast::<Self>() {
                Ok(inner) => {
                    let path = format!("{name}.{}", inner.path);
                    return Error::Other(Box::new(Self { path, source: inner.source }));
                }
                Err(other) => Error::Other(other),
            },
            other => other,
        };
        Error::Other(Box::new(Self { path: name.to_string(), source }))
    }
}

/// What a forward pass is for.
pub struct Forward<'a> {
    /// Whether dropout drops and batch norm takes its statistics from the batch.
    pub training: bool,
    /// The stream of this pass, keyed by seed and iteration: layers draw from it in the order in which they are called.
    pub rng: &'a mut Rng,
}

/// What every module of a config may say besides its parameters.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ModuleOptions {
    /// How the weights of the module and of all below it begin; instead of what its type says by itself.
    pub init_cfg: InitCfg,
}

crate::registry!(dyn Module, "module", ModuleOptions, {
    const LIST: Option<(&'static str, &'static str)> = Some(("Sequential", "layers"));

    fn finish(inner: Box<Self>, options: &ModuleOptions, cx: &mut BuildCx) -> Result<Box<Self>> {
        Ok(match options.init_cfg {
            None => inner,
            Some(_) => Box::new(Configured { inner, init: Init::list(&options.init_cfg, cx)? }),
        })
    }
});

/// A module with an `init_cfg` of its own; in everything else it is that module.
struct Configured {
    inner: Box<dyn Module>,
    init: Vec<Init>,
}

impl Parts for Configured {
    fn type_name(&self) -> &'static str {
        self.inner.type_name()
    }
    fn families(&self) -> &'static [&'static str] {
        self.inner.families()
    }
    fn init_cfg(&self) -> &[Init] {
        &self.init
    }
    fn own_init(&self) -> &[(&'static str, Init)] {
        self.inner.own_init()
    }
    fn groups(&self) -> usize {
        self.inner.groups()
    }
    fn number_mut(&mut self, name: &str) -> Option<&mut f64> {
        self.inner.number_mut(name)
    }
    fn each<'a>(&'a self, f: &mut dyn FnMut(&str, Part<'a>)) {
        self.inner.each(f);
    }
    fn each_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, PartMut<'a>)) {
        self.inner.each_mut(f);
    }
}

impl Module for Configured {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.inner.forward(x, cx)
    }
}
