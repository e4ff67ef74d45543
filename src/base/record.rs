//! The state tree of a hook, an optimizer or a scheduler: plain data for `state.json`, tensors beside it.

use std::collections::BTreeMap;

use ndarray::ArrayD;
use serde::{Serialize, de::DeserializeOwned};

use super::{BoxError, Elem};

/// State to be kept in a checkpoint. Plain data goes through serde, tensors are kept by name.
///
/// Numbers must be finite (JSON has no NaN): say "no value yet" with `Option`.
///
/// ```
/// use shanty::base::Record;
/// let record = Record::of(&(3u64, Some(0.25))).unwrap();
/// assert_eq!(record.read::<(u64, Option<f64>)>().unwrap(), (3, Some(0.25)));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// Plain data.
    pub data: serde_json::Value,
    /// Tensors by name.
    pub tensors: BTreeMap<String, ArrayD<Elem>>,
}

impl Record {
    /// A record of plain data.
    ///
    /// # Errors
    /// When `state` cannot be written as JSON (a map with keys that are no strings, …).
    pub fn of(state: &impl Serialize) -> Result<Self, BoxError> {
        Ok(Self { data: serde_json::to_value(state)?, tensors: BTreeMap::new() })
    }

    /// Adds a tensor.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, tensor: ArrayD<Elem>) -> Self {
        self.tensors.insert(name.into(), tensor);
        self
    }

    /// Reads the plain data back.
    ///
    /// # Errors
    /// When the data was written by another version of the type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, BoxError> {
        Ok(T::deserialize(&self.data)?)
    }
}
