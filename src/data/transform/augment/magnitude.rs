//! How strongly a picture is changed: MMPretrain's levels.

use std::borrow::Cow;

use rand::RngExt;
use rand_distr::StandardNormal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use crate::base::Rng;
use crate::config::{Diag, FromNode, Key, Kind, Node, read, receive};

/// A strength, or how it is drawn for each sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Magnitude {
    /// Always this.
    Fixed(f64),
    /// By a level.
    Drawn {
        /// The strengths of level 0 and of the highest one; the first may be the larger.
        range: [f64; 2],
        /// The level.
        level: f64,
        /// How the level is drawn around it.
        deviation: Deviation,
        /// The highest level.
        total: f64,
    },
}

/// How a level is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Deviation {
    /// Of a normal distribution with this standard deviation, and cut off at 0 and the highest level; with 0 it is always
    /// the level itself.
    Normal(f64),
    /// Evenly between 0 and the level.
    Even,
}

impl Default for Deviation {
    fn default() -> Self {
        Self::Normal(0.0)
    }
}

impl Magnitude {
    pub(super) fn draw(self, rng: &mut Rng) -> f64 {
        let Self::Drawn { range: [low, high], level, deviation, total } = self else {
            return if let Self::Fixed(magnitude) = self { magnitude } else { 0.0 };
        };
        let level = match deviation {
            Deviation::Even => level * rng.random::<f64>(),
            Deviation::Normal(std) if std > 0.0 => {
                (level + std * rng.sample::<f64, _>(StandardNormal)).clamp(0.0, total)
            }
            Deviation::Normal(_) => level,
        };
        level / total * (high - low) + low
    }
}

impl FromNode for Deviation {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        match &*node.kind {
            Kind::Str(word) if word == "inf" => (Self::Even, Vec::new()),
            Kind::Float(number) if *number == f64::INFINITY => (Self::Even, Vec::new()),
            _ => match read(node, key, &[]) {
                Ok(std) => (Self::Normal(std), Vec::new()),
                Err(diags) => (Self::default(), diags.0),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Deviation {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        receive(d)
    }
}

impl JsonSchema for Deviation {
    fn schema_name() -> Cow<'static, str> {
        "Deviation".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "number" }, { "type": "string", "enum": ["inf"] }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;

    /// MMPretrain's `random_magnitude`: level / total · (val2 - val1) + val1.
    #[test]
    fn levels_become_strengths() {
        let drawn = |range, level, deviation| Magnitude::Drawn { range, level, deviation, total: 10.0 };
        let draw = |magnitude: Magnitude, at| magnitude.draw(&mut keyed(0, "augment", at, 0));
        assert_eq!(draw(drawn([0.0, 30.0], 9.0, Deviation::Normal(0.0)), 0), 27.0);
        assert_eq!(draw(drawn([4.0, 0.0], 10.0, Deviation::Normal(0.0)), 0), 0.0);
        assert_eq!(draw(Magnitude::Fixed(0.3), 0), 0.3);
        let normal: Vec<f64> =
            (0..4000).map(|at| draw(drawn([0.0, 10.0], 9.0, Deviation::Normal(0.5)), at)).collect();
        assert!(normal.iter().all(|m| (0.0..=10.0).contains(m)));
        let mean = normal.iter().sum::<f64>() / 4000.0;
        // Five standard deviations; what the cut-off at 10 takes off is 0.004.
        assert!((mean - 9.0).abs() < 5.0 * 0.5 / 4000f64.sqrt() + 0.005, "{mean}");
        let even: Vec<f64> = (0..4000).map(|at| draw(drawn([0.1, 2.1], 10.0, Deviation::Even), at)).collect();
        assert!(even.iter().all(|m| (0.1..2.1).contains(m)));
        assert!((even.iter().sum::<f64>() / 4000.0 - 1.1).abs() < 5.0 * 2.0 / 12f64.sqrt() / 4000f64.sqrt());
    }
}
