//! Data sets, samplers and picture formats that MMPretrain's configs name, read as those configs write them.
#![cfg(feature = "images")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod batches;
mod cache;
mod cifar;
mod files;
#[allow(dead_code)]
#[path = "../folders/mod.rs"]
mod folders;
mod formats;
mod kept;
mod samplers;
mod sets;
mod shards;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use folders::loader;
use shanty::base::Result;
use shanty::config::parse;
use shanty::data::{BatchSampler, DataLoader, Dataset, Sampler};
use shanty::registry;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn names(loader: &DataLoader) -> Option<Vec<&str>> {
    loader.dataset().classes().map(|names| names.iter().map(String::as_str).collect())
}

/// `{type: …, data_root: …, more}`.
fn set(kind: &str, root: &Path, more: &str) -> Result<DataLoader> {
    loader(&format!("{{type: {kind}, data_root: '{}', {more}}}", root.display()))
}

/// What docs/data.md shows of data sets and samplers are configs.
#[test]
fn the_configs_of_the_docs_can_be_read() {
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/data.md")).unwrap();
    let mut kinds = BTreeMap::<&str, usize>::new();
    for text in docs.split('`').filter(|text| text.starts_with("{type: ") && text.ends_with('}')) {
        let node = parse("docs/data.md", text).unwrap();
        let name = node.get("type").and_then(|kind| kind.as_str()).unwrap().to_owned();
        let of = |kind: &str| registry::entries(kind).any(|entry| entry.name == name);
        if of("sampler") {
            registry::Spec::<dyn Sampler>::parse(text).unwrap();
            *kinds.entry("sampler").or_default() += 1;
        } else if of("batch_sampler") {
            registry::Spec::<dyn BatchSampler>::parse(text).unwrap();
            *kinds.entry("batch_sampler").or_default() += 1;
        } else if of("dataset") {
            registry::Spec::<dyn Dataset>::parse(text).unwrap();
            *kinds.entry("dataset").or_default() += 1;
        }
    }
    assert!(kinds["sampler"] >= 8 && kinds["batch_sampler"] >= 3 && kinds["dataset"] >= 14, "{kinds:?}");
}
