//! A registered type, described for people from the facts that the schema has.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::schema::{self, KIND, resolved};
use super::table::a;
use super::{Entry, entries, kinds};

/// One key of a type: what it takes and what it means.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The key.
    pub name: String,
    /// What it takes: `an integer, at least 1`.
    pub takes: String,
    /// As YAML, if it may be left out and the default is known.
    pub default: Option<String>,
    /// Whether it must be there.
    pub required: bool,
    /// The doc comment of the field.
    pub doc: String,
}

impl Parameter {
    /// `a number, at least 0; 0.1 if absent`.
    pub fn summary(&self) -> String {
        match (&self.default, self.required) {
            (_, true) => format!("{}; required", self.takes),
            (Some(default), _) => format!("{}; {default} if absent", self.takes),
            (None, _) => format!("{}; optional", self.takes),
        }
    }
}

/// The parameters of a type, in the order of its fields.
pub fn parameters(entry: &Entry) -> Vec<Parameter> {
    of_object(&schema::parameters(entry))
}

/// The parameters of an object schema with `$defs`, in the order of the fields.
fn of_object(object: &Value) -> Vec<Parameter> {
    let required = object["required"].as_array().map_or(&[][..], Vec::as_slice);
    let properties = object["properties"].as_object();
    properties
        .into_iter()
        .flatten()
        .map(|(name, schema)| parameter(name, schema, object, required.contains(&name.as_str().into())))
        .collect()
}

pub(super) fn parameter(name: &str, schema: &Value, root: &Value, required: bool) -> Parameter {
    let doc = schema.get("description").or_else(|| resolved(schema, root).get("description"));
    let default = schema.get("default").filter(|default| !default.is_null());
    // A key that may be left out may be null: that goes without saying.
    let takes = if required { takes(schema, root) } else { takes(&without_null(schema), root) };
    Parameter {
        name: name.to_owned(),
        takes,
        default: default.map(yaml),
        required,
        doc: doc.and_then(Value::as_str).unwrap_or_default().to_owned(),
    }
}

fn without_null(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let is_null = |part: &Value| part == "null" || part["type"] == "null";
    for word in ["type", "anyOf", "oneOf"] {
        if let Some(Value::Array(parts)) = schema.get_mut(word) {
            parts.retain(|part| !is_null(part));
        }
    }
    schema
}

