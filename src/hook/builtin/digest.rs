//! A chain of digests in the log: two runs whose lines agree did the same.

use crate::checkpoint::digest::{Digest, same_on_all_ranks};
use crate::plugin::prelude::*;

/// Logs every `interval` iterations a digest of weights, optimizer and the samples seen since the last line, chained to
/// all lines before it: runs whose chains are equal at a step were equal up to that step. Of several ranks, each with
/// samples of its own, the weights must be equal at each line. The config key `digest_interval` adds it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DigestHook {
    /// Iterations between two lines.
    #[schemars(range(min = 1))]
    pub interval: u64,
    #[serde(skip)]
    state: State,
}

/// What a checkpoint keeps of this hook.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct State {
    /// The digest of the last line.
    chain: String,
    /// The samples since the last line.
    seen: Vec<u64>,
}

impl Default for DigestHook {
    fn default() -> Self {
        Self { interval: 100, state: State::default() }
    }
}

impl DigestHook {
    /// A line every `interval` iterations.
    pub fn every(interval: u64) -> Self {
        Self { interval, ..Self::default() }
    }

    /// The digest of the last line; empty before the first.
    pub fn chain(&self) -> &str {
        &self.state.chain
    }
}

impl Hook for DigestHook {
    fn check_options(&self, _: &BuildCx) -> Result<()> {
        check_ranges(self)
    }

    /// Last: it sees what all others did.
    fn priority(&self) -> Priority {
        Priority::LOWEST
    }

    fn state(&mut self) -> Option<&mut dyn HookState> {
        Some(&mut self.state)
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        self.state.seen.extend(&step.batch.ids);
        if !cx.progress.every_n_iters(self.interval, 0) {
            return cx.no_op();
        }
        same_on_all_ranks(&**cx.model, cx.comm)?;
        let (mut params, mut optim, mut chain) = (Digest::default(), Digest::default(), Digest::default());
        params.params(&**cx.model)?;
        if let Some(wrapper) = &cx.optim {
            optim.record(&wrapper.save_state(&**cx.model)?);
        }
        let (params, optim) = (params.hex(), optim.hex());
        [&self.state.chain, &params, &optim].iter().for_each(|part| chain.text(part));
        self.state.seen.iter().for_each(|id| chain.number(*id));
        self.state.seen.clear();
        self.state.chain = chain.hex();
        cx.log.info(format_args!(
            "digest at iteration {}: params {params} optim {optim} chain {}",
            cx.progress.iter, self.state.chain
        ));
        Ok(())
    }
}

register! {
    /// Logs a chained digest of weights, optimizer and samples.
    dyn Hook, "DigestHook" => DigestHook
}
