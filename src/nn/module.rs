//! What a layer does.

use std::any::Any;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::comm::Comm;
use crate::params::Params;
use crate::registry::BuildCx;

use super::init::{Init, InitCfg};
use super::place::{ModuleId, Near};
use super::{Child, ChildMut, ModuleTree, Var, named_modules};

/// A layer or a network: parts with a name, and a way from one tensor to the next.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `Module`",
    note = "write `impl Module for {Self}` with its `forward`, and name its fields: `shanty::module!({Self} {{ weight, bias }});`"
)]
pub trait Module: ModuleTree + Params + Any + Send {
    /// The output for `x`, recorded on the tape of `x`.
    ///
    /// # Errors
    /// When the input does not fit: number of axes, channels, size.
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>>;

    /// The output for several inputs, as `Parallel` and other containers take them; of one that of `forward`.
    ///
    /// # Errors
    /// Those of `forward`; when the module takes one input and gets another number.
    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        match xs {
            [x] => self.forward(*x, cx),
            _ => Err(Error::invalid(format!(
                "`{}` takes one input, and gets {}: `Parallel` has a branch for each, `Select` takes one of them",
                self.type_name(),
                xs.len()
            ))),
        }
    }

    /// Whether inputs are handed to it one by one. To other modules they go side by side, as one.
    fn takes_several(&self) -> bool {
        false
    }

    /// All outputs, of a backbone that has several, as HRNet's maps; the last of them is that of `forward`. A neck of a
    /// classifier that takes several inputs gets all of them.
    ///
    /// # Errors
    /// Those of `forward`.
    fn forward_several<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Vec<Var<'t>>> {
        Ok(vec![self.forward(x, cx)?])
    }
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        (**self).forward(x, cx)
    }
    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        (**self).forward_all(xs, cx)
    }
    fn takes_several(&self) -> bool {
        (**self).takes_several()
    }
    fn forward_several<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Vec<Var<'t>>> {
        (**self).forward_several(x, cx)
    }
}

/// A forward or backward pass that failed, with the path of the module: `backbone.1`, as PyTorch's `named_modules`.
#[derive(Debug)]
pub struct InModule {
    /// Dotted; empty as long as nobody knows it.
    pub path: String,
    /// Whether the failure came after that module, in something that has no parameters to be known by.
    pub after: bool,
    /// What the module says.
    pub source: Error,
    pub(super) near: Option<Near>,
    pub(super) module: Option<ModuleId>,
}

impl std::fmt::Display for InModule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.path.as_str(), self.after) {
            ("", _) => write!(f, "{}", self.source),
            (path, false) => write!(f, "`{path}`: {}", self.source),
            (path, true) => write!(f, "after `{path}`: {}", self.source),
        }
    }
}

impl std::error::Error for InModule {}

impl InModule {
    /// The error of an op beside the parameter `near`.
    pub(super) fn noted(source: Error, near: Option<Near>) -> Self {
        Self { path: String::new(), after: false, source, near, module: None }
    }

    pub(super) fn into_error(self) -> Error {
        Error::Other(Box::new(self))
    }

    /// The error of a child with the child's name; a path that it has already grows at its front.
    fn at(name: impl std::fmt::Display, module: Option<ModuleId>, error: Error) -> Error {
        let inner = match error {
            Error::Other(source) => match source.downcast::<Self>() {
                Ok(inner) => *inner,
                Err(other) => Self::noted(Error::Other(other), None),
            },
            other => Self::noted(other, None),
        };
        let path = if inner.path.is_empty() { name.to_string() } else { format!("{name}.{}", inner.path) };
        Self { path, module: inner.module.or(module), ..inner }.into_error()
    }
}

/// What a forward pass is for.
pub struct Forward<'a> {
    /// Whether dropout drops and batch norm takes its statistics from the batch.
    pub training: bool,
    /// The stream of this pass, keyed by seed and iteration: layers draw from it in the order in which they are called.
    pub rng: &'a mut Rng,
    /// How many steps of each sequence of the batch are data, where shorter ones were filled up; all if `None`.
    /// Recurrent layers, attention and what pools over time leave the others out.
    pub lengths: Option<Arc<[usize]>>,
    /// The sizes of the input whose lengths these are, behind its first axis; empty where it is not known. A layer of
    /// another number of steps has other sequences.
    pub sizes: Vec<usize>,
    /// The other processes that train the same network, if there are any.
    pub ranks: Option<Arc<dyn Comm>>,
}

