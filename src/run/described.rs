//! From a config to the builder that a program may change, alone or among other processes.

use std::sync::Arc;

use super::RunnerBuilder;
use super::assemble::{Assembled, Purpose, assemble_among};
use super::places::{self, Refused};
use crate::base::Result;
use crate::comm::{Comm, Solo};
use crate::config::{Diags, Node};

impl RunnerBuilder {
    /// What a resolved config describes, for a program that changes some of it before it is built, such as its limits.
    ///
    /// # Errors
    /// All mistakes of the config at once, and folders that cannot be made.
    pub fn from_config(node: &Node, name: Option<&str>) -> Result<Self> {
        Self::from_config_among(node, name, Arc::new(Solo::default()))
    }

    /// The same for one of several processes that train together, each of which calls this with the same config.
    ///
    /// # Errors
    /// As [`from_config`](Self::from_config).
    pub fn from_config_among(node: &Node, name: Option<&str>, comm: Arc<dyn Comm>) -> Result<Self> {
        // Whether an earlier run in the way is gone on with or deleted may still be said.
        let (builder, Refused { errors, .. }) = described(node, name, None, comm)?;
        if errors.is_empty() { Ok(builder) } else { Err(Diags(errors).into()) }
    }

    /// The same, to be trained as the config says it: an earlier run in its folders is a mistake of the config too.
    /// `seed`: that of a run that begins, where the config has none.
    #[cfg(any(feature = "cli", test))]
    pub(crate) fn to_train(
        node: &Node,
        name: Option<&str>,
        seed: Option<u64>,
        comm: Arc<dyn Comm>,
    ) -> Result<Self> {
        let (builder, Refused { mut errors, inhabited }) = described(node, name, seed, comm)?;
        errors.extend(inhabited);
        if errors.is_empty() { Ok(builder) } else { Err(Diags(errors).into()) }
    }
}

fn described(
    node: &Node,
    name: Option<&str>,
    seed: Option<u64>,
    comm: Arc<dyn Comm>,
) -> Result<(RunnerBuilder, Refused)> {
    let Assembled { builder, hooks, .. } = assemble_among(node, name, Purpose::Run, seed, comm)?;
    // What a run that goes on meets it tells itself, before it changes anything.
    let refused = places::refused(&builder, node, &hooks, None)?;
    Ok((builder, refused))
}