/// Everything about one type: doc, parameters with types, ranges and defaults, an example.
pub fn describe(kind: &str, entry: &Entry) -> String {
    let mut text = format!("{}: {} of {}\n\n", entry.name, a(kind), entry.origin);
    let (doc, _) = doc_and_example(entry);
    for line in doc {
        let _ = writeln!(text, "{}", format!("  {line}").trim_end());
    }
    section(&mut text, "parameters", &parameters(entry));
    if let Some(kind) = kinds().find(|k| k.name == kind) {
        section(&mut text, &format!("keys of every {}", kind.name), &of_object(&schema::extras(kind)));
    }
    let _ = writeln!(text, "\nexample");
    for line in example(entry).lines() {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// A doc comment may end in a `yaml` block: that is the example then.
fn doc_and_example(entry: &Entry) -> (Vec<&'static str>, Option<String>) {
    let mut doc: Vec<_> = entry.doc().collect();
    let Some(fence) = doc.iter().position(|line| line.trim() == "```yaml") else { return (doc, None) };
    let block: Vec<_> =
        doc.split_off(fence).into_iter().skip(1).take_while(|line| line.trim() != "```").collect();
    while doc.last().is_some_and(|line| line.trim().is_empty()) {
        doc.pop();
    }
    (doc, Some(block.join("\n")))
}

fn section(text: &mut String, title: &str, parameters: &[Parameter]) {
    if parameters.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    for parameter in parameters {
        let _ = writeln!(text, "  {}: {}", parameter.name, parameter.summary());
        for line in parameter.doc.lines() {
            let _ = writeln!(text, "{}", format!("      {line}").trim_end());
        }
    }
}

/// A spec of this type that passes the check, as YAML: the `yaml` block of its doc comment, else one line of its
/// required keys and its first defaults.
pub fn example(entry: &Entry) -> String {
    doc_and_example(entry).1.or_else(|| spec(entry, 4)).unwrap_or_else(|| format!("{{type: {}}}", entry.name))
}

/// As [`example`], with at most `depth` specs inside of each other.
fn spec(entry: &Entry, depth: usize) -> Option<String> {
    let object = schema::parameters(entry);
    let required = object["required"].as_array().map_or(&[][..], Vec::as_slice);
    let mut pairs = vec![format!("type: {}", entry.name)];
    let mut optional = 0;
    for (name, schema) in object["properties"].as_object().into_iter().flatten() {
        let example = schema.get("examples").and_then(|e| e.get(0));
        // What stands for nothing given need not be something to give.
        let allowed =
            |d: &Value| d.as_array().is_none_or(|d| !d.is_empty() || schema.get("minItems").is_none());
        let default = schema.get("default").filter(|d| !d.is_null() && !d.is_object() && allowed(d));
        let value = match (example, default) {
            _ if required.contains(&name.as_str().into()) => sample(schema, &object, depth)?,
            (Some(example), _) => yaml(example),
            (None, Some(default)) if optional < 3 => {
                optional += 1;
                yaml(default)
            }
            _ => continue,
        };
        pairs.push(format!("{name}: {value}"));
    }
    Some(format!("{{{}}}", pairs.join(", ")))
}

/// A value that a schema accepts.
fn sample(schema: &Value, root: &Value, depth: usize) -> Option<String> {
    let schema = resolved(schema, root);
    let given = schema.get("examples").or_else(|| schema.get("enum")).and_then(|list| list.get(0));
    if let Some(value) = given.or_else(|| schema.get("const")) {
        return Some(yaml(value));
    }
    if let Some(kind) = schema.get(KIND).and_then(Value::as_str) {
        let specs = entries(kind).filter_map(|entry| spec(entry, depth.checked_sub(1)?));
        return specs.min_by_key(String::len);
    }
    if let Some(choices) = ["anyOf", "oneOf"].iter().find_map(|word| schema.get(*word)?.as_array()) {
        return choices.iter().find_map(|choice| sample(choice, root, depth));
    }
    let name = schema.get("type").map(|t| t.as_array().and_then(|a| a.first()).unwrap_or(t));
    Some(match name.and_then(Value::as_str) {
        Some("integer") => format!("{:.0}", between(schema, 1.0)),
        Some("number") => format!("{:?}", between(schema, 0.1)),
        Some("boolean") => "true".to_owned(),
        Some("null") => "null".to_owned(),
        Some("array") => list(schema, root, depth)?,
        Some("object") => mapping(schema, root, depth)?,
        _ => "text".to_owned(),
    })
}

/// The number nearest to `wish` within the bounds of a schema.
fn between(schema: &Value, wish: f64) -> f64 {
    let bound = |word: &str| schema.get(word).and_then(Value::as_f64);
    let least = bound("minimum").or(bound("exclusiveMinimum").map(|b| b + wish)).unwrap_or(wish);
    let most = bound("maximum").or(bound("exclusiveMaximum").map(|b| b - wish)).unwrap_or(f64::MAX);
    wish.max(least).min(most)
}

fn list(schema: &Value, root: &Value, depth: usize) -> Option<String> {
    let items: Option<Vec<String>> = match schema.get("prefixItems").and_then(Value::as_array) {
        Some(items) => items.iter().map(|item| sample(item, root, depth)).collect(),
        None => {
            let len = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).max(1);
            (0..len).map(|_| sample(&schema["items"], root, depth)).collect()
        }
    };
    Some(format!("[{}]", items?.join(", ")))
}

fn mapping(schema: &Value, root: &Value, depth: usize) -> Option<String> {
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    let pairs: Option<Vec<String>> = required
        .iter()
        .filter_map(Value::as_str)
        .map(|name| Some(format!("{name}: {}", sample(&schema["properties"][name], root, depth)?)))
        .collect();
    Some(format!("{{{}}}", pairs?.join(", ")))
}

/// What a schema takes, in words.
fn takes(schema: &Value, root: &Value) -> String {
    let schema = resolved(schema, root);
    let Some(rules) = schema.as_object() else { return "anything".to_owned() };
    if let Some(kind) = rules.get(KIND).and_then(Value::as_str) {
        let takes = |word: &str| {
            rules.get("type").and_then(Value::as_array).is_some_and(|t| t.contains(&word.into()))
        };
        let or_list = if takes("array") { " or a list of them" } else { "" };
        let or_null = if takes("null") { " or null" } else { "" };
        return format!("{} `{{type: …}}`{or_list}{or_null}", a(kind));
    }
    if let Some(choices) = ["anyOf", "oneOf"].iter().find_map(|word| rules.get(*word)?.as_array()) {
        return either(choices, root);
    }
    if let Some(words) = rules.get("enum").and_then(Value::as_array) {
        return one_of(words);
    }
    if let Some(word) = rules.get("const") {
        return format!("`{}`", yaml(word));
    }
    let types: Vec<&str> = match rules.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => return "anything".to_owned(),
    };
    let words: Vec<String> = types.iter().map(|name| typed(name, rules, root)).collect();
    let range = range(rules);
    let words = words.join(" or ");
    if range.is_empty() { words } else { format!("{words}, {range}") }
}

