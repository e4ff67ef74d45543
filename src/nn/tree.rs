//! Walks over the whole tree of modules.

use std::collections::BTreeMap;

use ndarray::ArrayD;

use crate::base::suggest::nearest;
use crate::base::{Elem, Error, Result};
use crate::params::{HostParams, ParamMut, ParamRef, Role};

use super::{Buffer, Child, ChildMut, ModuleTree, Param};

/// A walk's two calls at each module: before its children and after them.
pub trait ModuleVisitor {
    /// Before the children of `module`. `path` is dotted and empty at the root.
    fn enter(&mut self, _path: &str, _module: &mut dyn ModuleTree) -> Result<()> {
        Ok(())
    }
    /// After the children of `module`.
    fn leave(&mut self, _path: &str, _module: &mut dyn ModuleTree) -> Result<()> {
        Ok(())
    }
}

/// Takes `visitor` through `root` and all modules below it, in the order of declaration.
///
/// # Errors
/// The first error of the visitor, which ends the walk.
pub fn walk(root: &mut dyn ModuleTree, visitor: &mut dyn ModuleVisitor) -> Result<()> {
    walk_from("", root, visitor)
}

/// [`walk`], with `prefix` as the path of `root`.
///
/// # Errors
/// The first error of the visitor, which ends the walk.
pub fn walk_from(prefix: &str, root: &mut dyn ModuleTree, visitor: &mut dyn ModuleVisitor) -> Result<()> {
    descend(&mut Path(prefix.to_owned()), root, visitor)
}

fn descend(path: &mut Path, module: &mut dyn ModuleTree, visitor: &mut dyn ModuleVisitor) -> Result<()> {
    visitor.enter(&path.0, module)?;
    let mut done = Ok(());
    module.visit_children_mut(&mut |name, part| {
        if let ChildMut::Module(child) = part
            && done.is_ok()
        {
            done = path.within(name, |path| descend(path, child, visitor));
        }
    });
    done?;
    visitor.leave(&path.0, module)
}

/// A dotted path that grows and shrinks in place.
struct Path(String);

impl Path {
    fn within<R>(&mut self, name: &str, f: impl FnOnce(&mut Self) -> R) -> R {
        let len = self.0.len();
        if len > 0 {
            self.0.push('.');
        }
        self.0.push_str(name);
        let result = f(self);
        self.0.truncate(len);
        result
    }
}

/// The direct sub-modules with their names.
pub fn named_children(module: &dyn ModuleTree) -> Vec<(String, &dyn ModuleTree)> {
    let mut all = Vec::new();
    module.visit_children(&mut |name, part| {
        if let Child::Module(child) = part {
            all.push((name.to_owned(), child));
        }
    });
    all
}

/// The module itself (path `""`) and all modules below it, parents first, as PyTorch's `named_modules`.
pub fn named_modules(root: &dyn ModuleTree) -> Vec<(String, &dyn ModuleTree)> {
    fn collect<'a>(path: &mut Path, module: &'a dyn ModuleTree, all: &mut Vec<(String, &'a dyn ModuleTree)>) {
        all.push((path.0.clone(), module));
        module.visit_children(&mut |name, part| {
            if let Child::Module(child) = part {
                path.within(name, |path| collect(path, child, all));
            }
        });
    }
    let mut all = Vec::new();
    collect(&mut Path(String::new()), root, &mut all);
    all
}

/// The parameters of the module and of all below it, with their names, as PyTorch's `named_parameters`.
pub fn named_parameters(root: &dyn ModuleTree) -> Vec<(String, &Param)> {
    named_leaves(root, &|part| match part {
        Child::Param(param) => Some(param),
        _ => None,
    })
}

/// The buffers of the module and of all below it, with their names, as PyTorch's `named_buffers`. Counts are none.
pub fn named_buffers(root: &dyn ModuleTree) -> Vec<(String, &Buffer)> {
    named_leaves(root, &|part| match part {
        Child::Buffer(buffer) => Some(buffer),
        _ => None,
    })
}

