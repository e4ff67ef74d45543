//! What a key of a config means, and where its value came from.

use std::fmt::Write;

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::describe::{Parameter, parameter};
use super::schema::{self, KIND, resolved};
use super::{find, kinds};
use crate::config::{Diags, Node, provenance, split};

/// The value at `path` of a config whose top level is `T`: its chain, and what its key means.
///
/// # Errors
/// If the path leads nowhere.
pub fn explain<T: JsonSchema>(root: &Node, path: &str) -> Result<String, Diags> {
    let steps = provenance(root, path)?;
    let width = steps.iter().map(|step| step.to_string().chars().count()).max().unwrap_or(0).min(100);
    let value = steps.last().map_or("", |step| &step.value);
    let mut text = format!("{path} = {value}\n");
    for step in &steps {
        let place = step.to_string();
        let _ = writeln!(text, "  {place:<width$}  {}", step.value);
    }
    if let Some((of, parameter)) = meaning(root, path, schema::of::<T>()) {
        let _ = write!(text, "\n`{}`{of}: {}\n", parameter.name, parameter.summary());
        for line in parameter.doc.lines() {
            let _ = writeln!(text, "{}", format!("  {line}").trim_end());
        }
    }
    Ok(text)
}

/// The parameter that the last key of a path is, and of what.
fn meaning(root: &Node, path: &str, schema: Value) -> Option<(String, Parameter)> {
    let parts = split(path)?;
    let (mut node, mut at, mut whole) = (root, schema.clone(), schema);
    let mut found = None;
    for part in &parts {
        (at, whole) = typed(node, at, whole);
        let of =
            node.get("type").and_then(Node::as_str).map(|name| format!(" of `{name}`")).unwrap_or_default();
        if node.items().is_empty() {
            let object = object(&at, &whole)?;
            let required =
                object.get("required").and_then(Value::as_array).is_some_and(|r| r.contains(&json!(part)));
            let next = object
                .get("properties")
                .and_then(|p| p.get(part))
                .or_else(|| object.get("additionalProperties"));
            at = next.filter(|next| next.is_object()).cloned().unwrap_or_else(|| json!({}));
            found = Some((of, parameter(part, &at, &whole, required)));
        } else {
            at = item(&at, &whole).unwrap_or_else(|| json!({}));
        }
        node = node.child(part)?;
    }
    found.filter(|(_, parameter)| parameter.takes != "anything" || !parameter.doc.is_empty())
}

/// A spec's schema is that of its type, with the extra keys of its kind.
fn typed(node: &Node, at: Value, whole: Value) -> (Value, Value) {
    let name = node.get("type").and_then(Node::as_str);
    let (Some(kind), Some(name)) = (kind_of(&at, &whole), name) else { return (at, whole) };
    let Some((_, entry)) = find(name).find(|(k, _)| *k == kind) else { return (json!({}), json!({})) };
    let mut schema = schema::parameters(entry);
    if let Some(kind) = kinds().find(|k| k.name == kind)
        && let (Some(own), Some(extra)) = (
            schema.get_mut("properties").and_then(Value::as_object_mut),
            schema::extras(kind)["properties"].as_object(),
        )
    {
        own.extend(extra.clone());
    }
    (schema.clone(), schema)
}

fn kind_of(schema: &Value, whole: &Value) -> Option<String> {
    let schema = resolved(schema, whole);
    if let Some(kind) = schema.get(KIND).and_then(Value::as_str) {
        return Some(kind.to_owned());
    }
    let choices = ["anyOf", "oneOf"].iter().find_map(|word| schema.get(*word)?.as_array())?;
    choices.iter().find_map(|choice| kind_of(choice, whole))
}

/// The alternative with keys.
fn object(schema: &Value, whole: &Value) -> Option<Map<String, Value>> {
    let schema = resolved(schema, whole);
    if schema.get("properties").is_some() || schema.get("additionalProperties").is_some() {
        return schema.as_object().cloned();
    }
    let choices = ["anyOf", "oneOf"].iter().find_map(|word| schema.get(*word)?.as_array())?;
    choices.iter().find_map(|choice| object(choice, whole))
}

/// The alternative that is a list: the schema of its items.
fn item(schema: &Value, whole: &Value) -> Option<Value> {
    let schema = resolved(schema, whole);
    if let Some(items) = schema.get("items") {
        return Some(items.clone());
    }
    if schema.get(KIND).is_some() {
        return Some(schema.clone());
    }
    let choices = ["anyOf", "oneOf"].iter().find_map(|word| schema.get(*word)?.as_array())?;
    choices.iter().find_map(|choice| item(choice, whole))
}
