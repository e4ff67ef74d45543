//! A batch that keeps its samples apart.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Batch, Collate, Column, Sample};
use crate::base::Result;
use crate::data::Value;
use crate::data::field::{Fields, Name, field_name};

use super::DefaultCollate;

/// Keeps the values of some fields as a list, whatever their shapes, and stacks the others: for models that look at
/// their samples one by one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ListCollate {
    /// The fields to keep as lists; all of them if none is given.
    pub fields: Vec<String>,
}

crate::register! {
    /// Keeps the values of `fields` (all, if none is given) as lists of whatever shapes; stacks the others.
    dyn Collate, "list_collate" => ListCollate
}

impl ListCollate {
    fn keeps(&self, name: &str) -> bool {
        self.fields.is_empty() || self.fields.iter().any(|own| field_name(own) == name)
    }
}

impl Collate for ListCollate {
    fn collate(&self, mut samples: Vec<Sample>) -> Result<Batch> {
        let names: Vec<Name> =
            samples.first().into_iter().flat_map(|s| s.fields.names().map(|n| n.to_owned().into())).collect();
        let mut lists: Vec<(Name, Vec<Value>)> = Vec::new();
        for name in names.iter().filter(|name| self.keeps(name)) {
            let mut list = Vec::with_capacity(samples.len());
            for sample in &mut samples {
                list.push(sample.fields.take(name).ok_or_else(|| sample.fields.missing(name))?);
            }
            lists.push((name.clone(), list));
        }
        let mut stacked = DefaultCollate {}.collate(samples)?;
        let mut lists: Fields<Column> =
            lists.into_iter().map(|(name, list)| (name, Column::List(list))).collect();
        let ordered = names.into_iter().filter_map(|name| {
            let column = lists.take(&name).or_else(|| stacked.fields.take(&name))?;
            Some((name, column))
        });
        Ok(Batch { fields: ordered.collect(), ..stacked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array1;

    #[test]
    fn values_of_any_shape_stay_apart_and_in_their_place() {
        let sample = |id: u64, n| Sample { id, ..Sample::new(Array1::from_elem(n, n as f32), id as i64) };
        let collate = ListCollate { fields: vec!["inputs".into()] };
        let batch = collate.collate(vec![sample(0, 2), sample(1, 5)]).unwrap();
        assert_eq!(batch.fields.names().collect::<Vec<_>>(), ["inputs", "target"]);
        assert_eq!(batch.labels().unwrap(), [0, 1]);
        let Some(Column::List(values)) = batch.get("inputs") else { panic!("a list") };
        assert_eq!(values.iter().map(|v| v.shape().to_vec()).collect::<Vec<_>>(), [[2], [5]]);
    }
}
