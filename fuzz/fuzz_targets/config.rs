//! Any text as a config and any line as an override: read or refused, and what is read survives its dump.
//!
//! The first line of the input, if it starts with `#!`, is the override.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shanty::config::{self, Node};
use shanty::run::RunConfig;

fn holds(node: &Node) {
    let again = config::parse("again.yaml", &node.to_yaml());
    assert_eq!(again.as_ref().ok(), Some(node), "{}", node.to_yaml());
    for (path, leaf) in node.leaves() {
        if !path.is_empty() {
            assert_eq!(node.at_path(&path), Some(leaf));
            assert!(config::provenance(node, &path).is_ok_and(|steps| !steps.is_empty()));
        }
    }
    if let Err(diags) = RunConfig::read(node) {
        assert!(!diags.0.is_empty());
        let _ = (diags.render(true), diags.to_json());
    }
}

fuzz_target!(|text: &str| {
    let (argument, text) = match text.strip_prefix("#!").and_then(|rest| rest.split_once('\n')) {
        Some((argument, text)) => (Some(argument.to_owned()), text),
        None => (None, text),
    };
    match config::parse("fuzz.yaml", text) {
        Ok(node) => {
            holds(&node);
            if let Some(argument) = argument
                && let Ok(node) = config::overridden(&node, &[argument])
            {
                holds(&node);
            }
        }
        Err(diags) => drop((diags.render(true), diags.to_json())),
    }
});
