//! Tells when the first iteration begins: with `RUST_LOG=shanty=debug`, for whoever measures how long a start takes.

use crate::plugin::prelude::*;

/// Speaks once, before the first batch goes into the model.
pub(super) struct Started;

impl Started {
    /// `None` where nobody listens.
    pub fn if_asked() -> Option<Self> {
        log::log_enabled!(log::Level::Debug).then_some(Self)
    }
}

impl Hook for Started {
    fn priority(&self) -> Priority {
        Priority::LOWEST
    }

    fn before_train_iter(&mut self, cx: &mut Ctx<'_>, _batch: &mut Batch) -> HookResult {
        log::debug!("iteration {} begins", cx.progress.iter + 1);
        cx.unsubscribe()
    }
}
