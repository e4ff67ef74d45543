//! What the registry says about its types, to people and to editors, is complete and true.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::collections::BTreeSet;

use serde_json::Value;
use shanty::config;
use shanty::registry::{self, Entry};
use shanty::run::RunConfig;

fn all() -> impl Iterator<Item = (&'static str, &'static Entry)> {
    registry::kinds().flat_map(|kind| registry::entries(kind.name).map(|entry| (kind.name, entry)))
}

fn entry(name: &str) -> (&'static str, &'static Entry) {
    registry::find(name).next().unwrap()
}

#[test]
fn names_are_unique_and_documented() {
    registry::check().unwrap();
    let bare: Vec<_> = all().filter(|(_, e)| e.doc().next().is_none_or(|line| line.len() < 10)).collect();
    assert!(bare.is_empty(), "without a doc line: {bare:?}");
    assert!(all().count() > 30);
}

#[test]
fn every_parameter_is_documented() {
    let mut bare = Vec::new();
    for (kind, entry) in all() {
        for parameter in registry::parameters(entry) {
            if parameter.doc.is_empty() {
                bare.push(format!("{kind} {} {}", entry.name, parameter.name));
            }
        }
    }
    assert!(bare.is_empty(), "without a doc comment: {bare:#?}");
}

#[test]
fn every_example_passes_its_own_check() {
    let mut wrong = Vec::new();
    for (kind, entry) in all() {
        let example = registry::example(entry);
        let node = config::parse("example.yaml", &example).unwrap_or_else(|e| panic!("{example}: {e}"));
        if let Err(diags) = entry.maker.check(&node, None, &["type"]) {
            wrong.push(format!("{kind} {example}\n{diags}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// An example that a config may have is one that can be built; that its files are not here is no fault of it.
#[test]
fn every_example_can_be_built() {
    let mut wrong = Vec::new();
    for kind in registry::kinds() {
        for entry in registry::entries(kind.name) {
            let example = registry::example(entry);
            let node = config::parse("example.yaml", &example).unwrap();
            let built = (kind.build)(&node, &mut registry::BuildCx::new(0));
            match built.map(|built| built.map_err(|why| why.to_string())) {
                Some(Ok(())) => {}
                Some(Err(why))
                    if ["No such file", "no such ", " here. "].iter().any(|gone| why.contains(gone)) => {}
                other => wrong.push(format!("{} {example}\n{other:?}", kind.name)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Words that a key takes have a default, and `describe` kept it to itself.
#[test]
fn defaults_are_told() {
    for (name, facts) in [
        (
            "Csv",
            &[
                "encoding: one of `one_hot`, `integer`; one_hot if absent",
                "unknown: one of `error`, `ignore`; error if absent",
            ][..],
        ),
        ("MSELoss", &["reduction: one of `mean`, `sum`, `none`; mean if absent"]),
        ("Kaiming", &["distribution: one of `normal`, `uniform`; normal if absent"]),
        ("Upsample", &["mode: one of `nearest`, `bilinear`; nearest if absent"]),
    ] {
        let (kind, entry) = entry(name);
        let text = registry::describe(kind, entry);
        facts.iter().for_each(|fact| assert!(text.contains(fact), "{name} lacks {fact:?}:\n{text}"));
    }
}

#[test]
fn a_description_has_types_ranges_defaults_docs_and_an_example() {
    let facts: [(&str, &[&str]); 3] = [
        (
            "LinearLR",
            &[
                "LinearLR: a param_scheduler of shanty (src/",
                "start_factor: a number, ",
                "end_factor: a number, ",
                "if absent",
                "parameters\n",
                "example\n  {type: LinearLR",
            ],
        ),
        (
            "Kaiming",
            &[
                "Kaiming: an initializer of shanty (src/",
                "distribution: one of `normal`, `uniform`",
                "example\n  {type: Kaiming",
            ],
        ),
        (
            "CheckpointHook",
            &[
                "CheckpointHook: a hook of shanty (src/",
                "save_begin: an integer, at least 0; 0 if absent",
                "keys of every hook",
                "priority: ",
                "example\n  {type: CheckpointHook",
            ],
        ),
    ];
    for (name, expected) in facts {
        let (kind, entry) = entry(name);
        let text = registry::describe(kind, entry);
        for fact in expected {
            assert!(text.contains(fact), "{name} lacks {fact:?}:\n{text}");
        }
    }
}

/// Every `$ref` of a schema.
fn references<'s>(schema: &'s Value, found: &mut BTreeSet<&'s str>) {
    match schema {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(object) => {
            found.extend(object.get("$ref").and_then(Value::as_str));
            object.values().for_each(|part| references(part, found));
        }
        _ => {}
    }
}

#[test]
fn the_schema_has_a_branch_for_each_type_and_no_loose_end() {
    let schema = registry::schema::<RunConfig>();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let mut found = BTreeSet::new();
    references(&schema, &mut found);
    for target in found {
        assert!(schema.pointer(target.trim_start_matches('#')).is_some(), "{target} leads nowhere");
    }
    assert!(!schema.to_string().contains("x-kind"));
    for (kind, entry) in all() {
        let branch = &schema["$defs"][format!("{kind}.{}", entry.name)];
        assert_eq!(branch["additionalProperties"], false, "{kind} {}", entry.name);
        assert!(branch["properties"]["type"].is_object());
        assert_eq!(branch["description"].as_str().unwrap().lines().next(), entry.doc().next());
    }
    let hook = &schema["$defs"]["hook.CheckpointHook"]["properties"];
    assert!(hook["interval"].is_object() && hook["priority"].is_object(), "{hook}");
}

#[test]
fn a_value_is_explained_from_its_first_writing_to_its_last() {
    let path = "tests/config_mistakes/base/explained.yaml";
    let set = "optim_wrapper.optimizer.lr=0.2".to_owned();
    let root = config::load(path.as_ref(), &[set]).unwrap();
    let text = registry::explain::<RunConfig>(&root, "optim_wrapper.optimizer.lr").unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "optim_wrapper.optimizer.lr = 0.2");
    assert!(
        lines[1].starts_with("  tests/config_mistakes/base/run.yaml:19:30 ") && lines[1].ends_with(" 0.05"),
        "{text}"
    );
    assert!(
        lines[2].starts_with("  tests/config_mistakes/base/explained.yaml:2:33 ")
            && lines[2].ends_with(" 0.1"),
        "{text}"
    );
    assert!(
        lines[3].starts_with("  command line `optim_wrapper.optimizer.lr=0.2` ")
            && lines[3].ends_with(" 0.2"),
        "{text}"
    );
    assert!(text.contains("`lr` of `SGD`: a number"), "{text}");
    let nested = registry::explain::<RunConfig>(&root, "param_scheduler.0.start_factor").unwrap();
    assert!(nested.contains("`start_factor` of `LinearLR`: a number"), "{nested}");
    let top = registry::explain::<RunConfig>(&root, "train_cfg.max_epochs").unwrap();
    assert!(top.contains("`max_epochs`") && top.contains("Epochs of the run"), "{top}");
    let slot = registry::explain::<RunConfig>(&root, "default_hooks.checkpoint.interval").unwrap();
    assert!(slot.contains("`interval` of `CheckpointHook`: an integer"), "{slot}");
    for wrong in ["nothing", "default_hooks.loger", "optim_wrapper.optimizer.lr.x", "param_scheduler.7"] {
        registry::explain::<RunConfig>(&root, wrong).unwrap_err();
    }
    let wrong = registry::explain::<RunConfig>(&root, "train_cfg.max_epoch").unwrap_err();
    assert_eq!(wrong.0[0].suggestion.as_deref(), Some("train_cfg.max_epochs"));
}

/// A key that the config leaves out was unknown: it has its default, and that has a place too.
#[test]
fn a_default_is_explained_like_a_value() {
    let root = config::load("tests/config_mistakes/base/explained.yaml".as_ref(), &[]).unwrap();
    let explain = |key: &str| registry::explain::<RunConfig>(&root, key).unwrap();
    for (key, first, second) in [
        ("optim_wrapper.optimizer.dampening", " = 0.0", "  not in the config: the default of `SGD`"),
        ("optim_wrapper.accumulative_counts", " = 1", "  not in the config: the default"),
        ("log_level", " = INFO", "  not in the config: the default"),
        ("default_hooks.timer", " = {type: IterTimerHook}", "  not in the config: the default"),
        (
            "default_hooks.logger.interval_exp_name",
            " = 1000",
            "  not in the config: the default of `LoggerHook`",
        ),
    ] {
        let text = explain(key);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], format!("{key}{first}"));
        assert_eq!(lines[1], second, "{key}");
    }
    assert!(explain("work_dir").starts_with("work_dir is not in the config\n\n`work_dir`: text; optional\n"));
    // A mapping lists all that may stand in it.
    let text = explain("optim_wrapper.optimizer");
    let keys: Vec<Vec<_>> =
        text.split("its keys\n").nth(1).unwrap().lines().map(|l| l.split_whitespace().collect()).collect();
    let has = |row: &[&str]| assert!(keys.iter().any(|key| key == row), "{row:?}: {text}");
    has(&["lr", "0.1", "tests/config_mistakes/base/explained.yaml:2:33"]);
    has(&["nesterov", "false", "default"]);
    assert!(explain("default_hooks").contains("{type: ParamSchedulerHook}"));
}
