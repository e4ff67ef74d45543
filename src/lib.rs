//! shanty: a hook-driven training runner.

extern crate self as shanty;

pub mod base;
pub mod config;
pub mod params;
