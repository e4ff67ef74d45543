//! The state tree of a hook, an optimizer or a scheduler: plain data for `state.json`, tensors beside it.

use std::collections::BTreeMap;

use ndarray::ArrayD;
use serde::{Serialize, de::DeserializeOwned};

use super::{BoxError, Elem, codec};

/// State to be kept in a checkpoint. Plain data goes through serde, tensors are kept by name.
///
/// Every `f64` (NaN and infinities too) and every integer of 64 bits comes back as it was, see [`codec`].
///
/// ```
/// use shanty::base::Record;
/// let record = Record::of(&(u64::MAX, Some(f64::INFINITY))).unwrap();
/// assert_eq!(record.read::<(u64, Option<f64>)>().unwrap(), (u64::MAX, Some(f64::INFINITY)));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// Plain data, as [`codec`] writes it.
    pub data: serde_json::Value,
    /// Tensors by name.
    pub tensors: BTreeMap<String, ArrayD<Elem>>,
}

impl Record {
    /// A record of plain data.
    ///
    /// # Errors
    /// As [`codec::to_json`].
    pub fn of(state: &impl Serialize) -> Result<Self, BoxError> {
        Ok(Self { data: codec::to_json(state)?, tensors: BTreeMap::new() })
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
        codec::from_json(&self.data)
    }
}
