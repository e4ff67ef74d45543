//! How many samples each class has: told before a training, and what `class_weight: balanced` goes by.

use std::fmt;

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use super::{Dataset, FieldKind, TARGET, Value};
use crate::base::escape::escaped;
use crate::base::{Error, Result};

/// How many samples are counted: a repeated set may have any number.
const MOST: usize = 1 << 22;

/// How many classes are told one by one, and how many there may be without names.
const SHOWN: usize = 20;
const UNNAMED: usize = 1000;

/// The classes in one field of a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClassCounts {
    pub field: String,
    /// The names of the classes in the order of their numbers: the numbers where they have no names.
    pub names: Vec<String>,
    /// How many samples each has; `None` where the data set does not tell before it reads them.
    pub counts: Option<Vec<usize>>,
}

/// The classes of each field that has some. No sample is read.
pub(crate) fn class_counts(set: &dyn Dataset) -> Vec<ClassCounts> {
    let fields = set.fields().unwrap_or_default();
    let classes =
        fields.iter().filter(|(_, spec)| spec.kind == FieldKind::Int && spec.shape == Some(Vec::new()));
    let counted = classes.filter_map(|(field, spec)| {
        let known = set.classes().filter(|_| field == TARGET).map(<[_]>::to_vec);
        let mut names = Some(spec.names.clone()).filter(|names| !names.is_empty()).or(known);
        let counts = counts(set, field, names.as_ref().map(Vec::len));
        if field == TARGET {
            let numbers = |counts: &Vec<usize>| (0..counts.len()).map(|class| class.to_string()).collect();
            names = names.or_else(|| counts.as_ref().map(numbers));
        }
        Some(ClassCounts { field: field.to_owned(), names: names?, counts })
    });
    counted.collect()
}

/// The smallest and the largest class in `target`, each with the first sample that has it, where the data set tells them
/// before it reads its samples. Samples that are left out do not count.
pub(crate) fn label_range(set: &dyn Dataset, without: &[u64]) -> Option<[(i64, usize); 2]> {
    let mut range: Option<[(i64, usize); 2]> = None;
    for index in (0..set.len().min(MOST)).filter(|index| !without.contains(&(*index as u64))) {
        let Some(Value::Int(class)) = set.peek(index, TARGET) else { return None };
        let own = (*class.first().filter(|_| class.ndim() == 0)?, index);
        let [low, high] = range.get_or_insert([own; 2]);
        if own.0 < low.0 {
            *low = own;
        }
        if own.0 > high.0 {
            *high = own;
        }
    }
    range
}

/// The classes of one sample: one, or of several labels those that hold; none, of a label that is to be ignored.
///
/// # Errors
/// When the data set does not tell before it reads the sample, or its targets are numbers that are no classes.
pub(crate) fn categories(set: &dyn Dataset, index: usize) -> Result<Vec<usize>> {
    match set.peek(index, TARGET) {
        Some(Value::Int(class)) if class.ndim() == 0 => {
            Ok(class.iter().filter_map(|class| usize::try_from(*class).ok()).collect())
        }
        Some(Value::Int(labels)) if labels.ndim() == 1 => {
            Ok(labels.iter().enumerate().filter(|(_, label)| **label > 0).map(|(class, _)| class).collect())
        }
        Some(Value::Float(labels)) if labels.ndim() == 1 && labels.len() > 1 && are_labels(&labels) => {
            Ok(labels.iter().enumerate().filter(|(_, label)| **label > 0.0).map(|(class, _)| class).collect())
        }
        Some(Value::Float(_)) => Err(no_classes()),
        Some(_) => Err(Error::invalid(format!(
            "the data set does not tell the classes of its samples: `{TARGET}` of sample {index} is neither a class nor \
             a label for each class. Draw by `DefaultSampler`"
        ))),
        None if are_numbers(set) => Err(no_classes()),
        None => Err(Error::invalid(format!(
            "the data set does not tell the classes of its samples before it reads them (`{TARGET}` of sample {index}): \
             draw by `DefaultSampler`, or by `WeightedRandomSampler` with a list of a number for each sample"
        ))),
    }
}

/// Whether these are 1 and 0 for each class. A label that nobody gave is -1, or no number.
fn are_labels(values: &ArrayD<f32>) -> bool {
    values.iter().all(|label| [-1.0, 0.0, 1.0].contains(label) || label.is_nan())
}

