//! Kinds and entries of another crate, as a plugin declares them.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use schemars::JsonSchema;
use serde::Deserialize;
use shanty::base::Result;
use shanty::config::{self, Dict, OneOrMany};
use shanty::registry::{self, BuildCx, Spec};

trait Part: std::fmt::Debug {
    fn weight(&self) -> f64;
}

/// Keys of every part.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct PartOptions {
    /// A name for messages.
    key: Option<String>,
    /// Lower first.
    #[schemars(range(min = 0, max = 100))]
    priority: Option<u8>,
}

shanty::registry!(dyn Part, "part", PartOptions);

/// How a bolt turns.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Turn {
    LeftHanded,
    RightHanded,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
struct Bolt {
    /// Length in millimetres.
    #[schemars(range(min = 1))]
    length: u32,
    /// Direction.
    turn: Turn,
    /// Slack.
    #[schemars(range(min = 0.0, max = 1.0))]
    slack: f64,
}

impl Default for Bolt {
    fn default() -> Self {
        Self { length: 10, turn: Turn::RightHanded, slack: 0.0 }
    }
}

impl Part for Bolt {
    fn weight(&self) -> f64 {
        f64::from(self.length)
    }
}

shanty::register! {
    /// A bolt.
    ///
    /// Longer bolts weigh more.
    dyn Part, "Bolt" => Bolt
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct FrameConfig {
    /// What it is made of.
    #[schemars(length(min = 1))]
    parts: Vec<Spec<dyn Part>>,
    /// How many of it.
    count: u32,
    /// By name.
    #[serde(default)]
    named: Dict<Option<Spec<dyn Part>>>,
    /// One or several.
    #[serde(default)]
    extra: OneOrMany<Spec<dyn Part>>,
}

#[derive(Debug)]
struct Frame(Vec<Box<dyn Part>>);

impl Part for Frame {
    fn weight(&self) -> f64 {
        self.0.iter().map(|p| p.weight()).sum()
    }
}

shanty::register! {
    /// Several parts.
    ///
    /// ```yaml
    /// type: Frame
    /// parts: [{type: Bolt, length: 3}]
    /// count: 2
    /// ```
    dyn Part, "Frame" => fn Frame::from_config
}

impl Frame {
    fn from_config(p: FrameConfig, cx: &mut BuildCx) -> Result<Self> {
        if p.count == 13 {
            return Err(shanty::base::Error::invalid("not thirteen"));
        }
        let named = p.named.iter().filter_map(|(_, part)| part.as_ref());
        let parts =
            p.parts.iter().chain(&p.extra.0).chain(named).map(|s| s.build(cx)).collect::<Result<Vec<_>>>()?;
        Ok(Frame(parts))
    }
}

fn read(text: &str) -> std::result::Result<Spec<dyn Part>, config::Diags> {
    config::parse("c.yaml", text).unwrap().read()
}

fn complaints(text: &str) -> Vec<String> {
    let diags = read(text).unwrap_err();
    diags.0.iter().map(|d| format!("{}: {}", d.at.as_ref().unwrap(), d.message)).collect()
}

#[test]
fn builds_nested_specs() {
    let spec = read(
        "type: Frame\ncount: 1\npriority: 3\nparts: [{type: Bolt}, {type: mmengine.Bolt, length: 5, turn: left_handed}]\nextra: {type: Bolt, length: 1, key: k}\nnamed: {a: null, b: {type: registry.Bolt}}\n",
    )
    .unwrap();
    assert_eq!(spec.name(), "Frame");
    assert_eq!(spec.extra.priority, Some(3));
    assert_eq!(spec.build(&mut BuildCx::new(0)).unwrap().weight(), 26.0);
}

#[test]
fn reports_every_mistake_at_once() {
    let found = complaints(
        "type: Frame
parts:
  - {type: Bold}
  - {type: Bolt, lenght: 3, slack: 2}
  - {type: Bolt, turn: left, length: 0, priority: 101}
  - {length: 3}
count: many
named:
  x: {type: Bolt, length: \"5\"}
extra: [{type: other.Bolt}, {type: 5}]
",
    );
    assert_eq!(
        found,
        [
            "c.yaml:3:12: unknown part `Bold`",
            "c.yaml:4:18: unknown key `lenght` of `Bolt`",
            "c.yaml:4:36: `slack` must be at most 1, not 2",
            "c.yaml:5:24: unknown value `left` for `turn`: expected one of `left_handed`, `right_handed`",
            "c.yaml:5:38: `length` must be at least 1, not 0",
            "c.yaml:5:51: `priority` must be at most 100, not 101",
            "c.yaml:6:5: this part has no `type`",
            "c.yaml:7:8: `count` expects an integer, not the string \"many\"",
            "c.yaml:9:27: `length` expects an integer, not the string \"5\"",
            "c.yaml:10:16: the crate `other` has no part `Bolt`",
            "c.yaml:10:36: `type` is the name of a part, not an integer",
        ]
    );
}

#[test]
fn empty_lists_are_refused_by_length() {
    assert_eq!(
        complaints("{type: Frame, parts: [], count: 1}"),
        ["c.yaml:1:22: `parts` must be not empty, it has 0"]
    );
}

#[test]
fn builder_errors_get_the_place_of_the_spec() {
    let error = read("type: Frame\nparts: [{type: Bolt}]\ncount: 13\n")
        .unwrap()
        .build(&mut BuildCx::new(0))
        .unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    assert!(text.contains("cannot build `Frame`: not thirteen"), "{text}");
    assert!(text.contains("c.yaml:1:7"), "{text}");
}

#[test]
fn unknown_types_name_the_known_ones_and_the_linked_crates() {
    let text = read("type: Bult").unwrap_err().to_string();
    assert!(text.contains("known types of part: Bolt, Frame"), "{text}");
    assert!(text.contains("linked are: registry"), "{text}");
    assert!(text.contains("use that_crate as _;"), "{text}");
    assert!(text.contains("did you mean this?"), "{text}");
}

#[test]
fn the_table_is_sorted_and_documented() {
    let names: Vec<_> = registry::entries("part").map(|e| e.name).collect();
    assert_eq!(names, ["Bolt", "Frame"]);
    let bolt = registry::entries("part").next().unwrap();
    assert_eq!(bolt.doc().collect::<Vec<_>>(), ["A bolt.", "", "Longer bolts weigh more."]);
    assert_eq!(bolt.origin.file, "tests/registry.rs");
    assert!(registry::kinds().any(|k| k.name == "part"));
    registry::check().unwrap();
}

#[test]
fn the_example_of_the_doc_comment_is_the_example() {
    let frame = registry::find("Frame").next().unwrap().1;
    assert_eq!(registry::example(frame), "type: Frame\nparts: [{type: Bolt, length: 3}]\ncount: 2");
    let text = registry::describe("part", frame);
    assert!(text.contains("\n  Several parts.\n\nparameters\n") && !text.contains("```"), "{text}");
    assert!(text.contains("\nexample\n  type: Frame\n  parts: "), "{text}");
    assert!(
        text.contains("  named: a mapping of names to: a part `{type: …}` or null; {} if absent\n"),
        "{text}"
    );
    let bolt = registry::find("Bolt").next().unwrap().1;
    assert_eq!(registry::example(bolt), "{type: Bolt, length: 10, slack: 0.0}");
}

#[test]
fn a_spec_cannot_be_read_by_another_format() {
    let error = serde_json::from_str::<Spec<dyn Part>>("{\"type\": \"Bolt\"}").unwrap_err();
    assert!(error.to_string().contains("shanty config"), "{error}");
}

#[test]
fn build_cx_keeps_values_by_type() {
    let mut cx = BuildCx::new(7);
    cx.provide(3u32);
    *cx.get_mut::<u32>().unwrap() += 1;
    assert_eq!((cx.seed, cx.get::<u32>(), cx.get::<String>()), (7, Some(&4), None));
}
