//! The pages about configs name what there is.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use shanty::registry;
use shanty::run::RunConfig;

const PAGE: &str = include_str!("../docs/from_mmengine.md");

/// What stands in backquotes in the lines of a section.
fn names(section: &str) -> Vec<&'static str> {
    let start = PAGE.find(section).unwrap();
    let text = &PAGE[start + section.len()..];
    let text = &text[..text.find("\n## ").unwrap_or(text.len())];
    text.lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn every_type_on_the_page_is_registered() {
    let missing: Vec<_> = names("## Types")
        .into_iter()
        .filter(|name| registry::find(name).next().is_none() && *name != "Init")
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_key_of_the_top_level_is_on_the_page() {
    let schema = registry::schema::<RunConfig>();
    let keys = schema["$defs"]["config"]["properties"].as_object().unwrap().keys();
    let known = names("## Top level");
    let missing: Vec<_> =
        keys.filter(|key| !key.starts_with('_') && !known.contains(&key.as_str())).collect();
    assert!(missing.is_empty(), "docs/from_mmengine.md lacks {missing:?}");
}

/// Editors read what `shanty schema` writes: the schema of this binary, as it was built.
#[test]
fn the_schema_that_is_written_is_that_of_the_binary() {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_shanty")).arg("schema").output().unwrap();
    assert!(out.status.success());
    let written: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(written == serde_json::to_value(registry::schema::<RunConfig>()).unwrap());
}

/// Written by MMEngine's own `Config.dump` (tests/fixtures/gen_mmengine_config.py): read as it is, a note for each key
/// that means nothing here.
#[test]
fn a_config_that_mmengine_dumped_is_read_unchanged() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/mmengine_lenet5.yaml");
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_shanty")).args(["check", file]).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    for key in ["default_scope", "env_cfg", "persistent_workers", "pin_memory"] {
        assert!(said.contains(key), "no note about {key}: {said}");
    }
}
