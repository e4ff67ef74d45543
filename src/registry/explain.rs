//! What a key of a config means, and where its value came from.

use std::fmt::Write;

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::describe::{Parameter, parameter};
use super::schema::{self, KIND, resolved};
use super::{find, kinds};
use crate::config::{Diags, Key, Kind, Node, Step, provenance, quoted, split};

/// The value at `path` of a config whose top level is `T`: its chain, what its key means, and the keys that may stand
/// below it. A key that the config leaves out has its default.
///
/// # Errors
/// If the path leads nowhere.
pub fn explain<T: JsonSchema>(root: &Node, path: &str) -> Result<String, Diags> {
    let found = find_key(root, path, schema::of::<T>());
    let mut text = match (provenance(root, path), &found) {
        (Ok(steps), _) => chain(path, &steps),
        (Err(_), Some(Found { parameter: Some((of, parameter)), node: None, .. })) => {
            match &parameter.default {
                Some(default) => format!("{path} = {default}\n  not in the config: the default{of}\n"),
                None if parameter.required => format!("{path} is not in the config, and has to be\n"),
                None => format!("{path} is not in the config\n"),
            }
        }
        (Err(wrong), _) => return Err(wrong),
    };
    let Some(Found { parameter, node, schema, whole }) = found else { return Ok(text) };
    if let Some((of, parameter)) = parameter.filter(|(_, p)| p.takes != "anything" || !p.doc.is_empty()) {
        let _ = write!(text, "\n`{}`{of}: {}\n", parameter.name, parameter.summary());
        for line in parameter.doc.lines() {
            let _ = writeln!(text, "{}", format!("  {line}").trim_end());
        }
    }
    let rows = keys(root, path, node, &schema, &whole);
    if !rows.is_empty() {
        text += "\nits keys\n";
        let width = |column: fn(&Row) -> &String| {
            rows.iter().map(|row| column(row).chars().count()).max().unwrap_or(0).min(40)
        };
        let (names, values) = (width(|row| &row.0), width(|row| &row.1));
        for (name, value, place) in &rows {
            let _ = writeln!(text, "  {name:<names$}  {value:<values$}  {place}");
        }
    }
    Ok(text)
}

/// The value and all its writings.
fn chain(path: &str, steps: &[Step]) -> String {
    let width = steps.iter().map(|step| step.to_string().chars().count()).max().unwrap_or(0).min(100);
    let mut text = format!("{path} = {}\n", steps.last().map_or("", |step| &step.value));
    for step in steps {
        let place = step.to_string();
        let _ = writeln!(text, "  {place:<width$}  {}", step.value);
    }
    text
}

/// A key, its value, and where that is from.
type Row = (String, String, String);

/// The keys of a mapping: those that are written, and the others that its type takes with what they are then.
fn keys(root: &Node, path: &str, node: Option<&Node>, schema: &Value, whole: &Value) -> Vec<Row> {
    let written = node.map_or(&[][..], Node::entries);
    let row = |(key, value): &(Key, Node)| {
        let steps = provenance(root, &format!("{path}.{}", quoted(&key.text))).unwrap_or_default();
        let place = steps.last().map(ToString::to_string).unwrap_or_default();
        (key.text.clone(), value.summary(), place)
    };
    let mut rows: Vec<Row> = written.iter().map(row).collect();
    let is_mapping = node.is_none_or(|node| matches!(&*node.kind, Kind::Map(_)));
    let Some(object) = object(schema, whole).filter(|_| is_mapping) else { return rows };
    let required = object.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    for (name, schema) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if rows.iter().any(|(written, ..)| written == name) {
            continue;
        }
        let parameter = parameter(name, schema, whole, required.contains(&json!(name)));
        let (value, from) = match (parameter.default, parameter.required) {
            (_, true) => ("-".to_owned(), "required"),
            (Some(default), _) => (default, "default"),
            (None, _) => ("-".to_owned(), "optional"),
        };
        rows.push((name.clone(), value, from.to_owned()));
    }
    rows
}

/// Where a path leads to.
struct Found<'n> {
    /// The parameter that its last key is, and of what; none for an item of a list.
    parameter: Option<(String, Parameter)>,
    /// The value, if it is written.
    node: Option<&'n Node>,
    /// What it may be, and where references of that lead to.
    schema: Value,
    whole: Value,
}

fn find_key<'n>(root: &'n Node, path: &str, schema: Value) -> Option<Found<'n>> {
    let (mut node, mut at, mut whole) = (Some(root), schema.clone(), schema);
    let mut parameter_at = None;
    for part in &split(path)? {
        let of = type_of(node, &at).map(|name| format!(" of `{name}`")).unwrap_or_default();
        (at, whole) = typed(node, at, whole);
        let below = node.and_then(|node| node.child(part));
        if node.is_some_and(|node| !node.items().is_empty()) {
            at = item(&at, &whole).unwrap_or_else(|| json!({}));
            parameter_at = None;
        } else {
            let object = object(&at, &whole)?;
            let required =
                object.get("required").and_then(Value::as_array).is_some_and(|r| r.contains(&json!(part)));
            let named = object.get("properties").and_then(|all| all.get(part));
            // A name of one's own is no key unless it is there.
            let next = named.or_else(|| below.and_then(|_| object.get("additionalProperties")));
            let next = next.filter(|next| next.is_object());
            if below.is_none() {
                next?;
            }
            at = next.cloned().unwrap_or_else(|| json!({}));
            parameter_at = Some((of, parameter(part, &at, &whole, required)));
        }
        node = below;
    }
    let (schema, whole) = typed(node, at, whole);
    Some(Found { parameter: parameter_at, node, schema, whole })
}

/// The type of a thing: the one that is written, else that of the default.
fn type_of<'n>(node: Option<&'n Node>, schema: &'n Value) -> Option<&'n str> {
    match node {
        Some(node) => node.get("type").and_then(Node::as_str),
        None => schema.get("default")?.get("type")?.as_str(),
    }
}

/// A spec's schema is that of its type, with the extra keys of its kind.
fn typed(node: Option<&Node>, at: Value, whole: Value) -> (Value, Value) {
    let (Some(kind), Some(name)) = (kind_of(&at, &whole), type_of(node, &at)) else { return (at, whole) };
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
