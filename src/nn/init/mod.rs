//! Initial weights: who sets which tensor, and from what distribution.

mod config;
pub mod draw;
mod entry;
mod fan;
mod idle;
mod kaiming;
mod orthogonal;
mod plain;
mod pretrained;
mod report;
mod walk;
mod xavier;

use std::any::Any;

use ndarray::ArrayViewMutD;

pub use config::{InitCfg, InitConfig, OverrideConfig};
pub use entry::Init;
pub use fan::Fans;
pub use idle::idle;
pub use kaiming::{Caffe2Xavier, FanMode, Kaiming, Nonlinearity};
pub use orthogonal::Orthogonal;
pub use plain::{Constant, FanInUniform, Normal, TruncNormal, Uniform};
pub use pretrained::Pretrained;
pub use walk::init_weights;
pub use xavier::Xavier;

use crate::base::{Elem, Error, Result, Rng};
use crate::params::StateDict;

/// A rule for initial weights.
///
/// Most rules fill the `weight` of one layer after the other. A rule that brings [`Initializer::tensors`] instead
/// sets the tensors of a whole sub-tree by name, after everything below has been initialised.
pub trait Initializer: Any + Send + Sync {
    /// The rule and its arguments, for the report: `NormalInit: mean=0, std=0.01`.
    fn describe(&self) -> String;

    /// Fills one weight. `fans` is `None` if the weight has less than two axes. The generator belongs to this
    /// tensor alone.
    ///
    /// # Errors
    /// If the rule does not fit such a weight.
    fn fill(&self, weight: &mut ArrayViewMutD<'_, Elem>, fans: Option<Fans>, rng: &mut Rng) -> Result<()>;

    /// Whether it brings [`tensors`](Self::tensors).
    fn loads(&self) -> bool {
        false
    }

    /// Tensors for the sub-tree, by their names in it; `None` (the default) for a rule that fills.
    ///
    /// # Errors
    /// If they cannot be read.
    fn tensors(&self) -> Result<Option<StateDict>> {
        Ok(None)
    }
}

/// The fans, or the error of a rule that cannot do without.
///
/// # Errors
/// [`Error::Invalid`] if they are `None`.
pub fn fans_needed(rule: &str, fans: Option<Fans>) -> Result<Fans> {
    fans.ok_or_else(|| {
        Error::invalid(format!(
            "{rule} needs a weight of two or more axes: use Constant or Normal for this layer"
        ))
    })
}
