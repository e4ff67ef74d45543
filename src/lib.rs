//! shanty: a hook-driven training runner.
extern crate self as shanty;

pub mod base;
pub mod checkpoint;
pub mod data;
pub mod metric;
pub mod nn;
pub mod params;
