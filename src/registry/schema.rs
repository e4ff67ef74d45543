//! JSON Schema (draft 2020-12) of a whole config: the Rust types, with one branch for each registered type.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::table::a;
use super::{Entry, KindEntry, entries, kinds};

/// The word that [`super::Spec`] leaves in a schema: the kind whose branches belong there.
pub(super) const KIND: &str = "x-kind";
/// Prefix of the definitions for files with `_base_`, which may leave out anything.
const OVERLAY: &str = "overlay:";

/// The schema of a config file whose top level is `T`.
///
/// A file without `_base_` must be complete in each of its parts (which parts there must be, it does not say: base
/// files are checked by it too). In a file with `_base_`, keys may be missing anywhere, and `_delete_` may stand
/// anywhere.
pub fn schema<T: JsonSchema>() -> Value {
    let mut generator = generator();
    let mut top = generator.root_schema_for::<T>().to_value();
    let mut defs = Map::new();
    for kind in kinds() {
        defs.insert(kind.name.to_owned(), selector(kind.name));
        let extra = (kind.extra)(&mut generator).to_value();
        for entry in entries(kind.name) {
            let params = entry.maker.schema(&mut generator).to_value();
            defs.insert(
                branch_name(kind.name, entry.name),
                json!([params, extra, entry.doc().collect::<Vec<_>>()]),
            );
        }
    }
    let types = Value::Object(generator.take_definitions(true));
    for kind in kinds() {
        for entry in entries(kind.name) {
            let name = branch_name(kind.name, entry.name);
            let branch = branch(entry, &defs[&name], &types);
            defs.insert(name, branch);
        }
    }
    if let Some(top) = top.as_object_mut() {
        top.retain(|key, _| key != "$defs" && key != "$schema" && key != "required");
    }
    defs.insert("config".to_owned(), top);
    if let Value::Object(types) = types {
        defs.extend(types);
    }
    defs.values_mut().for_each(|def| close(def, false));
    let overlay: Vec<_> = defs.iter().map(|(name, def)| (format!("{OVERLAY}{name}"), overlay(def))).collect();
    defs.extend(overlay);
    add_base_keys(&mut defs);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "shanty config",
        "if": { "required": ["_base_"] },
        "then": { "$ref": format!("#/$defs/{OVERLAY}config") },
        "else": { "$ref": "#/$defs/config" },
        "$defs": defs,
    })
}

/// The parameters of one entry, as an object schema; what they refer to is in `$defs`.
pub(super) fn parameters(entry: &Entry) -> Value {
    let mut generator = generator();
    let schema = entry.maker.schema(&mut generator).to_value();
    with_defs(schema, generator)
}

/// What the schema of an entry asks of a number: of the parameter of that name, or, for `beta2`, of the second of
/// `betas`.
pub(crate) fn number_rules(entry: &Entry, number: &str) -> Map<String, Value> {
    let all = parameters(entry);
    let of = |name: &str| all.get("properties")?.get(name).map(|rules| resolved(rules, &all));
    let stem = number.trim_end_matches(|c: char| c.is_ascii_digit());
    let nth = || number.strip_prefix(stem)?.parse::<usize>().ok()?.checked_sub(1);
    let rules = of(number).or_else(|| of(&format!("{stem}s"))?.get("prefixItems")?.get(nth()?));
    rules.and_then(Value::as_object).cloned().unwrap_or_default()
}

/// The extra keys of a kind, in the same form.
pub(super) fn extras(kind: &KindEntry) -> Value {
    let mut generator = generator();
    let schema = (kind.extra)(&mut generator).to_value();
    with_defs(schema, generator)
}

/// The schema of a type, in the same form.
pub(super) fn of<T: JsonSchema>() -> Value {
    let mut generator = generator();
    let schema = generator.subschema_for::<T>().to_value();
    with_defs(schema, generator)
}

