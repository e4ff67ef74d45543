//! What data sets have learnt from the training data, so that all other data are seen as those were: means, categories,
//! vocabularies, and which fields they had.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::class_counts::{ClassCounts, class_counts};
use super::{Dataset, FieldSpec, Fields};
use crate::base::{Error, Result};
use crate::registry::BuildCx;

/// What fields and classes are called among what is fitted.
const FIELDS: &str = "fields";
const CLASSES: &str = "classes";

/// What is fitted on the training data, by the data set's type. Checkpoints keep it. It is held as text: as a tree, a
/// column of a table takes kilobytes, and a run has several copies.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fitted(BTreeMap<String, Box<RawValue>>);

impl PartialEq for Fitted {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|((a, x), (b, y))| a == b && x.get() == y.get())
    }
}

impl Fitted {
    /// What the data sets behind `dataset` have learnt.
    pub fn of(dataset: &dyn Dataset) -> Self {
        let mut all = Self::default();
        dataset.fitted(&mut all);
        if let Some(fields) = dataset.fields() {
            all.set(FIELDS, &fields);
            all.set(CLASSES, &class_counts(dataset));
        }
        all
    }

    /// The fields that the training data declared.
    pub fn fields(&self) -> Option<Fields<FieldSpec>> {
        self.read(FIELDS).ok().flatten()
    }

    /// The classes of the training data.
    pub(crate) fn class_counts(&self) -> Option<Vec<ClassCounts>> {
        self.read(CLASSES).ok().flatten()
    }

    /// What is known under this name, as it was set.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        serde_json::from_str(value.get())
            .map(Some)
            .map_err(|e| Error::invalid(format!("what a checkpoint keeps of `{key}` cannot be read: {e}")))
    }

    /// Adds what a data set has learnt; what was there first stays.
    pub fn set(&mut self, key: &str, value: &impl Serialize) {
        if let Ok(text) = to_raw_value(value) {
            self.0.entry(key.to_owned()).or_insert(text);
        }
    }

    /// Whether nothing is fitted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes what `dataset` has learnt known to the data sets that are built after it.
    pub fn provide(cx: &mut BuildCx, dataset: &dyn Dataset) {
        let mut all = cx.get::<Self>().cloned().unwrap_or_default();
        dataset.fitted(&mut all);
        cx.provide(all);
    }
}
