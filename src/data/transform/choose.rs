//! Transforms that are applied or not.

use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::config::OneOrMany;
use crate::data::{FieldSpec, Fields, Sample, Transform};
use crate::registry::{BuildCx, Spec};

use super::Compose;

/// Transforms that are applied with a probability, all or none.
pub struct RandomApply {
    transforms: Compose,
    prob: f64,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct RandomApplyConfig {
    /// The transforms, in order.
    transforms: OneOrMany<Spec<dyn Transform>>,
    /// Probability that they are applied.
    #[serde(default = "half")]
    #[schemars(range(min = 0.0, max = 1.0))]
    prob: f64,
}

fn half() -> f64 {
    0.5
}

crate::register! {
    /// Transforms that are applied with probability `prob`, all or none.
    dyn Transform, "RandomApply" => fn RandomApply::from_config
}

impl RandomApply {
    /// These transforms with this probability.
    pub fn new(transforms: Vec<Box<dyn Transform>>, prob: f64) -> Self {
        Self { transforms: Compose::new(transforms), prob }
    }

    fn from_config(p: RandomApplyConfig, cx: &mut BuildCx) -> Result<Self> {
        Ok(Self { transforms: Compose::build(&p.transforms, cx)?, prob: p.prob })
    }
}

impl Transform for RandomApply {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        if rng.random::<f64>() < self.prob { self.transforms.apply(sample, rng) } else { Ok(()) }
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        either(std::slice::from_ref(&self.transforms), self.prob < 1.0, fields)
    }
}

/// What samples may be that went through one of `ways`, or through `none`: a length that is not the same everywhere is
/// not known.
fn either(ways: &[Compose], none: bool, fields: &mut Fields<FieldSpec>) -> Result<()> {
    let before = fields.clone();
    let mut seen: Option<Fields<FieldSpec>> = none.then(|| before.clone());
    for way in ways {
        let mut after = before.clone();
        way.declare(&mut after)?;
        if let Some(seen) = &seen {
            for (name, spec) in after.iter_mut() {
                let other = seen.get(name).and_then(|other| other.shape.as_deref());
                match (spec.shape.as_deref_mut(), other) {
                    (Some(own), Some(other)) if own.len() == other.len() => {
                        own.iter_mut().zip(other).filter(|(a, b)| **a != **b).for_each(|(a, _)| *a = None);
                    }
                    _ => spec.shape = None,
                }
            }
        }
        seen = Some(after);
    }
    *fields = seen.unwrap_or(before);
    Ok(())
}

/// One of several chains of transforms.
pub struct RandomChoice {
    ways: Vec<Compose>,
    prob: Vec<f64>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct RandomChoiceConfig {
    /// The chains to choose from: a list of lists of transforms.
    transforms: Vec<OneOrMany<Spec<dyn Transform>>>,
    /// The probability of each; all are equally likely if absent.
    #[serde(default)]
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    prob: Option<Vec<f64>>,
}

crate::register! {
    /// One of several chains of transforms, drawn for each sample.
    ///
    /// ```yaml
    /// {type: RandomChoice, transforms: [[{type: Invert}], [{type: Equalize}]], prob: [0.7, 0.3]}
    /// ```
    dyn Transform, "RandomChoice" => fn RandomChoice::from_config
}

impl RandomChoice {
    fn from_config(p: RandomChoiceConfig, cx: &mut BuildCx) -> Result<Self> {
        let ways = p.transforms.iter().map(|way| Compose::build(way, cx)).collect::<Result<Vec<_>>>()?;
        let prob = p.prob.unwrap_or_else(|| vec![1.0 / ways.len().max(1) as f64; ways.len()]);
        if ways.is_empty() {
            return Err(Error::config("`transforms` has no chain to choose from"));
        }
        if prob.len() != ways.len() || (prob.iter().sum::<f64>() - 1.0).abs() > 1e-6 {
            return Err(Error::config(format!(
                "`prob` is a probability for each of the {} chains of `transforms`, and they sum to 1, got {prob:?}",
                ways.len()
            )));
        }
        Ok(Self { ways, prob })
    }
}

impl Transform for RandomChoice {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        let mut left: f64 = rng.random();
        let chosen = self.prob.iter().position(|p| {
            left -= p;
            left < 0.0
        });
        // Probabilities that sum to 1 may do so not quite.
        let way = chosen.and_then(|at| self.ways.get(at)).or(self.ways.last());
        way.map_or(Ok(()), |way| way.apply(sample, rng))
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        either(&self.ways, false, fields)
    }
}
