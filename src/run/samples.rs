//! Single samples that `check --data` has chosen, tried on the model of a config.

use super::RunnerBuilder;
use super::assemble::{Assembled, Purpose, assemble};
use super::extent::Extent;
use super::stand_in::try_one;
use crate::base::Result;
use crate::config::{Diags, Node};

/// Whether a model takes the samples with the smallest and the largest whole numbers of each loader, by train, val or
/// test: what a run would stumble over when it comes to them.
///
/// # Errors
/// What is wrong with the config.
pub(crate) fn try_samples(node: &Node, chosen: &[(&str, Vec<[usize; 2]>)]) -> Result<Diags> {
    let Assembled { mut builder, weight_bytes, .. } = assemble(node, None, Purpose::Look, None)?;
    let by_shapes = Extent::of(&mut builder, &[], weight_bytes).shapes_only;
    let RunnerBuilder { model, train_data, val, test, written, .. } = builder;
    let mut found = Diags::default();
    let (Some(mut model), Some(written)) = (model, written) else { return Ok(found) };
    let (val, test) = (val.map(|val| val.data), test.map(|test| test.data));
    for (mode, pairs) in chosen {
        let loader =
            [("train", &train_data), ("val", &val), ("test", &test)].into_iter().find(|(of, _)| of == mode);
        let Some(data) = loader.and_then(|(_, data)| data.as_ref()) else { continue };
        for pair in pairs {
            let tried = data.look_at(pair).and_then(|batch| try_one(&mut *model, &batch, None, by_shapes));
            if let Err(error) = tried {
                found.extend(written.failed(mode, error).diags()?.0);
            }
        }
    }
    Ok(found)
}
