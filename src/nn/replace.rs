//! Modules in place of others.

use std::any::Any;

use crate::base::{Error, Result};

use super::layers::norm_of;
use super::module::Wrapped;
use super::tree::{apply, at_mut};
use super::{Identity, Linear, Module, ModuleTree};

/// Puts a module in the place of the one at a dotted path, and gives the old one back. Weights of the new one are
/// called as its place is.
///
/// Only a place that takes any module can be given another: a layer of a `Sequential`, a branch, a backbone, a field of
/// type `Box<dyn Module>`.
///
/// ```
/// use shanty::nn::{Identity, Linear, ModuleTree, ReLU, Sequential, replace};
///
/// let mut net = Sequential::new().with(Linear::new(2, 3)).named("act", ReLU::new()).named("fc", Linear::new(3, 1));
/// let old = replace(&mut net, "fc", Identity::new())?;
/// assert_eq!((old.type_name(), net.layers.get("fc").unwrap().type_name()), ("Linear", "Identity"));
/// let error = replace(&mut net, "fcc", Identity::new()).err().unwrap();
/// assert_eq!(error.to_string(), "the model has no module `fcc`; did you mean `fc`?");
/// # Ok::<(), shanty::base::Error>(())
/// ```
///
/// # Errors
/// When no module has this path, or its place takes no other type.
pub fn replace(root: &mut dyn ModuleTree, path: &str, module: impl Module) -> Result<Box<dyn Module>> {
    Ok(std::mem::replace(place(root, path)?, Box::new(module)))
}

/// Lets a module and all below it work as in evaluation, whatever the rest does (no dropout, batch norms by their
/// running statistics), or as the rest again. What PyTorch's `net.layer.eval()` does while `net` trains.
///
/// # Errors
/// As those of [`replace`].
pub fn set_eval(root: &mut dyn ModuleTree, path: &str, eval: bool) -> Result<()> {
    wrapped(root, path)?.eval = eval;
    Ok(())
}

/// Lets every batch norm below a module take its statistics over all processes that train together, as PyTorch's
/// function of this name. Weights and their names stay. How many batch norms there are.
///
/// ```
/// use shanty::nn::{BatchNorm1d, Linear, Sequential, convert_sync_batchnorm, find, revert_sync_batchnorm};
///
/// let mut net = Sequential::new().with(Linear::new(2, 3)).named("bn", BatchNorm1d::new(3));
/// assert_eq!(convert_sync_batchnorm(&mut net), 1);
/// assert_eq!(find(&net, "bn").unwrap().type_name(), "SyncBatchNorm");
/// revert_sync_batchnorm(&mut net);
/// assert_eq!(find(&net, "bn").unwrap().type_name(), "BatchNorm1d");
/// ```
pub fn convert_sync_batchnorm(root: &mut dyn ModuleTree) -> usize {
    sync_batchnorm(root, true)
}

/// Lets every batch norm below a module take its statistics over its own batch, as MMEngine's function of this name.
/// How many batch norms there are.
pub fn revert_sync_batchnorm(root: &mut dyn ModuleTree) -> usize {
    sync_batchnorm(root, false)
}

fn sync_batchnorm(root: &mut dyn ModuleTree, sync: bool) -> usize {
    let mut found = 0;
    apply(root, &mut |_, module| {
        if let Some(norm) = concrete(module).and_then(norm_of) {
            norm.sync = sync;
            found += 1;
        }
    });
    found
}

/// A module as the linear layer that it is.
pub(crate) fn linear_of(module: &mut dyn ModuleTree) -> Option<&mut Linear> {
    concrete(module)?.downcast_mut()
}

/// The wrapper of the module at a path, put around it where there is none yet.
pub(super) fn wrapped<'a>(root: &'a mut dyn ModuleTree, path: &str) -> Result<&'a mut Wrapped> {
    wrap(place(root, path)?).ok_or_else(|| Error::invalid("it was wrapped just now"))
}

/// The same of the module in a place; never `None`.
pub(super) fn wrap(place: &mut Box<dyn Module>) -> Option<&mut Wrapped> {
    if !(&**place as &dyn Any).is::<Wrapped>() {
        let inner = std::mem::replace(place, Box::new(Identity::new()));
        *place = Box::new(Wrapped::new(inner));
    }
    (&mut **place as &mut dyn Any).downcast_mut()
}

/// A module as the type that it is, out of its box and its wrapper.
pub(super) fn concrete(module: &mut dyn ModuleTree) -> Option<&mut dyn Any> {
    let any: &dyn Any = module;
    if any.is::<Box<dyn Module>>() {
        return concrete(&mut **(module as &mut dyn Any).downcast_mut::<Box<dyn Module>>()?);
    }
    if any.is::<Wrapped>() {
        return concrete((module as &mut dyn Any).downcast_mut::<Wrapped>()?.inner_mut());
    }
    Some(module)
}

/// The place of a module that takes any.
fn place<'a>(root: &'a mut dyn ModuleTree, path: &str) -> Result<&'a mut Box<dyn Module>> {
    let module = at_mut(root, path)?;
    let kind = module.type_name();
    (module as &mut dyn Any).downcast_mut().ok_or_else(|| {
        Error::invalid(format!(
            "`{path}` is a fixed part of its network, which takes no other type than `{kind}` there: layers and branches of \
             containers, backbones, necks and heads can be replaced"
        ))
    })
}
