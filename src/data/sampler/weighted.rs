//! Samples drawn by weights.

use std::borrow::Cow;
use std::sync::Arc;

use rand::RngExt;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use super::Sampler;
use crate::base::{Error, Result, keyed, memory};
use crate::config::{Diag, FromNode, Key, Kind, Node, read, receive};
use crate::data::Dataset;
use crate::data::class_counts::categories;
use crate::registry::BuildCx;

/// What each sample counts for.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleWeights {
    /// A number a sample.
    Each(Vec<f64>),
    /// Numbers by the names of classes, or their numbers; the others count for 1.
    Classes(Vec<(String, f64)>),
    /// 1 / n for a sample of a class of n: every class has the same part.
    Balanced,
}

crate::register! {
    /// Samples drawn by weights: a number each, by class, or balanced, so that every class has the same part.
    ///
    /// ```yaml
    /// {type: WeightedRandomSampler, weights: balanced}
    /// ```
    dyn Sampler, "WeightedRandomSampler" => fn WeightedRandomSampler::from_config
}

/// Samples drawn by weights, PyTorch's of this name.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, JsonSchema)]
pub struct WeightedRandomSampler {
    /// What each sample counts for: a list of a number each, numbers by the names of classes (1 for those that are not
    /// named), or balanced. A sample of several labels counts as the one with the largest number.
    pub weights: SampleWeights,
    /// How many samples a pass has; as many as the data set if not given.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub num_samples: Option<usize>,
    /// Whether a sample may come several times in a pass.
    #[serde(default = "crate::config::yes")]
    pub replacement: bool,
    /// Seed of the draws; the run's seed if it is not given.
    #[serde(default)]
    pub seed: Option<u64>,
}

impl WeightedRandomSampler {
    /// Draws by these weights, with replacement.
    pub fn new(weights: SampleWeights) -> Self {
        Self { weights, num_samples: None, replacement: true, seed: None }
    }

    fn from_config(config: Self, _: &mut BuildCx) -> Result<Self> {
        let numbers: Vec<f64> = match &config.weights {
            SampleWeights::Each(each) => each.clone(),
            SampleWeights::Classes(named) => named.iter().map(|(_, weight)| *weight).collect(),
            SampleWeights::Balanced => Vec::new(),
        };
        match numbers.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
            Some(weight) => Err(Error::config(format!("`weights` are finite and at least 0, got {weight}"))),
            None => Ok(config),
        }
    }

    /// A number for each sample.
    fn numbers(&self, data: &dyn Dataset) -> Result<Vec<f64>> {
        if let SampleWeights::Each(each) = &self.weights {
            return match each.len() == data.len() {
                true => Ok(each.clone()),
                false => Err(Error::config(format!(
                    "`weights` are {}, and the data set has {} samples: numbers of classes go by their names, {{cat: 2.0}}",
                    each.len(),
                    data.len()
                ))),
            };
        }
        memory::lists("the classes of all samples", data.len(), size_of::<Vec<usize>>())?;
        let all: Vec<Vec<usize>> =
            (0..data.len()).map(|index| categories(data, index)).collect::<Result<_>>()?;
        let of_classes = self.of_classes(&all, data)?;
        let largest = |classes: &Vec<usize>| classes.iter().map(|class| of_classes[*class]).reduce(f64::max);
        // Without a class it counts as one that is not named.
        let without = if self.weights == SampleWeights::Balanced { 0.0 } else { 1.0 };
        Ok(all.iter().map(|classes| largest(classes).unwrap_or(without)).collect())
    }

    fn of_classes(&self, all: &[Vec<usize>], data: &dyn Dataset) -> Result<Vec<f64>> {
        let names = data.classes().unwrap_or_default();
        let mut counts = vec![0usize; names.len()];
        for class in all.iter().flatten() {
            counts.resize(counts.len().max(class + 1), 0);
            counts[*class] += 1;
        }
        let SampleWeights::Classes(named) = &self.weights else {
            return Ok(counts.iter().map(|count| 1.0 / (*count).max(1) as f64).collect());
        };
        let mut weights = vec![1.0; counts.len()];
        for (name, weight) in named {
            let number = || name.parse().ok().filter(|_| names.is_empty());
            let at = names.iter().position(|own| own == name).or_else(number);
            let known = || match names.is_empty() {
                true => format!("are numbered 0 to {}", counts.len().saturating_sub(1)),
                false => format!("are {}", crate::data::classes::shown(names)),
            };
            let slot = at.and_then(|at: usize| weights.get_mut(at));
            *slot.ok_or_else(|| {
                Error::config(format!("`weights` names the class `{name}`, but the classes {}", known()))
            })? = *weight;
        }
        Ok(weights)
    }
}

