//! Several networks behind one, by name.

use crate::base::Result;
use crate::nn::{Child, ChildMut, Field, Forward, Module, ModuleTree, Var};

/// Networks with names; their weights are called `heads.<name>.…`.
#[derive(Default)]
pub struct Heads(Vec<(String, Box<dyn Module>)>);

impl Heads {
    /// Adds a head, in place of one that has this name.
    pub fn push(&mut self, name: &str, head: Box<dyn Module>) {
        match self.0.iter_mut().find(|(own, _)| own == name) {
            Some((_, old)) => *old = head,
            None => self.0.push((name.to_owned(), head)),
        }
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What each makes of its own of `features`, one a head.
    ///
    /// # Errors
    /// That of the first head that its features do not fit.
    pub fn forward<'t>(&mut self, features: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Vec<Var<'t>>> {
        let each = self.0.iter_mut().zip(features);
        each.map(|((name, head), x)| cx.child(format_args!("heads.{name}"), head, *x)).collect()
    }
}

impl ModuleTree for Heads {
    fn type_name(&self) -> &'static str {
        "ModuleDict"
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
        self.0.iter().for_each(|(name, head)| head.visit(name, f));
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        self.0.iter_mut().for_each(|(name, head)| head.visit_mut(name, f));
    }
}
