//! Mixed precision, held against what the model computes in.

use super::checks::RunParts;
use super::config::EvalConfig;
use crate::base::{Error, Result};
use crate::config::Diag;
use crate::kernels::Precision;
use crate::model::Model;
use crate::optim::OptimWrapper;

/// What stands there instead of an AmpOptimWrapper.
const WRAPPER: &str =
    "say `type: OptimWrapper`, or `dtype: float32`, by which the loss is scaled and that is all";

/// Whether the model computes in the precision of its training.
///
/// # Errors
/// When it does not.
pub(super) fn check(model: &dyn Model, optim: &OptimWrapper) -> Result<()> {
    has(model, optim.precision(), WRAPPER)
}

fn has(model: &dyn Model, precision: Precision, remedy: &str) -> Result<()> {
    let name = match precision {
        _ if model.computes_in(precision) => return Ok(()),
        Precision::Full => "single precision",
        Precision::Bf16 => "bfloat16",
        Precision::F16 => "float16",
    };
    Err(Error::config(format!("`{}` does not compute in {name}: {remedy}", model.name())))
}

/// The keys of a config that ask for a precision which the model does not have.
pub(super) fn of(parts: &RunParts<'_>) -> Vec<Diag> {
    let RunParts { config, node, builder, .. } = parts;
    let Some(model) = &builder.model else { return Vec::new() };
    let trained = builder.optim.as_ref().map_or(Precision::Full, OptimWrapper::precision);
    // Of several optimizers each says it, in the same words.
    let wrapper = if config.optim_wrapper.as_ref().is_some_and(|wrapper| wrapper.optimizer.is_none()) {
        "wrappers"
    } else {
        "type"
    };
    let evaluated = [("val_cfg", &config.val_cfg), ("test_cfg", &config.test_cfg)];
    let evaluated = evaluated
        .map(|(part, given)| (part, "fp16", EvalConfig::precision(given.as_ref()), "leave `fp16` out"));
    let asked = [("optim_wrapper", wrapper, trained, WRAPPER)].into_iter().chain(evaluated);
    let refused = asked.filter_map(|(part, key, precision, remedy)| {
        let error = has(&**model, precision, remedy).err()?;
        let place = node.get(part).unwrap_or(node);
        Some(Diag::error(error.to_string()).on(place.get(key).unwrap_or(place)))
    });
    refused.collect()
}