impl Sampler for WeightedRandomSampler {
    /// Without data all samples count alike, but for a list. A loader draws from what [`Sampler::for_data`] gives.
    fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize> {
        let weights = match &self.weights {
            SampleWeights::Each(each) => {
                each.iter().copied().chain(std::iter::repeat(0.0)).take(len).collect()
            }
            _ => vec![1.0; len],
        };
        Drawn { weights, of: self.clone() }.draw(len, seed, pass)
    }

    fn for_data(&self, data: &dyn Dataset, _: usize) -> Result<Option<Arc<dyn Sampler>>> {
        let weights = self.numbers(data)?;
        let there = weights.iter().filter(|weight| **weight > 0.0).count();
        let wanted = self.pass_len(data.len());
        if !weights.iter().sum::<f64>().is_finite() {
            return Err(Error::config("`weights` are too large to be added up"));
        }
        if there == 0 || (!self.replacement && wanted > there) {
            return Err(Error::config(format!(
                "`weights` of {there} samples are more than 0, and a pass draws {wanted}{}: {}",
                if self.replacement { "" } else { ", none of them twice" },
                if there == 0 { "give one a weight" } else { "set num_samples, or replacement: true" }
            )));
        }
        Ok(Some(Arc::new(Drawn { weights, of: self.clone() })))
    }

    fn pass_len(&self, len: usize) -> usize {
        self.num_samples.unwrap_or(len)
    }
}

/// The same with a number for each sample.
struct Drawn {
    weights: Vec<f64>,
    of: WeightedRandomSampler,
}

impl Sampler for Drawn {
    fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize> {
        let n = self.of.pass_len(len);
        let mut rng = keyed(self.of.seed.unwrap_or(seed), "weighted", pass, 0);
        // A loader may use the first samples only.
        let weights = &self.weights[..len.min(self.weights.len())];
        if self.of.replacement {
            let mut sum = 0.0;
            let ends: Vec<f64> = weights
                .iter()
                .map(|weight| {
                    sum += weight;
                    sum
                })
                .collect();
            let Some(last) = weights.iter().rposition(|weight| *weight > 0.0) else { return Vec::new() };
            let mut one = || {
                let at = rng.random::<f64>() * sum;
                ends.partition_point(|end| *end <= at).min(last)
            };
            return (0..n).map(|_| one()).collect();
        }
        // The n that come first of exponential times with these rates (Efraimidis and Spirakis 2006).
        let mut times: Vec<(f64, usize)> = Vec::with_capacity(weights.len());
        for (index, weight) in weights.iter().enumerate() {
            let time = -(1.0 - rng.random::<f64>()).ln() / weight;
            if *weight > 0.0 {
                times.push((time, index));
            }
        }
        times.sort_by(|(a, i), (b, j)| a.total_cmp(b).then(i.cmp(j)));
        times.into_iter().take(n).map(|(_, index)| index).collect()
    }

    fn pass_len(&self, len: usize) -> usize {
        self.of.pass_len(len)
    }
}

impl FromNode for SampleWeights {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        let read = match &*node.kind {
            Kind::Str(word) if &**word == "balanced" => return (Self::Balanced, Vec::new()),
            Kind::Str(word) => {
                let text = format!(
                    "weights are a number for each sample, numbers by class, or balanced, not {word:?}"
                );
                return (Self::Balanced, vec![Diag::error(text).on(node)]);
            }
            Kind::Map(entries) => entries
                .iter()
                .map(|(name, weight)| Ok((name.text.clone(), read::<f64>(weight, Some(name), &[])?)))
                .collect::<std::result::Result<_, crate::config::Diags>>()
                .map(Self::Classes),
            _ => read(node, key, &[]).map(Self::Each),
        };
        read.map_or_else(|diags| (Self::Balanced, diags.0), |weights| (weights, Vec::new()))
    }
}

impl<'de> Deserialize<'de> for SampleWeights {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        receive(d)
    }
}

impl JsonSchema for SampleWeights {
    fn schema_name() -> Cow<'static, str> {
        "SampleWeights".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let weight = json_schema!({ "type": "number", "minimum": 0.0 });
        json_schema!({ "anyOf": [
            { "type": "array", "items": weight },
            { "type": "object", "additionalProperties": weight },
            { "type": "string", "enum": ["balanced"] }
        ] })
    }
}