impl<'a> Forward<'a> {
    /// A pass over whole sequences, or over what has none.
    pub fn new(training: bool, rng: &'a mut Rng) -> Self {
        Self { training, rng, lengths: None, sizes: Vec::new(), ranks: None }
    }

    /// The lengths, for a layer whose input is `batch` sequences of `steps` steps.
    ///
    /// # Errors
    /// When they are not those of such sequences.
    pub fn lengths(&self, batch: usize, steps: usize) -> Result<Option<Arc<[usize]>>> {
        let Some(lengths) = &self.lengths else { return Ok(None) };
        if lengths.len() != batch {
            return Err(Error::invalid(format!("there are {} lengths for {batch} sequences", lengths.len())));
        }
        if !self.sizes.is_empty() && !self.sizes.contains(&steps) {
            return Err(Error::invalid(format!(
                "the lengths are those of an input of sizes {:?}, but their layer got {steps} steps: a layer that shortens, \
                 lengthens or joins sequences leaves their lengths behind",
                self.sizes
            )));
        }
        match lengths.iter().position(|length| *length > steps) {
            None => Ok(Some(Arc::clone(lengths))),
            Some(at) => Err(Error::invalid(format!(
                "sequence {at} of the batch has the length {}, but its layer got {steps} steps: is `lengths` the field of \
                 this input? A layer that shortens sequences leaves their lengths behind",
                lengths[at]
            ))),
        }
    }

    /// The output of a child for `x`; an error has the child's name in its path.
    ///
    /// ```
    /// # use shanty::base::Result;
    /// # use shanty::nn::{Forward, Linear, Module, Var};
    /// struct Net { first: Linear, second: Linear }
    /// shanty::module!(Net { first, second });
    /// impl Module for Net {
    ///     fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
    ///         let x = cx.child("first", &mut self.first, x)?.relu();
    ///         cx.child("second", &mut self.second, x)
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// Those of the child, and of the ops that did not fit.
    pub fn child<'t, M: Module>(
        &mut self,
        name: impl std::fmt::Display,
        child: &mut M,
        x: Var<'t>,
    ) -> Result<Var<'t>> {
        self.child_all(name, child, &[x])
    }

    /// The output of a child for several inputs; an error has the child's name in its path.
    ///
    /// # Errors
    /// As those of [`child`](Self::child).
    pub fn child_all<'t, M: Module>(
        &mut self,
        name: impl std::fmt::Display,
        child: &mut M,
        xs: &[Var<'t>],
    ) -> Result<Var<'t>> {
        match xs.first() {
            Some(x) => self.within(name, child, *x, |child, cx| child.forward_all(xs, cx)),
            None => {
                child.forward_all(xs, self).map_err(|error| InModule::at(name, ModuleId::of(child), error))
            }
        }
    }

    /// All outputs of a child for `x`; an error has the child's name in its path.
    ///
    /// # Errors
    /// As those of [`child`](Self::child).
    pub fn child_several<'t, M: Module>(
        &mut self,
        name: impl std::fmt::Display,
        child: &mut M,
        x: Var<'t>,
    ) -> Result<Vec<Var<'t>>> {
        let mut all = Vec::new();
        self.within(name, child, x, |child, cx| {
            all = child.forward_several(x, cx)?;
            all.last().copied().ok_or_else(|| Error::invalid("it has no output"))
        })?;
        Ok(all)
    }

    /// What `run` makes of a child for `x`, where that is not its `forward`; an error has the child's name in its path, and
    /// what it cost is the child's.
    ///
    /// # Errors
    /// As those of [`child`](Self::child).
    pub fn within<'t, M: ModuleTree>(
        &mut self,
        name: impl std::fmt::Display,
        child: &mut M,
        x: Var<'t>,
        run: impl FnOnce(&mut M, &mut Self) -> Result<Var<'t>>,
    ) -> Result<Var<'t>> {
        let y = x.tape().called(&name, child, |child| run(child, self));
        y.and_then(Var::checked).map_err(|error| InModule::at(name, ModuleId::of(child), error))
    }
}

