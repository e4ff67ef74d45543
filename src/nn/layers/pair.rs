//! A size along both axes of an image.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::config::OneOrMany;

/// A size along both axes of an image: `3` or `[3, 5]` (vertical, horizontal).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "OneOrMany<usize>")]
pub struct Pair(pub [usize; 2]);

/// No window, stride or padding of an image is larger; it keeps the arithmetic of sizes far from overflow.
const LARGEST: usize = 65_535;

fn between(least: usize, or_null: bool) -> Schema {
    let one = json_schema!({ "type": "integer", "minimum": least, "maximum": LARGEST });
    let null = or_null.then(|| json_schema!({ "type": "null" }));
    let two = json_schema!({ "type": "array", "items": one });
    let forms: Vec<Schema> = [Some(one), Some(two), null].into_iter().flatten().collect();
    json_schema!({ "anyOf": forms })
}

/// The schema of a [`Pair`] of sizes of at least 1.
pub fn positive(_: &mut SchemaGenerator) -> Schema {
    between(1, false)
}

/// The schema of a [`Pair`] that may be 0.
pub(super) fn non_negative(_: &mut SchemaGenerator) -> Schema {
    between(0, false)
}

/// The schema of a [`Pair`] of sizes of at least 1, or none.
pub(super) fn optional_positive(_: &mut SchemaGenerator) -> Schema {
    between(1, true)
}

impl From<usize> for Pair {
    fn from(both: usize) -> Self {
        Self([both, both])
    }
}

impl From<[usize; 2]> for Pair {
    fn from(pair: [usize; 2]) -> Self {
        Self(pair)
    }
}

impl TryFrom<OneOrMany<usize>> for Pair {
    type Error = String;

    fn try_from(sizes: OneOrMany<usize>) -> Result<Self, String> {
        match *sizes.0.as_slice() {
            [both] => Ok(Self([both, both])),
            [vertical, horizontal] => Ok(Self([vertical, horizontal])),
            _ => Err(format!("expected one size or two (vertical, horizontal), found {}", sizes.0.len())),
        }
    }
}
