//! The networks of the examples, which the tests train too.
#![allow(dead_code, unreachable_pub)] // each program uses some of them

use candle_core::Device;
use shanty::base::{Error, Result};
use shanty_candle::Place;

pub mod mlp;
pub mod resnet;
pub mod transformer;

/// The device that the environment variable `CANDLE_DEVICE` names, as in the configs of the examples; else the CPU.
pub fn device() -> Result<Device> {
    let place = std::env::var("CANDLE_DEVICE").map_or(Ok(Place::Cpu), |text| text.parse());
    place.map_err(Error::config)?.device()
}
