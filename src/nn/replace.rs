//! Modules in place of others.

use std::any::Any;

use crate::base::{Error, Result};

use super::module::Wrapped;
use super::tree::at_mut;
use super::{Identity, Module, ModuleTree};

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

/// The wrapper of the module at a path, put around it where there is none yet.
pub(super) fn wrapped<'a>(root: &'a mut dyn ModuleTree, path: &str) -> Result<&'a mut Wrapped> {
    let place = place(root, path)?;
    if (&**place as &dyn Any).downcast_ref::<Wrapped>().is_none() {
        let inner = std::mem::replace(place, Box::new(Identity::new()));
        *place = Box::new(Wrapped::new(inner));
    }
    (&mut **place as &mut dyn Any).downcast_mut().ok_or_else(|| Error::invalid("it was wrapped just now"))
}

/// The place of a module that takes any.
fn place<'a>(root: &'a mut dyn ModuleTree, path: &str) -> Result<&'a mut Box<dyn Module>> {
    let module = at_mut(root, path)?;
    let kind = module.type_name();
    (module as &mut dyn Any).downcast_mut().ok_or_else(|| {
        Error::invalid(format!(
            "the place of `{path}` takes no other type than `{kind}`: layers of containers and fields of type \
             `Box<dyn Module>` can be replaced"
        ))
    })
}
