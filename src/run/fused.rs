//! The weights of a config's model with its batch norms in them.

use super::assemble::{Purpose, assemble};
use crate::base::{Error, Result};
use crate::config::Node;
use crate::nn::FusedWeights;
use crate::params::StateDict;

/// Loads the weights that `load_from` of a resolved config names, and puts the batch norms of the model into the layers
/// before them: see [`fuse_conv_bn`](crate::nn::fuse_conv_bn). A sample of the config's data shows what follows what;
/// where no data are here, one of the shape that the pipeline makes.
///
/// # Errors
/// The mistakes of the config; weights that do not fit; data of which nothing is known.
pub fn fused_weights(node: &Node, name: Option<&str>) -> Result<(StateDict, FusedWeights)> {
    let parts = assemble(node, name, Purpose::Look, None)?;
    let loaders =
        [&parts.builder.test, &parts.builder.val].into_iter().flatten().map(|part| part.data.clone());
    let stand_ins = parts.stand_ins.into_iter().map(|part| part.data);
    let mut data = loaders.chain(parts.builder.train_data.clone()).chain(stand_ins);
    let data = data.next().ok_or_else(|| {
        Error::config("there is nothing to feed the model: give a `test_dataloader` or another one, whose data are here")
    })?;
    let batch = data.preview(0)?.ok_or_else(|| Error::config("the data set has no samples"))?;
    let mut runner = assemble(node, name, Purpose::Predict, None)?.builder.dry().build()?;
    let model = runner.model()?;
    let done = model.fuse_conv_bn(&batch.rows(&[0]))?;
    Ok((StateDict::of(model)?, done))
}