fn are_numbers(set: &dyn Dataset) -> bool {
    set.fields().is_some_and(|fields| fields.get(TARGET).is_some_and(|spec| spec.kind == FieldKind::Float))
}

fn no_classes() -> Error {
    Error::invalid(format!(
        "the data set does not tell the classes of its samples: `{TARGET}` holds numbers (floats), and those are no \
         classes. Draw by `DefaultSampler`, or make classes of them: whole numbers, or a column of text"
    ))
}

/// How often each class comes; what is no class, as a label that is to be ignored, does not count.
fn counts(set: &dyn Dataset, field: &str, classes: Option<usize>) -> Option<Vec<usize>> {
    let mut counts = vec![0; classes.unwrap_or(0)];
    for index in 0..set.len().min(MOST) {
        let Some(Value::Int(class)) = set.peek(index, field) else { return None };
        let Ok(class) = usize::try_from(*class.first()?) else { continue };
        if class >= counts.len() {
            if classes.is_some() || class >= UNNAMED {
                return None;
            }
            counts.resize(class + 1, 0);
        }
        counts[class] += 1;
    }
    Some(counts)
}

/// `fail 20, ok 352`; of many classes the first, and how large the smallest and the largest are.
impl fmt::Display for ClassCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(counts) = &self.counts else { return f.write_str(&super::classes::shown(&self.names)) };
        let told = self
            .names
            .iter()
            .zip(counts)
            .take(SHOWN)
            .map(|(name, count)| format!("{} {count}", escaped(name)));
        f.write_str(&told.collect::<Vec<_>>().join(", "))?;
        match (counts.iter().min(), counts.iter().max()) {
            (Some(least), Some(most)) if counts.len() > SHOWN => {
                write!(f, ", … ({} classes of {least} to {most} samples)", counts.len())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ArrayDataset, RepeatDataset, Subset};
    use ndarray::{arr1, arr2};

    fn told(set: &dyn Dataset) -> Vec<String> {
        class_counts(set).iter().map(|classes| format!("{}: {classes}", classes.field)).collect()
    }

    /// Several labels are ones and zeros; whatever else is a float is a number to be predicted.
    #[test]
    fn numbers_are_no_classes() {
        let of = |set: ArrayDataset| categories(&set, 1).map_err(|e| e.to_string());
        let labels = ArrayDataset::new("target", arr2(&[[1.0f32, 0.0, 0.0], [1.0, 0.0, 1.0]])).unwrap();
        assert_eq!(of(labels), Ok(vec![0, 2]));
        for numbers in [
            ArrayDataset::new("target", arr1(&[0.5f32, 2.5])),
            ArrayDataset::new("target", arr2(&[[0.0f32], [1.0]])),
            ArrayDataset::new("target", arr2(&[[1.0f32, 0.0], [1.0, 2.5]])),
        ] {
            let text = of(numbers.unwrap()).unwrap_err();
            assert!(text.contains("those are no classes. Draw by `DefaultSampler`"), "{text}");
        }
    }

    /// The counts are those of the set that is trained on, whatever it is made from.
    #[test]
    fn classes_are_counted_through_sets_of_sets() {
        let inputs = arr2(&[[0.0f32]; 5]);
        let set = || {
            let set = ArrayDataset::new("inputs", inputs.clone()).unwrap();
            set.with("target", arr1(&[2i64, 0, 2, 2, -100])).unwrap().with("age", arr1(&[7i64; 5])).unwrap()
        };
        assert_eq!(told(&set()), ["target: 0 1, 1 0, 2 3"]);
        assert_eq!(told(&set().with_classes(&["a", "b", "c", "d"])), ["target: a 1, b 0, c 3, d 0"]);
        let twice =
            RepeatDataset::new(Box::new(Subset::new(Box::new(set()), vec![1, 3, 3]).unwrap()), 2).unwrap();
        assert_eq!(told(&twice), ["target: 0 2, 1 0, 2 4"]);
        let many =
            ArrayDataset::new("target", (0..30i64).chain(5..30).collect::<ndarray::Array1<_>>()).unwrap();
        assert!(
            told(&many)[0].ends_with("18 2, 19 2, … (30 classes of 1 to 2 samples)"),
            "{:?}",
            told(&many)
        );
    }
}
