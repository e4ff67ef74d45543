//! The README's table of built-in types says what is registered: all of it, and nothing else.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeSet;

use shanty::registry;

/// Words of the table that begin or go on with a capital letter and name no type.
const PROSE: [&str; 9] =
    ["JPEG", "PNG", "YAML", "MMCV", "MMEngine", "MMPretrain", "PyTorch", "Momentum", "ParamScheduler"];

/// The rows of the table: kind, and the words of its cell.
fn rows() -> Vec<(String, BTreeSet<String>)> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, table) = readme.split_once("## What is built in").unwrap();
    let rows =
        table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let words = |cell: &str| {
        let names = cell.split(|c: char| !c.is_alphanumeric() && c != '_');
        names.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    rows.skip(2)
        .map(|row| {
            let (kind, cell) = row.trim_matches('|').split_once('|').unwrap();
            (kind.trim().to_owned(), words(cell))
        })
        .collect()
}

/// What is registered of a kind. Each schedule stands in the table once, for its three names.
fn registered(kind: &registry::KindEntry) -> BTreeSet<String> {
    let names = registry::entries(kind.name).map(|entry| entry.name);
    let own = |name: &&str| {
        let shape = ["Momentum", "ParamScheduler"].iter().find_map(|family| name.strip_suffix(family));
        shape.is_none_or(|shape| registry::find(&format!("{shape}LR")).next().is_none())
    };
    names.filter(own).map(str::to_owned).collect()
}

#[test]
fn the_table_of_built_in_types_names_each_registered_type_and_no_other() {
    let rows = rows();
    let kinds: Vec<_> = registry::kinds().collect();
    let of_table: BTreeSet<_> = rows.iter().map(|(kind, _)| kind.as_str()).collect();
    let of_program: BTreeSet<_> = kinds.iter().map(|kind| kind.name).collect();
    assert_eq!(of_table, of_program, "a row for each kind");
    for kind in kinds {
        let (_, words) = rows.iter().find(|(name, _)| name == kind.name).unwrap();
        let registered = registered(kind);
        let missing: Vec<_> = registered.difference(words).collect();
        assert!(missing.is_empty(), "README's row `{}` lacks {missing:?}", kind.name);
        let named = words.iter().filter(|word| word.chars().any(char::is_uppercase));
        let unknown: Vec<_> =
            named.filter(|word| !registered.contains(*word) && !PROSE.contains(&word.as_str())).collect();
        assert!(
            unknown.is_empty(),
            "README's row `{}` names {unknown:?}, which are not registered",
            kind.name
        );
    }
}
