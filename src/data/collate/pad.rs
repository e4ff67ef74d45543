//! Sequences of different lengths in one batch.

use ndarray::{ArrayD, Axis, Slice};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Batch, Collate, DefaultCollate, Sample};
use crate::base::{Error, Result};
use crate::data::Value;
use crate::data::field::{INPUTS, field_name};

/// Pads the first axis of sequences to the longest of the batch, and gives the lengths as a field of their own.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PadCollate {
    /// The fields to pad.
    pub fields: Vec<String>,
    /// What is put behind a sequence that is shorter; a whole number where the field holds integers.
    #[schemars(extend("x-unbounded" = true))]
    pub pad_value: f64,
    /// Pads to a multiple of this length.
    #[schemars(range(min = 1, max = 16777216))]
    pub multiple_of: usize,
    /// Whether `<field>_lengths` tells how long each sequence was.
    pub lengths: bool,
}

impl Default for PadCollate {
    fn default() -> Self {
        Self { fields: vec![INPUTS.to_owned()], pad_value: 0.0, multiple_of: 1, lengths: true }
    }
}

crate::register! {
    /// Pads sequences to the longest of the batch and gives their lengths as `<field>_lengths`; stacks the other fields.
    dyn Collate, "pad_collate" => PadCollate
}

impl Collate for PadCollate {
    fn collate(&self, mut samples: Vec<Sample>) -> Result<Batch> {
        for name in &self.fields {
            let name = field_name(name);
            let lengths = samples.iter().map(|sample| length(sample, name)).collect::<Result<Vec<_>>>()?;
            let longest = lengths.iter().copied().max().unwrap_or(0);
            let to = longest.next_multiple_of(self.multiple_of.max(1));
            for (sample, length) in samples.iter_mut().zip(lengths) {
                self.pad(sample.fields.find_mut(name)?, to);
                if self.lengths {
                    sample.fields.set(format!("{name}_lengths"), length as i64);
                }
            }
        }
        DefaultCollate {}.collate(samples)
    }

    fn adds(&self, _: &[&str]) -> Vec<String> {
        let names = self.fields.iter().filter(|_| self.lengths);
        names.map(|name| format!("{}_lengths", field_name(name))).collect()
    }
}

impl PadCollate {
    fn pad(&self, value: &mut Value, to: usize) {
        match value {
            Value::Float(values) => *values = padded(values, to, self.pad_value as f32),
            Value::Int(values) => *values = padded(values, to, self.pad_value as i64),
            Value::Picture(_) | Value::Text(_) => {}
        }
    }
}

fn length(sample: &Sample, name: &str) -> Result<usize> {
    let value = sample.fields.find(name)?;
    value.shape().first().copied().ok_or_else(|| {
        Error::invalid(format!(
            "`{name}` of sample {} is no sequence: `pad_collate` pads a first axis",
            sample.id
        ))
    })
}

fn padded<T: Copy>(values: &ArrayD<T>, to: usize, with: T) -> ArrayD<T> {
    let mut shape = values.shape().to_vec();
    let Some(length) = shape.first_mut() else { return values.clone() };
    let own = std::mem::replace(length, to);
    let mut out = ArrayD::from_elem(shape, with);
    out.slice_axis_mut(Axis(0), Slice::from(..own)).assign(values);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, arr2};

    fn sample(id: u64, n: usize) -> Sample {
        let tokens: Array1<i64> = (1..=n as i64).collect();
        Sample { id, ..Sample::new(tokens, id as i64) }
    }

    #[test]
    fn the_longest_gives_the_length_and_the_lengths_are_told() {
        let collate = PadCollate { pad_value: -1.0, ..PadCollate::default() };
        let batch = collate.collate(vec![sample(0, 2), sample(1, 3), sample(2, 0)]).unwrap();
        let expected = arr2(&[[1, 2, -1], [1, 2, 3], [-1, -1, -1]]).into_dyn();
        assert_eq!(batch.int("inputs").unwrap(), expected);
        assert_eq!(batch.int("inputs_lengths").unwrap().as_slice().unwrap(), [2, 3, 0]);
        let wide = PadCollate { multiple_of: 4, lengths: false, ..PadCollate::default() };
        let batch = wide.collate(vec![sample(0, 5)]).unwrap();
        assert_eq!((batch.int("inputs").unwrap().shape(), batch.fields.len()), (&[1, 8][..], 2));
        let text = wide.collate(vec![Sample::new(1.0f32, 0)]).unwrap_err().to_string();
        assert!(text.starts_with("`inputs` of sample 0 is no sequence"), "{text}");
    }
}