fn with_defs(schema: Value, mut generator: SchemaGenerator) -> Value {
    let defs = generator.take_definitions(true);
    let root = json!({ "$defs": defs });
    let mut object = resolved(&schema, &root).clone();
    if let Some(object) = object.as_object_mut() {
        object.insert("$defs".to_owned(), root["$defs"].clone());
    }
    object
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

/// What a schema refers to, if it is a reference.
pub(super) fn resolved<'s>(schema: &'s Value, root: &'s Value) -> &'s Value {
    let target = schema.get("$ref").and_then(Value::as_str).map(|r| r.trim_start_matches('#'));
    target.and_then(|target| root.pointer(target)).map_or(schema, |found| resolved(found, root))
}

fn branch_name(kind: &str, name: &str) -> String {
    format!("{kind}.{name}")
}

/// A thing of a kind: `type` chooses the branch. Conditions, not `oneOf`: a validator then complains about one branch
/// only.
fn selector(kind: &str) -> Value {
    let names: Vec<_> = entries(kind).map(|entry| entry.name).collect();
    let branches: Vec<_> = names
        .iter()
        .map(|name| {
            json!({
                "if": { "properties": { "type": { "pattern": format!("^(\\w+\\.)?{name}$") } }, "required": ["type"] },
                "then": { "$ref": format!("#/$defs/{}", branch_name(kind, name)) },
            })
        })
        .collect();
    let one = json!({ "anyOf": [{ "enum": names }, { "type": "string", "pattern": "^\\w+\\." }] });
    let mut selector = json!({
        "description": a(kind),
        "type": "object",
        "required": ["type"],
        "properties": { "type": one },
        "additionalProperties": true,
    });
    if !branches.is_empty() {
        selector["allOf"] = Value::Array(branches);
    }
    selector
}

/// The parameters of an entry, the extra keys of its kind, and `type`, as one closed object.
fn branch(entry: &Entry, parts: &Value, types: &Value) -> Value {
    let root = json!({ "$defs": types });
    let mut properties = Map::new();
    properties.insert("type".to_owned(), json!({ "type": "string" }));
    properties.insert("_scope_".to_owned(), json!(true));
    let mut required = vec![json!("type")];
    for part in [&parts[1], &parts[0]] {
        let object = resolved(part, &root);
        properties.extend(object["properties"].as_object().cloned().unwrap_or_default());
        required.extend(object["required"].as_array().cloned().unwrap_or_default());
    }
    json!({
        "title": entry.name,
        "description": parts[2].as_array().map(|lines| lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")),
        "type": "object",
        "properties": properties,
        "required": required,
    })
}

/// Refuses unknown keys, as the reader does, and puts the kinds in. Names of properties are not schemas: `inside`
/// tells.
fn close(value: &mut Value, names: bool) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| close(item, false)),
        Value::Object(object) if names => object.values_mut().for_each(|schema| close(schema, false)),
        Value::Object(object) => {
            if let Some(kind) = object.shift_remove(KIND).as_ref().and_then(Value::as_str) {
                let target = json!({ "$ref": format!("#/$defs/{kind}") });
                let types = object.shift_remove("type").unwrap_or_default();
                let takes = |word: &str| types.as_array().is_some_and(|types| types.contains(&json!(word)));
                let mut forms = vec![target.clone()];
                forms.extend(takes("array").then(|| json!({ "type": "array", "items": target })));
                forms.extend(takes("null").then(|| json!({ "type": "null" })));
                match forms.as_slice() {
                    [_] => object.insert("$ref".to_owned(), target["$ref"].clone()),
                    _ => object.insert("anyOf".to_owned(), Value::Array(forms)),
                };
                return;
            }
            if object.contains_key("properties")
                && object.contains_key("type")
                && !object.contains_key("additionalProperties")
            {
                object.insert("additionalProperties".to_owned(), json!(false));
            }
            for (word, part) in object.iter_mut().filter(|(word, _)| holds_schemas(word)) {
                close(part, word == "properties");
            }
        }
        _ => {}
    }
}

/// Words whose values are data, not schemas.
fn holds_schemas(word: &str) -> bool {
    !matches!(word, "default" | "const" | "enum" | "examples" | "required" | "title" | "description")
}

/// The same schema for a file that is laid over base files.
fn overlay(schema: &Value) -> Value {
    match schema {
        Value::Array(items) => items.iter().map(overlay).collect(),
        Value::Object(object) => {
            let mut object: Map<_, _> = object
                .iter()
                .map(|(word, part)| match (word.as_str(), part.as_str()) {
                    ("$ref", Some(target)) => {
                        (word.clone(), json!(target.replace("#/$defs/", &format!("#/$defs/{OVERLAY}"))))
                    }
                    _ if holds_schemas(word) && word != "if" => (word.clone(), overlay(part)),
                    _ => (word.clone(), part.clone()),
                })
                .collect();
            object
                .shift_remove("required")
                .filter(|r| !r.is_array())
                .map(|r| object.insert("required".to_owned(), r));
            if object.get("additionalProperties") == Some(&json!(false))
                && let Some(Value::Object(properties)) = object.get_mut("properties")
            {
                properties.insert("_delete_".to_owned(), json!({ "type": "boolean" }));
            }
            Value::Object(object)
        }
        other => other.clone(),
    }
}

/// What the loader takes off the top of a file.
fn add_base_keys(defs: &mut Map<String, Value>) {
    let keys = json!({
        "_base_": {
            "description": "Files that this one is laid over; paths are relative to this file.",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
        },
        "_override_": { "type": "boolean", "description": "Base files may set the same key: the later one wins." },
        "_deprecation_": { "type": "object", "description": "`expected` and `reference` of the config to use instead." },
    });
    for name in ["config".to_owned(), format!("{OVERLAY}config")] {
        let Some(top) = defs.get_mut(&name).and_then(Value::as_object_mut) else { continue };
        top.insert("patternProperties".to_owned(), json!({ "^__": true }));
        if let Some(Value::Object(properties)) = top.get_mut("properties") {
            properties.extend(keys.as_object().cloned().unwrap_or_default());
        }
    }
}
