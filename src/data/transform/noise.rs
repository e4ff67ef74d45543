//! Changes to sequences and to rows of a table.

use std::num::NonZeroUsize;

use ndarray::{ArrayD, Axis, Slice};
use rand::RngExt;
use rand_distr::StandardNormal;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::config::OneOrMany;
use crate::data::field::field_name;
use crate::data::{FieldKind, FieldSpec, Fields, INPUTS, Sample, Transform, Value};
use crate::registry::BuildCx;

fn inputs() -> String {
    INPUTS.to_owned()
}

fn zero() -> f32 {
    0.0
}

/// The floats of a field, to be changed.
fn floats<'a>(sample: &'a mut Sample, field: &str) -> Result<&'a mut ArrayD<f32>> {
    let name = field_name(field);
    match sample.fields.find_mut(name)? {
        Value::Float(values) => Ok(values),
        other => Err(no_floats(field, &other.kind().to_string())),
    }
}

fn no_floats(field: &str, what: &str) -> Error {
    Error::invalid(format!(
        "it changes numbers, and `{field}` is {what}: pictures are packed by `PackInputs` first"
    ))
}

/// Refuses a declaration in which the field holds no floats.
fn declared<'a>(fields: &'a mut Fields<FieldSpec>, field: &str) -> Result<&'a mut FieldSpec> {
    let spec = fields.find_mut(field_name(field))?;
    if spec.kind == FieldKind::Float { Ok(spec) } else { Err(no_floats(field, &spec.to_string())) }
}

/// Adds noise of a normal distribution to each number of a field.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct AddNoise {
    /// Standard deviation of the noise.
    #[schemars(range(min = 0.0))]
    pub std: f32,
    /// The field.
    #[serde(default = "inputs")]
    pub field: String,
}

crate::register! {
    /// Adds normal noise to the numbers of a field: of sequences, or of rows of a table.
    dyn Transform, "AddNoise" => AddNoise
}

impl Transform for AddNoise {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        let values = floats(sample, &self.field)?;
        values.iter_mut().for_each(|v| *v += self.std * rng.sample::<f32, _>(StandardNormal));
        Ok(())
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        declared(fields, &self.field).map(drop)
    }
}

/// Puts one value in place of a part of a field.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    /// What is masked.
    pub part: Masked,
    /// What is put there.
    pub value: f32,
    /// The field.
    pub field: String,
}

/// What is masked.
#[derive(Debug, Clone, PartialEq)]
pub enum Masked {
    /// So many stretches of successive steps, each of 0 to `max_length` of them.
    Time {
        /// The longest stretch.
        max_length: usize,
        /// How many.
        num_masks: usize,
    },
    /// Each feature, along the last axis, with this probability, at all steps.
    Features {
        /// The probability.
        prob: f64,
    },
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct TimeMaskConfig {
    /// The longest stretch; its length is drawn from 0 on, as torchaudio's TimeMasking does.
    max_length: NonZeroUsize,
    /// How many stretches.
    #[serde(default = "one")]
    num_masks: usize,
    /// What is put there.
    #[serde(default = "zero")]
    value: f32,
    /// The field: its steps are along the first axis.
    #[serde(default = "inputs")]
    field: String,
}

fn one() -> usize {
    1
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct FeatureMaskConfig {
    /// Probability of each feature.
    #[schemars(range(min = 0.0, max = 1.0))]
    prob: f64,
    /// What is put there.
    #[serde(default = "zero")]
    value: f32,
    /// The field: its features are along the last axis.
    #[serde(default = "inputs")]
    field: String,
}

crate::register! {
    /// Puts one value in place of stretches of a sequence.
    dyn Transform, "TimeMask" => fn Mask::of_time
}

crate::register! {
    /// Puts one value in place of features of a sequence or of a row of a table, each with probability `prob`.
    dyn Transform, "FeatureMask" => fn Mask::of_features
}

impl Mask {
    fn of_time(p: TimeMaskConfig, _: &mut BuildCx) -> Result<Self> {
        let part = Masked::Time { max_length: p.max_length.get(), num_masks: p.num_masks };
        Ok(Self { part, value: p.value, field: p.field })
    }

    fn of_features(p: FeatureMaskConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self { part: Masked::Features { prob: p.prob }, value: p.value, field: p.field })
    }
}

impl Transform for Mask {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        let values = floats(sample, &self.field)?;
        let Some(last) = values.ndim().checked_sub(1) else {
            return Err(Error::invalid(format!(
                "`{}` is one number, which has no parts to mask",
                self.field
            )));
        };
        match self.part {
            Masked::Time { max_length, num_masks } => {
                let steps = values.len_of(Axis(0));
                for _ in 0..num_masks {
                    // 64-bit draws, so that the place is the same on every machine.
                    let mut below = |n: usize| rng.random_range(0..=n as u64) as usize;
                    let length = below(max_length.min(steps));
                    let first = below(steps - length);
                    values.slice_axis_mut(Axis(0), Slice::from(first..first + length)).fill(self.value);
                }
            }
            Masked::Features { prob } => {
                for mut feature in values.axis_iter_mut(Axis(last)) {
                    if rng.random::<f64>() < prob {
                        feature.fill(self.value);
                    }
                }
            }
        }
        Ok(())
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        declared(fields, &self.field).map(drop)
    }
}

