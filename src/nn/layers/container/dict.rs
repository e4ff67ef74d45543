//! Modules by name.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::base::{Error, Result};
use crate::config::{Diag, Dict, FromNode, Key, Kind, Node, read_checked, receive};
use crate::nn::{Child, ChildMut, Field, Module, ModuleTree};
use crate::registry::{BuildCx, Collected, Spec};

/// Modules by number, with no forward of their own: a network calls them as it likes.
pub type ModuleList = Vec<Box<dyn Module>>;

/// Modules by name, in the order in which they came, with no forward of their own: a network calls them as it likes.
///
/// ```
/// use shanty::nn::{Linear, ModuleDict, ReLU, named_children};
///
/// let towers = ModuleDict::new().with("left", Linear::new(2, 3)).with("right", ReLU::new());
/// let names: Vec<String> = named_children(&towers).into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["left", "right"]);
/// assert_eq!(towers.get("right").unwrap().type_name(), "ReLU");
/// ```
#[derive(Default)]
pub struct ModuleDict(Vec<(String, Box<dyn Module>)>);

impl ModuleDict {
    /// No module yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a further module, in place of one that has this name.
    #[must_use]
    pub fn with(mut self, name: &str, module: impl Module) -> Self {
        self.insert(name, Box::new(module));
        self
    }

    /// Adds a module, in place of one that has this name.
    pub fn insert(&mut self, name: &str, module: Box<dyn Module>) {
        match self.get_mut(name) {
            Some(old) => *old = module,
            None => self.0.push((name.to_owned(), module)),
        }
    }

    /// Adds a module whose name is its number.
    pub fn push(&mut self, module: Box<dyn Module>) {
        let mut numbers = (self.len()..).map(|number| number.to_string());
        if let Some(name) = numbers.find(|name| self.get(name).is_none()) {
            self.0.push((name, module));
        }
    }

    /// The module of this name.
    pub fn get(&self, name: &str) -> Option<&dyn Module> {
        self.iter().find(|(own, _)| *own == name).map(|(_, module)| module)
    }

    /// The module of this name, with write access.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Box<dyn Module>> {
        self.iter_mut().find(|(own, _)| *own == name).map(|(_, module)| module)
    }

    /// Names and modules, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &dyn Module)> {
        self.0.iter().map(|(name, module)| (name.as_str(), &**module))
    }

    /// Names and modules, in order, with write access.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Box<dyn Module>)> {
        self.0.iter_mut().map(|(name, module)| (name.as_str(), module))
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl ModuleTree for ModuleDict {
    fn type_name(&self) -> &'static str {
        "ModuleDict"
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
        self.0.iter().for_each(|(name, module)| module.visit(name, f));
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        self.0.iter_mut().for_each(|(name, module)| module.visit_mut(name, f));
    }
}

/// Modules of a config: a list, where the names are numbers, or a mapping of names to modules.
#[derive(Debug, Clone, Default)]
pub struct ModuleSpecs(Vec<(String, Spec<dyn Module>)>);

impl ModuleSpecs {
    /// The spec of this name.
    pub fn get(&self, name: &str) -> Option<&Spec<dyn Module>> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, spec)| spec)
    }

    /// Makes all of them.
    ///
    /// # Errors
    /// The errors of all that cannot be made, together.
    pub fn build(&self, cx: &mut BuildCx) -> Result<ModuleDict> {
        let (mut errors, mut modules) = (Collected::default(), ModuleDict::new());
        for (name, spec) in &self.0 {
            if let Some(module) = errors.take(spec.build(cx)) {
                modules.insert(name, module);
            }
        }
        errors.or(modules)
    }

    /// The same of a key that must not be empty.
    ///
    /// # Errors
    /// Those of [`build`](Self::build), and that there is nothing to make.
    pub(super) fn build_some(&self, key: &str, cx: &mut BuildCx) -> Result<ModuleDict> {
        match self.0.is_empty() {
            true => Err(Error::config(format!("`{key}` is empty: name one module or more"))),
            false => self.build(cx),
        }
    }
}

/// A mapping of names to modules.
struct Named(ModuleSpecs);

impl FromNode for Named {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        match read_checked::<Dict<Spec<dyn Module>>>(node, key, &[]) {
            Ok(Dict(specs)) => {
                let wrong = node.entries().iter().filter_map(|(key, _)| path_breaker(key));
                (Self(ModuleSpecs(specs)), wrong.collect())
            }
            Err(diags) => (Self(ModuleSpecs::default()), diags.0),
        }
    }
}

impl ModuleSpecs {
    /// For `#[serde(deserialize_with)]`: a mapping, where a list will not do because the names matter.
    ///
    /// # Errors
    /// What is wrong with the names and the modules.
    pub fn named<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        receive(d).map(|Named(specs)| specs)
    }
}

impl FromNode for ModuleSpecs {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        let Kind::Seq(items) = &*node.kind else {
            let (Named(specs), diags) = Named::from_node(node, key);
            return (specs, diags);
        };
        let (specs, diags): (Vec<_>, Vec<_>) =
            items.iter().map(|item| FromNode::from_node(item, None)).unzip();
        let names = (0..specs.len()).map(|i| i.to_string());
        (Self(names.zip(specs).collect()), diags.concat())
    }
}

/// What is wrong with a name that would not stand in a path.
fn path_breaker(key: &Key) -> Option<Diag> {
    let text = format!("`{}` cannot name a module: paths like `network.0` are cut at dots", key.text);
    (key.text.is_empty() || key.text.contains('.')).then(|| Diag::error(text).on_key(key))
}

impl<'de> Deserialize<'de> for ModuleSpecs {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        receive(d)
    }
}

impl JsonSchema for ModuleSpecs {
    fn schema_name() -> Cow<'static, str> {
        "Modules".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(g: &mut SchemaGenerator) -> Schema {
        let one = g.subschema_for::<Spec<dyn Module>>();
        json_schema!({ "anyOf": [
            { "type": "array", "items": one },
            { "type": "object", "additionalProperties": one },
        ] })
    }
}
