//! `shanty replay`: a bad step once more.

use std::path::PathBuf;

use clap::Args;

use super::console;
use crate::base::{Error, Result, memory};
use crate::hook::builtin::Replay;
use crate::registry::BuildCx;
use crate::run::RunConfig;

/// Arguments of `replay`.
#[derive(Debug, Clone, Args)]
pub(super) struct ReplayArgs {
    /// The folder that `CheckInvalidLossHook` wrote: `replay_iter_12`.
    bundle: PathBuf,
}

impl ReplayArgs {
    /// 0 if the step goes wrong again as it did in the run, 1 if not.
    pub fn run(self) -> Result<u8> {
        let mut replay = Replay::read(&self.bundle)?;
        if replay.config.is_empty() {
            return Err(Error::invalid(
                "the run had no config to build its model from: read the bundle with `hook::builtin::Replay`",
            ));
        }
        let node = crate::config::parse("the bundle's config", &replay.config)?;
        let config = RunConfig::read(&node)?;
        // Weights and their gradients.
        let (model, _) =
            memory::accounted(false, 2, || config.model.build(&mut BuildCx::new(replay.cx.seed)));
        let mut model = model?;
        let again = replay.step(&mut *model)?;
        console::say(&format!("iteration {}, samples {:?}", replay.iter, replay.batch.ids));
        console::say(&format!("in the run: {}, first {}", replay.found.0, replay.found.1));
        Ok(match again {
            Some(found) => {
                console::say(&format!("now:        {}, first {}", found.0, found.1));
                u8::from(found != replay.found)
            }
            None => {
                console::say("now:        all numbers are finite");
                1
            }
        })
    }
}
