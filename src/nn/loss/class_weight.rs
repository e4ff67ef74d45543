//! What each class counts for: numbers, names, or as rare as it is.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use crate::base::suggest::nearest;
use crate::base::{Error, Result};
use crate::config::{Diag, FromNode, Key, Kind, Node, read, receive};
use crate::data::{ClassCounts, TARGET};
use crate::registry::BuildCx;

/// What each class counts for in a loss.
#[derive(Debug, Clone, PartialEq)]
pub enum ClassWeight {
    /// A number a class, in the order of their numbers.
    Given(Vec<f64>),
    /// Numbers by the names of classes; the others count for 1.
    Named(Vec<(String, f64)>),
    /// n / (K n_k) for n_k of n training samples in class k of K, as scikit-learn's `balanced`: each class has the same
    /// part in the loss, and the mean weight of a sample is 1.
    Balanced,
}

impl From<Vec<f64>> for ClassWeight {
    fn from(weights: Vec<f64>) -> Self {
        Self::Given(weights)
    }
}

/// The classes of the training data, for the losses that are built; `None` where the data are not on this machine.
pub(crate) struct TrainedClasses(pub Option<Vec<ClassCounts>>);

/// The field of the data that the loss which is built next compares with.
pub(crate) struct LossTarget(pub String);

impl ClassWeight {
    /// The number of each class, where it is known.
    ///
    /// # Errors
    /// In a program, which knows its classes itself.
    pub(super) fn numbers(&self) -> Result<&Vec<f64>> {
        match self {
            Self::Given(weights) => Ok(weights),
            Self::Named(_) | Self::Balanced => Err(Error::invalid(
                "weights of classes by name, or `balanced`, are for configs, which know the training data: give \
                 `ClassWeight::Given` with a number for each class",
            )),
        }
    }

    /// The same as numbers, which the training data tell; `None` where those are not on this machine.
    ///
    /// # Errors
    /// Under the key of the config: a class that there is not, data that do not tell, weights that are all 0.
    pub(super) fn resolved(given: Option<Self>, key: &str, cx: &BuildCx) -> Result<Option<Self>> {
        let weights = match given {
            None => return Ok(None),
            Some(Self::Given(weights)) => weights,
            Some(other) => {
                let field = cx.get::<LossTarget>().map_or(TARGET, |LossTarget(field)| field);
                let classes = match cx.get::<TrainedClasses>() {
                    None => Err(Error::config(format!(
                        "`{key}`: the classes are those of `train_dataloader`, which is not there: give a number for each"
                    ))),
                    Some(TrainedClasses(None)) => return Ok(None),
                    Some(TrainedClasses(Some(all))) => {
                        all.iter().find(|classes| classes.field == field).ok_or_else(|| {
                            Error::config(format!(
                                "`{key}`: the training data do not tell the classes in `{field}`: give a number for each"
                            ))
                        })
                    }
                }?;
                match other {
                    Self::Named(named) => by_name(&named, classes, key)?,
                    Self::Given(_) | Self::Balanced => balanced(classes, key)?,
                }
            }
        };
        match weights.iter().all(|weight| *weight == 0.0) {
            true => Err(Error::config(format!(
                "`{key}` lets no class count, so that nothing would be learnt: give one of them more than 0"
            ))),
            false => Ok(Some(Self::Given(weights))),
        }
    }
}

fn by_name(named: &[(String, f64)], classes: &ClassCounts, key: &str) -> Result<Vec<f64>> {
    let mut weights = vec![1.0; classes.names.len()];
    for (name, weight) in named {
        let Some(at) = classes.names.iter().position(|own| own == name) else {
            let hint = nearest(name, classes.names.iter().map(String::as_str));
            let hint = hint.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
            return Err(Error::config(format!(
                "`{key}` names the class `{name}`, but the classes in `{}` of the training data are {classes}{hint}",
                classes.field
            )));
        };
        weights[at] = *weight;
    }
    Ok(weights)
}

/// Of a class without a sample nothing is known: it counts for 1, and is none of the K.
fn balanced(classes: &ClassCounts, key: &str) -> Result<Vec<f64>> {
    let counts = classes.counts.as_ref().ok_or_else(|| {
        Error::config(format!(
            "`{key}: balanced` counts the classes before a sample is read, which the training data do not tell: give a \
             number for each"
        ))
    })?;
    let (n, k) =
        (counts.iter().sum::<usize>() as f64, counts.iter().filter(|count| **count > 0).count() as f64);
    Ok(counts.iter().map(|&count| if count > 0 { n / (k * count as f64) } else { 1.0 }).collect())
}

impl FromNode for ClassWeight {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        let or = |read: std::result::Result<Self, crate::config::Diags>| match read {
            Ok(weights) => (weights, Vec::new()),
            Err(diags) => (Self::Balanced, diags.0),
        };
        match &*node.kind {
            Kind::Str(word) if &**word == "balanced" => (Self::Balanced, Vec::new()),
            Kind::Str(word) => {
                let text =
                    format!("weights of classes are numbers, numbers by name, or balanced, not {word:?}");
                (Self::Balanced, vec![Diag::error(text).on(node)])
            }
            Kind::Map(entries) if entries.is_empty() => {
                let text = "no class is named: give numbers by the names of classes, or leave it out";
                (Self::Balanced, vec![Diag::error(text).on(node)])
            }
            Kind::Seq(items) if items.is_empty() => {
                let text = "no class has a number: give one for each class, or leave it out";
                (Self::Balanced, vec![Diag::error(text).on(node)])
            }
            Kind::Map(entries) => or(entries
                .iter()
                .map(|(name, weight)| Ok((name.text.clone(), read::<f64>(weight, Some(name), &[])?)))
                .collect::<std::result::Result<_, _>>()
                .map(Self::Named)),
            _ => or(read(node, key, &[]).map(Self::Given)),
        }
    }
}

/// Weights of labels that do not exclude each other: numbers, one a label.
pub(super) fn of_labels<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Option<Vec<f64>>, D::Error> {
    receive::<LabelNumbers, D>(d).map(|LabelNumbers(weights)| weights)
}

struct LabelNumbers(Option<Vec<f64>>);

impl FromNode for LabelNumbers {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        let diags = match &*node.kind {
            Kind::Str(_) | Kind::Map(_) => {
                let text = "weights of labels are a list of numbers, one a label: a label is given or not beside all \
                            others, so that `pos_weight` balances it, the number of samples without it by that of those \
                            with it";
                vec![Diag::error(text).on(node)]
            }
            _ => match read(node, key, &[]) {
                Ok(weights) => return (Self(weights), Vec::new()),
                Err(diags) => diags.0,
            },
        };
        (Self(None), diags)
    }
}

impl<'de> Deserialize<'de> for ClassWeight {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        receive(d)
    }
}

impl JsonSchema for ClassWeight {
    fn schema_name() -> Cow<'static, str> {
        "ClassWeight".into()
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
