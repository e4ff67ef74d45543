//! A chain of digests in the log: two runs whose lines agree did the same.

use crate::checkpoint::digest::Digest;
use crate::plugin::prelude::*;

/// Logs every `interval` iterations a digest of weights, optimizer and the samples seen since the last line, chained to
/// all lines before it: runs whose chains are equal at a step were equal up to that step. The config key
/// `digest_interval` adds it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DigestHook {
    /// Iterations between two lines.
    #[schemars(range(min = 1))]
    pub interval: u64,
    #[serde(skip)]
    chain: Chain,
    /// The samples since the last line.
    #[serde(skip)]
    seen: Vec<u64>,
}

/// The digest of the last line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Chain(String);

impl Default for DigestHook {
    fn default() -> Self {
        Self { interval: 100, chain: Chain::default(), seen: Vec::new() }
    }
}

impl DigestHook {
    /// A line every `interval` iterations.
    pub fn every(interval: u64) -> Self {
        Self { interval, ..Self::default() }
    }

    /// The digest of the last line; empty before the first.
    pub fn chain(&self) -> &str {
        &self.chain.0
    }
}

impl Hook for DigestHook {
    /// Last: it sees what all others did.
    fn priority(&self) -> Priority {
        Priority::LOWEST
    }

    fn save_state(&self) -> HookResult<Option<Record>> {
        Record::of(&(&self.chain, &self.seen)).map(Some)
    }

    fn load_state(&mut self, state: Record) -> HookResult {
        (self.chain, self.seen) = state.read()?;
        Ok(())
    }

    fn before_run(&mut self, _cx: &mut Ctx<'_>) -> HookResult {
        (self.chain, self.seen) = Default::default();
        Ok(())
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        self.seen.extend(&step.batch.ids);
        if !cx.progress.every_n_iters(self.interval, 0) {
            return cx.no_op();
        }
        let (mut params, mut optim, mut chain) = (Digest::default(), Digest::default(), Digest::default());
        params.params(&**cx.model)?;
        if let Some(wrapper) = &cx.optim {
            optim.record(&wrapper.save_state(&**cx.model)?);
        }
        let (params, optim) = (params.hex(), optim.hex());
        [&self.chain.0, &params, &optim].iter().for_each(|part| chain.text(part));
        self.seen.iter().for_each(|id| chain.number(*id));
        self.seen.clear();
        self.chain = Chain(chain.hex());
        cx.log.info(format_args!(
            "digest at iteration {}: params {params} optim {optim} chain {}",
            cx.progress.iter, self.chain.0
        ));
        Ok(())
    }
}

register! {
    /// Logs a chained digest of weights, optimizer and samples.
    dyn Hook, "DigestHook" => DigestHook
}