fn named_leaves<'a, T>(
    root: &'a dyn ModuleTree,
    choose: &dyn Fn(Child<'a>) -> Option<&'a T>,
) -> Vec<(String, &'a T)> {
    let mut all = Vec::new();
    for (path, module) in named_modules(root) {
        module.visit_children(&mut |name, part| {
            let dot = if path.is_empty() { "" } else { "." };
            all.extend(choose(part).map(|leaf| (format!("{path}{dot}{name}"), leaf)));
        });
    }
    all
}

/// Calls `f` with every module and its path, children before their parent, as PyTorch's `apply`.
///
/// ```
/// use shanty::nn::{Linear, Sequential, apply, find_mut};
///
/// let mut net = Sequential::new().with(Linear::new(2, 2)).with(Linear::new(2, 1));
/// let mut seen = Vec::new();
/// apply(&mut net, &mut |path, module| seen.push(format!("{path}:{}", module.type_name())));
/// assert_eq!(seen, ["0:Linear", "1:Linear", ":Sequential"]);
/// ```
pub fn apply(root: &mut dyn ModuleTree, f: &mut dyn FnMut(&str, &mut dyn ModuleTree)) {
    fn go(path: &mut Path, module: &mut dyn ModuleTree, f: &mut dyn FnMut(&str, &mut dyn ModuleTree)) {
        module.visit_children_mut(&mut |name, part| {
            if let ChildMut::Module(child) = part {
                path.within(name, |path| go(path, child, f));
            }
        });
        f(&path.0, module);
    }
    go(&mut Path(String::new()), root, f);
}

/// The module at a dotted path; the empty path is `root` itself.
pub fn find<'a>(root: &'a dyn ModuleTree, path: &str) -> Option<&'a dyn ModuleTree> {
    path.split('.').filter(|step| !step.is_empty()).try_fold(root, |module, step| {
        let mut found = None;
        module.visit_children(&mut |name, part| {
            if let Child::Module(child) = part
                && name == step
            {
                found = Some(child);
            }
        });
        found
    })
}

/// The module at a dotted path, with write access; the empty path is `root` itself.
pub fn find_mut<'a>(root: &'a mut dyn ModuleTree, path: &str) -> Option<&'a mut dyn ModuleTree> {
    path.split('.').filter(|step| !step.is_empty()).try_fold(root, |module, step| {
        let mut found = None;
        module.visit_children_mut(&mut |name, part| {
            if let ChildMut::Module(child) = part
                && name == step
            {
                found = Some(child);
            }
        });
        found
    })
}

/// Freezes or frees everything at `path` and below. A frozen parameter loses its gradient, so that no optimizer moves
/// or decays it and no norm counts it; a frozen batch norm keeps its running statistics and normalises by them.
///
/// # Errors
/// When no module has this path.
pub fn set_trainable(root: &mut dyn ModuleTree, path: &str, trainable: bool) -> Result<()> {
    fn set(module: &mut dyn ModuleTree, trainable: bool) {
        module.visit_children_mut(&mut |_, part| match part {
            ChildMut::Param(p) => {
                p.trainable = trainable;
                if !trainable {
                    p.grad = None;
                }
            }
            ChildMut::Buffer(b) => b.fixed = !trainable,
            ChildMut::Module(child) => set(child, trainable),
            ChildMut::Counter(_) => {}
        });
    }
    set(at_mut(root, path)?, trainable);
    Ok(())
}

/// [`find_mut`], with an error that knows a path like the wrong one.
pub(super) fn at_mut<'a>(root: &'a mut dyn ModuleTree, path: &str) -> Result<&'a mut dyn ModuleTree> {
    let paths: Vec<String> = named_modules(root).into_iter().map(|(path, _)| path).collect();
    find_mut(root, path).ok_or_else(|| {
        let near = nearest(path, paths.iter().map(String::as_str).filter(|path| !path.is_empty()));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Error::invalid(format!("the model has no module `{path}`{hint}"))
    })
}

/// Fixes the running statistics of every batch norm below `root`, or lets them move. Scales and shifts are trained on.
pub fn set_norm_eval(root: &mut dyn ModuleTree, fixed: bool) {
    let is_norm = root.families().contains(&"_BatchNorm");
    root.visit_children_mut(&mut |_, part| match part {
        ChildMut::Buffer(b) if is_norm => b.fixed = fixed,
        ChildMut::Module(child) => set_norm_eval(child, fixed),
        _ => {}
    });
}

