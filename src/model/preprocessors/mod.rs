//! From the batch of a loader to the input of a network.

mod cls;
mod img;
mod pixels;

use std::any::Any;

use schemars::{Schema, SchemaGenerator, json_schema};

use ndarray::ArrayD;

pub(super) use cls::onehot;
pub use cls::{ClsDataPreprocessor, ClsDataPreprocessorConfig};
pub use img::{BaseDataPreprocessor, ImgDataPreprocessor, ImgDataPreprocessorConfig};
pub use pixels::PixelOps;

use crate::base::{Elem, Result};
use crate::data::{Batch, Column, TARGET};
use crate::nn::{Forward, Tape, Target, Var};

/// The first step of a model.
pub trait Preprocessor: Any + Send {
    /// The input of the network and, where they are not simply the batch's labels, the targets of the loss.
    ///
    /// # Errors
    /// If the batch does not fit.
    fn prepare<'t>(&self, batch: &Batch, cx: &mut Forward<'_>, tape: &'t Tape) -> Result<Prepared<'t>>;
}

/// The schema of one number or several, all above 0, or none.
fn positives(_: &mut SchemaGenerator) -> Schema {
    let one = json_schema!({ "type": "number", "exclusiveMinimum": 0.0 });
    json_schema!({ "anyOf": [one, { "type": "array", "items": one }, { "type": "null" }] })
}

crate::registry!(dyn Preprocessor, "data_preprocessor", crate::registry::NoExtra, {
    // A config that only says `mean` and `std` means the classifiers' own, as in MMPretrain.
    const DEFAULT: Option<&'static str> = Some("ClsDataPreprocessor");
});

/// What the network and the loss see of a batch.
#[derive(Debug)]
pub struct Prepared<'t> {
    /// N × C × H × W, or N × F.
    pub inputs: Var<'t>,
    /// Probabilities of the classes, N × K; `None`: the batch's labels are the targets.
    pub scores: Option<ArrayD<Elem>>,
}

impl Prepared<'_> {
    /// What the loss compares with.
    ///
    /// # Errors
    /// When the batch has no classes.
    pub fn target<'a>(&'a self, batch: &'a Batch) -> Result<Target<'a>> {
        match &self.scores {
            Some(scores) => Ok(Target::Dense(scores)),
            // A yes or no for each of several labels.
            None => match batch.get(TARGET) {
                Some(Column::Float(labels)) => Ok(Target::Dense(labels)),
                _ => Ok(Target::Classes(batch.labels()?)),
            },
        }
    }
}
