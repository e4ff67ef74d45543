//! What holds for every tree: a dump reads back equal, every leaf knows where it came from, merging keeps histories.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use proptest::prelude::*;
use shanty::config::{self, Node, provenance};

/// Any JSON-like value; strings lean towards those that look like something else.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let tricky = prop::sample::select(vec![
        "no",
        "yes",
        "on",
        "null",
        "~",
        "",
        " ",
        "1e3",
        "007",
        "0x1F",
        "1_000",
        "12:30",
        "2024-01-01",
        ".inf",
        ".nan",
        "true",
        "- a",
        "a: b",
        "# c",
        "'",
        "\"",
        "\\",
        "\n",
        "a\nb\n",
        "\t",
        "{{x}}",
        "*a",
        "&a",
        "!t",
        "|",
        ">",
        "%",
        "@",
        "`",
        "[",
        "{",
        "<<",
        "é",
        "\u{feff}",
        "\u{85}",
        "=",
        "?",
        "-",
        "...",
        "---",
    ]);
    let text = prop_oneof![tricky.prop_map(str::to_owned), "[ -~]{0,12}", "\\PC{0,8}"];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_filter("JSON has finite numbers only", |v| v.is_finite()).prop_map(Into::into),
        text.clone().prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        let map = prop::collection::btree_map(text.clone(), inner.clone(), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Into::into),
            map.prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
        ]
    })
}

/// A mapping whose keys no loader takes for itself.
fn config() -> impl Strategy<Value = serde_json::Value> {
    prop::collection::btree_map("[a-d]{1,2}", small(), 0..5)
        .prop_map(|m| serde_json::Value::Object(m.into_iter().collect()))
}

fn small() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        (0..9i64).prop_map(Into::into),
        "[a-z]{0,3}".prop_map(Into::into)
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let map = prop::collection::btree_map("[a-d.]{1,2}", inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Into::into),
            map.prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
        ]
    })
}

fn json(node: &Node) -> serde_json::Value {
    serde_json::to_value(node).unwrap()
}

/// The reference's merge, written down once more: `None` where it refuses.
fn merged(base: &serde_json::Value, child: &serde_json::Value) -> Option<serde_json::Value> {
    let (Some(new), Some(old)) = (child.as_object(), base.as_object()) else {
        return (!child.is_object()).then(|| child.clone());
    };
    let mut out = old.clone();
    for (key, value) in new {
        let value = match old.get(key) {
            Some(known) => merged(known, value)?,
            None => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    Some(out.into())
}

fn leaves_have_provenance(root: &Node) {
    for (path, leaf) in root.leaves().into_iter().filter(|(path, _)| !path.is_empty()) {
        let steps = provenance(root, &path).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(steps.last().unwrap().value, leaf.summary(), "{path}");
        assert_eq!(root.at_path(&path), Some(leaf), "{path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_dump_reads_back_equal(value in value()) {
        let node = Node::of("value", &value).unwrap();
        prop_assert_eq!(json(&node), value.clone());
        let again = config::parse("dump.yaml", &node.to_yaml());
        // `{{x}}` in text is a reference of no kind, and stays.
        prop_assert_eq!(again.unwrap(), node.clone(), "{}", node.to_yaml());
        // JSON is read as it is.
        let text = serde_json::to_string_pretty(&value).unwrap();
        if !text.contains(['\u{feff}', '\u{85}']) {
            prop_assert_eq!(config::parse("c.json", &text).unwrap(), node);
        }
    }

    #[test]
    fn every_leaf_knows_its_place(value in value()) {
        leaves_have_provenance(&Node::of("value", &value).unwrap());
    }

    #[test]
    fn merging_is_the_references_and_keeps_histories(base in config(), child in config()) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("base.json"), base.to_string()).unwrap();
        let mut own = child.clone();
        own.as_object_mut().unwrap().insert("_base_".into(), "base.json".into());
        std::fs::write(dir.path().join("child.json"), own.to_string()).unwrap();
        match (config::load(&dir.path().join("child.json"), &[]), merged(&base, &child)) {
            (Ok(node), Some(expected)) => {
                prop_assert_eq!(json(&node), expected);
                leaves_have_provenance(&node);
                for (path, _) in node.leaves() {
                    if path.is_empty() { continue }
                    // What both files wrote at this path is in the chain, base first.
                    let steps = provenance(&node, &path).unwrap();
                    let files: Vec<_> = steps.iter().map(|s| s.def.source().name.ends_with("child.json")).collect();
                    prop_assert!(files.is_sorted(), "{}: {:?}", path, steps);
                    let written = |v: &serde_json::Value| Node::of("v", v).unwrap().at_path(&path).is_some();
                    prop_assert_eq!(files.contains(&false), written(&base), "{}: {:?}", path, steps);
                    prop_assert_eq!(files.contains(&true), written(&child), "{}: {:?}", path, steps);
                }
            }
            (Err(diags), None) => prop_assert!(diags.to_string().contains("is a mapping here")),
            (found, expected) => prop_assert!(false, "{:?} {:?}", found.map(|n| json(&n)), expected),
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}|[ -~\n]{0,80}|[\\[\\]{}:,&*!|>'\"%@`#?\\- \n\ta1]{0,60}") {
        match config::parse("c.yaml", &text) {
            Ok(node) => prop_assert_eq!(config::parse("again.yaml", &node.to_yaml()).unwrap(), node.clone(), "{}", node.to_yaml()),
            Err(diags) => prop_assert!(!diags.render(true).is_empty()),
        }
    }

    #[test]
    fn any_override_is_taken_or_refused(argument in "[a-c.~+=\"0-9(),\\[\\]{} :']{0,16}|\\PC{0,12}") {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        std::fs::write(&path, "a: {b: [1, 2], c: x}\nb: null\n").unwrap();
        match config::load(&path, &[argument]) {
            Ok(node) => leaves_have_provenance(&node),
            Err(diags) => prop_assert!(!diags.render(true).is_empty()),
        }
    }
}