/// Calls `f` with every parameter of the tree.
pub(super) fn each_param(module: &mut dyn ModuleTree, f: &mut dyn FnMut(&mut Param)) {
    module.visit_children_mut(&mut |_, part| match part {
        ChildMut::Param(p) => f(p),
        ChildMut::Module(child) => each_param(child, f),
        _ => {}
    });
}

fn role(name: &str) -> Role {
    if name == "bias" { Role::Bias } else { Role::Weight }
}

/// [`HostParams::visit`] for any tree of modules, `dyn` ones too.
pub fn visit(root: &dyn ModuleTree, f: &mut dyn FnMut(ParamRef<'_>)) {
    fn go(path: &mut Path, module: &dyn ModuleTree, f: &mut dyn FnMut(ParamRef<'_>)) {
        let layer = module.type_name();
        module.visit_children(&mut |field, part| {
            path.within(field, |path| {
                let mut frozen = false;
                let (role, value, grad) = match part {
                    Child::Module(child) => return go(path, child, f),
                    Child::Param(p) => {
                        frozen = !p.trainable;
                        (role(field), p.value.view(), p.grad.as_ref().map(|g| g.view()))
                    }
                    Child::Buffer(b) => (Role::Buffer, b.value.view(), None),
                    Child::Counter(c) => (Role::Counter, c.value.view(), None),
                };
                f(ParamRef { name: &path.0, layer, role, frozen, value, grad });
            });
        });
    }
    go(&mut Path(String::with_capacity(64)), root, f);
}

/// [`HostParams::visit_mut`] for any tree of modules, `dyn` ones too.
pub fn visit_mut(root: &mut dyn ModuleTree, f: &mut dyn FnMut(ParamMut<'_>)) {
    fn go(path: &mut Path, module: &mut dyn ModuleTree, f: &mut dyn FnMut(ParamMut<'_>)) {
        let layer = module.type_name();
        module.visit_children_mut(&mut |field, part| {
            path.within(field, |path| {
                let mut frozen = false;
                let (role, value, grad) = match part {
                    ChildMut::Module(child) => return go(path, child, f),
                    ChildMut::Param(p) => {
                        frozen = !p.trainable;
                        (role(field), p.value.view_mut(), p.grad.as_mut().map(|g| g.view_mut()))
                    }
                    ChildMut::Buffer(b) => (Role::Buffer, b.value.view_mut(), None),
                    ChildMut::Counter(c) => (Role::Counter, c.value.view_mut(), None),
                };
                f(ParamMut { name: &path.0, layer, role, frozen, value, grad });
            });
        });
    }
    go(&mut Path(String::with_capacity(64)), root, f);
}

impl<M: ModuleTree> HostParams for M {
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
        visit(self, f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        visit_mut(self, f);
    }
    fn zero_grads(&mut self) {
        each_param(self, &mut Param::clear_grad);
    }
    fn visit_grads(&mut self, f: &mut dyn FnMut(&str, &mut Option<ArrayD<Elem>>)) {
        visit_grads(self, f);
    }
    fn set_grads(&mut self, sums: &BTreeMap<String, ArrayD<Elem>>) {
        visit_grads(self, &mut |name, grad| match (sums.get(name), grad) {
            (Some(sum), grad) => *grad = Some(sum.clone()),
            (None, Some(grad)) => grad.fill(0.0),
            (None, None) => {}
        });
    }
}

/// [`HostParams::visit_grads`] for any tree of modules.
fn visit_grads(root: &mut dyn ModuleTree, f: &mut dyn FnMut(&str, &mut Option<ArrayD<Elem>>)) {
    fn go(path: &mut Path, module: &mut dyn ModuleTree, f: &mut dyn FnMut(&str, &mut Option<ArrayD<Elem>>)) {
        module.visit_children_mut(&mut |field, part| {
            path.within(field, |path| match part {
                ChildMut::Module(child) => go(path, child, f),
                ChildMut::Param(p) => f(&path.0, &mut p.grad),
                _ => {}
            });
        });
    }
    go(&mut Path(String::with_capacity(64)), root, f);
}
