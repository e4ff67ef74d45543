//! What shanty-burn promises. The environment variable `BURN_DEVICE` names the device, among those that were built in.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

#[path = "../../examples/mlp.rs"]
mod mlp;
#[path = "../../examples/resnet.rs"]
mod resnet;
#[path = "../../examples/transformer.rs"]
mod transformer;

mod checkpoints;
#[cfg(unix)]
mod command_line;
mod contract;
mod equal;
mod errors;
mod hooks;
mod model;
mod moves;
mod ranks;