/// A part of a sequence at a random place, the same of each of several fields.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomWindow {
    /// How many steps it has.
    pub length: usize,
    /// The fields that have these steps along their first axis.
    pub fields: Vec<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct RandomWindowConfig {
    /// How many steps the window has.
    length: NonZeroUsize,
    /// The fields that have these steps along their first axis: `[inputs, target]` where each step has an answer.
    #[serde(default = "of_inputs")]
    fields: OneOrMany<String>,
}

fn of_inputs() -> OneOrMany<String> {
    OneOrMany(vec![inputs()])
}

crate::register! {
    /// A window of `length` steps of a sequence, at a random place.
    dyn Transform, "RandomWindow" => fn RandomWindow::from_config
}

impl RandomWindow {
    fn from_config(p: RandomWindowConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self { length: p.length.get(), fields: p.fields.0 })
    }
}

impl Transform for RandomWindow {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        let mut place: Option<(usize, usize)> = None;
        for field in &self.fields {
            let value = sample.fields.find_mut(field_name(field))?;
            let steps = match value {
                Value::Float(_) | Value::Int(_) => value.shape().first().copied(),
                _ => None,
            };
            let steps = steps.filter(|steps| *steps >= self.length).ok_or_else(|| {
                let shape = value.shape();
                Error::invalid(format!(
                    "`{field}` has the shape {shape:?}, and a window has {} steps",
                    self.length
                ))
            })?;
            // A 64-bit draw, so that the place is the same on every machine.
            let (first, of) = *place
                .get_or_insert_with(|| (rng.random_range(0..=(steps - self.length) as u64) as usize, steps));
            if of != steps {
                return Err(Error::invalid(format!(
                    "`{field}` has {steps} steps and `{}` has {of}: one window is cut out of all `fields`",
                    self.fields[0]
                )));
            }
            let window = Slice::from(first..first + self.length);
            match value {
                Value::Float(values) => *values = values.slice_axis(Axis(0), window).to_owned(),
                Value::Int(values) => *values = values.slice_axis(Axis(0), window).to_owned(),
                Value::Picture(_) | Value::Text(_) => {}
            }
        }
        Ok(())
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        for field in &self.fields {
            let spec = fields.find_mut(field_name(field))?;
            let text = spec.to_string();
            let whole = matches!(spec.kind, FieldKind::Float | FieldKind::Int);
            match spec.shape.as_deref_mut() {
                Some([steps, ..]) if whole && steps.is_none_or(|steps| steps >= self.length) => {
                    *steps = Some(self.length);
                }
                None if whole => {}
                _ => {
                    return Err(Error::invalid(format!(
                        "`{field}` is {text}, and a window has {} steps along the first axis",
                        self.length
                    )));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;
    use ndarray::{Array1, Array2, arr1};

    fn apply(transform: &dyn Transform, sample: &mut Sample, draw: u64) {
        transform.apply(sample, &mut keyed(0, "augment", draw, 0)).unwrap();
    }

    #[test]
    fn noise_has_its_deviation() {
        let mut sample = Sample::new(Array1::from_elem(10_000, 3.0f32), 0);
        apply(&AddNoise { std: 0.5, field: "inputs".into() }, &mut sample, 0);
        let values = sample.float("inputs").unwrap();
        let mean = values.sum() / 10_000.0;
        let std = (values.mapv(|v| (v - 3.0) * (v - 3.0)).sum() / 10_000.0).sqrt();
        // Five standard errors.
        assert!((mean - 3.0).abs() < 0.025 && (std - 0.5).abs() < 0.018, "{mean} {std}");
    }

    #[test]
    fn stretches_and_features_are_masked() {
        let (mut masked, mut longest) = (0, 0);
        let time =
            Mask { part: Masked::Time { max_length: 4, num_masks: 1 }, value: -1.0, field: "inputs".into() };
        for draw in 0..400 {
            let mut sample = Sample::new(Array2::<f32>::zeros((10, 2)), 0);
            apply(&time, &mut sample, draw);
            let hit: Vec<usize> =
                (0..10).filter(|at| sample.float("inputs").unwrap()[[*at, 0]] == -1.0).collect();
            assert!(hit.windows(2).all(|pair| pair[1] == pair[0] + 1), "{hit:?}");
            (masked, longest) = (masked + hit.len(), longest.max(hit.len()));
        }
        // Lengths 0 to 4, two on average; five standard deviations of √2 · 20.
        assert!(longest == 4 && (masked as f64 - 800.0).abs() < 142.0, "{masked}");
        let features = Mask { part: Masked::Features { prob: 0.3 }, value: 9.0, field: "img".into() };
        let mut sample = Sample::new(Array2::<f32>::zeros((3, 1000)), 0);
        apply(&features, &mut sample, 0);
        let row = |at: usize| sample.float("inputs").unwrap().index_axis(Axis(0), at).to_owned();
        assert_eq!(row(0), row(2));
        let count = row(0).iter().filter(|v| **v == 9.0).count();
        assert!(count.abs_diff(300) < 73, "{count}");
    }

    #[test]
    fn windows_of_several_fields_are_the_same() {
        let window = RandomWindow { length: 3, fields: vec!["inputs".into(), "target".into()] };
        let mut firsts = std::collections::BTreeSet::new();
        for draw in 0..100 {
            let mut sample =
                Sample::new(Array1::from_iter((0..5).map(|v| v as f32)), arr1(&[0i64, 1, 2, 3, 4]));
            apply(&window, &mut sample, draw);
            let (values, labels) = (sample.float("inputs").unwrap(), sample.int("target").unwrap());
            assert_eq!(values.mapv(|v| v as i64), *labels);
            assert_eq!(labels.len(), 3);
            firsts.insert(labels[[0]]);
        }
        assert_eq!(firsts.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
        let refused =
            |mut sample: Sample| window.apply(&mut sample, &mut keyed(0, "", 0, 0)).unwrap_err().to_string();
        let short = refused(Sample::new(arr1(&[0.0f32, 1.0]), 0));
        assert_eq!(short, "`inputs` has the shape [2], and a window has 3 steps");
        let other = refused(Sample::new(arr1(&[0.0f32; 5]), arr1(&[0i64; 4])));
        assert!(other.starts_with("`target` has 4 steps and `inputs` has 5"), "{other}");
    }
}