/// What every module of a config may say besides its parameters.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ModuleConfig {
    /// How the weights of the module and of all below it begin; instead of what its type says by itself.
    pub init_cfg: InitCfg,
    /// The module and all below it work as in evaluation, in training too: no dropout, batch norms by their running
    /// statistics. Their weights are trained.
    pub eval: bool,
    /// The activations within each block of the module, an item of its lists that has layers of its own, are computed
    /// again on the way back instead of being kept: less memory for more time, and the same bits.
    pub with_cp: bool,
}

crate::registry!(dyn Module, "module", ModuleConfig, {
    const LIST: Option<(&'static str, &'static str)> = Some(("Sequential", "layers"));

    fn finish(mut inner: Box<Self>, options: &ModuleConfig, cx: &mut BuildCx) -> Result<Box<Self>> {
        let ModuleConfig { init_cfg, eval, with_cp } = options;
        if *with_cp && super::recompute::checkpoint_blocks(&mut inner) == 0 {
            return Err(no_blocks(&*inner));
        }
        if init_cfg.is_none() && !eval {
            return Ok(inner);
        }
        let init = init_cfg.is_some().then(|| Init::list(init_cfg, cx)).transpose()?;
        Ok(Box::new(Wrapped { init, eval: *eval, ..Wrapped::new(inner) }))
    }
});

/// What is said where `with_cp` finds no blocks: other places that can be computed again, if there are any.
fn no_blocks(module: &dyn Module) -> Error {
    let replaceable = |module: &dyn ModuleTree| (module as &dyn Any).is::<Box<dyn Module>>();
    let below = named_modules(module).into_iter().skip(1).filter(|(_, module)| replaceable(*module));
    let places: Vec<String> = below.take(3).map(|(path, _)| format!("`{path}`")).collect();
    let remedy = match places.is_empty() {
        true => "leave it out; a smaller batch with `accumulative_counts` takes less memory too".to_owned(),
        false => format!(
            "leave it out, and name modules below it in `activation_checkpointing` of the config: {}",
            places.join(", ")
        ),
    };
    Error::config(format!(
        "`with_cp`: `{}` has no list of blocks whose activations could be computed again: {remedy}",
        module.type_name()
    ))
}

/// A module with what every module may say; in everything else it is that module.
pub(super) struct Wrapped {
    inner: Box<dyn Module>,
    init: Option<Vec<Init>>,
    /// Whether it works as in evaluation.
    pub(super) eval: bool,
    /// Whether its activations are computed again on the way back.
    pub(super) recompute: bool,
}

impl Wrapped {
    pub(super) fn new(inner: Box<dyn Module>) -> Self {
        Self { inner, init: None, eval: false, recompute: false }
    }

    pub(super) fn inner_mut(&mut self) -> &mut dyn Module {
        &mut *self.inner
    }
}

impl ModuleTree for Wrapped {
    fn type_name(&self) -> &'static str {
        self.inner.type_name()
    }
    fn families(&self) -> &'static [&'static str] {
        self.inner.families()
    }
    fn init_cfg(&self) -> &[Init] {
        self.init.as_deref().unwrap_or_else(|| self.inner.init_cfg())
    }
    fn groups(&self) -> usize {
        self.inner.groups()
    }
    fn number_mut(&mut self, name: &str) -> Option<&mut f64> {
        self.inner.number_mut(name)
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
        self.inner.visit_children(f);
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        self.inner.visit_children_mut(f);
    }
}

impl Module for Wrapped {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }
    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let training = cx.training;
        cx.training &= !self.eval;
        let y = match self.recompute && cx.training {
            true => super::recompute::forward(self, xs, cx),
            false => self.inner.forward_all(xs, cx),
        };
        cx.training = training;
        y
    }
    fn takes_several(&self) -> bool {
        self.inner.takes_several()
    }
    fn forward_several<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Vec<Var<'t>>> {
        let training = cx.training;
        cx.training &= !self.eval;
        let ys = match self.recompute && cx.training {
            true => super::recompute::forward(self, &[x], cx).map(|y| vec![y]),
            false => self.inner.forward_several(x, cx),
        };
        cx.training = training;
        ys
    }
}
