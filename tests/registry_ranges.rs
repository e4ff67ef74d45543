//! Every number of a config has a range, or says that it has none; every example can be built.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use serde_json::Value;
use shanty::registry::{entries, kinds};
use shanty::run::RunConfig;

/// Calls `f` with the path and the schema of every number below `schema`.
fn numbers(path: &str, schema: &Value, root: &Value, depth: usize, f: &mut dyn FnMut(&str, &Value)) {
    // What is said of a list holds for its items.
    if depth == 0 || schema.get("x-unbounded").is_some() {
        return;
    }
    if let Some(target) = schema["$ref"].as_str().and_then(|r| root.pointer(r.trim_start_matches('#'))) {
        numbers(path, target, root, depth - 1, f);
    }
    let is = |name: &str| match &schema["type"] {
        Value::Array(types) => types.contains(&name.into()),
        one => one == name,
    };
    if is("number") || is("integer") {
        f(path, schema);
    }
    for word in ["anyOf", "oneOf", "allOf", "prefixItems"] {
        for part in schema[word].as_array().into_iter().flatten() {
            numbers(path, part, root, depth - 1, f);
        }
    }
    for word in ["items", "additionalProperties"] {
        if schema[word].is_object() {
            numbers(path, &schema[word], root, depth - 1, f);
        }
    }
    for (name, part) in schema["properties"].as_object().into_iter().flatten() {
        numbers(&format!("{path}.{name}"), part, root, depth - 1, f);
    }
}

/// Whether it is bounded below, or says why not.
fn ranged(schema: &Value) -> bool {
    let has = |word: &str| schema.get(word).is_some();
    has("minimum") || has("exclusiveMinimum") || has("const") || has("enum")
}

#[test]
fn every_number_has_a_range_or_says_that_it_has_none() {
    let mut bare = Vec::new();
    let mut look = |path: &str, schema: &Value| {
        if !ranged(schema) {
            bare.push(path.to_owned());
        }
    };
    for kind in kinds().filter(|kind| kind.name != "transform") {
        for entry in entries(kind.name) {
            let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
            let schema = entry.maker.schema(&mut generator).to_value();
            let root = serde_json::json!({ "$defs": generator.take_definitions(true) });
            numbers(&format!("{} {}", kind.name, entry.name), &schema, &root, 12, &mut look);
        }
    }
    let config = schemars::schema_for!(RunConfig).to_value();
    numbers("config", &config, &config, 12, &mut look);
    bare.sort();
    bare.dedup();
    assert!(bare.is_empty(), "{} numbers without a range:\n{}", bare.len(), bare.join("\n"));
}

/// What `describe` shows can not only be read, but built.
#[test]
fn every_example_can_be_built() {
    use shanty::plugin::prelude::*;
    use shanty::registry::{Spec, example};
    let mut wrong = Vec::new();
    macro_rules! build {
        ($($kind:ty),+) => {$(
            for entry in entries(<$kind as shanty::registry::Registrable>::KIND) {
                let text = example(entry);
                let built = Spec::<$kind>::parse(&text)
                    .map_err(shanty::base::Error::from)
                    .and_then(|spec| spec.build(&mut BuildCx::new(0)).map(drop));
                if let Err(error) = built {
                    wrong.push(format!("{}: {text}: {error}", entry.name));
                }
            }
        )+};
    }
    build!(
        dyn Hook,
        dyn shanty::nn::Module,
        dyn shanty::nn::Loss,
        dyn shanty::nn::init::Initializer,
        dyn shanty::model::Model,
        dyn shanty::model::Head,
        dyn shanty::model::Weighting,
        dyn shanty::optim::Optimizer,
        dyn shanty::optim::Schedule,
        dyn shanty::metric::Metric
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
