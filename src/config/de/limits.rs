//! Ranges, lengths and patterns of a type's JSON schema, enforced on the node with its place.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::base::{Error, Result};
use crate::config::{Diag, Key, Kind, Node, parse, yaml};

/// Complaints about values beyond what `schema` allows. Types, names and missing keys are the reader's business.
pub(crate) fn limits(node: &Node, key: Option<&Key>, schema: &Value) -> Vec<Diag> {
    let mut walk = Walk { root: schema, diags: Vec::new() };
    walk.value(node, key, schema);
    walk.diags
}

/// Enforces the ranges and lengths of the type's schema on what a program made, in the words that a config hears.
///
/// # Errors
/// The first value that is out of its range.
pub fn check_ranges<T: Serialize + JsonSchema>(made: &T) -> Result<()> {
    let text = yaml::write(made).map_err(Error::config)?;
    let node = parse("the program", &text)?;
    match limits(&node, None, schemars::schema_for!(T).as_value()).into_iter().next() {
        Some(diag) => Err(Error::config(diag.message)),
        None => Ok(()),
    }
}

/// The word in a schema that lets infinity pass.
const INFINITE: &str = "x-infinite";

struct Walk<'s> {
    root: &'s Value,
    diags: Vec<Diag>,
}

impl<'s> Walk<'s> {
    fn value(&mut self, node: &Node, key: Option<&Key>, schema: &'s Value) {
        let Some(rules) = schema.as_object() else { return };
        let target = rules.get("$ref").and_then(Value::as_str).map(|target| target.trim_start_matches('#'));
        if let Some(target) = target.and_then(|target| self.root.pointer(target)) {
            self.value(node, key, target);
        }
        for choice in ["anyOf", "oneOf"].iter().filter_map(|word| rules.get(*word)?.as_array()) {
            self.choice(node, key, choice);
        }
        for part in rules.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.value(node, key, part);
        }
        match &*node.kind {
            Kind::Int(v) => self.number(node, key, *v as f64, rules),
            Kind::Uint(v) => self.number(node, key, *v as f64, rules),
            Kind::Float(v) => self.number(node, key, *v, rules),
            Kind::Str(text) => self.length(node, key, text.chars().count(), rules, "Length", "characters"),
            Kind::Seq(items) => {
                self.length(node, key, items.len(), rules, "Items", "items");
                self.items(key, items, rules);
            }
            Kind::Map(entries) => self.entries(entries, rules),
            Kind::Null | Kind::Bool(_) => {}
        }
    }

    /// One of several schemas: those whose type is the node's count; if one of them has no complaint, there is none.
    fn choice(&mut self, node: &Node, key: Option<&Key>, schemas: &'s [Value]) {
        let mut first = None;
        for schema in schemas.iter().filter(|schema| self.fits(node, schema)) {
            let mut walk = Walk { root: self.root, diags: Vec::new() };
            walk.value(node, key, schema);
            if walk.diags.is_empty() {
                return;
            }
            first.get_or_insert(walk.diags);
        }
        self.diags.extend(first.into_iter().flatten());
    }

    fn fits(&self, node: &Node, schema: &Value) -> bool {
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            return self.root.pointer(target.trim_start_matches('#')).is_none_or(|s| self.fits(node, s));
        }
        let name = match &*node.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "boolean",
            Kind::Int(_) | Kind::Uint(_) => "integer",
            Kind::Float(_) => "number",
            Kind::Str(_) => "string",
            Kind::Seq(_) => "array",
            Kind::Map(_) => "object",
        };
        let is = |t: &Value| t == name || (name == "integer" && t == "number");
        match schema.get("type") {
            None => true,
            Some(Value::Array(types)) => types.iter().any(is),
            Some(one) => is(one),
        }
    }

    fn number(&mut self, node: &Node, key: Option<&Key>, value: f64, rules: &Map<String, Value>) {
        if rules.get("type").and_then(Value::as_str).is_some_and(|t| !matches!(t, "number" | "integer")) {
            // That no number is wanted here is said by whoever reads it.
            return;
        }
        if let Some(rule) = broken_rule(value, rules) {
            self.complain(node, key, &rule, &format!("not {}", node.summary()));
        }
    }

    fn length(
        &mut self,
        node: &Node,
        key: Option<&Key>,
        len: usize,
        rules: &Map<String, Value>,
        word: &str,
        unit: &str,
    ) {
        let bound = |side: &str| rules.get(&format!("{side}{word}")).and_then(Value::as_u64);
        let (least, most) = (bound("min").unwrap_or(0), bound("max").unwrap_or(u64::MAX));
        let rule = match len as u64 {
            0 if least == 1 => "not empty".to_owned(),
            len if len < least && least == most => format!("{least} {unit} long"),
            len if len > most && least == most => format!("{least} {unit} long"),
            len if len < least => format!("at least {least} {unit} long"),
            len if len > most => format!("at most {most} {unit} long"),
            _ => return,
        };
        self.complain(node, key, &rule, &format!("it has {len}"));
    }

    fn items(&mut self, key: Option<&Key>, items: &[Node], rules: &'s Map<String, Value>) {
        let first = rules.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (i, item) in items.iter().enumerate() {
            if let Some(schema) = first.get(i).or_else(|| rules.get("items")) {
                self.value(item, key, schema);
            }
        }
    }

    fn entries(&mut self, entries: &[(Key, Node)], rules: &'s Map<String, Value>) {
        let named = rules.get("properties").and_then(Value::as_object);
        for (key, value) in entries {
            let schema = named.and_then(|n| n.get(&key.text)).or_else(|| rules.get("additionalProperties"));
            if let Some(schema) = schema {
                self.value(value, Some(key), schema);
            }
        }
    }

    fn complain(&mut self, node: &Node, key: Option<&Key>, rule: &str, label: &str) {
        let name = key.map_or_else(|| "the value".to_owned(), |key| format!("`{}`", key.text));
        self.diags.push(
            Diag::error(format!("{name} must be {rule}, {label}")).on(node).label(format!("must be {rule}")),
        );
    }
}

/// What the rules of a schema ask of a number that it is not.
pub(crate) fn broken_rule(value: f64, rules: &Map<String, Value>) -> Option<String> {
    // NaN is within no bounds, and infinity is meant only where a type says so.
    if !value.is_finite() && (value.is_nan() || !rules.contains_key(INFINITE)) {
        return Some("a finite number".to_owned());
    }
    let broken = |word: &str, holds: fn(&f64, &f64) -> bool, words: &str| {
        let bound = rules.get(word).and_then(Value::as_f64).filter(|bound| !holds(&value, bound))?;
        Some(format!("{words} {bound}"))
    };
    broken("minimum", f64::ge, "at least")
        .or_else(|| broken("maximum", f64::le, "at most"))
        .or_else(|| broken("exclusiveMinimum", f64::gt, "greater than"))
        .or_else(|| broken("exclusiveMaximum", f64::lt, "less than"))
        .or_else(|| beyond_32_bits(value).filter(|_| rules.get("type").is_none_or(|t| t != "integer")))
}

/// What a number is to be so that 32 bits hold it: networks, optimizers and data compute with no more, and one that is
/// infinite or 0 there would not do what it says.
fn beyond_32_bits(value: f64) -> Option<String> {
    let rule = match value as f32 {
        held if value.is_finite() && held.is_infinite() => "at most 3.4e38 in size",
        held if value != 0.0 && held == 0.0 => "0 or at least 1.4e-45 in size",
        _ => return None,
    };
    Some(format!("{rule}, which is what 32 bits hold"))
}
