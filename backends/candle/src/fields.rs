//! A batch on the device.

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, bail};
use shanty::data::{Batch, Column, INPUTS, TARGET};

use crate::device::Transfers;

/// A batch whose fields go up to the device when they are first asked for, once a step.
pub struct Fields<'a> {
    host: &'a Batch,
    device: &'a Device,
    transfers: &'a Transfers,
    there: RefCell<BTreeMap<String, Tensor>>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(host: &'a Batch, device: &'a Device, transfers: &'a Transfers) -> Self {
        Self { host, device, transfers, there: RefCell::default() }
    }

    /// The batch on the host.
    pub fn host(&self) -> &'a Batch {
        self.host
    }

    /// Samples.
    pub fn len(&self) -> usize {
        self.host.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.host.is_empty()
    }

    /// The field `inputs`: f32 of numbers and pictures, i64 of tokens; the first axis is that of the samples.
    ///
    /// # Errors
    /// When the batch has none, or it is no tensor.
    pub fn inputs(&self) -> Result<Tensor> {
        self.field(INPUTS)
    }

    /// A field by its name.
    ///
    /// # Errors
    /// When the batch has none, or it is no tensor.
    pub fn field(&self, name: &str) -> Result<Tensor> {
        if let Some(there) = self.there.borrow().get(name) {
            return Ok(there.clone());
        }
        let there = match self.host.get(name) {
            Some(Column::Float(values)) => {
                Tensor::from_vec(values.iter().copied().collect(), values.shape(), self.device)?
            }
            Some(Column::Int(values)) => {
                Tensor::from_vec(values.iter().copied().collect(), values.shape(), self.device)?
            }
            Some(other) => bail!("`{name}` of the batch is {}: a device takes numbers", other.kind()),
            None => {
                let names: Vec<_> = self.host.fields.iter().map(|(name, _)| name).collect();
                bail!("the batch has no `{name}`; there are {}", names.join(", "))
            }
        };
        self.transfers.batch();
        self.there.borrow_mut().insert(name.to_owned(), there.clone());
        Ok(there)
    }

    /// The classes of the samples, i64 [N]. They are looked at on the host: a class that is not there would read
    /// strange memory on a device.
    ///
    /// # Errors
    /// When there are none, or one is not below `classes`.
    pub fn labels(&self, classes: usize) -> Result<Tensor> {
        let labels = self.host.labels().map_err(candle_core::Error::wrap)?;
        let outside = |label: &&i64| !usize::try_from(**label).is_ok_and(|label| label < classes);
        match labels.iter().find(outside) {
            Some(label) => bail!("a sample is of class {label}, but there are scores of {classes} classes"),
            None => self.field(TARGET),
        }
    }

    /// Whether every sample has a class; -1 says that one has none.
    pub fn has_labels(&self) -> bool {
        self.host.labels().is_ok_and(|labels| labels.iter().all(|label| *label >= 0))
    }
}