fn typed(name: &str, rules: &Map<String, Value>, root: &Value) -> String {
    match name {
        "integer" => "an integer".to_owned(),
        "number" => "a number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "string" => "text".to_owned(),
        "array" => match (rules.get("prefixItems").and_then(Value::as_array), rules.get("items")) {
            (Some(items), _) => {
                let items: Vec<_> = items.iter().map(|item| takes(item, root)).collect();
                format!("[{}]", items.join("; "))
            }
            (None, Some(item)) => format!("a list of: {}", takes(item, root)),
            (None, None) => "a list".to_owned(),
        },
        "object" => {
            match (rules.get("properties").and_then(Value::as_object), rules.get("additionalProperties")) {
                (Some(keys), _) => {
                    let keys: Vec<_> = keys.keys().map(|key| format!("`{key}`")).collect();
                    format!("a mapping with the keys {}", keys.join(", "))
                }
                (None, Some(value)) if value.is_object() => {
                    format!("a mapping of names to: {}", takes(value, root))
                }
                _ => "a mapping".to_owned(),
            }
        }
        other => other.to_owned(),
    }
}

/// Several schemas: words of one enum are listed, anything else is joined.
fn either(choices: &[Value], root: &Value) -> String {
    let words: Vec<Value> = choices.iter().filter_map(|choice| choice.get("const").cloned()).collect();
    if words.len() == choices.len() {
        return one_of(&words);
    }
    let mut parts: Vec<String> = Vec::new();
    for part in choices.iter().map(|choice| takes(choice, root)) {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.join(" or ")
}

fn one_of(words: &[Value]) -> String {
    let has_null = words.iter().any(Value::is_null);
    let words: Vec<_> =
        words.iter().filter(|w| !w.is_null()).map(|word| format!("`{}`", yaml(word))).collect();
    let words = if words.len() == 1 { words.concat() } else { format!("one of {}", words.join(", ")) };
    if has_null { format!("{words} or null") } else { words }
}

/// Bounds in words. Those that a small Rust integer has anyway are left out.
fn range(rules: &Map<String, Value>) -> String {
    let bound = |word: &str| rules.get(word).filter(|v| v.is_number()).map(plain);
    let natural = rules.get("format").and_then(Value::as_str).is_some_and(|f| matches!(f, "int8" | "int16"));
    let parts = [
        bound("minimum").filter(|_| !natural).map(|b| format!("at least {b}")),
        bound("exclusiveMinimum").map(|b| format!("more than {b}")),
        bound("maximum").filter(|_| !natural).map(|b| format!("at most {b}")),
        bound("exclusiveMaximum").map(|b| format!("less than {b}")),
        bound("minLength")
            .map(|b| if b == "1" { "not empty".to_owned() } else { format!("at least {b} characters") }),
        bound("maxLength").map(|b| format!("at most {b} characters")),
        bound("minItems")
            .filter(|_| !rules.contains_key("prefixItems"))
            .map(|b| if b == "1" { "not empty".to_owned() } else { format!("at least {b} items") }),
        bound("maxItems")
            .filter(|_| !rules.contains_key("prefixItems"))
            .map(|b| format!("at most {b} items")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A bound without a needless point.
fn plain(bound: &Value) -> String {
    match bound.as_f64() {
        Some(v) if v.fract() == 0.0 && v.abs() < 1e15 => format!("{v:.0}"),
        _ => bound.to_string(),
    }
}

/// A JSON value as YAML on one line.
fn yaml(value: &Value) -> String {
    match value {
        Value::String(text)
            if text.chars().all(|c| c.is_alphanumeric() || c == '_')
                && text.starts_with(char::is_alphabetic) =>
        {
            text.clone()
        }
        Value::Array(items) => format!("[{}]", items.iter().map(yaml).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let entry = |(key, value): (&String, &Value)| format!("{key}: {}", yaml(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
