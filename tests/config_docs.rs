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
