//! What burn draws: initial weights, dropout. Its generator is one for the whole process, without an address.

use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;
use rand::Rng;
use shanty::base::keyed;

/// Whose draws it is.
static TURN: Mutex<()> = Mutex::new(());

/// Lets `f` draw from the stream of this address, alone: models in one process that draw take turns.
pub(crate) fn drawing<T>(
    device: &Device,
    seed: u64,
    purpose: &str,
    at: (u64, u64),
    f: impl FnOnce() -> T,
) -> T {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    reseed(device, seed, purpose, at);
    f()
}

/// Another stream for what is drawn next, in the course of [`drawing`].
pub(crate) fn reseed(device: &Device, seed: u64, purpose: &str, (a, b): (u64, u64)) {
    device.seed(keyed(seed, purpose, a, b).next_u64());
}
