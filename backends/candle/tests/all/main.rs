//! What shanty-candle promises. The environment variable `CANDLE_DEVICE` (`cuda`, …) moves all of it to a GPU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod agrees;
mod commands;
mod contract;
mod errors;
mod hooks;
mod moves;
mod page;
mod ranks;
mod resume;
mod support;
