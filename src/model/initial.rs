//! What every network of a config says of its weights: how they begin, and which stay as they are.

use crate::base::{Error, Result};
use crate::config::Diag;
use crate::nn::init::{Init, InitCfg, Pretrained, idle};
use crate::nn::{ModuleTree, named_parameters, set_trainable, tie_weights};
use crate::registry::BuildCx;

/// How the weights begin. `pretrained` is short for an `init_cfg` of type Pretrained, and wins over one.
pub(super) fn rules(pretrained: Option<&String>, init_cfg: &InitCfg, cx: &mut BuildCx) -> Result<Vec<Init>> {
    match pretrained {
        Some(checkpoint) => Ok(vec![Init::new(Pretrained::new(checkpoint.clone()))]),
        None => Init::list(init_cfg, cx),
    }
}

/// The same model with these parts not trained and these weights tied; what its `init_cfg`s say in vain is told.
pub(super) fn settled<M: ModuleTree>(
    mut model: M,
    frozen: &[String],
    tied: &[Vec<String>],
    cx: &mut BuildCx,
) -> Result<M> {
    cx.warn(idle(&model));
    for path in frozen {
        if path.is_empty() {
            return Err(Error::config("`frozen` has an empty name: give a module's, such as `backbone`"));
        }
        set_trainable(&mut model, path, false).map_err(|e| Error::config(format!("`frozen`: {e}")))?;
    }
    let params = named_parameters(&model);
    if !params.is_empty() && params.iter().all(|(_, param)| !param.trainable) {
        let how = if frozen.is_empty() { "`frozen_stages`" } else { "`frozen`" };
        cx.warn([Diag::warning(format!("{how} holds every parameter: there is nothing to train"))]);
    }
    for paths in tied {
        tie_weights(&mut model, paths).map_err(|e| Error::config(format!("`tie_weights`: {e}")))?;
    }
    Ok(model)
}
