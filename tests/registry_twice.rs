//! Two entries of one name: the program is wrong, and every lookup says so.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use schemars::JsonSchema;
use serde::Deserialize;
use shanty::registry::{self, Spec};

trait Thing {}
shanty::registry!(dyn Thing, "thing");

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct One {}
impl Thing for One {}

shanty::register! { /// The first.
dyn Thing, "Twice" => One }
shanty::register! { /// The second.
dyn Thing, "Twice" => One }

#[test]
fn both_places_are_named() {
    let expected = "the thing `Twice` is registered twice: by registry_twice (tests/registry_twice.rs:16) and by \
                    registry_twice (tests/registry_twice.rs:18)";
    assert_eq!(registry::check().unwrap_err().to_string(), expected);
    let spec = shanty::config::parse("c.yaml", "type: Twice").unwrap().read::<Spec<dyn Thing>>();
    assert!(spec.unwrap_err().to_string().contains(expected));
}
