//! A size along both axes of an image.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::OneOrMany;

/// A size along both axes of an image: `3` or `[3, 5]` (vertical, horizontal).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "OneOrMany<usize>")]
pub struct Pair(pub [usize; 2]);

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
