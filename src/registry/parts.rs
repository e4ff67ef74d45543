//! The parts of a config that is wrong elsewhere: those that are fine by themselves are built all the same, so that one
//! reading tells what their builders say too.

use schemars::JsonSchema;
use serde_json::Value;

use super::schema::{self, KIND, resolved};
use super::{BuildCx, Collected, Entry, find, kinds};
use crate::base::Error;
use crate::config::{Diag, Diags, Node};

/// What the builders of the parts of `node` say, which is a mapping of type `T`. A part in which something is wrong is
/// entered, and not built; `passed` tells kinds that cannot be judged without the rest.
pub(crate) fn build_apart<T: JsonSchema>(node: &Node, passed: &[&str], cx: &mut BuildCx) -> Diags {
    let mut walk = Walk { passed, cx, found: Collected::default() };
    let schema = schema::of::<T>();
    walk.value(node, &schema, &schema);
    walk.found.0
}

struct Walk<'a> {
    passed: &'a [&'a str],
    cx: &'a mut BuildCx,
    found: Collected,
}

impl Walk<'_> {
    fn value(&mut self, node: &Node, schema: &Value, root: &Value) {
        let schema = resolved(schema, root);
        if let Some(kind) = schema.get(KIND).and_then(Value::as_str) {
            return self.spec(node, kind);
        }
        let choices = ["anyOf", "oneOf", "allOf"].iter().filter_map(|word| schema.get(*word)?.as_array());
        choices.flatten().for_each(|choice| self.value(node, choice, root));
        for (key, value) in node.entries() {
            let named = schema.get("properties").and_then(|all| all.get(&key.text));
            if let Some(schema) = named.or_else(|| schema.get("additionalProperties")) {
                self.value(value, schema, root);
            }
        }
        if let Some(schema) = schema.get("items") {
            node.items().iter().for_each(|item| self.value(item, schema, root));
        }
    }

    /// A list stands for one that holds things of its kind.
    fn spec(&mut self, node: &Node, kind: &str) {
        node.items().iter().for_each(|item| self.spec(item, kind));
        let name = node.get("type").and_then(Node::as_str);
        let entry = name.and_then(|name| find(name).find(|(of, _)| *of == kind));
        let (Some((_, entry)), false) = (entry, self.passed.contains(&kind)) else { return };
        match kinds().find(|known| known.name == kind).and_then(|known| (known.build)(node, self.cx)) {
            Some(built) => {
                self.found.take(built);
            }
            None => {
                let schema = schema::parameters(entry);
                self.value(node, &schema, &schema);
            }
        }
    }
}

/// A builder's errors, each with the place of what it builds, unless it has one.
pub(super) fn placed(node: &Node, entry: &Entry, error: Error) -> Error {
    let absent = error.is_absence();
    let mut all =
        error.diags().unwrap_or_else(|other| Diag { absent, ..Diag::error(other.to_string()) }.into());
    for diag in all.0.iter_mut().filter(|diag| diag.at.is_none()) {
        let at = super::blamed(node, &diag.message);
        let message = format!("cannot build `{}`: {}", entry.name, diag.message);
        *diag = Diag { message, ..diag.clone() }.on(at);
    }
    all.into()
}
