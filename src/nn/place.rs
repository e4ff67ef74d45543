//! In which layer an error came about.

use crate::base::Error;

use super::{Child, InModule, ModuleTree, Param, named_modules};

/// The parameter next to an op, by the address of its memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Near {
    pub address: usize,
    /// Whether the op uses it; else it was the last one to be used before.
    pub used: bool,
}

/// A module by its address and its type: a struct and its first field lie at one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ModuleId(usize, &'static str);

impl ModuleId {
    /// Of a module that takes memory; others have no address of their own.
    pub fn of(module: &dyn ModuleTree) -> Option<Self> {
        let address = std::ptr::from_ref(module).cast::<()>() as usize;
        (size_of_val(module) > 0).then(|| Self(address, module.type_name()))
    }
}

/// The error with the whole path of its module below `root`, as far as it can be known.
pub(super) fn located(root: &dyn ModuleTree, error: Error) -> Error {
    let Error::Other(source) = error else { return error };
    let mut found = match source.downcast::<InModule>() {
        Ok(found) => found,
        Err(other) => return Error::Other(other),
    };
    let whole = found.module.and_then(|id| path_of(root, id));
    let near = found.near.and_then(|near| Some((layer_of(root, near.address)?, near.used)));
    match (whole, near) {
        (Some(path), _) => found.path = path,
        // The layer of the parameter that the op uses is the innermost there is.
        (None, Some((layer, true))) => found.path = layer,
        (None, Some((layer, false))) if found.path.is_empty() => (found.path, found.after) = (layer, true),
        _ => {}
    }
    if found.path.is_empty() { found.source } else { Error::Other(found) }
}

/// The dotted path of the module that owns the parameter at this address; its type for the root itself.
pub(super) fn layer_of(root: &dyn ModuleTree, address: usize) -> Option<String> {
    let owns = |module: &dyn ModuleTree| {
        let mut found = false;
        module.visit_children(&mut |_, child| {
            found |= matches!(child, Child::Param(param) if Param::address(param) == address);
        });
        found
    };
    named_modules(root).into_iter().find(|(_, module)| owns(*module)).map(|named| shown(root, named.0))
}

fn path_of(root: &dyn ModuleTree, id: ModuleId) -> Option<String> {
    let mut all = named_modules(root).into_iter();
    all.find(|(_, module)| ModuleId::of(*module) == Some(id)).map(|named| shown(root, named.0))
}

fn shown(root: &dyn ModuleTree, path: String) -> String {
    if path.is_empty() { root.type_name().to_owned() } else { path }
}
