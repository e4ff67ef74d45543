//! The networks of the examples, which the tests train too.
#![allow(dead_code, unreachable_pub)] // each program uses some of them

pub mod mlp;
pub mod resnet;
pub mod transformer;
