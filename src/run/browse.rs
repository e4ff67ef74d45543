//! A look at training samples: as the data set has them, and as the network gets them.

use super::assemble::{Assembled, Purpose, assemble};
use crate::base::{Error, Result};
use crate::config::{Diags, Level, Node};
use crate::data::{Colors, Origin, Sample};

/// Some training samples.
#[derive(Debug, Clone, Default)]
pub struct Browsed {
    /// The samples, in their order.
    pub samples: Vec<BrowsedSample>,
    /// Names of the classes, where they are known.
    pub classes: Vec<String>,
    /// How many samples the data set has.
    pub of: usize,
    /// The order of the channels as they are read.
    pub read: Colors,
    /// The order of the channels that come out of the pipeline.
    pub colors: Colors,
}

/// A training sample before and after its pipeline.
#[derive(Debug, Clone)]
pub struct BrowsedSample {
    /// Its position in the data set.
    pub index: usize,
    /// Where it comes from.
    pub origin: Origin,
    /// As it is read; `None` where the set has no pipeline to be left out.
    pub before: Option<Sample>,
    /// As the training gets it in its first passes.
    pub after: Vec<Sample>,
}

/// The samples that stand at equal distances in the training data of a config, as they are read and as they come out of
/// the pipeline in so many passes: with the config's seed those are what a training sees. Nothing is trained or written.
///
/// # Errors
/// The mistakes of the config; no training data on this machine; a sample that cannot be read.
pub fn browse(node: &Node, name: Option<&str>, samples: usize, passes: u64) -> Result<Browsed> {
    let Assembled { mut builder, odd, .. } = assemble(node, name, Purpose::Look, None)?;
    let seed = builder.settle_seed();
    let data = builder.train_data.take().ok_or_else(|| no_data(odd))?;
    let data = data.run_seed(seed);
    let of = data.dataset().len();
    let shown = samples.min(of);
    let sample = |i: usize| {
        let index = (i as u128 * of as u128 / shown.max(1) as u128) as usize;
        let after = (0..passes).map(|pass| data.look(index, pass)).collect::<Result<_>>()?;
        Ok(BrowsedSample { index, origin: data.dataset().origin(index), before: data.raw(index), after })
    };
    let samples = (0..shown).map(sample).collect::<Result<_>>()?;
    let classes = data.classes().unwrap_or_default().to_vec();
    let section = node.get("train_dataloader");
    let (read, colors) = (data.read_order(section), data.channel_order(section));
    Ok(Browsed { samples, classes, of, read, colors })
}

/// Why there are no training data: what is not on this machine, or that a config has none.
fn no_data(odd: Diags) -> Error {
    let mut absent: Vec<_> = odd.0.into_iter().filter(|diag| diag.absent).collect();
    if absent.is_empty() {
        return Error::config("there are no training data to look at: the config has no `train_dataloader`");
    }
    absent.iter_mut().for_each(|diag| diag.level = Level::Error);
    Diags(absent).into()
}
