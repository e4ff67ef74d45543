//! What every registered type owes its users.

use grad_noise as _;
use shanty::config::parse;
use shanty::registry::{entries, kinds};

#[test]
fn every_type_has_a_doc_line_and_one_name() {
    shanty::registry::check().unwrap();
    for kind in kinds() {
        for entry in entries(kind.name) {
            let doc = entry.doc().next().unwrap_or_default();
            assert!(doc.len() > 10 && doc.ends_with(['.', '…']), "{} `{}`: {doc:?}", kind.name, entry.name);
        }
    }
}

#[test]
fn every_type_refuses_an_unknown_key() {
    for kind in kinds() {
        for entry in entries(kind.name) {
            let node = parse("c.yaml", "{zzzz_unknown: 1}").unwrap();
            let said = entry.maker.check(&node, None, &[]).unwrap_err().to_string();
            assert!(said.contains("zzzz_unknown"), "{} `{}`: {said}", kind.name, entry.name);
        }
    }
}

#[test]
fn the_plugin_is_linked_because_this_test_names_it() {
    assert!(entries("hook").any(|e| e.name == "GradNoise" && e.origin.krate() == "grad_noise"));
}
