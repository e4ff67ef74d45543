//! Numbers to predict that a model learns in another unit than their own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Fitted;
use crate::base::Result;

/// Of each field the mean and the deviation of its numbers over the training part. A model learns them as 0 and 1, and
/// predicts in their own unit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TargetScales(pub BTreeMap<String, Vec<[f64; 2]>>);

/// What they are called among the fits of a run.
const KEY: &str = "target_scales";

impl TargetScales {
    /// Those that the data sets of a run ask for.
    ///
    /// # Errors
    /// When a checkpoint keeps something else under this name.
    pub fn of(fitted: &Fitted) -> Result<Self> {
        Ok(fitted.read(KEY)?.unwrap_or_default())
    }

    /// Asks for them.
    pub fn ask(&self, fitted: &mut Fitted) {
        if !self.0.is_empty() {
            fitted.set(KEY, self);
        }
    }
}
