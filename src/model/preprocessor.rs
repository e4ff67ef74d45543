//! From the batch of a loader to the input of a network.

use std::any::Any;
use std::borrow::Cow;

use ndarray::{ArrayD, IxDyn};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result, Tensor};
use crate::data::Batch;
use crate::nn::{Forward, Tape, Target, Var};

/// The first step of a model.
pub trait Preprocessor: Any + Send {
    /// The input and, if they are not simply the batch's labels, the targets.
    ///
    /// # Errors
    /// If the batch does not fit.
    fn prepare<'t>(&self, batch: &Batch, cx: &mut Forward<'_>, tape: &'t Tape) -> Result<Prepared<'t>>;
}

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
    pub fn target<'a>(&self, batch: &'a Batch, scores: &'a Option<ndarray::ArrayViewD<'a, Elem>>) -> Target<'a> {
        scores.as_ref().map_or(Target::Classes(&batch.labels), Target::Dense)
    }
}
